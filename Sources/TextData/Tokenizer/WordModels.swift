/// WordPiece: the longest token that begins a word, then the longest that continues it, and so on; a word that cannot be
/// covered so is unknown as a whole (arXiv:1609.08144, as BERT has it).
struct WordPieceModel: Sendable {
    var vocabulary: ByteTable
    private let unknownID: UInt32?
    private let longestWord: Int
    /// Tokens that begin a word, without their prefix, and their ids; empty where they have no prefix.
    private var initial = ByteTable()
    private var initialIDs: [UInt32] = []
    /// Tokens that continue a word, without their prefix, and their ids.
    private var continuing = ByteTable()
    private var continuingIDs: [UInt32] = []
    private var longestToken = 0

    /// - Parameters:
    ///   - continuingPrefix: what tokens inside a word begin with, such as `##`.
    ///   - initialPrefix: what tokens at the start of a word begin with, such as U+2581.
    ///   - longestWord: scalars; longer words are unknown.
    init(
        vocabulary: ByteTable, unknownID: UInt32?, continuingPrefix: [UInt8], initialPrefix: [UInt8] = [],
        longestWord: Int
    ) {
        self.vocabulary = vocabulary
        self.unknownID = unknownID
        self.longestWord = longestWord
        continuing = ByteTable(capacity: vocabulary.count, bytes: vocabulary.storage.count)
        for id in 0..<vocabulary.count {
            let token = vocabulary[id]
            longestToken = max(longestToken, token.count)
            if !initialPrefix.isEmpty, token.count > initialPrefix.count, token.starts(with: initialPrefix),
                initial.insert(Array(token.dropFirst(initialPrefix.count))).isNew
            {
                initialIDs.append(UInt32(id))
            }
            guard !token.isEmpty, token.starts(with: continuingPrefix) else { continue }
            if continuing.insert(Array(token.dropFirst(continuingPrefix.count))).isNew {
                continuingIDs.append(UInt32(id))
            }
        }
    }

    /// - Returns: where the word begins when it is unknown and the model has no token for that, else nil.
    func encode(
        _ bytes: Span<UInt8>, _ range: Range<Int>, _ scratch: EncodingScratch, into tokens: inout [ModelToken]
    ) -> Int? {
        guard !range.isEmpty else { return nil }
        if scratch.appendRemembered(bytes, range, to: &tokens) { return nil }
        let first = tokens.count
        if !cover(bytes, range, into: &tokens) {
            guard let unknownID else { return range.lowerBound }
            tokens.removeSubrange(first...)
            tokens.append(ModelToken(id: unknownID, end: range.upperBound))
        }
        scratch.remember(bytes, range, tokens, from: first)
        return nil
    }

    private func cover(_ bytes: Span<UInt8>, _ range: Range<Int>, into tokens: inout [ModelToken]) -> Bool {
        var scalars = 0
        for i in range where bytes[i] & 0xC0 != 0x80 { scalars += 1 }
        guard scalars <= longestWord else { return false }
        var start = range.lowerBound
        while start < range.upperBound {
            var end = min(range.upperBound, start + longestToken)
            while end > start, end < range.upperBound, bytes[end] & 0xC0 == 0x80 { end -= 1 }
            var id: UInt32?
            while end > start {
                id = find(bytes, start..<end, isInitial: start == range.lowerBound)
                if id != nil { break }
                end = scalarStart(bytes, before: end)
            }
            guard let id else { return false }
            tokens.append(ModelToken(id: id, end: end))
            start = end
        }
        return true
    }

    private func find(_ bytes: Span<UInt8>, _ range: Range<Int>, isInitial: Bool) -> UInt32? {
        guard isInitial else { return continuing.find(bytes, range).map { continuingIDs[$0] } }
        if initialIDs.isEmpty { return vocabulary.find(bytes, range).map { UInt32($0) } }
        return initial.find(bytes, range).map { initialIDs[$0] }
    }
}

/// One token a word.
struct WordLevelModel: Sendable {
    var vocabulary: ByteTable
    var unknownID: UInt32?

    /// - Returns: where the word begins when it is unknown and the model has no token for that, else nil.
    func encode(_ bytes: Span<UInt8>, _ range: Range<Int>, into tokens: inout [ModelToken]) -> Int? {
        guard !range.isEmpty else { return nil }
        guard let id = vocabulary.find(bytes, range).map({ UInt32($0) }) ?? unknownID else { return range.lowerBound }
        tokens.append(ModelToken(id: id, end: range.upperBound))
        return nil
    }
}
