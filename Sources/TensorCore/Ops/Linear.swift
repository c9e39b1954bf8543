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
    ///   - dtype: the results' type; nil takes x's.
    /// - Returns: one `[T, O_i]` each.
    public func linear(
        _ x: Tensor, _ projections: [Projection], dropout: AdapterDropout? = nil, dtype: DType? = nil
    ) -> [Tensor] {
        let outputs = projections.map { Tensor([x.rows, $0.outputWidth], dtype ?? x.dtype) }
        observe(x, projections)
        run(x, projections, outputs, dropout)
        return outputs
    }

    /// residual + x W^T + ...: the end of a block. `residual` and the result are f32 `[T, O]`.
    public func linear(
        _ x: Tensor, _ projection: Projection, addedTo residual: Tensor, dropout: AdapterDropout? = nil
    ) -> Tensor {
        let output = Tensor(residual.shape)
        observe(x, [projection])
        run(x, [projection], [output], dropout, residual: residual)
        return output
    }

    private func run(
        _ x: Tensor, _ projections: [Projection], _ outputs: [Tensor], _ dropout: AdapterDropout?,
        residual: Tensor? = nil
    ) {
        precondition(projections.allSatisfy { $0.inputWidth == x.width && $0.weight.value.dtype == x.dtype })
        inputSquares?.add(x, projections.map(\.weight.name), executor)
        let call = LinearCall(
            executor: executor, x: x, dropped: dropout.flatMap { $0.probability > 0 ? apply($0, to: x) : nil } ?? x,
            dropout: dropout.flatMap { $0.probability > 0 ? $0 : nil }, projections: projections,
            isRecording: isRecording)
        // A decoded weight need not be whole in memory for rows that a block of it can be multiplied with at once.
        let isDecoded = !isRecording && x.rows <= 256 && projections.contains { $0.weight.quantized != nil }
        if x.rows <= 16 || isDecoded {
            call.forwardNarrow(outputs, residual)
        } else {
            call.forward(outputs, residual)
        }
        if call.dropped !== x { release(call.dropped) }
        guard x.requiresGradient || residual?.requiresGradient == true || projections.contains(where: \.isTrainable)
        else { return }
        record(outputs) { [executor] in
            var gradients = outputs.map { $0.takeGradient() }
            if let residual, let d = gradients[0] {
                // A copy even where the type stays: the residual's gradient goes on to change.
                gradients[0] = executor.copy(d, to: x.dtype)
                if residual.requiresGradient { residual.addGradient(d, executor) }
            } else {
                gradients = gradients.map { $0.map { $0.dtype == x.dtype ? $0 : executor.copy($0, to: x.dtype) } }
            }
            x.restoreContent(executor)
            call.dropped.restoreContent(executor)
            call.backward(gradients)
        }
    }

    private func apply(_ dropout: AdapterDropout, to x: Tensor) -> Tensor {
        let result = Tensor(x.shape, x.dtype), width = x.width
        func compute(_ result: Tensor, _ executor: Executor) {
            executor.rows(x.rows, .linear, bytesPerRow: 2 * width * x.dtype.size) { first, count, _ in
                kernels(x.dtype).pointee.dropout(
                    result.row(first), x.row(first), dropout.key, dropout.counter(row: first, width: width),
                    dropout.probability, count * width)
            }
        }
        compute(result, executor)
        result.rebuilds(compute)
        return result
    }
}

/// Adapters of one call that lie next to each other in memory (`Weight.stack`): one thin product serves them all.
struct AdapterRun {
    /// The projections, by number.
    var projections: Range<Int>
    /// The place of the first one's hidden values, and the rank of all.
    var column: Int
    var rank: Int
}

/// One call of `Tape.linear`, forward and backward:
/// dx = sum_i dy_i W_i + (dy_i scale_i B_i) A_i;  dW = dy^T x;  dB = scale dy^T h;  dA = (dy scale B)^T x.
struct LinearCall {
    let executor: Executor
    let x: Tensor
    let dropped: Tensor
    let dropout: AdapterDropout?
    let projections: [Projection]
    let runs: [AdapterRun]
    /// The place of each projection's hidden values in a row of `hidden`.
    let columns: [Int]
    /// x A^T of all adapters, `[T, sum of ranks]`.
    let hidden: Tensor?
    /// The products of projections with DoRA before their gain, `[T, O_i]`, where a magnitude learns.
    let unscaled: [Tensor?]

