import FileFormats
import FineTuning
import TextData

/// A tokenizer as GGUF metadata.
struct GGUFTokenizer {
    /// `tokenizer.ggml.token_type` (llama.cpp's `llama_token_type`).
    enum TokenType: Int32 {
        case normal = 1
        case unknown, control, userDefined, unused, byte
    }

    let path: String
    private let tokenizer: Tokenizer
    private let config: ModelConfig
    var warnings: [String] = []

    /// - Parameter settings: the folder of tokenizer_config.json; nil for the same
    init(path: String, settings: String? = nil, config: ModelConfig) throws {
        self.path = path
        self.config = config
        tokenizer = try Tokenizer(path: path, settings: settings)
    }

    /// Whether special tokens take the white space after them along. No key says so; llama.cpp does it for models whose
    /// name has "phi-3" in it.
    var stripsAfterSpecial: Bool {
        isSentencePiece && tokenizer.addedTokens.contains { $0.isSpecial && $0.rstrip }
    }

    /// - Throws: `ExportError.tokenizer` with everything that cannot be represented.
    mutating func metadata(templates: [(name: String, source: String)]) throws -> [(key: String, value: GGUFValue)] {
        try settleExcess()
        var pairs: [(key: String, value: GGUFValue)] = []
        switch tokenizer.kind {
        case .byteLevelBPE:
            let identity = PreTokenizerIdentity.name(
                preTokenizer: tokenizer.definitions.preTokenizer, normalizer: tokenizer.definitions.normalizer,
                ignoresMerges: tokenizer.ignoresMerges)
            switch identity {
            case .failure(let unrecognised): throw ExportError.tokenizer(path: path, problems: unrecognised.problems)
            case .success(let name):
                if PreTokenizerIdentity.partsWordsAtMarks(name) {
                    warnings.append(
                        "llama.cpp parts this tokenizer's words at combining marks: text in scripts that have them, such "
                            + "as Devanagari, gives other tokens there")
                }
                pairs += [("tokenizer.ggml.model", .string("gpt2")), ("tokenizer.ggml.pre", .string(name))]
            }
            if !PreTokenizerIdentity.soleNormalizer(tokenizer.definitions.normalizer).isNull {
                warnings.append("llama.cpp does not normalise text: input that is not in form NFC gives other tokens")
            }
        case .sentencePieceBPE, .plainBPE:
            if tokenizer.kind == .plainBPE { try settlePlainBPE() }
            pairs += [("tokenizer.ggml.model", .string("llama")), ("tokenizer.ggml.pre", .string("default"))]
        default:
            throw ExportError.tokenizer(
                path: path,
                problems: [
                    "a \(tokenizer.kind.rawValue) vocabulary; byte-level and SentencePiece-style BPE can be written"
                ])
        }
        if !Self.canSaySpecialTokens(tokenizer) {
            func names(_ ids: [Int32]) -> String {
                ids.map { tokenizer.token(for: $0)?.description ?? "" }.joined(separator: " ")
            }
            warnings.append(
                "llama.cpp puts BOS alone before a text and EOS after it, this tokenizer "
                    + quoted("\(names(tokenizer.addedPrefix)) ... \(names(tokenizer.addedSuffix))")
                    + ": write them out where the chat template does not")
        }
        let (tokens, types) = vocabulary()
        pairs.append(("tokenizer.ggml.tokens", .strings(tokens)))
        if isSentencePiece {
            pairs.append(("tokenizer.ggml.scores", .float32s(scores(types))))
            pairs.append(("tokenizer.ggml.token_type", .int32s(types)))
            pairs.append(("tokenizer.ggml.add_space_prefix", .bool(try addsSpacePrefix(tokens, types))))
        } else {
            pairs.append(("tokenizer.ggml.token_type", .int32s(types)))
            pairs.append(("tokenizer.ggml.merges", .strings(merges(tokens))))
        }
        pairs += specialTokens()
        pairs += Self.chatTemplates(templates)
        return pairs
    }

