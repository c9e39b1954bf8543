internal import CKernels

/// Loss and gradients of a head that learns, or of a loss that takes all logits of a row.
struct CrossEntropyPass {
    /// What a row's distribution should be.
    enum Goal {
        case tokens([Int32])
        case teacher(TeacherStates, Divergence)
    }

    let executor: Executor
    let x: Tensor
    let head: Projection
    let goal: Goal
    let shape: LogitShape
    /// What the rows' losses are multiplied with; nil: 1.
    let factors: [Float]?
    let dx: Tensor?
    let learns: Bool

    /// Rows of a tile: at most 32 MB of logits a worker, of each model.
    private var tileRows: Int { min(128, max(16, (32 << 20) / (4 * head.outputWidth) / 16 * 16)) }

    func run() -> [Double] {
        let total = x.rows
        var losses = [Double](repeating: 0, count: total)
        // A head that learns needs the logits' gradients of many rows at once for its own; a frozen one of a tile only.
        let chunkRows = learns && head.isTrainable ? max(tileRows, 512) : max(1, total)
        let adapterWidth = head.adapter?.rank ?? 0
        let hidden = adapterWidth > 0 ? Tensor([max(1, total), adapterWidth], x.dtype) : nil
        let dHidden = learns && adapterWidth > 0 ? Tensor([max(1, total), adapterWidth], x.dtype) : nil
        let kept =
            learns && head.isTrainable
            ? Tensor([min(chunkRows, max(1, total)), head.outputWidth], x.dtype) : nil
        losses.withUnsafeMutableBufferPointer { losses in
            let losses = losses.baseAddress!
            for chunk in stride(from: 0, to: total, by: chunkRows) {
                let count = min(chunkRows, total - chunk)
                executor.loop((count + tileRows - 1) / tileRows, .headAndLoss) { tile, worker in
                    let first = chunk + tile * tileRows
                    let rows = min(tileRows, chunk + count - first)
                    runTile(first, rows, losses, kept.map { $0.row(first - chunk) }, hidden, dHidden, worker)
                }
                if let kept { addHeadGradients(kept, chunk, count, hidden, dHidden) }
            }
        }
        return losses
    }

    private func runTile(
        _ first: Int, _ rows: Int, _ losses: UnsafeMutablePointer<Double>, _ kept: UnsafeMutableRawPointer?,
        _ hidden: Tensor?, _ dHidden: Tensor?, _ worker: WorkerPool.Worker
    ) {
        let vocabulary = head.outputWidth, dtype = x.dtype
        let input = Matrix(x).rows(first, rows)
        let logits = Matrix(worker.floats(1, count: rows * vocabulary), rows: rows, columns: vocabulary, .f32)
        worker.multiply(input, Matrix(head.weight.value).transposed, into: logits)
        if let bias = head.bias {
            kernels(.f32).pointee.add_bias(logits.pointer, vocabulary, bias.value.f32, rows, vocabulary)
        }
        if let adapter = head.adapter, let hidden {
            let low = Matrix(hidden).rows(first, rows)
            worker.multiply(input, Matrix(adapter.a.value).transposed, into: low)
            worker.multiply(low, Matrix(adapter.scaledB).transposed, into: logits, accumulate: true)
        }
        let values = logits.pointer.assumingMemoryBound(to: Float.self)
        shape.apply(values, rows * vocabulary)
        let memory = learns ? kept ?? worker.scratch(2, byteCount: rows * vocabulary * dtype.size) : nil
        computeLosses(first, logits, losses, memory, worker)
        guard let memory else { return }
        shape.applyBackward(memory, dtype, shaped: values, rows * vocabulary)
        let dLogits = Matrix(memory, rows: rows, columns: vocabulary, dtype)
        let sum = Matrix(worker.floats(3, count: rows * x.width), rows: rows, columns: x.width, .f32)
        if dx != nil { worker.multiply(dLogits, Matrix(head.weight.value), into: sum) }
        if let adapter = head.adapter, let dHidden {
            let low = Matrix(dHidden).rows(first, rows)
            worker.multiply(dLogits, Matrix(adapter.scaledB), into: low)
            if dx != nil { worker.multiply(low, Matrix(adapter.a.value), into: sum, accumulate: true) }
        }
        if let dx {
            kernels(dtype).pointee.from_f32(
                dx.row(first), sum.pointer.assumingMemoryBound(to: Float.self), rows * x.width)
        }
    }

