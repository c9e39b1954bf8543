public import FileFormats

/// The tokenizer inside a GGUF file (`tokenizer.ggml.*`), as llama.cpp reads it: models "gpt2" (byte-level merges) and
/// "llama" (SentencePiece merges by score).
struct GGUFVocabulary {
    let path: String
    private let metadata: (String) -> GGUFValue?

    /// llama.cpp's `llama_token_type`.
    private enum TokenType: Int {
        case normal = 1
        case unknown, control, userDefined, unused, byte
    }

    init(_ file: GGUFFile) {
        path = file.path
        metadata = { file["tokenizer.ggml." + $0] }
    }

    /// - Throws: `TokenizerError` for a missing, unknown or contradictory vocabulary.
    func read() throws -> (TokenizerParts, TokenizerConfig) {
        guard let tokens = metadata("tokens")?.stringsValue, let model = metadata("model")?.stringValue else {
            throw TokenizerError.malformed(path: path, place: "tokenizer.ggml", reason: "no model or no tokens")
        }
        let types =
            metadata("token_type")?.intsValue ?? Array(repeating: TokenType.normal.rawValue, count: tokens.count)
        guard types.count == tokens.count, tokens.count < Int(Int32.max) else {
            throw TokenizerError.inconsistent(
                path: path, problems: ["there are \(tokens.count) tokens, but \(types.count) types"])
        }
        var problems = ProblemList()
        var vocabulary = ByteTable(capacity: tokens.count, bytes: tokens.count * 8)
        for (id, token) in tokens.enumerated() {
            if String(validating: token.bytes, as: UTF8.self) == nil {
                problems.add(.badID, "token \(id), \(shortened(token.description)), is not UTF-8")
            }
            if vocabulary.insert(token.bytes).isNew { continue }
            let earlier = vocabulary.find(token.bytes) ?? 0
            problems.add(.duplicateID, "token \(shortened(token.description)) has both ids \(earlier) and \(id)")
            // Keeps the ids in step, so that further messages name the right ones.
            _ = vocabulary.insert(token.bytes + Array("\u{0}duplicate \(id)".utf8))
        }
        try problems.throwIfAny(path)

        var parts: TokenizerParts
        switch model {
        case "gpt2": parts = try byteLevel(vocabulary)
        case "llama": parts = try sentencePiece(vocabulary)
        default: throw unsupported("model", shortened(model))
        }
        parts.added = addedTokens(tokens, types)
        let config = try specialTokens(vocabulary, &parts)
        return (parts, config)
    }

    private func unsupported(_ key: String, _ found: String) -> TokenizerError {
        .unsupported(path: path, place: "tokenizer.ggml.\(key)", found: found)
    }

    /// Control tokens are cut out when special tokens are parsed, user-defined ones always.
    private func addedTokens(_ tokens: ByteStrings, _ types: [Int]) -> [AddedToken] {
        tokens.enumerated().compactMap { id, token in
            guard !token.bytes.isEmpty else { return nil }
            switch TokenType(rawValue: types[id]) {
            case .control, .unknown: return AddedToken(id: Int32(id), content: token)
            case .userDefined: return AddedToken(id: Int32(id), content: token, isSpecial: false)
            default: return nil
            }
        }
    }

    private func specialTokens(_ vocabulary: ByteTable, _ parts: inout TokenizerParts) throws -> TokenizerConfig {
        func id(_ key: String) throws -> Int? {
            guard let id = metadata(key)?.intValue, id != 0xFFFF_FFFF, id != -1 else { return nil }
            guard id >= 0, id < vocabulary.count else {
                throw TokenizerError.inconsistent(
                    path: path, problems: ["\(key) is \(id), but there are \(vocabulary.count) tokens"])
            }
            return id
        }
        let isSentencePiece = parts.kind == .sentencePieceBPE
        let bos = try id("bos_token_id")
        let eos = try id("eos_token_id")
        let unknown = try id("unknown_token_id")
        // llama.cpp's defaults: SentencePiece models and Llama 3 begin with BOS.
        let addsBOS = metadata("add_bos_token")?.boolValue ?? (isSentencePiece || Self.isLlama3(pre))
        if addsBOS, let bos { parts.postProcessor.prefix = [Int32(bos)] }
        if metadata("add_eos_token")?.boolValue ?? false, let eos { parts.postProcessor.suffix = [Int32(eos)] }

        var config = TokenizerConfig()
        func token(_ id: Int?) -> ByteString? { id.map { ByteString(vocabulary[$0]) } }
        config.bos = token(bos)
        config.eos = token(eos)
        config.pad = token(try id("padding_token_id"))
        // llama.cpp takes the first token where a SentencePiece model names none.
        config.unk = token(unknown ?? (isSentencePiece && vocabulary.count > 0 ? 0 : nil))
        config.isPresent = true
        return config
    }

