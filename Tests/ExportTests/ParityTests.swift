import FileFormats
import FineTuning
import Foundation
import TensorCore
import Testing

@testable import Export

/// A random model with a byte-level tokenizer and a chat template.
func writeChatModel(to folder: String) throws {
    var model = TinyModel(vocabulary: 264, hidden: 64, inner: 96)
    model.extraConfig = JSONObject([("eos_token_id", 261), ("bos_token_id", 260), ("initializer_range", 0.2)])
    mkdir(folder, 0o777)
    let shape = try ModelConfig(json: model.config, path: folder)
    try DecoderModel(initialising: shape, dtype: .f32, seed: 3, training: .frozen, pool: WorkerPool(threads: 1))
        .writeFolder(folder, dtype: .f32)
    var vocabulary: [(key: String, value: JSONValue)] = byteAlphabet().enumerated().map { ($1, .integer($0)) }
    let merges = ["1 2", "12 3", "123 4", "t h"]
    for (i, merge) in merges.enumerated() {
        vocabulary.append((merge.replacingOccurrences(of: " ", with: ""), .integer(256 + i)))
    }
    func added(_ id: Int, _ text: String) -> JSONValue {
        [
            "id": .integer(id), "content": .string(text), "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false,
        ]
    }
    let tokenizer: JSONValue = [
        "model": [
            "type": "BPE", "vocab": .object(JSONObject(vocabulary)), "merges": .array(merges.map { .string($0) }),
        ],
        "pre_tokenizer": PreTokenizerIdentityTests.sequence(
            PreTokenizerIdentityTests.split(PreTokenizerIdentityTests.llama3),
            PreTokenizerIdentityTests.byteLevel(regex: false)),
        "decoder": ["type": "ByteLevel"],
        "added_tokens": [added(260, "<s>"), added(261, "</s>")],
    ]
    try AtomicFile.write(JSONWriter.bytes(tokenizer), to: folder + "/tokenizer.json")
    let config: JSONValue = ["bos_token": "<s>", "eos_token": "</s>"]
    try AtomicFile.write(JSONWriter.bytes(config), to: folder + "/tokenizer_config.json")
    try AtomicFile.write(Array(chatTemplate.utf8), to: folder + "/chat_template.jinja")
}

/// Puts a SentencePiece-style tokenizer into the folder that `writeChatModel` wrote.
func writeSentencePieceTokenizer(to folder: String, hasBytes: Bool = true) throws {
    let first = ["<unk>", "<s>", "</s>", "\u{2581}", "\u{2581}\u{2581}", "a", "b", "ab"]
    let bytes = (0..<256).map { "<0x" + ($0 < 16 ? "0" : "") + String($0, radix: 16, uppercase: true) + ">" }
    let tokens = first + (hasBytes ? bytes : bytes.indices.map { "x\($0)" })
    func added(_ id: Int) -> JSONValue {
        [
            "id": .integer(id), "content": .string(tokens[id]), "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false,
        ]
    }
    let tokenizer: JSONValue = [
        "model": [
            "type": "BPE", "vocab": .object(JSONObject(tokens.enumerated().map { ($1, .integer($0)) })),
            "merges": ["\u{2581} \u{2581}", "a b"], "byte_fallback": .bool(hasBytes), "fuse_unk": true,
            "unk_token": "<unk>",
        ],
        "normalizer": ["type": "Replace", "pattern": ["String": " "], "content": "\u{2581}"],
        "added_tokens": .array((0..<3).map(added)),
    ]
    try AtomicFile.write(JSONWriter.bytes(tokenizer), to: folder + "/tokenizer.json", replacing: true)
}

private let chatTemplate =
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}"
    + "{% if add_generation_prompt %}[assistant]{% endif %}"

/// The printable characters that GPT-2 writes bytes as.
private func byteAlphabet() -> [String] {
    let printable = Array(33...126) + Array(161...172) + Array(174...255)
    let others = (0..<256).filter { !printable.contains($0) }
    var scalars = [UInt32](repeating: 0, count: 256)
    for byte in printable { scalars[byte] = UInt32(byte) }
    for (i, byte) in others.enumerated() { scalars[byte] = UInt32(256 + i) }
    return scalars.map { String(Character(Unicode.Scalar($0)!)) }
}

