import Foundation

/// Writes JSON the way Python's `json.dumps` does, so that files diff cleanly against those of other tools.
public struct JSONWriter {
    public struct Options: Sendable {
        /// Spaces per level; nil writes one line.
        public var indent: Int?
        public var sortsKeys: Bool
        /// Escapes everything above U+007F, which is Python's default.
        public var asciiOnly: Bool
        public var itemSeparator: String
        public var keySeparator: String

        public init(
            indent: Int? = nil, sortsKeys: Bool = false, asciiOnly: Bool = false, itemSeparator: String? = nil,
            keySeparator: String = ": "
        ) {
            self.indent = indent
            self.sortsKeys = sortsKeys
            self.asciiOnly = asciiOnly
            self.itemSeparator = itemSeparator ?? (indent == nil ? ", " : ",")
            self.keySeparator = keySeparator
        }
        public static let compact = Options(itemSeparator: ",", keySeparator: ":")
        public static let pretty = Options(indent: 2)
    }

    private let options: Options
    private var output = ""

    public static func text(_ value: JSONValue, _ options: Options = Options()) -> String {
        var writer = JSONWriter(options: options)
        writer.write(value, depth: 0)
        return writer.output
    }

    public static func bytes(_ value: JSONValue, _ options: Options = Options()) -> [UInt8] {
        Array(text(value, options).utf8)
    }

    private init(options: Options) { self.options = options }

    private mutating func write(_ value: JSONValue, depth: Int) {
        switch value {
        case .null: output += "null"
        case .bool(let flag): output += flag ? "true" : "false"
        case .integer(let number): output += String(number)
        case .bigInteger(let digits): output += digits
        case .double(let number): output += Self.pythonRepresentation(number)
        case .string(let text): writeString(text)
        case .array(let elements):
            writeSequence("[", "]", isEmpty: elements.isEmpty, depth: depth, count: elements.count) { writer, i in
                writer.write(elements[i], depth: depth + 1)
            }
        case .object(let object):
            var entries = object.entries
            if options.sortsKeys { entries.sort { ByteString($0.key) < ByteString($1.key) } }
            writeSequence("{", "}", isEmpty: entries.isEmpty, depth: depth, count: entries.count) { writer, i in
                writer.writeString(entries[i].key)
                writer.output += writer.options.keySeparator
                writer.write(entries[i].value, depth: depth + 1)
            }
        }
    }

    private mutating func writeSequence(
        _ open: String, _ close: String, isEmpty: Bool, depth: Int, count: Int, item: (inout JSONWriter, Int) -> Void
    ) {
        output += open
        for i in 0..<count {
            if i > 0 { output += options.itemSeparator }
            newLine(depth + 1)
            item(&self, i)
        }
        if !isEmpty { newLine(depth) }
        output += close
    }

    private mutating func newLine(_ depth: Int) {
        guard let indent = options.indent else { return }
        output += "\n"
        output += String(repeating: " ", count: indent * depth)
    }

    /// Python's `repr(float)`: the shortest digits that read back the same, `1e-05` for exponents below -4.
    public static func pythonRepresentation(_ value: Double) -> String {
        guard value.isFinite else { return value.isNaN ? "NaN" : value < 0 ? "-Infinity" : "Infinity" }
        let text = "\(value)"
        guard let mark = text.firstIndex(of: "e") else { return text }
        var mantissa = String(text[..<mark])
        var exponent = Int(text[text.index(after: mark)...]) ?? 0
        if exponent >= 16 || exponent < -4 {
            if mantissa.hasSuffix(".0") { mantissa.removeLast(2) }
            let sign = exponent < 0 ? "-" : "+"
            exponent = abs(exponent)
            return "\(mantissa)e\(sign)\(exponent < 10 ? "0" : "")\(exponent)"
        }
        // Swift turns to exponents at 2^53; up to 10^16 every such number is an integer of 16 digits.
        return String(format: "%.1f", value)
    }

    private mutating func writeString(_ text: String) {
        output.unicodeScalars.append("\"")
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": output += "\\\""
            case "\\": output += "\\\\"
            case "\n": output += "\\n"
            case "\r": output += "\\r"
            case "\t": output += "\\t"
            case "\u{8}": output += "\\b"
            case "\u{C}": output += "\\f"
            case _ where scalar.value < 0x20: writeEscape(UInt16(scalar.value))
            case _ where options.asciiOnly && scalar.value > 0x7E:
                for unit in UTF16.encode(scalar)! { writeEscape(unit) }
            default: output.unicodeScalars.append(scalar)
            }
        }
        output.unicodeScalars.append("\"")
    }

    private mutating func writeEscape(_ unit: UInt16) {
        let digits = String(unit, radix: 16)
        output += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
    }
}
