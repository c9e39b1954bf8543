// Python's `str.encode`, `bytes.decode`, `str.translate` and `str.maketrans`.
extension Interpreter {
    private enum Codec { case utf8, latin1, ascii }

    private func codec(_ value: TemplateValue?) throws -> Codec {
        guard let name = value.map({ $0.text?.lowercased().replacing("_", with: "-") }) ?? "utf-8" else {
            throw TemplateFault("an encoding is named by a string")
        }
        switch name {
        case "utf-8", "utf8", "u8": return .utf8
        case "latin-1", "latin1", "iso-8859-1", "l1": return .latin1
        case "ascii", "us-ascii": return .ascii
        default: throw TemplateFault("the encoding '\(name)' is not one of utf-8, latin-1 and ascii")
        }
    }

    func encode(_ text: Text, _ arguments: CallArguments) throws -> TemplateValue {
        let given = try arguments.bound("encode", ["encoding", "errors"])
        let codec = try codec(given[0])
        try spend(classifying: text)
        if codec == .utf8 { return .bytes(text.bytes) }
        let errors = given[1]?.text ?? "strict"
        var result: [UInt8] = []
        for scalar in text.scalars {
            if scalar.value < (codec == .ascii ? 0x80 : 0x100) {
                result.append(UInt8(scalar.value))
                continue
            }
            switch errors {
            case "ignore": break
            case "replace": result.append(UInt8(ascii: "?"))
            case "xmlcharrefreplace": result += "&#\(scalar.value);".utf8
            case "backslashreplace": result += Self.escape(scalar).utf8
            case "strict": throw TemplateFault("'\(scalar)' cannot be encoded")
            default: throw TemplateFault("encode knows no way '\(errors)' to treat errors")
            }
        }
        return .bytes(result)
    }

    func callBytesMethod(_ name: Text, _ bytes: [UInt8], _ arguments: CallArguments) throws -> TemplateValue {
        try spend(bytes.count / Self.classifiedBytesPerFuel)
        if name == "hex" {
            guard arguments.isEmpty else { throw TemplateFault("hex takes no arguments in templates") }
            return try text(Text(bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()))
        }
        let given = try arguments.bound("decode", ["encoding", "errors"])
        let codec = try codec(given[0])
        if codec == .latin1 { return try text(Text(bytes.map { Unicode.Scalar($0) })) }
        if codec == .utf8 ? String(validating: bytes, as: UTF8.self) != nil : bytes.allSatisfy({ $0 < 0x80 }) {
            return try text(Text(bytes))
        }
        guard codec == .utf8, given[1]?.text == "replace" else { throw TemplateFault("the bytes are no text") }
        return try text(Text(String(decoding: bytes, as: UTF8.self)))
    }

    func translate(_ text: Text, _ arguments: CallArguments) throws -> TemplateValue {
        guard case .dict(let table)? = try arguments.bound("translate", ["table"], required: 1)[0] else {
            throw TemplateFault("translate needs a dictionary")
        }
        try spend(classifying: text)
        var result = Text([])
        for scalar in text.scalars {
            switch table[.int(Int(scalar.value))] {
            case nil: result.append(scalar)
            case TemplateValue.none?: break
            case .string(let other)?: result.bytes += other.bytes
            case let value?:
                guard let other = value.index.flatMap({ UInt32(exactly: $0) }).flatMap(Unicode.Scalar.init) else {
                    throw TemplateFault("translate needs code points, strings or None")
                }
                result.append(other)
            }
            try spend(result.bytes.count > Self.outputLimit ? Self.fuelLimit + 1 : 0)
        }
        return try self.text(result)
    }

    func translationTable(_ arguments: CallArguments) throws -> TemplateValue {
        guard arguments.keywords.isEmpty, (1...3).contains(arguments.positional.count) else {
            throw TemplateFault("maketrans takes one to three values")
        }
        if case .dict(let mapping) = arguments.positional[0], arguments.positional.count == 1 {
            return try dict(
                mapping.entries.map { entry in
                    guard let key = entry.key.text else {
                        guard entry.key.index != nil else { throw TemplateFault("maketrans: a key is no character") }
                        return entry
                    }
                    guard key.count == 1 else { throw TemplateFault("maketrans: a key is not one character") }
                    return (.int(Int(key.scalar(at: 0).0.value)), entry.value)
                })
        }
        let texts = try arguments.positional.map { value in
            guard let text = value.text else { throw unsupported("maketrans", value) }
            try spend(classifying: text)
            return text.scalars
        }
        guard texts.count > 1, texts[0].count == texts[1].count else {
            throw TemplateFault("maketrans needs two strings of the same length")
        }
        func code(_ scalar: Unicode.Scalar) -> TemplateValue { .int(Int(scalar.value)) }
        return try dict(
            zip(texts[0], texts[1]).map { (code($0), code($1)) }
                + (texts.count > 2 ? texts[2].map { (code($0), .none) } : []))
    }
}
