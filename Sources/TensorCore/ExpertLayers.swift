/// One layer of all E experts: y = W_e x + bias_e.
public struct ExpertProjection {
    public enum Storage {
        /// `[out, in]` each.
        case separate([Weight])
        /// `[E, out, in]`, or `[E, in, out]` where it is input-major.
        case stacked(Weight, isInputMajor: Bool)
    }

    public var storage: Storage
    /// `[E, out]`, f32
    public var biases: Weight?
    public let inputWidth: Int
    public let outputWidth: Int

    public init(_ storage: Storage, biases: Weight? = nil) {
        self.storage = storage
        self.biases = biases
        switch storage {
        case .separate(let weights): (outputWidth, inputWidth) = (weights[0].shape[0], weights[0].shape[1])
        case .stacked(let weight, false): (outputWidth, inputWidth) = (weight.shape[1], weight.shape[2])
        case .stacked(let weight, true): (outputWidth, inputWidth) = (weight.shape[2], weight.shape[1])
        }
    }

    public var isTrainable: Bool {
        switch storage {
        case .separate(let weights): weights.contains(where: \.isTrainable) || biases?.isTrainable == true
        case .stacked(let weight, _): weight.isTrainable || biases?.isTrainable == true
        }
    }

    var isQuantized: Bool {
        switch storage {
        case .separate(let weights): weights[0].quantized != nil
        case .stacked(let weight, _): weight.quantized != nil
        }
    }

    /// Rows of the quantised W of an expert, `[count, in]`, in the worker's memory until the next call.
    func rows(_ expert: Int, _ first: Int, _ count: Int, _ worker: WorkerPool.Worker) -> Matrix {
        switch storage {
        case .separate(let weights): weights[expert].rows(first, count, worker)
        case .stacked(let weight, _): weight.rows(expert * outputWidth + first, count, worker)
        }
    }

    /// Has W of an expert computed where it does not exist yet; on one thread.
    func make(_ expert: Int) {
        switch storage {
        case .separate(let weights): weights[expert].make()
        case .stacked(let weight, _): weight.make(part: expert)
        }
    }

    /// W of an expert where it lies, as the second operand of y = x W: `[in, out]`.
    ///
    /// - Precondition: it is not quantised.
    func matrix(_ expert: Int) -> Matrix {
        switch storage {
        case .separate(let weights): Matrix(weights[expert].value).transposed
        case .stacked(let weight, let isInputMajor): Self.part(weight.partial, expert, isInputMajor)
        }
    }

    /// The gradient of W in the same orientation; nil when it does not learn.
    func gradient(_ expert: Int) -> Matrix? {
        switch storage {
        case .separate(let weights): weights[expert].gradient.map { Matrix($0).transposed }
        case .stacked(let weight, let isInputMajor): weight.gradient.map { Self.part($0, expert, isInputMajor) }
        }
    }

    private static func part(_ stack: Tensor, _ expert: Int, _ isInputMajor: Bool) -> Matrix {
        let matrix = Matrix(stack.row(expert), rows: stack.shape[1], columns: stack.shape[2], stack.dtype)
        return isInputMajor ? matrix : matrix.transposed
    }
}

/// Low-rank updates of a projection of the experts.
public struct ExpertAdapter {
    /// The first of the projection's outputs that it adds to.
    public var column: Int
    /// One for each expert, nil for one that has none.
    public var parts: [LowRankAdapter?]
    /// Whether they are one update of all experts, rather than updates of single ones.
    public var isStacked: Bool

    public init(column: Int = 0, parts: [LowRankAdapter?], isStacked: Bool = false) {
        self.column = column
        self.parts = parts
        self.isStacked = isStacked
    }

    /// The largest rank of an expert.
    var rank: Int { parts.reduce(0) { max($0, $1?.rank ?? 0) } }
    public var isTrainable: Bool { parts.contains { $0?.isTrainable == true } }
}

