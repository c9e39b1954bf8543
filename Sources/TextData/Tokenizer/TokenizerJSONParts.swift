import FileFormats
import Foundation

extension TokenizerJSONReader {
    private func object(_ value: JSONValue, _ place: String) throws -> (JSONObject, type: String) {
        guard let object = value.objectValue else {
            throw malformed(place, "expected an object, found \(value.kindName)")
        }
        guard let type = object["type"]?.stringValue else { throw malformed(place, "no type") }
        return (object, type)
    }

    private func list<Part>(
        _ object: JSONObject, _ key: String, _ place: String, _ read: (JSONValue, String) throws -> Part?
    ) throws -> [Part] {
        guard let entries = object[key]?.arrayValue else { throw malformed("\(place).\(key)", "expected an array") }
        return try entries.enumerated().compactMap { try read($1, "\(place).\(key)[\($0)]") }
    }

    private func flag(_ object: JSONObject, _ key: String, _ fallback: Bool) -> Bool {
        object[key]?.boolValue ?? fallback
    }

    private func text(_ object: JSONObject, _ key: String, _ place: String) throws -> String {
        guard let text = object[key]?.stringValue else { throw malformed("\(place).\(key)", "expected a string") }
        return text
    }

    private func scalar(_ object: JSONObject, _ key: String, _ place: String) throws -> UInt32 {
        let text = try text(object, key, place)
        guard let scalar = text.unicodeScalars.first, text.unicodeScalars.count == 1 else {
            throw malformed("\(place).\(key)", "expected one character, found \(shortened(text))")
        }
        return scalar.value
    }

    /// Compiles a regular expression and tries it on texts that make careless patterns backtrack for ever.
    private func regularExpression(_ pattern: String) throws -> SplitPattern {
        let compiled = try SplitPattern.regularExpression(pattern)
        if case .regex(let regex) = compiled {
            for probe in Self.probes {
                try probe.withUnsafeBufferPointer { try regex.forEachMatch(in: $0) { _ in } }
            }
        }
        return compiled
    }

    private static let probes: [[UInt8]] = ["a", "A", "1", " ", "\n", "-", "aA1", "a ", " \n"].flatMap { unit in
        ["", "!", "a", "\u{7}"].map { Array((String(repeating: unit, count: 64 / unit.utf8.count) + $0).utf8) }
    }

    private func pattern(_ object: JSONObject, _ place: String) throws -> SplitPattern {
        let value = object["pattern"]
        if let literal = value?["String"]?.stringValue { return .literal(Array(literal.utf8)) }
        if let regex = value?["Regex"]?.stringValue { return try regularExpression(regex) }
        throw malformed("\(place).pattern", "expected {\"String\": ...} or {\"Regex\": ...}")
    }

    private func behavior(_ object: JSONObject, _ place: String) throws -> SplitBehavior {
        let name = try text(object, "behavior", place)
        guard let behavior = SplitBehavior(rawValue: name) else {
            throw unsupported("\(place).behavior", shortened(name))
        }
        return behavior
    }

    func readNormalizer(_ value: JSONValue, _ place: String) throws -> Normalizer? {
        if value.isNull { return nil }
        let (object, type) = try object(value, place)
        switch type {
        case "Sequence": return .sequence(try list(object, "normalizers", place, readNormalizer))
        case "NFC": return .unicode(.nfc)
        case "NFD": return .unicode(.nfd)
        case "NFKC": return .unicode(.nfkc)
        case "NFKD": return .unicode(.nfkd)
        case "Replace":
            return .replace(try pattern(object, place), Array(try text(object, "content", place).utf8))
        case "Prepend": return .prepend(Array(try text(object, "prepend", place).utf8))
        case "Lowercase": return .lowercase
        case "Strip":
            return .strip(left: flag(object, "strip_left", true), right: flag(object, "strip_right", true))
        case "StripAccents": return .stripAccents
        case "Nmt": return .nmt
        case "ByteLevel": return .byteLevel
        case "Precompiled": return try readPrecompiled(object, place)
        case "BertNormalizer":
            let lowercases = flag(object, "lowercase", true)
            return .bert(
                Normalizer.Bert(
                    cleansText: flag(object, "clean_text", true),
                    separatesChinese: flag(object, "handle_chinese_chars", true),
                    stripsAccents: flag(object, "strip_accents", lowercases), lowercases: lowercases))
        default: throw unsupported("\(place).type", "a normalizer \(shortened(type))")
        }
    }

