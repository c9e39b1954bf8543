import FileFormats
import Foundation
import TensorCore
import TextData
import Testing

@testable import FineTuning

/// Updates of routed experts: their layout in files, and what those cost that no token comes to.
@Suite struct ExpertAdapterTests {
    let pool = WorkerPool(threads: 2)

    @Test func stackedLayout() {
        // Two experts, rank 2: A has the experts' rows in turn, B their columns interleaved.
        let a = (0..<2).map { Tensor([2, 1], values: [Float(10 * $0), Float(10 * $0 + 1)]) }
        let b = (0..<2).map { e in Tensor([2, 2], values: [0, 1, 2, 3].map { Float(10 * e + $0) }) }
        let (allA, allB) = (StackedExperts.a(a), StackedExperts.b(b))
        #expect(allA.shape == [4, 1] && allA.floats() == [0, 1, 10, 11])
        #expect(allB.shape == [2, 4] && allB.floats() == [0, 10, 1, 11, 2, 12, 3, 13])
        for expert in 0..<2 {
            #expect(StackedExperts.a(allA, expert: expert, of: 2).floats() == a[expert].floats())
            #expect(StackedExperts.b(allB, expert: expert, of: 2).floats() == b[expert].floats())
        }
    }

    private func model(_ name: String, _ initialization: AdapterConfig.Initialization) throws -> DecoderModel {
        let model = try DecoderModel(folder: AdapterVariantTests.root + "/" + name, dtype: .f32)
        var config = AdapterConfig(rank: 4, alpha: 8, dropout: 0, targets: .allLinear, baseModel: nil)
        config.initialization = initialization
        // Its experts are parameters, which "all linear" leaves out.
        if name.hasPrefix("gpt-oss") {
            config.targetParameters = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
        }
        try model.attachNewAdapters(config, seed: 3)
        let stacks = model.attached!.plan.updates.contains { $0.site.expertCount > 1 }
        #expect(stacks == name.hasPrefix("gpt-oss"))
        return model
    }

    /// One optimiser step on two tokens, which two of the four experts of a layer can take.
    private func step(_ model: DecoderModel, _ optimizer: AdamW) {
        var batch = PackedBatch()
        batch.append(TokenizedExample(ids: [5, 5], isTrained: [true, true]))
        let tape = Tape(pool: pool, recording: true)
        _ = model.losses(tape, batch)
        tape.backward()
        optimizer.apply(learningRate: 1e-2, gradientScale: 1, pool: pool)
        model.refreshWeights(pool)
    }

    private func bytes(_ model: DecoderModel) -> [ByteString: [Float]] {
        Dictionary(
            uniqueKeysWithValues: AdapterFile.tensors(of: model, model.attached!.plan).map {
                (ByteString($0.key), $0.values().floats())
            })
    }

    /// Experts that no token comes to have no values, and are saved as if they had.
    @Test(
        arguments: ["mixtral-experts", "gpt-oss-experts", "deepseek-v3-experts"],
        [AdapterConfig.Initialization.standard, .random])
    func idleExpertsHaveNoValues(name: String, initialization: AdapterConfig.Initialization) throws {
        let model = try model(name, initialization), full = try self.model(name, initialization)
        #expect(bytes(model) == bytes(full))
        full.trainableWeights.forEach { $0.make() }
        full.refreshWeights(pool)
        let (optimizer, other) = (AdamW(model.trainableWeights), AdamW(full.trainableWeights))
        for _ in 0..<2 {
            step(model, optimizer)
            step(full, other)
        }
        let idle = model.trainableWeights.filter { !$0.isMade }.count
        #expect(idle > 0 && idle < model.trainableWeights.count)
        #expect(bytes(model) == bytes(full))
    }

    /// What is told of a model beforehand is what a new adapter trains.
    @Test(arguments: fixtureFolders)
    func targetsAreThoseOfNewAdapters(folder: String) throws {
        let model = try DecoderModel(folder: folder, dtype: .f32), targets = model.config.adapterTargets
        try model.attachNewAdapters(
            AdapterConfig(rank: 1, alpha: 1, dropout: 0, targets: .allLinear, baseModel: nil), seed: 1)
        #expect(targets.allLinear.reduce(0) { $0 + $1.count } == model.updateCount)
        #expect(targets.width == model.trainableWeights.reduce(0) { $0 + $1.shape.reduce(1, *) })
    }

