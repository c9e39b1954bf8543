import FileFormats

/// SentencePiece's own normaliser: replacements by table, runs of spaces, the dummy prefix, spaces written as U+2581.
struct SentencePieceNormalizer: Sendable {
    var charsmap: PrecompiledCharsmap?
    /// Strings that stay as they are.
    var userDefined = StringMatcher()
    var addsDummyPrefix = true
    /// The dummy space stands only before the text as a whole, not before what follows an added token.
    var prefixesTextOnly = false
    var removesExtraSpaces = true
    var escapesSpaces = true
    /// The dummy space goes to the end.
    var spaceIsSuffix = false

    /// The same as a tokenizer.json has it, for export.
    var definition: JSONValue {
        var parts: [JSONValue] = []
        if charsmap != nil { parts.append(["type": "Precompiled"]) }
        if removesExtraSpaces { parts.append(["type": "Replace", "pattern": ["Regex": " {2,}"], "content": " "]) }
        if addsDummyPrefix { parts.append(["type": spaceIsSuffix ? "Append" : "Prepend", "prepend": "\u{2581}"]) }
        if escapesSpaces { parts.append(["type": "Replace", "pattern": ["String": " "], "content": "\u{2581}"]) }
        return ["type": "Sequence", "normalizers": .array(parts)]
    }

    private var space: [UInt8] { escapesSpaces ? BPEModel.metaspace : [0x20] }

    func apply(to text: inout NormalizedText) {
        guard !text.bytes.isEmpty else { return }
        let source = text
        let span = source.bytes.span
        var changed = NormalizedText()
        changed.bytes.reserveCapacity(span.count + span.count / 2 + 3)
        changed.origins.reserveCapacity(span.count + span.count / 2 + 3)
        let prepared = userDefined.prepare(span, 0..<span.count)
        var i = 0
        if removesExtraSpaces {
            while i < span.count {
                let prefix = prefix(span, i, prepared)
                guard prefix.isSpace(span, charsmap) else { break }
                i = prefix.end
            }
            if i == span.count {
                text = changed
                return
            }
        }
        let isInside = prefixesTextOnly && source.origins.range(of: 0..<1).lowerBound > 0
        if addsDummyPrefix, !spaceIsSuffix, !isInside {
            changed.append(space, from: source.origins.range(of: i..<i + utf8Length(span[i])))
        }
        var followsSpace = removesExtraSpaces
        while i < span.count {
            let prefix = prefix(span, i, prepared)
            let origin = source.origins.range(of: i..<prefix.end)
            switch prefix.content {
            case .source: append(source.bytes[i..<prefix.end], origin, &followsSpace, &changed)
            case .replacement(let range): append(charsmap?[range] ?? [], origin, &followsSpace, &changed)
            }
            i = prefix.end
            if !removesExtraSpaces { followsSpace = false }
        }
        if removesExtraSpaces { dropTrailingSpaces(&changed) }
        if addsDummyPrefix, spaceIsSuffix { changed.append(space, from: span.count..<span.count) }
        text = changed
    }

    private struct Prefix {
        enum Content {
            case source
            case replacement(Range<Int>)
        }
        var content: Content
        var start: Int
        var end: Int

        /// Whether this is exactly one space.
        func isSpace(_ span: Span<UInt8>, _ charsmap: PrecompiledCharsmap?) -> Bool {
            switch content {
            case .source: end - start == 1 && span[start] == 0x20
            case .replacement(let range): charsmap.map { $0[range].elementsEqual([0x20]) } ?? false
            }
        }
    }

    /// The next user-defined string, replaced string or scalar.
    private func prefix(_ span: Span<UInt8>, _ i: Int, _ prepared: LongMatches) -> Prefix {
        if !userDefined.isEmpty, let match = userDefined.longestMatch(span, at: i, to: span.count, prepared) {
            return Prefix(content: .source, start: i, end: match.end)
        }
        if let match = charsmap?.longestMatch(span, at: i, to: span.count) {
            return Prefix(content: .replacement(match.text), start: i, end: match.end)
        }
        return Prefix(content: .source, start: i, end: min(span.count, i + utf8Length(span[i])))
    }

    private func append(
        _ bytes: ArraySlice<UInt8>, _ origin: Range<Int>, _ followsSpace: inout Bool, _ changed: inout NormalizedText
    ) {
        var rest = bytes
        if followsSpace { rest = rest.drop { $0 == 0x20 } }
        guard let last = rest.last else { return }
        for byte in rest {
            if byte == 0x20, escapesSpaces {
                for k in BPEModel.metaspace { changed.append(k, from: origin) }
            } else {
                changed.append(byte, from: origin)
            }
        }
        followsSpace = last == 0x20
    }

    private func dropTrailingSpaces(_ text: inout NormalizedText) {
        var count = text.bytes.count
        while count >= space.count, text.bytes[..<count].suffix(space.count).elementsEqual(space) {
            count -= space.count
        }
        guard count < text.bytes.count else { return }
        var cut = NormalizedText()
        cut.append(text, 0..<count)
        text = cut
    }
}
