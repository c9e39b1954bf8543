import FileFormats
import FineTuning
import Foundation
import TensorCore
import Testing

@testable import Export

@Suite struct AdapterObjectTests {
    let scratch = Scratch()
    let pool = WorkerPool(threads: 2)
    private let module = "model.layers.0.self_attn.q_proj"

    private func adapter(_ name: String, rank: Int = 4, alpha: Int = 8, seed: UInt64) throws -> String {
        try TinyModel().writeAdapter(to: scratch(name), modules: [(module, rank)], alpha: alpha, seed: seed)
        return scratch(name)
    }

    private func combine(
        _ method: AdapterCombination.Method, _ uses: [(path: String, weight: Double)], density: Double = 1
    ) throws -> [Float] {
        let output = scratch(UUID().uuidString)
        try AdapterCombination(method: method, density: density).write(uses, to: output, pool: pool)
        return try delta(output, module, scale: 1)
    }

    @Test func exactCombinations() throws {
        let a = try adapter("a", seed: 1)
        let b = try adapter("b", rank: 3, alpha: 6, seed: 2)
        let expected = zip(try delta(a, module, scale: 2), try delta(b, module, scale: 2)).map { 0.5 * $0 - 2 * $1 }
        for method in [AdapterCombination.Method.cat, .svd] {
            let output = scratch(method.rawValue)
            try AdapterCombination(method: method, rank: 7).write([(a, 0.5), (b, -2)], to: output, pool: pool)
            #expect(largestDifference(try delta(output, module, scale: 1), expected) < 2e-5)
            #expect(try AdapterObject(folder: output).pairs[0].rank == 7)
        }
    }

    /// By the definitions, on A and B each for itself.
    @Test func tiesByDefinition() throws {
        let a = try adapter("a", seed: 1)
        let b = try adapter("b", seed: 2)
        func matrices(_ folder: String) throws -> [[Float]] {
            let object = try AdapterObject(folder: folder)
            return [object.a(object.pairs[0]).floats(), object.b(object.pairs[0]).floats()]
        }
        let (first, second) = (try matrices(a), try matrices(b))
        let output = scratch("ties")
        try AdapterCombination(method: .ties, density: 0.5).write([(a, 1), (b, 0.25)], to: output, pool: pool)
        let found = try matrices(output)
        for side in 0..<2 {
            func pruned(_ values: [Float]) -> [Float] {
                let limit = values.map { abs($0) }.sorted(by: >)[values.count / 2 - 1]
                return values.map { abs($0) >= limit ? $0 : 0 }
            }
            let (x, y) = (pruned(first[side]), pruned(second[side]))
            let weights = [Float(2).squareRoot(), Float(0.5).squareRoot()]
            let expected = zip(x, y).map { x, y -> Float in
                let sign: Float = x + y >= 0 ? 1 : -1
                let agreeing = [(x, weights[0]), (y, weights[1])].filter { $0.0 * sign > 0 }
                return agreeing.reduce(0) { $0 + $1.0 * $1.1 } / Float(max(1, agreeing.count))
            }
            #expect(largestDifference(found[side], expected) < 1e-6)
        }
    }

    @Test func pruningIsRepeatable() throws {
        let a = try adapter("a", seed: 1)
        let b = try adapter("b", seed: 2)
        let once = try combine(.dareLinear, [(a, 1), (b, 1)], density: 0.5)
        #expect(try combine(.dareLinear, [(a, 1), (b, 1)], density: 0.5) == once)
        #expect(try combine(.dareLinear, [(a, 1), (b, 1)]) != once)
    }

