internal import CKernels
import Synchronization

/// Frozen weights as signed bytes: blocks of 32 along a row, with one f16 step each (ggml's q8_0), 8.5 bits a number.
public enum EightBit {
    /// The width of a matrix is a multiple of this.
    public static let block = 32
    private static let blockBytes = 34
    /// ggml's number of the format.
    private static let type: Int32 = 8

    /// Quantises a matrix whose rows `source` gives.
    ///
    /// - Parameter source: writes f32 rows; called with ranges in any order from any of the pool's threads
    /// - Returns: nil when a number is not finite, or too large for an f16 step.
    public static func quantize(
        rows: Int, columns: Int, pool: WorkerPool, source: (Range<Int>, UnsafeMutablePointer<Float>) -> Void
    ) -> QuantizedMatrix? {
        precondition(columns % block == 0)
        let rowSize = columns / block * blockBytes, step = 16, refused = Atomic<Bool>(false)
        var bytes = [UInt8](repeating: 0, count: rows * rowSize)
        bytes.withUnsafeMutableBufferPointer { bytes in
            let bytes = bytes.baseAddress!
            pool.parallelFor((rows + step - 1) / step) { item, worker in
                let first = item * step, count = min(rows, first + step) - first
                let numbers = worker.floats(1, count: count * columns)
                source(first..<first + count, numbers)
                let isFinite = (0..<count * columns).allSatisfy { numbers[$0].isFinite }
                let done =
                    isFinite
                    ? graft_codecs().pointee.encode(type, bytes + first * rowSize, numbers, nil, count, columns) : 0
                if done != 1 { refused.store(true, ordering: .relaxed) }
            }
        }
        guard !refused.load(ordering: .relaxed) else { return nil }
        return QuantizedMatrix(rows: rows, columns: columns, byteCount: bytes.count) { range, numbers in
            bytes.withUnsafeBufferPointer {
                _ = graft_codecs().pointee.decode(
                    type, numbers, $0.baseAddress! + range.lowerBound * rowSize, range.count * columns)
            }
        }
    }
}
