/// Byte-pair encoding: a word's symbols are merged pair by pair, lowest rank first (arXiv:1508.07909).
struct BPEModel: Sendable {
    /// Tokens by id; holes between the ids are refused when the file is read.
    var vocabulary: ByteTable
    /// The two halves of each merge as token ids, in order of rank.
    var merges: [(left: Int32, right: Int32)]
    var mergeTable: MergeTable
    var unknownID: UInt32?
    var fusesUnknown: Bool
    var fallsBackToBytes: Bool
    var ignoresMerges: Bool
    var continuingPrefix: [UInt8]
    var endOfWordSuffix: [UInt8]
    /// Set when the pre-tokenizer's last step is ByteLevel, whose mapping is then done here.
    private(set) var isByteLevel: Bool

    /// Ids of the bytes `<0x00>` to `<0xFF>`, or -1; used with byte fallback.
    private var fallbackIDs: [Int32]
    /// Ids of each byte's stand-in; used with `isByteLevel`.
    private var byteIDs: [Int32] = []
    /// Tokens as the bytes they stand for, to their ids; used with `isByteLevel` and `ignoresMerges`.
    private var wholeWords = ByteTable()
    private var wholeWordIDs: [UInt32] = []
    /// Whether no merge reaches over the border before a U+2581 that follows another scalar, so that a text may be cut
    /// there and its parts remembered; true of vocabularies that split at white space.
    private var cutsAtMetaspace = false

    init(
        vocabulary: ByteTable, merges: [(left: Int32, right: Int32)], mergeTable: MergeTable, unknownID: UInt32?,
        fusesUnknown: Bool, fallsBackToBytes: Bool, ignoresMerges: Bool, continuingPrefix: [UInt8],
        endOfWordSuffix: [UInt8], isByteLevel: Bool
    ) {
        self.vocabulary = vocabulary
        self.merges = merges
        self.mergeTable = mergeTable
        self.unknownID = unknownID
        self.fusesUnknown = fusesUnknown
        self.fallsBackToBytes = fallsBackToBytes
        self.ignoresMerges = ignoresMerges
        self.continuingPrefix = continuingPrefix
        self.endOfWordSuffix = endOfWordSuffix
        fallbackIDs = (0..<256).map { byte in
            let digits = String(byte, radix: 16, uppercase: true)
            let token = "<0x" + (digits.utf8.count < 2 ? "0" : "") + digits + ">"
            return vocabulary.find(Array(token.utf8)).map { Int32($0) } ?? -1
        }
        byteIDs = ByteAlphabet.scalars.map { scalar in
            var token: [UInt8] = []
            appendScalar(scalar, to: &token)
            return vocabulary.find(token).map { Int32($0) } ?? -1
        }
        // Without a prefix or suffix a byte's token does not depend on where it stands; a byte without a token vanishes.
        self.isByteLevel =
            isByteLevel && continuingPrefix.isEmpty && endOfWordSuffix.isEmpty
            && (byteIDs.allSatisfy { $0 >= 0 } || (unknownID == nil && !fallsBackToBytes))
        if self.isByteLevel, ignoresMerges { indexWholeWords() }
        cutsAtMetaspace =
            !isByteLevel && !ignoresMerges && continuingPrefix.isEmpty && endOfWordSuffix.isEmpty
            && vocabulary.find(Self.metaspace) != nil && noMergeCrossesMetaspace()
    }

    static let metaspace: [UInt8] = [0xE2, 0x96, 0x81]

    private mutating func indexWholeWords() {
        wholeWords = ByteTable(capacity: vocabulary.count, bytes: vocabulary.storage.count)
        for id in 0..<vocabulary.count {
            guard let bytes = ByteAlphabet.decode(vocabulary.storage.span.extracting(vocabulary.range(id))),
                wholeWords.insert(bytes).isNew
            else { continue }
            wholeWordIDs.append(UInt32(id))
        }
    }

    private func noMergeCrossesMetaspace() -> Bool {
        for merge in merges {
            let right = vocabulary[Int(merge.right)]
            guard right.starts(with: Self.metaspace) else { continue }
            let left = vocabulary[Int(merge.left)]
            if !left.suffix(3).elementsEqual(Self.metaspace) { return false }
        }
        return true
    }

    /// Encodes a piece of text, appending its tokens; `end` of each is an offset into the whole of `bytes`.
    func encode(_ bytes: Span<UInt8>, _ range: Range<Int>, _ scratch: BPEScratch, into tokens: inout [ModelToken]) {
        guard !range.isEmpty else { return }
        guard cutsAtMetaspace else {
            encodeWord(bytes, range, scratch, into: &tokens)
            return
        }
        var start = range.lowerBound
        var i = start
        var previousIsMetaspace = true
        while i < range.upperBound {
            let isMetaspace = bytes[i] == 0xE2 && bytes[i + 1] == 0x96 && bytes[i + 2] == 0x81
            if isMetaspace, !previousIsMetaspace {
                encodeWord(bytes, start..<i, scratch, into: &tokens)
                start = i
            }
            previousIsMetaspace = isMetaspace
            i += utf8Length(bytes[i])
        }
        encodeWord(bytes, start..<range.upperBound, scratch, into: &tokens)
    }

