import FileFormats

/// How tokens become text again (`decoder` of a tokenizer.json). Tokens are UTF-8 here.
indirect enum TokenDecoder: Sendable {
    case sequence([TokenDecoder])
    case byteLevel
    case byteFallback
    case fuse
    case strip(content: UInt32, start: Int, stop: Int)
    case replace(SplitPattern, [UInt8])
    case metaspace(replacement: UInt32, dropsFirst: Bool)
    case bpe(suffix: [UInt8])
    case wordPiece(prefix: [UInt8], cleansUp: Bool)
    case ctc(pad: [UInt8], wordDelimiter: [UInt8], cleansUp: Bool)

    func apply(_ tokens: [[UInt8]]) throws -> [[UInt8]] {
        switch self {
        case .sequence(let steps):
            return try steps.reduce(tokens) { try $1.apply($0) }
        case .byteLevel:
            var joined: [UInt8] = []
            for token in tokens { joined += ByteAlphabet.decode(token.span) ?? token }
            return [repairedUTF8(joined)]
        case .byteFallback:
            return Self.joinBytes(tokens)
        case .fuse:
            return [Array(tokens.joined())]
        case .strip(let content, let start, let stop):
            return tokens.map { Self.strip($0, content, start, stop) }
        case .replace(let pattern, let content):
            return try tokens.map { try Self.replace($0, pattern, content) }
        case .metaspace(let replacement, let dropsFirst):
            return tokens.enumerated().map { index, token in
                Self.mapScalars(token) { scalar, bytes, text in
                    if scalar != replacement { text += bytes } else if index > 0 || !dropsFirst { text.append(0x20) }
                }
            }
        case .bpe(let suffix):
            return try tokens.enumerated().map { index, token in
                try Self.replace(token, .literal(suffix), index == tokens.count - 1 ? [] : [0x20])
            }
        case .wordPiece(let prefix, let cleansUp):
            return try tokens.enumerated().map { index, token in
                var text = token
                if index > 0 {
                    if text.starts(with: prefix) { text.removeFirst(prefix.count) } else { text.insert(0x20, at: 0) }
                }
                return cleansUp ? try Self.cleanUp(text) : text
            }
        case .ctc(let pad, let wordDelimiter, let cleansUp):
            var texts: [[UInt8]] = []
            for (index, token) in tokens.enumerated() where index == 0 || tokens[index - 1] != token {
                var text = try Self.replace(token, .literal(pad), [])
                if cleansUp { text = try Self.replace(Self.cleanUp(text), .literal(wordDelimiter), [0x20]) }
                if !text.isEmpty { texts.append(text) }
            }
            return texts
        }
    }

    private static func mapScalars(
        _ token: [UInt8], _ body: (UInt32, ArraySlice<UInt8>, inout [UInt8]) -> Void
    ) -> [UInt8] {
        var text: [UInt8] = []
        var i = 0
        while i < token.count {
            let scalar = decodeScalar(token.span, at: i)
            body(scalar.value, token[i..<i + scalar.length], &text)
            i += scalar.length
        }
        return text
    }

    private static func replace(_ token: [UInt8], _ pattern: SplitPattern, _ content: [UInt8]) throws -> [UInt8] {
        var segments: [Segment] = []
        try pattern.findAll(token.span, 0..<token.count, into: &segments)
        var text: [UInt8] = []
        for segment in segments { text += segment.isMatch ? content[...] : token[segment.start..<segment.end] }
        return text
    }

    /// Runs of `<0xHH>` tokens become the text they spell, or one U+FFFD a token when they spell none.
    private static func joinBytes(_ tokens: [[UInt8]]) -> [[UInt8]] {
        var texts: [[UInt8]] = []
        var pending: [UInt8] = []
        func flush() {
            guard !pending.isEmpty else { return }
            if String(validating: pending, as: UTF8.self) != nil {
                texts.append(pending)
            } else {
                texts += Array(repeating: replacementCharacter, count: pending.count)
            }
            pending.removeAll()
        }
        for token in tokens {
            if let byte = byteFallbackValue(token) {
                pending.append(byte)
            } else {
                flush()
                texts.append(token)
            }
        }
        flush()
        return texts
    }

    private static func strip(_ token: [UInt8], _ content: UInt32, _ start: Int, _ stop: Int) -> [UInt8] {
        var wanted: [UInt8] = []
        appendScalar(content, to: &wanted)
        var text = token[...]
        var cut = 0
        while cut < start, text.starts(with: wanted) {
            text = text.dropFirst(wanted.count)
            cut += 1
        }
        cut = 0
        while cut < stop, text.count >= wanted.count, text.suffix(wanted.count).elementsEqual(wanted) {
            text = text.dropLast(wanted.count)
            cut += 1
        }
        return Array(text)
    }

    private static func cleanUp(_ text: [UInt8]) throws -> [UInt8] {
        let rules = [
            (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
            (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
        ]
        return try rules.reduce(text) { try replace($0, .literal(Array($1.0.utf8)), Array($1.1.utf8)) }
    }
}

let replacementCharacter: [UInt8] = [0xEF, 0xBF, 0xBD]

/// The byte that a token `<0xHH>` stands for.
func byteFallbackValue(_ token: [UInt8]) -> UInt8? {
    guard token.count == 6, token.starts(with: [0x3C, 0x30, 0x78]), token[5] == 0x3E else { return nil }
    // "+F" reads as a number too, as it does in the reference.
    return UInt8(String(decoding: token[3..<5], as: UTF8.self), radix: 16)
}

/// Bytes with each maximal part of a broken sequence replaced by one U+FFFD (Unicode 3.9, "maximal subpart").
func repairedUTF8(_ bytes: [UInt8]) -> [UInt8] {
    String(validating: bytes, as: UTF8.self) != nil ? bytes : Array(String(decoding: bytes, as: UTF8.self).utf8)
}
