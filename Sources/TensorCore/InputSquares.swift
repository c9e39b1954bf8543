internal import CKernels

/// Sums of the squares of what matrices are multiplied with, column by column: how much each column of a matrix
/// matters. A tape that has one gathers them as `linear` runs.
public final class InputSquares {
    /// One matrix.
    public struct Sums: Sendable {
        /// `[width]`
        public var sums: [Double]
        /// The rows that were added up.
        public var rows: Int
    }

    /// By the names of the weights.
    public private(set) var byWeight: [String: Sums] = [:]

    public init() {}

    /// Adds the rows of x `[T, K]`, which several matrices share.
    func add(_ x: Tensor, _ names: [String], _ executor: Executor) {
        let width = x.width, block = 64
        var part = [Float](repeating: 0, count: width)
        part.withUnsafeMutableBufferPointer { part in
            let sums = part.baseAddress!
            executor.loop((width + block - 1) / block, .other) { item, _ in
                // The sum over rows of the product of x with itself.
                kernels(x.dtype).pointee.rms_norm_weight_backward(
                    sums, x.raw, x.raw, x.rows, width, item * block, min(width, (item + 1) * block))
            }
        }
        for name in names {
            var total = byWeight[name] ?? Sums(sums: [Double](repeating: 0, count: width), rows: 0)
            for i in part.indices { total.sums[i] += Double(part[i]) }
            total.rows += x.rows
            byWeight[name] = total
        }
    }
}
