import Foundation

/// A format specification, of `%` or of `str.format`.
struct FormatSpecification {
    var fill: Unicode.Scalar = " "
    var align: Unicode.Scalar?
    var sign: Unicode.Scalar = "-"
    var isAlternate = false
    var width = 0
    var grouping: Unicode.Scalar?
    var precision: Int?
    var type: Unicode.Scalar?
}

// Python's two ways to format: `format % values` and `str.format`.
extension Interpreter {
    private static let widthLimit = 4096

    // MARK: %

    func printf(_ format: Text, _ values: TemplateValue) throws -> Text {
        try spend(format.bytes.count / Self.bytesPerFuel)
        var cursor = ScalarCursor(format.scalars)
        var result = Text([])
        var positional: ArraySlice<TemplateValue>
        if case .tuple(let items) = values { positional = items.values[...] } else { positional = [values] }
        var isNamed = false
        while let scalar = cursor.next() {
            guard scalar == "%" else {
                result.append(scalar)
                continue
            }
            var name: Text?
            if cursor.accept("(") {
                name = Text(cursor.upTo(")"))
                guard cursor.accept(")") else { throw TemplateFault("a format names no key") }
            }
            var specification = try printfSpecification(&cursor, &positional)
            guard let type = cursor.next() else { throw TemplateFault("a format ends after '%'") }
            if type == "%" {
                result.append("%")
                continue
            }
            specification.type = type
            let value: TemplateValue
            if let name {
                guard case .dict(let mapping) = values, let found = mapping[name] else {
                    throw TemplateFault("the format names the key '\(name)', which is missing")
                }
                value = found
                isNamed = true
            } else {
                guard let next = positional.popFirst() else { throw TemplateFault("too few values for the format") }
                value = next
            }
            result.bytes += try printfField(value, specification).bytes
            try spend(1 + specification.width / 16)
        }
        // Python minds left-over values only of tuples, and of values that cannot be subscripted.
        switch values {
        case .dict, .list, .range, .undefined, .loop: isNamed = true
        default: break
        }
        guard positional.isEmpty || isNamed else { throw TemplateFault("too many values for the format") }
        return result
    }

    private func printfSpecification(
        _ cursor: inout ScalarCursor, _ positional: inout ArraySlice<TemplateValue>
    ) throws -> FormatSpecification {
        var specification = FormatSpecification(align: ">")
        flags: while let flag = cursor.peek {
            switch flag {
            case "-": specification.align = "<"
            case "+": specification.sign = "+"
            case " ": if specification.sign != "+" { specification.sign = " " }
            case "0": specification.fill = "0"
            case "#": specification.isAlternate = true
            default: break flags
            }
            _ = cursor.next()
        }
        func number() throws -> Int? {
            guard cursor.accept("*") else { return cursor.number() }
            guard let value = positional.popFirst()?.index else {
                throw TemplateFault("'*' in a format needs an integer")
            }
            return value
        }
        specification.width = try number() ?? 0
        if cursor.accept(".") { specification.precision = try number() ?? 0 }
        while let mark = cursor.peek, mark == "l" || mark == "h" || mark == "L" { _ = cursor.next() }
        if specification.align == "<" { specification.fill = " " }
        if specification.fill == "0" { specification.align = "=" }
        return specification
    }

    private func printfField(_ value: TemplateValue, _ given: FormatSpecification) throws -> Text {
        var specification = given
        switch given.type {
        case "s", "r", "a":
            if specification.align == "=" { (specification.align, specification.fill) = (">", " ") }
            let text = given.type == "s" ? try printed(value) : try representation(value)
            try spend(text.bytes.count / Self.bytesPerFuel)
            return try aligned(cut(text, given.precision), specification)
        case "c":
            if let text = value.text, text.count == 1 { return try aligned(text, specification) }
            guard let scalar = value.index.flatMap({ UInt32(exactly: $0) }).flatMap(Unicode.Scalar.init) else {
                throw TemplateFault("%c needs a character")
            }
            return try aligned(Text(CollectionOfOne(scalar)), specification)
        case "d", "i", "u":
            guard let number = value.number, !value.isUndefined else { throw unsupported("%d", value) }
            guard let whole = value.index ?? Int(exactly: number.rounded(.towardZero)) else {
                throw TemplateFault("%d needs a number that fits 64 bits")
            }
            specification.type = "d"
            if let precision = specification.precision {
                specification.precision = nil
                let digits = String(whole.magnitude)
                let zeros = String(repeating: "0", count: max(0, min(precision, Self.widthLimit) - digits.count))
                return try aligned(Text((whole < 0 ? "-" : "") + zeros + digits), specification)
            }
            return try formatInteger(whole, specification)
        case "x", "X", "o":
            guard let whole = value.index else { throw unsupported("%x", value) }
            return try formatInteger(whole, specification)
        case "e", "E", "f", "F", "g", "G":
            guard let number = value.number else { throw unsupported("%f", value) }
            return try formatFloat(number, specification)
        default: throw TemplateFault("a format has an unknown conversion")
        }
    }

