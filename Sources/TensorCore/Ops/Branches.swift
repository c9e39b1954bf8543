internal import CKernels

// What takes activations out of the residual stream, apart, and back into it.

extension Tape {
    /// The f32 residual stream `[T, C]` in the type of the computation, a copy.
    public func copy(_ x: Tensor, as dtype: DType) -> Tensor {
        let result = executor.copy(x, to: dtype)
        guard x.requiresGradient else { return result }
        record([result]) { [executor] in
            guard let d = result.takeGradient() else { return }
            x.addGradient(d.dtype == .f32 ? d : executor.copy(d, to: .f32), executor)
        }
        return result
    }

    /// Runs of columns of `x` `[T, sum of widths]`, each `[T, width]`: the parts of what one projection computed.
    public func split(_ x: Tensor, widths: [Int]) -> [Tensor] {
        precondition(widths.reduce(0, +) == x.width)
        let parts = widths.map { Tensor([x.rows, $0], x.dtype) }
        let starts = widths.indices.map { widths[..<$0].reduce(0, +) }
        let loops = kernels(x.dtype), size = x.dtype.size, rowBytes = x.width * size
        executor.rows(x.rows, .other, bytesPerRow: 2 * rowBytes) { first, count, _ in
            for (part, start) in zip(parts, starts) {
                loops.pointee.copy_rows(
                    part.row(first), part.width, x.row(first) + start * size, x.width, count, part.width)
            }
        }
        guard x.requiresGradient else { return parts }
        record(parts) { [executor] in
            let gradients = parts.map { $0.takeGradient() }
            guard gradients.contains(where: { $0 != nil }) else { return }
            let dx = Tensor(x.shape, x.dtype)
            executor.rows(x.rows, .other, bytesPerRow: 2 * rowBytes) { first, count, _ in
                for (gradient, (width, start)) in zip(gradients, zip(widths, starts)) {
                    guard let gradient else {
                        for row in first..<first + count {
                            (dx.row(row) + start * size).initializeMemory(
                                as: UInt8.self, repeating: 0, count: width * size)
                        }
                        continue
                    }
                    loops.pointee.copy_rows(
                        dx.row(first) + start * size, x.width, gradient.row(first), width, count, width)
                }
            }
            x.addGradient(dx, executor)
        }
        return parts
    }

    /// stream + scale * branch, f32 `[T, C]`; neither's content is needed for the gradients.
    public func add(_ branch: Tensor, times scale: Float = 1, to stream: Tensor) -> Tensor {
        precondition(branch.shape == stream.shape && stream.dtype == .f32)
        let result = Tensor(stream.shape), width = stream.width, dtype = branch.dtype
        executor.rows(stream.rows, .other, bytesPerRow: width * (8 + dtype.size)) { first, count, _ in
            let target = result.f32 + first * width
            target.update(from: stream.f32 + first * width, count: count * width)
            kernels(dtype).pointee.accumulate_scaled_f32(target, branch.row(first), scale, count * width)
        }
        guard branch.requiresGradient || stream.requiresGradient else { return result }
        record([result]) { [executor] in
            guard let d = result.takeGradient() else { return }
            if branch.requiresGradient {
                let dBranch = Tensor(branch.shape, dtype)
                executor.rows(branch.rows, .other, bytesPerRow: width * (4 + dtype.size)) { first, count, _ in
                    kernels(dtype).pointee.scale_from_f32(
                        dBranch.row(first), d.f32 + first * width, scale, count * width)
                }
                branch.addGradient(dBranch, executor)
            }
            if stream.requiresGradient { stream.addGradient(d, executor) }
        }
        return result
    }
}
