internal import CKernels

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
            x: x, head: head, targets: targets, shape: shape, losses: losses,
            dx: learns ? Tensor(x.shape, x.dtype) : nil)
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
    fileprivate func clearedToZero() -> Tensor {
        fillZero()
        return self
    }

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
