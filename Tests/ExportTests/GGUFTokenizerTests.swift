import FileFormats
import Foundation
import TensorCore
import Testing
import TextData

@testable import Export

@Suite struct PreTokenizerIdentityTests {
    static let llama3 =
        #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"#
        + #"|\s+(?!\S)|\s+"#

    static func split(_ pattern: String) -> JSONValue {
        ["type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated", "invert": false]
    }
    static func byteLevel(regex: Bool, prefix: Bool = false) -> JSONValue {
        ["type": "ByteLevel", "add_prefix_space": .bool(prefix), "trim_offsets": true, "use_regex": .bool(regex)]
    }
    static func sequence(_ parts: JSONValue...) -> JSONValue { ["type": "Sequence", "pretokenizers": .array(parts)] }

    func name(_ definition: JSONValue, normalizer: JSONValue = .null, ignoresMerges: Bool = false) -> String? {
        try? PreTokenizerIdentity.name(preTokenizer: definition, normalizer: normalizer, ignoresMerges: ignoresMerges)
            .get()
    }

    @Test func known() {
        #expect(name(Self.byteLevel(regex: true)) == "gpt-2")
        let digits: JSONValue = ["type": "Digits", "individual_digits": true]
        #expect(name(Self.sequence(digits, Self.byteLevel(regex: true))) == "smollm")
        let llama = Self.sequence(Self.split(Self.llama3), Self.byteLevel(regex: false))
        #expect(name(llama, ignoresMerges: true) == "llama-bpe")
        #expect(name(llama) == "smaug-bpe")
        let qwen = Self.sequence(
            Self.split(Self.llama3.replacingOccurrences(of: "{1,3}", with: "")), Self.byteLevel(regex: false))
        #expect(name(qwen, normalizer: ["type": "NFC"]) == "qwen2")
        #expect(name(qwen) == "qwen2")
    }
    @Test("other spellings of the same: an empty sequence of normalisers, matches kept instead of isolated")
    func spellings() {
        let empty: JSONValue = ["type": "Sequence", "normalizers": []]
        let nested: JSONValue = ["type": "Sequence", "normalizers": [["type": "NFC"]]]
        func kept(_ pattern: String) -> JSONValue {
            ["type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Removed", "invert": true]
        }
        let llama = Self.sequence(kept(Self.llama3), Self.byteLevel(regex: false))
        #expect(name(llama, normalizer: empty) == "smaug-bpe")
        #expect(name(llama, normalizer: nested) == nil)
        let qwen = Self.sequence(
            kept(Self.llama3.replacingOccurrences(of: "{1,3}", with: "")), Self.byteLevel(regex: false))
        #expect(name(qwen, normalizer: nested) == "qwen2")
        // Where an expression leaves text over, keeping its matches drops the rest.
        #expect(name(Self.sequence(kept(#"\p{N}"#), Self.byteLevel(regex: true))) == nil)
    }
    @Test("DeepSeek's models before the third, with words of letters that have case")
    func deepSeekLLM() {
        let digits: JSONValue = ["type": "Digits", "individual_digits": true]
        func definition(_ letters: String) -> JSONValue {
            Self.sequence(
                Self.split("[\r\n]"), Self.split(#"\s?[\#(letters)]+"#),
                Self.split(#"\s?[!-/:-~！-／：-～‘-‟　-。]+"#), Self.split(#"\s+$"#),
                Self.split("[\u{4E00}-\u{9FA5}\u{800}-\u{4E00}\u{AC00}-\u{D7FF}]+"), digits,
                Self.byteLevel(regex: false))
        }
        #expect(Tokenizer.casedLetters.unicodeScalars.starts(with: "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿ".unicodeScalars))
        #expect(name(definition(Tokenizer.casedLetters)) == "deepseek-llm")
        #expect(name(definition("A-Za-z")) == nil)
    }
    @Test func unknownIsAnErrorThatShowsIt() {
        for definition: JSONValue in [
            .null, Self.byteLevel(regex: false), Self.byteLevel(regex: true, prefix: true),
            Self.split(Self.llama3), Self.sequence(Self.split(#"\w+"#), Self.byteLevel(regex: false)),
            Self.sequence(["type": "Whitespace"], Self.byteLevel(regex: true)),
            Self.sequence(
                ["type": "Split", "pattern": ["Regex": .string(Self.llama3)], "behavior": "Removed", "invert": false],
                Self.byteLevel(regex: false)),
        ] { #expect(name(definition) == nil) }
        #expect(name(Self.byteLevel(regex: true), normalizer: ["type": "NFKC"]) == nil)
        #expect(name(Self.byteLevel(regex: true), ignoresMerges: true) == nil)
        let result = PreTokenizerIdentity.name(
            preTokenizer: Self.sequence(Self.split(#"\w+"#), Self.byteLevel(regex: false)), normalizer: .null,
            ignoresMerges: false)
        guard case .failure(let problem) = result else {
            Issue.record()
            return
        }
        #expect(problem.problems.joined().contains(#"\\w+"#))
    }
}

@Suite struct GGUFTokenizerTests {
    let scratch = Scratch()
    let pool = WorkerPool(threads: 1)

    /// A model of 24 ids and this tokenizer, exported.
    func export(_ tokenizer: JSONValue, config: JSONValue = ["eos_token": "<e>"], files: [(String, String)] = []) throws
        -> (file: GGUFFile, report: ExportReport)
    {
        var model = TinyModel()
        model.vocabulary = 24
        model.extraConfig = JSONObject([("eos_token_id", [9, 8])])
        try? FileManager.default.removeItem(atPath: scratch("m"))
        try model.write(to: scratch("m"))
        try AtomicFile.write(JSONWriter.bytes(tokenizer), to: scratch("m/tokenizer.json"))
        try AtomicFile.write(JSONWriter.bytes(config), to: scratch("m/tokenizer_config.json"))
        for (name, text) in files { try AtomicFile.write(Array(text.utf8), to: scratch("m/" + name)) }
        let report = try exportGGUF(model: scratch("m"), output: scratch("o"), type: .f32, pool: pool, replacing: true)
        return (try GGUFFile(path: scratch("o")), report)
    }
    func added(_ id: Int, _ content: String, special: Bool) -> JSONValue {
        [
            "id": .integer(id), "content": .string(content), "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": .bool(special),
        ]
    }
    var byteLevel: JSONValue {
        [
            "version": "1.0", "added_tokens": [added(8, "<e>", special: true), added(9, "<u>", special: false)],
            "normalizer": .null, "pre_tokenizer": PreTokenizerIdentityTests.byteLevel(regex: true),
            "post_processor": .null, "decoder": ["type": "ByteLevel"],
            "model": [
                "type": "BPE",
                "vocab": ["a": 0, "b": 1, "Ġ": 2, "ab": 3, "Ġab": 4, "c": 5, "¤": 6, "à": 7],
                "merges": [["a", "b"], ["Ġ", "ab"]],
            ],
        ]
    }

    @Test func byteLevelVocabulary() throws {
        let (file, report) = try export(byteLevel)
        #expect(report.warnings.isEmpty)
        #expect(file["tokenizer.ggml.model"] == .string("gpt2") && file["tokenizer.ggml.pre"] == .string("gpt-2"))
        let tokens = try #require(file["tokenizer.ggml.tokens"]?.stringsValue)
        #expect(tokens.count == 24 && tokens[4] == "Ġab" && tokens[8] == "<e>" && tokens[10] == "[PAD10]")
        let types = try #require(file["tokenizer.ggml.token_type"]?.intsValue)
        #expect(types == [Int](repeating: 1, count: 8) + [3, 4] + [Int](repeating: 5, count: 14))
        #expect(file["tokenizer.ggml.merges"]?.stringsValue.map(Array.init) == ["a b", "Ġ ab"])
        #expect(file["tokenizer.ggml.eos_token_id"] == .uint32(8) && file["tokenizer.ggml.eot_token_id"] == .uint32(9))
        #expect(file["tokenizer.ggml.bos_token_id"] == nil)
        #expect(file["tokenizer.ggml.add_bos_token"] == .bool(false))
        #expect(file["tokenizer.chat_template"] == nil)
    }
    @Test("special tokens around a text that no key of the format stands for are told, and the template goes on")
    func furtherPrefix() throws {
        func prefixed(_ ids: [Int]) throws -> JSONValue {
            var json = try #require(byteLevel.objectValue)
            let names = ids.map { ["<e>", "<u>"][$0 - 8] }
            json["post_processor"] = [
                "type": "TemplateProcessing",
                "single": .array(
                    names.map { ["SpecialToken": ["id": .string($0), "type_id": 0]] }
                        + [["Sequence": ["id": "A", "type_id": 0]]]),
                "pair": [["Sequence": ["id": "A", "type_id": 0]], ["Sequence": ["id": "B", "type_id": 1]]],
                "special_tokens": .object(
                    JSONObject(
                        zip(names, ids).map { name, id in
                            (name, ["id": .string(name), "ids": [.integer(id)], "tokens": [.string(name)]])
                        })),
            ]
            return .object(json)
        }
        let bos: JSONValue = ["bos_token": "<e>", "eos_token": "<u>"]
        let plain = try export(prefixed([8]), config: bos)
        #expect(plain.report.warnings.isEmpty && plain.file["tokenizer.ggml.add_bos_token"] == .bool(true))
        let further = try export(prefixed([9, 8]), config: bos)
        #expect(further.report.warnings.count == 1 && further.report.warnings[0].contains("<u> <e>"))
        #expect(further.file["tokenizer.ggml.add_bos_token"] == .bool(false))
    }
    @Test func unknownPreTokenizerIsAnError() throws {
        var json = try #require(byteLevel.objectValue)
        json["pre_tokenizer"] = PreTokenizerIdentityTests.sequence(
            PreTokenizerIdentityTests.split(#"\w+|\W+"#), PreTokenizerIdentityTests.byteLevel(regex: false))
        #expect(throws: ExportError.self) { try export(.object(json)) }
        #expect(!FileManager.default.fileExists(atPath: scratch("o")))
    }
    @Test func vocabularyLargerThanTheModelIsAnError() throws {
        var json = try #require(byteLevel.objectValue)
        var model = try #require(json["model"]?.objectValue), vocabulary = try #require(model["vocab"]?.objectValue)
        for id in 10...24 { vocabulary["t\(id)"] = .integer(id) }
        model["vocab"] = .object(vocabulary)
        json["model"] = .object(model)
        #expect(throws: ExportError.self) { try export(.object(json)) }
    }
    @Test("a BPE without tokens for bytes is written, and what llama.cpp makes of it is told")
    func withoutBytes() throws {
        try writeChatModel(to: scratch("chat"))
        try writeSentencePieceTokenizer(to: scratch("chat"), hasBytes: false)
        let pool = WorkerPool(threads: 1)
        let report = try ParityGate(pool: pool).passing(output: scratch("o.gguf"), model: scratch("chat"), adapters: [])
        {
            try exportGGUF(model: scratch("chat"), output: $0, type: .f32, pool: pool)
        }
        #expect(report.warnings.contains { $0.contains("no tokens for bytes") })
        let file = try GGUFFile(path: scratch("o.gguf"))
        #expect(file["tokenizer.ggml.model"] == .string("llama"))
        #expect(file["tokenizer.ggml.token_type"]?.intsValue?.contains(6) == false)
    }
    @Test("tokens that were added beyond the model's rows are left out, and told")
    func addedTokenWithoutARow() throws {
        var json = try #require(byteLevel.objectValue)
        json["added_tokens"] = .array([added(8, "<e>", special: true), added(24, "<picture>", special: true)])
        let found = try export(.object(json))
        #expect(found.file["tokenizer.ggml.tokens"]?.elementCount == 24)
        #expect(found.report.warnings.contains { $0.contains("no row for \"<picture>\" (24)") })
    }
    @Test("a token that llama.cpp puts before a chat and the template does not is told")
    func tokenBeforeAChat() throws {
        var json = try #require(byteLevel.objectValue)
        json["post_processor"] = [
            "type": "TemplateProcessing",
            "single": [["SpecialToken": ["id": "<e>", "type_id": 0]], ["Sequence": ["id": "A", "type_id": 0]]],
            "pair": [["Sequence": ["id": "A", "type_id": 0]], ["Sequence": ["id": "B", "type_id": 1]]],
            "special_tokens": ["<e>": ["id": "<e>", "ids": [8], "tokens": ["<e>"]]],
        ]
        func notes(_ template: String) throws -> [String] {
            try export(.object(json), config: ["bos_token": "<e>"], files: [("chat_template.jinja", template)])
                .report.warnings.filter { $0.contains("add_bos_token") }
        }
        #expect(try notes("a").count == 1)
        #expect(try notes("{{ bos_token }}a").isEmpty)
    }
    @Test func chatTemplates() throws {
        let config: JSONValue = ["eos_token": "<e>", "chat_template": "config"]
        #expect(try export(byteLevel, config: config).file["tokenizer.chat_template"] == .string("config"))
        let own = try export(byteLevel, config: config, files: [("chat_template.jinja", "own")]).file
        #expect(own["tokenizer.chat_template"] == .string("own"))
        let named: JSONValue = [
            "chat_template": [["name": "default", "template": "d"], ["name": "tool-use", "template": "t"]]
        ]
        let file = try export(byteLevel, config: named).file
        #expect(file["tokenizer.chat_template"] == .string("d"))
        #expect(file["tokenizer.chat_template.tool_use"] == .string("t"))
        #expect(file["tokenizer.chat_templates"]?.stringsValue.map(Array.init) == ["tool_use"])
    }

    func sentencePiece(
        normalizer: JSONValue = [
            "type": "Sequence",
            "normalizers": [
                ["type": "Prepend", "prepend": "▁"],
                ["type": "Replace", "pattern": ["String": " "], "content": "▁"],
            ],
        ], preTokenizer: JSONValue = .null, merges: JSONValue = [["a", "b"], ["▁", "ab"]]
    ) -> JSONValue {
        [
            "version": "1.0",
            "added_tokens": [
                added(0, "<unk>", special: true), added(1, "<s>", special: true), added(2, "</s>", special: true),
            ],
            "normalizer": normalizer, "pre_tokenizer": preTokenizer, "post_processor": .null,
            "decoder": ["type": "Sequence", "decoders": [["type": "ByteFallback"], ["type": "Fuse"]]],
            "model": [
                "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
                "vocab": [
                    "<unk>": 0, "<s>": 1, "</s>": 2, "<0x0A>": 3, "ab": 4, "▁ab": 5, "a": 6, "b": 7, "▁": 8, "क": 9,
                ],
                "merges": merges,
            ],
        ]
    }

    @Test func sentencePieceVocabulary() throws {
        let config: JSONValue = ["bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"]
        let file = try export(sentencePiece(), config: config).file
        #expect(file["tokenizer.ggml.model"] == .string("llama") && file["tokenizer.ggml.pre"] == .string("default"))
        let types = try #require(file["tokenizer.ggml.token_type"]?.intsValue)
        #expect(types.prefix(10) == [2, 3, 3, 6, 1, 1, 1, 1, 1, 1] && types[10] == 5)
        let scores = try #require(file["tokenizer.ggml.scores"]?.floatsValue)
        // The order of ids is that of the merges: SentencePiece's own scores.
        #expect(scores.prefix(10) == [0, 0, 0, 0, 0, -1, -2, -3, -4, -5] && scores[10] == -1000)
        #expect(file["tokenizer.ggml.add_space_prefix"] == .bool(true))
        #expect(file["tokenizer.ggml.unknown_token_id"] == .uint32(0))
        #expect(file["tokenizer.ggml.merges"] == nil)
    }
    /// A SentencePiece model of BPE: pieces, the trainer's algorithm and the normalizer (sentencepiece_model.proto).
    private func sentencePieceFile(removesExtraSpaces: Bool) -> [UInt8] {
        func message(_ number: UInt8, _ content: [UInt8]) -> [UInt8] {
            [number << 3 | 2, UInt8(content.count)] + content
        }
        let pieces: [(text: String, score: Float, type: UInt8)] = [
            ("<unk>", 0, 2), ("<s>", 0, 3), ("</s>", 0, 3), ("ab", 0, 1), ("▁ab", -1, 1), ("a", -2, 1), ("b", -3, 1),
            ("▁", -4, 1),
        ]
        let model = pieces.flatMap { piece in
            message(
                1,
                message(1, Array(piece.text.utf8)) + [2 << 3 | 5] + withUnsafeBytes(of: piece.score) { Array($0) }
                    + [3 << 3, piece.type])
        }
        let normalizer: [UInt8] = [3 << 3, 1, 4 << 3, removesExtraSpaces ? 1 : 0, 5 << 3, 1]
        return model + message(2, [3 << 3, 2]) + message(3, normalizer)
    }

    @Test func aSentencePieceFileAlone() throws {
        let model = TinyModel(vocabulary: 9)
        try model.write(to: scratch("m"))
        let file = scratch("m") + "/tokenizer.model"
        try Data(sentencePieceFile(removesExtraSpaces: false)).write(to: URL(filePath: file))
        _ = try exportGGUF(model: scratch("m"), output: scratch("x.gguf"), type: .f32, pool: pool)
        let written = try GGUFFile(path: scratch("x.gguf"))
        #expect(written["tokenizer.ggml.model"] == .string("llama"))
        #expect(written["tokenizer.ggml.add_space_prefix"] == .bool(true))
        #expect(written["tokenizer.ggml.add_bos_token"] == .bool(true))
        #expect(written["tokenizer.ggml.scores"]?.floatsValue == [0, 0, 0, 0, -1, -2, -3, -4, -1000])
        #expect(written["tokenizer.ggml.token_type"]?.intsValue == [2, 3, 3, 1, 1, 1, 1, 1, 5])
        try Data(sentencePieceFile(removesExtraSpaces: true)).write(to: URL(filePath: file))
        #expect(throws: ExportError.self) {
            try exportGGUF(model: scratch("m"), output: scratch("y.gguf"), type: .f32, pool: pool)
        }
    }

    @Test func mergesOutOfIdOrderGiveRanks() throws {
        let file = try export(sentencePiece(merges: [["▁", "ab"], ["a", "b"]])).file
        let scores = try #require(file["tokenizer.ggml.scores"]?.floatsValue)
        #expect(scores[5] == 0 && scores[4] == -1 && scores[6] == -2)
    }
    @Test func spacePrefix() throws {
        func prefix(_ preTokenizer: JSONValue) throws -> GGUFValue? {
            try export(sentencePiece(normalizer: .null, preTokenizer: preTokenizer)).file[
                "tokenizer.ggml.add_space_prefix"]
        }
        func metaspace(_ scheme: String) -> JSONValue {
            ["type": "Metaspace", "replacement": "▁", "prepend_scheme": .string(scheme), "split": false]
        }
        #expect(try prefix(metaspace("never")) == .bool(false))
        #expect(try prefix(metaspace("always")) == .bool(true))
        #expect(
            try export(sentencePiece(normalizer: .null, preTokenizer: metaspace("first"))).report.warnings.count == 1)
    }
    @Test("a split at spaces that the normaliser has replaced, as Gemma's files have it")
    func splitAtNothing() throws {
        let replace: JSONValue = ["type": "Replace", "pattern": ["String": " "], "content": "▁"]
        let split: JSONValue = [
            "type": "Split", "pattern": ["String": " "], "behavior": "MergedWithPrevious", "invert": false,
        ]
        let file = try export(sentencePiece(normalizer: replace, preTokenizer: split)).file
        #expect(file["tokenizer.ggml.add_space_prefix"] == .bool(false))
        #expect(throws: ExportError.self) { try export(sentencePiece(normalizer: .null, preTokenizer: split)) }
    }
    @Test func otherNormalizersAreErrors() throws {
        #expect(throws: ExportError.self) { try export(sentencePiece(normalizer: ["type": "Lowercase"])) }
        #expect(throws: ExportError.self) { try export(sentencePiece(normalizer: .null)) }
    }
}
