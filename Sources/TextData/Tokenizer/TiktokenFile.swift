import FileFormats
import Foundation

/// A tiktoken file: a line for each token, its bytes in base64 and its rank. Neighbours whose joint bytes have a rank are
/// merged, the lowest rank first.
///
/// The file holds neither pattern nor special tokens; both go by the number of ranks, which tells the families apart.
struct TiktokenFile {
    let path: String
    /// Tokens by rank; nil where the file leaves a rank out.
    private var tokens: [[UInt8]?] = []

    /// Whether bytes begin with such a line.
    static func isLikely(_ bytes: [UInt8]) -> Bool {
        let line = bytes.prefix(4096).prefix { $0 != 0x0A }
        guard let space = line.firstIndex(of: 0x20), space > 0 else { return false }
        return decodeBase64(line[..<space]) != nil && number(line[(space + 1)...]) != nil
    }

    /// - Throws: `TokenizerError` with the line.
    init(_ bytes: [UInt8], path: String) throws {
        self.path = path
        var problems = ProblemList()
        var lineNumber = 0
        for line in bytes.split(separator: 0x0A, omittingEmptySubsequences: false) {
            lineNumber += 1
            if line.allSatisfy({ $0 == 0x0D || $0 == 0x20 }) { continue }
            guard let space = line.firstIndex(of: 0x20), let token = Self.decodeBase64(line[..<space]),
                let rank = Self.number(line[(space + 1)...]), !token.isEmpty
            else {
                throw TokenizerError.malformed(
                    path: path, place: "line \(lineNumber)", reason: "expected base64, a space and a rank")
            }
            // Each line has a rank of its own, so no file has ranks far beyond its lines.
            guard rank < bytes.count else {
                problems.add(.badID, "line \(lineNumber) has the rank \(rank)")
                continue
            }
            if rank >= tokens.count { tokens += Array(repeating: nil, count: rank + 1 - tokens.count) }
            if tokens[rank] != nil { problems.add(.duplicateID, "line \(lineNumber): the rank \(rank) stands twice") }
            tokens[rank] = token
        }
        let single = Set(tokens.compactMap { $0?.count == 1 ? $0?[0] : nil })
        if single.count != 256 { problems.add(.unknownToken, "\(256 - single.count) bytes have no token") }
        try problems.throwIfAny(path)
    }

    private static func number(_ text: ArraySlice<UInt8>) -> Int? {
        let digits = text.last == 0x0D ? text.dropLast() : text
        guard !digits.isEmpty, digits.count < 10, digits.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
        return digits.reduce(0) { $0 * 10 + Int($1 - 0x30) }
    }

    static func decodeBase64(_ text: ArraySlice<UInt8>) -> [UInt8]? {
        Data(base64Encoded: Data(text)).map { Array($0) }
    }

    /// - Parameter config: `added_tokens_decoder` of the tokenizer_config.json beside the file, where there is one.
    func read(_ config: TokenizerConfig) throws -> (TokenizerParts, TokenizerConfig) {
        guard let family = TiktokenFamily(rankCount: tokens.count, named: config.addedTokens) else {
            throw TokenizerError.unsupported(
                path: path, place: "",
                found: "a tiktoken file of \(tokens.count) ranks, whose pattern is not known,")
        }
        var vocabulary = RankedVocabulary(path: path)
        for token in tokens { vocabulary.append(token) }
        return try vocabulary.read(pattern: family.pattern, special: family.special, bos: family.bos, config)
    }
}

/// What belongs to tiktoken ranks, but does not stand in their file.
struct TiktokenFamily {
    var pattern: String
    var special: [(id: Int, text: String)]
    /// What encoding puts before a text.
    var bos: String?

    static let cl100kPattern =
        #"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++\z|\s*[\r\n]|\s+(?!\S)|\s"#
    private static let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#
    private static let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#
    private static let contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    static let o200kPattern =
        #"[^\r\n\p{L}\p{N}]?\#(upper)*\#(lower)+\#(contractions)|[^\r\n\p{L}\p{N}]?\#(upper)+\#(lower)*\#(contractions)"#
        + #"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
    private static let upperNoHan = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"#
    private static let lowerNoHan = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"#
    static let kimiPattern =
        #"[\p{Han}]+|[^\r\n\p{L}\p{N}]?\#(upperNoHan)*\#(lowerNoHan)+\#(contractions)"#
        + #"|[^\r\n\p{L}\p{N}]?\#(upperNoHan)+\#(lowerNoHan)*\#(contractions)"#
        + #"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#

