import Foundation

/// Jinja's built-in filters, and `tojson` as Transformers defines it.
enum Filters {
    static let named: [Text: FilterFunction] = {
        var table = textFilters
        table.merge(sequenceFilters) { _, new in new }
        table.merge(valueFilters) { _, new in new }
        table.merge(markupFilters) { _, new in new }
        for name in withoutArguments {
            guard let filter = table[name] else { continue }
            table[name] = { interpreter, value, arguments in
                guard arguments.isEmpty else { throw TemplateFault("\(name) takes no arguments") }
                return try filter(interpreter, value, arguments)
            }
        }
        table["count"] = table["length"]
        table["d"] = table["default"]
        table["e"] = table["escape"]
        return table
    }()

    private static let withoutArguments: [Text] = [
        "upper", "lower", "capitalize", "title", "escape", "forceescape", "safe", "wordcount", "striptags", "urlencode",
        "length", "first", "last", "list", "items", "reverse", "string", "abs",
    ]

    private static let valueFilters: [Text: FilterFunction] = [
        "default": { _, value, arguments in
            let given = try arguments.bound("default", ["default_value", "boolean"])
            let replaces = value.isUndefined || (given[1]?.isTrue ?? false) && !value.isTrue
            return replaces ? given[0] ?? .string(Text([])) : value
        },
        "tojson": { interpreter, value, arguments in
            try interpreter.text(try interpreter.json(value, try jsonLayout(interpreter, arguments)))
        },
        "string": { interpreter, value, _ in
            value.text == nil ? .string(try interpreter.printed(value)) : value
        },
        "int": { interpreter, value, arguments in
            let given = try arguments.bound("int", ["default", "base"])
            if let text = value.text { try interpreter.spend(text.bytes.count / Interpreter.bytesPerFuel) }
            if value.isUndefined { throw interpreter.undefined(value) }
            return Numbers.integer(value, base: given[1]?.index ?? 10) ?? given[0] ?? .int(0)
        },
        "float": { interpreter, value, arguments in
            let given = try arguments.bound("float", ["default"])
            if let text = value.text { try interpreter.spend(text.bytes.count / Interpreter.bytesPerFuel) }
            if value.isUndefined { throw interpreter.undefined(value) }
            return Numbers.float(value).map(TemplateValue.float) ?? given[0] ?? .float(0)
        },
        "abs": { interpreter, value, _ in
            if case .float(let number) = value { return .float(abs(number)) }
            if case .bigInt(let digits) = value {
                return .bigInt(digits.hasPrefix("-") ? Text(digits.bytes[1...]) : digits)
            }
            guard let number = value.index else { throw interpreter.unsupported("abs", value) }
            return number < 0 ? try interpreter.negated(.int(number)) : .int(number)
        },
        "round": { interpreter, value, arguments in
            let given = try arguments.bound("round", ["precision", "method"])
            guard value.number != nil else { throw interpreter.unsupported("round", value) }
            return try Numbers.rounded(value, precision: given[0]?.index ?? 0, method: given[1]?.text ?? "common")
        },
        "attr": { interpreter, value, arguments in
            guard let name = try arguments.bound("attr", ["name"], required: 1)[0]?.text else {
                throw TemplateFault("attr needs a name")
            }
            // Only attributes of the object, never the elements of a dictionary.
            if case .dict = value, !interpreter.hasMethod(name, value) { return .undefined(.attribute(name)) }
            return try interpreter.attribute(name, of: value)
        },
        "pprint": { interpreter, value, _ in try interpreter.text(try interpreter.representation(value)) },
        "filesizeformat": { interpreter, value, arguments in
            let given = try arguments.bound("filesizeformat", ["binary"])
            guard let size = Numbers.float(value) else { throw interpreter.unsupported("filesizeformat", value) }
            return .string(Numbers.fileSize(size, binary: given[0]?.isTrue ?? false))
        },
    ]

