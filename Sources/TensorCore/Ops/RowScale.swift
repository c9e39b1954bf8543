internal import CKernels
import Foundation

extension Tape {
    /// Rows of `x` times sigmoid(gate): the gate of a shared expert.
    ///
    /// - Parameters:
    ///   - x: `[T, F]`
    ///   - gate: `[T, 1]`, f32
    public func scaleRows(_ x: Tensor, bySigmoidOf gate: Tensor) -> Tensor {
        precondition(gate.rows == x.rows && gate.width == 1 && gate.dtype == .f32)
        let result = Tensor(x.shape, x.dtype), width = x.width, loops = kernels(x.dtype)
        func sigmoid(_ row: Int) -> Float { 1 / (1 + exp(-gate.f32[row])) }
        executor.rows(x.rows, .activation, bytesPerRow: 2 * width * x.dtype.size) { first, count, _ in
            for row in first..<first + count { loops.pointee.scale(result.row(row), x.row(row), sigmoid(row), width) }
        }
        guard x.requiresGradient || gate.requiresGradient else { return result }
        record([result]) { [executor] in
            guard let d = result.takeGradient() else { return }
            x.restoreContent(executor)
            let dx = Tensor(x.shape, x.dtype), dGate = Tensor(gate.shape)
            executor.rows(x.rows, .activationBackward, bytesPerRow: 3 * width * x.dtype.size) { first, count, _ in
                loops.pointee.row_dots(dGate.f32 + first, d.row(first), width, x.row(first), width, count, width)
                for row in first..<first + count {
                    let s = sigmoid(row)
                    dGate.f32[row] *= s * (1 - s)
                    loops.pointee.scale(dx.row(row), d.row(row), s, width)
                }
            }
            if x.requiresGradient { x.addGradient(dx, executor) }
            if gate.requiresGradient { gate.addGradient(dGate, executor) }
        }
        return result
    }
}