    private func isIdle(_ model: DecoderModel) -> Bool { model.trainableWeights.contains { !$0.isMade } }

    /// Matrices that are stored in another type are converted when a token comes to their expert.
    @Test(arguments: ["mixtral-experts", "gpt-oss-experts", "deepseek-v3-experts"])
    func idleExpertsAreNotConverted(name: String) throws {
        let folder = AdapterVariantTests.root + "/" + name
        let model = try DecoderModel(folder: folder, dtype: .bf16)
        let full = try DecoderModel(folder: folder, dtype: .bf16)
        full.weights.forEach { $0.make() }
        let few = model.logits(tokens: [5, 5], pool: pool).floats()
        let missing = model.weights.contains { !$0.isMade }
        #expect(missing && few == full.logits(tokens: [5, 5], pool: pool).floats())
        let all = (3..<60).map { Int32($0) }
        #expect(model.logits(tokens: all, pool: pool).floats() == full.logits(tokens: all, pool: pool).floats())
    }

    /// An update of all experts and updates of single ones go together, in any order.
    @Test func stackedAndSingleUpdatesAddUp() throws {
        let base = AdapterVariantTests.root + "/mixtral-experts", tokens = (3..<40).map { Int32($0) }
        let root = NSTemporaryDirectory() + "graft-tests-" + UUID().uuidString
        defer { try? FileManager.default.removeItem(atPath: root) }
        var folders: [(path: String, weight: Double)] = []
        for (name, isStacked) in [("stacked", true), ("single", false)] {
            let model = try DecoderModel(folder: base, dtype: .f32)
            var config = AdapterConfig(
                rank: 4, alpha: 8, dropout: 0, targets: .names(["w1", "w2", "w3"]), baseModel: nil)
            if isStacked {
                config.targets = .names([])
                config.targetParameters = ["experts.gate_up_proj", "experts.down_proj"]
            }
            config.initialization = .random
            try model.attachNewAdapters(config, seed: 4)
            #expect(model.attached!.plan.updates.allSatisfy { ($0.site.expertCount > 1) == isStacked })
            try FileManager.default.createDirectory(atPath: root + "/" + name, withIntermediateDirectories: true)
            try AdapterFile.write(model, config: config, into: root + "/" + name)
            folders.append((root + "/" + name, 1))
        }
        func logits(_ folders: [(path: String, weight: Double)]) throws -> [Float] {
            let model = try DecoderModel(folder: base, dtype: .f32)
            try model.attachAdapters(folders)
            return model.logits(tokens: tokens, pool: pool).floats()
        }
        let both = try logits(folders)
        #expect(largestDifference(both, try logits(folders.reversed())) < 1e-5)
        for folder in folders { #expect(largestDifference(both, try logits([folder])) > 1e-3) }
    }

    /// PEFT would not load these.
    @Test(
        arguments: [
            (["w1"], []), (["w2", "w3"], []), (["w2"], ["experts.gate_up_proj"]),
            (["w1", "w2", "w3"], ["experts.down_proj"]),
        ] as [([String], [String])])
    func partialExpertsAreRefused(names: [String], parameters: [String]) throws {
        let model = try DecoderModel(folder: AdapterVariantTests.root + "/mixtral-experts", dtype: .f32)
        var config = AdapterConfig(rank: 4, alpha: 8, dropout: 0, targets: .names(names), baseModel: nil)
        config.targetParameters = parameters
        #expect(throws: FineTuningError.self) { try model.attachNewAdapters(config, seed: 1) }
        config.targets = .names(["w1", "w2", "w3"])
        config.targetParameters = []
        config.rankPattern = [("w3", 8)]
        #expect(throws: FineTuningError.self) { try model.attachNewAdapters(config, seed: 1) }
        config.rankPattern = []
        try model.attachNewAdapters(config, seed: 1)
    }

    /// What decays changes even without tokens.
    @Test func decayMakesAll() throws {
        let model = try model("mixtral-experts", .standard)
        #expect(isIdle(model))
        var options = AdamW.Options()
        options.weightDecay = 0.01
        _ = AdamW(model.trainableWeights, options)
        #expect(!isIdle(model))
    }
}
