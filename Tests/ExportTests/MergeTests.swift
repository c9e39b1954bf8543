import FileFormats
import FineTuning
import Foundation
import TensorCore
import Testing

@testable import Export

@Suite struct MergeTests {
    let scratch = Scratch()
    let pool = WorkerPool(threads: 2)

    @Test(arguments: [1, 3]) func mergedWeightsAreBasePlusUpdate(shards: Int) throws {
        let model = TinyModel()
        try model.write(to: scratch("m"), shards: shards)
        let modules = ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"]
        try model.writeAdapter(to: scratch("a"), modules: [(modules[0], 5), (modules[1], 5)], alpha: 10)
        let report = try mergeModel(model: scratch("m"), adapter: scratch("a"), output: scratch("o"), pool: pool)
        #expect(report.mergedModules == 2 && report.largestChange > 0.1)
        for parameter in model.parameters {
            var expected = try values(scratch("m"), parameter.name)
            if let module = modules.first(where: { $0 + ".weight" == parameter.name }) {
                let change = try delta(scratch("a"), module, scale: 2)
                expected = zip(expected, change).map { $0 + $1 }
            }
            #expect(largestDifference(try values(scratch("o"), parameter.name), expected) < 1e-5, "\(parameter.name)")
        }
        let config = try readFile(scratch("m/config.json"), limit: 9999)
        #expect(try readFile(scratch("o/config.json"), limit: 9999) == config)
        let files = try FileManager.default.contentsOfDirectory(atPath: scratch("o")).sorted()
        #expect(
            files
                == (shards == 1
                    ? ["config.json", "model.safetensors"]
                    : [
                        "config.json", "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                        "model-00003-of-00003.safetensors", "model.safetensors.index.json",
                    ]))
        #expect(scratch.names == ["a", "m", "o"])
    }
    @Test func threadsDoNotMatter() throws {
        let model = TinyModel(hidden: 64, inner: 96)
        try model.write(to: scratch("m"))
        try model.writeAdapter(to: scratch("a"), modules: [("model.layers.0.mlp.up_proj", 7)])
        for threads in [1, 3] {
            _ = try mergeModel(
                model: scratch("m"), adapter: scratch("a"), output: scratch("o\(threads)"),
                pool: WorkerPool(threads: threads))
        }
        #expect(try sha256(ofFile: scratch("o1/model.safetensors")) == sha256(ofFile: scratch("o3/model.safetensors")))
    }
    @Test(arguments: [(MergedType.keep, ElementType.bf16), (.f32, .f32), (.f16, .f16), (.bf16, .bf16)])
    func types(type: MergedType, expected: ElementType) throws {
        var model = TinyModel()
        model.type = .bf16
        try model.write(to: scratch("m"))
        try model.writeAdapter(to: scratch("a"), modules: [("model.layers.0.self_attn.v_proj", 4)])
        _ = try mergeModel(model: scratch("m"), adapter: scratch("a"), output: scratch("o"), type: type, pool: pool)
        let files = try SafetensorsFolder(path: scratch("o"))
        #expect(files.entries.allSatisfy { $0.type == expected })
        let config = try ModelConfig(path: scratch("o"))
        let name = ["F32": "float32", "F16": "float16", "BF16": "bfloat16"][expected.rawValue]
        #expect(config.json["torch_dtype"]?.stringValue == (type == .keep ? "float32" : name))
        let parameter = "model.layers.0.self_attn.v_proj.weight"
        let change = try delta(scratch("a"), "model.layers.0.self_attn.v_proj", scale: 2)
        let sum = zip(try values(scratch("m"), parameter), change).map { $0 + $1 }
        #expect(largestDifference(try values(scratch("o"), parameter), sum) < (expected == .f32 ? 1e-5 : 0.02))
    }
    @Test func rankStabilisedAndPatterns() throws {
        let model = TinyModel()
        try model.write(to: scratch("m"))
        try model.writeAdapter(
            to: scratch("a"),
            modules: [("model.layers.0.self_attn.q_proj", 4), ("model.layers.1.self_attn.q_proj", 2)], alpha: 6,
            extra: JSONObject([
                ("use_rslora", true), ("rank_pattern", ["layers.1.self_attn.q_proj": 2]),
                ("alpha_pattern", ["layers.1.self_attn.q_proj": 3]),
            ]))
        _ = try mergeModel(model: scratch("m"), adapter: scratch("a"), output: scratch("o"), pool: pool)
        for (module, scale) in [
            ("model.layers.0.self_attn.q_proj", Float(3)),
            ("model.layers.1.self_attn.q_proj", 3 / Float(2).squareRoot()),
        ] {
            let sum = zip(try values(scratch("m"), module + ".weight"), try delta(scratch("a"), module, scale: scale))
                .map { $0 + $1 }
            #expect(largestDifference(try values(scratch("o"), module + ".weight"), sum) < 1e-5)
        }
    }
    @Test func headThatWasTiedIsWrittenOnItsOwn() throws {
        var model = TinyModel()
        model.isTied = true
        try model.write(to: scratch("m"))
        try model.writeAdapter(to: scratch("a"), modules: [("lm_head", 4)])
        _ = try mergeModel(model: scratch("m"), adapter: scratch("a"), output: scratch("o"), pool: pool)
        #expect(try ModelConfig(path: scratch("o")).tiesEmbeddings == false)
        let embedding = try values(scratch("m"), "model.embed_tokens.weight")
        #expect(try values(scratch("o"), "model.embed_tokens.weight") == embedding)
        let head = zip(embedding, try delta(scratch("a"), "lm_head", scale: 2)).map { $0 + $1 }
        #expect(largestDifference(try values(scratch("o"), "lm_head.weight"), head) < 1e-5)
    }
    /// The head is made in two pieces of 32,768 rows and many tiles, with the row before and after each edge right.
    @Test func largeTensorsComeInPieces() throws {
        let model = TinyModel(vocabulary: 33_000, hidden: 64, layers: 1, isTied: true)
        try model.write(to: scratch("m"))
        try model.writeAdapter(to: scratch("a"), modules: [("lm_head", 2)])
        _ = try mergeModel(model: scratch("m"), adapter: scratch("a"), output: scratch("o"), pool: pool)
        let base = try values(scratch("m"), "model.embed_tokens.weight")
        let merged = try values(scratch("o"), "lm_head.weight")
        let file = try SafetensorsFile(path: scratch("a/adapter_model.safetensors"))
        func matrix(_ part: String) throws -> [Float] {
            file.floats(of: try #require(file.entry(named: "base_model.model.lm_head.lora_\(part).weight")))
        }
        let (a, b) = (try matrix("A"), try matrix("B"))
        for row in [0, 1023, 1024, 32_767, 32_768, 32_999] {
            for column in [0, 63] {
                let change = 4 * (b[2 * row] * a[column] + b[2 * row + 1] * a[64 + column])
                #expect(abs(merged[64 * row + column] - base[64 * row + column] - change) < 1e-5)
            }
        }
        #expect(try values(scratch("o"), "model.embed_tokens.weight") == base)
    }
    @Test func tokenizerTravelsWithTheAdapter() throws {
        let model = TinyModel()
        try model.write(to: scratch("m"))
        try model.writeAdapter(to: scratch("a"), modules: [("model.layers.0.self_attn.q_proj", 4)])
        for (file, text) in [
            ("m/tokenizer.json", "base"), ("m/chat_template.jinja", "base"), ("m/generation_config.json", "{}"),
            ("m/vocab.json", "base"), ("a/tokenizer.json", "own"), ("a/tokenizer_config.json", "{}"),
        ] { try AtomicFile.write(Array(text.utf8), to: scratch(file)) }
        _ = try mergeModel(model: scratch("m"), adapter: scratch("a"), output: scratch("o"), pool: pool)
        let files = try FileManager.default.contentsOfDirectory(atPath: scratch("o")).sorted()
        #expect(
            files == [
                "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
                "tokenizer_config.json",
            ])
        for (file, text) in [
            ("tokenizer.json", "own"), ("tokenizer_config.json", "{}"), ("chat_template.jinja", "base"),
        ] {
            #expect(try readFile(scratch("o/" + file), limit: 99) == Array(text.utf8))
        }
    }
    @Test func existingOutputStays() throws {
        let model = TinyModel()
        try model.write(to: scratch("m"))
        try model.writeAdapter(to: scratch("a"), modules: [("model.layers.0.self_attn.q_proj", 4)])
        mkdir(scratch("o"), 0o777)
        do {
            _ = try mergeModel(model: scratch("m"), adapter: scratch("a"), output: scratch("o"), pool: pool)
            Issue.record("the output was replaced")
        } catch let error as FileError {
            #expect(error.exitStatus == .outputExists)
        }
    }
    @Test func allMismatchesAtOnceAndNothingWritten() throws {
        let model = TinyModel()
        try model.write(to: scratch("m"))
        let other = TinyModel(hidden: 32, layers: 3)
        try other.writeAdapter(
            to: scratch("a"), modules: [("model.layers.0.self_attn.q_proj", 4), ("model.layers.2.self_attn.q_proj", 4)])
        do {
            _ = try mergeModel(model: scratch("m"), adapter: scratch("a"), output: scratch("o"), pool: pool)
            Issue.record("a foreign adapter was merged")
        } catch FineTuningError.adapterMismatch(_, let problems) {
            #expect(problems.count >= 3)
        }
        #expect(scratch.names == ["a", "m"])
    }
    @Test func doublesAreRefused() throws {
        var model = TinyModel()
        model.type = .f64
        try model.write(to: scratch("m"))
        try model.writeAdapter(to: scratch("a"), modules: [("model.layers.0.self_attn.q_proj", 4)])
        #expect(throws: FineTuningError.self) {
            try mergeModel(model: scratch("m"), adapter: scratch("a"), output: scratch("o"), pool: pool)
        }
        #expect(scratch.names == ["a", "m"])
    }
    @Test(arguments: ["use_dora", "use_qalora"]) func whatIsNotComputedIsRefused(key: String) throws {
        let model = TinyModel()
        try model.write(to: scratch("m"))
        try model.writeAdapter(
            to: scratch("a"), modules: [("model.layers.0.self_attn.q_proj", 4)], extra: JSONObject([(key, true)]))
        #expect(throws: FineTuningError.self) {
            try mergeModel(model: scratch("m"), adapter: scratch("a"), output: scratch("o"), pool: pool)
        }
    }
    @Test func stoppingLeavesNothing() throws {
        struct Stop: Error {}
        try TinyModel().write(to: scratch("m"))
        #expect(throws: Stop.self) {
            try mergeModel(model: scratch("m"), adapter: nil, output: scratch("o"), pool: pool) { done, _ in
                if done > 2000 { throw Stop() }
            }
        }
        #expect(scratch.names == ["m"])
    }
    /// What PEFT's own merge gives.
    @Test(arguments: [
        "llama2-untied", "llama3-tied", "llama-headdim-bias", "llama-yarn", "llama-linear", "mistral-sliding", "qwen2",
    ])
    func mergedFixtures(family: String) throws {
        let folder = fixturesFolder + "/" + family
        _ = try mergeModel(model: folder, adapter: folder + "/adapter", output: scratch("o"), pool: pool)
        let expected = try SafetensorsFile(path: folder + "/expected.safetensors")
        var count = 0
        for entry in expected.entries where entry.name.hasPrefix("merged.") {
            let merged = try values(scratch("o"), String(entry.name.dropFirst("merged.".count)))
            #expect(largestDifference(merged, expected.floats(of: entry)) < 1e-6, "\(entry.name)")
            count += 1
        }
        #expect(count > 0)
    }
}