    private func readPrecompiled(_ object: JSONObject, _ place: String) throws -> Normalizer? {
        let here = "\(place).precompiled_charsmap"
        guard let value = object["precompiled_charsmap"], !value.isNull else { return nil }
        guard let text = value.stringValue, let data = Data(base64Encoded: text) else {
            throw malformed(here, "expected base64")
        }
        do { return .precompiled(try PrecompiledCharsmap(Array(data))) } catch { throw malformed(here, error.reason) }
    }

    func readPreTokenizer(_ value: JSONValue, _ place: String) throws -> PreTokenizer? {
        if value.isNull { return nil }
        let (object, type) = try object(value, place)
        switch type {
        case "Sequence": return .sequence(try list(object, "pretokenizers", place, readPreTokenizer))
        case "ByteLevel":
            return .byteLevel(
                prefix: flag(object, "add_prefix_space", true), splits: flag(object, "use_regex", true), maps: true)
        case "Split":
            return .split(
                try pattern(object, place), try behavior(object, place), inverted: flag(object, "invert", false))
        case "Digits":
            return .split(
                .scalars(.numeric), flag(object, "individual_digits", false) ? .isolated : .contiguous, inverted: false)
        case "Punctuation":
            let behavior = object["behavior"] == nil ? .isolated : try behavior(object, place)
            return .split(.scalars(.punctuation), behavior, inverted: false)
        case "Metaspace": return .metaspace(try readMetaspace(object, place))
        case "Whitespace": return .split(.words, .removed, inverted: true)
        case "WhitespaceSplit": return .split(.scalars(.space), .removed, inverted: false)
        case "CharDelimiterSplit":
            return .split(.scalar(try scalar(object, "delimiter", place)), .removed, inverted: false)
        case "BertPreTokenizer": return .bert
        case "UnicodeScripts": return .split(.scripts, .removed, inverted: true)
        case "FixedLength":
            guard let length = object["length"]?.intValue, length > 0 else {
                throw malformed("\(place).length", "expected a positive integer")
            }
            return .fixedLength(length)
        default: throw unsupported("\(place).type", "a pre-tokenizer \(shortened(type))")
        }
    }

    private func readMetaspace(_ object: JSONObject, _ place: String) throws -> PreTokenizer.Metaspace {
        var replacement: [UInt8] = []
        appendScalar(try scalar(object, "replacement", place), to: &replacement)
        // Before `prepend_scheme` there was `add_prefix_space`; both may stand in one file.
        var prepend: PreTokenizer.Metaspace.Prepend = flag(object, "add_prefix_space", true) ? .always : .never
        if let name = object["prepend_scheme"]?.stringValue {
            guard let scheme = PreTokenizer.Metaspace.Prepend(rawValue: name) else {
                throw unsupported("\(place).prepend_scheme", shortened(name))
            }
            prepend = scheme
        }
        return PreTokenizer.Metaspace(
            replacement: replacement, prepend: prepend, splits: flag(object, "split", true))
    }

    func readDecoder(_ value: JSONValue, _ place: String) throws -> TokenDecoder? {
        if value.isNull { return nil }
        let (object, type) = try object(value, place)
        switch type {
        case "Sequence": return .sequence(try list(object, "decoders", place, readDecoder))
        case "ByteLevel": return .byteLevel
        case "ByteFallback": return .byteFallback
        case "Fuse": return .fuse
        case "Replace": return .replace(try pattern(object, place), Array(try text(object, "content", place).utf8))
        case "Strip":
            func count(_ key: String) throws -> Int {
                guard let count = object[key]?.intValue, count >= 0 else {
                    throw malformed("\(place).\(key)", "expected a count")
                }
                return count
            }
            return .strip(
                content: try scalar(object, "content", place), start: try count("start"), stop: try count("stop"))
        case "Metaspace":
            let metaspace = try readMetaspace(object, place)
            return .metaspace(
                replacement: decodeScalar(metaspace.replacement.span, at: 0).value,
                dropsFirst: metaspace.prepend != .never)
        case "BPEDecoder": return .bpe(suffix: Array((object["suffix"]?.stringValue ?? "</w>").utf8))
        case "WordPiece":
            return .wordPiece(
                prefix: Array((object["prefix"]?.stringValue ?? "##").utf8), cleansUp: flag(object, "cleanup", true))
        case "CTC":
            return .ctc(
                pad: Array((object["pad_token"]?.stringValue ?? "<pad>").utf8),
                wordDelimiter: Array((object["word_delimiter_token"]?.stringValue ?? "|").utf8),
                cleansUp: flag(object, "cleanup", true))
        default: throw unsupported("\(place).type", "a decoder \(shortened(type))")
        }
    }