    @Test func resizingIsTheBestOfItsRank() throws {
        let a = try adapter("a", rank: 4, seed: 3)
        let whole = try delta(a, module, scale: 2)
        var last = Double.infinity
        for rank in 1...4 {
            let output = scratch("r\(rank)")
            let errors = try resizeAdapter(a, rank: rank, to: output)
            let cut = try delta(output, module, scale: 1)
            let lost = zip(cut, whole).reduce(0.0) { $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)) }
            let norm = whole.reduce(0.0) { $0 + Double($1 * $1) }
            #expect(abs(errors.relative - (lost / norm).squareRoot()) < 1e-4)
            #expect(errors.relative < last)
            last = errors.relative
        }
        #expect(last < 1e-4)
    }

    @Test func extractionFindsWhatWasMerged() throws {
        let model = TinyModel()
        try model.write(to: scratch("m"))
        let a = try adapter("a", seed: 5)
        _ = try mergeModel(model: scratch("m"), adapter: a, output: scratch("t"), pool: pool)
        let report = try extractAdapter(base: scratch("m"), tuned: scratch("t"), rank: 4, to: scratch("x"))
        #expect(report.errors.count == 1 && report.errors.relative < 1e-3 && report.leftOut.isEmpty)
        #expect(largestDifference(try delta(scratch("x"), module, scale: 1), try delta(a, module, scale: 2)) < 1e-5)
    }

    @Test func otherFormsAndBack() throws {
        try TinyModel().write(to: scratch("m"))
        let a = try adapter("a", seed: 6)
        let expected = try delta(a, module, scale: 2)
        try MLXAdapter.write(a, to: scratch("mlx"))
        try MLXAdapter.convert(scratch("mlx"), model: nil, to: scratch("back"))
        let alpha = try AdapterConfig(folder: scratch("back")).alpha
        #expect(largestDifference(try delta(scratch("back"), module, scale: Float(alpha) / 4), expected) < 1e-6)
        _ = try exportGGUFAdapter(model: scratch("m"), adapter: a, output: scratch("a.gguf"))
        try convertGGUFAdapter(scratch("a.gguf"), model: scratch("m"), to: scratch("peft"))
        #expect(largestDifference(try delta(scratch("peft"), module, scale: 1), expected) < 1e-6)
    }

    @Test func severalAdaptersMergeWithWeights() throws {
        let model = TinyModel()
        try model.write(to: scratch("m"))
        let a = try adapter("a", seed: 7)
        let b = try adapter("b", rank: 2, alpha: 2, seed: 8)
        _ = try mergeModel(model: scratch("m"), adapters: [(a, 0.5), (b, -1)], output: scratch("o"), pool: pool)
        let name = module + ".weight"
        let change = zip(try delta(a, module, scale: 2), try delta(b, module, scale: 1)).map { 0.5 * $0 - $1 }
        let expected = zip(try values(scratch("m"), name), change).map { $0 + $1 }
        #expect(largestDifference(try values(scratch("o"), name), expected) < 1e-5)
    }

    @Test func doraMergesAndBecomesPlain() throws {
        let folder = fixturesFolder + "/llama2-untied"
        let adapter = fixturesFolder + "/adapters/llama2-untied-dora"
        _ = try mergeModel(model: folder, adapter: adapter, output: scratch("o"), pool: pool)
        let errors = try convertToPlainLoRA(adapter, model: folder, rank: 32, to: scratch("plain"), pool: pool)
        #expect(errors.relative < 1e-3)
        _ = try mergeModel(model: folder, adapter: scratch("plain"), output: scratch("p"), pool: pool)
        for module in ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"] {
            let (merged, plain) = (
                try values(scratch("o"), module + ".weight"), try values(scratch("p"), module + ".weight")
            )
            #expect(largestDifference(merged, plain) < 1e-5)
            let base = try values(folder, module + ".weight")
            #expect(largestDifference(merged, base) > 0.01)
        }
        #expect(throws: ExportError.self) {
            try exportGGUFAdapter(model: folder, adapter: adapter, output: scratch("a.gguf"))
        }
        #expect(throws: FineTuningError.self) {
            try AdapterCombination(method: .cat).write([(adapter, 1)], to: scratch("c"), pool: pool)
        }
    }

    @Test func modulesThatComeWholeAreMergedAndUntied() throws {
        let folder = fixturesFolder + "/llama3-tied"
        let adapter = fixturesFolder + "/adapters/llama3-tied-save-both"
        _ = try mergeModel(model: folder, adapter: adapter, output: scratch("o"), pool: pool)
        #expect(try ModelConfig(path: scratch("o")).tiesEmbeddings == false)
        let file = try SafetensorsFile(path: adapter + "/adapter_model.safetensors")
        for name in ["lm_head.weight", "model.embed_tokens.weight"] {
            let entry = try #require(file.entry(named: "base_model.model." + name))
            #expect(try values(scratch("o"), name) == file.floats(of: entry))
        }
        let rows = fixturesFolder + "/adapters/llama3-tied-tokens"
        _ = try mergeModel(model: folder, adapter: rows, output: scratch("r"), pool: pool)
        #expect(try ModelConfig(path: scratch("r")).tiesEmbeddings)
    }
}