private let modules = ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"].flatMap { name in
    (0..<2).map { (name: "model.layers.\($0).\(name)", rank: 4) }
}

@Suite struct ParityTests {
    let scratch = Scratch()
    let pool = WorkerPool(threads: 2)
    var gate: ParityGate { ParityGate(pool: pool) }
    var adapters: [(path: String, weight: Double)] { [(scratch("a"), 1)] }

    init() throws {
        try writeChatModel(to: scratch("m"))
        try TinyModel(vocabulary: 264, hidden: 64, inner: 96).writeAdapter(to: scratch("a"), modules: modules, alpha: 1)
    }

    func compare(_ path: String) throws -> ParityReport {
        try gate.compare(scratch(path), model: scratch("m"), adapters: adapters)
    }

    func export(_ type: GGUFOutputType, to path: String = "o.gguf", adapter: String = "a") throws {
        _ = try exportGGUF(
            model: scratch("m"), adapter: scratch(adapter), output: scratch(path), type: type, pool: pool)
    }

    /// Writes a GGUF file again with some of it changed.
    func rewrite(
        _ path: String, leaving dropped: [String] = [], metadata change: (String, GGUFValue) -> GGUFValue = { $1 },
        type: GGMLType? = nil, tensor: (GGUFTensorInfo, [UInt8]) -> [UInt8] = { $1 }
    ) throws -> String {
        let file = try GGUFFile(path: scratch(path)),
            kept = file.tensors.filter { tensor in !dropped.contains { $0 == tensor.name } }
        let writer = try GGUFWriter(
            path: scratch("changed.gguf"), metadata: file.metadata.map { ($0.key, change($0.key, $0.value)) },
            tensors: kept.map { .init(name: $0.name, type: type ?? $0.type, shape: $0.shape) }, replacing: true)
        for info in kept { try writer.append(tensor(info, Array(file.withBytes(of: info))), to: info.name) }
        try writer.finish()
        return "changed.gguf"
    }

    /// What the gate says of a file.
    func problems(_ path: String) throws -> String {
        do {
            _ = try compare(path)
            return ""
        } catch let error as ParityError {
            #expect(error.exitStatus == .gateFailed)
            return error.description
        }
    }

    // MARK: right files

