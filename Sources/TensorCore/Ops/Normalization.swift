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
        let result = Tensor([rows, width], dtype)
        let rstd = Tensor([max(rows, 1)])
        let loops = kernels(dtype)
        pool.forRanges(rows, atLeast: 32) { first, count in
            loops.pointee.rms_norm(
                result.row(first), rstd.f32 + first, x.f32 + first * width, weight.value.f32, eps, count, width)
        }
        guard x.requiresGradient || weight.isTrainable else { return result }
        record([result]) { [pool] in
            guard let d = result.takeGradient() else { return }
            if let gradient = weight.gradient {
                let block = 64
                pool.parallelFor((width + block - 1) / block) { i, _ in
                    loops.pointee.rms_norm_weight_backward(
                        gradient.f32, d.raw, x.f32, rstd.f32, rows, width, i * block, min(width, (i + 1) * block))
                }
            }
            guard x.requiresGradient else { return }
            let dx = x.gradient ?? .zeros(x.shape)
            pool.forRanges(rows, atLeast: 32) { first, count in
                loops.pointee.rms_norm_backward(
                    dx.f32 + first * width, d.row(first), x.f32 + first * width, rstd.f32 + first, weight.value.f32,
                    count, width)
            }
            x.gradient = dx
        }
        return result
    }
}
