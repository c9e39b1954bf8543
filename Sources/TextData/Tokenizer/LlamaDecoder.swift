/// What llama.cpp makes of ids (`llama_detokenize`): each token by its type, then, for some vocabularies, a clean-up of the
/// spaces before punctuation.
struct LlamaDecoder: Sendable {
    /// How the text of an ordinary token is written.
    enum Spelling: Sendable {
        /// U+2581 is a space.
        case metaspace
        /// GPT-2's printable alphabet.
        case byteAlphabet
    }
    var types: [GGUFVocabulary.TokenType]
    var spelling: Spelling
    var stripsLeadingSpace: Bool
    var cleansSpaces: Bool
    /// What encoding puts before and after a text, if it does.
    var bos: Int32?
    var eos: Int32?

    /// - Parameter piece: a token as the vocabulary writes it.
    func decode(_ ids: [Int32], skipSpecial: Bool, piece: (Int32) -> ArraySlice<UInt8>) -> [UInt8] {
        var ids = ids[...]
        var stripsSpace = stripsLeadingSpace
        if skipSpecial, let bos, ids.first == bos {
            ids.removeFirst()
            stripsSpace = false
        }
        if skipSpecial, let eos, ids.last == eos { ids.removeLast() }
        var text: [UInt8] = []
        for id in ids where id >= 0 && Int(id) < types.count {
            var bytes = self.text(of: id, piece(id), skipSpecial: skipSpecial)[...]
            if stripsSpace, bytes.first == 0x20 { bytes.removeFirst() }
            stripsSpace = false
            text += bytes
        }
        return cleansSpaces ? Self.cleaned(text) : text
    }

    private func text(of id: Int32, _ token: ArraySlice<UInt8>, skipSpecial: Bool) -> [UInt8] {
        switch types[Int(id)] {
        case .unknown, .control: return skipSpecial ? [] : Array(token)
        case .userDefined: return Array(token)
        case .byte: return byteFallbackValue(Array(token)).map { [$0] } ?? []
        case .unused: return []
        case .normal:
            switch spelling {
            case .metaspace:
                var result: [UInt8] = []
                var rest = token
                while let first = rest.first {
                    let isSpace = rest.starts(with: BPEModel.metaspace)
                    result.append(isSpace ? 0x20 : first)
                    rest = rest.dropFirst(isSpace ? 3 : 1)
                }
                return result
            case .byteAlphabet: return Self.bytes(of: Array(token))
            }
        }
    }

    /// Scalars outside the alphabet become a note, as they do there.
    private static func bytes(of token: [UInt8]) -> [UInt8] {
        if let bytes = ByteAlphabet.decode(token.span) { return bytes }
        var text: [UInt8] = []
        var i = 0
        while i < token.count {
            let scalar = decodeScalar(token.span, at: i)
            if let byte = ByteAlphabet.byte(of: scalar.value) {
                text.append(byte)
            } else {
                text += "[UNK_BYTE_0x".utf8
                for byte in token[i..<i + scalar.length] {
                    text += "\(byte < 16 ? "0" : "")\(String(byte, radix: 16))".utf8
                }
                text += token + [0x5D]
            }
            i += scalar.length
        }
        return text
    }

    /// Drops the space before `? ! . ,`, around a lone apostrophe, and before 's 'm 're 've.
    private static func cleaned(_ text: [UInt8]) -> [UInt8] {
        guard !text.isEmpty else { return text }
        var first: [UInt8] = [text[0]]
        for i in 1..<text.count {
            if text[i - 1] == 0x20, [0x3F, 0x21, 0x2E, 0x2C].contains(text[i]), !first.isEmpty { first.removeLast() }
            first.append(text[i])
        }
        return withoutContractionSpaces(withoutQuoteSpaces(first))
    }

    private static func withoutQuoteSpaces(_ text: [UInt8]) -> [UInt8] {
        var source = text
        var result: [UInt8] = [text[0]]
        var i = 1
        while i < source.count {
            let byte = source[i]
            if byte == 0x27, i + 1 < source.count, source[i - 1] == 0x20, source[i + 1] == 0x20 {
                if !result.isEmpty { result.removeLast() }
                i += 1
                // The space after it is overwritten, so that it is not seen as one by what follows.
                source[i] = 0
            }
            result.append(byte)
            i += 1
        }
        return result
    }

    private static func withoutContractionSpaces(_ text: [UInt8]) -> [UInt8] {
        var result: [UInt8] = [text[0]]
        for i in 1..<text.count {
            if text[i - 1] == 0x20, text[i] == 0x27, i + 1 < text.count, !result.isEmpty {
                let next = text[i + 1]
                let isShort = next == UInt8(ascii: "s") || next == UInt8(ascii: "m")
                let isLong =
                    i + 2 < text.count && text[i + 2] == UInt8(ascii: "e")
                    && (next == UInt8(ascii: "r") || next == UInt8(ascii: "v"))
                if isShort || isLong { result.removeLast() }
            }
            result.append(text[i])
        }
        return result
    }
}
