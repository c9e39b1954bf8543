/// Records operations and runs their pullbacks in reverse.
///
/// Each operation's forward pass and its pullback stand in one function (`Ops/`). Running a pullback frees what it
/// captured. On a tape that does not record, operations only compute.
public final class Tape {
    public let pool: WorkerPool
    public let isRecording: Bool
    private var pullbacks: [() -> Void] = []

    public init(pool: WorkerPool, recording: Bool) {
        self.pool = pool
        isRecording = recording
    }

    /// Registers the pullback of an operation whose `outputs` depend on something that learns.
    func record(_ outputs: [Tensor], _ pullback: @escaping () -> Void) {
        guard isRecording else { return }
        for output in outputs { output.requiresGradient = true }
        pullbacks.append(pullback)
    }

    /// Runs all pullbacks, last first. Gradients of weights are added to `Weight.gradient`.
    public func backward() {
        while let pullback = pullbacks.popLast() { pullback() }
    }

    /// Runs `block` without keeping what it would need for its pullbacks, and runs it again in the backward pass
    /// (arXiv:1604.06174). The result is the same to the bit, since every operation is deterministic.
    ///
    /// - Parameter x: `[T, C]`, the block's only differentiable input besides weights.
    /// - Parameter hasWeights: whether the block holds weights that learn.
    public func checkpoint(_ x: Tensor, hasWeights: Bool, _ block: @escaping (Tape, Tensor) -> Tensor) -> Tensor {
        guard isRecording, x.requiresGradient || hasWeights else { return block(self, x) }
        let result = block(Tape(pool: pool, recording: false), x)
        record([result]) { [pool] in
            guard let gradient = result.takeGradient() else { return }
            let inner = Tape(pool: pool, recording: true)
            let input = x.view(x.shape)
            input.requiresGradient = x.requiresGradient
            block(inner, input).gradient = gradient
            inner.backward()
            if let inputGradient = input.takeGradient() { x.addGradient(inputGradient, pool) }
        }
        return result
    }
}

extension Tensor {
    func takeGradient() -> Tensor? {
        defer { gradient = nil }
        return gradient
    }

    /// Adds `addend` (same shape, f32 or the gradient's type); without a gradient so far the buffer itself is kept.
    func addGradient(_ addend: Tensor, _ pool: WorkerPool) {
        guard let gradient else { self.gradient = addend; return }
        pool.addInPlace(gradient, addend)
    }
}
