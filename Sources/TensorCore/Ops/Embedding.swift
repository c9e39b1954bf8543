internal import CKernels

extension Tape {
    /// Rows `ids` of `table` `[V, C]`, with a low-rank update of it, if any, times `scale`, as the f32 residual stream
    /// `[T, C]`.
    ///
    /// - Precondition: every id is in 0..<V; the data pipeline checks it.
    /// - Parameter adapter: A `[r, C]`, B `[V, r]`: PEFT's `lora_embedding_B` and `lora_embedding_A`, transposed; with
    ///   a magnitude `[C]` the columns of the sum are brought to these lengths.
    public func embedding(_ ids: [Int32], table: Weight, scale: Float = 1, adapter: LowRankAdapter? = nil) -> Tensor {
        let value = table.value
        let (vocabulary, width) = (value.shape[0], value.shape[1])
        precondition(ids.allSatisfy { 0..<vocabulary ~= Int($0) }, "a token id is outside the vocabulary")
        let result = Tensor([ids.count, width])
        let low = adapter.map { Tensor([max(1, ids.count), $0.rank], $0.a.value.dtype) }
        let gains = adapter?.lengths?.gains
        // The sums before their gain.
        let unscaled = isRecording && adapter?.magnitude?.isTrainable == true ? Tensor(result.shape) : nil
        executor.rows(ids.count, .embedding, bytesPerRow: width * (4 + value.dtype.size)) { first, count, worker in
            for t in first..<first + count {
                kernels(value.dtype).pointee.to_f32(
                    result.f32 + t * width, table.rows(Int(ids[t]), 1, worker).pointer, width)
                if let adapter, let low {
                    low.row(t).copyMemory(
                        from: adapter.scaledB.row(Int(ids[t])), byteCount: low.width * low.dtype.size)
                }
            }
            if let adapter, let low {
                worker.multiply(
                    Matrix(low).rows(first, count), Matrix(adapter.a.value), into: Matrix(result).rows(first, count),
                    accumulate: true)
            }
            let rows = result.f32 + first * width
            if let gains {
                unscaled?.row(first).copyMemory(from: rows, byteCount: count * width * 4)
                for t in 0..<count { for i in 0..<width { rows[t * width + i] *= gains.f32[i] } }
            }
            if scale != 1 { kernels(.f32).pointee.scale_from_f32(rows, rows, scale, count * width) }
        }
        let rows = table.rows
        guard table.isTrainable || rows?.content.isTrainable == true || adapter?.isTrainable == true else {
            return result
        }
        record([result]) { [executor] in
            guard let d = result.takeGradient() else { return }
            let gather = EmbeddingGradients(executor: executor, ids: ids, d: d, scale: scale)
            if let gradient = table.gradient { gather.add(to: gradient) { Int($0) } }
            if let rows, let gradient = rows.content.gradient { gather.add(to: gradient) { rows.places[$0] } }
            guard let adapter, let low else { return }
            if let unscaled { gather.addMagnitude(of: adapter, unscaled) }
            var scaled = gather
            if let gains { scaled.d = executor.scalingColumns(d, by: gains) }
            scaled.add(to: adapter, low)
        }
        return result
    }
}

/// Gradients of what an embedding's rows are made of, from those of its result.
private struct EmbeddingGradients {
    let executor: Executor
    let ids: [Int32]
    /// `[T, C]`, f32
    var d: Tensor
    let scale: Float

    /// Adds the rows of `d` to the rows of `gradient` that `place` names for their tokens.
    func add(to gradient: Tensor, place: (Int32) -> Int?) {
        let places = ids.map(place), width = d.width
        // Split by columns: two tokens may share a row, and its sum must keep one order.
        let block = 64
        executor.loop((width + block - 1) / block, .weightGradients) { i, _ in
            let (first, count) = (i * block, min(block, width - i * block))
            for (t, place) in places.enumerated() {
                guard let place else { continue }
                let row = gradient.f32 + place * width + first
                kernels(.f32).pointee.accumulate_scaled_f32(row, d.f32 + t * width + first, scale, count)
            }
        }
    }

    /// dm = sum over tokens of d V / |V|, column by column.
    func addMagnitude(of adapter: LowRankAdapter, _ unscaled: Tensor) {
        guard let gradient = adapter.magnitude?.gradient, let norms = adapter.lengths?.norms else { return }
        let width = d.width, block = 64
        executor.loop((width + block - 1) / block, .weightGradients) { item, _ in
            for i in item * block..<min(width, (item + 1) * block) {
                var sum = 0.0
                for t in ids.indices { sum += Double(d.f32[t * width + i] * unscaled.f32[t * width + i]) }
                gradient.f32[i] += scale * Float(sum) / norms.f32[i]
            }
        }
    }

    /// dA = low^T d; of B, the rows of the tokens: scale d A^T.
    func add(to adapter: LowRankAdapter, _ low: Tensor) {
        let rank = adapter.rank, block = 256, d = Tensor(self.d.shape, low.dtype)
        executor.rows(d.rows, .embedding, bytesPerRow: d.width * (4 + d.dtype.size)) { first, count, _ in
            kernels(d.dtype).pointee.scale_from_f32(d.row(first), self.d.f32 + first * d.width, scale, count * d.width)
        }
        executor.flush()
        let dLow = Tensor([max(1, ids.count), rank])
        executor.loop((d.width + block - 1) / block + 1, .weightGradients) { i, worker in
            guard i > 0 else {
                worker.multiply(Matrix(d), Matrix(adapter.a.value).transposed, into: Matrix(dLow).rows(0, ids.count))
                return
            }
            guard let gradient = adapter.a.gradient else { return }
            let first = (i - 1) * block, count = min(block, d.width - first)
            worker.multiply(
                Matrix(low).rows(0, ids.count).transposed, Matrix(d).columns(first, count),
                into: Matrix(gradient).columns(first, count), accumulate: true)
        }
        guard let gradient = adapter.b.gradient else { return }
        for (t, id) in ids.enumerated() {
            let row = gradient.f32 + Int(id) * rank
            for i in 0..<rank { row[i] += adapter.scale * dLow.f32[t * rank + i] }
        }
    }
}

extension Executor {
    /// x, f32 `[T, C]`, with its columns multiplied by `gains` `[C]`.
    fileprivate func scalingColumns(_ x: Tensor, by gains: Tensor) -> Tensor {
        let result = Tensor(x.shape)
        rows(x.rows, .embedding, bytesPerRow: 8 * x.width) { first, count, _ in
            kernels(.f32).pointee.scale_columns(result.row(first), x.row(first), gains.f32, count, x.width)
        }
        flush()
        return result
    }
}
