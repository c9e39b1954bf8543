internal import CKernels
import Foundation

/// What attention needs to know of the heads.
public struct AttentionShape: Sendable {
    /// Query heads; each group of `heads / keyValueHeads` shares a key and value head (arXiv:2305.13245).
    public var heads: Int
    public var keyValueHeads: Int
    /// Elements of a query and of a key.
    public var headDim: Int
    /// Elements of a value; headDim unless the family says otherwise.
    public var valueDim: Int
    /// Multiplies the scores; 1 / sqrt(headDim) unless the family says otherwise.
    public var scale: Float
    /// A query sees the keys of the last `window` positions, itself included; nil sees all.
    public var window: Int?
    /// Scaled scores s become softCap tanh(s / softCap) (arXiv:2408.00118, section 2); nil leaves them.
    public var softCap: Float?

    public init(
        heads: Int, keyValueHeads: Int, headDim: Int, valueDim: Int? = nil, scale: Float? = nil, window: Int? = nil,
        softCap: Float? = nil
    ) {
        precondition(heads % keyValueHeads == 0)
        self.heads = heads
        self.keyValueHeads = keyValueHeads
        self.headDim = headDim
        self.valueDim = valueDim ?? headDim
        self.scale = scale ?? 1 / Float(headDim).squareRoot()
        self.window = window
        self.softCap = softCap
    }
    var group: Int { heads / keyValueHeads }
    /// What remains to multiply the scores with in the softmax: capped ones are scaled already.
    var softmaxScale: Float { softCap == nil ? scale : 1 }
}

/// Queries at rows of one tensor that see keys at rows of another.
private struct Span {
    /// First row and number of the queries.
    var queryRow, queries: Int
    /// First row and number of the keys; key i is at position i.
    var keyRow, keys: Int
    /// The position of the first query among the keys.
    var firstPosition: Int
}

extension Tape {
    /// Causal grouped-query attention inside segments; no `[T, T]` matrix, cost proportional to the segments.
    ///
    /// - Parameters:
    ///   - q: `[T, heads * headDim]`; k: `[T, keyValueHeads * headDim]`, rotated already
    ///   - v: `[T, keyValueHeads * valueDim]`
    ///   - segmentStarts: the first row of each segment, then T
    ///   - sinks: `[heads]`, f32: a score that every query of the head sees, with a value of zero (arXiv:2309.17453)
    /// - Returns: `[T, heads * valueDim]`
    public func attention(
        q: Tensor, k: Tensor, v: Tensor, segmentStarts: [Int], shape: AttentionShape, sinks: Weight? = nil
    ) -> Tensor {
        precondition(q.width == shape.heads * shape.headDim && k.width == shape.keyValueHeads * shape.headDim)
        precondition(v.width == shape.keyValueHeads * shape.valueDim && v.rows == q.rows)
        precondition(segmentStarts.first == 0 && segmentStarts.last == q.rows && k.rows == q.rows)
        let spans = zip(segmentStarts, segmentStarts.dropFirst()).map {
            Span(queryRow: $0, queries: $1 - $0, keyRow: $0, keys: $1 - $0, firstPosition: 0)
        }
        let result = Tensor([q.rows, shape.heads * shape.valueDim], q.dtype)
        let learns = isRecording
            && (q.requiresGradient || k.requiresGradient || v.requiresGradient || sinks?.isTrainable == true)
        let logSums = learns ? Tensor([max(1, q.rows), shape.heads]) : nil
        let pass = AttentionPass(shape: shape, q: q, k: k, v: v, sinks: sinks, output: result, logSums: logSums)
        pass.forward(spans, executor)
        guard learns else { return result }
        record([result]) { [executor] in
            guard let d = result.takeGradient() else { return }
            let (dq, dk, dv) = (Tensor(q.shape, q.dtype), Tensor(k.shape, k.dtype), Tensor(v.shape, v.dtype))
            pass.backward(spans, d, dq, dk, dv, executor)
            if q.requiresGradient { q.addGradient(dq, executor) }
            if k.requiresGradient { k.addGradient(dk, executor) }
            if v.requiresGradient { v.addGradient(dv, executor) }
        }
        return result
    }