    private func cut(_ text: Text, _ precision: Int?) -> Text {
        precision.map { text.slice(PythonSlice(start: 0, stop: max($0, 0), step: 1)) } ?? text
    }

    // MARK: str.format

    func format(_ format: Text, _ arguments: CallArguments) throws -> Text {
        var next = 0
        return try self.format(format.scalars, arguments, &next, depth: 0)
    }

    private func format(
        _ format: [Unicode.Scalar], _ arguments: CallArguments, _ next: inout Int, depth: Int
    ) throws -> Text {
        guard depth < 3 else { throw TemplateFault("a format nests too deep") }
        try spend(format.count / Self.bytesPerFuel)
        var cursor = ScalarCursor(format)
        var result = Text([])
        while let scalar = cursor.next() {
            if scalar == "}" {
                guard cursor.accept("}") else { throw TemplateFault("a format has a single '}'") }
                result.append("}")
            } else if scalar != "{" {
                result.append(scalar)
            } else if cursor.accept("{") {
                result.append("{")
            } else {
                let field = try cursor.field()
                result.bytes += try formatField(field, arguments, &next, depth: depth).bytes
            }
        }
        return result
    }

    private func formatField(
        _ field: [Unicode.Scalar], _ arguments: CallArguments, _ next: inout Int, depth: Int
    ) throws -> Text {
        try spend(1)
        var cursor = ScalarCursor(field)
        var name: [Unicode.Scalar] = []
        while let scalar = cursor.peek, ![".", "[", "!", ":"].contains(scalar) {
            name.append(scalar)
            _ = cursor.next()
        }
        var value = try formatArgument(Text(name), arguments, &next)
        while let scalar = cursor.peek, scalar == "." || scalar == "[" {
            _ = cursor.next()
            if scalar == "[" {
                let key = Text(cursor.upTo("]"))
                guard cursor.accept("]") else { throw TemplateFault("a format does not close '['") }
                value = try item(Int(key.description).map(TemplateValue.int) ?? .string(key), of: value)
            } else {
                var attribute: [Unicode.Scalar] = []
                while let scalar = cursor.peek, ![".", "[", "!", ":"].contains(scalar) {
                    attribute.append(scalar)
                    _ = cursor.next()
                }
                value = try self.attribute(Text(attribute), of: value)
            }
            if value.isUndefined { throw undefined(value) }
        }
        if cursor.accept("!") {
            switch cursor.next() {
            case "s": value = .string(try printed(value))
            case "r", "a": value = .string(try representation(value))
            default: throw TemplateFault("a format has an unknown conversion")
            }
        }
        guard cursor.accept(":") else { return try printed(value) }
        let text = try format(cursor.rest(), arguments, &next, depth: depth + 1)
        return try formatted(value, text)
    }

    private func formatArgument(
        _ name: Text, _ arguments: CallArguments, _ next: inout Int
    ) throws -> TemplateValue {
        var index: Int?
        if name.isEmpty {
            index = next
            next += 1
        } else if name.predicate("isdigit") == true {
            index = Int(name.description) ?? Int.max
        }
        if let index {
            guard index < arguments.positional.count else { throw TemplateFault("too few values for the format") }
            return arguments.positional[index]
        }
        guard let found = arguments.keywords.first(where: { $0.name == name }) else {
            throw TemplateFault("the format names '\(name)', which is not given")
        }
        return found.value
    }

    /// Python's `format(value, specification)`.
    private func formatted(_ value: TemplateValue, _ text: Text) throws -> Text {
        if text.isEmpty { return try printed(value) }
        if let text = value.text { try spend(text.bytes.count / Self.bytesPerFuel) }
        var cursor = ScalarCursor(text.scalars)
        var specification = FormatSpecification()
        if let align = cursor.peek(1), "<>=^".unicodeScalars.contains(align), let fill = cursor.next() {
            specification.fill = fill
            specification.align = cursor.next()
        } else if let align = cursor.peek, "<>=^".unicodeScalars.contains(align) {
            specification.align = cursor.next()
        }
        if let sign = cursor.peek, "+- ".unicodeScalars.contains(sign) {
            specification.sign = sign
            _ = cursor.next()
        }
        specification.isAlternate = cursor.accept("#")
        let isZeroFilled = cursor.accept("0") && specification.align == nil
        if isZeroFilled { (specification.fill, specification.align) = ("0", "=") }
        specification.width = cursor.number() ?? 0
        if let grouping = cursor.peek, grouping == "," || grouping == "_" {
            specification.grouping = grouping
            _ = cursor.next()
        }
        if cursor.accept(".") {
            guard let precision = cursor.number() else { throw TemplateFault("a format has no precision after '.'") }
            specification.precision = precision
        }
        specification.type = cursor.next()
        guard cursor.peek == nil else { throw TemplateFault("a format specification is malformed") }
        switch value {
        case .string(let text):
            if isZeroFilled { specification.align = "<" }
            guard [nil, "s"].contains(specification.type), specification.align != "=", specification.grouping == nil
            else {
                throw TemplateFault("a string has a format for numbers")
            }
            specification.align = specification.align ?? "<"
            return try aligned(cut(text, specification.precision), specification)
        case .int, .bool:
            if specification.type == nil || "bcdoxXn".unicodeScalars.contains(specification.type ?? "d") {
                return try formatInteger(value.index ?? 0, specification)
            }
            return try formatFloat(value.number ?? 0, specification)
        case .float(let number): return try formatFloat(number, specification)
        default: throw unsupported("format", value)
        }
    }