    /// Whether BOS and EOS are all that the tokenizer puts around a text.
    static func canSaySpecialTokens(_ tokenizer: Tokenizer) -> Bool {
        (tokenizer.addedPrefix.isEmpty || tokenizer.addedPrefix == [tokenizer.bosID])
            && (tokenizer.addedSuffix.isEmpty || tokenizer.addedSuffix == [tokenizer.eosID])
    }

    /// What the tokenizer has beyond the model's rows is left out where it was added to the vocabulary, so that no merge
    /// makes it: Gemma 3's token for a picture, and two more places that Kimi keeps free.
    ///
    /// - Throws: `ExportError.tokenizer` for tokens that text becomes.
    private mutating func settleExcess() throws {
        let added = Set(tokenizer.addedTokens.map(\.id)), first = Int32(clamping: config.vocabularySize)
        let tokens = (config.vocabularySize..<max(config.vocabularySize, tokenizer.vocabularySize)).compactMap { id in
            tokenizer.token(for: Int32(clamping: id)).map { (id: Int32(clamping: id), text: $0) }
        }
        guard tokens.allSatisfy({ added.contains($0.id) }) else {
            throw ExportError.tokenizer(
                path: path,
                problems: [
                    "it has ids up to \(tokenizer.vocabularySize - 1), the model's vocabulary ends at "
                        + "\(config.vocabularySize - 1)"
                ])
        }
        let named = tokens.filter {
            !($0.text.bytes.starts(with: "<|reserved_".utf8) && tokenizer.isSpecial($0.id))
        }.map { "\(quoted($0.text.description)) (\($0.id))" }
        guard !named.isEmpty else { return }
        warnings.append(
            "the model has no row for \(shortList(named)): \(named.count == 1 ? "the token is" : "they are") left out of the "
                + "file, whose vocabulary ends at \(first - 1)")
    }

    /// Merges over characters, with spaces as U+2581.
    private var isSentencePiece: Bool { [.sentencePieceBPE, .plainBPE].contains(tokenizer.kind) }

    /// A vocabulary without the bytes that characters beyond it would become.
    ///
    /// - Throws: `ExportError.tokenizer` where words are marked in a way that the format does not have.
    private mutating func settlePlainBPE() throws {
        guard !tokenizer.marksWordParts else {
            throw ExportError.tokenizer(
                path: path, problems: ["parts of words are marked by a prefix or suffix, which llama.cpp does not do"])
        }
        warnings.append(
            "the vocabulary has no tokens for bytes: llama.cpp ends with an error at characters that it does not cover"
                + (tokenizer.unkID.flatMap(tokenizer.token(for:)).map {
                    ", where the tokenizer has \(quoted($0.description))"
                } ?? ""))
    }

    /// What programs that run the file put around a rendered conversation by themselves, and training does not.
    func chatNotes(_ template: ChatTemplate?) -> [String] { Self.chatNotes(tokenizer, template) }

    static func chatNotes(_ tokenizer: Tokenizer, _ template: ChatTemplate?) -> [String] {
        guard let template, canSaySpecialTokens(tokenizer) else { return [] }
        let rendered = try? template.render(messages: [["role": "user", "content": "x"]], addGenerationPrompt: true)
            .text
        guard let ids = rendered.flatMap({ try? tokenizer.encoding(of: $0, addSpecialTokens: false).ids }) else {
            return []
        }
        func note(_ key: String, _ id: Int32?, _ place: String) -> String {
            let token = id.flatMap(tokenizer.token(for:)).map { quoted($0.description) } ?? "a token"
            return
                "\(key) is true, as the tokenizer has it: llama.cpp and Ollama put \(token) \(place) every chat, and "
                + "training on conversations has none there, since the chat template writes none; to have neither, start "
                + "llama.cpp with --override-kv tokenizer.ggml.\(key)=bool:false"
        }
        var notes: [String] = []
        if tokenizer.addsBOS, ids.first != tokenizer.bosID {
            notes.append(note("add_bos_token", tokenizer.bosID, "before"))
        }
        if tokenizer.addsEOS { notes.append(note("add_eos_token", tokenizer.eosID, "after the prompt of")) }
        return notes
    }

