internal import CKernels
import Foundation

/// What becomes of the head's products: scaled, then capped as cap * tanh(x / cap).
public struct LogitShape: Sendable {
    public var scale: Float
    public var cap: Float?

    public init(scale: Float = 1, cap: Float? = nil) {
        self.scale = scale
        self.cap = cap
    }

    func apply(_ logits: UnsafeMutablePointer<Float>, _ count: Int) {
        if let cap {
            kernels(.f32).pointee.soft_cap(logits, scale, cap, count)
        } else if scale != 1 {
            kernels(.f32).pointee.scale_from_f32(logits, logits, scale, count)
        }
    }

    /// Turns the gradient of shaped logits, in `dtype`, into that of the products.
    func applyBackward(
        _ gradient: UnsafeMutableRawPointer, _ dtype: DType, shaped: UnsafePointer<Float>, _ count: Int
    ) {
        if scale != 1 || cap != nil {
            kernels(dtype).pointee.soft_cap_backward(gradient, shaped, scale, cap ?? .infinity, count)
        }
    }

    /// The derivative where the shaped logit has this value.
    func slope(_ shaped: Float) -> Float { scale * (1 - (cap.map { shaped / $0 * (shaped / $0) } ?? 0)) }
}

/// Factors of the rows' losses in the scalar that is differentiated, for losses that do not simply add up.
///
/// What they are may follow from the losses of all rows: then they are set after the forward pass, before
/// `Tape.backward`. Set before it, they save a head that learns its second pass.
public final class LossFactors {
    /// d scalar / d loss, one a row.
    public var values: [Float]?
    public init(_ values: [Float]? = nil) { self.values = values }
}

/// A distribution over the next token to learn from.
public struct TeacherStates {
    /// `[N, C]`, what the teacher's head takes.
    public let x: Tensor
    /// `[V, C]`
    public let head: Projection
    public let shape: LogitShape

    public init(x: Tensor, head: Projection, shape: LogitShape = LogitShape()) {
        precondition(x.width == head.inputWidth)
        self.x = x
        self.head = head
        self.shape = shape
    }
}

/// The generalised Jensen-Shannon divergence (arXiv:2306.13649, equation 1): `beta` 0 is KL(teacher | student), 1 is
/// KL(student | teacher), between them beta KL(teacher | m) + (1 - beta) KL(student | m) with
/// m = beta teacher + (1 - beta) student. Both sides' logits are divided by the temperature first.
public struct Divergence: Sendable, Equatable {
    public var beta: Double
    public var temperature: Double

    public init(beta: Double, temperature: Double) {
        self.beta = beta
        self.temperature = temperature
    }
}

extension Tape {
    /// The sum of -log softmax(x W^T)[target] over all rows; the logits of all rows never exist at once.
    ///
    /// The gradient of x is computed in the same pass, while a tile's logits are in cache; nothing else is kept.
    /// - Parameters:
    ///   - x: `[N, C]`, only rows that have a target
    ///   - head: `[V, C]`
    ///   - targets: N token ids in 0..<V
    ///   - shape: of the logits x W^T
    ///   - factors: what the rows' losses are multiplied with in what is differentiated; nil: their sum is
    /// - Returns: each row's loss, in nats, without its factor.
    public func crossEntropy(
        _ x: Tensor, head: Projection, targets: [Int32], shape: LogitShape = LogitShape(), factors: LossFactors? = nil
    ) -> [Double] {
        let vocabulary = head.outputWidth
        precondition(x.rows == targets.count && targets.allSatisfy { 0..<vocabulary ~= Int($0) })
        if head.adapter?.needsWholeLogits == true { return wholeCrossEntropy(x, head, targets, shape, factors) }
        if !head.isTrainable, head.adapter == nil { return frozenCrossEntropy(x, head, targets, shape, factors) }
        return headPass(x, head, .tokens(targets), shape, factors)
    }

    /// How far each row's distribution is from a teacher's, in nats; the logits of all rows never exist at once.
    ///
    /// Where one vocabulary is longer, as padding makes it, both are cut to the shorter.
    /// - Parameters:
    ///   - x: `[N, C]`
    ///   - head: `[V, C]`
    ///     (without DoRA or a bias of the update, nor rows that learn alone)
    ///   - teacher: states of the same N rows
    ///   - shape: of the logits x W^T
    ///   - factors: what the rows' divergences are multiplied with in what is differentiated; nil: their sum is
    public func divergence(
        _ x: Tensor, head: Projection, teacher: TeacherStates, _ divergence: Divergence,
        shape: LogitShape = LogitShape(), factors: LossFactors? = nil
    ) -> [Double] {
        precondition(x.rows == teacher.x.rows && teacher.x.dtype == x.dtype && teacher.head.adapter == nil)
        precondition(head.adapter?.needsWholeLogits != true && head.weight.rows == nil)
        return headPass(x, head, .teacher(teacher, divergence), shape, factors)
    }

