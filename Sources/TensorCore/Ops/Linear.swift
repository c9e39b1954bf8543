internal import CKernels

/// Dropout of the input of the low-rank updates: probability and the key of its random stream.
public struct AdapterDropout: Sendable {
    public var probability: Float
    public var key: UInt64
    /// The number of the first row in the optimiser step, so that a step's mask does not depend on its micro-batches.
    public var firstRow: Int

    public init(probability: Float, key: UInt64, firstRow: Int = 0) {
        self.probability = probability
        self.key = key
        self.firstRow = firstRow
    }

    /// The counter of the first element of row `row` of a tensor of this width.
    func counter(row: Int, width: Int) -> UInt64 { UInt64((firstRow + row) * width) }
}

extension Tape {
    /// y_i = x W_i^T + bias_i + scale_i (x A_i^T) B_i^T for projections that share their input.
    ///
    /// - Parameters:
    ///   - x: `[T, K]`
    ///   - dropout: applied to the input of the low-rank updates, one mask for all of them; on a tape that does not
    ///     record too, since a checkpoint's first run must give what its second does. Inference passes nil.
    /// - Returns: one `[T, O_i]` each, in x's type.
    public func linear(_ x: Tensor, _ projections: [Projection], dropout: AdapterDropout? = nil) -> [Tensor] {
        let outputs = projections.map { Tensor([x.rows, $0.outputWidth], x.dtype) }
        run(x, projections, outputs, dropout)
        return outputs
    }

    /// residual + x W^T + ...: the end of a block. `residual` and the result are f32 `[T, O]`.
    public func linear(
        _ x: Tensor, _ projection: Projection, addedTo residual: Tensor, dropout: AdapterDropout? = nil
    ) -> Tensor {
        let output = Tensor(residual.shape)
        run(x, [projection], [output], dropout, residual: residual)
        return output
    }

    private func run(
        _ x: Tensor, _ projections: [Projection], _ outputs: [Tensor], _ dropout: AdapterDropout?,
        residual: Tensor? = nil
    ) {
        precondition(projections.allSatisfy { $0.inputWidth == x.width && $0.weight.value.dtype == x.dtype })
        let dropped = dropout.flatMap { $0.probability > 0 ? apply($0, to: x) : nil }
        let hidden = projections.map { $0.adapter.map { Tensor([x.rows, $0.rank], x.dtype) } }
        if x.rows <= 16 {
            forwardNarrow(x, dropped ?? x, projections, outputs, hidden, residual)
        } else {
            forward(x, dropped ?? x, projections, outputs, hidden, residual)
        }
        guard x.requiresGradient || residual?.requiresGradient == true || projections.contains(where: \.isTrainable)
        else { return }
        record(outputs) { [pool] in
            var gradients = outputs.map { $0.takeGradient() }
            if let residual, let d = gradients[0] {
                gradients[0] = pool.converted(d, to: x.dtype)
                if residual.requiresGradient { residual.addGradient(d, pool) }
            }
            let call = LinearPullback(
                pool: pool, x: x, dropped: dropped ?? x, dropout: dropped == nil ? nil : dropout,
                projections: projections, hidden: hidden, gradients: gradients)
            call.run()
        }
    }

    private func apply(_ dropout: AdapterDropout, to x: Tensor) -> Tensor {
        let result = Tensor(x.shape, x.dtype)
        pool.forRanges(x.count) { first, count in
            let offset = first * x.dtype.size
            kernels(x.dtype).pointee.dropout(
                result.raw + offset, x.raw + offset, dropout.key,
                dropout.counter(row: 0, width: x.width) + UInt64(first), dropout.probability, count)
        }
        return result
    }

