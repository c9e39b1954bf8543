import Foundation

/// Why a text is not the JSON that was expected, and at which byte.
public struct JSONError: GraftError {
    public enum Kind: Sendable { case syntax, encoding, duplicateKey }

    public var offset: Int
    public var reason: String
    public var kind = Kind.syntax
    public var exitStatus: ExitStatus { .badInput }
    public var description: String { "malformed JSON at byte \(offset): \(reason)" }
}

/// A strict parser for RFC 8259 over bytes: checked UTF-8, bounded depth, no recursion beyond that depth.
public struct JSONParser {
    /// What to do with an object that holds the same key twice.
    public enum DuplicateKeys: Sendable { case refuse, keepLast }

    private static let smallObject = 12
    /// Python's limit, too (`sys.int_info.default_max_str_digits`).
    private static let longestInteger = 4_300

    let bytes: UnsafeBufferPointer<UInt8>
    var position = 0
    private let maximumDepth: Int
    private let duplicateKeys: DuplicateKeys

    /// Parses a whole document.
    ///
    /// - Throws: `JSONError` with the byte offset; trailing white space is not an error, other trailing bytes are.
    public static func parse(
        _ bytes: [UInt8], maximumDepth: Int = 64, duplicateKeys: DuplicateKeys = .keepLast
    ) throws -> JSONValue {
        try bytes.withUnsafeBufferPointer {
            try parse($0, maximumDepth: maximumDepth, duplicateKeys: duplicateKeys)
        }
    }

    public static func parse(_ text: String) throws -> JSONValue { try parse(Array(text.utf8)) }

    public static func parse(
        _ bytes: UnsafeBufferPointer<UInt8>, maximumDepth: Int = 64, duplicateKeys: DuplicateKeys = .keepLast
    ) throws -> JSONValue {
        var parser = JSONParser(bytes: bytes, maximumDepth: maximumDepth, duplicateKeys: duplicateKeys)
        parser.skipByteOrderMark()
        let value = try parser.parseValue(depth: 0)
        parser.skipSpace()
        guard parser.position == bytes.count else {
            throw parser.error(
                JSONLookalike.reason(at: parser.position, in: bytes) ?? "text after the end of the document")
        }
        return value
    }

    init(bytes: UnsafeBufferPointer<UInt8>, maximumDepth: Int, duplicateKeys: DuplicateKeys) {
        self.bytes = bytes
        self.maximumDepth = maximumDepth
        self.duplicateKeys = duplicateKeys
    }

    func error(_ reason: String, _ kind: JSONError.Kind = .syntax) -> JSONError {
        JSONError(offset: position, reason: reason, kind: kind)
    }

    /// The byte read last is neither the comma nor the bracket that could follow a value.
    private mutating func missing(_ comma: StaticString, _ bracket: String) -> JSONError {
        position -= 1
        return error(JSONLookalike.reason(at: position, in: bytes) ?? "expected '\(comma)' or \(bracket)")
    }

    private mutating func skipByteOrderMark() {
        if bytes.count >= 3, bytes[0] == 0xEF, bytes[1] == 0xBB, bytes[2] == 0xBF { position = 3 }
    }

    mutating func skipSpace() {
        while position < bytes.count {
            let byte = bytes[position]
            guard byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 else { return }
            position += 1
        }
    }

    mutating func parseValue(depth: Int) throws -> JSONValue {
        guard depth <= maximumDepth else { throw error("nested deeper than \(maximumDepth) levels") }
        skipSpace()
        guard position < bytes.count else { throw error("the text ends where a value was expected") }
        switch bytes[position] {
        case UInt8(ascii: "{"): return try parseObject(depth: depth)
        case UInt8(ascii: "["): return try parseArray(depth: depth)
        case UInt8(ascii: "\""): return .string(try parseString())
        case UInt8(ascii: "t"):
            try expect("true")
            return .bool(true)
        case UInt8(ascii: "f"):
            try expect("false")
            return .bool(false)
        case UInt8(ascii: "n"):
            try expect("null")
            return .null
        default: return try parseNumber()
        }
    }

