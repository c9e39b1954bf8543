internal import CKernels
import Foundation

/// A named parameter: the value that operations read and, where it learns, its f32 master copy and gradient.
public final class Weight {
    public let name: String
    public let shape: [Int]
    /// Of what operations see.
    public var dtype: DType { shown.dtype }
    /// What operations multiply with, in the precision of the computation; norms and biases are always f32. Of a
    /// quantised weight it has the shape and the type alone.
    public var value: Tensor {
        make()
        return shown
    }
    private var shown: Tensor
    /// What operations see beyond the stored value: norms of some families multiply by 1 + w.
    private let offset: Float
    /// The stored value of a frozen weight that operations see with an offset.
    private var unshifted: Tensor?
    /// What the matrix of a linear layer may be kept as instead.
    public private(set) var quantized: QuantizedMatrix?
    /// Whether `quantized` has the matrices of a stack transposed.
    private(set) var isTurned = false
    /// f32; present when the weight learns.
    public var master: Tensor? {
        if missing?.learns == true { make() }
        return learned?.master
    }
    /// The gradient's sum over the micro-batches of the step, f32; present when the weight learns.
    public var gradient: Tensor? {
        if missing?.learns == true { make() }
        return learned?.gradient
    }
    private var learned: (master: Tensor, gradient: Tensor)?
    private var missing: Missing?

    /// What does not exist yet.
    private struct Missing {
        /// Parts that the first dimension is cut into: whether each is missing. A weight that learns is one.
        var parts: [Bool]
        let learns: Bool
        let values: (_ part: Int) -> Tensor
    }

    /// What the weight was before an adapter changed it; nil while nothing has.
    private var base: (value: Tensor, quantized: QuantizedMatrix?)?
    /// Rows that stand in for the table's own.
    public private(set) var rows: TableRows?

    public var isTrainable: Bool { learned != nil || missing?.learns == true }
    /// Whether all of the value exists. Where it is deferred, it does once something asked for it.
    public var isMade: Bool { missing == nil }
    /// The value as files hold it; a start that does not exist yet is made for the caller alone.
    public var stored: Tensor { start() ?? learned?.master ?? unshifted ?? value }
    /// The value, as far as it exists.
    var partial: Tensor { shown }

    /// A weight that does not learn; operations see `value` + `offset`, which only f32 may have.
    public init(frozen value: Tensor, name: String, offset: Float = 0) {
        self.name = name
        self.offset = offset
        shape = value.shape
        unshifted = offset == 0 ? nil : value
        shown = offset == 0 ? value : value.adding(offset)
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
        self.shape = shape
        self.quantized = quantized
        self.isTurned = isTurned
        shown = Tensor(absent: shape, dtype)
        offset = 0
    }

    /// A weight that learns; operations see `master` + `offset` in `dtype`.
    public init(trainable master: Tensor, name: String, dtype: DType, offset: Float = 0) {
        precondition(master.dtype == .f32 && (offset == 0 || dtype == .f32))
        self.name = name
        self.offset = offset
        shape = master.shape
        shown = offset != 0 ? master.adding(offset) : dtype == .f32 ? master : master.converted(to: dtype)
        learned = (master, .untouchedZeros(shape))
    }

    /// A weight that learns and takes up no memory until something asks for its value.
    ///
    /// - Parameter start: gives what it starts as, f32 of this shape; always the same, since what nothing asked for is
    ///   computed anew each time that it is saved.
    public init(trainable shape: [Int], name: String, dtype: DType, start: @escaping () -> Tensor) {
        self.name = name
        self.shape = shape
        offset = 0
        shown = Tensor(absent: shape, dtype)
        missing = Missing(parts: [true], learns: true) { _ in start() }
    }

    /// A frozen weight of which nothing takes up memory until something asks for it.
    ///
    /// - Parameters:
    ///   - parts: as many as its first dimension is cut into
    ///   - values: gives the elements of a part, f32
    public init(
        frozen shape: [Int], name: String, dtype: DType, parts: Int, values: @escaping (_ part: Int) -> Tensor
    ) {
        precondition(parts > 0 && shape[0] % parts == 0)
        self.name = name
        self.shape = shape
        offset = 0
        shown = .untouchedZeros(shape, dtype)
        missing = Missing(parts: Array(repeating: true, count: parts), learns: false, values: values)
    }

    /// What a weight that learns starts as, while that does not exist.
    private func start() -> Tensor? { missing.flatMap { $0.learns ? $0.values(0) : nil } }

    /// Computes a part of the value where it does not exist yet. No other thread may use the weight meanwhile.
    func make(part: Int) {
        guard let missing, missing.parts[part] else { return }
        let values = missing.values(part)
        precondition(values.count * missing.parts.count == shown.count && values.dtype == .f32)
        if missing.learns {
            learned = (values, .untouchedZeros(shape))
            show(values, dtype)
        } else {
            values.withFloats {
                kernels(dtype).pointee.from_f32(shown.raw + part * $0.count * dtype.size, $0.baseAddress!, $0.count)
            }
        }
        self.missing!.parts[part] = false
        if !self.missing!.parts.contains(true) { self.missing = nil }
    }

    /// Computes the value where it does not exist yet. No other thread may use the weight meanwhile.
    public func make() { for part in missing?.parts.indices ?? 0..<0 { make(part: part) } }

    /// Takes over a saved value, f32; what equals a start that does not exist yet goes on taking up no memory.
    public func load(_ bytes: UnsafeRawBufferPointer) {
        let isStart = start()?.withBytes {
            $0.count == bytes.count && memcmp($0.baseAddress!, bytes.baseAddress!, $0.count) == 0
        }
        if isStart == true { return }
        master?.copyContent(of: bytes)
    }

    /// Makes a frozen weight learn, from `values` (f32) where they are given, else from what it is; `restore` undoes
    /// it.
    public func train(from values: Tensor? = nil) {
        precondition(!isTrainable)
        let dtype = value.dtype, start = values ?? floats
        precondition(start.shape == shape && start.dtype == .f32)
        base = base ?? (stored, quantized)
        learned = (start, .untouchedZeros(shape))
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
        shown = offset != 0 ? stored.adding(offset) : stored.dtype == dtype ? stored : stored.converted(to: dtype)
    }

    /// Puts rows of their own in the place of some of a frozen table's; `restore` undoes it.
    public func substitute(_ rows: TableRows) {
        precondition(!isTrainable && rows.content.shape[1] == value.width)
        precondition(offset == 0 && quantized == nil)
        base = base ?? (value, nil)
        shown = value.converted(to: value.dtype)
        self.rows = rows
        rows.write(into: shown)
    }

    /// Takes back what `train` and `substitute` did.
    public func restore() {
        guard let base else { return }
        unshifted = offset == 0 ? nil : base.value
        show(base.value, base.value.dtype)
        quantized = base.quantized
        (self.base, learned, rows) = (nil, nil, nil)
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
            weight.shown = values[i]
            if weight.isTrainable { weight.learned = (masters[i], gradients[i]) }
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
        rows?.write(into: shown)
        guard let master = learned?.master, shown !== master else { return }
        if offset != 0 {
            return master.add(offset, into: shown)
        }
        kernels(shown.dtype).pointee.from_f32(shown.raw, master.f32, master.count)
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
