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
    private var raw: TokenTrie
    private var normalized: TokenTrie

    /// - Parameter unmatched: ids that text never becomes.
    init(_ tokens: [AddedToken], normalizer: Normalizer?, unmatched: Set<Int32> = []) throws {
        self.tokens = tokens
        specialContents = Set(tokens.lazy.filter { $0.isSpecial }.map { $0.content })
        raw = TokenTrie()
        normalized = TokenTrie()
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

    private func split(_ text: inout TextPieces, _ trie: TokenTrie, parseSpecial: Bool) {
        guard !trie.isEmpty else { return }
        let table = ScalarClassTable.shared
        text.splitText { bytes, piece, pieces in
            var done = piece.start
            var i = piece.start
            while let match = trie.next(bytes, from: i, to: piece.end) {
                let token = tokens[match.token]
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
                    while end < piece.end {
                        let scalar = decodeScalar(bytes, at: end)
                        guard table[scalar.value].contains(.space) else { break }
                        end += scalar.length
                    }
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

/// A trie over bytes that finds the longest of its strings at a position.
struct TokenTrie: Sendable {
    private struct Node: Sendable {
        var children: [(byte: UInt8, node: Int32)] = []
        var token: Int32 = -1
    }
    private var nodes = [Node()]
    private var roots = [Int32](repeating: -1, count: 256)

    var isEmpty: Bool { nodes.count == 1 }

    /// The first of two equal strings stays.
    mutating func insert(_ bytes: [UInt8], _ token: Int) {
        guard let first = bytes.first else { return }
        if roots[Int(first)] < 0 { roots[Int(first)] = newNode() }
        var node = Int(roots[Int(first)])
        for byte in bytes.dropFirst() {
            if let child = child(node, byte) {
                node = child
            } else {
                let child = newNode()
                nodes[node].children.append((byte, child))
                node = Int(child)
            }
        }
        if nodes[node].token < 0 { nodes[node].token = Int32(token) }
    }

    private mutating func newNode() -> Int32 {
        nodes.append(Node())
        return Int32(nodes.count - 1)
    }

    @inline(__always)
    private func child(_ node: Int, _ byte: UInt8) -> Int? {
        for child in nodes[node].children where child.byte == byte { return Int(child.node) }
        return nil
    }

    /// The leftmost match at or after `start`, the longest there.
    func next(_ bytes: Span<UInt8>, from start: Int, to end: Int) -> (token: Int, start: Int, end: Int)? {
        var i = start
        while i < end {
            guard roots[Int(bytes[i])] >= 0 else {
                i += 1
                continue
            }
            var node: Int? = Int(roots[Int(bytes[i])])
            var position = i + 1
            var best: (token: Int, start: Int, end: Int)?
            while let current = node {
                if nodes[current].token >= 0 { best = (Int(nodes[current].token), i, position) }
                guard position < end else { break }
                node = child(current, bytes[position])
                position += 1
            }
            if let best { return best }
            i += 1
        }
        return nil
    }
}
