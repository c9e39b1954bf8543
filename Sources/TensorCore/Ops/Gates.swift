internal import CKernels

extension Tape {
    /// SwiGLU (arXiv:2002.05202): silu(gate) * up, all `[T, F]`.
    public func swiGLU(gate: Tensor, up: Tensor) -> Tensor {
        let loops = kernels(gate.dtype).pointee
        return gated(gate, up, forward: loops.swiglu, backward: loops.swiglu_backward)
    }

    /// GeGLU (arXiv:2002.05202): gelu(gate) * up with GELU's approximation by tanh, all `[T, F]`.
    public func geGLU(gate: Tensor, up: Tensor) -> Tensor {
        let loops = kernels(gate.dtype).pointee
        return gated(gate, up, forward: loops.geglu, backward: loops.geglu_backward)
    }

    private typealias Forward =
        @convention(c) (UnsafeMutableRawPointer?, UnsafeRawPointer?, UnsafeRawPointer?, Int) -> Void
    private typealias Backward =
        @convention(c) (
            UnsafeMutableRawPointer?, UnsafeMutableRawPointer?, UnsafeRawPointer?, UnsafeRawPointer?, UnsafeRawPointer?,
            Int
        ) -> Void

    /// An activation of `gate` times `up`; the result can be computed again after its release.
    private func gated(_ gate: Tensor, _ up: Tensor, forward: Forward?, backward: Backward?) -> Tensor {
        precondition(gate.shape == up.shape && gate.dtype == up.dtype)
        guard let forward, let backward else { preconditionFailure("the table of loops is whole") }
        let result = Tensor(gate.shape, gate.dtype)
        let width = gate.width, rowBytes = width * gate.dtype.size
        func compute(_ result: Tensor, _ executor: Executor) {
            executor.rows(gate.rows, .activation, bytesPerRow: 3 * rowBytes) { first, count, _ in
                forward(result.row(first), gate.row(first), up.row(first), count * width)
            }
        }
        compute(result, executor)
        result.rebuilds(compute)
        guard gate.requiresGradient || up.requiresGradient else { return result }
        record([result]) { [executor] in
            guard let d = result.takeGradient() else { return }
            let (dGate, dUp) = (Tensor(gate.shape, gate.dtype), Tensor(up.shape, up.dtype))
            executor.rows(gate.rows, .activationBackward, bytesPerRow: 5 * rowBytes) { first, count, _ in
                backward(
                    dGate.row(first), dUp.row(first), d.row(first), gate.row(first), up.row(first), count * width)
            }
            if gate.requiresGradient { gate.addGradient(dGate, executor) }
            if up.requiresGradient { up.addGradient(dUp, executor) }
        }
        return result
    }
}
