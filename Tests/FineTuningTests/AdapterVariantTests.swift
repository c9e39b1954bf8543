import FileFormats
import Foundation
import TensorCore
import Testing
import TextData

@testable import FineTuning

/// PEFT's adapters of every kind on this repository's models: `expected.safetensors` has the logits of row 1, and the
/// losses of ten AdamW steps (learning rate 1e-2, weight decay 0.01) on the model's batch.
@Suite struct AdapterVariantTests {
    let pool = WorkerPool(threads: 2)

    static let root =
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path + "/Fixtures"
    static let names = ((try? FileManager.default.contentsOfDirectory(atPath: root + "/adapters")) ?? []).sorted()

    private func base(_ name: String) throws -> String {
        let config = try JSONParser.parse(readFile("\(Self.root)/adapters/\(name)/adapter_config.json", limit: 1 << 20))
        return Self.root + "/" + (config["base_model_name_or_path"]?.stringValue ?? "")
    }

    private func losses(_ model: DecoderModel, _ fixture: Fixture, steps: Int) -> [Double] {
        var options = AdamW.Options()
        options.weightDecay = 0.01
        let optimizer = AdamW(model.trainableWeights, options)
        return (0..<steps).map { _ in
            let tape = Tape(pool: pool, recording: true)
            let losses = model.losses(tape, fixture.batch)
            tape.backward()
            optimizer.apply(learningRate: 1e-2, gradientScale: 1 / Double(losses.count), pool: pool)
            model.refreshWeights(pool)
            return losses.reduce(0, +) / Double(losses.count)
        }
    }

