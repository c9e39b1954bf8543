internal import CKernels

extension Tape {
    /// RMSNorm (arXiv:1910.07467): x / sqrt(mean(x^2) + eps) * weight, over runs of C elements.
    ///
    /// - Parameters:
    ///   - x: `[T, n * C]`, of the f32 residual stream, or of activations in `dtype`
    ///   - weight: `[C]`, f32; with n > 1, as for the heads of queries, each run has a norm of its own
    ///   - dtype: the type of the result, of x's shape
    public func rmsNorm(_ x: Tensor, weight: Weight, eps: Float, dtype: DType) -> Tensor {
        let (rows, rowWidth, width) = (x.rows, x.width, weight.value.count), groups = rowWidth / width
        precondition(rowWidth == groups * width && (x.dtype == .f32 || x.dtype == dtype))
        let result = Tensor(x.shape, dtype), unit = Tensor(x.shape, dtype)
        let rstd = Tensor([max(rows * groups, 1)])
        let loops = kernels(dtype), bytes = rowWidth * (x.dtype.size + 3 * dtype.size)
        executor.rows(rows, .normalization, bytesPerRow: bytes) { first, count, worker in
            var input = UnsafePointer<Float>?.none
            if x.dtype == .f32 { input = UnsafePointer(x.f32 + first * rowWidth) }
            let values = input ?? x.widenedRows(first, count, worker)
            loops.pointee.rms_norm(
                result.row(first), unit.row(first), rstd.f32 + first * groups, values, weight.value.f32, eps,
                count * groups, width)
        }
        result.rebuilds { result, executor in
            executor.rows(rows, .normalization, bytesPerRow: 2 * rowWidth * dtype.size) { first, count, _ in
                loops.pointee.scale_columns(
                    result.row(first), unit.row(first), weight.value.f32, count * groups, width)
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
                            gradient.f32, d.raw, unit.raw, rows * groups, width, first, min(width, first + block))
                    }
                }
                executor.items(blocks, .weightGradients)
            }
            guard x.requiresGradient else { return }
            let sum = x.dtype == .f32 ? x.gradient : nil, dx = sum ?? Tensor(x.shape, x.dtype)
            let bytes = rowWidth * (8 + 2 * dtype.size)
            executor.rows(rows, .normalizationBackward, bytesPerRow: bytes) { first, count, worker in
                let target =
                    x.dtype == .f32
                    ? dx.f32 + first * rowWidth : worker.floats(1, count: count * rowWidth)
                if sum == nil { target.update(repeating: 0, count: count * rowWidth) }
                loops.pointee.rms_norm_backward(
                    target, d.row(first), unit.row(first), rstd.f32 + first * groups, weight.value.f32,
                    count * groups, width)
                if x.dtype != .f32 { loops.pointee.from_f32(dx.row(first), target, count * rowWidth) }
            }
            if x.dtype == .f32 { x.gradient = dx } else { x.addGradient(dx, executor) }
        }
        return result
    }
}

extension Tensor {
    /// Rows as f32 in a worker's scratch memory.
    fileprivate func widenedRows(_ first: Int, _ count: Int, _ worker: WorkerPool.Worker) -> UnsafePointer<Float> {
        let values = worker.floats(1, count: count * width)
        kernels(dtype).pointee.to_f32(values, row(first), count * width)
        return UnsafePointer(values)
    }
}
