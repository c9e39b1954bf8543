/// Python's literals as Jinja reads them.
enum PythonLiteral {
    /// The text of a string literal (Python's `unicode-escape`); unknown escapes stay as they are.
    static func unescaped(_ body: ArraySlice<UInt8>, line: Int) throws -> Text {
        var text = Text([])
        var rest = body
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "\\"), let escape = rest.popFirst() else {
                text.bytes.append(byte)
                continue
            }
            switch escape {
            case UInt8(ascii: "n"): text.bytes.append(0x0A)
            case UInt8(ascii: "t"): text.bytes.append(0x09)
            case UInt8(ascii: "r"): text.bytes.append(0x0D)
            case UInt8(ascii: "a"): text.bytes.append(0x07)
            case UInt8(ascii: "b"): text.bytes.append(0x08)
            case UInt8(ascii: "f"): text.bytes.append(0x0C)
            case UInt8(ascii: "v"): text.bytes.append(0x0B)
            case UInt8(ascii: "\\"), UInt8(ascii: "'"), UInt8(ascii: "\""): text.bytes.append(escape)
            case 0x0A: break
            case UInt8(ascii: "x"): text.append(try hex(&rest, digits: 2, line: line))
            case UInt8(ascii: "u"): text.append(try hex(&rest, digits: 4, line: line))
            case UInt8(ascii: "U"): text.append(try hex(&rest, digits: 8, line: line))
            case 0x30...0x37:
                var value = UInt32(escape - 0x30)
                var digits = 1
                while digits < 3, let next = rest.first, (0x30...0x37).contains(next) {
                    value = value * 8 + UInt32(next - 0x30)
                    digits += 1
                    rest.removeFirst()
                }
                text.append(Unicode.Scalar(value) ?? "\u{FFFD}")
            case UInt8(ascii: "N"): throw TemplateFault("\\N{...} escapes are not supported", line: line)
            default: text.bytes += [byte, escape]
            }
        }
        return text
    }

    private static func hex(_ rest: inout ArraySlice<UInt8>, digits: Int, line: Int) throws -> Unicode.Scalar {
        let field = rest.prefix(digits)
        let isHexadecimal = field.allSatisfy { Character(Unicode.Scalar($0)).isHexDigit }
        guard field.count == digits, isHexadecimal, let value = UInt32(Text(field).description, radix: 16),
            let scalar = Unicode.Scalar(value)
        else { throw TemplateFault("a string holds an escape that is not a Unicode scalar", line: line) }
        rest = rest.dropFirst(digits)
        return scalar
    }

    /// The number at the start of `source`, and its length in bytes.
    static func number(_ source: ArraySlice<UInt8>, line: Int, afterDot: Bool) throws -> (TemplateTokenKind, Int) {
        let bytes = Array(source.prefix(400))
        func digits(from start: Int, _ isDigit: (UInt8) -> Bool) -> Int {
            var end = start
            while end < bytes.count,
                isDigit(bytes[end])
                    || (bytes[end] == 0x5F && end > start
                        && end + 1 < bytes.count && isDigit(bytes[end + 1]))
            { end += 1 }
            return end
        }
        func decimal(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }
        func text(_ range: Range<Int>) -> String {
            String(decoding: bytes[range].filter { $0 != 0x5F }, as: UTF8.self)
        }
        func integer(_ range: Range<Int>, radix: Int) throws -> (TemplateTokenKind, Int) {
            guard let value = Int(text(range), radix: radix) else {
                throw TemplateFault("the number \(text(range)) does not fit 64 bits", line: line)
            }
            return (.int(value), range.upperBound)
        }
        if bytes[0] == 0x30, bytes.count > 2 {
            let radix = [UInt8(ascii: "x"): 16, UInt8(ascii: "o"): 8, UInt8(ascii: "b"): 2][bytes[1] | 0x20]
            if let radix {
                let end = digits(from: 2) { Character(Unicode.Scalar($0)).hexDigitValue.map { $0 < radix } ?? false }
                if end > 2 { return try integer(2..<end, radix: radix) }
            }
        }
        let whole = digits(from: 0, decimal)
        var end = whole
        if !afterDot {
            if end + 1 < bytes.count, bytes[end] == UInt8(ascii: "."), decimal(bytes[end + 1]) {
                end = digits(from: end + 1, decimal)
            }
            if end + 1 < bytes.count, bytes[end] | 0x20 == UInt8(ascii: "e") {
                let sign = [UInt8(ascii: "+"), UInt8(ascii: "-")].contains(bytes[end + 1]) ? 1 : 0
                let exponent = digits(from: end + 1 + sign, decimal)
                if exponent > end + 1 + sign { end = exponent }
            }
        }
        if end == whole {
            guard bytes[0] != 0x30 || bytes[..<whole].allSatisfy({ $0 == 0x30 || $0 == 0x5F }) else {
                throw TemplateFault("a number starts with 0", line: line)
            }
            return try integer(0..<whole, radix: 10)
        }
        guard let value = Double(text(0..<end)) else { throw TemplateFault("a malformed number", line: line) }
        return (.float(value), end)
    }
}
