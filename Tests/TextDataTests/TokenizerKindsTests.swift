import FileFormats
import Foundation
import Testing

@testable import TextData

@Suite("Kinds of tokenizer files")
struct TokenizerKindsTests {
    private func withFile<Result>(_ name: String, _ bytes: [UInt8], _ body: (String) throws -> Result) throws -> Result
    {
        let folder = URL(filePath: NSTemporaryDirectory()).appending(path: "kinds-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appending(path: name)
        try Data(bytes).write(to: file)
        return try body(file.path)
    }

    private func ids(_ document: JSONValue, _ text: String) throws -> [Int32] {
        try Tokenizer(json: document).encoding(of: text, addSpecialTokens: false).ids
    }

    // MARK: What stands beside a vocabulary

    @Test("added_tokens.json and named special tokens count beside vocab.json and merges.txt")
    func addedTokensBesideVocabulary() throws {
        let folder = try TemporaryFolder()
        _ = try folder.write("vocab.json", #"{"a": 0, "b": 1, "ab": 2, "<s>": 3}"#)
        _ = try folder.write("merges.txt", "#version: 0.2\na b\n")
        func ids(_ text: String) throws -> [Int32] {
            try Tokenizer(path: folder.path).encoding(of: text, addSpecialTokens: false).ids
        }
        _ = try folder.write("added_tokens.json", #"{"<x>": 4, "<y>": 5}"#)
        #expect(try ids("ab<x>a<y>") == [2, 4, 0, 5])
        // Special are those that have a key; one that no file gives an id to follows the others.
        _ = try folder.write(
            "special_tokens_map.json", #"{"bos_token": "<s>", "additional_special_tokens": ["<y>", "<z>"]}"#)
        #expect(try ids("<s>ab<z><x>") == [3, 2, 6, 4])
        let tokenizer = try Tokenizer(path: folder.path)
        #expect((3..<7).map { tokenizer.isSpecial($0) } == [true, false, true, true])
        // What tokenizer_config.json lists itself comes first.
        _ = try folder.write(
            "tokenizer_config.json", #"{"added_tokens_decoder": {"4": {"content": "<w>", "special": true}}}"#)
        #expect(try ids("<w>ab") == [4, 2])
        _ = try folder.write("tokenizer_config.json", "{}")
        _ = try folder.write("added_tokens.json", #"{"<x>": "4"}"#)
        #expect(throws: TokenizerError.self) { try ids("a") }
    }

    // MARK: tokenizer.json

    private static func unigram(_ pieces: [(String, Double)], fallsBack: Bool = false, unknown: JSONValue = 0)
        -> JSONValue
    {
        [
            "model": [
                "type": "Unigram", "unk_id": unknown, "byte_fallback": .bool(fallsBack),
                "vocab": .array(pieces.map { [.string($0.0), .double($0.1)] }),
            ]
        ]
    }

    @Test("unigram: the best sum of scores wins, runs of the unknown are one")
    func unigram() throws {
        let pieces =
            [("<unk>", 0), ("a", -1), ("b", -1), ("ab", -1.5), ("abc", -9), ("c", -3), ("bc", -2.9)]
            as [(String, Double)]
        let document = Self.unigram(pieces)
        #expect(try ids(document, "abc") == [1, 6])
        #expect(try ids(document, "abab") == [3, 3])
        #expect(try ids(document, "axyzb") == [1, 0, 2])
        let tokenizer = try Tokenizer(json: document)
        #expect(tokenizer.kind == .unigram && tokenizer.unkID == 0)
        #expect(try tokenizer.encoding(of: "aéb", addSpecialTokens: false).byteRanges == [0..<1, 1..<3, 3..<4])
        let error = #expect(throws: TokenizerError.self) { try self.ids(Self.unigram(pieces, unknown: .null), "axb") }
        guard case .uncovered(byteOffset: 1)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        let bytes = pieces + [("<0xC3>", -20), ("<0xA9>", -20)]
        #expect(try ids(Self.unigram(bytes, fallsBack: true), "aéb€") == [1, 7, 8, 2, 0])
    }

    @Test("unigram: files that contradict themselves")
    func unigramHostile() {
        let nan: JSONValue = ["model": ["type": "Unigram", "unk_id": 0, "vocab": [["<unk>", "x"]]]]
        #expect(throws: TokenizerError.self) { try Tokenizer(json: nan) }
        #expect(throws: TokenizerError.self) { try Tokenizer(json: Self.unigram([("<unk>", 0)], unknown: 1)) }
        #expect(throws: TokenizerError.self) { try Tokenizer(json: ["model": ["type": "Unigram", "vocab": [["a"]]]]) }
    }

    @Test("WordPiece: the longest token first; a word that cannot be covered is unknown as a whole")
    func wordPiece() throws {
        let document: JSONValue = [
            "model": [
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 8,
                "vocab": ["[UNK]": 0, "un": 1, "##aff": 2, "##able": 3, "##a": 4, "u": 5, "é": 6],
            ], "pre_tokenizer": ["type": "BertPreTokenizer"],
            "decoder": ["type": "WordPiece", "prefix": "##", "cleanup": true],
        ]
        #expect(try ids(document, "unaffa") == [1, 2, 4])
        #expect(try ids(document, "unaffx é ua") == [0, 6, 5, 4])
        #expect(try ids(document, "unaffaaaa") == [0])
        let tokenizer = try Tokenizer(json: document)
        #expect(tokenizer.kind == .wordPiece)
        #expect(tokenizer.decode([1, 2, 4, 6], skipSpecialTokens: false).hasSameBytes(as: "unaffa é"))
    }

    @Test("WordLevel: a token for each word")
    func wordLevel() throws {
        func document(_ unknown: String) -> JSONValue {
            [
                "model": ["type": "WordLevel", "unk_token": .string(unknown), "vocab": ["the": 0, "fox": 3, "?": 1]],
                "pre_tokenizer": ["type": "WhitespaceSplit"],
            ]
        }
        // Id 2 belongs to no token, which is no fault.
        #expect(try ids(document("?"), "the quick fox") == [0, 1, 3])
        #expect(throws: TokenizerError.self) { try self.ids(document("missing"), "the quick fox") }
        let tokenizer = try Tokenizer(json: document("?"))
        #expect(tokenizer.token(for: 2) == nil && tokenizer.vocabularySize == 4)
    }

    @Test("runs of one script")
    func scripts() throws {
        let step = try #require(
            try TokenizerJSONReader(path: "test").readPreTokenizer(["type": "UnicodeScripts"], "pre_tokenizer"))
        var pieces = TextPieces(" どこで食べる abc1мир")
        try step.apply(to: &pieces)
        let found = pieces.pieces.map { String(decoding: pieces.bytes[$0.range], as: UTF8.self) }
        let expected = ["どこで食べる ", "abc", "1", "мир"]
        #expect(found.map { ByteString($0) } == expected.map { ByteString($0) })
    }

    // MARK: Ranks

    /// All bytes and three longer tokens.
    private static let ranked: [[UInt8]] =
        (0..<256).map { [UInt8($0)] } + ["ab", "abc", "é "].map { Array($0.utf8) }

    @Test("tekken: special tokens first, then ranks; the lowest rank merges first")
    func tekken() throws {
        let vocab = Self.ranked.enumerated().map { rank, token -> JSONValue in
            ["rank": .integer(rank), "token_bytes": .string(Data(token).base64EncodedString())]
        }
        let document: JSONValue = [
            "config": [
                "pattern": .string(#"\s?\w+|\s+|[^\s\w]+"#), "default_vocab_size": 268,
                "default_num_special_tokens": 10,
            ], "vocab": .array(vocab),
            "special_tokens": [["rank": 1, "token_str": "<s>"], ["rank": 2, "token_str": "</s>"]],
        ]
        try withFile("tekken.json", JSONWriter.bytes(document)) { path in
            let tokenizer = try Tokenizer(path: path)
            #expect(tokenizer.kind == .byteLevelBPE && tokenizer.bosID == 1 && tokenizer.eosID == 2)
            // "é " is beyond default_vocab_size.
            #expect(tokenizer.vocabularySize == 268)
            #expect(try tokenizer.encoding(of: "abcab</s>", addSpecialTokens: true).ids == [1, 267, 266, 2])
            let literal = try tokenizer.encoding(of: "<s>", addSpecialTokens: false, parseSpecialTokens: false).ids
            let expected: [Int32] = [0x46, 0x7D, 0x48]
            #expect(literal == expected)
            var generator = SeededGenerator(11)
            for _ in 0..<20 {
                let text = awkwardText(&generator, pieces: 20)
                let ids = try tokenizer.encoding(of: text, addSpecialTokens: false, parseSpecialTokens: false).ids
                #expect(tokenizer.decode(ids, skipSpecialTokens: false).hasSameBytes(as: text))
            }
        }
    }

    @Test("tiktoken: Llama 4's special tokens, which no file beside its ranks need name")
    func llama4() throws {
        let family = try #require(TiktokenFamily(rankCount: 200_000, named: []))
        let ids = Dictionary(uniqueKeysWithValues: family.special.map { ($0.text, $0.id) })
        #expect(ids.count == 2048 && family.pattern == TiktokenFamily.o200kPattern)
        #expect(family.special.map(\.id) == Array(200_000..<202_048) && family.bos == "<|begin_of_text|>")
        #expect(ids["<|eot|>"] == 200_008 && ids["<|image_start|>"] == 200_080)
        #expect(ids["<|reasoning_thinking_end|>"] == 201_143)
    }
    @Test("tiktoken: only families whose pattern is known, and no rank twice")
    func tiktoken() throws {
        func file(_ tokens: [[UInt8]], extra: String = "") -> [UInt8] {
            let lines = tokens.enumerated().map { "\(Data($1).base64EncodedString()) \($0)\n" }
            return Array((lines.joined() + extra).utf8)
        }
        var tokens = Self.ranked
        // As many ranks as GPT-2 has.
        while tokens.count < 50256 { tokens.append(Array("#\(tokens.count)".utf8)) }
        try withFile("small.tiktoken", file(tokens)) { path in
            let tokenizer = try Tokenizer(path: path)
            #expect(
                try tokenizer.encoding(of: "abc'll<|endoftext|>", addSpecialTokens: true).ids == [
                    257, 39, 108, 108, 50256,
                ])
            #expect(tokenizer.vocabularySize == 50257)
            let folder = URL(filePath: path).deletingLastPathComponent().path
            #expect(try Tokenizer(path: folder).vocabularySize == 50257)
        }
        for (bytes, text) in [
            (file(Self.ranked), "259 ranks"), (file(Self.ranked, extra: "YQ== 3\n"), "stands twice"),
            (file(Array(Self.ranked.dropFirst())), "1 bytes have no token"),
            (file(Self.ranked, extra: "YQ== x\n"), "line 260"),
            (file(Self.ranked, extra: "YQ== 999999999\n"), "rank 999999999"),
        ] {
            try withFile("bad.tiktoken", bytes) { path in
                let error = try #require(throws: TokenizerError.self) { try Tokenizer(path: path) }
                #expect(error.description.contains(text), "\(error)")
            }
        }
    }

    @Test("what llama.cpp cleans up after decoding")
    func cleanUp() {
        let decoder = LlamaDecoder(
            types: [.normal, .control, .byte, .unused], spelling: .metaspace, stripsLeadingSpace: true,
            cleansSpaces: true,
            bos: 1, eos: nil)
        let tokens = ["▁it▁'s▁a▁.▁do▁n't▁'▁x▁'ve", "<s>", "<0x41>", "gone"].map { Array($0.utf8)[...] }
        let text = decoder.decode([0, 1, 2, 3], skipSpecial: false) { tokens[Int($0)] }
        #expect(String(decoding: text, as: UTF8.self).hasSameBytes(as: "it's a. do n't'x've<s>A"))
        let skipped = decoder.decode([1, 0], skipSpecial: true) { tokens[Int($0)] }
        #expect(String(decoding: skipped, as: UTF8.self).hasSameBytes(as: " it's a. do n't'x've"))
    }

    @Test("damaged files are errors or tokenizers, never a crash", arguments: 0..<3 as Range<UInt64>)
    func damaged(seed: UInt64) throws {
        var generator = SeededGenerator(seed)
        let document = byteFallbackDocument(
            tokens: ["▁", "a", "▁a"], merges: [["▁", "a"]],
            normalizer: ["type": "Precompiled", "precompiled_charsmap": .string(sampleCharsmap)],
            preTokenizer: ["type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true],
            added: [addedToken(260, "<x>", lstrip: true)])
        for whole in [JSONWriter.bytes(document), JSONWriter.bytes(Self.unigram([("<unk>", 0), ("a", -1)]))] {
            for _ in 0..<40 {
                var bytes = whole
                if Int.random(in: 0..<4, using: &generator) == 0 {
                    bytes.removeLast(Int.random(in: 1..<bytes.count, using: &generator))
                }
                for _ in 0..<Int.random(in: 1...4, using: &generator) {
                    bytes[Int.random(in: bytes.indices, using: &generator)] ^=
                        1 << UInt8.random(in: 0..<8, using: &generator)
                }
                guard let json = try? JSONParser.parse(bytes), let damaged = try? Tokenizer(json: json) else {
                    continue
                }
                _ = try? damaged.encoding(of: awkwardText(&generator, pieces: 5), addSpecialTokens: true)
            }
        }
    }
}
