public import FileFormats

/// The tokenizer inside a GGUF file (`tokenizer.ggml.*`), as llama.cpp reads it: models "gpt2" (byte-level merges),
/// "gemma4" (merges over scalars), "llama" (SentencePiece merges by score), "t5" (unigram) and "bert" (WordPiece).
struct GGUFVocabulary {
    let path: String
    let metadata: (String) -> GGUFValue?
    private let modelName: String

    /// llama.cpp's `llama_token_type`.
    enum TokenType: Int, Sendable {
        case normal = 1
        case unknown, control, userDefined, unused, byte
    }

    init(_ file: GGUFFile) {
        path = file.path
        metadata = { file["tokenizer.ggml." + $0] }
        modelName = file["general.name"]?.stringValue?.lowercased() ?? ""
    }

    /// - Throws: `TokenizerError` for a missing, unknown or contradictory vocabulary.
    func read() throws -> (TokenizerParts, TokenizerConfig) {
        guard let tokens = metadata("tokens")?.stringsValue, let model = metadata("model")?.stringValue else {
            throw TokenizerError.malformed(path: path, place: "tokenizer.ggml", reason: "no model or no tokens")
        }
        let numbers =
            metadata("token_type")?.intsValue ?? Array(repeating: TokenType.normal.rawValue, count: tokens.count)
        guard numbers.count == tokens.count, tokens.count < Int(Int32.max) else {
            throw TokenizerError.inconsistent(
                path: path, problems: ["there are \(tokens.count) tokens, but \(numbers.count) types"])
        }
        let vocabulary = try readVocabulary(tokens)
        let types = adjusted(numbers.map { TokenType(rawValue: $0) ?? .unused }, vocabulary)

        var parts: TokenizerParts
        var isUnigram = false
        switch model {
        case "gpt2": parts = try byteLevel(vocabulary)
        case "gemma4": parts = try mergesOverScalars(vocabulary)
        case "llama": parts = try sentencePiece(vocabulary)
        case "t5":
            parts = try unigram(vocabulary, types)
            isUnigram = true
        case "bert": parts = wordPiece(vocabulary)
        default: throw unsupported("model", shortened(model))
        }
        parts.added = addedTokens(tokens, types)
        if modelName.contains("phi-3") || modelName.contains("phi3") { stripAfterSpecial(&parts.added) }
        // The unigram model finds user-defined tokens itself.
        if isUnigram { parts.unmatchedTokens = [] }
        let config = try specialTokens(vocabulary, &parts, model)
        let isByteLevel = parts.kind == .byteLevelBPE
        parts.idDecoder = .llama(
            LlamaDecoder(
                types: types, spelling: isByteLevel ? .byteAlphabet : .metaspace,
                stripsLeadingSpace: GGUFTokenizerSettings(metadata).addsSpacePrefix,
                cleansSpaces: model == "bert" || model == "gemma4"
                    || (isByteLevel && GGUFPreTokenizer.cleansSpaces(pre)),
                bos: parts.postProcessor.prefix.first, eos: parts.postProcessor.suffix.last))
        return (parts, config)
    }

    private func readVocabulary(_ tokens: ByteStrings) throws -> ByteTable {
        var problems = ProblemList()
        var vocabulary = ByteTable(capacity: tokens.count, bytes: tokens.count * 8)
        for (id, token) in tokens.enumerated() {
            if String(validating: token.bytes, as: UTF8.self) == nil {
                problems.add(.badID, "token \(id), \(shortened(token.description)), is not UTF-8")
            }
            if token.bytes.isEmpty {
                vocabulary.appendUnlisted()
                continue
            }
            if vocabulary.insert(token.bytes).isNew { continue }
            let earlier = vocabulary.find(token.bytes) ?? 0
            problems.add(.duplicateID, "token \(shortened(token.description)) has both ids \(earlier) and \(id)")
            // Keeps the ids in step, so that further messages name the right ones.
            vocabulary.appendUnlisted(token.bytes)
        }
        try problems.throwIfAny(path)
        return vocabulary
    }

    func unsupported(_ key: String, _ found: String) -> TokenizerError {
        .unsupported(path: path, place: "tokenizer.ggml.\(key)", found: found)
    }

    // MARK: Special tokens

