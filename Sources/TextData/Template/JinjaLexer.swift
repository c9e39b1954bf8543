enum TemplateTokenKind: Equatable {
    case data(Text)
    case blockBegin, blockEnd, variableBegin, variableEnd
    case name(Text)
    case string(Text)
    case int(Int)
    case float(Double)
    case symbol(TemplateSymbol)
    case end
}

enum TemplateSymbol: String, CaseIterable {
    case floorDivide = "//", power = "**", equal = "==", notEqual = "!=", greaterOrEqual = ">=", lessOrEqual = "<="
    case add = "+", subtract = "-", divide = "/", multiply = "*", remainder = "%", tilde = "~"
    case leftBracket = "[", rightBracket = "]", leftParenthesis = "(", rightParenthesis = ")"
    case leftBrace = "{", rightBrace = "}", greater = ">", less = "<", assign = "=", dot = ".", colon = ":"
    case pipe = "|", comma = ",", semicolon = ";"

    static let bySpelling = Dictionary(uniqueKeysWithValues: allCases.map { (Array($0.rawValue.utf8), $0) })
}

struct TemplateToken {
    var kind: TemplateTokenKind
    var line: Int
}

/// Cuts a template into tokens with `trim_blocks` and `lstrip_blocks` on, as Transformers compiles templates.
struct JinjaLexer {
    private let source: [UInt8]
    private var position = 0
    private var line = 1
    private var isLineStart = true
    private var tokens: [TemplateToken] = []

    static func tokens(of source: String) throws -> [TemplateToken] {
        var lexer = JinjaLexer(source: normalized(Array(source.utf8)))
        try lexer.run()
        return lexer.tokens
    }

    private init(source: [UInt8]) { self.source = source }