    @Test(arguments: [GGUFOutputType.f32, .f16, .bf16, .q8_0, .q4_0]) func rightFilesPass(type: GGUFOutputType) throws {
        try export(type)
        let report = try compare("o.gguf")
        #expect(report.type == type.rawValue.uppercased())
        #expect(report.weights.tensors == 21 && report.logits.tokens == 192)
        #expect(abs((report.weights.adapterShare ?? 0) - 1) < 0.05)
        #expect(report.text.texts > ParitySample.builtInTexts.count && report.text.leftOut == 0)
        #expect(report.text.conversations == 8)
        if type == .f32 { #expect(report.logits.relativeError < 1e-5 && report.logits.agreement == 1) }
    }
    @Test(arguments: MergedType.allCases) func rightFoldersPass(type: MergedType) throws {
        _ = try mergeModel(model: scratch("m"), adapter: scratch("a"), output: scratch("o"), type: type, pool: pool)
        let report = try compare("o")
        #expect(report.logits.klDivergence < 1e-3 && report.text.conversations == 8)
    }
    @Test func rightAdaptersPass() throws {
        _ = try exportGGUFAdapter(model: scratch("m"), adapter: scratch("a"), output: scratch("o.gguf"))
        let report = try compare("o.gguf")
        #expect(report.weights.tensors == modules.count && report.weights.largestError < 1e-6)
    }
    /// As other programs write them, in half the bytes: rounding is no fault, twice the strength is.
    @Test(arguments: [GGMLType.f16, .bf16]) func narrowAdaptersPass(type: GGMLType) throws {
        _ = try exportGGUFAdapter(model: scratch("m"), adapter: scratch("a"), output: scratch("o.gguf"))
        func narrow(times factor: Float) throws -> String {
            try rewrite("o.gguf", type: type) { info, bytes in
                bytes.withUnsafeBytes {
                    $0.bindMemory(to: Float.self).map { value in
                        let scaled = info.name.hasSuffix("lora_b") ? factor * value : value
                        return type == .f16 ? Float16(scaled).bitPattern : UInt16(scaled.bitPattern >> 16)
                    }
                }.flatMap { [UInt8($0 & 255), UInt8($0 >> 8)] }
            }
        }
        let report = try compare(narrow(times: 1))
        #expect(report.type == type.name && report.weights.largestError > 1e-5)
        #expect(try problems(narrow(times: 1.05)).contains("scale B A differs"))
    }
    /// Each family's fixture, as a folder and, where llama.cpp has the family, as a file.
    @Test(arguments: [
        "llama2-untied", "llama3-tied", "llama-headdim-bias", "llama-yarn", "mistral-sliding", "qwen2", "qwen3",
        "gemma",
        "gemma2", "gemma3", "phi3", "smollm3", "olmo2", "granite", "glm4", "mixtral", "qwen2-moe", "deepseek-v2",
        "deepseek-v3", "gpt-oss",
    ]) func rightFilesOfEachFamilyPass(family: String) throws {
        let folder = fixturesFolder + "/" + family, adapters = [(path: folder + "/adapter", weight: 1.0)]
        _ = try mergeModel(model: folder, adapters: adapters, output: scratch("o"), type: .bf16, pool: pool)
        #expect(try gate.compare(scratch("o"), model: folder, adapters: adapters).logits.tokens == 128)
        _ = try exportGGUF(
            model: folder, adapters: adapters, output: scratch("o.gguf"), options: GGUFExportOptions(type: .q8_0),
            pool: pool)
        #expect(try gate.compare(scratch("o.gguf"), model: folder, adapters: adapters).logits.tokens > 0)
    }

    // MARK: faults

    @Test(arguments: [GGUFOutputType.f32, .q4_0]) func rowsThatAreNotPermutedAreFound(type: GGUFOutputType) throws {
        try export(type)
        let path = try rewrite(
            "o.gguf",
            tensor: { info, bytes in
                guard info.name == "blk.1.attn_q.weight" else { return bytes }
                let rowSize = bytes.count / 64, order = RowOrder(heads: 4, rows: 64)
                return (0..<64).flatMap { row in
                    let start = order.place(ofSource: row) * rowSize
                    return bytes[start..<start + rowSize]
                }
            })
        #expect(try problems(path).contains("self_attn.q_proj.weight: differs from base and adapter"))
    }
    @Test(arguments: [2, 4]) func anotherAlphaIsFound(alpha: Int) throws {
        try TinyModel(vocabulary: 264, hidden: 64, inner: 96).writeAdapter(
            to: scratch("b"), modules: modules, alpha: alpha)
        for type in [GGUFOutputType.f32, .bf16, .q8_0, .q4_0] {
            try export(type, to: "\(type).gguf", adapter: "b")
            #expect(try problems("\(type).gguf").contains("adapter"), "\(type)")
        }
        _ = try exportGGUFAdapter(model: scratch("m"), adapter: scratch("b"), output: scratch("adapter.gguf"))
        #expect(try problems("adapter.gguf").contains("scale B A differs"))
        _ = try mergeModel(model: scratch("m"), adapter: scratch("b"), output: scratch("o"), pool: pool)
        #expect(try problems("o").contains("differs from base and adapter"))
    }
    @Test func droppedTensorsAreFound() throws {
        try export(.q8_0)
        for name in ["blk.0.ffn_up.weight", "output.weight", "blk.1.attn_norm.weight"] {
            #expect(try problems(rewrite("o.gguf", leaving: [name])).contains("\(name) is missing"))
        }
    }
    @Test func anotherTemplateIsFound() throws {
        try export(.q8_0)
        let path = try rewrite(
            "o.gguf",
            metadata: { key, value in
                key == "tokenizer.chat_template"
                    ? .string(chatTemplate.replacingOccurrences(of: "[", with: "<")) : value
            })
        #expect(try problems(path).contains("chat template: conversation 1"))
    }
    @Test(arguments: ["qwen2", "gpt-2", "smollm", "llama-bpe", "dbrx"]) func anotherPreTokenizerIsFound(name: String)
        throws
    {
        try export(.q8_0)
        let path = try rewrite(
            "o.gguf",
            metadata: { key, value in
                key == "tokenizer.ggml.pre" ? .string(name) : value
            })
        // One that differs for no text of the sample is seen by its name; other names of the same splits are right.
        if name == "dbrx" {
            #expect(try compare(path).notes.contains { $0.contains("tokenizer.ggml.pre") })
        } else {
            #expect(try problems(path).contains("tokenizer.ggml.pre is "))
        }
        #expect(throws: ParityError.self) {
            try gate.compare(scratch(path), model: scratch("m"), adapters: adapters, isOwn: true)
        }
    }
    /// Settings and tokens that no text of the sample need show, in files of other programs as well.
    @Test(
        arguments: [
            ("add_bos_token", .bool(true)), ("add_eos_token", .bool(true)), ("bos_token_id", .uint32(7)),
            ("eos_token_id", .uint32(7)), ("token_type", nil), ("merges", nil), ("tokens", nil),
        ] as [(String, GGUFValue?)])
    func otherTokenizerMetadataAreFound(key: String, value: GGUFValue?) throws {
        try export(.q8_0)
        let path = try rewrite("o.gguf") { found, old in
            guard found == "tokenizer.ggml." + key else { return old }
            if let value { return value }
            if let types = old.intsValue { return .int32s(types.map { $0 == 3 ? 1 : Int32($0) }) }
            // The first and the last change places.
            var texts = Array(old.stringsValue ?? ByteStrings())
            texts.swapAt(0, texts.count - 1)
            return .strings(ByteStrings(texts))
        }
        #expect(try problems(path).contains("tokenizer.ggml." + key))
        // With a GGUF file as the base, it is that file's tokenizer that counts, and this is said.
        let error = #expect(throws: ParityError.self) {
            _ = try gate.compare(scratch(path), model: scratch("o.gguf"), adapters: [])
        }
        #expect(try #require(error).description.contains("tokenizer.ggml." + key))
        let report = try gate.compare(scratch("o.gguf"), model: scratch("o.gguf"), adapters: [])
        #expect(report.notes.contains { $0.contains("only the Hugging Face folder tells") })
    }
    /// What other programs write otherwise, and which changes no id.
    @Test func otherSpellingsOfTheTokenizerPass() throws {
        try export(.q8_0)
        let path = try rewrite("o.gguf") { key, value in
            switch key {
            case "tokenizer.ggml.token_type": .int32s((value.intsValue ?? []).map { $0 == 3 ? 4 : Int32($0) })
            case "tokenizer.chat_template": .string((value.stringValue ?? "") + "{# the same #}")
            default: value
            }
        }
        #expect(try compare(path).notes.contains { $0.contains("tokenizer.chat_template is another text") })
    }
    /// Gemma's runs of spaces, as the folders have them and as converters write them.
    @Test func otherSpellingsOfWhiteSpacePass() throws {
        try writeSentencePieceTokenizer(to: scratch("m"))
        try export(.f32)
        func problems(_ spaces: String) throws -> String {
            let path = try rewrite("o.gguf") { key, value in
                switch key {
                case "tokenizer.ggml.tokens":
                    .strings(
                        ByteStrings(
                            Array(value.stringsValue ?? ByteStrings()).map {
                                $0 == "\u{2581}\u{2581}" ? ByteString(spaces) : $0
                            }
                        ))
                case "tokenizer.ggml.token_type":
                    .int32s((value.intsValue ?? []).enumerated().map { $0 == 4 ? 4 : Int32($1) })
                case "tokenizer.ggml.scores":
                    .float32s((value.floatsValue ?? []).enumerated().map { $0 == 4 ? -1000 : $1 })
                default: value
                }
            }
            return try self.problems(path)
        }
        #expect(try problems("  ") == "")
        #expect(try problems("   ").contains("tokenizer.ggml.tokens: id 4"))
    }
    /// A change that is smaller than the steps of a base that lies on them is rounded away: no matter of the disk.
    @Test func changesThatAreRoundedAwayAreToldAsSuch() throws {
        _ = try exportGGUF(model: scratch("m"), output: scratch("q.gguf"), type: .q4_0, pool: pool)
        let error = #expect(throws: ParityError.self) {
            try gate.passing(output: scratch("o.gguf"), model: scratch("q.gguf"), adapters: [(scratch("a"), 0.02)]) {
                try exportGGUF(
                    model: scratch("q.gguf"), adapters: [(scratch("a"), 0.02)], output: $0,
                    options: GGUFExportOptions(type: .q4_0), pool: pool)
            }
        }
        let text = try #require(error).description
        #expect(text.contains("half a step") && text.contains("--adapter-only") && !text.contains("Check the disk"))
    }
    /// Coarse weights could hide another epsilon, cap or router as well.
    @Test(arguments: [
        ("gemma2", "gemma2.attention.layer_norm_rms_epsilon", "epsilon"),
        ("gemma2", "gemma2.final_logit_softcapping", "the logits' cap"),
        ("gemma2", "gemma2.attention.sliding_window", "window"),
        ("granite", "granite.residual_scale", "the residual scale"),
        ("mixtral", "llama.expert_used_count", "active experts"),
    ])
    func otherNumbersOfAFamilyAreFound(family: String, key: String, what: String) throws {
        let folder = fixturesFolder + "/" + family
        _ = try exportGGUF(
            model: folder, output: scratch("o.gguf"), options: GGUFExportOptions(type: .q4_0), pool: pool)
        let path = try rewrite(
            "o.gguf",
            metadata: { found, value in
                guard found == key else { return value }
                return value.intValue.map { .uint32(UInt32($0 - 1)) }
                    ?? .float32(Float((value.doubleValue ?? 0) * 1.01))
            })
        let error = #expect(throws: ParityError.self) {
            _ = try gate.compare(scratch(path), model: folder, adapters: [])
        }
        #expect(try #require(error).description.contains(what))
    }
    /// llama.cpp goes by the name of a model when it drops the white space after special tokens.
    @Test(arguments: [("My-Phi-3-tune", "My-Phi_3-tune"), ("phi3", "phi_3"), ("phi-4", "phi-4")])
    func namesDoNotChangeTheTokenizer(name: String, written: String) throws {
        let report = try exportGGUF(
            model: scratch("m"), output: scratch("o.gguf"), type: .f32, name: name, pool: pool)
        #expect(try GGUFFile(path: scratch("o.gguf"))["general.name"]?.stringValue == written)
        #expect(report.warnings.contains { $0.contains("phi-3") } == (name != written))
        _ = try gate.compare(scratch("o.gguf"), model: scratch("m"), adapters: [], isOwn: true)
    }
    /// Coarse weights could hide another rotary base on a short text; the sizes are compared on their own.
    @Test(arguments: ["llama.rope.freq_base", "llama.attention.layer_norm_rms_epsilon"]) func otherArithmeticIsFound(
        key: String
    ) throws {
        try export(.f32)
        let path = try rewrite("o.gguf", metadata: { $0 == key ? .float32(0.5) : $1 })
        #expect(try !problems(path).isEmpty)
    }

    // MARK: bases that are GGUF files

    /// A base that contradicts itself is not taken for one of an architecture that graft does not know.
    @Test(arguments: [
        "llama.block_count", "llama.embedding_length", "llama.attention.head_count_kv", "llama.feed_forward_length",
        "blk.1.attn_k.weight",
    ]) func damagedBasesAreRefused(place: String) throws {
        try export(.f16)
        let path = scratch(
            try rewrite("o.gguf", leaving: [place]) { key, value in
                key == place ? .uint32(UInt32((value.intValue ?? 1) - 1)) : value
            })
        let uses: [(String) throws -> Void] = [
            { _ = try gate.compare($0, model: $0, adapters: []) },
            { _ = try exportGGUF(model: $0, output: scratch("again.gguf"), type: .q8_0, pool: pool) },
        ]
        for use in uses {
            #expect {
                try use(path)
            } throws: { error in
                guard case ExportError.damaged(path, let problems) = error else { return false }
                return problems.contains { $0.contains("blk.1.") || $0.contains(place) }
            }
        }
        #expect(!scratch.names.contains("again.gguf"))
    }
    @Test func shortenedBasesAreRefused() throws {
        try export(.f16)
        let bytes = try readFile(scratch("o.gguf"), limit: 1 << 24)
        try AtomicFile.write(Array(bytes.dropLast(100)), to: scratch("short.gguf"))
        #expect(throws: FileError.self) {
            try gate.compare(scratch("o.gguf"), model: scratch("short.gguf"), adapters: [])
        }
    }
    /// What graft does not run is written again and compared as far as that goes.
    @Test(arguments: ["architecture", "tensor"]) func unknownBasesAreRewritten(what: String) throws {
        try export(.f16)
        let file = try GGUFFile(path: scratch("o.gguf"))
        let isArchitecture = what == "architecture"
        let tensors = file.tensors.map { tensor in
            let isOther = !isArchitecture && tensor.name == "blk.1.attn_k.weight"
            return (info: tensor, name: isOther ? "blk.1.attn_kv_latent.weight" : tensor.name)
        }
        let writer = try GGUFWriter(
            path: scratch("base.gguf"),
            metadata: file.metadata.map {
                ($0.key, $0.key == "general.architecture" && isArchitecture ? .string("mamba") : $0.value)
            }, tensors: tensors.map { .init(name: $0.name, type: $0.info.type, shape: $0.info.shape) })
        for (info, name) in tensors { try writer.append(Array(file.withBytes(of: info)), to: name) }
        try writer.finish()
        let report = try gate.passing(output: scratch("again.gguf"), model: scratch("base.gguf"), adapters: []) {
            path in
            try exportGGUF(model: scratch("base.gguf"), output: path, type: .q8_0, pool: pool)
        }
        let parity = try #require(report.parity)
        #expect(parity.weights.tensors == file.tensors.count && parity.logits.tokens == 0)
        #expect(parity.notes.contains { $0.contains(isArchitecture ? "mamba" : "attn_kv_latent") })
    }

    // MARK: the gate

    @Test func whatPassesIsPublished() throws {
        let report = try gate.passing(output: scratch("o.gguf"), model: scratch("m"), adapters: adapters) { path in
            try exportGGUF(model: scratch("m"), adapter: scratch("a"), output: path, type: .q8_0, pool: pool)
        }
        #expect(report.path == scratch("o.gguf") && report.parity?.type == "Q8_0")
        #expect(scratch.names == ["a", "m", "o.gguf"])
    }
    @Test func partsArePublishedTogether() throws {
        var options = GGUFExportOptions(type: .f16)
        options.maximumPartSize = 60_000
        let report = try gate.passing(output: scratch("o.gguf"), model: scratch("m"), adapters: adapters) { path in
            try exportGGUF(model: scratch("m"), adapter: scratch("a"), output: path, options: options, pool: pool)
        }
        #expect(report.parts.count > 1 && report.parts.allSatisfy(FileManager.default.fileExists))
    }
    @Test func sampleFromRows() throws {
        try AtomicFile.write(
            Array(
                #"{"messages": [{"role": "user", "content": "12345"}, {"role": "assistant", "content": "th"}]}"#.utf8),
            to: scratch("rows.jsonl"))
        try export(.q8_0)
        let report = try ParityGate(data: [scratch("rows.jsonl")], pool: pool).compare(
            scratch("o.gguf"), model: scratch("m"), adapters: adapters)
        #expect(report.logits.sequences == 1 && report.logits.tokens < 40)
    }
}
