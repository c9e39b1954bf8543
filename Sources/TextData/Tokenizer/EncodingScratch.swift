/// A token of a piece and where it ends in the buffer.
struct ModelToken {
    var id: UInt32
    var end: Int
}

/// A symbol of a word while it is merged: bytes it covers (-1 once it has been merged away) and its living neighbours.
struct BPESymbol {
    var id: UInt32
    var length: Int32
    var previous: Int32 = -1
    var next: Int32 = -1
}

/// Working memory of one encoding at a time, and a bounded memory of words already encoded.
///
/// Unchecked: it is not shared, but handed from one encoding to the next under the tokenizer's lock.
final class EncodingScratch: @unchecked Sendable {
    var symbols: [BPESymbol] = []
    /// Of a unigram model.
    var path: [PathNode] = []
    private var heap: [(key: UInt64, id: UInt32)] = []

    private var words = ByteTable()
    private var wordTokens: [ModelToken] = []
    private var wordOffsets: [Int] = [0]
    private static let longestWord = 48
    private static let mostWords = 1 << 16

    func appendRemembered(_ bytes: Span<UInt8>, _ range: Range<Int>, to tokens: inout [ModelToken]) -> Bool {
        guard range.count <= Self.longestWord, let index = words.find(bytes, range) else { return false }
        for k in wordOffsets[index]..<wordOffsets[index + 1] {
            tokens.append(ModelToken(id: wordTokens[k].id, end: wordTokens[k].end + range.lowerBound))
        }
        return true
    }

    func remember(_ bytes: Span<UInt8>, _ range: Range<Int>, _ tokens: [ModelToken], from first: Int) {
        guard range.count <= Self.longestWord else { return }
        if words.count >= Self.mostWords {
            words.removeAll()
            wordTokens.removeAll(keepingCapacity: true)
            wordOffsets.removeLast(wordOffsets.count - 1)
        }
        _ = words.insert(bytes, range)
        for k in first..<tokens.count {
            wordTokens.append(ModelToken(id: tokens[k].id, end: tokens[k].end - range.lowerBound))
        }
        wordOffsets.append(wordTokens.count)
    }

    /// Merges `symbols` until no pair has a merge; the survivors are those with a length.
    func merge(_ table: MergeTable) {
        guard symbols.count > 1 else { return }
        if symbols.count <= 24 { mergeShort(table) } else { mergeLong(table) }
    }

    /// Quadratic in the number of symbols, but without a heap: the best pair is searched for each time.
    private func mergeShort(_ table: MergeTable) {
        var ranks: [UInt64] = []
        ranks.reserveCapacity(symbols.count)
        for i in 0..<symbols.count - 1 { ranks.append(table.lookup(symbols[i].id, symbols[i + 1].id)) }
        while true {
            var best = -1
            var bestRank = UInt64.max
            for i in 0..<ranks.count where ranks[i] >> 32 < bestRank >> 32 {
                best = i
                bestRank = ranks[i]
            }
            if best < 0 { return }
            symbols[best].id = UInt32(truncatingIfNeeded: bestRank)
            symbols[best].length += symbols[best + 1].length
            symbols.remove(at: best + 1)
            ranks.remove(at: best)
            if best < ranks.count { ranks[best] = table.lookup(symbols[best].id, symbols[best + 1].id) }
            if best > 0 { ranks[best - 1] = table.lookup(symbols[best - 1].id, symbols[best].id) }
        }
    }

    /// A heap of candidate pairs over a linked list: n log n, so that a megabyte without a space is no trap.
    private func mergeLong(_ table: MergeTable) {
        let count = symbols.count
        heap.removeAll(keepingCapacity: true)
        for i in 0..<count {
            symbols[i].previous = Int32(i - 1)
            symbols[i].next = i + 1 < count ? Int32(i + 1) : -1
        }
        for i in 0..<count - 1 { pushPair(at: i, table) }
        while let top = popPair() {
            let at = Int(UInt32(truncatingIfNeeded: top.key))
            guard symbols[at].length >= 0, symbols[at].next >= 0 else { continue }
            let next = Int(symbols[at].next)
            // An entry is stale when one of its symbols has been merged since; what the pair makes now tells.
            let now = table.lookup(symbols[at].id, symbols[next].id)
            guard now != .max, UInt32(truncatingIfNeeded: now) == top.id else { continue }
            symbols[at].id = top.id
            symbols[at].length += symbols[next].length
            symbols[next].length = -1
            let following = symbols[next].next
            symbols[at].next = following
            if following >= 0 {
                symbols[Int(following)].previous = Int32(at)
                pushPair(at: at, table)
            }
            if symbols[at].previous >= 0 { pushPair(at: Int(symbols[at].previous), table) }
        }
    }

    @inline(__always)
    private func pushPair(at i: Int, _ table: MergeTable) {
        let found = table.lookup(symbols[i].id, symbols[Int(symbols[i].next)].id)
        guard found != .max else { return }
        // Lowest rank first, then leftmost.
        heap.append(((found & 0xFFFF_FFFF_0000_0000) | UInt64(UInt32(i)), UInt32(truncatingIfNeeded: found)))
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[child].key < heap[parent].key else { break }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    private func popPair() -> (key: UInt64, id: UInt32)? {
        guard let top = heap.first else { return nil }
        let last = heap.removeLast()
        guard !heap.isEmpty else { return top }
        var hole = 0
        while true {
            var child = hole * 2 + 1
            guard child < heap.count else { break }
            if child + 1 < heap.count, heap[child + 1].key < heap[child].key { child += 1 }
            guard heap[child].key < last.key else { break }
            heap[hole] = heap[child]
            hole = child
        }
        heap[hole] = last
        return top
    }
}
