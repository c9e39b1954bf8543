/// WordPiece: the longest token that begins a word, then the longest that continues it, and so on; a word that cannot be
/// covered so is unknown as a whole (arXiv:1609.08144, as BERT has it).
struct WordPieceModel: Sendable {
    var vocabulary: ByteTable
    private let unknownID: UInt32?
    private let longestWord: Int
    /// Tokens that begin a word, without their prefix, and their ids; no ids where they have no prefix.
    private let initial: StringMatcher
    private var initialIDs: [UInt32] = []
    /// Tokens that continue a word, without their prefix, and their ids.
    private let continuing: StringMatcher
    private var continuingIDs: [UInt32] = []

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
        var begin = ByteTable()
        var inside = ByteTable(capacity: vocabulary.count, bytes: vocabulary.storage.count)
        for id in 0..<vocabulary.count {
            let token = vocabulary[id]
            if !initialPrefix.isEmpty, token.count > initialPrefix.count, token.starts(with: initialPrefix),
                begin.insert(Array(token.dropFirst(initialPrefix.count))).isNew
            {
                initialIDs.append(UInt32(id))
            }
            guard !token.isEmpty, token.starts(with: continuingPrefix) else { continue }
            if inside.insert(Array(token.dropFirst(continuingPrefix.count))).isNew {
                continuingIDs.append(UInt32(id))
            }
        }
        // Tokens end where scalars do.
        func isText(_ bytes: ArraySlice<UInt8>) -> Bool { String(validating: bytes, as: UTF8.self) != nil }
        initial =
            initialIDs.isEmpty
            ? StringMatcher(vocabulary) { isText(vocabulary[$0]) && vocabulary.find(Array(vocabulary[$0])) == $0 }
            : StringMatcher(begin) { isText(begin[$0]) }
        continuing = StringMatcher(inside) { isText(inside[$0]) }
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
        guard
            let first = initial.longestMatch(
                bytes, at: range.lowerBound, to: range.upperBound, initial.prepare(bytes, range))
        else { return false }
        tokens.append(
            ModelToken(id: initialIDs.isEmpty ? UInt32(first.value) : initialIDs[first.value], end: first.end))
        var start = first.end
        let prepared = continuing.prepare(bytes, range)
        while start < range.upperBound {
            guard let match = continuing.longestMatch(bytes, at: start, to: range.upperBound, prepared) else {
                return false
            }
            tokens.append(ModelToken(id: continuingIDs[match.value], end: match.end))
            start = match.end
        }
        return true
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