    /// Attention of new tokens over a cache, for generation; no gradient.
    ///
    /// - Parameters:
    ///   - q: `[n, heads * headDim]`, the last n of `length` positions
    ///   - keys, values: `[capacity, keyValueHeads * headDim]` and `[.., valueDim]`, filled up to `length`
    public func cachedAttention(
        q: Tensor, keys: Tensor, values: Tensor, length: Int, shape: AttentionShape, sinks: Weight? = nil
    ) -> Tensor {
        precondition(length <= keys.rows && q.rows <= length)
        let result = Tensor([q.rows, shape.heads * shape.valueDim], q.dtype)
        let span = Span(
            queryRow: 0, queries: q.rows, keyRow: 0, keys: length, firstPosition: length - q.rows)
        AttentionPass(shape: shape, q: q, k: keys, v: values, sinks: sinks, output: result, logSums: nil)
            .forward([span], executor)
        return result
    }

    /// Copies rows into a cache from row `position` on.
    public func store(_ rows: Tensor, into cache: Tensor, at position: Int) {
        precondition(position + rows.rows <= cache.rows && rows.width == cache.width && rows.dtype == cache.dtype)
        let rowBytes = rows.width * rows.dtype.size
        executor.rows(rows.rows, .attention, bytesPerRow: 2 * rowBytes) { first, count, _ in
            cache.row(position + first).copyMemory(from: rows.row(first), byteCount: count * rowBytes)
        }
    }
}

/// One pass over all spans, in tasks of (span, key head, run of query tiles).
///
/// A tile holds the same run of queries for every head of the group, so that its products with the shared keys are
/// large. Keys and queries are copied to padded scratch memory: products then have few distinct shapes.
private struct AttentionPass {
    let shape: AttentionShape
    let q, k, v: Tensor
    let sinks: Weight?
    let output: Tensor
    /// `[T, heads]`: log of the sum of exponentials of each query's scaled scores (arXiv:2205.14135).
    let logSums: Tensor?

    private var dtype: DType { q.dtype }
    private var headDim: Int { shape.headDim }
    private var valueDim: Int { shape.valueDim }
    private var group: Int { shape.group }
    private var loops: UnsafePointer<graft_kernel_table> { kernels(dtype) }

    /// Queries of one head in a tile: products of about 256 rows, and little waste on short segments.
    private func tileQueries(_ span: Span) -> Int {
        let wanted = max(16, 256 / group / 16 * 16)
        return min(wanted, 64, (span.queries + 15) / 16 * 16)
    }

    private static func padded(_ count: Int) -> Int { (count + 63) / 64 * 64 }

    /// The columns of keys that a tile sees, in multiples of 64: first and count.
    private func keyRange(_ span: Span, tileStart: Int, tileQueries: Int) -> (Int, Int) {
        let lastPosition = min(span.firstPosition + tileStart + tileQueries, span.keys)
        let firstSeen = shape.window.map { max(0, span.firstPosition + tileStart - $0 + 1) } ?? 0
        let first = firstSeen / 64 * 64
        return (first, Self.padded(lastPosition) - first)
    }

    // MARK: forward

    func forward(_ spans: [Span], _ executor: Executor) {
        var tasks: [(span: Span, head: Int, first: Int, count: Int)] = []
        for span in spans.sorted(by: { $0.keys > $1.keys }) where span.queries > 0 {
            let tile = tileQueries(span), run = max(tile, 256 / tile * tile)
            for head in 0..<shape.keyValueHeads {
                tasks += stride(from: 0, to: span.queries, by: run).map {
                    (span, head, $0, min(run, span.queries - $0))
                }
            }
        }
        executor.loop(tasks.count, .attention) { i, worker in
            let task = tasks[i]
            forward(task.span, task.head, task.first, task.count, worker)
        }
    }