    private static func jsonLayout(
        _ interpreter: Interpreter, _ arguments: CallArguments
    ) throws -> Interpreter.JSONLayout {
        let given = try arguments.bound("tojson", ["ensure_ascii", "indent", "separators", "sort_keys"])
        var indent: Text?
        if let width = given[1]?.index {
            indent = Text(Array(repeating: 0x20, count: min(max(width, 0), 64)))
        } else if let text = given[1]?.text {
            indent = text
        }
        var layout = Interpreter.JSONLayout(
            indent: indent, asciiOnly: given[0]?.isTrue ?? false, sortsKeys: given[3]?.isTrue ?? false,
            itemSeparator: indent == nil ? ", " : ",", keySeparator: ": ")
        if let separators = given[2], !separators.isNone {
            let parts = try interpreter.elements(separators).compactMap(\.text)
            guard parts.count == 2 else { throw TemplateFault("tojson needs two separators") }
            (layout.itemSeparator, layout.keySeparator) = (parts[0], parts[1])
        }
        return layout
    }

    /// The text of a value, as filters of strings take it.
    static func text(_ interpreter: Interpreter, _ value: TemplateValue) throws -> Text {
        let text = try interpreter.printed(value)
        try interpreter.spend(text.bytes.count / Interpreter.bytesPerFuel)
        return text
    }

    /// The same where the filter looks up properties of every code point.
    static func classified(_ interpreter: Interpreter, _ value: TemplateValue) throws -> Text {
        let text = try interpreter.printed(value)
        try interpreter.spend(classifying: text)
        return text
    }

    /// The element an attribute path names: `a.b.0` looks up each part. A part that is missing is `fallback`.
    static func lookUp(
        _ interpreter: Interpreter, _ path: TemplateValue, in value: TemplateValue,
        default fallback: TemplateValue? = nil
    ) throws -> TemplateValue {
        var keys = [path]
        if let text = path.text {
            keys = text.split(".", limit: -1).map { part in
                let index = part.predicate("isdigit") == true ? Int(part.description) : nil
                return index.map(TemplateValue.int) ?? .string(part)
            }
        }
        return try keys.reduce(value) { value, key in
            let found = try interpreter.item(key, of: value)
            return found.isUndefined ? fallback ?? found : found
        }
    }

    /// What a value is compared by: its attribute, and lower case unless case matters.
    static func sortKey(
        _ interpreter: Interpreter, _ value: TemplateValue, _ attribute: TemplateValue?, caseSensitive: Bool
    ) throws -> TemplateValue {
        var key = value
        if let attribute, !attribute.isNone { key = try lookUp(interpreter, attribute, in: value) }
        if !caseSensitive, let text = key.text {
            try interpreter.spend(classifying: text)
            return .string(text.lowercased())
        }
        return key
    }
}

extension Interpreter {
    /// A stable sort in Python's order.
    func sorted<Element>(
        _ elements: [Element], descending: Bool = false, by key: (Element) throws -> TemplateValue
    ) throws -> [Element] {
        let keys = try elements.map(key)
        var fault: (any Error)?
        // Merge sort of the standard library is stable; a comparison that fails is reported after it.
        let order = keys.indices.sorted { a, b in
            guard fault == nil else { return false }
            do {
                let (first, second) = descending ? (keys[b], keys[a]) : (keys[a], keys[b])
                return try self.order(first, second, "<") == .ascending
            } catch let error {
                fault = error
                return false
            }
        }
        if let fault { throw fault }
        return order.map { elements[$0] }
    }
}

/// Conversions between numbers and text.
enum Numbers {
    /// Python reads no integer of more digits (`sys.int_info.default_max_str_digits`).
    private static let longest = 4_300

    static func integer(_ value: TemplateValue, base: Int) -> TemplateValue? {
        switch value {
        case .bool, .int: return value.index.map(TemplateValue.int)
        case .bigInt: return value
        case .float(let number): return whole(number)
        case .string(let text): return integer(text, base: base) ?? float(value).flatMap(whole)
        default: return nil
        }
    }

    private static func whole(_ number: Double) -> TemplateValue? {
        guard number.isFinite else { return nil }
        return Int(exactly: number.rounded(.towardZero)).map(TemplateValue.int)
            ?? .bigInt(Text(String(format: "%.0f", number)))
    }