    /// Tiles of rows: the products of a tile and its element-wise work run on one worker.
    private func forward(
        _ x: Tensor, _ adapterInput: Tensor, _ projections: [Projection], _ outputs: [Tensor], _ hidden: [Tensor?],
        _ residual: Tensor?
    ) {
        let tiles = RowTiles(x.rows)
        pool.parallelFor(tiles.count) { tile, worker in
            let (first, count) = (tiles.first(tile), tiles.rows(tile))
            let input = Matrix(x).rows(first, count)
            for (i, projection) in projections.enumerated() {
                let output = Matrix(outputs[i]).rows(first, count)
                if let residual {
                    output.pointer.copyMemory(from: residual.row(first), byteCount: count * output.columns * 4)
                }
                worker.multiply(
                    input, Matrix(projection.weight.value).transposed, into: output, accumulate: residual != nil)
                if let bias = projection.bias {
                    kernels(output.dtype).pointee.add_bias(
                        output.pointer, output.rowStride, bias.value.f32, count, output.columns)
                }
                if let adapter = projection.adapter, let hidden = hidden[i] {
                    let low = Matrix(hidden).rows(first, count)
                    worker.multiply(
                        Matrix(adapterInput).rows(first, count), Matrix(adapter.a.value).transposed, into: low)
                    worker.multiply(low, Matrix(adapter.scaledB).transposed, into: output, accumulate: true)
                }
            }
        }
    }

    /// Few rows, as in generation: the weights are read once, so workers share them out by output columns.
    private func forwardNarrow(
        _ x: Tensor, _ adapterInput: Tensor, _ projections: [Projection], _ outputs: [Tensor], _ hidden: [Tensor?],
        _ residual: Tensor?
    ) {
        let block = 256
        var items: [(projection: Int, first: Int)] = []
        for (i, projection) in projections.enumerated() {
            items += stride(from: 0, to: projection.outputWidth, by: block).map { (i, $0) }
        }
        pool.parallelFor(projections.count) { i, worker in
            guard let adapter = projections[i].adapter, let low = hidden[i] else { return }
            worker.multiply(Matrix(adapterInput), Matrix(adapter.a.value).transposed, into: Matrix(low))
        }
        pool.parallelFor(items.count) { item, worker in
            let (i, first) = items[item]
            let projection = projections[i]
            let count = min(block, projection.outputWidth - first)
            let output = Matrix(outputs[i]).columns(first, count)
            if let residual {
                kernels(.f32).pointee.copy_rows(
                    output.pointer, output.rowStride, residual.f32 + first, residual.width, x.rows, count)
            }
            let weight = Matrix(projection.weight.value).rows(first, count)
            if x.rows == 1 {
                let y = worker.floats(1, count: count)
                kernels(x.dtype).pointee.matrix_vector(y, weight.pointer, x.raw, count, x.width)
                if residual != nil {
                    kernels(.f32).pointee.accumulate_f32(
                        output.pointer.assumingMemoryBound(to: Float.self), y, count)
                } else {
                    kernels(output.dtype).pointee.from_f32(output.pointer, y, count)
                }
            } else {
                worker.multiply(Matrix(x), weight.transposed, into: output, accumulate: residual != nil)
            }
            if let bias = projection.bias {
                kernels(output.dtype).pointee.add_bias(
                    output.pointer, output.rowStride, bias.value.f32 + first, x.rows, count)
            }
            if let adapter = projection.adapter, let low = hidden[i] {
                let b = Matrix(adapter.scaledB).rows(first, count)
                worker.multiply(Matrix(low), b.transposed, into: output, accumulate: true)
            }
        }
    }
}

/// The backward pass of `Tape.linear`:
/// dx = sum_i dy_i W_i + (dy_i scale_i B_i) A_i;  dW = dy^T x;  dB = scale dy^T h;  dA = (dy scale B)^T x.
private struct LinearPullback {
    let pool: WorkerPool
    let x: Tensor
    let dropped: Tensor
    let dropout: AdapterDropout?
    let projections: [Projection]
    let hidden: [Tensor?]
    let gradients: [Tensor?]

    func run() {
        let dHidden = hidden.map { $0.map { Tensor($0.shape, $0.dtype) } }
        let dx = x.requiresGradient ? Tensor(x.shape, x.dtype) : nil
        let tiles = RowTiles(x.rows)
        pool.parallelFor(tiles.count) { tile, worker in
            propagate(first: tiles.first(tile), count: tiles.rows(tile), dHidden, dx, worker)
        }
        var work: [(WorkerPool.Worker) -> Void] = []
        for (i, projection) in projections.enumerated() {
            guard let dy = gradients[i] else { continue }
            work += weightGradients(projection, dy)
            if let adapter = projection.adapter, let low = hidden[i], let dLow = dHidden[i] {
                work += adapterGradients(adapter, dy, low, dLow)
            }
        }
        pool.parallelFor(work.count) { item, worker in work[item](worker) }
        if let dx { x.addGradient(dx, pool) }
    }

