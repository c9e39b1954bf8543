internal import CKernels
import Foundation

extension Tape {
    /// The sum of -log softmax(x W^T)[target] over all rows; the logits of all rows never exist at once.
    ///
    /// The gradient of x is computed in the same pass, while a tile's logits are in cache; nothing else is kept.
    /// - Parameters:
    ///   - x: `[N, C]`, only rows that have a target
    ///   - head: `[V, C]`
    ///   - targets: N token ids in 0..<V
    /// - Returns: each row's loss, in nats.
    public func crossEntropy(_ x: Tensor, head: Projection, targets: [Int32]) -> [Double] {
        let vocabulary = head.outputWidth
        precondition(x.rows == targets.count && targets.allSatisfy { 0..<vocabulary ~= Int($0) })
        let learns = isRecording && (x.requiresGradient || head.isTrainable)
        let pass = CrossEntropyPass(
            pool: pool, x: x, head: head, targets: targets,
            dx: learns && x.requiresGradient ? Tensor(x.shape, x.dtype) : nil, learns: learns)
        let losses = pass.run()
        if learns {
            // A scalar result has no tensor to carry a gradient; the loss is a sum, so d loss = 1.
            record([]) { [pool] in
                if let dx = pass.dx { x.addGradient(dx, pool) }
            }
        }
        return losses
    }

    /// All logits, f32 `[T, V]`, for inference.
    public func logits(_ x: Tensor, head: Projection) -> Tensor {
        let result = Tensor([x.rows, head.outputWidth])
        return linear(x, head, addedTo: result.clearedToZero())
    }
}

extension Tensor {
    fileprivate func clearedToZero() -> Tensor { fillZero(); return self }
}

private struct CrossEntropyPass {
    let pool: WorkerPool
    let x: Tensor
    let head: Projection
    let targets: [Int32]
    let dx: Tensor?
    let learns: Bool

    /// Rows of a tile: at most 32 MB of logits a worker.
    private var tileRows: Int { min(128, max(16, (32 << 20) / (4 * head.outputWidth) / 16 * 16)) }

    func run() -> [Double] {
        var losses = [Double](repeating: 0, count: targets.count)
        // A head that learns needs the logits' gradients of many rows at once for its own; a frozen one of a tile only.
        let chunkRows = learns && head.isTrainable ? max(tileRows, 512) : max(1, targets.count)
        let adapterWidth = head.adapter?.rank ?? 0
        let hidden = adapterWidth > 0 ? Tensor([max(1, targets.count), adapterWidth], x.dtype) : nil
        let dHidden = learns && adapterWidth > 0 ? Tensor([max(1, targets.count), adapterWidth], x.dtype) : nil
        let kept = learns && head.isTrainable
            ? Tensor([min(chunkRows, max(1, targets.count)), head.outputWidth], x.dtype) : nil
        losses.withUnsafeMutableBufferPointer { losses in
            let losses = losses.baseAddress!
            for chunk in stride(from: 0, to: targets.count, by: chunkRows) {
                let count = min(chunkRows, targets.count - chunk)
                pool.parallelFor((count + tileRows - 1) / tileRows) { tile, worker in
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
        let memory = learns ? kept ?? worker.scratch(2, byteCount: rows * vocabulary * dtype.size) : nil
        for r in 0..<rows {
            losses[first + r] = kernels(dtype).pointee.cross_entropy(
                memory.map { $0 + r * vocabulary * dtype.size },
                logits.pointer.assumingMemoryBound(to: Float.self) + r * vocabulary, vocabulary, targets[first + r])
        }
        guard let memory else { return }
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

    /// dW += dlogits^T x and the low-rank gradients, over blocks of the vocabulary.
    private func addHeadGradients(_ kept: Tensor, _ first: Int, _ count: Int, _ hidden: Tensor?, _ dHidden: Tensor?) {
        let vocabulary = head.outputWidth, block = 256
        let dLogits = Matrix(kept.raw, rows: count, columns: vocabulary, x.dtype)
        let input = Matrix(x).rows(first, count)
        pool.parallelFor((vocabulary + block - 1) / block) { i, worker in
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
        pool.parallelFor((x.width + block - 1) / block) { i, worker in
            let start = i * block, width = min(block, x.width - start)
            worker.multiply(
                Matrix(dHidden).rows(first, count).transposed, input.columns(start, width),
                into: Matrix(dA).columns(start, width), accumulate: true)
        }
    }
}