    /// Python's `int(text, base)`.
    static func integer(_ text: Text, base: Int) -> TemplateValue? {
        guard text.bytes.count <= longest else { return nil }
        guard (2...36).contains(base) || base == 0 else { return nil }
        var digits = text.stripped().lowercased().description
        var isNegative = false
        if let sign = digits.first, sign == "-" || sign == "+" {
            isNegative = sign == "-"
            digits.removeFirst()
        }
        var radix = base
        for (prefix, prefixed) in [("0x", 16), ("0o", 8), ("0b", 2)] where digits.hasPrefix(prefix) {
            if base == prefixed || base == 0 {
                radix = prefixed
                digits.removeFirst(2)
            }
        }
        guard let plain = underscoresRemoved(digits), plain.first != "+", plain.first != "-" else { return nil }
        if let number = Int(plain, radix: radix == 0 ? 10 : radix) { return .int(isNegative ? -number : number) }
        // Beyond 64 bits only decimal digits are kept as they are.
        guard radix == 0 || radix == 10, !plain.isEmpty, plain.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
            return nil
        }
        return .bigInt(Text((isNegative ? "-" : "") + plain.drop { $0 == "0" }))
    }

    /// Python's `float(...)`.
    static func float(_ value: TemplateValue) -> Double? {
        guard let text = value.text else { return value.isBigInt ? value.approximate : value.number }
        guard text.bytes.count <= longest else { return nil }
        let digits = text.stripped().lowercased().description
        switch digits {
        case "inf", "+inf", "infinity", "+infinity": return .infinity
        case "-inf", "-infinity": return -.infinity
        case "nan", "+nan", "-nan": return .nan
        default:
            guard digits.allSatisfy({ $0.isASCII && ($0.isNumber || "+-._e".contains($0)) }) else { return nil }
            return underscoresRemoved(digits).flatMap { Double($0) }
        }
    }

    /// Underscores may stand between digits only; nil when one stands elsewhere.
    private static func underscoresRemoved(_ digits: String) -> String? {
        guard digits.contains("_") else { return digits }
        let parts = digits.split(separator: "_", omittingEmptySubsequences: false)
        guard parts.allSatisfy({ !$0.isEmpty }) else { return nil }
        return parts.joined()
    }

    static func rounded(_ value: TemplateValue, precision: Int, method: Text) throws -> TemplateValue {
        guard precision.magnitude < 300 else { throw TemplateFault("round has a precision out of range") }
        guard let number = value.number else { throw TemplateFault("round needs a number") }
        switch method {
        case "common":
            if let whole = value.index {
                guard precision < 0 else { return .int(whole) }
                let text = scaled(Double(whole), precision)
                return .int(Int(exactly: text) ?? whole)
            }
            guard number.isFinite else { return value }
            return .float(
                precision < 0 ? scaled(number, precision) : Double(String(format: "%.\(precision)f", number)) ?? number)
        case "ceil", "floor":
            let scale = pow(10, Double(precision))
            let moved = number * scale
            // Through an integer, as in Python, so that there is no negative zero.
            return .float((moved.rounded(method == "ceil" ? .up : .down) + 0) / scale)
        default: throw TemplateFault("round knows the methods common, ceil and floor")
        }
    }

    private static func scaled(_ number: Double, _ precision: Int) -> Double {
        let scale = pow(10, Double(-precision))
        return (number / scale).rounded(.toNearestOrEven) * scale
    }

    static func fileSize(_ size: Double, binary: Bool) -> Text {
        let base: Double = binary ? 1024 : 1000
        let units =
            binary
            ? ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"]
            : ["kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"]
        if size == 1 { return "1 Byte" }
        if size < base { return Text("\(Int(exactly: size.rounded(.towardZero)) ?? 0) Bytes") }
        var unit = base
        for (i, name) in units.enumerated() {
            unit *= base
            if size < unit || i == units.count - 1 {
                return Text(String(format: "%.1f ", base * size / unit) + name)
            }
        }
        return Text("\(size)")
    }
}