    /// All ids of the model with their types; ids that no token has become unused `[PADn]`.
    private func vocabulary() -> (ByteStrings, [Int32]) {
        var tokens = ByteStrings()
        var types: [Int32] = []
        let added = Set(tokenizer.addedTokens.map(\.id))
        for id in 0..<Int32(config.vocabularySize) {
            guard let token = tokenizer.token(for: id) else {
                tokens.append("[PAD\(id)]".utf8)
                types.append(TokenType.unused.rawValue)
                continue
            }
            tokens.append(token.bytes)
            let type: TokenType
            if isSentencePiece, id == tokenizer.unkID {
                type = .unknown
            } else if added.contains(id) {
                type = tokenizer.isSpecial(id) ? .control : .userDefined
            } else if isSentencePiece, Self.isByte(token) {
                type = .byte
            } else {
                type = .normal
            }
            types.append(type.rawValue)
        }
        return (tokens, types)
    }

    /// `<0xHH>`, a byte that stands for itself.
    private static func isByte(_ token: ByteString) -> Bool {
        let bytes = token.bytes
        return bytes.count == 6 && bytes.starts(with: "<0x".utf8) && bytes[5] == UInt8(ascii: ">")
            && bytes[3...4].allSatisfy { (0x30...0x39).contains($0) || (0x41...0x46).contains($0) }
    }

    private func merges(_ tokens: ByteStrings) -> ByteStrings {
        var result = ByteStrings()
        for merge in tokenizer.merges {
            result.append(tokens[Int(merge.left)].bytes + [UInt8(ascii: " ")] + tokens[Int(merge.right)].bytes)
        }
        return result
    }

    /// Scores under which SentencePiece's rule, the pair of the best score first, joins what the merges join.
    ///
    /// A tokenizer.json has no scores, but its merges are sorted by them: a token's score is minus the rank of the
    /// first merge that makes it. Where the ids are in that order too, as SentencePiece writes them, the scores are
    /// its own: minus the place among the ordinary tokens. Tokens that no merge makes come after all others.
    private func scores(_ types: [Int32]) -> [Float] {
        if let known = tokenizer.scores {
            return types.indices.map { $0 < known.count ? known[$0] : -1000 }
        }
        let merges = tokenizer.merges
        var scores: [Float] = types.map { type in
            switch TokenType(rawValue: type) {
            case .normal: -Float(merges.count)
            case .unused: -1000
            default: 0
            }
        }
        var isRanked = [Bool](repeating: false, count: types.count)
        for (rank, merge) in merges.enumerated() {
            guard let left = tokenizer.token(for: merge.left), let right = tokenizer.token(for: merge.right),
                let id = tokenizer.id(of: ByteString(left.bytes + right.bytes)).map(Int.init), !isRanked[id]
            else { continue }
            isRanked[id] = true
            scores[id] = -Float(rank)
        }
        let ranked = isRanked.indices.filter { isRanked[$0] }
        let isOrdered = zip(ranked, ranked.dropFirst()).allSatisfy { scores[$0] > scores[$1] }
        if isOrdered, let first = types.firstIndex(of: TokenType.normal.rawValue) {
            for id in types.indices where types[id] == TokenType.normal.rawValue { scores[id] = -Float(id - first) }
        }
        return scores
    }

