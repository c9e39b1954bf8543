internal import CKernels

/// A dense row-major array in f32 or bf16 over memory that graft owns or maps.
///
/// A tensor is a reference: operations that are documented to work in place change what every holder sees. Deliberately
/// not `Sendable`; the training loop is synchronous on one thread and only `WorkerPool` runs loops in parallel.
public final class Tensor {
    public let shape: [Int]
    public let dtype: DType
    /// Nil while the content is released.
    private(set) var storage: Storage?
    private let byteOffset: Int
    private var isReleased = false
    private var rebuild: ((Tensor, Executor) -> Void)?
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
        byteOffset = 0
    }

    /// The shape and type of a tensor whose content does not exist.
    init(absent shape: [Int], _ dtype: DType) {
        self.shape = shape
        self.dtype = dtype
        storage = nil
        byteOffset = 0
        isReleased = true
    }

    /// A tensor over memory that `owner` keeps valid and that nobody changes, such as a mapped checkpoint.
    public init(mapped pointer: UnsafeRawPointer, shape: [Int], dtype: DType, owner: AnyObject) {
        self.shape = shape
        self.dtype = dtype
        storage = Storage(mapped: pointer, owner: owner)
        byteOffset = 0
    }

    private init(sharing other: Tensor, shape: [Int], from element: Int = 0) {
        precondition(element + shape.reduce(1, *) <= other.count)
        self.shape = shape
        dtype = other.dtype
        storage = other.storage
        byteOffset = other.byteOffset + element * other.dtype.size
    }

    /// The same memory with another shape of as many elements; the view has no gradient of its own.
    public func view(_ shape: [Int]) -> Tensor {
        precondition(shape.reduce(1, *) == count)
        return Tensor(sharing: self, shape: shape)
    }

    /// `count` rows from `first`, in the same memory.
    func rowView(_ first: Int, _ count: Int) -> Tensor {
        Tensor(sharing: self, shape: [count, width], from: first * width)
    }

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

    // MARK: content that is computed twice rather than kept

    /// Says how the content is computed again after it was released: `body` queues the loops that do.
    func rebuilds(_ body: @escaping (Tensor, Executor) -> Void) { rebuild = body }

    /// Announces that the content is not needed until `restoreContent`; `dropContent` then gives the memory back.
    func releaseContent() { isReleased = true }

    /// Gives the memory back, unless the content was asked for meanwhile.
    func dropContent() {
        if isReleased { storage = nil }
    }

    /// Has the content computed again if it was released.
    func restoreContent(_ executor: Executor) {
        guard isReleased else { return }
        isReleased = false
        guard storage == nil else { return }
        guard let rebuild else { preconditionFailure("the tensor's content is released for good") }
        storage = Storage(byteCount: max(1, count) * dtype.size)
        rebuild(self, executor)
    }

    public func fillZero() { raw.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount) }

    var raw: UnsafeMutableRawPointer {
        guard let storage else { preconditionFailure("the tensor's content is released") }
        return storage.pointer + byteOffset
    }
    /// The elements; only for f32.
    var f32: UnsafeMutablePointer<Float> {
        precondition(dtype == .f32)
        return raw.assumingMemoryBound(to: Float.self)
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

    /// A copy of an f32 matrix with rows and columns exchanged.
    public func transposed() -> Tensor {
        let result = Tensor([width, rows])
        for i in 0..<rows { for j in 0..<width { result.f32[j * rows + i] = f32[i * width + j] } }
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