    private func frozenCrossEntropy(
        _ x: Tensor, _ head: Projection, _ targets: [Int32], _ shape: LogitShape, _ factors: LossFactors?
    ) -> [Double] {
        let learns = isRecording && x.requiresGradient
        let losses = Tensor([max(1, targets.count)])
        let pass = FrozenHeadPass(
            x: x, head: head, targets: targets, shape: shape, losses: losses, dx: learns ? Tensor(x.shape, x.dtype) : nil)
        executor.rows(x.rows, .headAndLoss) { first, count, worker in pass.run(first, count, worker) }
        executor.flush()
        if learns {
            record([]) { [executor] in
                guard let dx = pass.dx else { return }
                // Without factors the loss is a sum: d scalar / d loss = 1.
                if let factors { dx.scaleRows(factors.checked(x.rows), executor) }
                x.addGradient(dx, executor)
            }
        }
        recordRowGradients(x, head, targets, losses, shape, factors)
        return targets.indices.map { Double(losses.f32[$0]) }
    }

    /// A head that learns, or a loss that takes all logits of a row.
    private func headPass(
        _ x: Tensor, _ head: Projection, _ goal: CrossEntropyPass.Goal, _ shape: LogitShape,
        _ factors: LossFactors?
    ) -> [Double] {
        let wanted = isRecording && (x.requiresGradient || head.isTrainable)
        func pass(learns: Bool) -> CrossEntropyPass {
            CrossEntropyPass(
                executor: executor, x: x, head: head, goal: goal, shape: shape, factors: factors?.values,
                dx: learns && x.requiresGradient ? Tensor(x.shape, x.dtype) : nil, learns: learns)
        }
        let isLate = factors != nil && factors?.values == nil
        let first = pass(learns: wanted && !isLate)
        let losses = first.run()
        if wanted {
            record([]) { [executor] in
                var last = first
                if isLate {
                    executor.flush()
                    _ = factors?.checked(x.rows)
                    last = pass(learns: true)
                    _ = last.run()
                }
                if let dx = last.dx { x.addGradient(dx, executor) }
            }
        }
        return losses
    }

    /// All logits, f32 `[T, V]`, for inference.
    public func logits(_ x: Tensor, head: Projection, shape: LogitShape = LogitShape()) -> Tensor {
        let vocabulary = head.outputWidth
        let result = linear(x, head, addedTo: Tensor([x.rows, vocabulary]).clearedToZero())
        executor.rows(x.rows, .headAndLoss) { first, count, _ in
            shape.apply(result.f32 + first * vocabulary, count * vocabulary)
        }
        return result
    }
}

extension LossFactors {
    func checked(_ rows: Int) -> [Float] {
        guard let values, values.count == rows else { preconditionFailure("a factor for each of \(rows) losses") }
        return values
    }
}

extension Tensor {
    fileprivate func clearedToZero() -> Tensor { fillZero(); return self }

    /// Multiplies each row by its factor.
    func scaleRows(_ factors: [Float], _ executor: Executor) {
        executor.rows(rows, .headAndLoss, bytesPerRow: 2 * width * dtype.size) { first, count, worker in
            let values = worker.floats(1, count: count * self.width)
            kernels(self.dtype).pointee.to_f32(values, self.row(first), count * self.width)
            factors.withUnsafeBufferPointer {
                kernels(self.dtype).pointee.store_rows(
                    self.row(first), self.width, values, self.width, $0.baseAddress! + first, count, self.width)
            }
        }
    }
}

/// Loss and gradient of a head that does not learn, in one pass over blocks of the vocabulary.
///
/// With p the softmax, dx = sum_v p_v W_v - W_target: attention in which the head's rows are keys and values, so that
/// the blocks' sums can be brought to a common maximum as they come (arXiv:2205.14135) and no row of logits is ever
/// kept, not even for one tile.
private struct FrozenHeadPass {
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

/// Loss and gradients of a head that learns, or of a loss that takes all logits of a row.
private struct CrossEntropyPass {
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
        let kept = learns && head.isTrainable
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
