/// The target of a position that is not trained on.
public let ignoredTarget: Int32 = -100

/// Token ids of one training example; `isTrained[i]` says that the prediction *of* token i is trained.
public struct TokenizedExample: Sendable {
    public var ids: [Int32]
    public var isTrained: [Bool]

    public init(ids: [Int32], isTrained: [Bool]) {
        precondition(ids.count == isTrained.count)
        self.ids = ids
        self.isTrained = isTrained
    }
    /// The number of predictions that are trained: the first token of a sequence is never predicted.
    public var trainedCount: Int { isTrained.dropFirst().count { $0 } }
}

/// A flat run of T tokens with segment boundaries: no padding, no batch axis, no mask.
///
/// ```
/// tokens        a0 a1 a2 b0 b1        targets      a1 a2 -100 b1 -100
/// positions      0  1  2  0  1        segmentStarts 0 3 5  (the last entry is T)
/// ```
/// Attention never crosses a segment's start. Targets are shifted here; nothing downstream knows of masks.
public struct PackedBatch: Sendable {
    public var tokens: [Int32] = []
    public var targets: [Int32] = []
    public var positions: [Int32] = []
    public var segmentStarts: [Int] = [0]

    public init() {}
    public init(_ examples: some Sequence<TokenizedExample>) {
        for example in examples { append(example) }
    }
    /// One sequence without targets, for inference.
    public init(tokens: [Int32]) {
        append(TokenizedExample(ids: tokens, isTrained: Array(repeating: false, count: tokens.count)))
    }

    public var count: Int { tokens.count }
    public var trainedCount: Int { targets.count { $0 != ignoredTarget } }

    public mutating func append(_ example: TokenizedExample) {
        let length = example.ids.count
        guard length > 0 else { return }
        tokens.append(contentsOf: example.ids)
        for i in 0..<length {
            targets.append(i + 1 < length && example.isTrained[i + 1] ? example.ids[i + 1] : ignoredTarget)
            positions.append(Int32(i))
        }
        segmentStarts.append(tokens.count)
    }
}