    init?(rankCount: Int, named: [(id: Int, text: String)]) {
        func numbered(_ texts: [String]) -> [(id: Int, text: String)] {
            texts.enumerated().map { (rankCount + $0, $1) }
        }
        switch rankCount {
        case 50256, 50280, 50281:  // r50k (GPT-2), p50k
            self.init(SplitScanner.gpt2Pattern, [(50256, "<|endoftext|>")])
        case 100_256:  // cl100k
            self.init(
                Self.cl100kPattern,
                numbered(["", "<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"]).filter {
                    !$0.text.isEmpty
                } + [(100_276, "<|endofprompt|>")])
        case 199_998:  // o200k
            self.init(Self.o200kPattern, [(199_999, "<|endoftext|>"), (200_018, "<|endofprompt|>")])
        case 128_000:  // Llama 3
            var names = (0..<251).map { "<|reserved_special_token_\($0)|>" }
            names.insert(contentsOf: ["<|begin_of_text|>", "<|end_of_text|>"], at: 0)
            names.insert(contentsOf: ["<|start_header_id|>", "<|end_header_id|>"], at: 6)
            names.insert("<|eot_id|>", at: 9)
            self.init(SplitScanner.llama3Pattern, numbered(names), bos: "<|begin_of_text|>")
        case 151_643:  // Qwen
            self.init(
                SplitScanner.qwen2Pattern,
                numbered(["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + (0..<205).map { "<|extra_\($0)|>" }))
        case 163_584:  // Kimi K2
            let known = Dictionary(named.map { ($0.id, $0.text) }, uniquingKeysWith: { first, _ in first })
            let defaults = [
                163_584: "[BOS]", 163_585: "[EOS]", 163_586: "<|im_end|>", 163_587: "<|im_user|>",
                163_588: "<|im_assistant|>", 163_590: "<|start_header_id|>", 163_591: "<|end_header_id|>",
                163_593: "[EOT]", 163_594: "<|im_system|>", 163_601: "<|im_middle|>", 163_838: "[UNK]",
                163_839: "[PAD]",
            ]
            let names = known.isEmpty ? defaults : known
            self.init(
                Self.kimiPattern,
                (163_584..<163_842).map { ($0, names[$0] ?? "<|reserved_token_\($0)|>") })
        case 200_000:  // Llama 4
            let special = named.isEmpty ? numbered(Self.llama4Special) : named
            self.init(Self.o200kPattern, special, bos: special.first { $0.id == 200_000 }?.text)
        case 151_329 where !named.isEmpty:  // GLM 4
            self.init(SplitScanner.llama3Pattern, named)
        default: return nil
        }
    }

    /// Llama 4's 2048 special tokens, in order of id (github.com/meta-llama/llama-models,
    /// models/llama4/tokenizer.py).
    private static let llama4Special: [String] = {
        func reserved(_ kind: String, _ range: Range<Int>) -> [String] {
            range.map { "<|\(kind)reserved_special_token_\($0)|>" }
        }
        func named(_ names: String) -> [String] { names.split(separator: " ").map { "<|\($0)|>" } }
        let basic = named("begin_of_text end_of_text fim_prefix fim_middle fim_suffix")
        let text =
            named("header_start header_end eom eot step") + reserved("text_post_train_", 0..<6)
            + named("python_start python_end finetune_right_pad") + reserved("text_post_train_", 8..<69)
        let vision =
            named("image_start image_end") + reserved("vision_", 0..<2) + named("tile_x_separator tile_y_separator")
            + reserved("vision_", 2..<6) + named("image") + reserved("vision_", 6..<7) + named("patch")
            + reserved("vision_", 7..<1048)
        let reasoning = reserved("reasoning_", 0..<8) + named("reasoning_thinking_start reasoning_thinking_end")
        let all = basic + text + vision + reasoning
        return all + reserved("", 0..<2048 - all.count)
    }()

    private init(_ pattern: String, _ special: [(id: Int, text: String)], bos: String? = nil) {
        self.pattern = pattern
        self.special = special
        self.bos = bos
    }
}

/// Tokens as bytes in order of id, which is also the order in which they merge: tiktoken's and Mistral's.
///
/// Made into a byte-level tokenizer as a tokenizer.json has it, so that it can be exported like one.
struct RankedVocabulary {
    let path: String
    private var vocabulary = ByteTable()
    private var problems = ProblemList()

    init(path: String) { self.path = path }

    /// Appends the token of the next id, or the place of an id that the model does not make.
    mutating func append(_ token: [UInt8]?) {
        guard let token, !token.isEmpty else {
            vocabulary.appendUnlisted()
            return
        }
        let text = ByteAlphabet.encode(token)
        if vocabulary.insert(text).isNew { return }
        problems.add(.duplicateID, "the token \(shortened(String(decoding: token, as: UTF8.self))) stands twice")
        vocabulary.appendUnlisted(text)
    }

    func read(
        pattern: String, special: [(id: Int, text: String)], bos: String?, _ config: TokenizerConfig
    ) throws -> (TokenizerParts, TokenizerConfig) {
        try problems.throwIfAny(path)
        // Ranks stay exact in 32 bits of floating point far beyond any vocabulary.
        guard vocabulary.count < 1 << 24 else {
            throw TokenizerError.malformed(path: path, place: "", reason: "it has \(vocabulary.count) tokens")
        }
        let merges = ScoredMerges(vocabulary, (0..<vocabulary.count).map { -Float($0) })
        let model = BPEModel(
            vocabulary: vocabulary, merges: merges.merges, mergeTable: merges.table, unknownID: nil,
            fusesUnknown: false, fallsBackToBytes: false, ignoresMerges: true, continuingPrefix: [],
            endOfWordSuffix: [],
            isByteLevel: true)
        var definitions = Tokenizer.Definitions()
        let byteLevel: JSONValue = [
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
        ]
        definitions.preTokenizer = [
            "type": "Sequence",
            "pretokenizers": [
                [
                    "type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated", "invert": false,
                ], byteLevel,
            ],
        ]
        definitions.decoder = byteLevel
        let reader = TokenizerJSONReader(path: path)
        let preTokenizer = try reader.readPreTokenizer(definitions.preTokenizer, "pattern")
        var parts = TokenizerParts(
            model: .bpe(model),
            added: special.map { AddedToken(id: Int32($0.id), content: ByteString($0.text)) },
            preTokenizer: model.isByteLevel ? preTokenizer?.deferringByteMap() : preTokenizer, decoder: .byteLevel,
            kind: .byteLevelBPE, definitions: definitions)
        var config = config
        if let bos, let id = special.first(where: { $0.text.hasSameBytes(as: bos) })?.id {
            parts.postProcessor.prefix = [Int32(id)]
            config.bos = config.bos ?? ByteString(bos)
        }
        config.isPresent = true
        return (parts, config)
    }
}
