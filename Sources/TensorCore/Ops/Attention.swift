/// What attention needs to know of the heads.
public struct AttentionShape: Sendable {
    /// Query heads; each group of `heads / keyValueHeads` shares a key and value head (arXiv:2305.13245).
    public var heads: Int
    public var keyValueHeads: Int
    /// Elements of a query and of a key.
    public var headDim: Int
    /// Elements of a value; headDim unless the family says otherwise.
    public var valueDim: Int
    /// Multiplies the scores; 1 / sqrt(headDim) unless the family says otherwise.
    public var scale: Float
    /// A query sees the keys of the last `window` positions, itself included; nil sees all.
    public var window: Int?
    /// Scaled scores s become softCap tanh(s / softCap) (arXiv:2408.00118, section 2); nil leaves them.
    public var softCap: Float?

    public init(
        heads: Int, keyValueHeads: Int, headDim: Int, valueDim: Int? = nil, scale: Float? = nil, window: Int? = nil,
        softCap: Float? = nil
    ) {
        precondition(heads % keyValueHeads == 0)
        self.heads = heads
        self.keyValueHeads = keyValueHeads
        self.headDim = headDim
        self.valueDim = valueDim ?? headDim
        self.scale = scale ?? 1 / Float(headDim).squareRoot()
        self.window = window
        self.softCap = softCap
    }
    var group: Int { heads / keyValueHeads }
    /// What remains to multiply the scores with in the softmax: capped ones are scaled already.
    var softmaxScale: Float { softCap == nil ? scale : 1 }
}

extension Tape {
    /// Causal grouped-query attention inside segments; no `[T, T]` matrix, cost proportional to the segments.
    ///
    /// - Parameters:
    ///   - q: `[T, heads * headDim]`; k: `[T, keyValueHeads * headDim]`, rotated already
    ///   - v: `[T, keyValueHeads * valueDim]`
    ///   - segmentStarts: the first row of each segment, then T
    ///   - sinks: `[heads]`, f32: a score that every query of the head sees, with a value of zero (arXiv:2309.17453)
    /// - Returns: `[T, heads * valueDim]`
    public func attention(
        q: Tensor, k: Tensor, v: Tensor, segmentStarts: [Int], shape: AttentionShape, sinks: Weight? = nil
    ) -> Tensor {
        precondition(q.width == shape.heads * shape.headDim && k.width == shape.keyValueHeads * shape.headDim)
        precondition(v.width == shape.keyValueHeads * shape.valueDim && v.rows == q.rows)
        precondition(segmentStarts.first == 0 && segmentStarts.last == q.rows && k.rows == q.rows)
        let spans = zip(segmentStarts, segmentStarts.dropFirst()).map {
            Span(queryRow: $0, queries: $1 - $0, keyRow: $0, keys: $1 - $0, firstPosition: 0)
        }
        let result = Tensor([q.rows, shape.heads * shape.valueDim], q.dtype)
        let learns =
            isRecording
            && (q.requiresGradient || k.requiresGradient || v.requiresGradient || sinks?.isTrainable == true)
        let logSums = learns ? Tensor([max(1, q.rows), shape.heads]) : nil
        let pass = AttentionPass(shape: shape, q: q, k: k, v: v, sinks: sinks, output: result, logSums: logSums)
        pass.forward(spans, executor)
        guard learns else { return result }
        record([result]) { [executor] in
            guard let d = result.takeGradient() else { return }
            let (dq, dk, dv) = (Tensor(q.shape, q.dtype), Tensor(k.shape, k.dtype), Tensor(v.shape, v.dtype))
            pass.backward(spans, d, dq, dk, dv, executor)
            if q.requiresGradient { q.addGradient(dq, executor) }
            if k.requiresGradient { k.addGradient(dk, executor) }
            if v.requiresGradient { v.addGradient(dv, executor) }
        }
        return result
    }

    /// Attention of new tokens over a cache, for generation; no gradient.
    ///
    /// - Parameters:
    ///   - q: `[n, heads * headDim]`, the last n of `length` positions
    ///   - keys, values: `[capacity, keyValueHeads * headDim]` and `[.., valueDim]`, filled up to `length`
    public func cachedAttention(
        q: Tensor, keys: Tensor, values: Tensor, length: Int, shape: AttentionShape, sinks: Weight? = nil
    ) -> Tensor {
        precondition(length <= keys.rows && q.rows <= length)
        let result = Tensor([q.rows, shape.heads * shape.valueDim], q.dtype)
        let span = Span(
            queryRow: 0, queries: q.rows, keyRow: 0, keys: length, firstPosition: length - q.rows)
        AttentionPass(shape: shape, q: q, k: keys, v: values, sinks: sinks, output: result, logSums: nil)
            .forward([span], executor)
        return result
    }

    /// Copies rows into a cache from row `position` on.
    public func store(_ rows: Tensor, into cache: Tensor, at position: Int) {
        precondition(position + rows.rows <= cache.rows && rows.width == cache.width && rows.dtype == cache.dtype)
        let rowBytes = rows.width * rows.dtype.size
        executor.rows(rows.rows, .attention, bytesPerRow: 2 * rowBytes) { first, count, _ in
            cache.row(position + first).copyMemory(from: rows.row(first), byteCount: count * rowBytes)
        }
    }
}
