// Methods of Python's strings, lists and dictionaries.
extension Interpreter {
    private static let textMethods: Set<Text> = [
        "capitalize", "casefold", "center", "count", "encode", "endswith", "expandtabs", "find", "format", "format_map",
        "index", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric",
        "isprintable", "isspace", "istitle", "isupper", "join", "ljust", "lower", "lstrip", "partition", "removeprefix",
        "removesuffix", "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit", "rstrip", "split", "splitlines",
        "startswith", "strip", "swapcase", "title", "translate", "maketrans", "upper", "zfill",
    ]

    /// Whether the value has a method of this name that templates may use.
    func hasMethod(_ name: Text, _ value: TemplateValue) -> Bool {
        switch value {
        case .string: return Self.textMethods.contains(name)
        case .dict:
            switch name {
            case "get", "items", "keys", "values", "copy", "fromkeys": return true
            default: return false
            }
        case .list: return "index" ~= name || "count" ~= name || "copy" ~= name
        case .tuple, .range: return "index" ~= name || "count" ~= name
        case .loop: return "cycle" ~= name || "changed" ~= name
        case .callable(.cycler): return "next" ~= name || "reset" ~= name
        case .float: return "is_integer" ~= name
        case .bytes: return "decode" ~= name || "hex" ~= name
        case .int, .bool: return "bit_length" ~= name || "is_integer" ~= name || "conjugate" ~= name
        default: return false
        }
    }

    func callMethod(_ name: Text, of receiver: TemplateValue, _ arguments: CallArguments) throws -> TemplateValue {
        switch receiver {
        case .string(let text): return try callTextMethod(name, text, arguments)
        case .dict(let mapping): return try callMappingMethod(name, mapping, arguments)
        case .list(let items), .tuple(let items):
            if name == "copy" { return receiver }
            return try search(name, items.values, arguments)
        case .bytes(let bytes): return try callBytesMethod(name, bytes, arguments)
        case .range: return try search(name, try elements(receiver), arguments)
        case .loop(let loop): return try callLoopMethod(name, loop, arguments)
        case .callable(.cycler(let cycler)):
            if name == "next" { return try call(receiver, arguments) }
            cycler.position = 0
            return .none
        case .float(let number): return .bool(number.isFinite && number == number.rounded())
        default:
            let number = receiver.index ?? 0
            if name == "bit_length" { return .int(Int.bitWidth - number.magnitude.leadingZeroBitCount) }
            return name == "is_integer" ? .bool(true) : .int(number)
        }
    }

    private func search(
        _ name: Text, _ values: [TemplateValue], _ arguments: CallArguments
    ) throws -> TemplateValue {
        let wanted = try arguments.bound(name.description, ["value", "start", "stop"], required: 1)
        let value = wanted[0] ?? .none
        if name == "count" { return .int(try values.count { try areEqual($0, value) }) }
        let range = PythonSlice(start: wanted[1]?.index, stop: wanted[2]?.index, step: 1).resolved(count: values.count)
        for index in range where try areEqual(values[index], value) { return .int(index) }
        throw TemplateFault("index: the value is not in the sequence")
    }

    private func callMappingMethod(
        _ name: Text, _ mapping: Mapping, _ arguments: CallArguments
    ) throws -> TemplateValue {
        switch name {
        case "get":
            let given = try arguments.bound("get", ["key", "default"], required: 1)
            guard arguments.keywords.isEmpty else { throw TemplateFault("get takes no keyword arguments") }
            return mapping[try key(given[0] ?? .none)] ?? given[1] ?? .none
        case "items":
            let pairs = try mapping.entries.map { try tuple([$0.key, $0.value]) }
            return .view(try items(pairs), .items)
        case "keys": return .view(try items(mapping.entries.map(\.key)), .keys)
        case "values": return .view(try items(mapping.entries.map(\.value)), .values)
        case "copy": return .dict(mapping)
        default:
            let given = try arguments.bound("fromkeys", ["iterable", "value"], required: 1)
            return try dict(try elements(given[0] ?? .none).map { ($0, given[1] ?? .none) })
        }
    }

