internal import CKernels
import Foundation

extension AttentionPass {
    /// With P the probabilities and D = rowsum(dO * O): dV = P^T dO, dS = P (dO V^T - D) scale, dQ = dS K, dK = dS^T Q
    /// (arXiv:2205.14135, appendix B). One task owns a key head of a segment, and with it the sums dK and dV. A sink's
    /// value is zero, so that its score's gradient is -P D, summed over the queries.
    ///
    /// A long segment's queries are dealt out to several tasks, whose sums are then added in order.
    func backward(_ spans: [Span], _ d: Tensor, _ dq: Tensor, _ dk: Tensor, _ dv: Tensor, _ executor: Executor) {
        var tasks: [(span: Span, head: Int, part: Int, parts: Int, sums: Tensor?)] = []
        var shared: [(span: Span, head: Int, parts: Int, sums: Tensor)] = []
        for span in spans.filter({ $0.queries > 0 }).sorted(by: { $0.keys > $1.keys }) {
            let parts = parts(span, of: spans.count, executor.pool.width)
            for head in 0..<shape.keyValueHeads {
                let sums = parts == 1 ? nil : Tensor([parts * span.keys, headDim + valueDim])
                tasks += (0..<parts).map { (span, head, $0, parts, sums) }
                if let sums { shared.append((span, head, parts, sums)) }
            }
        }
        executor.loop(tasks.count, .attentionBackward) { i, worker in
            let task = tasks[i]
            let (dKeys, dValues) = backward(task.span, task.head, (task.part, task.parts), d, dq, worker)
            guard let sums = task.sums else {
                storeKeys(dKeys.pointer, headDim, into: dk, task.span, task.head)
                return storeKeys(dValues.pointer, valueDim, into: dv, task.span, task.head)
            }
            let keyBytes = task.span.keys * headDim * 4, valueBytes = task.span.keys * valueDim * 4
            let target = sums.raw + task.part * (keyBytes + valueBytes)
            target.copyMemory(from: dKeys.pointer, byteCount: keyBytes)
            (target + keyBytes).copyMemory(from: dValues.pointer, byteCount: valueBytes)
        }
        if let gradient = sinks?.gradient {
            executor.loop(shape.heads, .attentionBackward) { head, worker in
                addSinkGradient(gradient, head, d, worker)
            }
        }
        if shared.isEmpty { return }
        executor.loop(shared.count, .attentionBackward) { i, _ in
            let (span, head, parts, sums) = shared[i], count = span.keys * (headDim + valueDim)
            for part in 1..<parts {
                kernels(.f32).pointee.accumulate_f32(sums.f32, sums.f32 + part * count, count)
            }
            storeKeys(sums.raw, headDim, into: dk, span, head)
            storeKeys(sums.raw + span.keys * headDim * 4, valueDim, into: dv, span, head)
        }
    }

    private func addSinkGradient(_ gradient: Tensor, _ head: Int, _ d: Tensor, _ worker: WorkerPool.Worker) {
        let delta = worker.floats(13, count: max(1, d.rows)), column = head * valueDim * dtype.size
        loops.pointee.row_dots(
            delta, d.raw + column, d.width, output.raw + column, output.width, d.rows, valueDim)
        let sink = sinks!.value.f32[head]
        var sum = 0.0
        for t in 0..<d.rows { sum += Double(exp(sink - logSums!.f32[t * shape.heads + head]) * delta[t]) }
        gradient.f32[head] -= Float(sum)
    }

    /// Into how many tasks a key head of a segment is cut, of so many segments: two a processor in all, if its tiles
    /// are as many, and more where it is long.
    private func parts(_ span: Span, of spans: Int, _ width: Int) -> Int {
        let wanted = min(2 * width / (spans * shape.keyValueHeads), span.queries / tileQueries(span))
        return min(8, max(1, span.queries / 1024, wanted))
    }

    /// dq of the queries of one part of so many, and its share of the keys' and values' gradients,
    /// `[padded keys, headDim]` and `[padded keys, valueDim]`.
    private func backward(
        _ span: Span, _ head: Int, _ part: (index: Int, count: Int), _ d: Tensor, _ dq: Tensor,
        _ worker: WorkerPool.Worker
    ) -> (Matrix, Matrix) {
        let tile = tileQueries(span), rows = tile * group, allKeys = Self.padded(span.keys)
        let keys = loadKeys(k, headDim, span, head, 0, span.keys, worker, slot: 1)
        let values = loadKeys(v, valueDim, span, head, 0, span.keys, worker, slot: 2)
        let dKeys = zeros(8, allKeys, headDim, worker), dValues = zeros(9, allKeys, valueDim, worker)
        for start in stride(from: part.index * tile, to: span.queries, by: part.count * tile) {
            let queries = loadQueries(q, headDim, span, head, start, tile, worker, slot: 3)
            let dOutput = loadQueries(d, valueDim, span, head, start, tile, worker, slot: 7)
            let (sums, delta) = loadRowSums(d, span, head, start, tile, worker)
            let dQueries = Matrix(worker.floats(12, count: rows * headDim), rows: rows, columns: headDim, .f32)
            for (index, block) in keyBlocks(span, tileStart: start, tileQueries: tile).enumerated() {
                let (first, columns) = (block.lowerBound, block.count)
                let (seenKeys, seenValues) = (keys.rows(first, columns), values.rows(first, columns))
                let scores = Matrix(worker.floats(4, count: rows * columns), rows: rows, columns: columns, .f32)
                let dScores = Matrix(worker.floats(5, count: rows * columns), rows: rows, columns: columns, .f32)
                worker.multiply(queries, seenKeys.transposed, into: scores)
                cap(scores)
                worker.multiply(dOutput, seenValues.transposed, into: dScores)
                let bytes = rows * columns * dtype.size
                let p = Matrix(worker.scratch(10, byteCount: bytes), rows: rows, columns: columns, dtype)
                let ds = Matrix(worker.scratch(11, byteCount: bytes), rows: rows, columns: columns, dtype)
                loops.pointee.attention_softmax_backward(
                    p.pointer, ds.pointer, scores.pointer.assumingMemoryBound(to: Float.self),
                    dScores.pointer.assumingMemoryBound(to: Float.self), sums, delta, shape.softmaxScale, rows, columns,
                    tile, start, first, span.keys, shape.window ?? Int.max / 2)
                if let softCap = shape.softCap {
                    loops.pointee.soft_cap_backward(
                        ds.pointer, scores.pointer.assumingMemoryBound(to: Float.self), shape.scale, softCap,
                        rows * columns)
                }
                worker.multiply(p.transposed, dOutput, into: dValues.rows(first, columns), accumulate: true)
                worker.multiply(ds.transposed, queries, into: dKeys.rows(first, columns), accumulate: true)
                worker.multiply(ds, seenKeys, into: dQueries, accumulate: index > 0)
            }
            storeQueries(dQueries, headDim, into: dq, span, head, start, tile)
        }
        return (dKeys, dValues)
    }
}
