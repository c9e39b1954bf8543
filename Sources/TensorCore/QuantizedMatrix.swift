internal import CKernels

/// A frozen matrix in fewer bits a number than operations compute with. It is decoded piece by piece where it is
/// multiplied, and never as a whole beyond one run of operations.
public final class QuantizedMatrix {
    public let rows: Int
    public let columns: Int
    /// What it takes in memory.
    public let byteCount: Int
    /// Writes the numbers of a range of rows, row after row.
    private let decodeRows: (Range<Int>, UnsafeMutablePointer<Float>) -> Void

    /// - Parameter decodeRows: called from any thread; it keeps the memory that it reads.
    public init(
        rows: Int, columns: Int, byteCount: Int,
        decodeRows: @escaping (_ rows: Range<Int>, _ numbers: UnsafeMutablePointer<Float>) -> Void
    ) {
        self.rows = rows
        self.columns = columns
        self.byteCount = byteCount
        self.decodeRows = decodeRows
    }

    /// Matrices of one size below each other.
    public convenience init(stacking parts: [QuantizedMatrix]) {
        let (height, columns) = (parts[0].rows, parts[0].columns)
        precondition(parts.allSatisfy { $0.rows == height && $0.columns == columns })
        self.init(
            rows: parts.count * height, columns: columns, byteCount: parts.reduce(0) { $0 + $1.byteCount }
        ) { rows, numbers in
            var row = rows.lowerBound
            while row < rows.upperBound {
                let (part, first) = row.quotientAndRemainder(dividingBy: height)
                let last = min(height, first + rows.upperBound - row)
                parts[part].decodeRows(first..<last, numbers + (row - rows.lowerBound) * columns)
                row += last - first
            }
        }
    }

    /// Writes `count` rows from `first` in `dtype`.
    func decode(
        _ first: Int, _ count: Int, into target: UnsafeMutableRawPointer, _ dtype: DType, _ worker: WorkerPool.Worker
    ) {
        guard dtype != .f32 else {
            return decodeRows(first..<first + count, target.assumingMemoryBound(to: Float.self))
        }
        // A few rows at a time, so that their f32 stays in the nearest cache.
        let step = max(1, 4096 / columns), numbers = worker.floats(Self.slot, count: step * columns)
        for row in stride(from: 0, to: count, by: step) {
            let some = min(step, count - row)
            decodeRows(first + row..<first + row + some, numbers)
            kernels(dtype).pointee.from_f32(target + row * columns * dtype.size, numbers, some * columns)
        }
    }

    /// Writes `count` rows from `first` in f32.
    func decode(_ first: Int, _ count: Int, into target: UnsafeMutablePointer<Float>) {
        decodeRows(first..<first + count, target)
    }

    /// The worker's scratch memory that decoding uses; no operation that decodes uses it for something else.
    private static let slot = 15
    fileprivate static let rowSlot = 14

    /// All numbers, f32 `[rows, columns]`.
    public func decoded(pool: WorkerPool) -> Tensor {
        let result = Tensor([rows, columns])
        pool.parallelFor((rows + 63) / 64) { item, worker in
            let first = item * 64
            decode(first, min(64, rows - first), into: result.row(first), .f32, worker)
        }
        return result
    }
}

extension Weight {
    /// The stored value in f32, decoded where it is quantised; a copy.
    public var floats: Tensor {
        guard let quantized else { return stored.converted(to: .f32) }
        let result = Tensor(shape)
        quantized.decode(0, quantized.rows, into: result.f32)
        guard isTurned else { return result }
        let turned = Tensor(shape), (height, width) = (shape[1], shape[2])
        for matrix in 0..<shape[0] {
            let (from, to) = (result.f32 + matrix * height * width, turned.f32 + matrix * height * width)
            for row in 0..<height { for i in 0..<width { to[row * width + i] = from[i * height + row] } }
        }
        return turned
    }

    /// Writes `count` rows from `first` in f32.
    func writeFloats(_ first: Int, _ count: Int, into target: UnsafeMutablePointer<Float>) {
        guard let quantized else {
            return kernels(value.dtype).pointee.to_f32(target, value.row(first), count * value.width)
        }
        quantized.decode(first, count, into: target)
    }

    /// `count` rows from `first`: where they lie, or decoded into the worker's memory, valid until the next call.
    func rows(_ first: Int, _ count: Int, _ worker: WorkerPool.Worker) -> Matrix {
        guard let quantized else { return Matrix(value).rows(first, count) }
        let (width, dtype) = (quantized.columns, value.dtype)
        let memory = worker.scratch(QuantizedMatrix.rowSlot, byteCount: count * width * dtype.size)
        quantized.decode(first, count, into: memory, dtype, worker)
        return Matrix(memory, rows: count, columns: width, dtype)
    }

    /// The matrix for row loops that are queued next: the value itself, or a copy that is decoded before they run.
    func dense(_ executor: Executor) -> Tensor {
        guard let quantized else { return value }
        let result = Tensor(shape, value.dtype)
        let items = stride(from: 0, to: quantized.rows, by: 64).map { first in
            { (worker: WorkerPool.Worker) in
                let count = min(64, quantized.rows - first)
                quantized.decode(first, count, into: result.row(first), result.dtype, worker)
                worker.count(bytes: count * result.width * result.dtype.size)
            }
        }
        executor.itemsBeforeRows(items, .decoding)
        return result
    }
}