    @Test func fixturesExist() { #expect(Self.names.count >= 10) }

    @Test(arguments: names)
    func logitsAndTenStepsEqualPEFT(name: String) throws {
        let folder = "\(Self.root)/adapters/\(name)"
        let fixture = try Fixture(base(name))
        let expected = try SafetensorsFile(path: folder + "/expected.safetensors")
        let logits = expected.floats(of: try #require(expected.entry(named: "logits")))
        let losses = expected.floats(of: try #require(expected.entry(named: "train.loss")))
        let model = try DecoderModel(folder: fixture.folder, dtype: .f32)
        let plain = model.logits(fixture.batch, pool: pool).floats()
        try model.attachAdapter(folder: folder)
        let second = fixture.batch.segmentStarts[1]
        let width = model.config.vocabularySize
        let found = model.logits(fixture.batch, pool: pool).floats()
        #expect(largestDifference(Array(found[(second * width)...]), logits) < 1e-4)
        let steps = self.losses(model, fixture, steps: 10)
        #expect(zip(steps, losses).allSatisfy { abs($0 - Double($1)) < 1e-4 })
        model.detachAdapters()
        #expect(model.logits(fixture.batch, pool: pool).floats() == plain)
    }

    /// What is written loads again, and does the same; the configuration is PEFT's to the byte.
    @Test(arguments: names.filter { !$0.hasSuffix("pissa") && !$0.hasSuffix("olora") })
    func writtenAsPEFTWrites(name: String) throws {
        let folder = "\(Self.root)/adapters/\(name)"
        let fixture = try Fixture(base(name))
        let output = NSTemporaryDirectory() + "graft-tests-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: output, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: output) }
        let model = try DecoderModel(folder: fixture.folder, dtype: .f32)
        let config = try model.attachAdapter(folder: folder)
        let before = model.logits(fixture.batch, pool: pool).floats()
        try AdapterFile.write(model, config: config, into: output)
        #expect(
            try readFile(output + "/adapter_config.json", limit: 1 << 20)
                == readFile(folder + "/adapter_config.json", limit: 1 << 20))
        let again = try DecoderModel(folder: fixture.folder, dtype: .f32)
        try again.attachAdapter(folder: output)
        #expect(again.logits(fixture.batch, pool: pool).floats() == before)
    }

    private func config(_ options: [(String, JSONValue)], rank: Int = 4) throws -> AdapterConfig {
        var problems: [String] = []
        let start: [(key: String, value: JSONValue)] = [
            ("peft_type", "LORA"), ("r", .integer(rank)), ("lora_alpha", 8), ("target_modules", "all-linear"),
        ]
        let config = AdapterConfig(
            json: JSONObject(start + options.map { (key: $0.0, value: $0.1) }), problems: &problems)
        #expect(problems.isEmpty)
        return config
    }

    /// New adapters leave the model as it is, but for the one that is meant not to.
    @Test(arguments: ["true", "gaussian", "orthogonal", "pissa", "olora"], [false, true])
    func newAdaptersChangeNothing(initialization: String, isDoRA: Bool) throws {
        let fixture = try Fixture(Self.root + "/llama2-untied")
        let model = try DecoderModel(folder: fixture.folder, dtype: .f32)
        let before = model.logits(fixture.batch, pool: pool).floats()
        let value: JSONValue = initialization == "true" ? true : .string(initialization)
        try model.attachNewAdapters(
            try config([("init_lora_weights", value), ("use_dora", .bool(isDoRA))]), seed: 3, pool: pool)
        #expect(largestDifference(model.logits(fixture.batch, pool: pool).floats(), before) < 2e-5)
        let steps = losses(model, fixture, steps: 4)
        #expect(steps[3] < steps[0] - 0.05)
    }

    /// What started as a part of the base, written as a plain LoRA of twice the rank, does to the unchanged base what
    /// training did.
    @Test(arguments: ["pissa", "olora"], [false, true])
    func partsOfTheBaseConvertBack(initialization: String, isRankStabilised: Bool) throws {
        let fixture = try Fixture(Self.root + "/qwen2")
        let output = NSTemporaryDirectory() + "graft-tests-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: output, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: output) }
        let model = try DecoderModel(folder: fixture.folder, dtype: .f32)
        let config = try config([
            ("init_lora_weights", .string(initialization)), ("use_rslora", .bool(isRankStabilised)),
        ])
        try model.attachNewAdapters(config, seed: 1, pool: pool)
        _ = losses(model, fixture, steps: 5)
        try AdapterFile.write(model, config: config, into: output)
        let again = try DecoderModel(folder: fixture.folder, dtype: .f32)
        let written = try again.attachAdapter(folder: output)
        #expect(written.rank == 8 && written.initialization == .standard)
        let difference = largestDifference(
            again.logits(fixture.batch, pool: pool).floats(), model.logits(fixture.batch, pool: pool).floats())
        #expect(difference < 1e-4)
    }

    @Test func namesThatNothingHasAreMistakes() throws {
        let model = try DecoderModel(folder: Self.root + "/llama2-untied", dtype: .f32)
        let bad = try config([
            ("modules_to_save", ["lm_haed"]), ("trainable_token_indices", ["embed_tokens": [3, 9999]]),
            ("layers_to_transform", [7]),
        ])
        do {
            try model.attachNewAdapters(bad, seed: 0)
            Issue.record("unknown names were accepted")
        } catch FineTuningError.badRecipe(let problems) {
            #expect(problems.count == 3)
            #expect(problems.contains { $0.contains("did you mean 'lm_head'?") })
        }
    }

    @Test func rulesOfPEFT() {
        for options: [(key: String, value: JSONValue)] in [
            [("target_modules", ".*q_proj"), ("layers_to_transform", [0])],
            [("target_modules", ["q_proj"]), ("layers_pattern", "layers")],
            [("target_modules", ["q_proj"]), ("bias", "some")],
            [("target_modules", ["q_proj"]), ("use_dora", true), ("lora_bias", true)],
            [("target_modules", ["q_proj"]), ("init_lora_weights", "corda")],
            [("target_modules", ["q_proj"]), ("init_lora_weights", "loftq"), ("loftq_config", ["loftq_bits": 4])],
            [("target_modules", ["q_proj"]), ("rank_pattern", ["q_proj": -1])],
            [
                ("target_modules", ["q_proj"]), ("modules_to_save", ["embed_tokens"]),
                ("trainable_token_indices", ["embed_tokens": [1]]),
            ],
        ] {
            var problems: [String] = []
            let start: [(key: String, value: JSONValue)] = [("peft_type", "LORA"), ("r", 4), ("lora_alpha", 8)]
            _ = AdapterConfig(json: JSONObject(start + options), problems: &problems)
            #expect(problems.count == 1, "\(options): \(problems)")
        }
    }

    @Test func loraPlusGroups() {
        let plus = LoRAPlus(ratio: 16, embeddingFactor: 0.5)
        #expect(plus.group(name: "base_model.model.x.lora_A.weight", dimensions: 2).rateFactor == 1)
        #expect(plus.group(name: "base_model.model.x.lora_B.weight", dimensions: 2).rateFactor == 16)
        #expect(plus.group(name: "base_model.model.x.lora_magnitude_vector", dimensions: 1).rateFactor == 16)
        #expect(
            plus.group(name: "base_model.model.model.embed_tokens.lora_embedding_A", dimensions: 2).rateFactor == 0.5)
        #expect(plus.group(name: "base_model.model.x.base_layer.bias", dimensions: 1).weightDecay == 0)
    }

    @Test func incrementalPCAFindsDirections() {
        let random = CounterRNG(5)
        let width = 6
        var analysis = IncrementalPCA(count: 2)
        for batch in 0..<3 {
            let values = (0..<40 * width).map { i -> Float in
                let row = UInt64(batch * 40 + i / width)
                let column = i % width
                let noise = Float(random.normal(1000 + UInt64(batch * 40 * width + i))) * 0.01
                return column == 1
                    ? Float(random.normal(row)) * 5 + 3 : column == 4 ? Float(random.normal(500 + row)) + noise : noise
            }
            analysis.add(Tensor([40, width], values: values))
        }
        let components = analysis.components!.floats()
        #expect(components[1] > 0.99 && components[width + 4] > 0.99)
        #expect(analysis.explainedRatio[0] > 0.9 && analysis.explainedRatio.reduce(0, +) > 0.99)
    }
}
