internal import CKernels

/// A named parameter: the value that operations read and, where it learns, its f32 master copy and gradient.
public final class Weight {
    public let name: String
    /// What operations multiply with, in the precision of the computation; norms and biases are always f32. Of a
    /// quantised weight it has the shape and the type alone.
    public private(set) var value: Tensor
    /// What operations see beyond the stored value: norms of some families multiply by 1 + w.
    private let offset: Float
    /// The stored value of a frozen weight that operations see with an offset.
    private var unshifted: Tensor?
    /// What the matrix of a linear layer may be kept as instead.
    public private(set) var quantized: QuantizedMatrix?
    /// Whether `quantized` has the matrices of a stack transposed.
    private(set) var isTurned = false
    /// f32; present when the weight learns.
    public private(set) var master: Tensor?
    /// The gradient's sum over the micro-batches of the step, f32; present when the weight learns.
    public private(set) var gradient: Tensor?

    /// What the weight was before an adapter changed it; nil while nothing has.
    private var base: (value: Tensor, quantized: QuantizedMatrix?)?
    /// Rows that stand in for the table's own.
    public private(set) var rows: TableRows?

    public var isTrainable: Bool { master != nil }
    /// The value as files hold it.
    public var stored: Tensor { master ?? unshifted ?? value }
    public var shape: [Int] { value.shape }

    /// A weight that does not learn; operations see `value` + `offset`, which only f32 may have.
    public init(frozen value: Tensor, name: String, offset: Float = 0) {
        self.name = name
        self.offset = offset
        unshifted = offset == 0 ? nil : value
        self.value = offset == 0 ? value : value.adding(offset)
        quantized = nil
        master = nil
        gradient = nil
    }

    /// The matrix of a linear layer, or a stack of such, frozen, in fewer bits; operations compute with it in `dtype`.
    ///
    /// - Parameters:
    ///   - shape: of a stack, whose matrices `quantized` has below each other
    ///   - isTurned: `quantized` has each matrix of the stack transposed
    public init(
        quantized: QuantizedMatrix, name: String, dtype: DType, shape: [Int]? = nil, isTurned: Bool = false
    ) {
        let shape = shape ?? [quantized.rows, quantized.columns]
        precondition(shape.reduce(1, *) == quantized.rows * quantized.columns)
        precondition(shape.last == quantized.columns || (isTurned && shape.count == 3))
        self.name = name
        self.quantized = quantized
        self.isTurned = isTurned
        value = Tensor(absent: shape, dtype)
        offset = 0
        unshifted = nil
        master = nil
        gradient = nil
    }

    /// A weight that learns; operations see `master` + `offset` in `dtype`.
    public init(trainable master: Tensor, name: String, dtype: DType, offset: Float = 0) {
        precondition(master.dtype == .f32 && (offset == 0 || dtype == .f32))
        self.name = name
        self.offset = offset
        unshifted = nil
        quantized = nil
        self.master = master
        gradient = .untouchedZeros(master.shape)
        value = offset != 0 ? master.adding(offset) : dtype == .f32 ? master : master.converted(to: dtype)
    }

    /// Makes a frozen weight learn, from `values` (f32) where they are given, else from what it is; `restore` undoes
    /// it.
    public func train(from values: Tensor? = nil) {
        precondition(!isTrainable)
        let dtype = value.dtype, start = values ?? floats
        precondition(start.shape == shape && start.dtype == .f32)
        base = base ?? (stored, quantized)
        master = start
        gradient = .untouchedZeros(shape)
        show(start, dtype)
    }

    /// Puts other values, f32, in the place of a frozen weight's; `restore` undoes it.
    public func substitute(_ values: Tensor) {
        precondition(!isTrainable && values.shape == shape && values.dtype == .f32)
        base = base ?? (stored, quantized)
        unshifted = offset == 0 ? nil : values
        show(values, value.dtype)
    }

    /// Lets operations see a stored value.
    private func show(_ stored: Tensor, _ dtype: DType) {
        quantized = nil
        value = offset != 0 ? stored.adding(offset) : stored.dtype == dtype ? stored : stored.converted(to: dtype)
    }

