import FileFormats
import Foundation
import TensorCore
import Testing

@testable import FineTuning

/// Bases whose matrices, those of experts among them, are kept in fewer bits.
@Suite struct QuantizedBaseTests {
    let pool = WorkerPool(threads: 2)
    static let root =
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path + "/Fixtures/"

    /// The model that computes with what the bits stand for is the same, and so are its gradients: every matrix of
    /// experts, one by one, stacked or transposed, is decoded where it is used.
    @Test(
        arguments: ["llama2-untied", "mixtral", "mixtral-experts", "deepseek-v3", "qwen2-moe", "qwen3-moe", "gpt-oss"],
        [BaseQuantization.nf4, .int8])
    func equalsWhatItsBitsStandFor(name: String, quantization: BaseQuantization) throws {
        let fixture = try Fixture(Self.root + name)
        let small = try DecoderModel(folder: fixture.folder, dtype: .f32, quantization: quantization, pool: pool)
        let kept = quantization.parameters(small.config)
        let weights = Dictionary(uniqueKeysWithValues: small.weights.map { ($0.name, $0) })
        #expect(!kept.isEmpty)
        #expect(kept.allSatisfy { weights[$0.name]?.quantized != nil })
        if quantization == .nf4, small.config.mixture != nil {
            #expect(kept.contains { $0.name.contains("experts") })
        }
        let plain = try DecoderModel(config: small.config, dtype: .f32, tensor: { weights[$0.name]!.floats })
        func run(_ model: DecoderModel) throws -> (logits: [Float], losses: [Double]) {
            let logits = model.logits(fixture.batch, pool: pool).floats()
            let config = AdapterConfig(rank: 4, alpha: 8, dropout: 0, targets: .allLinear, baseModel: nil)
            try model.attachNewAdapters(config, seed: 5)
            let optimizer = AdamW(model.trainableWeights)
            return (
                logits,
                (0..<3).map { _ in
                    let tape = Tape(pool: pool, recording: true)
                    let losses = model.losses(tape, fixture.batch)
                    tape.backward()
                    optimizer.apply(learningRate: 1e-2, gradientScale: 1 / Double(losses.count), pool: pool)
                    model.refreshWeights(pool)
                    return losses.reduce(0, +) / Double(losses.count)
                }
            )
        }
        let (found, expected) = try (run(small), run(plain))
        #expect(largestDifference(found.logits, expected.logits) < 1e-5)
        for (a, b) in zip(found.losses, expected.losses) { #expect(abs(a - b) < 1e-5) }
    }

    /// What the bits stand for is near what they came from, in each matrix's own place.
    @Test(arguments: ["gpt-oss", "mixtral", "qwen3-moe"])
    func staysNearTheOriginal(name: String) throws {
        let folder = Self.root + name
        let plain = try DecoderModel(folder: folder, dtype: .f32)
        let small = try DecoderModel(folder: folder, dtype: .f32, quantization: .nf4, pool: pool)
        for (a, b) in zip(plain.weights, small.weights) where b.quantized != nil {
            let (values, found) = (a.floats.floats(), b.floats.floats())
            let error = zip(values, found).reduce(0.0) { $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)) }
            let size = values.reduce(0.0) { $0 + Double($1 * $1) }
            #expect((error / size).squareRoot() < 0.15, "\(a.name)")
        }
    }

    /// What a plan counts for the base is what its weights take.
    @Test(arguments: ["mixtral", "gpt-oss", "llama2-untied"])
    func planCountsQuantisedWeightsWhole(name: String) throws {
        let model = try DecoderModel(folder: Self.root + name, dtype: .f32, quantization: .nf4, pool: pool)
        let taken = model.weights.reduce(0) { $0 + ($1.quantized?.byteCount ?? $1.shape.reduce(1, *) * 4) }
        let plan = MemoryPlan(model.config, dtype: .f32, trainableCount: 0, threads: 1, quantization: .nf4)
        #expect(abs(plan.weightBytes - taken) < taken / 20)
    }

    /// Few processors do not change what is chosen, many get rows enough to share, and a budget comes before both.
    @Test func microbatchesGrowWithTheProcessors() throws {
        let model = try DecoderModel(folder: Self.root + "llama2-untied", dtype: .f32)
        var plan = MemoryPlan(model.config, dtype: .f32, trainableCount: 0, threads: 1)
        plan.blockBytesPerToken = 8 << 20
        func tokens(_ processors: Int, budget: Int = 1 << 40) -> Int {
            plan.choice(budget: budget, longest: 100, processors: processors).microbatchTokens
        }
        #expect([1, 2, 4, 16, 24, 128].map { tokens($0) } == [512, 512, 512, 2048, 3072, 4096])
        let budget = plan.peakBytes(microbatchTokens: 1024, recomputed: 0)
        #expect(tokens(2, budget: budget) == 512 && tokens(16, budget: budget) == 1024)
    }

    @Test func planCountsWhatDoRAKeepsAndMicrobatchesAsTheyAreCut() throws {
        let model = try DecoderModel(folder: Self.root + "llama2-untied", dtype: .f32)
        var config = AdapterConfig(
            rank: 4, alpha: 8, dropout: 0, targets: .names(["q_proj", "up_proj"]), baseModel: nil)
        config.usesDoRA = true
        var plan = MemoryPlan(model.config, dtype: .f32, trainableCount: 0, threads: 1)
        let before = plan.blockBytesPerToken
        plan.add(magnitudesOf: model.plan(config).updates, dtype: .f32)
        #expect(plan.blockBytesPerToken - before == 4 * (model.config.hiddenSize + model.config.intermediateSize))

        var settings = TrainerSettings(
            totalSteps: 1, batchSize: 5, microbatchTokens: 100,
            schedule: LearningRateSchedule(shape: .constant, peak: 0, warmupSteps: 0, totalSteps: 1))
        settings.shuffles = false
        // Three parts of at most 100: 40 + 40, 60 + 30, 70.
        let sizes = settings.microbatchSizes([40, 40, 60, 30, 70])
        #expect(sizes.smallest == 70 && sizes.largest == 90)
        #expect(settings.microbatchSizes([40, 40, 250, 30, 70, 900]).largest == 250)
        // A second of 100 million parameters' forward passes; then a share of the run, whose rows are twice as long.
        func rows(_ steps: Int) -> Int {
            settings.totalSteps = steps
            return settings.affordableEvalRows(trainTokens: 200, evalTokens: 100, batchRows: 5, parameters: 100_000_000)
        }
        #expect(rows(1) == 10 && rows(1000) == 150)
        settings.totalSteps = 2
        #expect(settings.microbatchSizes([40, 40, 250, 30, 70, 900]).largest == 900)
    }
}
