/// Merges of a vocabulary that has scores (SentencePiece) or ranks (tiktoken) for tokens instead of a list of pairs: two
/// neighbours are joined when what they make is a token, the best token first.
///
/// As a table of pairs: every way to cut a token in two, ranked by the token's score. Equal scores share a rank, so the
/// leftmost comes first there too.
struct ScoredMerges {
    /// Pairs of tokens in order of rank.
    private(set) var merges: [(left: Int32, right: Int32)] = []
    private(set) var table = MergeTable(capacity: 0)
    /// Scalars that are no token but part of one, on the way to which they are merged; their ids follow the tokens'.
    private(set) var stepping = ByteTable()
    /// Whether such a scalar is merged with a U+2581 after it.
    private(set) var steppingCrossesMetaspace = false

    /// A cut of a longer token would come to nothing: SentencePiece's own tokens end at 16 scalars.
    private static let longestToken = 2048

    /// - Parameter isPiece: whether merging may make this token.
    init(_ vocabulary: ByteTable, _ scores: [Float], where isPiece: (Int) -> Bool = { _ in true }) {
        let order = (0..<vocabulary.count).filter { !vocabulary.range($0).isEmpty && isPiece($0) }
            .sorted { (-scores[$0], $0) < (-scores[$1], $1) }
        var ranked: [(left: UInt32, right: UInt32, rank: UInt32, id: UInt32)] = []
        let storage = vocabulary.storage.span
        var rank: UInt32 = 0
        for (place, id) in order.enumerated() {
            if place > 0, scores[order[place - 1]] != scores[id] { rank += 1 }
            let range = vocabulary.range(id)
            guard range.count <= Self.longestToken else { continue }
            var cut = range.lowerBound + utf8Length(storage[range.lowerBound])
            let second = cut
            while cut < range.upperBound {
                let next = cut + utf8Length(storage[cut])
                let left = symbol(
                    vocabulary, range.lowerBound..<cut, isScalar: cut == second, isPiece)
                if let left,
                    let right = symbol(
                        vocabulary, cut..<range.upperBound, isScalar: next == range.upperBound, isPiece)
                {
                    ranked.append((left, right, rank, UInt32(id)))
                    if Int(left) < vocabulary.count, Int(right) < vocabulary.count {
                        merges.append((Int32(left), Int32(right)))
                    } else if vocabulary[id][cut...].starts(with: BPEModel.metaspace) {
                        steppingCrossesMetaspace = true
                    }
                }
                cut = next
            }
        }
        table = MergeTable(capacity: ranked.count)
        for merge in ranked { table.insert(merge.left, merge.right, rank: merge.rank, id: merge.id) }
    }

    private mutating func symbol(
        _ vocabulary: ByteTable, _ range: Range<Int>, isScalar: Bool, _ isPiece: (Int) -> Bool
    ) -> UInt32? {
        if let id = vocabulary.find(vocabulary.storage.span, range) {
            return isScalar || isPiece(id) ? UInt32(id) : nil
        }
        guard isScalar else { return nil }
        return UInt32(vocabulary.count + stepping.insert(vocabulary.storage.span, range).index)
    }
}
