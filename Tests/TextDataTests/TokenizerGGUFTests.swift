import FileFormats
import Foundation
import Testing
import TextData

@Suite("Tokenizers in GGUF files")
struct TokenizerGGUFTests {
    private func tokenizer(_ metadata: [(String, GGUFValue)]) throws -> Tokenizer {
        let path = NSTemporaryDirectory() + "tokenizer-\(UUID().uuidString).gguf"
        defer { try? FileManager.default.removeItem(atPath: path) }
        let pairs = metadata.map { (key: "tokenizer.ggml." + $0.0, value: $0.1) }
        try GGUFWriter(
            path: path, metadata: [(key: "general.architecture", value: .string("llama"))] + pairs, tensors: []
        ).finish()
        return try Tokenizer(path: path)
    }

    private func strings(_ texts: [String]) -> GGUFValue { .strings(ByteStrings(texts.map { ByteString($0) })) }

    @Test("a byte-level vocabulary gives the ids of its tokenizer.json")
    func byteLevel() throws {
        let original = try Tokenizer(
            json: trainByteLevelBPE(
                texts: sampleTexts, vocabularySize: 380, specialTokens: ["<|im_start|>", "<|im_end|>"],
                splitsDigits: true))
        let size = Int32(original.vocabularySize)
        func text(_ id: Int32) throws -> String { try #require(original.token(for: id)).description }
        let read = try tokenizer([
            ("model", .string("gpt2")), ("pre", .string("smollm")), ("tokens", strings(try (0..<size).map(text))),
            ("token_type", .int32s((0..<size).map { $0 < 2 ? 3 : 1 })),
            ("merges", strings(try original.merges.map { try text($0.left) + " " + text($0.right) })),
            ("eos_token_id", .uint32(1)), ("bos_token_id", .uint32(0)), ("add_bos_token", .bool(true)),
        ])
        #expect(read.kind == .byteLevelBPE && read.bosID == 0 && read.eosID == 1 && read.addsBOS && !read.addsEOS)
        var generator = SeededGenerator(5)
        for _ in 0..<50 {
            let text = awkwardText(&generator, pieces: 10) + "<|im_end|>12"
            let expected = try original.encoding(of: text, addSpecialTokens: false)
            let found = try read.encoding(of: text, addSpecialTokens: true)
            #expect(found.ids == [0] + expected.ids)
            #expect(read.decode(found.ids, skipSpecialTokens: false).hasSameBytes(as: "<|im_start|>" + text))
        }
    }

    @Test("a SentencePiece vocabulary merges by score")
    func sentencePiece() throws {
        var tokens = ["<unk>", "<s>", "</s>"]
        for byte in 0..<256 {
            tokens.append("<0x" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true) + ">")
        }
        let first = tokens.count
        tokens += ["▁", "a", "b", "c", "ab", "bc", "▁a", "abc"]
        let places: [Float] = [-10, -11, -12, -13, -3, -2, -1, -4]
        var scores = [Float](repeating: 0, count: first) + places
        var types = [Int32](repeating: 6, count: first) + Array(repeating: 1, count: 8)
        types.replaceSubrange(0..<3, with: [2, 3, 3])
        var metadata: [(String, GGUFValue)] = [
            ("model", .string("llama")), ("tokens", strings(tokens)), ("scores", .float32s(scores)),
            ("token_type", .int32s(types)), ("bos_token_id", .uint32(1)), ("eos_token_id", .uint32(2)),
        ]
        let read = try tokenizer(metadata)
        func id(_ place: Int) -> Int32 { Int32(first + place) }
        // "▁a" is best, then "bc": "abc" is never made.
        let encoding = try read.encoding(of: "abc é", addSpecialTokens: true)
        let expected: [Int32] = [1, id(6), id(5), id(0), 3 + 0xC3, 3 + 0xA9]
        #expect(encoding.ids == expected)
        #expect(encoding.byteRanges == [0..<0, 0..<1, 1..<3, 3..<4, 4..<5, 5..<6])
        #expect(read.decode(encoding.ids, skipSpecialTokens: true).hasSameBytes(as: " abc é"))
        // Without BOS before it, the space that encoding put there goes.
        #expect(read.decode(encoding.ids.dropFirst(), skipSpecialTokens: true).hasSameBytes(as: "abc é"))
        #expect(read.scores == scores && read.kind == .sentencePieceBPE && read.unkID == 0)
        let parsed = try read.encoding(of: "</s>a", addSpecialTokens: false).ids
        #expect(parsed == [2, id(6)])

        scores[first + 4] = 0
        metadata[2].1 = .float32s(scores)
        let whole = try tokenizer(metadata).encoding(of: "abc", addSpecialTokens: false).ids
        #expect(whole == [id(0), id(7)])
    }

    @Test("vocabularies that contradict themselves")
    func hostile() throws {
        let good: [(String, GGUFValue)] = [
            ("model", .string("gpt2")), ("pre", .string("gpt-2")), ("tokens", strings(["a", "b", "ab"])),
            ("merges", strings(["a b"])),
        ]
        _ = try tokenizer(good)
        func replacing(_ key: String, _ value: GGUFValue) -> [(String, GGUFValue)] {
            good.filter { $0.0 != key } + [(key, value)]
        }
        let broken = GGUFValue.strings(
            ByteStrings([ByteString([0x61]), ByteString([0xE2, 0x96]), ByteString([0x62])]))
        for (metadata, text) in [
            (replacing("tokens", strings(["a", "a", "b"])), "both ids 0 and 1"),
            (replacing("tokens", broken), "not UTF-8"),
            (replacing("merges", strings(["a c"])), "merge 0"),
            (replacing("merges", strings(["ab"])), "not two tokens"),
            (replacing("merges", .uint32(3)), "merges"), (replacing("pre", .string("unheard-of")), "unheard-of"),
            (replacing("model", .string("rwkv")), "rwkv"), (replacing("bos_token_id", .uint32(3)), "bos_token_id is 3"),
            (replacing("token_type", .int32s([1])), "1 types"), (replacing("model", .string("llama")), "scores"),
            (Array(good.prefix(2)), "no tokens"),
        ] as [([(String, GGUFValue)], String)] {
            let error = try #require(throws: TokenizerError.self) { try tokenizer(metadata) }
            #expect(error.description.contains(text), "\(error)")
        }
    }
}