    /// All line ends become `\n`, and a single one at the end is dropped.
    private static func normalized(_ bytes: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count)
        for (i, byte) in bytes.enumerated() {
            if byte == 0x0D {
                result.append(0x0A)
            } else if byte != 0x0A || i == 0 || bytes[i - 1] != 0x0D {
                result.append(byte)
            }
        }
        if result.last == 0x0A { result.removeLast() }
        return result
    }

    private func starts(_ text: StaticString, at offset: Int) -> Bool {
        let length = text.utf8CodeUnitCount
        guard offset + length <= source.count else { return false }
        return (0..<length).allSatisfy { source[offset + $0] == text.utf8Start[$0] }
    }

    private func skippingSpace(from offset: Int) -> Int {
        var offset = offset
        while offset < source.count {
            let (scalar, length) = Text.scalar(in: source, at: offset)
            guard Text.isSpace(scalar) else { break }
            offset += length
        }
        return offset
    }

    /// Moves to `offset`, counting lines.
    private mutating func advance(to offset: Int) {
        guard offset > position else { return }
        line += source[position..<offset].count { $0 == 0x0A }
        isLineStart = source[offset - 1] == 0x0A
        position = offset
    }

    private mutating func add(_ kind: TemplateTokenKind) { tokens.append(TemplateToken(kind: kind, line: line)) }

    private mutating func run() throws {
        while position < source.count {
            var open = position
            while open < source.count {
                if source[open] == UInt8(ascii: "{"), open + 1 < source.count,
                    [UInt8(ascii: "{"), UInt8(ascii: "%"), UInt8(ascii: "#")].contains(source[open + 1])
                { break }
                open += 1
            }
            guard open < source.count else {
                add(.data(Text(source[position...])))
                position = source.count
                break
            }
            try lexTag(at: open)
        }
        add(.end)
    }

    private mutating func lexTag(at open: Int) throws {
        let sign = open + 2 < source.count ? source[open + 2] : 0
        let isVariable = source[open + 1] == UInt8(ascii: "{")
        addData(upTo: open, sign: sign, isVariable: isVariable)
        let inside = open + 2 + (sign == UInt8(ascii: "-") || sign == UInt8(ascii: "+") ? 1 : 0)
        switch source[open + 1] {
        case UInt8(ascii: "{"):
            add(.variableBegin)
            advance(to: inside)
            try lexInside(isVariable: true)
        case UInt8(ascii: "#"):
            guard let end = endOfComment(from: inside) else {
                throw TemplateFault("a comment is not closed with '#}'", line: line)
            }
            advance(to: end)
        default:
            if let body = rawBody(from: inside) {
                advance(to: body)
                try lexRaw()
            } else {
                add(.blockBegin)
                advance(to: inside)
                try lexInside(isVariable: false)
            }
        }
    }

    /// The data before a tag, stripped as the tag's sign and `lstrip_blocks` ask.
    private mutating func addData(upTo end: Int, sign: UInt8, isVariable: Bool) {
        var data = Text(source[position..<end])
        if sign == UInt8(ascii: "-") {
            data = data.stripped(left: false)
        } else if sign != UInt8(ascii: "+"), !isVariable {
            let lineStart = data.bytes.lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
            if lineStart > 0 || isLineStart {
                let tail = Text(data.bytes[lineStart...])
                if tail.stripped().isEmpty { data = Text(data.bytes[..<lineStart]) }
            }
        }
        if !data.isEmpty { add(.data(data)) }
        advance(to: end)
    }

    /// The end of `+%}`, `-%}` with what it strips, or `%}` with a newline, if one starts at `offset`.
    private func endOfBlock(at offset: Int, _ close: StaticString = "%}") -> Int? {
        guard offset < source.count else { return nil }
        if source[offset] == UInt8(ascii: "+"), starts(close, at: offset + 1) { return offset + 3 }
        if source[offset] == UInt8(ascii: "-"), starts(close, at: offset + 1) { return skippingSpace(from: offset + 3) }
        guard starts(close, at: offset) else { return nil }
        return offset + 2 < source.count && source[offset + 2] == 0x0A ? offset + 3 : offset + 2
    }

    private func endOfComment(from start: Int) -> Int? {
        var offset = start
        while offset < source.count {
            if let end = endOfBlock(at: offset, "#}") { return end }
            offset += 1
        }
        return nil
    }

    /// Where the text of `{% raw %}` starts, if that is the tag.
    private func rawBody(from start: Int) -> Int? {
        let name = skippingSpace(from: start)
        guard starts("raw", at: name) else { return nil }
        let end = skippingSpace(from: name + 3)
        if starts("-%}", at: end) { return skippingSpace(from: end + 3) }
        return starts("%}", at: end) ? end + 2 : nil
    }

    private mutating func lexRaw() throws {
        var open = position
        while open < source.count {
            if starts("{%", at: open) {
                let sign = open + 2 < source.count ? source[open + 2] : 0
                let isSigned = sign == UInt8(ascii: "-") || sign == UInt8(ascii: "+")
                let name = skippingSpace(from: open + (isSigned ? 3 : 2))
                if starts("endraw", at: name), let end = endOfBlock(at: skippingSpace(from: name + 6)) {
                    addData(upTo: open, sign: sign, isVariable: false)
                    advance(to: end)
                    return
                }
            }
            open += 1
        }
        throw TemplateFault("a raw block is not closed with '{% endraw %}'", line: line)
    }

    private mutating func lexInside(isVariable: Bool) throws {
        var open: [TemplateSymbol] = []
        while true {
            advance(to: skippingSpaceForTokens())
            guard position < source.count else {
                throw TemplateFault("the template ends inside a tag", line: line)
            }
            if open.isEmpty, let end = isVariable ? endOfVariable() : endOfBlock(at: position) {
                add(isVariable ? .variableEnd : .blockEnd)
                advance(to: end)
                return
            }
            try lexToken(&open)
        }
    }

    /// White space before a token; a closing `-%}` is left for the caller.
    private func skippingSpaceForTokens() -> Int { skippingSpace(from: position) }

    private func endOfVariable() -> Int? {
        if starts("-}}", at: position) { return skippingSpace(from: position + 3) }
        return starts("}}", at: position) ? position + 2 : nil
    }

    private mutating func lexToken(_ open: inout [TemplateSymbol]) throws {
        let byte = source[position]
        if byte == UInt8(ascii: "'") || byte == UInt8(ascii: "\"") { return try lexString(quote: byte) }
        if byte >= 0x30 && byte <= 0x39 { return try lexNumber() }
        var end = position
        while end < source.count {
            let byte = source[end]
            if byte < 0x80 {
                guard byte == 0x5F || (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte & 0xDF) else { break }
                end += 1
                continue
            }
            let (scalar, length) = Text.scalar(in: source, at: end)
            guard scalar.properties.isXIDContinue else { break }
            end += length
        }
        if end > position {
            add(.name(Text(source[position..<end])))
            return advance(to: end)
        }
        for length in [2, 1] where position + length <= source.count {
            let bytes = Array(source[position..<position + length])
            guard let symbol = TemplateSymbol.bySpelling[bytes] else { continue }
            try balance(symbol, &open)
            add(.symbol(symbol))
            return advance(to: position + length)
        }
        throw TemplateFault("unexpected character '\(Text.scalar(in: source, at: position).0)'", line: line)
    }

    private func balance(_ symbol: TemplateSymbol, _ open: inout [TemplateSymbol]) throws {
        switch symbol {
        case .leftBrace: open.append(.rightBrace)
        case .leftBracket: open.append(.rightBracket)
        case .leftParenthesis: open.append(.rightParenthesis)
        case .rightBrace, .rightBracket, .rightParenthesis:
            guard let expected = open.popLast() else {
                throw TemplateFault("unexpected '\(symbol.rawValue)'", line: line)
            }
            guard expected == symbol else {
                throw TemplateFault("unexpected '\(symbol.rawValue)', expected '\(expected.rawValue)'", line: line)
            }
        default: break
        }
    }

    private mutating func lexString(quote: UInt8) throws {
        var end = position + 1
        while end < source.count, source[end] != quote { end += source[end] == UInt8(ascii: "\\") ? 2 : 1 }
        guard end < source.count else { throw TemplateFault("a string is not closed", line: line) }
        let text = try PythonLiteral.unescaped(source[(position + 1)..<end], line: line)
        add(.string(text))
        advance(to: end + 1)
    }

    private mutating func lexNumber() throws {
        let (kind, length) = try PythonLiteral.number(source[position...], line: line, afterDot: isAfterDot)
        add(kind)
        advance(to: position + length)
    }

    /// `a.0.5` is two subscripts, not a fraction.
    private var isAfterDot: Bool { tokens.last?.kind == .symbol(.dot) }
}

extension Text {
    /// The scalar that starts at `offset` of valid UTF-8, and its length in bytes.
    static func scalar(in bytes: [UInt8], at offset: Int) -> (Unicode.Scalar, Int) {
        let first = bytes[offset]
        if first < 0x80 { return (Unicode.Scalar(first), 1) }
        let length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4
        var value = UInt32(first) & (length == 2 ? 0x1F : length == 3 ? 0x0F : 0x07)
        for i in 1..<length where offset + i < bytes.count { value = value << 6 | UInt32(bytes[offset + i] & 0x3F) }
        return (Unicode.Scalar(value) ?? "\u{FFFD}", min(length, bytes.count - offset))
    }
}
