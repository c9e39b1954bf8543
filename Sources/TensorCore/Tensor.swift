internal import CKernels

/// A dense row-major array in f32 or bf16 over memory that graft owns or maps.
///
/// A tensor is a reference: operations that are documented to work in place change what every holder sees. Deliberately
/// not `Sendable`; the training loop is synchronous on one thread and only `WorkerPool` runs loops in parallel.
public final class Tensor {
    public let shape: [Int]
    public let dtype: DType
    let storage: Storage
    /// Whether a gradient flows through this tensor.
    public internal(set) var requiresGradient = false
    /// d loss / d self, same shape; set while the tape runs backward. f32 for the residual stream and for parameters,
    /// the tensor's own type for activations.
    public internal(set) var gradient: Tensor?

    public var count: Int { shape.reduce(1, *) }
    public var rows: Int { shape.count == 1 ? 1 : shape[0] }
    /// Elements a row: the product of all dimensions but the first.
    public var width: Int { shape.count == 1 ? shape[0] : shape.dropFirst().reduce(1, *) }
    public var byteCount: Int { count * dtype.size }

    /// An uninitialised tensor.
    public init(_ shape: [Int], _ dtype: DType = .f32) {
        self.shape = shape
        self.dtype = dtype
        storage = Storage(byteCount: max(1, shape.reduce(1, *)) * dtype.size)
    }

    /// A tensor over memory that `owner` keeps valid and that nobody changes, such as a mapped checkpoint.
    public init(mapped pointer: UnsafeRawPointer, shape: [Int], dtype: DType, owner: AnyObject) {
        self.shape = shape
        self.dtype = dtype
        storage = Storage(mapped: pointer, owner: owner)
    }

    private init(sharing other: Tensor, shape: [Int]) {
        precondition(shape.reduce(1, *) == other.count)
        self.shape = shape
        dtype = other.dtype
        storage = other.storage
    }

    /// The same memory with another shape of as many elements; the view has no gradient of its own.
    public func view(_ shape: [Int]) -> Tensor { Tensor(sharing: self, shape: shape) }

    public static func zeros(_ shape: [Int], _ dtype: DType = .f32) -> Tensor {
        let tensor = Tensor(shape, dtype)
        tensor.fillZero()
        return tensor
    }

    public convenience init(_ shape: [Int], values: [Float]) {
        self.init(shape, .f32)
        precondition(values.count == count)
        values.withUnsafeBytes { raw.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    }

    public func fillZero() { raw.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount) }

    var raw: UnsafeMutableRawPointer { storage.pointer }
    /// The elements; only for f32.
    var f32: UnsafeMutablePointer<Float> {
        precondition(dtype == .f32)
        return storage.pointer.assumingMemoryBound(to: Float.self)
    }
    /// The address of row `index`.
    func row(_ index: Int) -> UnsafeMutableRawPointer { raw + index * width * dtype.size }

    /// Calls `body` with the elements; only for f32.
    public func withFloats<R>(_ body: (UnsafeMutableBufferPointer<Float>) throws -> R) rethrows -> R {
        try body(UnsafeMutableBufferPointer(start: f32, count: count))
    }
    public func withBytes<R>(_ body: (UnsafeMutableRawBufferPointer) throws -> R) rethrows -> R {
        try body(UnsafeMutableRawBufferPointer(start: raw, count: byteCount))
    }

    /// A copy whose row `i` is this tensor's row `source(i)`.
    public func rows(_ source: (Int) -> Int) -> Tensor {
        let result = Tensor(shape, dtype)
        for i in 0..<rows { result.row(i).copyMemory(from: row(source(i)), byteCount: width * dtype.size) }
        return result
    }

    /// The elements as f32.
    public func floats() -> [Float] {
        [Float](unsafeUninitializedCapacity: count) { buffer, initialised in
            kernels(dtype).pointee.to_f32(buffer.baseAddress, raw, count)
            initialised = count
        }
    }

    /// A copy in `dtype`, rounded to nearest even.
    public func converted(to dtype: DType) -> Tensor {
        let result = Tensor(shape, dtype)
        switch (self.dtype, dtype) {
        case (.f32, .bf16): kernels(.bf16).pointee.from_f32(result.raw, f32, count)
        case (.bf16, .f32): kernels(.bf16).pointee.to_f32(result.f32, raw, count)
        default: result.raw.copyMemory(from: raw, byteCount: byteCount)
        }
        return result
    }
}
