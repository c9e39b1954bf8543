internal import FileFormats
import Foundation

// Python's `str` and `repr`.
extension Interpreter {
    /// What printing the value writes.
    func printed(_ value: TemplateValue) throws -> Text {
        switch value {
        case .string(let text): return text
        case .undefined: return Text([])
        default: return try representation(value)
        }
    }

    func representation(_ value: TemplateValue) throws -> Text {
        var text = Text([])
        try represent(value, into: &text)
        try spend(text.bytes.count / Self.bytesPerFuel)
        return text
    }

    private func represent(_ value: TemplateValue, into text: inout Text) throws {
        try spend(1)
        switch value {
        case .undefined: text.bytes += "Undefined".utf8
        case .none: text.bytes += "None".utf8
        case .bool(let flag): text.bytes += (flag ? "True" : "False").utf8
        case .int(let number): text.bytes += String(number).utf8
        case .bigInt(let digits): text.bytes += digits.bytes
        case .float(let number): text.bytes += Self.floatText(number).utf8
        case .bytes(let bytes): text.bytes += Self.quoted(bytes).bytes
        case .string(let string):
            if string.isMarkup { text.bytes += "Markup(".utf8 }
            text.bytes += Self.quoted(string).bytes
            if string.isMarkup { text.bytes += ")".utf8 }
            try spend(string.bytes.count / Self.bytesPerFuel)
        case .list(let items): try represent(items, "[", "]", into: &text)
        case .tuple(let items): try represent(items, "(", items.values.count == 1 ? ",)" : ")", into: &text)
        case .view(let items, _): try represent(items, value.typeName + "([", "])", into: &text)
        case .dict(let mapping):
            text.bytes += "{".utf8
            for (i, entry) in mapping.entries.enumerated() {
                if i > 0 { text.bytes += ", ".utf8 }
                try represent(entry.key, into: &text)
                text.bytes += ": ".utf8
                try represent(entry.value, into: &text)
            }
            text.bytes += "}".utf8
        case .range(let range):
            let (stop, step) = (range.stop, range.step)
            text.bytes += "range(\(range.start), \(stop)\(step == 1 ? "" : ", \(step)"))".utf8
        case .namespace(let namespace):
            recorder?.spoil()
            // A namespace may hold itself.
            try checkStack()
            text.bytes += "<Namespace ".utf8
            try represent(
                try dict(namespace.names.map { (.string($0), namespace[$0] ?? .none) }), into: &text)
            text.bytes += ">".utf8
        case .callable(.macro(let macro)):
            text.bytes +=
                macro.definition.isAnonymous ? "<Macro anonymous>".utf8 : "<Macro '\(macro.definition.name)'>".utf8
        case .generator, .loop, .callable: text.bytes += "<\(value.typeName) object>".utf8
        }
    }

    private func represent(_ items: Items, _ open: String, _ close: String, into text: inout Text) throws {
        text.bytes += open.utf8
        for (i, value) in items.values.enumerated() {
            if i > 0 { text.bytes += ", ".utf8 }
            try represent(value, into: &text)
        }
        text.bytes += close.utf8
    }

    /// `repr` of a string: single quotes unless only those occur in it.
    static func quoted(_ string: Text) -> Text {
        let quote: UInt8 =
            string.bytes.contains(UInt8(ascii: "'")) && !string.bytes.contains(UInt8(ascii: "\"")) ? 0x22 : 0x27
        var text = Text([quote])
        for scalar in string.scalars {
            switch scalar {
            case "\n": text.bytes += "\\n".utf8
            case "\r": text.bytes += "\\r".utf8
            case "\t": text.bytes += "\\t".utf8
            case "\\": text.bytes += "\\\\".utf8
            case _ where scalar.value == UInt32(quote): text.bytes += [UInt8(ascii: "\\"), quote]
            case _ where Text.isPrintable(scalar): text.append(scalar)
            default:
                text.bytes += escape(scalar).utf8
            }
        }
        text.bytes.append(quote)
        return text
    }

    /// `\xe9`, `\u0915` or `\U0001f600`.
    static func escape(_ scalar: Unicode.Scalar) -> String {
        let digits = String(scalar.value, radix: 16)
        let (mark, width) = scalar.value < 0x100 ? ("x", 2) : scalar.value < 0x10000 ? ("u", 4) : ("U", 8)
        return "\\\(mark)\(String(repeating: "0", count: width - digits.count))\(digits)"
    }

