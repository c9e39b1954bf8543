import Foundation

@testable import FileFormats
@testable import FineTuning
@testable import TextData

/// Sound inputs to start from, made by graft's own writers or written out here.
enum Seeds {
    static let templates = [
        "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
        """
        {%- macro args(a) %}{% for k, v in a|items %}{{ k }}={{ v|tojson }};{% endfor %}{% endmacro %}
        {%- if tools %}{{ tools | tojson(indent=2) }}{% endif %}{% set ns = namespace(last=0) %}
        {%- for m in messages %}{% set ns.last = loop.index %}[{{ m.role }}]
        {%- if m.tool_calls %}{% for c in m.tool_calls %}{{ c.function.name }}({{ args(c.function.arguments) }}){% endfor %}
        {%- else %}{{ m.content | trim }}{% endif %}{% if m.role == 'assistant' %}{% generation %}{{ eos_token }}{% endgeneration %}{% endif %}
        {%- endfor %}
        """,
        "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text or p['type'] }}{% endfor %}{% endif %}{% endfor %}",
    ]
    static let expressions = [
        "{{ 'a%sb' % 1 }}{{ '%05.2f|%-5d|%x' % (1.5, 3, 255) }}{{ '{:>10}'.format('x') }}{{ 7 // 2 }}{{ -7 % 3 }}{{ 2 ** 10 }}",
        "{{ messages | map(attribute='role') | join(', ') }}{{ messages[::-1][0].role }}{{ 'abc'[1:] }}{{ range(10) | list }}",
        "{{ 'a,b'.split(',') }}{{ 'x' * 20 }}{{ ['a'] * 3 }}{{ 'abc' | replace('b', 'zz') | upper | center(20) }}{{ 1.0 | round(2) }}",
        "{% set x = {'a': 1, 'b': [1, 2]} %}{{ x.items() | list }}{{ x | dictsort }}{{ x['b'] | sum }}{{ x | tojson }}",
        "{% for i in range(3) recursive %}{{ loop.index }}{{ loop.cycle('a', 'b') }}{% if i == 1 %}{% break %}{% endif %}{% else %}none{% endfor %}",
        "{{ strftime_now('%Y-%m-%d') }}{{ raise_exception('no') }}{{ 'a' if x is defined else 'b' }}{{ messages | length > 1 and not false }}",
        "{% call(x) f(1) %}{{ x }}{% endcall %}{% filter upper %}a{% endfilter %}{{ 'a\\u0041\\n' ~ 1 ~ none }}{% raw %}{{ }}{% endraw %}{# note #}",
        "{{ 'é'.encode('utf-8') }}{{ 123456789012345678901234567890 * 98765432109876543210 }}{{ 10 ** 30 // 7 }}{{ 'x' | wordwrap(5) | indent(2) }}",
        "{{ messages | selectattr('role', 'equalto', 'user') | list | first }}{{ [3, 1, 2] | sort(reverse=true) | batch(2) | list }}{{ [1, 2] | slice(3) | list }}",
        "{{ 'a b' | title | urlencode }}{{ 'www.x.org' | urlize }}{{ '<b>' | escape }}{{ 1048576 | filesizeformat }}{{ 'abc' | truncate(2) }}{{ '3' | int + 4 }}",
    ]

    // MARK: Tokenizers

    /// A tokenizer.json's text.
    struct Document: Sendable {
        var name: String
        var text: String
        /// Whether it decodes every text to what was encoded.
        var isLossless = false
    }

    private static let added =
        #"{"id": 262, "content": "<s>", "special": true, "lstrip": false, "rstrip": false, "normalized": false, "single_word": false}, {"id": 263, "content": "</s>", "special": true}, {"id": 264, "content": "<|im_start|>", "special": true}, {"id": 265, "content": "<|im_end|>", "special": true}"#