    private func callLoopMethod(
        _ name: Text, _ loop: LoopState, _ arguments: CallArguments
    ) throws -> TemplateValue {
        if name == "cycle" {
            guard !arguments.positional.isEmpty else { throw TemplateFault("cycle needs at least one value") }
            return arguments.positional[loop.index % arguments.positional.count]
        }
        recorder?.spoil()
        let last = loop.lastChanged
        loop.lastChanged = arguments.positional
        guard let last, last.count == arguments.positional.count else { return .bool(true) }
        for (a, b) in zip(last, arguments.positional) where try !areEqual(a, b) { return .bool(true) }
        return .bool(false)
    }

    // MARK: Strings

    enum Padding { case left, right, centre }

    func padded(_ text: Text, _ width: Int, _ fill: Text, _ padding: Padding) throws -> TemplateValue {
        let count = text.count
        guard width > count else { return .string(text) }
        let missing = width - count
        guard fill.count == 1 else { throw TemplateFault("a fill character is not one character") }
        try spend(missing / 16)
        let left =
            switch padding {
            case .left: missing
            case .right: 0
            // CPython's rounding of an odd rest.
            case .centre: missing / 2 + (missing & width & 1)
            }
        return .string(text.padded(to: width, left: left, fill: fill))
    }

    func replaced(_ text: Text, _ old: Text, _ new: Text, limit: Int) throws -> TemplateValue {
        // Bounded before it is made: every replacement could grow the text.
        let growth = max(new.bytes.count - old.bytes.count, 0)
        let most = old.isEmpty ? text.bytes.count + 1 : text.bytes.count / max(old.bytes.count, 1)
        let count = limit < 0 ? most : min(limit, most)
        if growth > 0, count > 1, growth.multipliedReportingOverflow(by: count).partialValue > 1 << 20 {
            var found = 0
            var start = 0
            while !old.isEmpty, found < count, let offset = text.firstOffset(of: old, in: start..<text.bytes.count) {
                found += 1
                start = offset + old.bytes.count
            }
            let (size, overflow) = growth.multipliedReportingOverflow(by: old.isEmpty ? count : found)
            try spend(overflow ? Self.fuelLimit + 1 : size / Self.bytesPerFuel)
        }
        try spend(text.bytes.count / Self.bytesPerFuel)
        return try self.text(text.replacing(old, with: new, limit: limit))
    }

    func joined(_ parts: [Text], _ separator: Text) throws -> TemplateValue {
        let size = parts.reduce(0) { $0 + $1.bytes.count } + separator.bytes.count * max(parts.count - 1, 0)
        try spend(size / Self.bytesPerFuel)
        return .string(Text(Array(parts.map(\.bytes).joined(separator: separator.bytes))))
    }

