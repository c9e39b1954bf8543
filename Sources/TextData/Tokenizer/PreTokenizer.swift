import FileFormats

/// How a text is cut into words before the model sees it (`pre_tokenizer` of a tokenizer.json).
indirect enum PreTokenizer: Sendable {
    case sequence([PreTokenizer])
    /// `prefix` puts a space before each piece; the split is GPT-2's; `maps` writes bytes in the printable alphabet.
    /// The last step of a chain leaves `maps` to the model, which is much faster.
    case byteLevel(prefix: Bool, splits: Bool, maps: Bool)
    case split(SplitPattern, SplitBehavior, inverted: Bool)
    case metaspace(Metaspace)
    /// BERT's: white space goes, each punctuation mark stands alone.
    case bert
    /// Pieces of a fixed number of scalars.
    case fixedLength(Int)

    struct Metaspace: Sendable {
        enum Prepend: String, Sendable { case always, first, never }
        var replacement: [UInt8]
        var prepend: Prepend
        var splits: Bool
    }

    func apply(to text: inout TextPieces) throws {
        switch self {
        case .sequence(let steps):
            for step in steps { try step.apply(to: &text) }
        case .byteLevel(let prefix, let splits, let maps):
            if prefix { Self.prependSpace(&text) }
            if splits { try Self.split(&text, .scanner(.gpt2), .isolated, inverted: false) }
            if maps { Self.mapBytes(&text) }
        case .split(let pattern, let behavior, let inverted):
            try Self.split(&text, pattern, behavior, inverted: inverted)
        case .metaspace(let metaspace):
            try metaspace.apply(to: &text)
        case .bert:
            try Self.split(&text, .scalars(.space), .removed, inverted: false)
            try Self.split(&text, .scalars(.punctuation), .isolated, inverted: false)
        case .fixedLength(let length):
            text.splitText { bytes, piece, pieces in
                var start = piece.start
                while start < piece.end {
                    var end = start
                    var count = 0
                    while count < length, end < piece.end {
                        end += utf8Length(bytes[end])
                        count += 1
                    }
                    pieces.append(Piece(start: start, end: end))
                    start = end
                }
            }
        }
    }

    private static func split(
        _ text: inout TextPieces, _ pattern: SplitPattern, _ behavior: SplitBehavior, inverted: Bool
    ) throws {
        if case .scanner(let scanner) = pattern, behavior == .isolated {
            let table = ScalarClassTable.shared
            text.splitText { bytes, piece, pieces in
                var i = piece.start
                while i < piece.end {
                    let end = scanner.matchEnd(bytes, i, piece.end, table)
                    pieces.append(Piece(start: i, end: end))
                    i = end
                }
            }
            return
        }
        var segments: [Segment] = []
        try text.splitText { bytes, piece, pieces in
            segments.removeAll(keepingCapacity: true)
            try pattern.findAll(bytes, piece.range, into: &segments)
            behavior.apply(segments, inverted: inverted, into: &pieces)
        }
    }

    private static func prependSpace(_ text: inout TextPieces) {
        text.transformText { piece in
            guard let first = piece.bytes.first, first != 0x20 else { return }
            piece.prepend([0x20])
        }
    }

    private static func mapBytes(_ text: inout TextPieces) {
        text.transformText { piece in
            var mapped = NormalizedText()
            for (i, byte) in piece.bytes.enumerated() {
                mapped.append(
                    scalar: ByteAlphabet.scalars[Int(byte)], from: piece.origins[i])
            }
            piece = mapped
        }
    }
}

extension PreTokenizer.Metaspace {
    func apply(to text: inout TextPieces) throws {
        text.transformText { piece in
            piece.replace(literal: [0x20], with: replacement)
            switch prepend {
            case .never: break
            case .first where piece.origins.range(of: 0..<0).lowerBound != 0: break
            case .first, .always:
                if !piece.bytes.starts(with: replacement) { piece.prepend(replacement) }
            }
        }
        guard splits else { return }
        var segments: [Segment] = []
        try text.splitText { bytes, piece, pieces in
            segments.removeAll(keepingCapacity: true)
            try SplitPattern.literal(replacement).findAll(bytes, piece.range, into: &segments)
            SplitBehavior.mergedWithNext.apply(segments, inverted: false, into: &pieces)
        }
    }
}

extension NormalizedText {
    /// Puts bytes before a text that is not empty; they count as standing for its first scalar.
    mutating func prepend(_ text: [UInt8]) {
        guard let first = bytes.first else { return }
        let origin = origins.range(of: 0..<min(utf8Length(first), bytes.count))
        var prefixed = NormalizedText()
        prefixed.append(text, from: origin)
        prefixed.append(self, 0..<bytes.count)
        self = prefixed
    }

    /// Replaces every occurrence; what replaces stands for the whole of what is replaced.
    mutating func replace(literal needle: [UInt8], with content: [UInt8]) {
        guard let first = needle.first, bytes.contains(first) else { return }
        var changed = NormalizedText()
        changed.bytes.reserveCapacity(bytes.count + bytes.count / 2)
        changed.origins.reserveCapacity(bytes.count + bytes.count / 2)
        var done = 0
        SplitPattern.forEachOccurrence(of: needle, bytes.span, 0..<bytes.count) { i in
            changed.append(self, done..<i)
            changed.append(content, from: origins.range(of: i..<i + needle.count))
            done = i + needle.count
        }
        changed.append(self, done..<bytes.count)
        self = changed
    }

    /// Replaces every match of a pattern.
    mutating func replace(_ pattern: SplitPattern, with content: [UInt8]) throws {
        if case .literal(let needle) = pattern {
            replace(literal: needle, with: content)
            return
        }
        var segments: [Segment] = []
        try pattern.findAll(bytes.span, 0..<bytes.count, into: &segments)
        var changed = NormalizedText()
        for segment in segments {
            let range = segment.start..<segment.end
            if segment.isMatch {
                changed.append(content, from: origins.range(of: range))
            } else {
                changed.append(self, range)
            }
        }
        self = changed
    }
}
