import TensorCore

/// How the rows of one pass turn.
struct Rotation {
    let table: RotaryTable
    /// The row of the table for each token.
    let rows: [Int32]
}

/// The tables of a model's rotary embeddings; they grow with the longest position seen, so that a long context costs
/// only who uses it.
struct RotaryTables {
    private let configs: [RotaryConfig]
    private var tables: [RotaryTable] = []
    private var capacity = 0

    init(_ configs: [RotaryConfig]) {
        self.configs = configs
        reserve(256)
    }

    /// After it, `rotations` of positions below `needed` only reads.
    mutating func reserve(_ needed: Int) {
        guard capacity < needed else { return }
        capacity = max(capacity, 256)
        while capacity < needed { capacity *= 2 }
        tables = configs.map { $0.table(positions: capacity, variants: $0.lastingVariants) }
    }

    /// - Parameter lengths: of the sequence that each token belongs to
    func rotations(positions: [Int32], lengths: [Int]) -> [Rotation] {
        precondition(positions.allSatisfy { 0..<capacity ~= Int($0) })
        return zip(configs, tables).map { config, table in
            let variants = lengths.map(config.variant)
            if variants.allSatisfy({ $0 == 0 }) { return Rotation(table: table, rows: positions) }
            let lasting = config.lastingVariants
            let made = Set(variants).subtracting(lasting).sorted()
            // Frequencies of a single length are not worth keeping.
            let count = made.isEmpty ? capacity : Int(positions.max() ?? 0) + 1
            let all = lasting + made
            let used = made.isEmpty ? table : config.table(positions: count, variants: all)
            let place = Dictionary(uniqueKeysWithValues: all.enumerated().map { ($1, Int32($0 * count)) })
            return Rotation(table: used, rows: zip(positions, variants).map { $0 + place[$1]! })
        }
    }
}

extension RotaryConfig {
    /// The variants whose tables are kept.
    var lastingVariants: [Int] {
        if case .longrope = scaling { [0, 1] } else { [0] }
    }

    /// Whether keys that were turned for the one length do not serve the other: all has to be computed again, as
    /// Transformers does for LongRoPE. (Its dynamic scaling keeps them.)
    func outdatesKeys(from length: Int, to longer: Int) -> Bool {
        if case .longrope = scaling { variant(ofLength: length) != variant(ofLength: longer) } else { false }
    }
}
