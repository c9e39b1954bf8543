/// The target of a position that is not trained on.
public let ignoredTarget: Int32 = -100

/// Token ids of one training example; `isTrained[i]` says that the prediction *of* token i is trained.
public struct TokenizedExample: Sendable {
    public var ids: [Int32]
    public var isTrained: [Bool]
    /// What the loss of each token is multiplied with, where messages have a `weight`; nil: 1.
    public var weights: [Float]?
    /// What a row of preferences says of the example.
    public var judgement: Judgement?

    /// How an answer was judged.
    public enum Judgement: Sendable {
        /// It was chosen over another answer to the same prompt; `isTrained` marks that answer's tokens.
        case chosen(ids: [Int32], isTrained: [Bool])
        /// It is good, or it is bad.
        case label(Bool)
    }

    public init(ids: [Int32], isTrained: [Bool], weights: [Float]? = nil, judgement: Judgement? = nil) {
        precondition(ids.count == isTrained.count && weights?.count ?? ids.count == ids.count)
        self.ids = ids
        self.isTrained = isTrained
        self.weights = weights
        self.judgement = judgement
    }

    /// The answer that another one was chosen over.
    public var rejected: TokenizedExample? {
        guard case .chosen(let ids, let isTrained)? = judgement else { return nil }
        return TokenizedExample(ids: ids, isTrained: isTrained)
    }
    /// Its ids and, behind a number that is no id, what it was judged by: rows are equal when these are.
    var comparedIDs: [Int32] {
        switch judgement {
        case nil: ids
        case .chosen(let rejected, _)?: ids + [-1] + rejected
        case .label(let isGood)?: ids + [isGood ? -2 : -3]
        }
    }
    /// Tokens of all its sequences.
    public var tokenCount: Int { ids.count + (rejected?.ids.count ?? 0) }
    /// Tokens of its longest sequence.
    public var longest: Int { max(ids.count, rejected?.ids.count ?? 0) }

    /// The number of predictions that are trained: the first token of a sequence is never predicted.
    public var trainedCount: Int { isTrained.dropFirst().count { $0 } }
    /// Whether every of its sequences has something that is trained.
    public var isTrainable: Bool { trainedCount > 0 && rejected?.trainedCount != 0 }
}

/// A flat run of T tokens with segment boundaries: no padding, no batch axis, no mask.
///
/// ```
/// tokens        a0 a1 a2 b0 b1        targets      a1 a2 -100 b1 -100
/// positions      0  1  2  0  1        segmentStarts 0 3 5  (the last entry is T)
/// ```
/// Only the sequence itself is packed, not an answer that it was chosen over. Attention never crosses a segment's
/// start. Targets are shifted here; nothing downstream knows of masks.
public struct PackedBatch: Sendable {
    public var tokens: [Int32] = []
    public var targets: [Int32] = []
    public var positions: [Int32] = []
    public var segmentStarts: [Int] = [0]
    /// What the loss of each position is multiplied with; nil: 1.
    public private(set) var weights: [Float]?

    public init() {}
    public init(_ examples: some Sequence<TokenizedExample>) {
        for example in examples { append(example) }
    }
    /// One sequence without targets, for inference.
    public init(tokens: [Int32]) {
        append(TokenizedExample(ids: tokens, isTrained: Array(repeating: false, count: tokens.count)))
    }

    public var count: Int { tokens.count }
    /// The positions that have a target.
    public var trainedPositions: [Int] { targets.indices.filter { targets[$0] != ignoredTarget } }
    public var trainedCount: Int { targets.count { $0 != ignoredTarget } }

    public mutating func append(_ example: TokenizedExample) {
        let length = example.ids.count
        guard length > 0 else { return }
        if example.weights != nil || weights != nil {
            weights =
                (weights ?? Array(repeating: 1, count: tokens.count))
                + (example.weights.map { $0.dropFirst() + [1] } ?? Array(repeating: 1, count: length))
        }
        tokens.append(contentsOf: example.ids)
        for i in 0..<length {
            targets.append(i + 1 < length && example.isTrained[i + 1] ? example.ids[i + 1] : ignoredTarget)
            positions.append(Int32(i))
        }
        segmentStarts.append(tokens.count)
    }
}
