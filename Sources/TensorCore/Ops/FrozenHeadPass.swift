internal import CKernels
import Foundation

/// Loss and gradient of a head that does not learn, in one pass over blocks of the vocabulary.
///
/// With p the softmax, dx = sum_v p_v W_v - W_target: attention in which the head's rows are keys and values, so that
/// the blocks' sums can be brought to a common maximum as they come (arXiv:2205.14135) and no row of logits is ever
/// kept, not even for one tile.
struct FrozenHeadPass {
    let x: Tensor
    let head: Projection
    let targets: [Int32]
    let shape: LogitShape
    let losses: Tensor
    let dx: Tensor?

    /// Columns of a block: a tile's scores and exponentials stay in cache.
    private static let block = 512

    func run(_ first: Int, _ rows: Int, _ worker: WorkerPool.Worker) {
        let vocabulary = head.outputWidth, dtype = x.dtype, width = x.width
        let weight = Matrix(head.weight.value), input = Matrix(x).rows(first, rows)
        let acc = Matrix(worker.floats(1, count: rows * width), rows: rows, columns: width, .f32)
        let state = worker.floats(2, count: 4 * rows)
        let (top, sum, scale, target) = (state, state + rows, state + 2 * rows, state + 3 * rows)
        top.update(repeating: -.infinity, count: rows)
        sum.update(repeating: 0, count: rows)
        for start in stride(from: 0, to: vocabulary, by: Self.block) {
            let columns = min(Self.block, vocabulary - start)
            let scores = Matrix(worker.floats(3, count: rows * columns), rows: rows, columns: columns, .f32)
            let values = scores.pointer.assumingMemoryBound(to: Float.self)
            worker.multiply(input, weight.rows(start, columns).transposed, into: scores)
            if let bias = head.bias {
                kernels(.f32).pointee.add_bias(values, columns, bias.value.f32 + start, rows, columns)
            }
            shape.apply(values, rows * columns)
            for r in 0..<rows where start..<start + columns ~= Int(targets[first + r]) {
                target[r] = values[r * columns + Int(targets[first + r]) - start]
            }
            let exponentials = Matrix(
                worker.scratch(4, byteCount: rows * columns * dtype.size), rows: rows, columns: columns, dtype)
            kernels(dtype).pointee.softmax_block(exponentials.pointer, top, sum, scale, values, rows, columns)
            guard dx != nil else { continue }
            shape.applyBackward(exponentials.pointer, dtype, shaped: values, rows * columns)
            if start > 0 { acc.scaleRows(scale) }
            worker.multiply(exponentials, weight.rows(start, columns), into: acc, accumulate: start > 0)
        }
        for r in 0..<rows {
            losses.f32[first + r] = Float(log(Double(sum[r])) + Double(top[r]) - Double(target[r]))
            guard let dx else { continue }
            kernels(dtype).pointee.softmax_gradient(
                dx.row(first + r), acc.pointer.assumingMemoryBound(to: Float.self) + r * width, 1 / sum[r],
                head.weight.value.row(Int(targets[first + r])), shape.slope(target[r]), width)
        }
    }
}