    private mutating func expect(_ word: StaticString) throws {
        let length = word.utf8CodeUnitCount
        guard position + length <= bytes.count, memcmp(bytes.baseAddress! + position, word.utf8Start, length) == 0
        else { throw error("expected '\(word)'") }
        position += length
    }

    private mutating func parseArray(depth: Int) throws -> JSONValue {
        position += 1
        var elements: [JSONValue] = []
        skipSpace()
        if position < bytes.count, bytes[position] == UInt8(ascii: "]") {
            position += 1
            return .array([])
        }
        while true {
            elements.append(try parseValue(depth: depth + 1))
            skipSpace()
            guard position < bytes.count else { throw error("the text ends inside an array") }
            position += 1
            if bytes[position - 1] == UInt8(ascii: "]") { return .array(elements) }
            guard bytes[position - 1] == UInt8(ascii: ",") else { throw missing(",", "']'") }
        }
    }

    private mutating func parseObject(depth: Int) throws -> JSONValue {
        position += 1
        var entries: [(key: String, value: JSONValue)] = []
        // Most objects are small: their keys are compared one by one, a table is for large ones.
        var seen: [ByteString: Int] = [:]
        func place(of key: String) -> Int? {
            if entries.count < Self.smallObject { return entries.firstIndex { $0.key.hasSameBytes(as: key) } }
            if seen.isEmpty {
                for (index, entry) in entries.enumerated() { seen[ByteString(entry.key)] = index }
            }
            return seen[ByteString(key)]
        }
        skipSpace()
        if position < bytes.count, bytes[position] == UInt8(ascii: "}") {
            position += 1
            return .object(JSONObject())
        }
        while true {
            skipSpace()
            guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else {
                throw error(JSONLookalike.reason(at: position, in: bytes) ?? "expected a key")
            }
            let key = try parseString()
            skipSpace()
            guard position < bytes.count, bytes[position] == UInt8(ascii: ":") else { throw error("expected ':'") }
            position += 1
            let value = try parseValue(depth: depth + 1)
            if let earlier = place(of: key) {
                guard duplicateKeys == .keepLast else {
                    throw error("the key \(quoted(key)) stands twice in one object", .duplicateKey)
                }
                entries[earlier].value = value
            } else {
                if !seen.isEmpty { seen[ByteString(key)] = entries.count }
                entries.append((key, value))
            }
            skipSpace()
            guard position < bytes.count else { throw error("the text ends inside an object") }
            position += 1
            if bytes[position - 1] == UInt8(ascii: "}") { return .object(JSONObject(entries)) }
            guard bytes[position - 1] == UInt8(ascii: ",") else { throw missing(",", "'}'") }
        }
    }

    mutating func parseNumber() throws -> JSONValue {
        let start = position
        func isDigit(_ i: Int) -> Bool { i < bytes.count && bytes[i] >= 0x30 && bytes[i] <= 0x39 }
        var isInteger = true
        if position < bytes.count, bytes[position] == UInt8(ascii: "-") { position += 1 }
        guard isDigit(position) else {
            position = start
            throw error(JSONLookalike.reason(at: start, in: bytes) ?? "expected a value")
        }
        if bytes[position] == 0x30, isDigit(position + 1) { throw error("a number starts with 0") }
        while isDigit(position) { position += 1 }
        if position < bytes.count, bytes[position] == UInt8(ascii: ".") {
            isInteger = false
            position += 1
            guard isDigit(position) else { throw error("a number has no digits after its point") }
            while isDigit(position) { position += 1 }
        }
        if position < bytes.count, bytes[position] | 0x20 == UInt8(ascii: "e") {
            isInteger = false
            position += 1
            if position < bytes.count, bytes[position] == UInt8(ascii: "+") || bytes[position] == UInt8(ascii: "-") {
                position += 1
            }
            guard isDigit(position) else { throw error("a number has no digits in its exponent") }
            while isDigit(position) { position += 1 }
        }
        if isInteger, position - start <= 18 {
            let isNegative = bytes[start] == UInt8(ascii: "-")
            var value = 0
            for i in (isNegative ? start + 1 : start)..<position { value = value &* 10 &+ Int(bytes[i] - 0x30) }
            return .integer(isNegative ? -value : value)
        }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        if isInteger {
            if let value = Int(text) { return .integer(value) }
            guard text.utf8.count <= Self.longestInteger else { throw error("an integer has too many digits") }
            return .bigInteger(text)
        }
        guard let value = Double(text), value.isFinite else { throw error("the number \(text) is out of range") }
        return .double(value)
    }

