internal import CKernels
import Foundation

/// Queries at rows of one tensor that see keys at rows of another.
struct Span {
    /// First row and number of the queries.
    var queryRow, queries: Int
    /// First row and number of the keys; key i is at position i.
    var keyRow, keys: Int
    /// The position of the first query among the keys.
    var firstPosition: Int
}

/// One pass over all spans, in tasks of (span, key head, run of query tiles).
///
/// A tile holds the same run of queries for every head of the group, so that its products with the shared keys are
/// large. Keys and queries are copied to padded scratch memory: products then have few distinct shapes.
struct AttentionPass {
    let shape: AttentionShape
    let q, k, v: Tensor
    let sinks: Weight?
    let output: Tensor
    /// `[T, heads]`: log of the sum of exponentials of each query's scaled scores (arXiv:2205.14135).
    let logSums: Tensor?

    var dtype: DType { q.dtype }
    var headDim: Int { shape.headDim }
    var valueDim: Int { shape.valueDim }
    var group: Int { shape.group }
    var loops: UnsafePointer<graft_kernel_table> { kernels(dtype) }

    /// Queries of one head in a tile: products of about 256 rows, and little waste on short segments.
    func tileQueries(_ span: Span) -> Int {
        let wanted = max(16, 256 / group / 16 * 16)
        return min(wanted, 64, (span.queries + 15) / 16 * 16)
    }

    static func padded(_ count: Int) -> Int { (count + 63) / 64 * 64 }

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
    func cap(_ scores: Matrix) {
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

    /// The log sum of a tile's first query for the first head of the group. A pointer, so that a loop over rows does
    /// not count references to what all workers share.
    private func firstLogSum(_ span: Span, _ head: Int, _ start: Int) -> UnsafeMutablePointer<Float>? {
        logSums.map { $0.f32 + (span.queryRow + start) * shape.heads + head * group }
    }

    /// The keys that a tile sees, in blocks whose scores stay in cache.
    func keyBlocks(_ span: Span, tileStart: Int, tileQueries: Int) -> [Range<Int>] {
        let (first, count) = keyRange(span, tileStart: tileStart, tileQueries: tileQueries)
        return stride(from: first, to: first + count, by: 512).map { $0..<min($0 + 512, first + count) }
    }

    // MARK: copies between tensors and padded scratch memory

    func zeros(_ slot: Int, _ rows: Int, _ width: Int, _ worker: WorkerPool.Worker) -> Matrix {
        let memory = worker.floats(slot, count: rows * width)
        memory.initialize(repeating: 0, count: rows * width)
        return Matrix(memory, rows: rows, columns: width, .f32)
    }

    /// Keys (or values) `first..<last` of one head, `[padded, width]`, zero beyond `last`.
    func loadKeys(
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
    func loadQueries(
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
    func loadRowSums(
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

    func storeQueries(
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

    func storeKeys(
        _ sums: UnsafeMutableRawPointer, _ width: Int, into tensor: Tensor, _ span: Span, _ head: Int
    ) {
        let target = tensor.row(span.keyRow) + head * width * dtype.size
        loops.pointee.store_rows(
            target, tensor.width, sums.assumingMemoryBound(to: Float.self), width, nil, span.keys, width)
    }
}
