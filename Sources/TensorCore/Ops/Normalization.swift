internal import CKernels

extension Tape {
    /// RMSNorm (arXiv:1910.07467) of the f32 residual stream: x / sqrt(mean(x^2) + eps) * weight.
    ///
    /// - Parameters:
    ///   - x: `[T, C]`, f32
    ///   - weight: `[C]`, f32
    ///   - dtype: the type of the result, `[T, C]`
    public func rmsNorm(_ x: Tensor, weight: Weight, eps: Float, dtype: DType) -> Tensor {
        let (rows, width) = (x.rows, x.width)
        precondition(weight.value.count == width)
        let result = Tensor([rows, width], dtype), unit = Tensor([rows, width], dtype)
        let rstd = Tensor([max(rows, 1)])
        let loops = kernels(dtype)
        executor.rows(rows, .normalization, bytesPerRow: width * (4 + 3 * dtype.size)) { first, count, _ in
            loops.pointee.rms_norm(
                result.row(first), unit.row(first), rstd.f32 + first, x.f32 + first * width, weight.value.f32, eps,
                count, width)
        }
        result.rebuilds { result, executor in
            executor.rows(rows, .normalization, bytesPerRow: 2 * width * dtype.size) { first, count, _ in
                loops.pointee.scale_columns(result.row(first), unit.row(first), weight.value.f32, count, width)
            }
        }
        guard x.requiresGradient || weight.isTrainable else { return result }
        record([result]) { [executor] in
            guard let d = result.takeGradient() else { return }
            if let gradient = weight.gradient {
                let block = 64
                let blocks = stride(from: 0, to: width, by: block).map { first in
                    { (_: WorkerPool.Worker) in
                        loops.pointee.rms_norm_weight_backward(
                            gradient.f32, d.raw, unit.raw, rows, width, first, min(width, first + block))
                    }
                }
                executor.items(blocks, .weightGradients)
            }
            guard x.requiresGradient else { return }
            let sum = x.gradient, dx = sum ?? Tensor(x.shape)
            executor.rows(rows, .normalizationBackward, bytesPerRow: width * (8 + 2 * dtype.size)) { first, count, _ in
                let target = dx.f32 + first * width
                if sum == nil { target.update(repeating: 0, count: count * width) }
                loops.pointee.rms_norm_backward(
                    target, d.row(first), unit.row(first), rstd.f32 + first, weight.value.f32, count, width)
            }
            x.gradient = dx
        }
        return result
    }
}
