import Foundation

// Filters of text.
extension Filters {
    static let textFilters: [Text: FilterFunction] = [
        "upper": { interpreter, value, _ in .string(try classified(interpreter, value).uppercased()) },
        "lower": { interpreter, value, _ in .string(try classified(interpreter, value).lowercased()) },
        "capitalize": { interpreter, value, _ in .string(try classified(interpreter, value).capitalized()) },
        "title": { interpreter, value, _ in .string(titled(try classified(interpreter, value))) },
        "trim": { interpreter, value, arguments in
            let characters = try arguments.bound("trim", ["chars"])[0]
            if let characters = characters?.text { try interpreter.spend(classifying: characters) }
            return .string(try text(interpreter, value).stripped(characters?.text))
        },
        "escape": { interpreter, value, _ in .string(try text(interpreter, value).escaped()) },
        "forceescape": { interpreter, value, _ in
            .string(Text(try text(interpreter, value).bytes).escaped())
        },
        "safe": { interpreter, value, _ in
            .string(Text(try text(interpreter, value).bytes, isMarkup: true))
        },
        "replace": { interpreter, value, arguments in
            let given = try arguments.bound("replace", ["old", "new", "count"], required: 2)
            let old = try interpreter.printed(given[0] ?? .none)
            let new = try interpreter.printed(given[1] ?? .none)
            let limit = given[2]?.index ?? -1
            var source = try text(interpreter, value)
            source.isMarkup = source.isMarkup && interpreter.escapes
            return try interpreter.replaced(source, old, new, limit: limit)
        },
        "indent": { interpreter, value, arguments in
            let given = try arguments.bound("indent", ["width", "first", "blank"])
            guard value.text != nil else { throw interpreter.unsupported("indent", value) }
            var prefix = given[0]?.text
            if prefix == nil {
                let width = min(max(given[0]?.index ?? 4, 0), 4096)
                prefix = Text(Array(repeating: 0x20, count: width))
            }
            let string = try text(interpreter, value)
            let lines = string.bytes.count { $0 == 0x0A } + 1
            try interpreter.spend(lines * (prefix?.bytes.count ?? 0) / Interpreter.bytesPerFuel)
            return try interpreter.text(
                indented(
                    string, prefix ?? "", first: given[1]?.isTrue ?? false,
                    blank: given[2]?.isTrue ?? false))
        },
        "center": { interpreter, value, arguments in
            let width = try arguments.bound("center", ["width"])[0]?.index ?? 80
            return try interpreter.padded(try text(interpreter, value), width, " ", .centre)
        },
        "wordcount": { interpreter, value, _ in
            .int(words(try classified(interpreter, value)))
        },
        "format": { interpreter, value, arguments in
            let format = try text(interpreter, value)
            guard arguments.positional.isEmpty || arguments.keywords.isEmpty else {
                throw TemplateFault("format takes values or names, not both")
            }
            let values: TemplateValue =
                arguments.keywords.isEmpty
                ? try interpreter.tuple(arguments.positional)
                : try interpreter.dict(arguments.keywords.map { (.string($0.name), $0.value) })
            return try interpreter.text(try interpreter.printf(format, values))
        },
        "truncate": { interpreter, value, arguments in
            let given = try arguments.bound("truncate", ["length", "killwords", "end", "leeway"])
            // Jinja hands back whatever is short enough, text or not.
            if value.text == nil {
                guard let count = try interpreter.length(value),
                    count <= clampedSum(given[0]?.index ?? 255, given[3]?.index ?? 5)
                else { throw interpreter.unsupported("truncate", value) }
                return value
            }
            return .string(
                try truncated(
                    try text(interpreter, value), length: given[0]?.index ?? 255, cutsWords: given[1]?.isTrue ?? false,
                    end: given[2]?.text ?? "...", leeway: given[3]?.index ?? 5))
        },
        "urlencode": { interpreter, value, _ in
            let entries: [[TemplateValue]]
            switch value {
            case .dict(let mapping): entries = mapping.entries.map { [$0.key, $0.value] }
            case .list, .tuple, .view, .range, .generator:
                entries = try interpreter.elements(value).map { try interpreter.elements($0) }
            default: return .string(percentEncoded(try text(interpreter, value), keepsSlash: true))
            }
            guard entries.allSatisfy({ $0.count == 2 }) else { throw TemplateFault("urlencode needs pairs") }
            let pairs = try entries.map { entry in
                try entry.map {
                    percentEncoded(try text(interpreter, $0), keepsSlash: false, spaceAsPlus: true).description
                }.joined(separator: "=")
            }
            return .string(Text(pairs.joined(separator: "&")))
        },
        "striptags": { interpreter, value, _ in
            .string(withoutTags(try text(interpreter, value)))
        },
    ]