/// The routed experts of a block: y = W_down act(W_gateUp x).
public struct Experts {
    public enum Activation: Sendable {
        /// silu(gate) * up; the gates come first, then the ups.
        case swiGLU
        /// (up' + 1) gate' sigmoid(alpha gate'), gate' and up' clamped at `limit`; gates and ups alternate.
        case clampedSwiGLU(alpha: Float, limit: Float)
    }

    public let count: Int
    /// What makes the 2 F gate and up values: one layer, or the gates' and the ups'.
    public var gateUp: [ExpertProjection]
    public var down: ExpertProjection
    public var activation: Activation
    public var gateUpAdapters: [ExpertAdapter] = []
    public var downAdapters: [ExpertAdapter] = []

    public init(count: Int, gateUp: [ExpertProjection], down: ExpertProjection, activation: Activation = .swiGLU) {
        precondition(gateUp.reduce(0) { $0 + $1.outputWidth } == 2 * down.inputWidth)
        self.count = count
        self.gateUp = gateUp
        self.down = down
        self.activation = activation
    }

    /// F
    public var innerWidth: Int { down.inputWidth }
    public var isTrainable: Bool {
        down.isTrainable || gateUp.contains(where: \.isTrainable) || gateUpAdapters.contains(where: \.isTrainable)
            || downAdapters.contains(where: \.isTrainable)
    }
}

/// The tokens of a batch sorted by expert: the rows of one expert's tokens are adjacent "slots", cut into tiles.
///
/// Experts without tokens have no slot. A tile's rows are filled up to a multiple of 16, so that products have few
/// distinct shapes; the cut depends on the routing alone.
struct ExpertSlots {
    struct Tile {
        var expert: Int
        /// First slot and number of slots, the filling included.
        var first, rows: Int
        /// Slots with a token.
        var used: Int
    }

    let active: Int
    let tiles: [Tile]
    /// The tiles of each expert that has any, in the experts' order.
    let experts: [(expert: Int, tiles: Range<Int>)]
    let count: Int
    /// The choice `token * active + place` of each slot; -1 in the filling.
    let choices: [Int32]
    /// The slot of each choice.
    let slots: [Int32]

    init(_ routing: Routing, experts count: Int, width: Int) {
        active = routing.active
        // As for `RowTiles`.
        let longest = min(320, max(64, routing.indices.count / (2 * width)))
        var starts = [Int](repeating: 0, count: count + 1)
        for expert in routing.indices { starts[Int(expert) + 1] += 1 }
        for e in 0..<count { starts[e + 1] += starts[e] }
        var order = [Int32](repeating: 0, count: routing.indices.count), next = starts
        for (choice, expert) in routing.indices.enumerated() {
            order[next[Int(expert)]] = Int32(choice)
            next[Int(expert)] += 1
        }
        var tiles: [Tile] = [], experts: [(expert: Int, tiles: Range<Int>)] = []
        var choices: [Int32] = [], slots = [Int32](repeating: 0, count: order.count)
        for expert in 0..<count where starts[expert + 1] > starts[expert] {
            let rows = starts[expert + 1] - starts[expert], firstTile = tiles.count
            let parts = (rows + longest - 1) / longest, size = (rows + 16 * parts - 1) / (16 * parts) * 16
            for begin in stride(from: 0, to: rows, by: size) {
                let used = min(size, rows - begin)
                let padded = used == 1 ? 1 : (used + 15) / 16 * 16
                tiles.append(Tile(expert: expert, first: choices.count, rows: padded, used: used))
                for i in 0..<padded {
                    let choice = i < used ? order[starts[expert] + begin + i] : -1
                    if choice >= 0 { slots[Int(choice)] = Int32(choices.count) }
                    choices.append(choice)
                }
            }
            experts.append((expert, firstTile..<tiles.count))
        }
        self.tiles = tiles
        self.experts = experts
        self.choices = choices
        self.slots = slots
        self.count = choices.count
    }
}
