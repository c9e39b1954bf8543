internal import CKernels

/// The lengths of the rows of W + scale B A, of an embedding those of its columns, and with them the factors of DoRA
/// (arXiv:2402.09353, equation 5).
final class RowLengths {
    private let base: Weight
    let isOfColumns: Bool
    /// |W + scale B A| of each row, f32 `[out]`; of each column `[in]`.
    let norms: Tensor
    /// magnitude / norms, f32, of the same shape.
    let gains: Tensor

    /// - Parameter base: W, `[out, in]`
    init(base: Weight, ofColumns: Bool = false) {
        self.base = base
        isOfColumns = ofColumns
        norms = Tensor([base.shape[ofColumns ? 1 : 0]])
        gains = Tensor(norms.shape)
    }

    /// Brings both up to date, on the calling thread.
    ///
    /// - Parameters:
    ///   - a: f32 `[r, in]`
    ///   - scaledB: f32 `[out, r]`
    ///   - magnitude: f32, of the norms' shape
    func measure(a: Tensor, scaledB: Tensor, magnitude: Tensor) {
        let width = base.shape[1]
        let block = max(1, (1 << 16) / max(1, width))
        let total = base.shape[0]
        let memory = Tensor([block, width])
        var squares = [Double](repeating: 0, count: isOfColumns ? width : 0)
        for first in stride(from: 0, to: total, by: block) {
            let rows = min(block, total - first)
            base.writeFloats(first, rows, into: memory.f32)
            DenseProduct.run(
                Matrix(scaledB).rows(first, rows), Matrix(a), into: Matrix(memory).rows(0, rows), accumulate: true)
            for row in 0..<rows {
                let values = memory.f32 + row * width
                guard isOfColumns else {
                    norms.f32[first + row] = Float(graft_sum_of_squares(values, width).squareRoot())
                    continue
                }
                for i in 0..<width { squares[i] += Double(values[i]) * Double(values[i]) }
            }
        }
        for i in squares.indices { norms.f32[i] = Float(squares[i].squareRoot()) }
        for i in 0..<norms.count { gains.f32[i] = magnitude.f32[i] / norms.f32[i] }
    }

    /// Multiplies the columns of `count` rows with their gains.
    ///
    /// - Returns: the largest change of a value.
    func scaleColumns(of rows: UnsafeMutablePointer<Float>, _ count: Int) -> Float {
        let width = gains.count
        var largest: Float = 0
        for row in 0..<count {
            for i in 0..<width {
                let value = rows[row * width + i] * gains.f32[i]
                largest = max(largest, abs(value - rows[row * width + i]))
                rows[row * width + i] = value
            }
        }
        return largest
    }

    /// Brings `count` rows of `width` to these lengths.
    ///
    /// - Returns: the largest change of a value.
    static func set(
        _ lengths: UnsafePointer<Float>, _ rows: UnsafeMutablePointer<Float>, _ count: Int, _ width: Int
    ) -> Float {
        var largest: Float = 0
        for row in 0..<count {
            let values = rows + row * width
            let gain = lengths[row] / Float(graft_sum_of_squares(values, width).squareRoot())
            for i in 0..<width {
                let value = values[i] * gain
                largest = max(largest, abs(value - values[i]))
                values[i] = value
            }
        }
        return largest
    }
}
