import FileFormats
import FineTuning
import TextData

extension ModelComparison {
    /// Compares what a sample could hide: numbers of the arithmetic, a pre-tokenizer that differs for rare texts, tokens
    /// that no text of the sample has, and whether BOS is put before a prompt.
    mutating func compareMetadata(_ plan: GGUFPlan, _ file: GGUFFile, isOwn: Bool) {
        guard !isOwn else {
            for (key, value) in plan.metadata where !key.utf8.starts(with: "general.".utf8) && file[key] != value {
                problems.append("\(key) is \(shown(file[key])), expected \(shown(value))")
            }
            return
        }
        let comparison = TokenizerMetadataComparison(expected: plan.metadata, found: file)
        problems += comparison.problems
        report.notes += comparison.notes
        if TextResources.isGGUF(base.path), base.adapters.isEmpty {
            report.notes.append(
                "tokenizer and template were compared with those of the base's GGUF file; only the Hugging Face folder "
                    + "tells whether these are right")
        }
    }
}

private func shown(_ value: GGUFValue?) -> String {
    guard let value else { return "missing" }
    if let count = value.elementCount { return "\(count) values" }
    if let flag = value.boolValue { return "\(flag)" }
    if let number = value.intValue { return "\(number)" }
    if let number = value.doubleValue { return "\(number)" }
    return value.stringValue.map { quoted(String($0.prefix(40))) } ?? "no text"
}

/// Compares the tokenizer's metadata of a file, which any program may have written, with those that graft writes: by
/// what llama.cpp makes of them, since programs spell them differently and leave out what is the default.
struct TokenizerMetadataComparison {
    private(set) var problems: [String] = []
    private(set) var notes: [String] = []
    private let expected: [ByteString: GGUFValue]
    private let found: GGUFFile
    private static let prefix = "tokenizer.ggml."

    init(expected: [(key: String, value: GGUFValue)], found: GGUFFile) {
        self.expected = Dictionary(expected.map { (ByteString($0.key), $0.value) }, uniquingKeysWith: { a, _ in a })
        self.found = found
        guard let model = wanted("model"), model.stringValue?.hasSameBytes(as: "none") == false else { return }
        guard has("model") == model else {
            differs("model", shown(has("model")), shown(model))
            return
        }
        comparePreTokenizer()
        compareTokens()
        compareSettings()
        compareTemplates()
    }

    private func wanted(_ key: String) -> GGUFValue? { expected[ByteString(Self.prefix + key)] }
    private func has(_ key: String) -> GGUFValue? { found[Self.prefix + key] }

    private mutating func differs(_ key: String, _ found: String, _ expected: String) {
        problems.append("\(Self.prefix)\(key) is \(found), expected \(expected)")
    }

    /// Other names of the same splits are right; others differ for texts that a sample need not have.
    private mutating func comparePreTokenizer() {
        guard let wanted = wanted("pre"), let name = wanted.stringValue, has("pre") != wanted else { return }
        if let other = has("pre")?.stringValue, Tokenizer.splitsAlike(preTokenizer: other, name) {
            notes.append(
                "\(Self.prefix)pre is \(quoted(other)), expected \(quoted(name)), which splits text alike")
        } else {
            differs("pre", shown(has("pre")), shown(wanted))
        }
    }

    // MARK: the vocabulary

    /// What llama.cpp does with tokens of a type.
    private enum Use {
        /// Made by merges; found in text as wholes; bytes that no token covers; never met, so that anything will do.
        case ordinary, whole, byte, none

        init(type: Int) {
            self =
                switch GGUFTokenizer.TokenType(rawValue: Int32(clamping: type)) {
                case .normal: .ordinary
                case .unknown, .control, .userDefined: .whole
                case .byte: .byte
                case .unused, nil: .none
                }
        }
    }

    private mutating func compareTokens() {
        guard let tokens = wanted("tokens")?.stringsValue, let others = has("tokens")?.stringsValue,
            others.count == tokens.count
        else {
            if wanted("tokens") != nil { differs("tokens", shown(has("tokens")), shown(wanted("tokens"))) }
            return
        }
        let types = wanted("token_type")?.intsValue ?? [], otherTypes = has("token_type")?.intsValue ?? []
        func type(_ types: [Int], _ id: Int) -> Int { types.indices.contains(id) ? types[id] : 1 }
        let all = tokens.indices.filter { Use(type: type(types, $0)) != .none }
        let isSentencePiece = wanted("model")?.stringValue?.hasSameBytes(as: "llama") == true
        let blanks = isSentencePiece ? Set(all.filter { Self.isSameBlank(tokens[$0], others[$0]) }) : []
        if !blanks.isEmpty {
            notes.append(
                "\(blanks.count) tokens of white space are spelled otherwise than the model's, with the same meaning")
        }
        let used = all.filter { !blanks.contains($0) }
        list("tokens", used.filter { tokens[$0] != others[$0] }) { id in
            "\(quoted(others[id].description)), expected \(quoted(tokens[id].description))"
        }
        list("token_type", used.filter { Use(type: type(types, $0)) != Use(type: type(otherTypes, $0)) }) { id in
            "\(type(otherTypes, id)), expected \(type(types, id)), for \(quoted(tokens[id].description))"
        }
        compareMerges()
        compareScores(used.filter { Use(type: type(types, $0)) == .ordinary })
    }