    /// The losses of a tile's rows, and the gradients of their logits where there is memory for them.
    private func computeLosses(
        _ first: Int, _ logits: Matrix, _ losses: UnsafeMutablePointer<Double>, _ memory: UnsafeMutableRawPointer?,
        _ worker: WorkerPool.Worker
    ) {
        let vocabulary = head.outputWidth, size = x.dtype.size, table = kernels(x.dtype).pointee
        let values = logits.pointer.assumingMemoryBound(to: Float.self)
        func factor(_ r: Int) -> Float { factors?[first + r] ?? 1 }
        switch goal {
        case .tokens(let targets):
            for r in 0..<logits.rows {
                losses[first + r] = table.cross_entropy(
                    memory.map { $0 + r * vocabulary * size }, values + r * vocabulary, vocabulary, targets[first + r],
                    factor(r))
            }
        case .teacher(let teacher, let divergence):
            let width = teacher.head.outputWidth, common = min(width, vocabulary)
            let other = Matrix(worker.floats(4, count: logits.rows * width), rows: logits.rows, columns: width, .f32)
            worker.multiply(
                Matrix(teacher.x).rows(first, logits.rows), Matrix(teacher.head.weight.value).transposed, into: other)
            let teacherValues = other.pointer.assumingMemoryBound(to: Float.self)
            if let bias = teacher.head.bias {
                kernels(.f32).pointee.add_bias(teacherValues, width, bias.value.f32, logits.rows, width)
            }
            teacher.shape.apply(teacherValues, logits.rows * width)
            for r in 0..<logits.rows {
                let gradient = memory.map { $0 + r * vocabulary * size }
                losses[first + r] = table.divergence(
                    gradient, values + r * vocabulary, teacherValues + r * width, common, Float(divergence.beta),
                    Float(divergence.temperature), factor(r))
                if let gradient, common < vocabulary {
                    (gradient + common * size).initializeMemory(
                        as: UInt8.self, repeating: 0, count: (vocabulary - common) * size)
                }
            }
        }
    }

    /// dW += dlogits^T x and the low-rank gradients, over blocks of the vocabulary.
    private func addHeadGradients(_ kept: Tensor, _ first: Int, _ count: Int, _ hidden: Tensor?, _ dHidden: Tensor?) {
        let vocabulary = head.outputWidth, block = 256
        let dLogits = Matrix(kept.raw, rows: count, columns: vocabulary, x.dtype)
        let input = Matrix(x).rows(first, count)
        executor.loop((vocabulary + block - 1) / block, .headAndLoss) { i, worker in
            let start = i * block, width = min(block, vocabulary - start)
            let piece = dLogits.columns(start, width).transposed
            if let gradient = head.weight.gradient {
                worker.multiply(piece, input, into: Matrix(gradient).rows(start, width), accumulate: true)
            }
            if let gradient = head.bias?.gradient {
                kernels(x.dtype).pointee.sum_rows(
                    gradient.f32, kept.raw, count, vocabulary, start, start + width)
            }
            if let adapter = head.adapter, let dB = adapter.b.gradient, let hidden {
                let rank = adapter.rank, product = worker.floats(1, count: width * rank)
                worker.multiply(
                    piece, Matrix(hidden).rows(first, count), into: Matrix(product, rows: width, columns: rank, .f32))
                let target = dB.f32 + start * rank
                for j in 0..<width * rank { target[j] += adapter.scale * product[j] }
            }
        }
        guard let adapter = head.adapter, let dA = adapter.a.gradient, let dHidden else { return }
        executor.loop((x.width + block - 1) / block, .headAndLoss) { i, worker in
            let start = i * block, width = min(block, x.width - start)
            worker.multiply(
                Matrix(dHidden).rows(first, count).transposed, input.columns(start, width),
                into: Matrix(dA).columns(start, width), accumulate: true)
        }
    }
}