    func readPostProcessor(_ value: JSONValue, _ place: String) throws -> PostProcessor {
        if value.isNull { return PostProcessor() }
        let (object, type) = try object(value, place)
        switch type {
        case "ByteLevel": return PostProcessor()
        case "Sequence":
            let steps = try list(object, "processors", place, readPostProcessor)
            return steps.reduce(PostProcessor()) { inner, outer in outer.around(inner) }
        case "BertProcessing", "RobertaProcessing":
            func id(_ key: String) throws -> Int32 {
                guard let id = object[key]?[1]?.intValue, let id32 = Int32(exactly: id) else {
                    throw malformed("\(place).\(key)", "expected [token, id]")
                }
                return id32
            }
            return PostProcessor(prefix: [try id("cls")], suffix: [try id("sep")])
        case "TemplateProcessing": return try readTemplate(object, place)
        default: throw unsupported("\(place).type", "a post-processor \(shortened(type))")
        }
    }

    private func readTemplate(_ object: JSONObject, _ place: String) throws -> PostProcessor {
        guard let single = object["single"]?.arrayValue else {
            throw malformed("\(place).single", "expected an array")
        }
        var processor = PostProcessor()
        var hasText = false
        for (index, piece) in single.enumerated() {
            let here = "\(place).single[\(index)]"
            if let sequence = piece["Sequence"] {
                guard !hasText, sequence["id"]?.stringValue == "A" else {
                    throw unsupported(here, "a template that repeats the text or uses a second one")
                }
                hasText = true
            } else if let name = piece["SpecialToken"]?["id"]?.stringValue {
                guard let ids = object["special_tokens"]?[name]?["ids"]?.arrayValue else {
                    throw malformed(here, "\(shortened(name)) is not among special_tokens")
                }
                for value in ids {
                    guard let id = value.intValue, let id32 = Int32(exactly: id) else {
                        throw malformed("\(place).special_tokens", "\(shortened(name)) has an id that is no integer")
                    }
                    if hasText { processor.suffix.append(id32) } else { processor.prefix.append(id32) }
                }
            } else {
                throw malformed(here, "expected a Sequence or a SpecialToken")
            }
        }
        guard hasText else { throw unsupported("\(place).single", "a template without the text") }
        return processor
    }
}

extension PreTokenizer {
    /// Whether the last step writes bytes in the printable alphabet.
    var endsInByteLevel: Bool {
        switch self {
        case .sequence(let steps): steps.last?.endsInByteLevel ?? false
        case .byteLevel(_, _, let maps): maps
        default: false
        }
    }
    var mapsBytes: Bool {
        switch self {
        case .sequence(let steps): steps.contains { $0.mapsBytes }
        case .byteLevel(_, _, let maps): maps
        default: false
        }
    }
    /// The same with the last step's mapping left to the model.
    func deferringByteMap() -> PreTokenizer {
        switch self {
        case .sequence(let steps): .sequence(steps.dropLast() + steps.suffix(1).map { $0.deferringByteMap() })
        case .byteLevel(let prefix, let splits, _): .byteLevel(prefix: prefix, splits: splits, maps: false)
        default: self
        }
    }
}

extension Normalizer {
    var mapsBytes: Bool {
        switch self {
        case .sequence(let steps): steps.contains { $0.mapsBytes }
        case .byteLevel: true
        default: false
        }
    }
}