    /// Whether two tokens are the same white space in two spellings: Gemma's runs of spaces, which programs write as
    /// spaces or as U+2581, and its tabulator, which is a byte to some.
    private static func isSameBlank(_ a: ByteString, _ b: ByteString) -> Bool {
        func plain(_ token: ByteString) -> [UInt8] {
            if token == "<0x09>" { return [0x09] }
            var bytes = token.bytes[...], result: [UInt8] = []
            while let byte = bytes.first {
                let isMark = bytes.starts(with: [0xE2, 0x96, 0x81])
                result.append(isMark ? 0x20 : byte)
                bytes = bytes.dropFirst(isMark ? 3 : 1)
            }
            return result
        }
        let spelled = plain(a)
        return a != b && spelled == plain(b) && spelled.allSatisfy { $0 == 0x20 || $0 == 0x09 }
    }

    /// A problem that names the first of the ids.
    private mutating func list(_ key: String, _ ids: [Int], _ difference: (Int) -> String) {
        guard let first = ids.first else { return }
        let others = ids.count == 1 ? "" : ", and \(ids.count - 1) more"
        problems.append("\(Self.prefix)\(key): id \(first) is \(difference(first))\(others)")
    }

    private mutating func compareMerges() {
        guard let merges = wanted("merges")?.stringsValue else { return }
        guard let others = has("merges")?.stringsValue, others.count == merges.count else {
            return differs("merges", shown(has("merges")), shown(wanted("merges")))
        }
        list("merges", merges.indices.filter { merges[$0] != others[$0] }) { rank in
            "\(quoted(others[rank].description)), expected \(quoted(merges[rank].description))"
        }
    }

    /// Only the order of the scores matters, and that of tokens which no merge makes does not: they are the last.
    private mutating func compareScores(_ ids: [Int]) {
        guard let scores = wanted("scores")?.floatsValue else { return }
        guard let others = has("scores")?.floatsValue, others.count == scores.count else {
            return differs("scores", shown(has("scores")), shown(wanted("scores")))
        }
        let last = ids.map { scores[$0] }.min() ?? 0
        let ranked = ids.filter { scores[$0] > last }.sorted { (scores[$0], $1) > (scores[$1], $0) }
        let next = Dictionary(zip(ranked, ranked.dropFirst()), uniquingKeysWith: { a, _ in a })
        let turned = ranked.filter { id in
            next[id].map { scores[id] > scores[$0] && !(others[id] >= others[$0]) } ?? false
        }
        list("scores", turned) { id in
            "\(others[id]), expected one not below the \(next[id].map { others[$0] } ?? 0) of id \(next[id] ?? id)"
        }
    }

    // MARK: the rest

    private mutating func compareSettings() {
        let settings = GGUFTokenizerSettings(wanted), others = GGUFTokenizerSettings(has)
        if settings.addsBOS != others.addsBOS { differs("add_bos_token", "\(others.addsBOS)", "\(settings.addsBOS)") }
        if settings.addsEOS != others.addsEOS { differs("add_eos_token", "\(others.addsEOS)", "\(settings.addsEOS)") }
        if wanted("add_space_prefix") != nil, settings.addsSpacePrefix != others.addsSpacePrefix {
            differs("add_space_prefix", "\(others.addsSpacePrefix)", "\(settings.addsSpacePrefix)")
        }
        for (key, id, other) in [
            ("bos_token_id", settings.bosID, others.bosID), ("eos_token_id", settings.eosID, others.eosID),
            ("unknown_token_id", settings.unknownID, others.unknownID),
        ] where wanted(key) != nil && id != other { differs(key, other.map(String.init) ?? "missing", "\(id ?? -1)") }
        // Nothing is computed with these; a file without them leaves them to the program.
        for key in ["eot_token_id", "padding_token_id"] {
            guard let wanted = wanted(key), has(key)?.intValue != wanted.intValue else { continue }
            notes.append("\(Self.prefix)\(key) is \(shown(has(key))), expected \(shown(wanted))")
        }
    }

    /// What templates write is compared with conversations; here it is told where they are not the very same.
    private mutating func compareTemplates() {
        for (key, value) in expected where key.bytes.starts(with: "tokenizer.chat_template".utf8) {
            let key = key.description
            guard let source = value.bytesValue, found[key]?.bytesValue != source else { continue }
            notes.append(
                found[key] == nil
                    ? "\(key) is missing"
                    : "\(key) is another text than the model's; only the conversations of the sample tell whether it "
                        + "writes the same")
        }
    }
}