    /// dh and dx of one tile of rows; the sums over projections are kept in f32.
    private func propagate(
        first: Int, count: Int, _ dHidden: [Tensor?], _ dx: Tensor?, _ worker: WorkerPool.Worker
    ) {
        let sum = Matrix(worker.floats(1, count: count * x.width), rows: count, columns: x.width, .f32)
        var isEmpty = true
        for (i, projection) in projections.enumerated() {
            guard let dy = gradients[i] else { continue }
            let d = Matrix(dy).rows(first, count)
            if dx != nil {
                worker.multiply(d, Matrix(projection.weight.value), into: sum, accumulate: !isEmpty)
                isEmpty = false
            }
            guard let adapter = projection.adapter, let dLow = dHidden[i] else { continue }
            let low = Matrix(dLow).rows(first, count)
            worker.multiply(d, Matrix(adapter.scaledB), into: low)
            guard dx != nil else { continue }
            guard let dropout else {
                worker.multiply(low, Matrix(adapter.a.value), into: sum, accumulate: true)
                continue
            }
            let masked = Matrix(worker.floats(2, count: count * x.width), rows: count, columns: x.width, .f32)
            worker.multiply(low, Matrix(adapter.a.value), into: masked)
            kernels(.f32).pointee.dropout_backward(
                sum.pointer.assumingMemoryBound(to: Float.self), masked.pointer.assumingMemoryBound(to: Float.self),
                dropout.key, dropout.counter(row: first, width: x.width), dropout.probability, count * x.width)
        }
        guard let dx else { return }
        if isEmpty { sum.pointer.initializeMemory(as: UInt8.self, repeating: 0, count: count * x.width * 4) }
        kernels(x.dtype).pointee.from_f32(
            dx.row(first), sum.pointer.assumingMemoryBound(to: Float.self), count * x.width)
    }

    /// Items of work, each the owner of the rows or columns that it writes.
    private func weightGradients(_ projection: Projection, _ dy: Tensor) -> [(WorkerPool.Worker) -> Void] {
        var work: [(WorkerPool.Worker) -> Void] = []
        if let gradient = projection.weight.gradient {
            work += blocks(projection.outputWidth, of: 128).map { first, count in
                { worker in
                    worker.multiply(
                        Matrix(dy).columns(first, count).transposed, Matrix(x),
                        into: Matrix(gradient).rows(first, count), accumulate: true)
                }
            }
        }
        if let gradient = projection.bias?.gradient {
            work += blocks(projection.outputWidth, of: 128).map { first, count in
                { _ in
                    kernels(dy.dtype).pointee.sum_rows(gradient.f32, dy.raw, dy.rows, dy.width, first, first + count)
                }
            }
        }
        return work
    }

    private func adapterGradients(_ adapter: LowRankAdapter, _ dy: Tensor, _ low: Tensor, _ dLow: Tensor)
        -> [(WorkerPool.Worker) -> Void]
    {
        var work: [(WorkerPool.Worker) -> Void] = []
        if let dA = adapter.a.gradient {
            work += blocks(x.width, of: 256).map { first, count in
                { worker in
                    worker.multiply(
                        Matrix(dLow).transposed, Matrix(dropped).columns(first, count),
                        into: Matrix(dA).columns(first, count), accumulate: true)
                }
            }
        }
        if let dB = adapter.b.gradient {
            let rank = adapter.rank
            work += blocks(dy.width, of: 256).map { first, count in
                { worker in
                    let piece = worker.floats(1, count: count * rank)
                    worker.multiply(
                        Matrix(dy).columns(first, count).transposed, Matrix(low),
                        into: Matrix(piece, rows: count, columns: rank, .f32))
                    let target = dB.f32 + first * rank
                    for i in 0..<count * rank { target[i] += adapter.scale * piece[i] }
                }
            }
        }
        return work
    }

    private func blocks(_ total: Int, of size: Int) -> [(Int, Int)] {
        stride(from: 0, to: total, by: size).map { ($0, min(size, total - $0)) }
    }
}
