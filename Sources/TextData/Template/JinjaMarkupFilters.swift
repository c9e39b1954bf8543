// Filters that write HTML, and the one that breaks lines.
extension Filters {
    static let markupFilters: [Text: FilterFunction] = [
        "xmlattr": { interpreter, value, arguments in
            let given = try arguments.bound("xmlattr", ["autospace"])
            guard case .dict(let mapping) = value else { throw interpreter.unsupported("xmlattr", value) }
            var items: [Text] = []
            for (key, value) in mapping.entries where !value.isNone && !value.isUndefined {
                guard let name = key.text else { throw interpreter.unsupported("xmlattr", key) }
                let forbidden: Set<UInt8> = [0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x20, 0x2F, 0x3D, 0x3E]
                guard !name.bytes.contains(where: forbidden.contains) else {
                    throw TemplateFault("xmlattr: '\(name)' is no name of an attribute")
                }
                let escaped = try text(interpreter, value).escaped()
                items.append(Text(name.escaped().bytes + "=\"".utf8 + escaped.bytes + "\"".utf8))
            }
            guard case .string(var joined) = try interpreter.joined(items, " ") else { return .none }
            if given[0]?.isTrue ?? true, !joined.isEmpty { joined = Text([0x20] + joined.bytes) }
            joined.isMarkup = interpreter.escapes
            return .string(joined)
        },
        "urlize": { interpreter, value, arguments in
            let given = try arguments.bound("urlize", ["trim_url_limit", "nofollow", "target", "rel", "extra_schemes"])
            var rel: Set<Text> = ["noopener"]
            if let words = given[3]?.text { rel.formUnion(words.split(nil, limit: -1)) }
            if given[1]?.isTrue ?? false { rel.insert("nofollow") }
            var linker = Linker(trimLimit: given[0]?.index)
            let words = rel.sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }.map(\.description)
            linker.attributes = " rel=\"\(Text(words.joined(separator: " ")).escaped())\""
            if let target = given[2]?.text, !target.isEmpty { linker.attributes += " target=\"\(target.escaped())\"" }
            for scheme in try given[4].map({ $0.isNone ? [] : try interpreter.elements($0) }) ?? [] {
                guard let scheme = scheme.text, Linker.isScheme(scheme) else {
                    throw TemplateFault("urlize: \(try interpreter.printed(scheme)) is no scheme")
                }
                linker.extraSchemes.append(scheme.description)
            }
            let source = try text(interpreter, value).escaped()
            try interpreter.spend(classifying: source)
            var result = Text(try linker.linked(source.scalars))
            result.isMarkup = interpreter.escapes
            return try interpreter.text(result)
        },
        "wordwrap": { interpreter, value, arguments in
            let given = try arguments.bound(
                "wordwrap", ["width", "break_long_words", "wrapstring", "break_on_hyphens"])
            guard let string = value.text else { throw interpreter.unsupported("wordwrap", value) }
            guard let width = given[0].map(\.index) ?? 79 else { throw TemplateFault("wordwrap needs a width") }
            try interpreter.spend(string.bytes.count / 2)
            let wrapper = LineWrapper(
                width: width, breaksWords: given[1]?.isTrue ?? true, breaksAtHyphens: given[3]?.isTrue ?? true)
            let end = given[2].flatMap { $0.isNone ? nil : $0 } ?? .string("\n")
            guard let end = end.text else { throw interpreter.unsupported("wordwrap", end) }
            let lines = try string.lines(keepingEnds: false).map { line in
                guard case .string(let wrapped) = try interpreter.joined(try wrapper.wrapped(line), end) else {
                    return Text([])
                }
                return wrapped
            }
            return try interpreter.joined(lines, end)
        },
    ]
}

/// Python's `textwrap.wrap`, without what Jinja switches off.
struct LineWrapper {
    let width: Int
    let breaksWords: Bool
    let breaksAtHyphens: Bool