    mutating func parseString() throws -> String {
        position += 1
        let start = position
        while position < bytes.count, bytes[position] != UInt8(ascii: "\""), bytes[position] != UInt8(ascii: "\\"),
            bytes[position] >= 0x20
        { position += 1 }
        guard position < bytes.count else { throw error("the text ends inside a string") }
        if bytes[position] == UInt8(ascii: "\"") {
            defer { position += 1 }
            return try validated(UnsafeBufferPointer(rebasing: bytes[start..<position]), at: start)
        }
        var buffer = Array(bytes[start..<position])
        while true {
            guard position < bytes.count else { throw error("the text ends inside a string") }
            let byte = bytes[position]
            if byte == UInt8(ascii: "\"") { break }
            if byte < 0x20 { throw error("a control character stands unescaped in a string") }
            if byte == UInt8(ascii: "\\") {
                try parseEscape(into: &buffer)
            } else {
                buffer.append(byte)
                position += 1
            }
        }
        position += 1
        return try buffer.withUnsafeBufferPointer { try validated($0, at: start) }
    }

    private func validated(_ buffer: UnsafeBufferPointer<UInt8>, at offset: Int) throws -> String {
        guard let text = String(validating: buffer, as: UTF8.self) else {
            throw JSONError(offset: offset, reason: "a string is not valid UTF-8", kind: .encoding)
        }
        return text
    }

    private mutating func parseEscape(into buffer: inout [UInt8]) throws {
        guard position + 1 < bytes.count else { throw error("the text ends inside an escape") }
        let escape = bytes[position + 1]
        position += 2
        switch escape {
        case UInt8(ascii: "n"): buffer.append(0x0A)
        case UInt8(ascii: "t"): buffer.append(0x09)
        case UInt8(ascii: "r"): buffer.append(0x0D)
        case UInt8(ascii: "b"): buffer.append(0x08)
        case UInt8(ascii: "f"): buffer.append(0x0C)
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): buffer.append(escape)
        case UInt8(ascii: "u"):
            var scalar = UInt32(try parseHex())
            if scalar >= 0xD800 && scalar < 0xDC00, position + 1 < bytes.count, bytes[position] == UInt8(ascii: "\\"),
                bytes[position + 1] == UInt8(ascii: "u")
            {
                position += 2
                let low = UInt32(try parseHex())
                guard low >= 0xDC00 && low < 0xE000 else { throw error("a lone surrogate in an escape", .encoding) }
                scalar = 0x10000 + (scalar - 0xD800) << 10 + (low - 0xDC00)
            }
            guard let unicode = Unicode.Scalar(scalar) else { throw error("a lone surrogate in an escape", .encoding) }
            buffer.append(contentsOf: UTF8.encode(unicode)!)
        default: throw error("an unknown escape")
        }
    }

    private mutating func parseHex() throws -> UInt16 {
        guard position + 4 <= bytes.count else { throw error("the text ends inside an escape") }
        var value: UInt16 = 0
        for _ in 0..<4 {
            guard let digit = Character(Unicode.Scalar(bytes[position])).hexDigitValue else {
                throw error("an escape is not hexadecimal")
            }
            value = value << 4 | UInt16(digit)
            position += 1
        }
        return value
    }
}
