import FileFormats
import Foundation
import Testing
import TextData

@Suite("Tokenizers made in the test")
struct TokenizerTests {
    static func trained() throws -> Tokenizer {
        let document = try trainByteLevelBPE(
            texts: sampleTexts, vocabularySize: 400, specialTokens: ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
        return try Tokenizer(json: document)
    }

    @Test("byte-level text comes back byte for byte", arguments: 0..<20 as Range<UInt64>)
    func roundTrip(seed: UInt64) throws {
        let tokenizer = try Self.trained()
        var generator = SeededGenerator(seed)
        let text = awkwardText(&generator, pieces: 40)
        let encoding = try tokenizer.encoding(of: text, addSpecialTokens: false)
        #expect(tokenizer.decode(encoding.ids, skipSpecialTokens: false).hasSameBytes(as: text))
        // Every token's range holds exactly its bytes, so the ranges tile the text.
        let bytes = Array(text.utf8)
        var reached = 0
        for range in encoding.byteRanges {
            #expect(range.lowerBound == reached)
            reached = range.upperBound
        }
        #expect(reached == bytes.count)
    }

    @Test("special tokens are parsed or taken literally")
    func specialTokens() throws {
        let tokenizer = try Self.trained()
        let text = "<|im_start|>the dog<|im_end|>"
        let parsed = try tokenizer.encoding(of: text, addSpecialTokens: false)
        #expect(parsed.ids.first == 1 && parsed.ids.last == 2)
        #expect(parsed.byteRanges.first == 0..<12 && parsed.byteRanges.last == 19..<29)
        let literal = try tokenizer.encoding(of: text, addSpecialTokens: false, parseSpecialTokens: false)
        #expect(literal.ids.allSatisfy { $0 > 2 })
        #expect(tokenizer.decode(literal.ids, skipSpecialTokens: true).hasSameBytes(as: text))
        #expect(tokenizer.decode(parsed.ids, skipSpecialTokens: true).hasSameBytes(as: "the dog"))
        #expect(tokenizer.isSpecial(1) && !tokenizer.isSpecial(3))
    }

    @Test("broken UTF-8 becomes one U+FFFD for each maximal part")
    func brokenUTF8() throws {
        let tokenizer = try Self.trained()
        func byte(_ value: UInt8) throws -> Int32 {
            let scalar: UInt32 = value >= 0xA1 && value != 0xAD ? UInt32(value) : 0x100 + 33 + UInt32(value) - 0x7E
            let token = String(String.UnicodeScalarView([Unicode.Scalar(scalar)!]))
            return try #require(tokenizer.id(of: ByteString(token)))
        }
        let ids = try [0xE0, 0xA4, 0xF0, 0xE0, 0xA4].map { try byte(UInt8($0)) }
        #expect(tokenizer.decode(ids, skipSpecialTokens: false).hasSameBytes(as: "\u{FFFD}\u{FFFD}\u{FFFD}"))
        #expect(tokenizer.decode([-1, 100_000], skipSpecialTokens: false).isEmpty)
    }

    @Test("a megabyte without a space takes no quadratic time, and merges as short words do")
    func longWord() throws {
        let tokenizer = try Self.trained()
        let unit = "doesn" + "jumps" + "quick"
        let long = String(repeating: unit, count: 70_000)
        let start = ContinuousClock.now
        let encoding = try tokenizer.encoding(of: long, addSpecialTokens: false)
        #expect(ContinuousClock.now - start < .seconds(60))
        #expect(tokenizer.decode(encoding.ids, skipSpecialTokens: false).hasSameBytes(as: long))
        // 24 symbols is where the heap takes over; the units' tokens must not change there.
        let short = try tokenizer.encoding(of: unit, addSpecialTokens: false).ids
        for count in 1...6 {
            let ids = try tokenizer.encoding(of: String(repeating: unit, count: count), addSpecialTokens: false).ids
            #expect(ids == Array(repeating: short, count: count).flatMap { $0 })
        }
    }

    @Test("threads share a tokenizer")
    func threads() async throws {
        let tokenizer = try Self.trained()
        let expected = try sampleTexts.map { try tokenizer.encoding(of: $0, addSpecialTokens: false).ids }
        await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    (0..<20).allSatisfy { _ in
                        sampleTexts.map { try? tokenizer.encoding(of: $0, addSpecialTokens: false).ids } == expected
                    }
                }
            }
            for await same in group { #expect(same) }
        }
    }

    @Test("scalars without a token fall back to bytes, spaces to U+2581")
    func byteFallback() throws {
        let document = byteFallbackDocument(
            tokens: ["▁", "a", "b", "▁a", "ab", "▁ab"], merges: [["▁", "a"], ["a", "b"], ["▁a", "b"]],
            normalizer: [
                "type": "Sequence",
                "normalizers": [
                    ["type": "Prepend", "prepend": "▁"],
                    ["type": "Replace", "pattern": ["String": " "], "content": "▁"],
                ],
            ],
            decoder: [
                "type": "Sequence",
                "decoders": [
                    ["type": "Replace", "pattern": ["String": "▁"], "content": " "], ["type": "ByteFallback"],
                    ["type": "Fuse"], ["type": "Strip", "content": " ", "start": 1, "stop": 0],
                ],
            ])
        let tokenizer = try Tokenizer(json: document)
        #expect(tokenizer.kind == .sentencePieceBPE)
        let encoding = try tokenizer.encoding(of: "ab é a", addSpecialTokens: false)
        #expect(encoding.ids == [262, 257, 0xC3 + 1, 0xA9 + 1, 260])
        #expect(encoding.byteRanges == [0..<2, 2..<3, 3..<4, 4..<5, 5..<7])
        #expect(tokenizer.decode(encoding.ids, skipSpecialTokens: false).hasSameBytes(as: "ab é a"))
        // One U+FFFD a byte where the bytes spell nothing.
        #expect(
            tokenizer.decode([258, 0xC3 + 1, 0xC4 + 1, 258], skipSpecialTokens: false).hasSameBytes(
                as: "a\u{FFFD}\u{FFFD}a"))
    }

    @Test(
        "Metaspace prepends by its scheme",
        arguments: [
            ("always", " a<x>a", [257, 258, 260, 257, 258]), ("first", "a<x>a", [257, 258, 260, 258]),
            ("never", "a<x>a", [258, 260, 258]), ("first", "<x>a", [260, 258]),
        ] as [(String, String, [Int32])])
    func metaspace(scheme: String, text: String, ids: [Int32]) throws {
        let document = byteFallbackDocument(
            tokens: ["▁", "a", "b"],
            preTokenizer: ["type": "Metaspace", "replacement": "▁", "prepend_scheme": .string(scheme), "split": true],
            added: [addedToken(260, "<x>")])
        #expect(try Tokenizer(json: document).encoding(of: text, addSpecialTokens: false).ids == ids)
    }

    @Test(
        "added tokens strip, stand alone and match after normalisation as flagged",
        arguments: [
            ("a <l> b", [98, 257, 33, 99], [0..<1, 1..<5, 5..<6, 6..<7]),
            ("a <r>  b", [98, 33, 258, 99], [0..<1, 1..<2, 2..<7, 7..<8]),
            ("wwa ww", [120, 120, 98, 33, 259], [0..<1, 1..<2, 2..<3, 3..<4, 4..<6]),
            ("UPup", [260, 260], [0..<2, 2..<4]),
        ] as [(String, [Int32], [Range<Int>])])
    func addedTokenFlags(text: String, ids: [Int32], ranges: [Range<Int>]) throws {
        let document = byteFallbackDocument(
            normalizer: ["type": "Lowercase"],
            added: [
                addedToken(257, "<l>", lstrip: true), addedToken(258, "<r>", rstrip: true),
                addedToken(259, "ww", singleWord: true), addedToken(260, "UP", normalized: true, special: false),
            ])
        let encoding = try Tokenizer(json: document).encoding(of: text, addSpecialTokens: false)
        #expect(encoding.ids == ids)
        #expect(encoding.byteRanges == ranges)
    }

    @Test("the longest added token wins where two begin")
    func longestAdded() throws {
        let document = byteFallbackDocument(
            added: [addedToken(257, "<a"), addedToken(258, "<a>"), addedToken(259, "a>b")])
        let ids = try Tokenizer(json: document).encoding(of: "<a>b<ab", addSpecialTokens: false).ids
        #expect(ids == [258, 99, 257, 99])
    }

    @Test("a template puts ids around, with empty ranges")
    func template() throws {
        let document = byteFallbackDocument(
            postProcessor: [
                "type": "Sequence",
                "processors": [
                    ["type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true],
                    [
                        "type": "TemplateProcessing",
                        "single": [
                            ["SpecialToken": ["id": "<s>", "type_id": 0]], ["Sequence": ["id": "A", "type_id": 0]],
                            ["SpecialToken": ["id": "</s>", "type_id": 0]],
                        ],
                        "pair": [],
                        "special_tokens": [
                            "<s>": ["id": "<s>", "ids": [257], "tokens": ["<s>"]],
                            "</s>": ["id": "</s>", "ids": [258], "tokens": ["</s>"]],
                        ],
                    ],
                ],
            ], added: [addedToken(257, "<s>"), addedToken(258, "</s>")])
        let tokenizer = try Tokenizer(json: document, config: ["bos_token": "<s>", "eos_token": ["content": "</s>"]])
        let encoding = try tokenizer.encoding(of: "é", addSpecialTokens: true)
        #expect(encoding.ids == [257, 0xC3 + 1, 0xA9 + 1, 258])
        #expect(encoding.byteRanges == [0..<0, 0..<1, 1..<2, 2..<2])
        #expect(tokenizer.bosID == 257 && tokenizer.eosID == 258 && tokenizer.unkID == 0 && tokenizer.padID == nil)
        #expect(tokenizer.addsBOS && tokenizer.addsEOS)
        #expect(try tokenizer.encoding(of: "", addSpecialTokens: true).ids == [257, 258])
        #expect(try tokenizer.encoding(of: "", addSpecialTokens: false).ids.isEmpty)
    }

    @Test("what export needs is there")
    func exportData() throws {
        let tokenizer = try Self.trained()
        #expect(tokenizer.kind == .byteLevelBPE)
        #expect(tokenizer.merges.count > 20 && tokenizer.vocabularySize == 256 + 3 + tokenizer.merges.count)
        for (rank, merge) in tokenizer.merges.enumerated() {
            let left = try #require(tokenizer.token(for: merge.left))
            let right = try #require(tokenizer.token(for: merge.right))
            #expect(tokenizer.id(of: ByteString(left.bytes + right.bytes)) == Int32(259 + rank))
        }
        #expect(tokenizer.addedTokens.map(\.id) == [0, 1, 2])
        #expect(tokenizer.addedTokens.allSatisfy { $0.isSpecial })
        #expect(tokenizer.definitions.preTokenizer["type"]?.stringValue == "ByteLevel")
        #expect(tokenizer.definitions.normalizer.isNull)
    }

    @Test("tokens that the configuration names become special")
    func namedTokens() throws {
        let document = byteFallbackDocument(tokens: ["a", "b", "</s>"])
        let tokenizer = try Tokenizer(json: document, config: ["eos_token": "</s>"])
        #expect(tokenizer.isSpecial(259) && tokenizer.eosID == 259)
        #expect(try tokenizer.encoding(of: "ab</s>", addSpecialTokens: false).ids == [257, 258, 259])
    }

    @Test("a folder gives its special tokens; add_bos_token does not override the post-processor")
    func folder() throws {
        let folder = URL(filePath: NSTemporaryDirectory()).appending(path: "tokenizer-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        #expect(throws: TokenizerError.self) { try Tokenizer(path: folder.path) }
        let document = byteFallbackDocument(added: [addedToken(257, "<s>"), addedToken(258, "</s>")])
        try Data(JSONWriter.bytes(document)).write(to: folder.appending(path: "tokenizer.json"))
        let config: JSONValue = ["bos_token": "<s>", "add_bos_token": true, "pad_token": .null]
        try Data(JSONWriter.bytes(config)).write(to: folder.appending(path: "tokenizer_config.json"))
        let map: JSONValue = ["bos_token": "</s>", "eos_token": ["content": "</s>", "lstrip": false]]
        try Data(JSONWriter.bytes(map)).write(to: folder.appending(path: "special_tokens_map.json"))
        let tokenizer = try Tokenizer(path: folder.path)
        #expect(tokenizer.bosID == 257 && tokenizer.eosID == 258 && tokenizer.padID == nil)
        #expect(!tokenizer.addsBOS)
        let alone = try Tokenizer(path: folder.appending(path: "tokenizer.json").path)
        #expect(try alone.encoding(of: "a", addSpecialTokens: true).ids == [98])
    }
}
