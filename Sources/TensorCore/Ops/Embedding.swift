internal import CKernels

extension Tape {
    /// Rows `ids` of `table` `[V, C]`, times `scale`, as the f32 residual stream `[T, C]`.
    ///
    /// - Precondition: every id is in 0..<V; the data pipeline checks it.
    public func embedding(_ ids: [Int32], table: Weight, scale: Float = 1) -> Tensor {
        let value = table.value
        let (vocabulary, width) = (value.shape[0], value.shape[1])
        precondition(ids.allSatisfy { 0..<vocabulary ~= Int($0) }, "a token id is outside the vocabulary")
        let result = Tensor([ids.count, width])
        executor.rows(ids.count, .embedding, bytesPerRow: width * (4 + value.dtype.size)) { first, count, _ in
            for t in first..<first + count {
                kernels(value.dtype).pointee.to_f32(result.f32 + t * width, value.row(Int(ids[t])), width)
            }
            let rows = result.f32 + first * width
            if scale != 1 { kernels(.f32).pointee.scale_from_f32(rows, rows, scale, count * width) }
        }
        guard let gradient = table.gradient else { return result }
        record([result]) { [executor] in
            guard let d = result.takeGradient() else { return }
            // Split by columns: two tokens may share a row, and its sum must keep one order.
            let block = 64
            executor.loop((width + block - 1) / block, .weightGradients) { i, _ in
                let (first, count) = (i * block, min(block, width - i * block))
                for (t, id) in ids.enumerated() {
                    let row = gradient.f32 + Int(id) * width + first
                    kernels(.f32).pointee.accumulate_scaled_f32(row, d.f32 + t * width + first, scale, count)
                }
            }
        }
        return result
    }
}