    init(
        executor: Executor, x: Tensor, dropped: Tensor, dropout: AdapterDropout?, projections: [Projection],
        isRecording: Bool
    ) {
        self.executor = executor
        self.x = x
        self.dropped = dropped
        self.dropout = dropout
        self.projections = projections
        var runs: [AdapterRun] = [], columns: [Int] = [], total = 0
        for (i, projection) in projections.enumerated() {
            columns.append(total)
            guard let adapter = projection.adapter else { continue }
            if let last = runs.last, last.projections.upperBound == i,
                let previous = projections[i - 1].adapter, previous.a.isFollowed(by: adapter.a)
            {
                runs[runs.count - 1].projections = last.projections.lowerBound..<i + 1
                runs[runs.count - 1].rank += adapter.rank
            } else {
                runs.append(AdapterRun(projections: i..<i + 1, column: total, rank: adapter.rank))
            }
            total += adapter.rank
        }
        (self.runs, self.columns) = (runs, columns)
        hidden = total > 0 ? Tensor([x.rows, total], x.dtype) : nil
        unscaled = projections.map {
            isRecording && $0.adapter?.magnitude?.isTrainable == true ? Tensor([x.rows, $0.outputWidth], x.dtype) : nil
        }
    }

    /// The matrices A of a run as one, `[rank, K]`.
    func stackedA(_ run: AdapterRun) -> Matrix {
        let first = projections[run.projections.lowerBound].adapter!.a.value
        return Matrix(first.raw, rows: run.rank, columns: x.width, first.dtype)
    }

    // MARK: forward

    /// Tiles of rows: the products of a tile and its element-wise work run on one worker.
    func forward(_ outputs: [Tensor], _ residual: Tensor?) {
        let residualBytes = residual == nil ? 0 : 8 * outputs[0].width
        let weights = projections.map { $0.weight.dense(executor) }
        executor.rows(x.rows, .linear, bytesPerRow: residualBytes) { [self] first, count, worker in
            let input = Matrix(x).rows(first, count)
            multiplyA(first, count, worker)
            for (i, projection) in projections.enumerated() {
                let output = Matrix(outputs[i]).rows(first, count)
                if projection.adapter?.lengths != nil {
                    let columns = (first: 0, count: output.columns)
                    forwardScaled(
                        i, Matrix(weights[i]), output, residual.map { Matrix($0).rows(first, count) }, (first, count),
                        columns, worker)
                    continue
                }
                if let residual {
                    output.pointer.copyMemory(from: residual.row(first), byteCount: count * output.columns * 4)
                }
                worker.multiply(
                    input, Matrix(weights[i]).transposed, into: output, accumulate: residual != nil)
                addBiases(projection, from: 0, to: output)
                if let adapter = projection.adapter, let hidden {
                    let low = Matrix(hidden).rows(first, count).columns(columns[i], adapter.rank)
                    worker.multiply(low, Matrix(adapter.scaledB).transposed, into: output, accumulate: true)
                }
            }
        }
    }

    private func multiplyA(_ first: Int, _ count: Int, _ worker: WorkerPool.Worker) {
        guard let hidden else { return }
        for run in runs {
            worker.multiply(
                Matrix(dropped).rows(first, count), stackedA(run).transposed,
                into: Matrix(hidden).rows(first, count).columns(run.column, run.rank))
        }
    }