    private static func isBreak(_ scalar: Unicode.Scalar) -> Bool {
        [0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x20].contains(scalar.value)
    }
    private static func isWord(_ scalar: Unicode.Scalar) -> Bool { scalar == "_" || Text.isAlphanumeric(scalar) }
    private static func isLetter(_ scalar: Unicode.Scalar) -> Bool {
        isWord(scalar) && scalar.properties.numericType != .decimal
    }
    private static func isWordOrMark(_ scalar: Unicode.Scalar) -> Bool {
        isWord(scalar) || "!\"'&.,?".unicodeScalars.contains(scalar)
    }

    func wrapped(_ line: Text) throws -> [Text] {
        guard width > 0 else { throw TemplateFault("wordwrap needs a positive width") }
        let all = line.scalars
        var pieces = Array(pieces(of: all).reversed())
        func isBlank(_ piece: Range<Int>) -> Bool { all[piece].allSatisfy(Text.isSpace) }
        var lines: [Text] = []
        while !pieces.isEmpty {
            var current: [Range<Int>] = []
            var length = 0
            if let first = pieces.last, !lines.isEmpty, isBlank(first) { pieces.removeLast() }
            while let piece = pieces.last, length + piece.count <= width {
                current.append(piece)
                length += piece.count
                pieces.removeLast()
            }
            if let piece = pieces.last, piece.count > width {
                if breaksWords {
                    let end = piece.lowerBound + breakOffset(all, piece, room: width - length)
                    current.append(piece.lowerBound..<end)
                    pieces[pieces.count - 1] = end..<piece.upperBound
                } else if current.isEmpty {
                    current.append(piece)
                    pieces.removeLast()
                }
            }
            if let last = current.last, isBlank(last) { current.removeLast() }
            if !current.isEmpty { lines.append(Text(current.flatMap { all[$0] })) }
        }
        return lines
    }

    /// Where a word that is longer than a line is cut.
    private func breakOffset(_ all: [Unicode.Scalar], _ piece: Range<Int>, room: Int) -> Int {
        if breaksAtHyphens, piece.count > room,
            let hyphen = all[piece].prefix(room).lastIndex(of: "-"), hyphen > piece.lowerBound,
            all[piece.lowerBound..<hyphen].contains(where: { $0 != "-" })
        {
            return hyphen + 1 - piece.lowerBound
        }
        return room
    }

    /// Words, the space between them, dashes, and the parts of hyphenated words.
    private func pieces(of all: [Unicode.Scalar]) -> [Range<Int>] {
        var pieces: [Range<Int>] = []
        var start = 0
        func has(_ index: Int, _ test: (Unicode.Scalar) -> Bool) -> Bool {
            all.indices.contains(index) && test(all[index])
        }
        // The end of a run of two or more hyphens before a word.
        func dashEnd(_ index: Int) -> Int? {
            guard has(index - 1, Self.isWordOrMark), has(index, { $0 == "-" }), has(index + 1, { $0 == "-" }) else {
                return nil
            }
            let end = all[index...].firstIndex { $0 != "-" } ?? all.count
            return has(end, Self.isWord) ? end : nil
        }
        // Whether a word may be broken behind the hyphen at `index`.
        func isHyphen(_ index: Int) -> Bool {
            guard has(index, { $0 == "-" }), has(index - 1, Self.isLetter),
                has(index - 2, Self.isLetter) || has(index - 2, { $0 == "-" }) && has(index - 3, Self.isLetter)
            else { return false }
            return has(index + 1, Self.isLetter)
                && (has(index + 2, Self.isLetter) || has(index + 2, { $0 == "-" }) && has(index + 3, Self.isLetter))
        }
        while start < all.count {
            var end = start
            if Self.isBreak(all[start]) {
                while has(end, Self.isBreak) { end += 1 }
            } else if breaksAtHyphens, let dash = dashEnd(start) {
                end = dash
            } else {
                end += 1
                while end < all.count, !Self.isBreak(all[end]) {
                    if breaksAtHyphens {
                        if isHyphen(end) {
                            end += 1
                            break
                        }
                        if dashEnd(end) != nil { break }
                    }
                    end += 1
                }
            }
            pieces.append(start..<end)
            start = end
        }
        return pieces
    }
}