    private func encodeWord(
        _ bytes: Span<UInt8>, _ range: Range<Int>, _ scratch: BPEScratch, into tokens: inout [ModelToken]
    ) {
        if scratch.appendRemembered(bytes, range, to: &tokens) { return }
        let first = tokens.count
        if ignoresMerges, let id = wholeWord(bytes, range) {
            tokens.append(ModelToken(id: id, end: range.upperBound))
        } else {
            scratch.symbols.removeAll(keepingCapacity: true)
            appendSymbols(bytes, range, to: &scratch.symbols)
            scratch.merge(mergeTable)
            var end = range.lowerBound
            for symbol in scratch.symbols where symbol.length > 0 {
                end += Int(symbol.length)
                tokens.append(ModelToken(id: symbol.id, end: end))
            }
        }
        scratch.remember(bytes, range, tokens, from: first)
    }

    private func wholeWord(_ bytes: Span<UInt8>, _ range: Range<Int>) -> UInt32? {
        if isByteLevel { return wholeWords.find(bytes, range).map { wholeWordIDs[$0] } }
        return vocabulary.find(bytes, range).map { UInt32($0) }
    }

    private func appendSymbols(_ bytes: Span<UInt8>, _ range: Range<Int>, to symbols: inout [BPESymbol]) {
        // Bytes of scalars that have no token and no stand-in; they count to the token that follows.
        var dropped: Int32 = 0
        if isByteLevel {
            for i in range {
                let id = byteIDs[Int(bytes[i])]
                if id < 0 { dropped += 1; continue }
                symbols.append(BPESymbol(id: UInt32(id), length: 1 + dropped))
                dropped = 0
            }
            return
        }
        var unknown: BPESymbol?
        var i = range.lowerBound
        while i < range.upperBound {
            let length = utf8Length(bytes[i])
            let scalar = i..<i + length
            i += length
            if let id = symbolID(
                bytes, scalar, isFirst: scalar.lowerBound == range.lowerBound, isLast: i == range.upperBound)
            {
                if let pending = unknown {
                    symbols.append(pending)
                    unknown = nil
                }
                symbols.append(BPESymbol(id: id, length: Int32(length) + dropped))
                dropped = 0
            } else if fallsBackToBytes, appendFallback(bytes, scalar, &dropped, to: &symbols) {
                continue
            } else if let unknownID {
                if let pending = unknown, fusesUnknown {
                    unknown = BPESymbol(id: unknownID, length: pending.length + Int32(length))
                } else {
                    if let pending = unknown { symbols.append(pending) }
                    unknown = BPESymbol(id: unknownID, length: Int32(length) + dropped)
                    dropped = 0
                }
            } else {
                dropped += Int32(length)
            }
        }
        if let pending = unknown { symbols.append(pending) }
    }

    private func symbolID(_ bytes: Span<UInt8>, _ scalar: Range<Int>, isFirst: Bool, isLast: Bool) -> UInt32? {
        let prefix = isFirst ? [] : continuingPrefix
        let suffix = isLast ? endOfWordSuffix : []
        if prefix.isEmpty, suffix.isEmpty { return vocabulary.find(bytes, scalar).map { UInt32($0) } }
        var symbol = prefix
        for i in scalar { symbol.append(bytes[i]) }
        return vocabulary.find(symbol + suffix).map { UInt32($0) }
    }

    private func appendFallback(
        _ bytes: Span<UInt8>, _ scalar: Range<Int>, _ dropped: inout Int32, to symbols: inout [BPESymbol]
    ) -> Bool {
        for i in scalar where fallbackIDs[Int(bytes[i])] < 0 { return false }
        for i in scalar {
            symbols.append(BPESymbol(id: UInt32(fallbackIDs[Int(bytes[i])]), length: 1 + dropped))
            dropped = 0
        }
        return true
    }
}

/// A token of a piece and where it ends in the buffer.
struct ModelToken {
    var id: UInt32
    var end: Int
}

/// A symbol of a word while it is merged: bytes it covers (0 once it has been merged away) and its living neighbours.
struct BPESymbol {
    var id: UInt32
    var length: Int32
    var previous: Int32 = -1
    var next: Int32 = -1
}

/// Working memory of one encoding at a time, and a bounded memory of words already encoded.
///
/// Unchecked: it is not shared, but handed from one encoding to the next under the tokenizer's lock.
final class BPEScratch: @unchecked Sendable {
    var symbols: [BPESymbol] = []
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
            guard symbols[at].length > 0, symbols[at].next >= 0 else { continue }
            let next = Int(symbols[at].next)
            // An entry is stale when one of its symbols has been merged since; what the pair makes now tells.
            let now = table.lookup(symbols[at].id, symbols[next].id)
            guard now != .max, UInt32(truncatingIfNeeded: now) == top.id else { continue }
            symbols[at].id = top.id
            symbols[at].length += symbols[next].length
            symbols[next].length = 0
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