    private func callTextMethod(_ name: Text, _ text: Text, _ arguments: CallArguments) throws -> TemplateValue {
        try spend(scanning: text)
        switch name {
        case "strip", "lstrip", "rstrip":
            let set = try arguments.bound(name.description, ["chars"])[0]
            if let set, !set.isNone, set.text == nil { throw unsupported(name.description, set) }
            if let set = set?.text { try spend(classifying: set) }
            return .string(
                text.stripped(set?.text, left: !name.isSame(as: "rstrip"), right: !name.isSame(as: "lstrip")))
        case "split", "rsplit":
            let given = try arguments.bound(name.description, ["sep", "maxsplit"])
            return try split(text, given[0], limit: given[1]?.index ?? -1, fromRight: name.isSame(as: "rsplit"))
        case "splitlines":
            let keeps = try arguments.bound("splitlines", ["keepends"])[0]?.isTrue ?? false
            return try list(text.lines(keepingEnds: keeps).map(TemplateValue.string))
        case "startswith", "endswith":
            return .bool(try matchesEnd(text, arguments, atStart: name.isSame(as: "startswith")))
        case "replace":
            let given = try arguments.bound("replace", ["old", "new", "count"], required: 2)
            guard let old = given[0]?.text, let new = given[1]?.text else {
                throw TemplateFault("replace needs strings")
            }
            return try replaced(text, old, new, limit: given[2]?.index ?? -1)
        case "join":
            let parts = try elements(try arguments.bound("join", ["iterable"], required: 1)[0] ?? .none)
            return try joined(
                try parts.map { part in
                    guard let part = part.text else { throw unsupported("join", part) }
                    return part
                }, text)
        case "find", "rfind", "index", "rindex", "count": return try find(name, text, arguments)
        case "format": return try self.text(try format(text, arguments))
        case "format_map":
            guard case .dict(let mapping)? = arguments.positional.first else {
                throw TemplateFault("format_map needs a dictionary")
            }
            let names = mapping.entries.compactMap { entry in entry.key.text.map { (name: $0, value: entry.value) } }
            return try self.text(try format(text, CallArguments(keywords: names)))
        case "encode": return try encode(text, arguments)
        case "translate": return try translate(text, arguments)
        case "maketrans": return try translationTable(arguments)
        case "partition", "rpartition": return try partition(text, arguments, fromRight: name == "rpartition")
        default: return try callCaseMethod(name, text, arguments)
        }
    }

    private func callCaseMethod(_ name: Text, _ text: Text, _ arguments: CallArguments) throws -> TemplateValue {
        try spend(classifying: text)
        switch name {
        case "upper": return .string(text.uppercased())
        case "lower": return .string(text.lowercased())
        case "casefold": return .string(text.mapped { $0 == "ß" ? "ss" : $0.properties.lowercaseMapping })
        case "title": return .string(text.titlecased())
        case "capitalize": return .string(text.capitalized())
        case "swapcase": return .string(text.swappedCase())
        case "removeprefix", "removesuffix":
            guard let part = arguments.positional.first?.text else { throw TemplateFault("\(name) needs a string") }
            if name == "removeprefix", text.hasPrefix(part) { return .string(Text(text.bytes[part.bytes.count...])) }
            if name == "removesuffix", text.hasSuffix(part) {
                return .string(Text(text.bytes[..<(text.bytes.count - part.bytes.count)]))
            }
            return .string(text)
        case "center", "ljust", "rjust":
            let given = try arguments.bound(name.description, ["width", "fillchar"], required: 1)
            guard let width = given[0]?.index else { throw TemplateFault("\(name) needs a width") }
            return try padded(
                text, width, given[1]?.text ?? " ", name == "center" ? .centre : name == "ljust" ? .right : .left)
        case "zfill":
            guard let width = arguments.positional.first?.index else { throw TemplateFault("zfill needs a width") }
            let isSigned = text.hasPrefix("-") || text.hasPrefix("+")
            let sign = isSigned ? Text(text.bytes[..<1]) : Text([])
            let digits = Text(text.bytes[sign.bytes.count...])
            guard width > text.count,
                case .string(let filled) = try padded(digits, width - sign.count, "0", .left)
            else { return .string(text) }
            return .string(Text(sign.bytes + filled.bytes))
        case "expandtabs":
            let width = arguments.positional.first?.index ?? 8
            guard (0...256).contains(width) else { throw TemplateFault("expandtabs has a width out of range") }
            return try self.text(expandedTabs(text, width))
        default:
            if let result = text.predicate(name) { return .bool(result) }
            throw TemplateFault("the method '\(name)' is not available in templates")
        }
    }

    private func expandedTabs(_ text: Text, _ width: Int) -> Text {
        var result = Text([])
        var column = 0
        for scalar in text.scalars {
            switch scalar {
            case "\t":
                let spaces = width == 0 ? 0 : width - column % width
                result.bytes += Array(repeating: 0x20, count: spaces)
                column += spaces
            case "\n", "\r":
                result.append(scalar)
                column = 0
            default:
                result.append(scalar)
                column += 1
            }
        }
        return result
    }