    /// Puts rows of their own in the place of some of a frozen table's; `restore` undoes it.
    public func substitute(_ rows: TableRows) {
        precondition(!isTrainable && rows.content.shape[1] == value.width)
        precondition(offset == 0 && quantized == nil)
        base = base ?? (value, nil)
        value = value.converted(to: value.dtype)
        self.rows = rows
        rows.write(into: value)
    }

    /// Takes back what `train` and `substitute` did.
    public func restore() {
        guard let base else { return }
        unshifted = offset == 0 ? nil : base.value
        show(base.value, base.value.dtype)
        quantized = base.quantized
        (self.base, master, gradient, rows) = (nil, nil, nil, nil)
    }

    /// Moves matrices of one width, all of which learn or none, next to each other in memory, so that one product can
    /// take them together.
    public static func stack(_ weights: [Weight]) {
        guard weights.count > 1, let first = weights.first else { return }
        let same = weights.allSatisfy {
            $0.value.width == first.value.width && $0.value.dtype == first.value.dtype
                && $0.isTrainable == first.isTrainable
        }
        guard same else { return }
        let values = joined(weights.map(\.value))
        let masters = first.value === first.master ? values : joined(weights.compactMap(\.master))
        let gradients = joined(weights.compactMap(\.gradient))
        for (i, weight) in weights.enumerated() {
            weight.value = values[i]
            guard weight.isTrainable else { continue }
            weight.master = masters[i]
            weight.gradient = gradients[i]
        }
    }

    /// Copies of the matrices in one block of memory.
    private static func joined(_ tensors: [Tensor]) -> [Tensor] {
        guard let first = tensors.first else { return [] }
        let shape = [tensors.reduce(0) { $0 + $1.rows }, first.width]
        let all = first.dtype == .f32 ? Tensor.untouchedZeros(shape) : Tensor(shape, first.dtype)
        var row = 0
        return tensors.map { tensor in
            let part = all.rowView(row, tensor.rows)
            part.copyContent(of: UnsafeRawBufferPointer(start: tensor.raw, count: tensor.byteCount))
            row += tensor.rows
            return part
        }
    }

    /// Whether `next` begins where this one ends, as `stack` leaves them.
    func isFollowed(by next: Weight) -> Bool {
        func follows(_ a: Tensor?, _ b: Tensor?) -> Bool {
            guard let a, let b else { return a == nil && b == nil }
            return a.storage === b.storage && a.storage != nil && a.raw + a.byteCount == b.raw && a.width == b.width
        }
        return follows(value, next.value) && follows(gradient, next.gradient)
    }

    /// Brings `value` up to date after the master copy changed.
    public func refresh() {
        rows?.write(into: value)
        guard let master, value !== master else { return }
        if offset != 0 {
            return master.add(offset, into: value)
        }
        kernels(value.dtype).pointee.from_f32(value.raw, master.f32, master.count)
    }
}

/// Rows of a table that an adapter brings, in place of the table's own (PEFT's trainable tokens).
public final class TableRows {
    /// The rows' numbers in the table, each once.
    public let indices: [Int]
    /// `[indices.count, C]`
    public let content: Weight
    /// The place in `content` of a row of the table.
    let places: [Int32: Int]

    public init(indices: [Int], content: Weight) {
        precondition(content.shape[0] == indices.count && Set(indices).count == indices.count)
        self.indices = indices
        self.content = content
        places = Dictionary(uniqueKeysWithValues: indices.enumerated().map { (Int32($1), $0) })
    }

    fileprivate func write(into table: Tensor) {
        content.refresh()
        for (place, index) in indices.enumerated() {
            table.row(index).copyMemory(from: content.value.row(place), byteCount: table.width * table.dtype.size)
        }
    }
}

extension Tensor {
    /// A copy of an f32 tensor with `offset` added to every element.
    fileprivate func adding(_ offset: Float) -> Tensor {
        let result = Tensor(shape)
        add(offset, into: result)
        return result
    }

    fileprivate func add(_ offset: Float, into result: Tensor) {
        let (from, to) = (f32, result.f32)
        for i in 0..<count { to[i] = from[i] + offset }
    }
}