    private func forward(_ span: Span, _ head: Int, _ first: Int, _ count: Int, _ worker: WorkerPool.Worker) {
        let tile = tileQueries(span), rows = tile * group
        let (firstKey, _) = keyRange(span, tileStart: first, tileQueries: tile)
        let lastKey = min(span.firstPosition + first + count, span.keys)
        let keys = loadKeys(k, headDim, span, head, firstKey, lastKey, worker, slot: 1)
        let values = loadKeys(v, valueDim, span, head, firstKey, lastKey, worker, slot: 2)
        let state = worker.floats(6, count: 3 * rows)
        let (top, sum, rescale) = (state, state + rows, state + 2 * rows)
        for start in stride(from: first, to: first + count, by: tile) {
            let queries = loadQueries(q, headDim, span, head, start, tile, worker, slot: 3)
            let result = Matrix(worker.floats(7, count: rows * valueDim), rows: rows, columns: valueDim, .f32)
            startSums(head, tile, top, sum)
            for (index, block) in keyBlocks(span, tileStart: start, tileQueries: tile).enumerated() {
                let columns = block.count
                let scores = Matrix(worker.floats(4, count: rows * columns), rows: rows, columns: columns, .f32)
                worker.multiply(queries, keys.rows(block.lowerBound - firstKey, columns).transposed, into: scores)
                cap(scores)
                let exponentials = Matrix(
                    worker.scratch(5, byteCount: rows * columns * dtype.size), rows: rows, columns: columns, dtype)
                loops.pointee.attention_softmax(
                    exponentials.pointer, top, sum, rescale, scores.pointer.assumingMemoryBound(to: Float.self),
                    shape.softmaxScale, rows, columns, tile, span.firstPosition + start, block.lowerBound, span.keys,
                    shape.window ?? Int.max / 2)
                if index > 0 { result.scaleRows(rescale) }
                worker.multiply(
                    exponentials, values.rows(block.lowerBound - firstKey, columns), into: result,
                    accumulate: index > 0)
            }
            finish(span, head, start, tile, result, top, sum)
        }
    }

    /// The largest score and the sum of exponentials of each row before its first key: none, or the sink.
    private func startSums(
        _ head: Int, _ tile: Int, _ top: UnsafeMutablePointer<Float>, _ sum: UnsafeMutablePointer<Float>
    ) {
        for g in 0..<group {
            let sink = sinks.map { $0.value.f32[head * group + g] / shape.softmaxScale }
            (top + g * tile).update(repeating: sink ?? -.infinity, count: tile)
            (sum + g * tile).update(repeating: sink == nil ? 0 : 1, count: tile)
        }
    }

    /// Scales and caps scores in place where the family caps them.
    private func cap(_ scores: Matrix) {
        guard let softCap = shape.softCap else { return }
        let values = scores.pointer.assumingMemoryBound(to: Float.self)
        kernels(.f32).pointee.soft_cap(values, shape.scale, softCap, scores.rows * scores.columns)
    }

    /// Divides a tile's sums by those of its exponentials and stores them, and the log sums for the backward pass.
    private func finish(
        _ span: Span, _ head: Int, _ start: Int, _ tile: Int, _ result: Matrix, _ top: UnsafePointer<Float>,
        _ sum: UnsafeMutablePointer<Float>
    ) {
        let logs = firstLogSum(span, head, start), (heads, scale) = (shape.heads, shape.softmaxScale)
        for g in 0..<group {
            for t in 0..<min(tile, span.queries - start) {
                let row = g * tile + t
                logs?[t * heads + g] = top[row] * scale + log(sum[row])
                sum[row] = 1 / sum[row]
            }
        }
        storeQueries(result, valueDim, into: output, span, head, start, tile, scales: sum)
    }

    /// The log sum of a tile's first query for the first head of the group. A pointer, so that a loop over rows does not
    /// count references to what all workers share.
    private func firstLogSum(_ span: Span, _ head: Int, _ start: Int) -> UnsafeMutablePointer<Float>? {
        logSums.map { $0.f32 + (span.queryRow + start) * shape.heads + head * group }
    }

    /// The keys that a tile sees, in blocks whose scores stay in cache.
    private func keyBlocks(_ span: Span, tileStart: Int, tileQueries: Int) -> [Range<Int>] {
        let (first, count) = keyRange(span, tileStart: tileStart, tileQueries: tileQueries)
        return stride(from: first, to: first + count, by: 512).map { $0..<min($0 + 512, first + count) }
    }

    // MARK: backward

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
            executor.loop(shape.heads, .attentionBackward) { head, worker in addSinkGradient(gradient, head, d, worker) }
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

