import FileFormats
import FineTuning
import Foundation
import TensorCore
import Testing

@testable import Export

/// Adapters as GGUF files.
@Suite struct GGUFAdapterTests {
    private let scratch = Scratch()
    private let pool = WorkerPool(threads: 2)

    /// An adapter of mixtral that has updates of two experts alone, of different ranks.
    private func writeExpertsAdapter(to folder: String) throws {
        mkdir(folder, 0o777)
        let block = "model.layers.1.block_sparse_moe.experts."
        let modules = [("\(block)0.w1", 4, 80, 32), ("\(block)2.w1", 2, 80, 32), ("\(block)3.w2", 4, 32, 80)]
        let json = """
            {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": true,
             "target_modules": [\(modules.map { "\"\($0.0)\"" }.joined(separator: ", "))],
             "rank_pattern": {"experts.2.w1": 2}}
            """
        try AtomicFile.write(Array(json.utf8), to: folder + "/adapter_config.json", replacing: true)
        let tensors = modules.flatMap { module, rank, output, input in
            [("A", [rank, input]), ("B", [output, rank])].map {
                (name: "base_model.model.\(module).lora_\($0.0).weight", shape: $0.1)
            }
        }
        let writer = try SafetensorsWriter(
            path: folder + "/adapter_model.safetensors",
            tensors: tensors.map { .init(name: $0.name, type: .f32, shape: $0.shape) })
        var random = SeededGenerator(7)
        for tensor in tensors { try writer.append(random.floats(tensor.shape.reduce(1, *)), to: tensor.name) }
        try writer.finish()
    }

    /// What llama.cpp adds, alpha / r B A for each matrix of a tensor, is what an adapter changes in a merged file.
    @Test(arguments: ["mixtral-experts", "deepseek-v3-experts", "gpt-oss-experts", "mixtral"])
    func updatesOfExpertsAreThoseOfMergedFiles(name: String) throws {
        let model = fixturesFolder + "/" + name
        var adapter = model + "/adapter"
        if name == "mixtral" {
            adapter = scratch("experts")
            try writeExpertsAdapter(to: adapter)
        }
        _ = try exportGGUFAdapter(model: model, adapter: adapter, output: scratch("a.gguf"))
        _ = try exportGGUF(model: model, output: scratch("base"), options: .init(type: .f32), pool: pool)
        _ = try exportGGUF(
            model: model, adapter: adapter, output: scratch("merged"), options: .init(type: .f32), pool: pool)
        let base = try GGUFFile(path: scratch("base")), merged = try GGUFFile(path: scratch("merged"))
        let file = try GGUFFile(path: scratch("a.gguf")), alpha = try #require(file["adapter.lora.alpha"]?.doubleValue)
        func floats(_ file: GGUFFile, _ name: String) throws -> (values: [Float], shape: [Int]) {
            let info = try #require(file.tensor(named: name), "\(name)")
            return (TensorSource.gguf(file, info).floats().floats(), info.shape)
        }
        var stacks = 0
        for info in base.tensors {
            let (before, shape) = try floats(base, info.name), after = try floats(merged, info.name).values
            var want = zip(before, after).map { $1 - $0 }
            if file.tensor(named: info.name + ".lora_a") != nil {
                let a = try floats(file, info.name + ".lora_a"), b = try floats(file, info.name + ".lora_b")
                stacks += shape.count == 3 ? 1 : 0
                #expect(Array(a.shape.dropLast(2)) == Array(shape.dropLast(2)), "\(info.name)")
                let (rows, width) = (shape[shape.count - 2], shape[shape.count - 1]), rank = b.shape[b.shape.count - 1]
                for row in 0..<want.count / width {
                    for k in 0..<rank {
                        let factor = Float(alpha) / Float(rank) * b.values[row * rank + k]
                        let first = (row / rows * rank + k) * width
                        for i in 0..<width { want[row * width + i] -= factor * a.values[first + i] }
                    }
                }
            }
            #expect(want.allSatisfy { abs($0) < 1e-5 }, "\(info.name)")
        }
        #expect(stacks >= 2)
        let report = try ParityGate(pool: pool).compare(
            scratch("a.gguf"), model: model, adapters: [(path: adapter, weight: 1)])
        #expect(report.weights.largestError < 1e-6 && report.logits.relativeError < 1e-5)
    }

    @Test("one expert's matrix that differs is found")
    func anotherExpert() throws {
        let model = fixturesFolder + "/mixtral-experts", adapter = model + "/adapter"
        _ = try exportGGUFAdapter(model: model, adapter: adapter, output: scratch("a.gguf"))
        let file = try GGUFFile(path: scratch("a.gguf"))
        let info = try #require(file.tensor(named: "blk.1.ffn_down_exps.weight.lora_b"))
        var bytes = try Data(contentsOf: URL(fileURLWithPath: scratch("a.gguf")))
        let last = info.byteRange.upperBound - 4
        bytes.replaceSubrange(last..<last + 4, with: withUnsafeBytes(of: Float(3)) { Data($0) })
        try bytes.write(to: URL(fileURLWithPath: scratch("b.gguf")))
        let error = try #require(throws: ParityError.self) {
            _ = try ParityGate(pool: pool).compare(
                scratch("b.gguf"), model: model, adapters: [(path: adapter, weight: 1)])
        }
        #expect(error.description.contains("scale B A differs"))
    }
}