/// A low-rank update of a linear layer (LoRA, arXiv:2106.09685): W x + scale B A x.
///
/// With a magnitude m (DoRA, arXiv:2402.09353) the rows of V = W + scale B A are brought to the lengths m:
/// m / |V| V x, in which |V| counts as a constant for the gradient. Of an embedding they are V's columns.
///
/// With a bias b the update is scale (B A x + b).
///
/// One of E experts' stacked layers holds the matrices of all in the layout of PEFT: expert e has rows
/// `e r..<(e + 1) r` of A, and of B the columns `e, e + E, e + 2 E...`. A single layer is the case E = 1.
public final class LowRankAdapter {
    /// `[E r, in]`
    public let a: Weight
    /// `[out, r E]`
    public let b: Weight
    public let scale: Float
    public let expertCount: Int
    /// `[out]`, f32, of an embedding `[in]`; nil for plain LoRA.
    public let magnitude: Weight?
    /// `[out]`, f32; nil for none.
    public let bias: Weight?
    /// scale B in the precision of the computation, expert after expert: `[E out, r]`.
    let scaledB: Tensor
    /// scale times the bias, f32 `[out]`.
    let scaledBias: Tensor?
    /// What DoRA multiplies outputs with.
    let lengths: RowLengths?

    public var rank: Int { a.shape[0] / expertCount }
    public var outputWidth: Int { b.shape[0] }
    public var inputWidth: Int { a.shape[1] }
    public var isTrainable: Bool { weights.contains(where: \.isTrainable) }
    public var weights: [Weight] { [a, b] + [magnitude, bias].compactMap { $0 } }

    /// - Parameters:
    ///   - magnitude: the lengths of the rows; they are those of W + scale B A when the adapter is new
    ///   - base: W, which operations need with a magnitude; `add` does for an embedding alone
    ///   - isEmbedding: the magnitude is of W's columns
    public init(
        a: Weight, b: Weight, scale: Float, expertCount: Int = 1, magnitude: Weight? = nil, base: Weight? = nil,
        bias: Weight? = nil, isEmbedding: Bool = false
    ) {
        precondition((magnitude == nil && bias == nil) || expertCount == 1, "DoRA and biases are for single layers")
        precondition(magnitude == nil || bias == nil, "PEFT has no bias beside a magnitude")
        precondition(a.shape[0] == b.shape[1], "A is [r, in], B is [out, r]")
        precondition(expertCount > 0 && a.shape[0] % expertCount == 0, "A has r rows for each expert")
        self.a = a
        self.b = b
        self.scale = scale
        self.expertCount = expertCount
        self.magnitude = magnitude
        self.bias = bias
        scaledBias = bias.map { Tensor($0.shape) }
        lengths = magnitude == nil ? nil : base.map { RowLengths(base: $0, ofColumns: isEmbedding) }
        scaledB = Tensor([b.shape[0] * expertCount, b.shape[1] / expertCount], a.value.dtype)
        refresh()
    }

    /// Brings the copies that operations read up to date after the masters changed.
    public func refresh() {
        a.refresh()
        b.refresh()
        let source = b.master ?? b.value.converted(to: .f32)
        defer { withExtendedLifetime(source) {} }
        let scaled = Tensor(scaledB.shape)
        let (from, to) = (source.f32, scaled.f32)
        if expertCount == 1 {
            for i in 0..<source.count { to[i] = from[i] * scale }
        } else {
            var next = 0
            for expert in 0..<expertCount {
                for row in 0..<outputWidth {
                    for i in 0..<rank {
                        to[next] = from[row * rank * expertCount + i * expertCount + expert] * scale
                        next += 1
                    }
                }
            }
        }
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

    /// A of one expert, `[r, in]`.
    func matrixA(_ expert: Int) -> Matrix { Matrix(a.value).rows(expert * rank, rank) }

    /// scale B of one expert, `[out, r]`.
    func matrixB(_ expert: Int) -> Matrix { Matrix(scaledB).rows(expert * outputWidth, outputWidth) }

    /// Adds scale times rows `first...` of one expert's share of dB, `piece` `[count, r]`.
    func addGradientOfB(_ piece: UnsafePointer<Float>, expert: Int, first: Int, count: Int) {
        guard let target = b.gradient?.f32 else { return }
        for row in 0..<count {
            let start = (first + row) * rank * expertCount + expert
            for i in 0..<rank { target[start + i * expertCount] += scale * piece[row * rank + i] }
        }
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
