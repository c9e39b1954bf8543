import FileFormats
import FineTuning
import Foundation
import TensorCore
import Testing

@testable import Export

@Suite struct GGUFModelTests {
    let scratch = Scratch()
    let pool = WorkerPool(threads: 1)

    @Test(arguments: ["llama", "mistral", "qwen2"], [false, true]) func parametersComeBack(family: String, isTied: Bool)
        throws
    {
        var model = TinyModel(hidden: 32)
        model.family = family
        model.isTied = isTied
        try model.write(to: scratch("m"))
        for type in [GGUFOutputType.f32, .f16, .bf16, .q8_0] {
            _ = try exportGGUF(model: scratch("m"), output: scratch("o"), type: type, pool: pool, replacing: true)
            let read = try GGUFModel(path: scratch("o"))
            let original = try ModelConfig(path: scratch("m"))
            #expect(read.config.family == (family == "qwen2" ? .qwen2 : .llama) && read.config.tiesEmbeddings == isTied)
            #expect(read.config.headDim == original.headDim && read.config.rmsNormEps == original.rmsNormEps)
            let tolerance: Float = type == .f32 ? 0 : type == .q8_0 ? 0.005 : type == .f16 ? 0.0005 : 0.004
            for parameter in ParameterTable(read.config).parameters {
                let found = read.tensor(parameter).floats()
                let expected = try values(scratch("m"), parameter.name)
                #expect(largestDifference(found, expected) <= tolerance, "\(parameter.name) \(type)")
            }
        }
    }
    @Test(
        arguments: [
            ["rope_type": "linear", "factor": 3.0],
            ["rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "attention_factor": 1.25],
            [
                "rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32, "beta_fast": 16.0,
                "beta_slow": 2.0,
            ],
            [
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            ],
            [
                "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            ],
            [
                "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 2.0, "high_freq_factor": 3.0,
                "original_max_position_embeddings": 100,
            ],
        ] as [JSONValue], [32, 128])
    func rotaryEmbeddingComesBack(scaling: JSONValue, hidden: Int) throws {
        for theta in [10_000.0, 500_000] {
            var model = TinyModel(hidden: hidden, layers: 1, heads: 1, keyValueHeads: 1)
            model.extraConfig = JSONObject([("rope_scaling", scaling), ("rope_theta", .double(theta))])
            try? FileManager.default.removeItem(atPath: scratch("m"))
            try model.write(to: scratch("m"))
            _ = try exportGGUF(model: scratch("m"), output: scratch("o"), type: .f32, pool: pool, replacing: true)
            let read = try GGUFModel(path: scratch("o")).config.rotaries[0]
            let original = try ModelConfig(path: scratch("m")).rotaries[0]
            for (a, b) in zip(read.inverseFrequencies(), original.inverseFrequencies()) {
                #expect(abs(a / b - 1) < 2e-3)
            }
            #expect(abs(read.attentionFactor - original.attentionFactor) < 1e-6)
        }
    }
    @Test("YaRN with rounded bounds comes back in the family whose files have none", arguments: [true, false])
    func roundedYarn(truncates: Bool) throws {
        let read = try export("gpt-oss") { config in
            config["rope_parameters"] = [
                "rope_type": "yarn", "rope_theta": 10_000, "factor": 4, "original_max_position_embeddings": 32,
                "truncate": .bool(truncates),
            ]
        }
        guard case .yarn(_, _, _, _, _, let found) = read.config.rotaries[0].scaling else {
            Issue.record()
            return
        }
        #expect(found == truncates)
    }
    @Test("a tied head is written where llama.cpp wants one in the file", arguments: ["olmo2", "qwen2-moe", "gpt-oss"])
    func tiedHead(fixture: String) throws {
        let read = try export(fixture) { $0["tie_word_embeddings"] = true }
        #expect(!read.config.tiesEmbeddings)
        let embedding = try #require(read.file.tensor(named: "token_embd.weight"))
        let head = try #require(read.file.tensor(named: "output.weight"))
        #expect(head.shape == embedding.shape)
        #expect(read.file.withBytes(of: head).elementsEqual(read.file.withBytes(of: embedding)))
        // The gate takes the file, and none whose head is another's.
        let gate = ParityGate(pool: pool)
        for isTied in [true, false] {
            let body = {
                try gate.passing(output: scratch("g"), model: scratch("m"), adapters: []) { path in
                    let source = isTied ? scratch("m") : fixturesFolder + "/" + fixture
                    return try exportGGUF(model: source, output: path, type: .q8_0, pool: pool)
                }
            }
            if isTied { _ = try body() } else { #expect(throws: ParityError.self) { _ = try body() } }
            try? FileManager.default.removeItem(atPath: scratch("g"))
        }
    }
    /// A fixture with another configuration, exported in f32 and read again.
    private func export(_ fixture: String, _ change: (inout JSONObject) -> Void) throws -> GGUFModel {
        let source = fixturesFolder + "/" + fixture
        let bytes = Array(try Data(contentsOf: URL(filePath: source + "/config.json")))
        var config = try #require(try JSONParser.parse(bytes).objectValue)
        change(&config)
        try? FileManager.default.removeItem(atPath: scratch("m"))
        try FileManager.default.createDirectory(atPath: scratch("m"), withIntermediateDirectories: true)
        try AtomicFile.write(JSONWriter.bytes(.object(config)), to: scratch("m/config.json"))
        let weights = try SafetensorsFile(path: source + "/model.safetensors")
        let isTied = config["tie_word_embeddings"]?.boolValue == true
        let entries = weights.entries.filter { !isTied || $0.name != "lm_head.weight" }
        let writer = try SafetensorsWriter(
            path: scratch("m/model.safetensors"),
            tensors: entries.map { .init(name: $0.name, type: $0.type, shape: $0.shape) })
        for entry in entries { try writer.append(weights.floats(of: entry), to: entry.name) }
        try writer.finish()
        _ = try exportGGUF(model: scratch("m"), output: scratch("o"), type: .f32, pool: pool, replacing: true)
        return try GGUFModel(path: scratch("o"))
    }
    @Test func whatCannotBeRunIsListed() throws {
        let tensors: [GGUFWriter.Declaration] = [.init(name: "token_embd.weight", type: .q4_0, shape: [4, 32])]
        func write(_ metadata: [(key: String, value: GGUFValue)]) throws {
            let writer = try GGUFWriter(path: scratch("o"), metadata: metadata, tensors: tensors, replacing: true)
            try writer.append([UInt8](repeating: 0, count: 72), to: "token_embd.weight")
            try writer.finish()
        }
        try write([("general.architecture", .string("mamba"))])
        #expect(throws: ExportError.self) { try GGUFModel(path: scratch("o")) }
        #expect(try GGUFModel.ifRun(path: scratch("o")).reason?.contains("mamba") == true)
        try write([
            ("general.architecture", .string("llama")), ("llama.embedding_length", .uint32(32)),
            ("llama.feed_forward_length", .uint32(32)), ("llama.block_count", .uint32(1)),
            ("llama.attention.head_count", .uint32(4)), ("llama.context_length", .uint32(64)),
        ])
        do {
            _ = try GGUFModel(path: scratch("o"))
            Issue.record("a file without tensors was read")
        } catch ExportError.damaged(_, let problems) {
            #expect(problems.count == 10 && problems.allSatisfy { $0.contains("missing") })
        }
        // A vocabulary alone is whole.
        let metadata = try GGUFFile(path: scratch("o")).metadata
        try GGUFWriter(path: scratch("v"), metadata: metadata, tensors: []).finish()
        #expect(try GGUFModel.ifRun(path: scratch("v")).reason?.contains("no tensors") == true)
    }
    @Test(
        .enabled(if: Shared.exists(Shared.conformance), "the conformance data are not there"),
        arguments: ["f32", "f16", "q8_0"])
    func realFile(name: String) throws {
        let read = try GGUFModel(path: Shared.conformance + "/models/gguf/stories260K-\(name).gguf")
        for parameter in ParameterTable(read.config).parameters {
            let expected = try values(Shared.conformance + "/models/stories260K", parameter.name)
            let scale = expected.reduce(0) { max($0, abs($1)) }
            let difference = largestDifference(read.tensor(parameter).floats(), expected)
            #expect(difference <= (name == "f32" ? 0 : name == "f16" ? 0.0005 : 0.005) * scale, "\(parameter.name)")
        }
    }
}