    /// Every word in title case, where a word starts after a space, hyphen or opening bracket.
    private static func titled(_ text: Text) -> Text {
        var result = Text([])
        var word: [Unicode.Scalar] = []
        func flush() {
            guard let first = word.first else { return }
            // Only the first code point is raised; the rest of the word is lowered.
            result.bytes += first.properties.uppercaseMapping.utf8
            result.bytes += Text(word.dropFirst()).lowercased().bytes
            word = []
        }
        for scalar in text.scalars {
            if scalar == "-" || Text.isSpace(scalar) || "({[<".unicodeScalars.contains(scalar) {
                flush()
                result.append(scalar)
            } else {
                word.append(scalar)
            }
        }
        flush()
        return result
    }

    /// Numbers of a template may be as large as they come.
    private static func clampedSum(_ a: Int, _ b: Int) -> Int {
        let (sum, overflow) = a.addingReportingOverflow(b)
        return overflow ? (a < 0 ? Int.min : Int.max) : sum
    }

    private static func indented(_ text: Text, _ prefix: Text, first: Bool, blank: Bool) -> Text {
        let newline: Text = "\n"
        // A line end at the very end opens one more, empty line.
        let lines = Text(text.bytes + newline.bytes).lines(keepingEnds: false)
        var result = first ? prefix : Text([])
        for (i, line) in lines.enumerated() {
            if i > 0 {
                result.bytes.append(0x0A)
                if blank || !line.isEmpty { result.bytes += prefix.bytes }
            }
            result.bytes += line.bytes
        }
        result.isMarkup = text.isMarkup
        return result
    }

    private static func words(_ text: Text) -> Int {
        var count = 0
        var isInside = false
        for scalar in text.scalars {
            let isWord = scalar == "_" || Text.isAlphanumeric(scalar)
            if isWord && !isInside { count += 1 }
            isInside = isWord
        }
        return count
    }

    private static func truncated(
        _ text: Text, length: Int, cutsWords: Bool, end: Text, leeway: Int
    ) throws -> Text {
        guard length >= end.count, leeway >= 0 else { throw TemplateFault("truncate has a length out of range") }
        if text.count <= length || text.count - length <= leeway { return text }
        let head = text.slice(PythonSlice(start: 0, stop: length - end.count, step: 1))
        if cutsWords { return Text(head.bytes + end.bytes) }
        let whole = head.lastOffset(of: " ").map { Text(head.bytes[..<$0]) } ?? head
        return Text(whole.bytes + end.bytes)
    }

    private static func percentEncoded(_ text: Text, keepsSlash: Bool, spaceAsPlus: Bool = false) -> Text {
        var result: [UInt8] = []
        for byte in text.bytes {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: result.append(byte)
            case UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"): result.append(byte)
            case UInt8(ascii: "/") where keepsSlash: result.append(byte)
            case 0x20 where spaceAsPlus: result.append(UInt8(ascii: "+"))
            default: result += String(format: "%%%02X", Int(byte)).utf8
            }
        }
        return Text(result)
    }

    private static func withoutTags(_ text: Text) -> Text {
        var kept: [UInt8] = []
        var isTag = false
        for byte in text.bytes {
            if byte == UInt8(ascii: "<") { isTag = true }
            if !isTag { kept.append(byte) }
            if byte == UInt8(ascii: ">") { isTag = false }
        }
        return Text(Array(Text(kept).split(nil, limit: -1).map(\.bytes).joined(separator: [0x20])))
    }
}