    /// Whether a space is put before the text; checks that the rest of the definition is what llama.cpp does.
    private mutating func addsSpacePrefix(_ tokens: ByteStrings, _ types: [Int32]) throws -> Bool {
        var problems: [String] = []
        var prepends = false
        var replaces = false
        func normalizer(_ definition: JSONValue) {
            switch definition["type"]?.stringValue {
            case nil: break
            case "Sequence": for part in definition["normalizers"]?.arrayValue ?? [] { normalizer(part) }
            case "Prepend" where definition["prepend"]?.stringValue?.hasSameBytes(as: "\u{2581}") == true:
                prepends = true
            case "Replace"
            where definition["pattern"]?["String"]?.stringValue?.hasSameBytes(as: " ") == true
                && definition["content"]?.stringValue?.hasSameBytes(as: "\u{2581}") == true:
                replaces = true
            default: problems.append("the normalizer \(JSONWriter.text(definition)), which llama.cpp does not apply")
            }
        }
        normalizer(tokenizer.definitions.normalizer)
        let preTokenizer = tokenizer.definitions.preTokenizer
        switch preTokenizer["type"]?.stringValue {
        case nil: break
        // The normaliser leaves no space to split at.
        case "Split" where replaces && preTokenizer["pattern"]?["String"]?.stringValue?.hasSameBytes(as: " ") == true:
            break
        case "Metaspace":
            replaces = true
            let scheme =
                preTokenizer["prepend_scheme"]?.stringValue
                ?? (preTokenizer["add_prefix_space"]?.boolValue == false ? "never" : "always")
            prepends = prepends || scheme != "never"
            if scheme == "first" {
                warnings.append(
                    "llama.cpp puts a space before the text at the start and after each special token, this tokenizer "
                        + "only at the start and where there is none: such text may give other tokens")
            }
            if preTokenizer["split"]?.boolValue != false, joinsWords(tokens, types) {
                problems.append(
                    "words are split at spaces, yet there are tokens across spaces, which llama.cpp would use")
            }
        default: problems.append("the pre-tokenizer \(JSONWriter.text(preTokenizer)), which llama.cpp does not have")
        }
        if !replaces { problems.append("spaces are not written as U+2581, which llama.cpp does") }
        guard problems.isEmpty else { throw ExportError.tokenizer(path: path, problems: problems) }
        return prepends
    }

    /// Whether a token holds U+2581 after something else.
    private func joinsWords(_ tokens: ByteStrings, _ types: [Int32]) -> Bool {
        let mark: [UInt8] = [0xE2, 0x96, 0x81]
        return tokens.indices.contains { index in
            guard types[index] == TokenType.normal.rawValue else { return false }
            var bytes = tokens[index].bytes[...]
            while bytes.starts(with: mark) { bytes = bytes.dropFirst(3) }
            return bytes.count >= 3 && bytes.indices.dropLast(2).contains { bytes[$0...].starts(with: mark) }
        }
    }

    private func specialTokens() -> [(key: String, value: GGUFValue)] {
        var pairs: [(key: String, value: GGUFValue)] = []
        func add(_ key: String, _ id: Int?) {
            guard let id, id >= 0, id < config.vocabularySize else { return }
            pairs.append(("tokenizer.ggml.\(key)", .uint32(UInt32(id))))
        }
        add("bos_token_id", tokenizer.bosID.map(Int.init) ?? config.bosTokenID)
        let eos = tokenizer.eosID.map(Int.init) ?? config.eosTokenIDs.first
        add("eos_token_id", eos)
        // Models that end a turn and a text with different tokens name both in eos_token_id.
        add("eot_token_id", config.eosTokenIDs.first { $0 != eos })
        if isSentencePiece { add("unknown_token_id", tokenizer.unkID.map(Int.init)) }
        add("padding_token_id", tokenizer.padID.map(Int.init) ?? config.padTokenID)
        let canSay = Self.canSaySpecialTokens(tokenizer)
        pairs.append(("tokenizer.ggml.add_bos_token", .bool(canSay && tokenizer.addsBOS)))
        pairs.append(("tokenizer.ggml.add_eos_token", .bool(canSay && tokenizer.addsEOS)))
        return pairs
    }

    private static func chatTemplates(_ templates: [(name: String, source: String)]) -> [(
        key: String, value: GGUFValue
    )] {
        var pairs: [(key: String, value: GGUFValue)] = []
        var names: [ByteString] = []
        for template in templates {
            if template.name == "default" {
                pairs.append(("tokenizer.chat_template", .string(template.source)))
            } else {
                // llama.cpp looks names up as they stand; gguf-py keeps letters, digits and underscores.
                let name = String(
                    decoding: template.name.utf8.map { byte in
                        (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                            ? byte : UInt8(ascii: "_")
                    }, as: UTF8.self)
                guard !names.contains(ByteString(name)) else { continue }
                names.append(ByteString(name))
                pairs.append(("tokenizer.chat_template.\(name)", .string(template.source)))
            }
        }
        if !names.isEmpty { pairs.append(("tokenizer.chat_templates", .strings(ByteStrings(names)))) }
        return pairs
    }
}