    // MARK: Numbers

    private func formatInteger(_ value: Int, _ specification: FormatSpecification) throws -> Text {
        var digits: String
        var prefix = ""
        switch specification.type {
        case "x": (digits, prefix) = (String(value.magnitude, radix: 16), "0x")
        case "X": (digits, prefix) = (String(value.magnitude, radix: 16, uppercase: true), "0X")
        case "o": (digits, prefix) = (String(value.magnitude, radix: 8), "0o")
        case "b": (digits, prefix) = (String(value.magnitude, radix: 2), "0b")
        case "c":
            guard let scalar = UInt32(exactly: value).flatMap(Unicode.Scalar.init) else {
                throw TemplateFault("a code point is out of range")
            }
            return try aligned(Text(CollectionOfOne(scalar)), specification)
        case nil, "d", "n": digits = String(value.magnitude)
        default: throw TemplateFault("a format for integers is unknown")
        }
        if !specification.isAlternate { prefix = "" }
        return try numeric(digits, isNegative: value < 0, prefix: prefix, specification)
    }

    private func formatFloat(_ value: Double, _ specification: FormatSpecification) throws -> Text {
        let magnitude = abs(value)
        let precision = min(max(specification.precision ?? 6, 0), 512)
        var digits: String
        switch specification.type {
        case "f", "F": digits = String(format: "%.\(precision)f", magnitude)
        case "e": digits = String(format: "%.\(precision)e", magnitude)
        case "E": digits = String(format: "%.\(precision)E", magnitude)
        case "g", "n": digits = String(format: "%.\(precision)g", magnitude)
        case "G": digits = String(format: "%.\(precision)G", magnitude)
        case "%": digits = String(format: "%.\(precision)f%%", magnitude * 100)
        case nil:
            digits = Self.floatText(magnitude)
            if let precision = specification.precision {
                digits = String(format: "%.\(min(max(precision, 1), 512))g", magnitude)
                if !digits.contains("e"), !digits.contains("."), magnitude.isFinite { digits += ".0" }
            }
        default: throw TemplateFault("a format for numbers is unknown")
        }
        if !value.isFinite { digits = value.isNaN ? "nan" : "inf" }
        return try numeric(digits, isNegative: value.sign == .minus && !value.isNaN, prefix: "", specification)
    }

    private func numeric(
        _ digits: String, isNegative: Bool, prefix: String, _ specification: FormatSpecification
    ) throws -> Text {
        var digits = digits
        if let grouping = specification.grouping {
            let whole = digits.prefix { $0.isHexDigit }
            let size = grouping == "_" && ["x", "X", "o", "b"].contains(specification.type) ? 4 : 3
            var grouped = ""
            for (i, digit) in whole.enumerated() {
                if i > 0, (whole.count - i) % size == 0 { grouped.unicodeScalars.append(grouping) }
                grouped.append(digit)
            }
            digits = grouped + digits.dropFirst(whole.count)
        }
        let sign = isNegative ? "-" : specification.sign == "-" ? "" : String(specification.sign)
        return try aligned(Text(sign + prefix + digits), specification, headLength: (sign + prefix).utf8.count)
    }

    /// Filled up to the width; `=` puts the fill after sign and prefix.
    private func aligned(_ text: Text, _ specification: FormatSpecification, headLength: Int? = nil) throws -> Text {
        guard specification.width <= Self.widthLimit, specification.width >= -Self.widthLimit else {
            throw TemplateFault("a format is wider than \(Self.widthLimit)")
        }
        let missing = abs(specification.width) - text.count
        guard missing > 0 else { return text }
        func fill(_ count: Int) -> [UInt8] { Text(repeatElement(specification.fill, count: count)).bytes }
        let align = specification.width < 0 ? "<" : specification.align ?? (headLength == nil ? "<" : ">")
        switch align {
        case "<": return Text(text.bytes + fill(missing))
        case "^": return Text(fill(missing / 2) + text.bytes + fill(missing - missing / 2))
        case "=":
            let head = headLength ?? (text.bytes.first == UInt8(ascii: "-") ? 1 : 0)
            return Text(Array(text.bytes[..<head]) + fill(missing) + text.bytes[head...])
        default: return Text(fill(missing) + text.bytes)
        }
    }
}