    /// Tokens that llama.cpp takes for control tokens by their text: many files mark them as ordinary ones.
    private static let endsByText = [
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
        "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
        "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>",
    ]
    private static let infillByText = [
        "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>", "<|code_prefix|>",
        "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>", "<|code_suffix|>",
        "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>", "<|code_middle|>",
        "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|fim_repo|>", "<|repo_name|>", "<fim-repo>",
        "<REPO>",
        "<reponame>", "<|file_sep|>",
    ]

    private func adjusted(_ types: [TokenType], _ vocabulary: ByteTable) -> [TokenType] {
        var types = types
        func id(_ text: String) -> Int? { vocabulary.find(Array(text.utf8)) }
        for text in Self.endsByText + Self.infillByText {
            if let id = id(text), types[id] != .unknown { types[id] = .control }
        }
        // Gemma 4 has an ordinary "</s>" beside its own end tokens; harmony formats show their markers.
        if id("<|tool_response>") != nil, let end = id("</s>") { types[end] = .normal }
        for text in ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"] {
            if let id = id(text) { types[id] = .userDefined }
        }
        let harmony = id("<|return|>") != nil && id("<|call|>") != nil
        let solar = id("<|calls|>") != nil && id("<|flush|>") != nil
        if harmony || solar, let end = id("<|end|>") { types[end] = .userDefined }
        return types
    }

    /// Control tokens are cut out when special tokens are parsed, user-defined ones always.
    private func addedTokens(_ tokens: ByteStrings, _ types: [TokenType]) -> [AddedToken] {
        tokens.enumerated().compactMap { id, token in
            guard !token.bytes.isEmpty else { return nil }
            switch types[id] {
            case .control, .unknown: return AddedToken(id: Int32(id), content: token)
            case .userDefined: return AddedToken(id: Int32(id), content: token, isSpecial: false)
            default: return nil
            }
        }
    }

    /// llama.cpp knows Phi-3 by name: its special tokens take the white space after them along.
    private func stripAfterSpecial(_ tokens: inout [AddedToken]) {
        for i in tokens.indices {
            tokens[i].rstrip = !["<unk>", "<s>", "<|endoftext|>"].contains { tokens[i].content == ByteString($0) }
        }
    }

    private func specialTokens(
        _ vocabulary: ByteTable, _ parts: inout TokenizerParts, _ model: String
    ) throws -> TokenizerConfig {
        func id(_ key: String, _ fallback: Int? = nil) throws -> Int? {
            guard let id = metadata(key)?.intValue, id != 0xFFFF_FFFF, id != -1 else {
                return fallback.flatMap { $0 < vocabulary.count ? $0 : nil }
            }
            guard id >= 0, id < vocabulary.count else {
                throw TokenizerError.inconsistent(
                    path: path, problems: ["\(key) is \(id), but there are \(vocabulary.count) tokens"])
            }
            return id
        }
        let settings = GGUFTokenizerSettings(metadata), defaults = GGUFTokenizerSettings.defaultIDs(model)
        let bos = try id("bos_token_id", defaults.bos)
        let eos = try id("eos_token_id", defaults.eos)
        let unknown = try id("unknown_token_id", defaults.unknown)
        if settings.addsBOS || model == "bert" || model == "gemma4", let bos {
            parts.postProcessor.prefix = [Int32(bos)]
        }
        if model == "bert" {
            if let separator = try id("seperator_token_id", 102) { parts.postProcessor.suffix = [Int32(separator)] }
        } else if settings.addsEOS, let eos {
            parts.postProcessor.suffix = [Int32(eos)]
        }
        var config = TokenizerConfig()
        func token(_ id: Int?) -> ByteString? { id.map { ByteString(vocabulary[$0]) } }
        config.bos = token(bos)
        config.eos = token(eos)
        config.pad = token(try id("padding_token_id"))
        config.unk = token(unknown)
        config.isPresent = true
        return config
    }
}

extension Tokenizer {
    /// Reads the tokenizer inside a GGUF file.
    ///
    /// - Throws: `TokenizerError`, also for vocabularies and pre-tokenizers that graft does not know.
    public convenience init(gguf file: GGUFFile) throws {
        let (parts, config) = try GGUFVocabulary(file).read()
        try self.init(parts, config)
    }
}