    /// Few rows, as in generation: the weights are read once, so workers share them out by output columns.
    func forwardNarrow(_ outputs: [Tensor], _ residual: Tensor?) {
        // What is decoded should stay in a core's cache; and each processor should have some blocks.
        let share = projections.reduce(0) { $0 + $1.outputWidth } / (4 * executor.pool.width) / 32 * 32
        let block = projections.contains { $0.weight.quantized != nil } ? 64 : min(256, max(32, share))
        var items: [(projection: Int, first: Int)] = []
        for (i, projection) in projections.enumerated() {
            items += stride(from: 0, to: projection.outputWidth, by: block).map { (i, $0) }
        }
        executor.rows(hidden == nil ? 0 : x.rows, .linear) { [self] in multiplyA($0, $1, $2) }
        executor.loop(items.count, .linear) { item, worker in
            let (i, first) = items[item]
            let projection = projections[i]
            let count = min(block, projection.outputWidth - first)
            let output = Matrix(outputs[i]).columns(first, count)
            if projection.adapter?.lengths != nil {
                forwardScaled(
                    i, projection.weight.rows(first, count, worker), output,
                    residual.map { Matrix($0).columns(first, count) }, (0, x.rows), (first, count), worker)
                return
            }
            if let residual {
                kernels(.f32).pointee.copy_rows(
                    output.pointer, output.rowStride, residual.f32 + first, residual.width, x.rows, count)
            }
            let weight = projection.weight.rows(first, count, worker)
            if x.rows == 1 {
                let y = worker.floats(1, count: count)
                matrixVector(x.dtype)(y, weight.pointer, x.raw, count, x.width)
                worker.count(bytes: count * x.width * x.dtype.size)
                if residual != nil {
                    kernels(.f32).pointee.accumulate_f32(
                        output.pointer.assumingMemoryBound(to: Float.self), y, count)
                } else {
                    kernels(output.dtype).pointee.from_f32(output.pointer, y, count)
                }
            } else {
                worker.multiply(Matrix(x), weight.transposed, into: output, accumulate: residual != nil)
            }
            addBiases(projection, from: first, to: output)
            if let adapter = projection.adapter, let hidden {
                let b = Matrix(adapter.scaledB).rows(first, count)
                worker.multiply(
                    Matrix(hidden).columns(columns[i], adapter.rank), b.transposed, into: output, accumulate: true)
            }
        }
    }

    /// A block of a projection with DoRA: the gain, then residual and bias.
    ///
    /// - Parameter weight: the rows of W for the columns of the block
    private func forwardScaled(
        _ i: Int, _ weight: Matrix, _ output: Matrix, _ residual: Matrix?, _ rows: (first: Int, count: Int),
        _ columns: (first: Int, count: Int), _ worker: WorkerPool.Worker
    ) {
        let projection = projections[i], f32 = kernels(.f32).pointee
        guard let adapter = projection.adapter, let lengths = adapter.lengths, let hidden else { return }
        let values = worker.floats(1, count: rows.count * columns.count)
        let product = Matrix(values, rows: rows.count, columns: columns.count, .f32)
        worker.multiply(Matrix(x).rows(rows.first, rows.count), weight.transposed, into: product)
        worker.multiply(
            Matrix(hidden).rows(rows.first, rows.count).columns(self.columns[i], adapter.rank),
            Matrix(adapter.scaledB).rows(columns.first, columns.count).transposed, into: product, accumulate: true)
        if let kept = unscaled[i] {
            let place = Matrix(kept).rows(rows.first, rows.count).columns(columns.first, columns.count)
            kernels(kept.dtype).pointee.store_rows(
                place.pointer, place.rowStride, values, columns.count, nil, rows.count, columns.count)
        }
        let scaled = worker.floats(2, count: rows.count * columns.count)
        f32.scale_columns(scaled, values, lengths.gains.f32 + columns.first, rows.count, columns.count)
        if let residual {
            for row in 0..<rows.count {
                f32.accumulate_f32(scaled + row * columns.count, residual.rows(row, 1).pointer, columns.count)
            }
        }
        kernels(output.dtype).pointee.store_rows(
            output.pointer, output.rowStride, scaled, columns.count, nil, rows.count, columns.count)
        addBiases(projection, from: columns.first, to: output)
    }

    /// Adds the layer's bias, and the update's, to columns of the output that begin at the layer's `first`.
    private func addBiases(_ projection: Projection, from first: Int, to output: Matrix) {
        for bias in [projection.bias?.value, projection.adapter?.scaledBias] {
            guard let bias else { continue }
            kernels(output.dtype).pointee.add_bias(
                output.pointer, output.rowStride, bias.f32 + first, output.rows, output.columns)
        }
    }
}