    private static func byteLevelVocabulary(_ more: [String]) -> String {
        var entries: [String] = []
        var next: UInt32 = 0x100
        for byte in UInt32(0)...255 {
            let isPrintable = (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || byte >= 0xAE
            let scalar = Unicode.Scalar(isPrintable ? byte : next) ?? "?"
            if !isPrintable { next += 1 }
            entries.append("\(JSONWriter.text(.string(String(scalar)))):\(byte)")
        }
        for (index, token) in more.enumerated() { entries.append("\"\(token)\":\(256 + index)") }
        return "{" + entries.joined(separator: ",") + "}"
    }

    static let tokenizerDocuments: [Document] = [
        Document(
            name: "byte-level",
            text: """
                {"added_tokens": [\(added)], "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
                "decoder": {"type": "ByteLevel"}, "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [262], "tokens": ["<s>"]}}},
                "model": {"type": "BPE", "vocab": \(byteLevelVocabulary(["ab", "abc", "Ġa", "Ġab", "th", "the"])), "merges": ["a b", "ab c", "Ġ a", "Ġa b", "t h", "th e"]}}
                """, isLossless: true),
        Document(
            name: "fallback",
            text: """
                {"added_tokens": [{"id": 0, "content": "<unk>", "special": true}, {"id": 1, "content": "<s>", "special": true, "rstrip": true}], "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
                "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
                "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "<0x41>": 3, "<0x0A>": 4, "▁": 5, "a": 6, "b": 7, "c": 8, "ab": 9, "▁a": 10, "abc": 11}, "merges": [["a", "b"], ["▁", "a"], ["ab", "c"]]}}
                """),
        Document(
            name: "unigram",
            text: """
                {"added_tokens": [{"id": 0, "content": "<unk>", "special": true}], "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]}, "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true}, "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"},
                "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": false, "vocab": [["<unk>", 0.0], ["▁", -2.0], ["a", -3.0], ["b", -3.5], ["ab", -1.5], ["▁a", -2.5], ["abc", -6.0]]}}
                """),
        Document(
            name: "wordpiece",
            text: """
                {"added_tokens": [{"id": 0, "content": "[UNK]", "special": true}, {"id": 1, "content": "[CLS]", "special": true}, {"id": 2, "content": "[SEP]", "special": true}], "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true}, "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]}, "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
                "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "ab": 4, "##c": 5, "the": 6, "##ab": 7}}}
                """),
        Document(
            name: "wordlevel",
            text: """
                {"added_tokens": [], "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, {"type": "Strip", "strip_left": true, "strip_right": true}]}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Digits", "individual_digits": true}, {"type": "Punctuation", "behavior": "Isolated"}, {"type": "Split", "pattern": {"Regex": "\\\\p{L}+|\\\\s+(?!\\\\S)"}, "behavior": "MergedWithPrevious", "invert": false}]}, "decoder": null,
                "model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "the": 1, "quick": 2, "a": 3, "1": 4}}}
                """),
    ]

    /// A SentencePiece model, written field by field.
    static func sentencePiece(algorithm: Int, hasBytes: Bool) -> [UInt8] {
        func varint(_ value: Int) -> [UInt8] {
            value < 0x80 ? [UInt8(value)] : [UInt8(value & 0x7F) | 0x80] + varint(value >> 7)
        }
        func field(_ number: Int, _ value: Int) -> [UInt8] { varint(number << 3) + varint(value) }
        func field(_ number: Int, _ content: [UInt8]) -> [UInt8] {
            varint(number << 3 | 2) + varint(content.count) + content
        }
        var pieces: [(String, Float, Int)] = [("<unk>", 0, 2), ("<s>", 0, 3), ("</s>", 0, 3)]
        if hasBytes {
            for byte in 0..<256 {
                let digits = String(byte, radix: 16, uppercase: true)
                pieces.append(("<0x\(digits.count < 2 ? "0" : "")\(digits)>", 0, 6))
            }
        }
        pieces += [
            ("▁", -2, 1), ("a", -3, 1), ("b", -3.5, 1), ("ab", -1.5, 1), ("▁a", -2.5, 1), ("abc", -6, 1), ("XY", 0, 4),
            ("bc", -1, 5),
        ]
        var model: [UInt8] = []
        for (text, score, type) in pieces {
            let bits = (0..<4).map { UInt8(truncatingIfNeeded: score.bitPattern >> (8 * $0)) }
            model += field(1, field(1, Array(text.utf8)) + varint(2 << 3 | 5) + bits + field(3, type))
        }
        model += field(2, field(3, algorithm) + field(35, hasBytes ? 1 : 0))
        return model + field(3, field(3, 1) + field(4, 1) + field(5, 1))
    }

    static let tiktoken: String =
        (0..<256).map { "\(Data([UInt8($0)]).base64EncodedString()) \($0)\n" }.joined()
        + "YWI= 256\nYWJj 257\nIHRoZQ== 258\n"

    static let tekken: String = {
        let entries = [0x61, 0x62, 0x63, 0x20].enumerated().map {
            "{\"rank\": \($0), \"token_bytes\": \"\(Data([UInt8($1)]).base64EncodedString())\", \"token_str\": null}"
        }
        return """
            {"config": {"pattern": "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+|\\\\s+", "default_vocab_size": 8, "default_num_special_tokens": 3, "version": "v3"},
            "vocab": [\(entries.joined(separator: ", ")), {"rank": 4, "token_bytes": "YWI=", "token_str": "ab"}],
            "special_tokens": [{"rank": 0, "token_str": "<unk>", "is_control": true}, {"rank": 1, "token_str": "<s>"}, {"rank": 2, "token_str": "</s>"}]}
            """
    }()

    // MARK: Files

    static func safetensors() throws -> [UInt8] {
        let path = scratch.path("seed.safetensors")
        let writer = try SafetensorsWriter(
            path: path,
            tensors: [
                .init(name: "a", type: .f32, shape: [2, 2]), .init(name: "b.weight", type: .bf16, shape: [3]),
                .init(name: "e", type: .i64, shape: [0, 4]), .init(name: "s", type: .f16, shape: []),
            ], metadata: [("format", "pt"), ("k", "v")], replacing: true)
        try writer.append([Float(1), 2, 3, 4], to: "a")
        try writer.append([UInt16(0x3F80), 0, 1], to: "b.weight")
        try writer.append([Int64](), to: "e")
        try writer.append([UInt16(0x3C00)], to: "s")
        try writer.finish()
        return try readFile(path, limit: 1 << 20)
    }

    static func gguf(
        _ metadata: [(key: String, value: GGUFValue)], _ tensors: [(name: String, type: GGMLType, shape: [Int])]
    ) throws -> [UInt8] {
        let path = scratch.path("seed.gguf")
        let writer = try GGUFWriter(
            path: path, metadata: metadata,
            tensors: tensors.map { .init(name: $0.name, type: $0.type, shape: $0.shape) }, replacing: true)
        for tensor in tensors {
            let count = tensor.type.byteCount(of: tensor.shape) ?? 0
            try writer.append((0..<count).map { UInt8(truncatingIfNeeded: $0 % 60) }, to: tensor.name)
        }
        try writer.finish()
        return try readFile(path, limit: 1 << 20)
    }

    static func plainGGUF() throws -> [UInt8] {
        try gguf(
            [
                ("general.architecture", .string("x")), ("u8", .uint8(1)), ("i8", .int8(-1)), ("u16", .uint16(2)),
                ("i64", .int64(-3)),
                ("f", .float32(1.5)), ("d", .float64(2.5)), ("b", .bool(true)), ("a", .uint32s([1, 2, 3])),
                ("s", .strings(ByteStrings([ByteString("x"), ByteString("")]))), ("bs", .bools([true, false])),
            ],
            [("t", .f32, [2, 3]), ("q", .q8_0, [1, 32]), ("k", .q4_K, [256])])
    }

    static func modelGGUF() throws -> [UInt8] {
        let metadata: [(key: String, value: GGUFValue)] = [
            ("general.architecture", .string("llama")), ("llama.block_count", .uint32(1)),
            ("llama.context_length", .uint32(16)),
            ("llama.embedding_length", .uint32(4)), ("llama.feed_forward_length", .uint32(4)),
            ("llama.attention.head_count", .uint32(2)), ("llama.attention.head_count_kv", .uint32(1)),
            ("llama.attention.layer_norm_rms_epsilon", .float32(1e-5)), ("llama.rope.freq_base", .float32(10000)),
            ("llama.rope.dimension_count", .uint32(2)), ("llama.vocab_size", .uint32(4)),
            ("tokenizer.ggml.tokens", .strings(ByteStrings(["<unk>", "a", "b", "c"].map { ByteString($0) }))),
            ("tokenizer.chat_template", .string("{{ messages[0].content }}")),
        ]
        let tensors: [(name: String, type: GGMLType, shape: [Int])] = [
            ("token_embd.weight", .f32, [4, 4]), ("output_norm.weight", .f32, [4]), ("output.weight", .f16, [4, 4]),
            ("blk.0.attn_norm.weight", .f32, [4]), ("blk.0.attn_q.weight", .f32, [4, 4]),
            ("blk.0.attn_k.weight", .f32, [2, 4]),
            ("blk.0.attn_v.weight", .f32, [2, 4]), ("blk.0.attn_output.weight", .f32, [4, 4]),
            ("blk.0.ffn_norm.weight", .f32, [4]),
            ("blk.0.ffn_gate.weight", .bf16, [4, 4]), ("blk.0.ffn_up.weight", .f32, [4, 4]),
            ("blk.0.ffn_down.weight", .f32, [4, 4]),
        ]
        return try gguf(metadata, tensors)
    }

    static func tokenizerGGUF(_ model: String) throws -> [UInt8] {
        let tokens = ["<unk>", "<s>", "</s>", "<0x41>", "▁", "a", "b", "ab", "▁a", "Ġ", "Ġa"]
        return try gguf(
            [
                ("general.architecture", .string("llama")), ("tokenizer.ggml.model", .string(model)),
                ("tokenizer.ggml.pre", .string(model == "gpt2" ? "qwen2" : "default")),
                ("tokenizer.ggml.tokens", .strings(ByteStrings(tokens.map { ByteString($0) }))),
                ("tokenizer.ggml.scores", .float32s(tokens.indices.map { -Float($0) })),
                ("tokenizer.ggml.token_type", .int32s([2, 3, 3, 6] + tokens.dropFirst(4).map { _ in 1 })),
                ("tokenizer.ggml.merges", .strings(ByteStrings(["a b", "Ġ a"].map { ByteString($0) }))),
                ("tokenizer.ggml.bos_token_id", .uint32(1)), ("tokenizer.ggml.eos_token_id", .uint32(2)),
                ("tokenizer.ggml.unknown_token_id", .uint32(0)), ("tokenizer.ggml.add_bos_token", .bool(true)),
                ("tokenizer.ggml.add_space_prefix", .bool(true)),
            ], [])
    }

    static func store() throws -> [UInt8] {
        let path = scratch.path("seed.h5")
        let header = TokenStoreHeader(
            vocabularySize: 300, tokenizerHash: sha256([1]), templateHash: sha256([2]), options: "{}")
        let writer = try TokenStoreWriter(path: path, header: header, replacing: true)
        for row in 0..<4 {
            try writer.append(
                ids: (0..<Int32(5)).map { $0 + Int32(row) }, isTrained: Array(repeating: row % 2 == 0, count: 5))
        }
        try writer.finish()
        return try readFile(path, limit: 1 << 20)
    }

    static func part() throws -> [UInt8] {
        let path = scratch.path("seed.part")
        let records = (0..<4).map { i in
            (
                bucket: i % 2,
                record: PartRecord(
                    order: UInt64(i), row: UInt64(i), source: 0, ids: [1, 2, Int32(i)], isTrained: [false, true, true])
            )
        }
        unlink(path)
        try TokenPart.write(
            to: path, records: records, columns: [[1, 2, 3, 4], [5, 6, 7, 8]], state: "{}", threads: 1)
        return try readFile(path, limit: 1 << 20)
    }

    static let rows = """
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo", "weight": 0.5}]}
        {"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "{\\"name\\": \\"f\\"}"}], "system": "s"}
        {"instruction": "a", "input": "b", "output": "c", "history": [["q", "a"]]}
        {"prompt": "a", "completion": "b"}
        {"prompt": [{"role": "user", "content": "a"}], "chosen": "b", "rejected": [{"role": "assistant", "content": "c"}]}
        {"prompt": "a", "completion": "b", "label": true}
        {"text": "h\\u00e9\\ud83d\\ude00"}
        {"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "t"}]}, {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{\\"a\\": 1}"}}]}], "tools": [{"type": "function", "function": {"name": "f"}}], "chat_template_kwargs": {"x": 1}}
        """

    /// Two rows that gzip packed.
    static let packedRows =
        "H4sIAAAAAAACA6tWKkmtKFGyUlDKUKrlqlYqKMrPLQDzE5V0FJSSgbyc1JLM/DyQUBJQCQAsRc4RMQAAAA=="

    static let recipe = """
        model: ../base
        output: run
        adapter: {method: lora, rank: 8, alpha: 16, dropout: 0.05, targets: [q_proj, v_proj]}
        objective: {name: dpo, beta: 0.1}
        data:
          train: [{path: a.jsonl, weight: 2}, "b.jsonl"]
          eval: c.jsonl
          max_length: 512
          overlong: drop
        training:
          epochs: 2
          batch_size: 8
          learning_rate: 1.0e-4
          schedule: cosine
          optimizer: {name: adamw, betas: [0.9, 0.95], eps: 1e-8, weight_decay: 0.01}
          seed: 7
        """
}

/// Writes sound inputs for every reader, a folder for each, of what graft writes and of the repository's fixtures.
///
/// - Parameter folder: is made. The working folder is the repository.
func writeSeeds(to folder: String) throws {
    var counts: [Reader: Int] = [:]
    func add(_ reader: Reader, _ bytes: [UInt8]) throws {
        guard bytes.count <= reader.longestInput else { return }
        let place = folder + "/" + reader.rawValue
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        counts[reader, default: 0] += 1
        try Data(bytes).write(to: URL(fileURLWithPath: place + "/seed-\(counts[reader] ?? 0)"))
    }
    func add(_ reader: Reader, _ text: String) throws { try add(reader, Array(text.utf8)) }

    try add(.safetensors, try Seeds.safetensors())
    try add(
        .index,
        #"{"metadata": {"total_size": 22}, "weight_map": {"a": "a.safetensors", "b.weight": "b.safetensors", "s": "a.safetensors"}}"#
    )
    try add(.index, #"{"weight_map": {"a": "../a.safetensors"}}"#)
    try add(.gguf, try Seeds.plainGGUF())
    try add(.ggufModel, try Seeds.modelGGUF())
    for model in ["llama", "gpt2", "t5", "bert"] { try add(.ggufTokenizer, try Seeds.tokenizerGGUF(model)) }
    try add(.store, try Seeds.store())
    try add(.patchedStore, [0, 0, 0x89])
    try add(.part, try Seeds.part())
    try add(.json, #"{"a": [1, -2.5e3, true, null, "\u00e9\n"], "b": {"c": 123456789012345678901234567890}, "a": {}}"#)
    try add(.recipe, Seeds.recipe)
    try add(.recipe, "model: {init: config.json}\noutput: &o run\ndata: {train: [*o, *o]}\n")
    for row in Seeds.rows.split(separator: "\n") {
        try add(.jsonl, String(row))
        for kind in 0..<UInt8(Seeds.templates.count) { try add(.conversation, [kind] + Array(row.utf8)) }
    }
    try add(.jsonl, "\u{FEFF}" + Seeds.rows)
    try add(.jsonArray, "[" + Seeds.rows.split(separator: "\n").joined(separator: ",\n") + "]")
    try add(.csv, "instruction,input,output\n\"a, \"\"b\"\"\",,c\r\nd,e,\"f\ng\"\n")
    try add(.csv, "sep=;\nprompt;completion\na;b\n")
    try add(.tsv, "prompt\tcompletion\na\tb\n\"c\td\n")
    try add(.text, "first\nनमस्ते\r\n\n")
    let packed = Data(base64Encoded: Seeds.packedRows) ?? Data()
    try add(.gzip, Array(packed))
    try add(.gzip, Array(packed + packed) + [0, 0])
    try add(.zstd, try Zstd.compress(Array(Seeds.rows.utf8)))
    for document in Seeds.tokenizerDocuments { try add(.tokenizerJSON, document.text) }
    for algorithm in 1...4 {
        for hasBytes in [false, true] {
            try add(.sentencePiece, Seeds.sentencePiece(algorithm: algorithm, hasBytes: hasBytes))
        }
    }
    try add(
        .tiktoken,
        Seeds.tiktoken + "\u{0}" + #"{"eos_token": "</s>", "added_tokens_decoder": {"259": {"content": "</s>"}}}"#)
    try add(.tiktoken, Seeds.tiktoken)
    try add(.tekken, Seeds.tekken)
    try add(
        .vocabularyAndMerges,
        #"{"a": 0, "b": 1, "ab": 2, "<s>": 3}"# + "\u{0}#version: 0.2\na b\n\u{0}"
            + #"{"bos_token": "<s>", "tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": {"3": {"content": "<s>"}}}"#
    )
    for kind in 0..<UInt8(Seeds.tokenizerDocuments.count) {
        for text in Fixed.texts { try add(.encoding, [kind] + Array(text.utf8)) }
    }
    for source in Seeds.templates + Seeds.expressions { try add(.template, source) }
    try addFixtures(add)
}

/// Files of the repository, and of the folder that GRAFT_CONFORMANCE names.
private func addFixtures(_ add: (Reader, [UInt8]) throws -> Void) throws {
    let roots =
        ["Tests/Fixtures", "recipes", "datasets"]
        + [ProcessInfo.processInfo.environment["GRAFT_CONFORMANCE"]].compactMap { $0 }
    for root in roots {
        for case let name as String in FileManager.default.enumerator(atPath: root) ?? .init() {
            let path = root + "/" + name
            let reader: Reader
            switch (splitPath(path).name, URL(fileURLWithPath: path).pathExtension) {
            case ("config.json", _): reader = .config
            case ("adapter_config.json", _): reader = .adapterConfig
            case (SafetensorsFolder.indexName, _): reader = .index
            case ("tokenizer.json", _): reader = .tokenizerJSON
            case (_, "safetensors"): reader = .safetensors
            case (_, "gguf"): reader = .gguf
            case (_, "parquet"): reader = .parquet
            case (_, "jinja"): reader = .template
            case (_, "yaml"): reader = .recipe
            case (_, "gz"): reader = .gzip
            case (_, "zst"): reader = .zstd
            default: continue
            }
            guard let bytes = try? readFile(path, limit: reader.longestInput) else { continue }
            try add(reader, bytes)
        }
    }
}
