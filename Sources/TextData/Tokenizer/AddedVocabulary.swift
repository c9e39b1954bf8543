public import FileFormats

/// A token that is cut out of the text before the model sees it.
public struct AddedToken: Sendable {
    public var id: Int32
    public var content: ByteString
    /// Takes the white space before it along.
    public var lstrip: Bool
    /// Takes the white space after it along.
    public var rstrip: Bool
    /// Only counts where no word character touches it.
    public var singleWord: Bool
    /// Looked for in the normalised text, not in the input.
    public var normalized: Bool
    public var isSpecial: Bool

    public init(
        id: Int32, content: ByteString, lstrip: Bool = false, rstrip: Bool = false, singleWord: Bool = false,
        normalized: Bool = false, isSpecial: Bool = true
    ) {
        self.id = id
        self.content = content
        self.lstrip = lstrip
        self.rstrip = rstrip
        self.singleWord = singleWord
        self.normalized = normalized
        self.isSpecial = isSpecial
    }
}

/// The added tokens and how they are found in a text: leftmost first, then longest.
struct AddedVocabulary: Sendable {
    let tokens: [AddedToken]
    /// What a token that is looked for in normalised text is written as there; decoding gives that back.
    private(set) var normalizedContents: [Int32: [UInt8]] = [:]
    /// What special tokens are written as in the file.
    private let specialContents: Set<ByteString>
    private let raw: AddedStrings
    private let normalized: AddedStrings

    /// - Parameter unmatched: ids that text never becomes.
    init(_ tokens: [AddedToken], normalizer: Normalizer?, unmatched: Set<Int32> = []) throws {
        self.tokens = tokens
        specialContents = Set(tokens.lazy.filter { $0.isSpecial }.map { $0.content })
        var raw = AddedStrings.Builder()
        var normalized = AddedStrings.Builder()
        // Special tokens come first where two are written alike after normalisation.
        for wantsSpecial in [true, false] {
            for (index, token) in tokens.enumerated()
            where token.isSpecial == wantsSpecial && !unmatched.contains(token.id) {
                guard token.normalized else {
                    raw.insert(token.content.bytes, index)
                    continue
                }
                var text = NormalizedText()
                for (i, byte) in token.content.bytes.enumerated() { text.append(byte, from: i..<i + 1) }
                try normalizer?.apply(to: &text)
                normalized.insert(text.bytes, index)
                normalizedContents[token.id] = text.bytes
            }
        }
        self.raw = AddedStrings(raw)
        self.normalized = AddedStrings(normalized)
    }

    /// Whether decoding leaves a token out with the special ones. It is looked up by how it is written after normalisation,
    /// so one that normalisation changes stays, as in Hugging Face's library.
    func isSkipped(_ token: AddedToken) -> Bool {
        specialContents.contains(normalizedContents[token.id].map { ByteString($0) } ?? token.content)
    }

    /// Cuts the tokens that are looked for before normalisation out of the text.
    func splitRaw(_ text: inout TextPieces, parseSpecial: Bool) {
        split(&text, raw, parseSpecial: parseSpecial)
    }
    /// Cuts the tokens that are looked for after normalisation out of the text.
    func splitNormalized(_ text: inout TextPieces, parseSpecial: Bool) {
        split(&text, normalized, parseSpecial: parseSpecial)
    }

    private func split(_ text: inout TextPieces, _ strings: AddedStrings, parseSpecial: Bool) {
        guard !strings.matcher.isEmpty else { return }
        let table = ScalarClassTable.shared
        text.splitText { bytes, piece, pieces in
            var done = piece.start
            var i = piece.start
            // White space that a token has taken along, so that the next one in it does not go over it again.
            var spaceEnd = piece.start
            let prepared = strings.matcher.prepare(bytes, piece.range)
            while let match = strings.matcher.next(bytes, from: i, to: piece.end, prepared) {
                let token = tokens[strings.tokens[match.value]]
                i = match.end
                if !parseSpecial, token.isSpecial { continue }
                if token.singleWord {
                    let touchesBefore =
                        match.start > piece.start
                        && table[decodeScalar(bytes, at: scalarStart(bytes, before: match.start)).value].contains(.word)
                    let touchesAfter =
                        match.end < piece.end && table[decodeScalar(bytes, at: match.end).value].contains(.word)
                    if touchesBefore || touchesAfter { continue }
                }
                var start = match.start
                var end = match.end
                if token.lstrip {
                    while start > max(done, piece.start) {
                        let before = scalarStart(bytes, before: start)
                        guard table[decodeScalar(bytes, at: before).value].contains(.space) else { break }
                        start = before
                    }
                    start = max(start, done)
                }
                if token.rstrip {
                    end = max(end, spaceEnd)
                    while end < piece.end {
                        let scalar = decodeScalar(bytes, at: end)
                        guard table[scalar.value].contains(.space) else { break }
                        end += scalar.length
                    }
                    spaceEnd = end
                }
                if done < start { pieces.append(Piece(start: done, end: start)) }
                // Nothing is left of a token that a token before it took along as white space.
                if start < end { pieces.append(Piece(start: start, end: end, token: token.id)) }
                done = end
            }
            if done < piece.end { pieces.append(Piece(start: done, end: piece.end)) }
        }
    }
}

/// The strings that added tokens are written as.
private struct AddedStrings: Sendable {
    struct Builder {
        fileprivate var table = ByteTable()
        fileprivate var tokens: [Int] = []

        /// The first of two equal strings stays.
        mutating func insert(_ bytes: [UInt8], _ token: Int) {
            if !bytes.isEmpty, table.insert(bytes).isNew { tokens.append(token) }
        }
    }

    let matcher: StringMatcher
    /// By value of a match, the token's index.
    let tokens: [Int]

    init(_ builder: Builder) {
        matcher = StringMatcher(builder.table)
        tokens = builder.tokens
    }
}