    /// `repr` of bytes.
    static func quoted(_ bytes: [UInt8]) -> Text {
        let quote: UInt8 = bytes.contains(UInt8(ascii: "'")) && !bytes.contains(UInt8(ascii: "\"")) ? 0x22 : 0x27
        var text = Text([UInt8(ascii: "b"), quote])
        for byte in bytes {
            switch byte {
            case 0x0A: text.bytes += "\\n".utf8
            case 0x0D: text.bytes += "\\r".utf8
            case 0x09: text.bytes += "\\t".utf8
            case UInt8(ascii: "\\"), quote: text.bytes += [UInt8(ascii: "\\"), byte]
            case 0x20..<0x7F: text.bytes.append(byte)
            default: text.bytes += "\\x\(byte < 16 ? "0" : "")\(String(byte, radix: 16))".utf8
            }
        }
        text.bytes.append(quote)
        return text
    }

    /// `repr` of a float: the shortest digits that read back the same.
    static func floatText(_ value: Double) -> String {
        guard value.isFinite else { return value.isNaN ? "nan" : value < 0 ? "-inf" : "inf" }
        return JSONWriter.pythonRepresentation(value)
    }

    // MARK: JSON

    struct JSONLayout {
        var indent: Text?
        var asciiOnly = false
        var sortsKeys = false
        var itemSeparator: Text
        var keySeparator: Text
    }

    /// Python's `json.dumps`.
    func json(_ value: TemplateValue, _ layout: JSONLayout) throws -> Text {
        var text = Text([])
        try writeJSON(value, layout, level: 0, into: &text)
        try spend(text.bytes.count / Self.bytesPerFuel)
        return text
    }

    private func writeJSON(_ value: TemplateValue, _ layout: JSONLayout, level: Int, into text: inout Text) throws {
        try spend(1)
        switch value {
        case .none: text.bytes += "null".utf8
        case .bool(let flag): text.bytes += (flag ? "true" : "false").utf8
        case .int(let number): text.bytes += String(number).utf8
        case .bigInt(let digits): text.bytes += digits.bytes
        case .float(let number): text.bytes += Self.jsonFloat(number).utf8
        case .string(let string):
            try spend(string.bytes.count / Self.bytesPerFuel)
            Self.writeJSONString(string, asciiOnly: layout.asciiOnly, into: &text)
        case .list(let items), .tuple(let items):
            try writeJSONSequence(items.values, "[", "]", layout, level: level, into: &text) { value, text in
                try self.writeJSON(value, layout, level: level + 1, into: &text)
            }
        case .dict(let mapping):
            var entries = mapping.entries
            if layout.sortsKeys { entries = try sorted(entries) { $0.key } }
            try writeJSONSequence(entries, "{", "}", layout, level: level, into: &text) { entry, text in
                Self.writeJSONString(try self.jsonKey(entry.key), asciiOnly: layout.asciiOnly, into: &text)
                text.bytes += layout.keySeparator.bytes
                try self.writeJSON(entry.value, layout, level: level + 1, into: &text)
            }
        default:
            throw TemplateFault(value.isUndefined ? undefined(value).message : "a \(value.typeName) cannot become JSON")
        }
    }

    private func writeJSONSequence<Element>(
        _ elements: [Element], _ open: String, _ close: String, _ layout: JSONLayout, level: Int,
        into text: inout Text, _ write: (Element, inout Text) throws -> Void
    ) throws {
        text.bytes += open.utf8
        func newLine(_ level: Int) {
            guard let indent = layout.indent else { return }
            text.bytes.append(0x0A)
            for _ in 0..<level { text.bytes += indent.bytes }
        }
        for (i, element) in elements.enumerated() {
            if i > 0 { text.bytes += layout.itemSeparator.bytes }
            newLine(level + 1)
            try write(element, &text)
        }
        if !elements.isEmpty { newLine(level) }
        text.bytes += close.utf8
    }

    private func jsonKey(_ key: TemplateValue) throws -> Text {
        switch key {
        case .string(let text): return text
        case .none: return "null"
        case .bool(let flag): return flag ? "true" : "false"
        case .int(let number): return Text(String(number))
        case .bigInt(let digits): return digits
        case .float(let number): return Text(Self.jsonFloat(number))
        default: throw TemplateFault("a \(key.typeName) cannot be a key in JSON")
        }
    }

    private static func jsonFloat(_ value: Double) -> String {
        value.isFinite ? floatText(value) : value.isNaN ? "NaN" : value < 0 ? "-Infinity" : "Infinity"
    }

    private static func writeJSONString(_ string: Text, asciiOnly: Bool, into text: inout Text) {
        let isPlain = string.bytes.allSatisfy {
            $0 >= 0x20 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") && (!asciiOnly || $0 < 0x7F)
        }
        guard isPlain else {
            text.bytes += JSONWriter.bytes(.string(string.description), .init(asciiOnly: asciiOnly))
            return
        }
        text.bytes.append(UInt8(ascii: "\""))
        text.bytes += string.bytes
        text.bytes.append(UInt8(ascii: "\""))
    }
}
