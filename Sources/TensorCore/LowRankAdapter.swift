internal import CKernels

/// A low-rank update of a linear layer (LoRA, arXiv:2106.09685): W x + scale B A x.
///
/// With a magnitude m (DoRA, arXiv:2402.09353) the rows of V = W + scale B A are brought to the lengths m:
/// m / |V| V x, in which |V| counts as a constant for the gradient. Of an embedding they are V's columns.
///
/// With a bias b the update is scale (B A x + b).
///
/// One whose weights are not made yet is to be `make`d before operations see it.
public final class LowRankAdapter {
    /// `[r, in]`
    public let a: Weight
    /// `[out, r]`
    public let b: Weight
    public let scale: Float
    /// `[out]`, f32, of an embedding `[in]`; nil for plain LoRA.
    public let magnitude: Weight?
    /// `[out]`, f32; nil for none.
    public let bias: Weight?
    /// scale B in the precision of the computation, `[out, r]`; absent until A and B are made.
    private(set) var scaledB: Tensor
    private var isMade = false
    /// scale times the bias, f32 `[out]`.
    let scaledBias: Tensor?
    /// What DoRA multiplies outputs with.
    let lengths: RowLengths?

    public var rank: Int { a.shape[0] }
    public var outputWidth: Int { b.shape[0] }
    public var inputWidth: Int { a.shape[1] }
    public var isTrainable: Bool { weights.contains(where: \.isTrainable) }
    public var weights: [Weight] { [a, b] + [magnitude, bias].compactMap { $0 } }

    /// - Parameters:
    ///   - magnitude: the lengths of the rows; they are those of W + scale B A when the adapter is new
    ///   - base: W, which operations need with a magnitude; `add` does for an embedding alone
    ///   - isEmbedding: the magnitude is of W's columns
    public init(
        a: Weight, b: Weight, scale: Float, magnitude: Weight? = nil, base: Weight? = nil, bias: Weight? = nil,
        isEmbedding: Bool = false
    ) {
        precondition(magnitude == nil || bias == nil, "PEFT has no bias beside a magnitude")
        precondition(a.shape[0] == b.shape[1], "A is [r, in], B is [out, r]")
        self.a = a
        self.b = b
        self.scale = scale
        self.magnitude = magnitude
        self.bias = bias
        scaledBias = bias.map { Tensor($0.shape) }
        lengths = magnitude == nil ? nil : base.map { RowLengths(base: $0, ofColumns: isEmbedding) }
        scaledB = Tensor(absent: b.shape, a.dtype)
        refresh()
    }

    /// Makes what is not made yet, so that operations can read it. No other thread may use the update meanwhile.
    public func make() {
        guard !isMade else { return }
        a.make()
        b.make()
        refresh()
    }

    /// Brings the copies that operations read up to date after the masters changed.
    public func refresh() {
        guard a.isMade || b.isMade else { return }
        if !isMade {
            isMade = true
            scaledB = Tensor(b.shape, a.dtype)
        }
        a.refresh()
        b.refresh()
        let source = b.master ?? b.value.converted(to: .f32)
        defer { withExtendedLifetime(source) {} }
        let scaled = Tensor(b.shape)
        let (from, to) = (source.f32, scaled.f32)
        for i in 0..<source.count { to[i] = from[i] * scale }
        kernels(scaledB.dtype).pointee.from_f32(scaledB.raw, scaled.f32, scaled.count)
        if let bias, let scaledBias {
            bias.refresh()
            for i in 0..<scaledBias.count { scaledBias.f32[i] = bias.value.f32[i] * scale }
        }
        if let magnitude, let lengths {
            magnitude.refresh()
            lengths.measure(a: a.value.converted(to: .f32), scaledB: scaled, magnitude: magnitude.value)
        }
    }

    /// Adds scale times rows `first...` of dB, `piece` `[count, r]`.
    func addGradientOfB(_ piece: UnsafePointer<Float>, first: Int, count: Int) {
        guard let target = b.gradient?.f32 else { return }
        for i in 0..<count * rank { target[first * rank + i] += scale * piece[i] }
    }

    /// Adds rows of scale B A to the same rows of W, `weights` [rows, in], on the calling worker alone.
    ///
    /// - Precondition: A and B are f32.
    /// With a magnitude, brings the rows to their lengths afterwards.
    /// - Returns: the largest magnitude that was added.
    public func add(
        rows: Range<Int>, to weights: UnsafeMutableBufferPointer<Float>, worker: WorkerPool.Worker
    ) -> Float {
        let width = a.shape[1], count = weights.count
        precondition(count == rows.count * width && rows.lowerBound >= 0 && rows.upperBound <= b.shape[0])
        guard let sum = weights.baseAddress else { return 0 }
        let update = worker.floats(1, count: count)
        worker.multiply(
            Matrix(scaledB).rows(rows.lowerBound, rows.count), Matrix(a.value),
            into: Matrix(update, rows: rows.count, columns: width, .f32))
        // The bits of magnitudes order as integers do.
        var largest: Int32 = 0
        for i in 0..<count {
            largest = max(largest, Int32(bitPattern: update[i].bitPattern & 0x7FFF_FFFF))
            sum[i] += update[i]
        }
        let change = Float(bitPattern: UInt32(bitPattern: largest))
        guard let magnitude else { return change }
        if let lengths, lengths.isOfColumns { return max(change, lengths.scaleColumns(of: sum, rows.count)) }
        return max(change, RowLengths.set(magnitude.value.f32 + rows.lowerBound, sum, rows.count, width))
    }
}

/// A linear layer as operations see it: y = W x + bias (+ the low-rank update).
public struct Projection {
    /// `[out, in]`
    public var weight: Weight
    /// `[out]`, f32
    public var bias: Weight?
    public var adapter: LowRankAdapter?

    public init(weight: Weight, bias: Weight? = nil, adapter: LowRankAdapter? = nil) {
        self.weight = weight
        self.bias = bias
        self.adapter = adapter
    }

    public var inputWidth: Int { weight.shape[1] }
    public var outputWidth: Int { weight.shape[0] }
    public var isTrainable: Bool {
        weight.isTrainable || bias?.isTrainable == true || adapter?.isTrainable == true
    }
}
