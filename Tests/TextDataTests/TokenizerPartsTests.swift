import FileFormats
import Foundation
import Testing

@testable import TextData

@Suite("Parts of tokenizers")
struct TokenizerPartsTests {
    @Test(
        "scanners split as Oniguruma does",
        arguments: [SplitScanner.gpt2Pattern, SplitScanner.llama3Pattern, SplitScanner.qwen2Pattern],
        [1, 2, 3] as [UInt64])
    func scanners(pattern: String, seed: UInt64) throws {
        let scanner = try #require(SplitScanner(pattern: pattern))
        let regex = try OnigurumaRegex(pattern)
        var generator = SeededGenerator(seed)
        for _ in 0..<150 {
            let bytes = Array(awkwardText(&generator, pieces: 12).utf8)
            var expected: [Segment] = []
            var found: [Segment] = []
            try SplitPattern.regex(regex).findAll(bytes.span, 0..<bytes.count, into: &expected)
            try SplitPattern.scanner(scanner).findAll(bytes.span, 0..<bytes.count, into: &found)
            #expect(
                found.map(\.end) == expected.map(\.end), "\(String(decoding: bytes, as: UTF8.self).debugDescription)")
        }
    }

    @Test("classes agree with Oniguruma's for every scalar", arguments: ["L", "N"])
    func classes(name: String) throws {
        let wanted: ScalarClass = name == "L" ? .letter : .number
        var text: [UInt8] = []
        var expected = 0
        for value in 0..<0x110000 as Range<UInt32> {
            guard Unicode.Scalar(value) != nil else { continue }
            appendScalar(value, to: &text)
            if ScalarClassTable.shared[value].contains(wanted) { expected += 1 }
        }
        var found = 0
        var agreed = 0
        let regex = try OnigurumaRegex("\\p{\(name)}")
        try text.withUnsafeBufferPointer { buffer in
            try regex.forEachMatch(in: buffer) { match in
                found += 1
                let scalar = decodeScalar(text.span, at: match.lowerBound).value
                if ScalarClassTable.shared[scalar].contains(wanted) { agreed += 1 }
            }
        }
        #expect(found == expected && agreed == expected)
    }

    @Test("properties are of Unicode 16, whatever the library's release")
    func properties() throws {
        // U+1C89 and U+105C0 came with Unicode 16, U+0C5C with 17.
        let text = Array("a\u{1C89}\u{105C0}\u{C5C}\\p{L}".utf8)
        for (pattern, count) in [
            ("\\p{L}", 5), ("[^\\P{L}]", 5), ("\\p{^L}", 4), ("[\\p{Ll}\\p{Lo}]", 3), ("\\p{Lu}", 2),
            ("\\\\p\\{L\\}", 1), ("\\p{Letter}x", 0), ("\\p{Cyrillic}z", 0),
        ] {
            var found = 0
            try text.withUnsafeBufferPointer { buffer in
                try OnigurumaRegex(pattern).forEachMatch(in: buffer) { _ in found += 1 }
            }
            #expect(found == count, "\(pattern)")
        }
    }

    /// Expected texts follow Hugging Face `tokenizers` 0.23.
    @Test(
        "normalisers",
        arguments: [
            (["type": "NFC"], "e\u{301}\u{212B}\u{1112}\u{1161}\u{11AB}", "\u{E9}\u{C5}\u{D55C}"),
            (["type": "NFC"], "q\u{307}\u{323}\u{958}", "q\u{323}\u{307}\u{915}\u{93C}"),
            (["type": "NFD"], "\u{1E69}\u{D55C}", "s\u{323}\u{307}\u{1112}\u{1161}\u{11AB}"),
            (["type": "NFKC"], "\u{FB01}\u{B2}\u{FF21}e\u{301}", "fi2A\u{E9}"),
            (["type": "NFKD"], "\u{FB01}\u{E9}\u{2460}", "fie\u{301}1"),
            (["type": "Lowercase"], "AÉİΣ", "aéi\u{307}σ"),
            (["type": "Strip", "strip_left": true, "strip_right": false], " \u{3000}a ", "a "),
            (["type": "Strip", "strip_left": true, "strip_right": true], " \n ", ""),
            (["type": "StripAccents"], "e\u{301}\u{93E}x", "ex"),
            (["type": "Replace", "pattern": ["Regex": " {2,}"], "content": "_"], "a   b c", "a_b c"),
            (["type": "Replace", "pattern": ["String": "ab"], "content": ""], "abcab", "c"),
            (["type": "Prepend", "prepend": "x"], "y", "xy"),
            (["type": "Nmt"], "a\u{1}\tb\u{200B}", "a b "),
            (["type": "ByteLevel"], " é", "\u{120}\u{C3}\u{A9}"),
            (
                [
                    "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                    "strip_accents": .null, "lowercase": true,
                ], "É\u{0}中\t", "e 中  "
            ),
        ] as [(JSONValue, String, String)])
    func normalizers(definition: JSONValue, text: String, expected: String) throws {
        let tokenizer = try Tokenizer(json: byteFallbackDocument(normalizer: definition))
        let ids = try tokenizer.encoding(of: text, addSpecialTokens: false).ids
        #expect(fallbackBytes(ids) == Array(expected.utf8))
    }

    @Test("normalising forms agree with Foundation's on random text", arguments: 0..<10 as Range<UInt64>)
    func normalizationForms(seed: UInt64) throws {
        var generator = SeededGenerator(seed)
        for _ in 0..<20 {
            let text = awkwardText(&generator, pieces: 10)
            // The tables stop at Unicode 9, which these ranges hardly exceed.
            guard text.unicodeScalars.allSatisfy({ ($0.properties.age?.major ?? 99) <= 9 }) else { continue }
            for (form, expected) in [
                (NormalizationForm.nfc, text.precomposedStringWithCanonicalMapping),
                (.nfd, text.decomposedStringWithCanonicalMapping),
                (.nfkc, text.precomposedStringWithCompatibilityMapping),
                (.nfkd, text.decomposedStringWithCompatibilityMapping),
            ] {
                var normalized = NormalizedText()
                for (i, byte) in text.utf8.enumerated() { normalized.append(byte, from: i..<i + 1) }
                form.apply(to: &normalized)
                #expect(normalized.bytes == Array(expected.utf8), "\(form) of \(text.debugDescription)")
                #expect((0..<normalized.bytes.count).allSatisfy { !normalized.origins[$0].isEmpty })
            }
        }
    }

    @Test("composed scalars stand for all they were made of")
    func origins() throws {
        let tokenizer = try Tokenizer(json: byteFallbackDocument(normalizer: ["type": "NFC"]))
        let encoding = try tokenizer.encoding(of: "ae\u{301}b", addSpecialTokens: false)
        #expect(encoding.ids == [98, 0xC3 + 1, 0xA9 + 1, 99])
        #expect(encoding.byteRanges == [0..<1, 1..<4, 1..<4, 4..<5])
    }

    private func pieces(_ definition: JSONValue, _ text: String) throws -> [String] {
        let step = try #require(try TokenizerJSONReader(path: "test").readPreTokenizer(definition, "pre_tokenizer"))
        var pieces = TextPieces(text)
        try step.apply(to: &pieces)
        return pieces.pieces.map { String(decoding: pieces.bytes[$0.range], as: UTF8.self) }
    }

    @Test(
        "split behaviours",
        arguments: [
            ("Removed", false, ["a", "b", "c"]), ("Isolated", false, ["a", "-", "-", "b", "-", "c"]),
            ("MergedWithPrevious", false, ["a-", "-", "b-", "c"]), ("MergedWithNext", false, ["a", "-", "-b", "-c"]),
            ("Contiguous", false, ["a", "--", "b", "-", "c"]), ("Removed", true, ["-", "-", "-"]),
            ("MergedWithPrevious", true, ["a", "-", "-b", "-c"]),
        ] as [(String, Bool, [String])])
    func behaviors(name: String, inverted: Bool, expected: [String]) throws {
        for pattern in [["String": "-"], ["Regex": "-"]] as [JSONValue] {
            let definition: JSONValue = [
                "type": "Split", "pattern": pattern, "behavior": .string(name), "invert": .bool(inverted),
            ]
            #expect(try pieces(definition, "a--b-c") == expected)
        }
    }

    @Test(
        "pre-tokenizers",
        arguments: [
            (["type": "Digits", "individual_digits": true], "a12²", ["a", "1", "2", "²"]),
            (["type": "Digits", "individual_digits": false], "a12²b", ["a", "12²", "b"]),
            (["type": "Punctuation", "behavior": "Contiguous"], "a.,$b", ["a", ".,$", "b"]),
            (["type": "Whitespace"], "don't  _x\u{301}", ["don", "'", "t", "_x\u{301}"]),
            (["type": "WhitespaceSplit"], " a\u{3000}b'c", ["a", "b'c"]),
            (["type": "BertPreTokenizer"], "a, b。c", ["a", ",", "b", "。", "c"]),
            (["type": "CharDelimiterSplit", "delimiter": "_"], "a_b__c", ["a", "b", "c"]),
            (["type": "FixedLength", "length": 2], "aébc", ["aé", "bc"]),
            (["type": "ByteLevel", "add_prefix_space": true, "use_regex": true], "I'm é", ["ĠI", "'m", "ĠÃ©"]),
            (["type": "Metaspace", "replacement": "_", "add_prefix_space": true], "a b", ["_a", "_b"]),
        ] as [(JSONValue, String, [String])])
    func preTokenizers(definition: JSONValue, text: String, expected: [String]) throws {
        let found = try pieces(definition, text)
        #expect(found.map { Array($0.utf8) } == expected.map { Array($0.utf8) })
    }

    @Test(
        "decoders",
        arguments: [
            (["type": "BPEDecoder", "suffix": "</w>"], ["a</w>", "b", "c</w>"], "a bc"),
            (["type": "WordPiece", "prefix": "##", "cleanup": true], ["a", "##b", "c", "."], "ab c."),
            (["type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"], ["▁a", "▁b"], "a b"),
            (["type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"], ["▁a", "▁b"], " a b"),
            (["type": "Strip", "content": "x", "start": 1, "stop": 2], ["xxaxxx"], "xax"),
            (
                ["type": "ByteFallback"], ["a", "<0xE0>", "<0xA4>", "<0x85>", "<0xE0>"],
                "a\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}"
            ),
            (["type": "ByteLevel"], ["Ġa", "Ã", "©", "中"], " aé中"),
            (
                ["type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": true],
                ["a", "a", "<pad>", "a", "|"], "aa "
            ),
        ] as [(JSONValue, [String], String)])
    func decoders(definition: JSONValue, tokens: [String], expected: String) throws {
        let decoder = try #require(try TokenizerJSONReader(path: "test").readDecoder(definition, "decoder"))
        let text = try decoder.apply(tokens.map { Array($0.utf8) })
        #expect(Array(text.joined()) == Array(expected.utf8))
    }
}
