/// Records operations and runs their pullbacks in reverse.
///
/// Each operation's forward pass and its pullback stand in one function (`Ops/`). Running a pullback frees what it
/// captured. On a tape that does not record, operations only compute.
public final class Tape {
    public var pool: WorkerPool { executor.pool }
    public let isRecording: Bool
    let executor: Executor
    /// Gathers what matrices are multiplied with, when that is asked for.
    public var inputSquares: InputSquares?
    private var pullbacks: [() -> Void] = []
    /// Sees what goes into each linear layer.
    private let observer: ((Tensor, [Projection]) -> Void)?

    public init(pool: WorkerPool, recording: Bool) {
        executor = Executor(pool)
        isRecording = recording
        observer = nil
    }

    /// A tape that computes, and shows `observer` the inputs `[T, K]` of all linear layers.
    public init(pool: WorkerPool, observer: @escaping (Tensor, [Projection]) -> Void) {
        executor = Executor(pool)
        isRecording = false
        self.observer = observer
    }

    /// A tape whose loops go with those of `outer`.
    private init(inside outer: Tape, recording: Bool) {
        executor = outer.executor
        isRecording = recording
        observer = outer.observer
    }

    /// Lets the row-wise loops of the operations that `body` calls run together; no result may be read before it
    /// returns.
    public func fusing<R>(_ body: () throws -> R) rethrows -> R {
        observer == nil ? try executor.fusing(body) : try body()
    }

    func observe(_ x: Tensor, _ projections: [Projection]) { observer?(x, projections) }

    /// Registers the pullback of an operation whose `outputs` depend on something that learns.
    func record(_ outputs: [Tensor], _ pullback: @escaping () -> Void) {
        guard isRecording else { return }
        for output in outputs { output.requiresGradient = true }
        pullbacks.append(pullback)
    }

    /// Gives back the memory of tensors that no later operation reads, until the backward pass computes them again.
    ///
    /// The results of `rmsNorm` and `swiGLU` can be computed again; of any other tensor only the gradient can still be
    /// asked for. Nothing happens on a tape that does not record: there a tensor goes with its last holder.
    public func release(_ tensors: Tensor...) {
        guard isRecording else { return }
        for tensor in tensors { tensor.releaseContent() }
        executor.afterRows { for tensor in tensors { tensor.dropContent() } }
    }

    /// Runs all pullbacks, last first. Gradients of weights are added to `Weight.gradient`.
    public func backward() {
        executor.fusing {
            while let pullback = pullbacks.popLast() { pullback() }
        }
    }

    /// Runs `block` without keeping what it would need for its pullbacks, and runs it again in the backward pass
    /// (arXiv:1604.06174). The result is the same to the bit, since every operation is deterministic.
    ///
    /// - Parameter x: `[T, C]`, the block's only differentiable input besides weights.
    /// - Parameter hasWeights: whether the block holds weights that learn.
    public func checkpoint(_ x: Tensor, hasWeights: Bool, _ block: @escaping (Tape, Tensor) -> Tensor) -> Tensor {
        guard isRecording, x.requiresGradient || hasWeights else { return block(self, x) }
        let result = block(Tape(inside: self, recording: false), x)
        let inner = Tape(inside: self, recording: true)
        record([result]) { [executor] in
            guard let gradient = result.takeGradient() else { return }
            let input = x.view(x.shape)
            input.requiresGradient = x.requiresGradient
            block(inner, input).gradient = gradient
            inner.backward()
            if let inputGradient = input.takeGradient() { x.addGradient(inputGradient, executor) }
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
    func addGradient(_ addend: Tensor, _ executor: Executor) {
        guard let gradient else {
            self.gradient = addend
            return
        }
        executor.addInPlace(gradient, addend)
    }
}
