internal import CKernels

extension LinearCall {
    /// With DoRA the gradients are first multiplied with the gain, which counts as a constant.
    func backward(_ outputGradients: [Tensor?]) {
        let gradients = zip(projections, outputGradients).map { projection, dy -> Tensor? in
            guard let dy, let gains = projection.adapter?.lengths?.gains else { return dy }
            let result = Tensor(dy.shape, dy.dtype)
            executor.rows(x.rows, .linearBackward, bytesPerRow: 2 * dy.width * dy.dtype.size) { first, count, _ in
                kernels(dy.dtype).pointee.scale_columns(result.row(first), dy.row(first), gains.f32, count, dy.width)
            }
            return result
        }
        let dHidden = hidden.map { Tensor($0.shape, $0.dtype) }
        let dx = x.requiresGradient ? Tensor(x.shape, x.dtype) : nil
        // A plain matrix is laid out anew in every product, which takes a fifth of the time of this one.
        let packs = dx != nil && x.dtype == .bf16 && x.rows >= 512 && PackedWeight.isUseful
        let packed = zip(projections, gradients).map { projection, dy in
            packs && dy != nil ? PackedWeight(projection.weight) : nil
        }
        executor.itemsBeforeRows(packed.flatMap { $0?.items ?? [] }, .packing)
        let dense = zip(projections, gradients).map { projection, dy in
            dx != nil && !packs && dy != nil ? projection.weight.dense(executor) : nil
        }
        executor.rows(x.rows, .linearBackward, bytesPerRow: x.width * (4 + x.dtype.size)) { first, count, worker in
            propagate(first, count, gradients, packed, dense, dHidden, dx, worker)
        }
        var work: [(WorkerPool.Worker) -> Void] = []
        for (i, projection) in projections.enumerated() {
            guard let dy = gradients[i], let dOutput = outputGradients[i] else { continue }
            work += weightGradients(projection, dOutput)
            if let adapter = projection.adapter, let unscaled = unscaled[i] {
                work += magnitudeGradients(adapter, dOutput, unscaled)
            }
            if let adapter = projection.adapter, let hidden {
                work += gradientsOfB(adapter, dy, hidden, column: columns[i])
            }
        }
        if let dHidden { for run in runs { work += gradientsOfA(run, dHidden) } }
        executor.items(work, .weightGradients)
        if let dx { x.addGradient(dx, executor) }
    }

    /// dh and dx of one tile of rows; the sums over projections are kept in f32.
    private func propagate(
        _ first: Int, _ count: Int, _ gradients: [Tensor?], _ packed: [PackedWeight?], _ dense: [Tensor?],
        _ dHidden: Tensor?, _ dx: Tensor?, _ worker: WorkerPool.Worker
    ) {
        let sum = Matrix(worker.floats(1, count: count * x.width), rows: count, columns: x.width, .f32)
        var isEmpty = true
        for (i, projection) in projections.enumerated() {
            let low = dHidden.flatMap { dHidden in
                projection.adapter.map { Matrix(dHidden).rows(first, count).columns(columns[i], $0.rank) }
            }
            guard let dy = gradients[i] else {
                low?.fillZero()
                continue
            }
            let d = Matrix(dy).rows(first, count)
            if dx != nil {
                let weight = packed[i]?.matrix ?? Matrix(dense[i]!)
                worker.multiply(d, weight, into: sum, accumulate: !isEmpty)
                isEmpty = false
            }
            if let adapter = projection.adapter, let low { worker.multiply(d, Matrix(adapter.scaledB), into: low) }
        }
        guard let dx else { return }
        if isEmpty { sum.fillZero() }
        if let dHidden { for run in runs { addThroughA(run, Matrix(dHidden).rows(first, count), first, sum, worker) } }
        kernels(x.dtype).pointee.from_f32(
            dx.row(first), sum.pointer.assumingMemoryBound(to: Float.self), count * x.width)
    }

    private func addThroughA(
        _ run: AdapterRun, _ dHidden: Matrix, _ first: Int, _ sum: Matrix, _ worker: WorkerPool.Worker
    ) {
        let low = dHidden.columns(run.column, run.rank)
        guard let dropout else { return worker.multiply(low, stackedA(run), into: sum, accumulate: true) }
        let masked = Matrix(worker.floats(2, count: sum.rows * x.width), rows: sum.rows, columns: x.width, .f32)
        worker.multiply(low, stackedA(run), into: masked)
        kernels(.f32).pointee.dropout_backward(
            sum.pointer.assumingMemoryBound(to: Float.self), masked.pointer.assumingMemoryBound(to: Float.self),
            dropout.key, dropout.counter(row: first, width: x.width), dropout.probability, sum.rows * x.width)
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
        if let adapter = projection.adapter, let gradient = adapter.bias?.gradient {
            let sums = Tensor.zeros([dy.width])
            work += blocks(projection.outputWidth, of: 128).map { first, count in
                { _ in
                    kernels(dy.dtype).pointee.sum_rows(sums.f32, dy.raw, dy.rows, dy.width, first, first + count)
                    for i in first..<first + count { gradient.f32[i] += adapter.scale * sums.f32[i] }
                }
            }
        }
        return work
    }

    /// dm = sum over rows of dy V x / |V|.
    private func magnitudeGradients(_ adapter: LowRankAdapter, _ dy: Tensor, _ unscaled: Tensor)
        -> [(WorkerPool.Worker) -> Void]
    {
        guard let gradient = adapter.magnitude?.gradient, let norms = adapter.lengths?.norms else { return [] }
        let sums = Tensor.zeros([dy.width])
        return blocks(dy.width, of: 64).map { first, count in
            { _ in
                kernels(dy.dtype).pointee.rms_norm_weight_backward(
                    sums.f32, dy.raw, unscaled.raw, dy.rows, dy.width, first, first + count)
                for i in first..<first + count { gradient.f32[i] += sums.f32[i] / norms.f32[i] }
            }
        }
    }

    private func gradientsOfA(_ run: AdapterRun, _ dHidden: Tensor) -> [(WorkerPool.Worker) -> Void] {
        guard let gradient = projections[run.projections.lowerBound].adapter!.a.gradient else { return [] }
        let dA = Matrix(gradient.f32, rows: run.rank, columns: x.width, .f32)
        return blocks(x.width, of: 256).map { first, count in
            { worker in
                worker.multiply(
                    Matrix(dHidden).columns(run.column, run.rank).transposed, Matrix(dropped).columns(first, count),
                    into: dA.columns(first, count), accumulate: true)
            }
        }
    }

    /// The items run when this call may be gone: they hold `hidden` themselves.
    private func gradientsOfB(_ adapter: LowRankAdapter, _ dy: Tensor, _ hidden: Tensor, column: Int)
        -> [(WorkerPool.Worker) -> Void]
    {
        guard adapter.b.gradient != nil else { return [] }
        let rank = adapter.rank
        return blocks(dy.width, of: 256).map { first, count in
            { worker in
                let piece = worker.floats(1, count: count * rank)
                worker.multiply(
                    Matrix(dy).columns(first, count).transposed, Matrix(hidden).columns(column, rank),
                    into: Matrix(piece, rows: count, columns: rank, .f32))
                adapter.addGradientOfB(piece, first: first, count: count)
            }
        }
    }

    private func blocks(_ total: Int, of size: Int) -> [(Int, Int)] {
        stride(from: 0, to: total, by: size).map { ($0, min(size, total - $0)) }
    }
}