    private func split(
        _ text: Text, _ separator: TemplateValue?, limit: Int, fromRight: Bool
    ) throws -> TemplateValue {
        let isSpace = separator.map(\.isNone) ?? true
        guard isSpace || separator?.text != nil else { throw TemplateFault("split needs a string") }
        if let separator = separator?.text, separator.isEmpty { throw TemplateFault("split: empty separator") }
        let parts = text.split(separator?.text, limit: limit, fromRight: fromRight)
        try spend(text.bytes.count / Self.bytesPerFuel)
        return try list(parts.map(TemplateValue.string))
    }

    /// The byte range of `text[start:stop]`; nil when it lies outside of the text.
    private func window(_ text: Text, _ start: TemplateValue?, _ stop: TemplateValue?) -> Range<Int>? {
        if start?.index == nil, stop?.index == nil { return 0..<text.bytes.count }
        let count = text.count
        guard (start?.index ?? 0) <= count else { return nil }
        let part = PythonSlice(start: start?.index, stop: stop?.index, step: 1)
        let low = min(max(part.start.map { $0 < 0 ? $0 + count : $0 } ?? 0, 0), count)
        let high = min(max(part.stop.map { $0 < 0 ? $0 + count : $0 } ?? count, 0), count)
        guard low <= high else { return nil }
        return text.byteOffset(of: low)..<text.byteOffset(of: high)
    }

    private func matchesEnd(_ text: Text, _ arguments: CallArguments, atStart: Bool) throws -> Bool {
        let given = try arguments.bound(atStart ? "startswith" : "endswith", ["prefix", "start", "end"], required: 1)
        let wanted: [TemplateValue]
        if case .tuple(let items)? = given[0] { wanted = items.values } else { wanted = [given[0] ?? .none] }
        let texts = try wanted.map { value in
            guard let text = value.text else { throw unsupported(atStart ? "startswith" : "endswith", value) }
            return text
        }
        guard let range = window(text, given[1], given[2]) else { return false }
        let part = range.count == text.bytes.count ? text : Text(text.bytes[range])
        return texts.contains { atStart ? part.hasPrefix($0) : part.hasSuffix($0) }
    }

    private func find(_ name: Text, _ text: Text, _ arguments: CallArguments) throws -> TemplateValue {
        let given = try arguments.bound(name.description, ["sub", "start", "end"], required: 1)
        guard let wanted = given[0]?.text else { throw unsupported(name.description, given[0] ?? .none) }
        guard let range = window(text, given[1], given[2]) else {
            if name == "count" { return .int(0) }
            if name == "find" || name == "rfind" { return .int(-1) }
            throw TemplateFault("\(name): the substring does not occur")
        }
        if name == "count" {
            if wanted.isEmpty { return .int(Text(text.bytes[range]).count + 1) }
            var (count, start) = (0, range.lowerBound)
            while let offset = text.firstOffset(of: wanted, in: start..<range.upperBound) {
                count += 1
                start = offset + wanted.bytes.count
            }
            return .int(count)
        }
        let fromRight = name == "rfind" || name == "rindex"
        let offset = fromRight ? text.lastOffset(of: wanted, in: range) : text.firstOffset(of: wanted, in: range)
        if let offset { return .int(text.scalarIndex(ofByte: offset)) }
        guard name == "find" || name == "rfind" else { throw TemplateFault("\(name): the substring does not occur") }
        return .int(-1)
    }

    private func partition(_ text: Text, _ arguments: CallArguments, fromRight: Bool) throws -> TemplateValue {
        guard let separator = arguments.positional.first?.text, !separator.isEmpty else {
            throw TemplateFault("partition needs a separator")
        }
        let offset = fromRight ? text.lastOffset(of: separator) : text.firstOffset(of: separator)
        let parts: [Text]
        if let offset {
            parts = [Text(text.bytes[..<offset]), separator, Text(text.bytes[(offset + separator.bytes.count)...])]
        } else {
            parts = fromRight ? [Text([]), Text([]), text] : [text, Text([]), Text([])]
        }
        return try tuple(parts.map(TemplateValue.string))
    }
}