    // MARK: Byte-level

    private var pre: String { metadata("pre")?.stringValue ?? "default" }

    private static func isLlama3(_ pre: String) -> Bool { ["llama-bpe", "llama3", "llama-v3"].contains(pre) }

    private func byteLevel(_ vocabulary: ByteTable) throws -> TokenizerParts {
        guard let list = metadata("merges")?.stringsValue else {
            throw TokenizerError.malformed(path: path, place: "tokenizer.ggml.merges", reason: "expected strings")
        }
        var problems = ProblemList()
        var merges: [(left: Int32, right: Int32)] = []
        var table = MergeTable(capacity: list.count)
        for (rank, line) in list.enumerated() {
            // The first token has at least one byte, even if that is a space.
            guard let space = line.bytes.dropFirst().firstIndex(of: 0x20) else {
                problems.add(.merge, "merge \(rank) is \(shortened(line.description)), not two tokens")
                continue
            }
            let left = vocabulary.find(Array(line.bytes[..<space]))
            let right = vocabulary.find(Array(line.bytes[(space + 1)...]))
            let result = vocabulary.find(Array(line.bytes[..<space] + line.bytes[(space + 1)...]))
            guard let left, let right, let result else {
                problems.add(.merge, "merge \(rank), \(shortened(line.description)), names or makes no token")
                continue
            }
            table.insert(UInt32(left), UInt32(right), rank: UInt32(rank), id: UInt32(result))
            merges.append((Int32(left), Int32(right)))
        }
        try problems.throwIfAny(path)

        let preTokenizer = try preTokenizer()
        let model = BPEModel(
            vocabulary: vocabulary, merges: merges, mergeTable: table, unknownID: nil, fusesUnknown: false,
            fallsBackToBytes: false, ignoresMerges: Self.isLlama3(pre) || pre == "tekken", continuingPrefix: [],
            endOfWordSuffix: [], isByteLevel: preTokenizer.endsInByteLevel)
        return TokenizerParts(
            model: .bpe(model), added: [],
            preTokenizer: model.isByteLevel ? preTokenizer.deferringByteMap() : preTokenizer, decoder: .byteLevel,
            kind: .byteLevelBPE)
    }