    /// dq of the queries of one part of so many, and its share of the keys' and values' gradients, `[padded keys, headDim]` and
    /// `[padded keys, valueDim]`.
    private func backward(
        _ span: Span, _ head: Int, _ part: (index: Int, count: Int), _ d: Tensor, _ dq: Tensor, _ worker: WorkerPool.Worker
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

    // MARK: copies between tensors and padded scratch memory

    private func zeros(_ slot: Int, _ rows: Int, _ width: Int, _ worker: WorkerPool.Worker) -> Matrix {
        let memory = worker.floats(slot, count: rows * width)
        memory.initialize(repeating: 0, count: rows * width)
        return Matrix(memory, rows: rows, columns: width, .f32)
    }

    /// Keys (or values) `first..<last` of one head, `[padded, width]`, zero beyond `last`.
    private func loadKeys(
        _ tensor: Tensor, _ width: Int, _ span: Span, _ head: Int, _ first: Int, _ last: Int,
        _ worker: WorkerPool.Worker, slot: Int
    ) -> Matrix {
        let count = last - first, rows = Self.padded(last) - first, rowBytes = width * dtype.size
        let memory = worker.scratch(slot, byteCount: max(1, rows * rowBytes))
        loops.pointee.copy_rows(
            memory, width, tensor.row(span.keyRow + first) + head * rowBytes, tensor.width, count, width)
        (memory + count * rowBytes).initializeMemory(as: UInt8.self, repeating: 0, count: (rows - count) * rowBytes)
        return Matrix(memory, rows: rows, columns: width, dtype)
    }

    /// Queries (or gradients of the output) of every head of the group, `[group * tile, width]`, zero beyond the
    /// span's end.
    private func loadQueries(
        _ tensor: Tensor, _ width: Int, _ span: Span, _ head: Int, _ start: Int, _ tile: Int,
        _ worker: WorkerPool.Worker, slot: Int
    ) -> Matrix {
        let count = min(tile, span.queries - start), rowBytes = width * dtype.size
        let memory = worker.scratch(slot, byteCount: group * tile * rowBytes)
        for g in 0..<group {
            let target = memory + g * tile * rowBytes
            let source = tensor.row(span.queryRow + start) + (head * group + g) * rowBytes
            loops.pointee.copy_rows(target, width, source, tensor.width, count, width)
            (target + count * rowBytes).initializeMemory(
                as: UInt8.self, repeating: 0, count: (tile - count) * rowBytes)
        }
        return Matrix(memory, rows: group * tile, columns: width, dtype)
    }

    /// The stored log sums, and D = rowsum(dO * O), of a tile's rows.
    private func loadRowSums(
        _ d: Tensor, _ span: Span, _ head: Int, _ start: Int, _ tile: Int, _ worker: WorkerPool.Worker
    ) -> (UnsafeMutablePointer<Float>, UnsafeMutablePointer<Float>) {
        let count = min(tile, span.queries - start), rowBytes = valueDim * dtype.size
        let sums = worker.floats(6, count: group * tile), delta = worker.floats(13, count: group * tile)
        let logs = firstLogSum(span, head, start)!, heads = shape.heads
        for g in 0..<group {
            let queryHead = head * group + g, row = span.queryRow + start
            for t in 0..<tile {
                sums[g * tile + t] = t < count ? logs[t * heads + g] : 0
            }
            loops.pointee.row_dots(
                delta + g * tile, d.row(row) + queryHead * rowBytes, d.width,
                output.row(row) + queryHead * rowBytes, output.width, count, valueDim)
        }
        return (sums, delta)
    }

    private func storeQueries(
        _ result: Matrix, _ width: Int, into tensor: Tensor, _ span: Span, _ head: Int, _ start: Int, _ tile: Int,
        scales: UnsafePointer<Float>? = nil
    ) {
        let count = min(tile, span.queries - start)
        for g in 0..<group {
            let target = tensor.row(span.queryRow + start) + (head * group + g) * width * dtype.size
            let source = result.pointer.assumingMemoryBound(to: Float.self) + g * tile * width
            loops.pointee.store_rows(target, tensor.width, source, width, scales.map { $0 + g * tile }, count, width)
        }
    }

    private func storeKeys(
        _ sums: UnsafeMutableRawPointer, _ width: Int, into tensor: Tensor, _ span: Span, _ head: Int
    ) {
        let target = tensor.row(span.keyRow) + head * width * dtype.size
        loops.pointee.store_rows(
            target, tensor.width, sums.assumingMemoryBound(to: Float.self), width, nil, span.keys, width)
    }
}
