internal import CKernels

/// Sums of the squares of what matrices are multiplied with, column by column: how much each column of a matrix
/// matters. A tape that has one gathers them as `linear` runs.
public final class InputSquares {
    /// One matrix, or a stack of experts' matrices.
    public struct Sums: Sendable {
        /// `[matrices, width]`
        public var sums: [Double]
        /// The rows that were added up for each matrix.
        public var rows: [Int]
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
            add(part, rows: x.rows, to: name, matrix: 0, of: 1)
        }
    }

    private func add(_ part: [Float], rows: Int, to name: String, matrix: Int, of count: Int) {
        let width = part.count
        let none = Sums(
            sums: [Double](repeating: 0, count: count * width), rows: [Int](repeating: 0, count: count))
        for i in part.indices { byWeight[name, default: none].sums[matrix * width + i] += Double(part[i]) }
        byWeight[name, default: none].rows[matrix] += rows
    }

    /// Adds what `rows` rows of an expert's layer were multiplied with: `part`, their sums of squares `[width]`.
    func add(_ part: [Float], rows: Int, _ projection: ExpertProjection, expert: Int, of count: Int) {
        switch projection.storage {
        case .separate(let weights): add(part, rows: rows, to: weights[expert].name, matrix: 0, of: 1)
        case .stacked(let weight, _): add(part, rows: rows, to: weight.name, matrix: expert, of: count)
        }
    }
}