    /// The pre-tokenizers that llama.cpp knows by the names of the models they came with.
    private func preTokenizer() throws -> PreTokenizer {
        let gpt2 = PreTokenizer.byteLevel(prefix: false, splits: true, maps: true)
        let bytes = PreTokenizer.byteLevel(prefix: false, splits: false, maps: true)
        func split(_ pattern: String) throws -> PreTokenizer {
            .split(try .regularExpression(pattern), .isolated, inverted: false)
        }
        func scanner(_ scanner: SplitScanner) -> PreTokenizer {
            .sequence([.split(.scanner(scanner), .isolated, inverted: false), bytes])
        }
        let digits = PreTokenizer.split(.scalars(.number), .isolated, inverted: false)
        switch pre {
        case "gpt-2", "phi-2", "olmo", "mpt", "jais", "trillion", "granite-docling": return gpt2
        case "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b":
            return .sequence([digits, gpt2])
        case "llama-bpe", "llama3", "llama-v3", "smaug-bpe", "dbrx", "falcon3", "pixtral":
            return scanner(.cl100k(maximumDigits: 3))
        case "qwen2", "stablelm2", "deepseek-r1-qwen", "hunyuan", "solar-open":
            return scanner(.cl100k(maximumDigits: 1))
        case "falcon":
            return .sequence([
                try split(#"[\p{P}\$\+<=>\^~\|`]+"#), .split(.scanner(.gpt2), .isolated, inverted: false),
                try split("[0-9][0-9][0-9]"), bytes,
            ])
        case "deepseek-coder":
            return .sequence([
                try split(#"[\r\n]"#), try split(#"\s?\p{L}+"#), try split(#"\s?\p{P}+"#),
                try split("[一-龥ࠀ-一가-퟿]+"), digits, bytes,
            ])
        default: throw unsupported("pre", "the pre-tokenizer \(shortened(pre))")
        }
    }

    // MARK: SentencePiece

    /// SentencePiece joins the neighbours whose token has the best score. As merges: every way to cut a token in two
    /// tokens, ranked by the token's score; equal scores share a rank, so the leftmost comes first there too.
    private func sentencePiece(_ vocabulary: ByteTable) throws -> TokenizerParts {
        guard let scores = metadata("scores")?.floatsValue, scores.count == vocabulary.count else {
            throw TokenizerError.malformed(
                path: path, place: "tokenizer.ggml.scores", reason: "expected \(vocabulary.count) scores")
        }
        guard scores.allSatisfy({ !$0.isNaN }) else {
            throw TokenizerError.inconsistent(path: path, problems: ["a score is not a number"])
        }
        let (merges, table) = Self.merges(vocabulary, scores)
        let unknown = metadata("unknown_token_id")?.intValue ?? 0
        let model = BPEModel(
            vocabulary: vocabulary, merges: merges, mergeTable: table,
            unknownID: unknown >= 0 && unknown < vocabulary.count ? UInt32(unknown) : nil, fusesUnknown: false,
            fallsBackToBytes: true, ignoresMerges: false, continuingPrefix: [], endOfWordSuffix: [],
            isByteLevel: false)
        let addsSpace = metadata("add_space_prefix")?.boolValue ?? true
        let replace = Normalizer.replace(.literal([0x20]), BPEModel.metaspace)
        let decoders: [TokenDecoder] = [.replace(.literal(BPEModel.metaspace), [0x20]), .byteFallback, .fuse]
        return TokenizerParts(
            model: .bpe(model), added: [],
            normalizer: addsSpace ? .sequence([.prepend(BPEModel.metaspace), replace]) : replace,
            decoder: .sequence(decoders + (addsSpace ? [.strip(content: 0x20, start: 1, stop: 0)] : [])),
            kind: .sentencePieceBPE, scores: scores)
    }

    private static func merges(
        _ vocabulary: ByteTable, _ scores: [Float]
    ) -> ([(left: Int32, right: Int32)], MergeTable) {
        let order = (0..<vocabulary.count).sorted { (-scores[$0], $0) < (-scores[$1], $1) }
        var merges: [(left: Int32, right: Int32)] = []
        var ranked: [(left: UInt32, right: UInt32, rank: UInt32, id: UInt32)] = []
        let storage = vocabulary.storage.span
        var rank: UInt32 = 0
        for (place, id) in order.enumerated() {
            if place > 0, scores[order[place - 1]] != scores[id] { rank += 1 }
            let range = vocabulary.range(id)
            guard !range.isEmpty else { continue }
            // A long token has many cuts, but only those between two tokens count; SentencePiece stops at 16 scalars.
            guard range.count <= 1024 else { continue }
            var cut = range.lowerBound + utf8Length(storage[range.lowerBound])
            while cut < range.upperBound {
                if let left = vocabulary.find(storage, range.lowerBound..<cut),
                    let right = vocabulary.find(storage, cut..<range.upperBound)
                {
                    ranked.append((UInt32(left), UInt32(right), rank, UInt32(id)))
                    merges.append((Int32(left), Int32(right)))
                }
                cut += utf8Length(storage[cut])
            }
        }
        var table = MergeTable(capacity: ranked.count)
        for merge in ranked { table.insert(merge.left, merge.right, rank: merge.rank, id: merge.id) }
        return (merges, table)
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
