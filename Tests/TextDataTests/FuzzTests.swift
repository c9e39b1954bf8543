import FileFormats
import Foundation
import Testing

@testable import TextData

/// Mutated valid files: each is read or refused with an error, and nothing else.
@Suite("Mutated files", .serialized)
struct FuzzTests {
    private static let metaspace: JSONValue = [
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true,
    ]

    /// Small tokenizer.json documents of all models and most parts.
    static func documents() throws -> [JSONValue] {
        let split: JSONValue = [
            "type": "Split", "pattern": ["Regex": "\\p{L}+|\\d{1,3}|\\s+"], "behavior": "MergedWithPrevious",
            "invert": false,
        ]
        func model(_ model: JSONValue, _ more: [(String, JSONValue)]) -> JSONValue {
            var object = JSONObject([
                ("version", "1.0"),
                ("added_tokens", [addedToken(0, "<unk>"), addedToken(9, "<x>", rstrip: true, normalized: true)]),
                ("model", model),
            ])
            for (key, value) in more { object[key] = value }
            return .object(object)
        }
        let pieces: JSONValue = [
            ["<unk>", 0], ["▁", -1.5], ["a", -2], ["b", -3], ["ab", -2.5], ["▁a", -3], ["<0x41>", -9], ["é", -4],
            ["ba", -5],
        ]
        let words: JSONValue = ["<unk>": 0, "a": 1, "b": 2, "##a": 3, "##b": 4, "ab": 5, "##ab": 6, "é": 7, "!": 8]
        return [
            try trainByteLevelBPE(texts: sampleTexts, vocabularySize: 320, specialTokens: ["<|a|>"]),
            byteFallbackDocument(
                tokens: ["▁", "a", "b", "▁a", "ab"], merges: [["▁", "a"], ["a", "b"]],
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
                ]),
            model(
                ["type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": false],
                [
                    ("pre_tokenizer", metaspace), ("decoder", metaspace),
                    (
                        "normalizer",
                        [
                            "type": "Sequence",
                            "normalizers": [
                                ["type": "NFKC"], ["type": "Replace", "pattern": ["Regex": " {2,}"], "content": " "],
                                ["type": "Strip", "strip_left": true, "strip_right": true],
                            ],
                        ]
                    ),
                ]),
            model(
                [
                    "type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": "##",
                    "max_input_chars_per_word": 100, "vocab": words,
                ],
                [
                    (
                        "normalizer",
                        [
                            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                            "strip_accents": .null, "lowercase": true,
                        ]
                    ), ("pre_tokenizer", ["type": "BertPreTokenizer"]),
                    ("decoder", ["type": "WordPiece", "prefix": "##", "cleanup": true]),
                    ("post_processor", ["type": "BertProcessing", "sep": ["a", 1], "cls": ["b", 2]]),
                ]),
            model(
                ["type": "WordLevel", "unk_token": "<unk>", "vocab": words],
                [
                    (
                        "pre_tokenizer",
                        [
                            "type": "Sequence",
                            "pretokenizers": [
                                ["type": "Whitespace"], split, ["type": "Punctuation", "behavior": "Isolated"],
                                ["type": "Digits", "individual_digits": true],
                            ],
                        ]
                    ), ("decoder", ["type": "CTC", "pad_token": "a", "word_delimiter_token": "b", "cleanup": true]),
                ]),
        ]
    }

    private func use(_ tokenizer: Tokenizer, _ mutator: inout Mutator) {
        for text in sampleTexts.prefix(2) + [awkwardText(&mutator.generator, pieces: 12), "", "<x>ab <unk>a"] {
            guard let encoding = try? tokenizer.encoding(of: text, addSpecialTokens: true) else { continue }
            #expect(encoding.ids.count == encoding.byteRanges.count)
            for range in encoding.byteRanges { #expect(range.lowerBound >= 0 && range.upperBound <= text.utf8.count) }
            _ = tokenizer.decode(encoding.ids, skipSpecialTokens: false)
        }
        _ = tokenizer.decode((0..<20).map { _ in Int32(mutator.number(400)) }, skipSpecialTokens: true)
    }

    @Test func tokenizerDocuments() throws {
        let documents = try Self.documents()
        for document in documents {
            var mutator = Mutator(1)
            use(try Tokenizer(json: document), &mutator)
        }
        fuzz("tokenizer.json") { mutator, i in
            let changed = mutator.mutate(documents[i % documents.count])
            if let tokenizer = try? Tokenizer(json: changed) { use(tokenizer, &mutator) }
        }
    }

    @Test func tokenizerFiles() throws {
        let folder = try TemporaryFolder()
        var files: [(name: String, bytes: [UInt8])] = try Self.documents().map {
            ("tokenizer.json", JSONWriter.bytes($0))
        }
        files.append(("tokenizer.model", sentencePieceBytes()))
        let ranks = (0..<256).map { Data([UInt8($0)]).base64EncodedString() + " \($0)\n" }.joined()
        files.append(("tiktoken.model", Array((ranks + "YWI= 256\nYWJj 257\n").utf8)))
        fuzz("tokenizer files") { mutator, i in
            let file = files[i % files.count]
            let changed = mutator.mutate(file.bytes)
            guard let path = try? folder.write("\(i % files.count)-" + file.name, bytes: changed) else { return }
            if let tokenizer = try? Tokenizer(path: path) { use(tokenizer, &mutator) }
        }
    }

    /// A few pieces as SentencePiece's protocol buffer has them.
    private func sentencePieceBytes() -> [UInt8] {
        func field(_ number: UInt8, _ bytes: [UInt8]) -> [UInt8] { [number << 3 | 2, UInt8(bytes.count)] + bytes }
        func piece(_ text: String, _ type: UInt8) -> [UInt8] {
            field(1, field(1, Array(text.utf8)) + [0x15, 0, 0, 0x80, 0xBF] + [0x18, type])
        }
        return piece("<unk>", 2) + piece("<s>", 3) + piece("</s>", 3)
            + ["▁", "a", "b", "▁a", "ab", "é"].flatMap { piece($0, 1) }
            + field(2, [0x18, 2])
    }

    // MARK: Templates

    private static let fragments = [
        "{{ messages }}", "{{ m.content | trim }}", "{% for m in messages %}", "{% endfor %}", "{% if a %}",
        "{% else %}", "{% elif x is defined %}", "{% endif %}",
        "{% set ns = namespace(a=1) %}", "{% set ns.a = ns.a + 1 %}", "{{ messages[::-1] }}", "{{ 'a' * 1000 }}",
        "{{ 'x' * 10 ** 9 }}", "{% macro f(a, b=2) %}", "{% endmacro %}", "{{ f(1) }}",
        "{{ f(f) }}", "{% call f(1) %}", "{% endcall %}", "{{ loop.index }}", "{{ range(10) | list }}",
        "{{ range(10**9) | list }}", "{{ messages | tojson(indent=2) }}", "{{ 1 // 0 }}", "{{ 2 ** 99999 }}",
        "{% generation %}", "{% endgeneration %}", "{{ 'a'.join(['b', 'c']) }}", "{{ '%s' % 5 }}",
        "{{ '{0:>99999999}'.format(1) }}", "{{ messages | map(attribute='role') | join(',') }}",
        "{{ raise_exception('x') }}",
        "{% raw %}", "{% endraw %}", "{# c #}", "{%- ", " -%}", "{{ ", " }}", "{{ none.x }}",
        "{{ messages[0]['content'][99:-99:0] }}", "{{ dict(a=1) | items }}", "{{ -9223372036854775808 // -1 }}",
        "{{ 9223372036854775807 + 1 }}",
        "{{ messages | groupby('role') }}", "{{ strftime_now('%Y %j %Q') }}", "{% break %}", "{% continue %}",
        "{{ [1,2,3] | sum }}", "{{ 'abc' | replace('', 'x') }}", "{{ ''.center(10**8) }}", "{{ 'a,b' | wordwrap(0) }}",
        "{{ 5 | round(-400) }}",
        "{{ lipsum }}", "{{ self }}", "{% filter upper %}", "{% endfilter %}", "{{ 'x' | indent(10**9) }}",
        "{{ 1 if 2 }}", "{{ a.b.c.d }}", "((((((((((", "{{ [[[[[[[[[]]]]]]]]] }}", "{{ not not not 1 }}",
        "{{ 'é'.encode() }}", "{{ '%c' % 1114112 }}", "{{ '%0999999999d' % 1 }}", "{{ messages | batch(0) }}",
        "{{ messages | slice(0) | list }}",
    ]

    @Test func templates() throws {
        let sources = PropertyTests.templates.map { Array($0.source.utf8) }
        let pieces = Self.fragments.map { Array($0.utf8) }
        let messages: [JSONValue] = [["role": "user", "content": "hi é"], ["role": "assistant", "content": "ho"]]
        fuzz("templates") { mutator, i in
            var bytes: [UInt8]
            if i % 2 == 0 {
                bytes = mutator.mutate(sources[i / 2 % sources.count], splices: pieces)
            } else {
                bytes = (0...mutator.number(8)).flatMap { _ in pieces[mutator.number(pieces.count)] }
            }
            // Fragments between delimiters of their own, too.
            if mutator.number(4) == 0 { bytes = Array("{{ ".utf8) + bytes + Array(" }}".utf8) }
            guard let template = try? ChatTemplate(source: String(decoding: bytes, as: UTF8.self)) else { return }
            guard let text = try? template.render(messages: messages, addGenerationPrompt: true) else { return }
            for span in text.generationSpans ?? [] { #expect(span.upperBound <= text.text.utf8.count) }
        }
    }

    // MARK: Rows

    @Test func rowFiles() throws {
        let folder = try TemporaryFolder()
        let rows = """
            {"messages": [{"role": "user", "content": "q \\u00e9 \\ud83d\\ude00"}, {"role": "assistant", "content": "a", "weight": 1}], "tools": "[]"}
            {"instruction": "i", "input": "", "output": "o", "history": [["a", "b"]]}
            {"conversations": [{"from": "human", "value": "x"}, {"from": "function_call", "value": "{\\"name\\": \\"f\\", \\"arguments\\": {}}"}]}
            {"prompt": [{"role": "user", "content": "x"}], "completion": "y"}
            {"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}
            {"text": "naïve हिन्दी"}

            """
        let csv = "prompt,completion,label\n\"a \"\"b\"\"\nc\",d,\n1,2,3\r\n\"x\",\"y\",\"z\"\n"
        let array = "[" + rows.split(separator: "\n").joined(separator: ",") + "]"
        let samples: [(String, [UInt8])] = [
            ("a.jsonl", Array(rows.utf8)), ("b.json", Array(array.utf8)), ("c.csv", Array(csv.utf8)),
            ("d.tsv", Array("text\tlabel\na\\tb\tc\n\"d\"\te\n".utf8)), ("e.txt", Array("one\ntwo é\n\nthree".utf8)),
        ]
        let builder = ExampleBuilder(tokenizer: try byteTokenizer(), template: try ChatTemplate(source: chatML))
        fuzz("rows") { mutator, i in
            let (name, bytes) = samples[i % samples.count]
            guard let path = try? folder.write(name, bytes: mutator.mutate(bytes)) else { return }
            _ = try? builder.examples(fromFiles: [path])
        }
    }

    @Test func parquetFiles() throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path
        let names = ["plain-none", "dict-snappy", "dict-gzip", "dict-zstd-v2", "delta", "groups"]
        let files = try names.map { try readFile("\(root)/Fixtures/parquet/\($0).parquet") }
        let folder = try TemporaryFolder()
        let builder = ExampleBuilder(tokenizer: try byteTokenizer(), template: try ChatTemplate(source: chatML))
        fuzz("Parquet") { mutator, i in
            let bytes = mutator.mutate(files[i % files.count])
            guard let path = try? folder.write("a.parquet", bytes: bytes) else { return }
            _ = try? builder.examples(fromFiles: [path])
        }
    }

    @Test func jsonTexts() {
        let text = Array(#"{"a": [1, -2.5e10, true, null, "\u00e9\ud83d\ude00\n"], "b": {"c": {}}, "": ""}"#.utf8)
        fuzz("JSON") { mutator, _ in
            let bytes = mutator.mutate(
                text, splices: [Array(repeating: 0x5B, count: 5_000), Array("1e999".utf8), Array("\\ud800".utf8)])
            guard let value = try? JSONParser.parse(bytes) else { return }
            // What was read is written, and read again, as the same.
            let written = JSONWriter.bytes(value)
            #expect((try? JSONParser.parse(written)).map { JSONWriter.bytes($0) } == written)
        }
    }

    @Test func tokenStores() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/a.h5"
        let writer = try TokenStoreWriter(
            path: path,
            header: TokenStoreHeader(vocabularySize: 300, tokenizerHash: "ab", templateHash: "cd", options: "{}"))
        var generator = SeededGenerator(5)
        for length in 1..<120 {
            let ids = (0..<length).map { _ in Int32.random(in: 0..<300, using: &generator) }
            try writer.append(ids: ids, isTrained: ids.map { $0 % 2 == 0 })
        }
        try writer.finish()
        let whole = try readFile(path)
        fuzz("token store") { mutator, _ in
            guard let path = try? folder.write("b.h5", bytes: mutator.mutate(whole)),
                let store = try? TokenStore(path: path)
            else { return }
            for index in 0..<min(store.rowCount, 200) { _ = try? store.row(index) }
        }
    }
}
