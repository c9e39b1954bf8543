import FileFormats
import FineTuning
import Foundation
import TensorCore
import Testing

@testable import Export

/// The forms in which files hold experts and latent attention.
@Suite struct MixtureFileTests {
    private let scratch = Scratch()
    private let pool = WorkerPool(threads: 2)

    /// A fixture with the experts of each layer in one tensor, as newer versions of Transformers may write them.
    private func stack(_ folder: String, to output: String) throws {
        let files = try SafetensorsFolder(path: folder), config = try ModelConfig(path: folder, files: files)
        var stacked = config
        stacked.mixture?.storage = .stacked
        mkdir(output, 0o777)
        try FileManager.default.copyItem(atPath: folder + "/config.json", toPath: output + "/config.json")
        let modules = ParameterTable(config).expertModules
        let tensors = ParameterTable(stacked).parameters.map { parameter in
            guard parameter.name.contains(".experts.") else {
                let old = parameter.name.replacingOccurrences(of: ".mlp.", with: ".block_sparse_moe.")
                return (parameter, files.floats(of: files.entry(named: parameter.name) ?? files.entry(named: old)!))
            }
            let ofLayer = modules.filter { parameter.name.contains(".layers.\($0.layer).") }
            let isDown = parameter.name.hasSuffix("down_proj")
            let values = (0..<parameter.shape[0]).flatMap { expert in
                ofLayer.filter { $0.expert == expert && ($0.part == .down) == isDown }.flatMap {
                    files.floats(of: files.entry(named: $0.name + ".weight")!)
                }
            }
            return (parameter, values)
        }
        let writer = try SafetensorsWriter(
            path: output + "/model.safetensors",
            tensors: tensors.map { .init(name: $0.0.name, type: .f32, shape: $0.0.shape) })
        for (parameter, values) in tensors { try values.withUnsafeBytes { try writer.append($0, to: parameter.name) } }
        try writer.finish()
    }

    @Test("experts in one tensor become the same file as experts one by one", arguments: ["mixtral-experts"])
    func stacked(name: String) throws {
        let folder = fixturesFolder + "/" + name
        try stack(folder, to: scratch("stacked"))
        for adapter in [nil, folder + "/adapter"] {
            let paths = ["1", "2"].map { scratch($0) }
            for (model, path) in zip([folder, scratch("stacked")], paths) {
                _ = try exportGGUF(
                    model: model, adapter: adapter, output: path, options: .init(type: .f32, name: "x"), pool: pool,
                    replacing: true)
            }
            let (one, other) = (try GGUFFile(path: paths[0]), try GGUFFile(path: paths[1]))
            for tensor in one.tensors {
                let found = try #require(other.tensor(named: tensor.name), "\(tensor.name)")
                #expect(found.shape == tensor.shape)
                #expect(one.withBytes(of: tensor).elementsEqual(other.withBytes(of: found)), "\(tensor.name)")
            }
            #expect(one.tensors.count == other.tensors.count)
            #expect(try TextResources(ifPresentAt: paths[1]) == nil, "a file without a tokenizer says so")
        }
    }

    private func exportGGUF(
        model: String, adapter: String?, output: String, options: GGUFExportOptions, pool: WorkerPool, replacing: Bool
    ) throws -> ExportReport {
        try Export.exportGGUF(
            model: model, adapters: adapter.map { [($0, 1)] } ?? [], output: output, options: options, pool: pool,
            replacing: replacing)
    }

    /// The file with keys and values of latent attention in tensors of their own, as llama.cpp's converter writes them.
    private func split(_ path: String, to output: String) throws {
        let file = try GGUFFile(path: path), model = try GGUFModel(path: path)
        let latent = try #require(model.config.latent), heads = model.config.headCount
        var metadata = file.metadata
        func set(_ key: String, _ value: Int) {
            metadata.removeAll { $0.key == "deepseek2.attention." + key }
            metadata.append(("deepseek2.attention." + key, .uint32(UInt32(value))))
        }
        set("head_count_kv", 1)
        set("key_length", latent.keyValueRank + latent.rotaryDim)
        set("value_length", latent.keyValueRank)
        set("key_length_mla", latent.plainDim + latent.rotaryDim)
        set("value_length_mla", latent.valueDim)
        var tensors: [(GGUFWriter.Declaration, [UInt8])] = []
        for tensor in file.tensors {
            guard tensor.name.hasSuffix(".attn_kv_b.weight") else {
                tensors.append(
                    (
                        .init(name: tensor.name, type: tensor.type, shape: tensor.shape),
                        Array(file.withBytes(of: tensor))
                    ))
                continue
            }
            let values = TensorSource.gguf(file, tensor).floats().floats(), rank = latent.keyValueRank
            func value(_ head: Int, _ row: Int, _ i: Int) -> Float {
                values[(head * (latent.plainDim + latent.valueDim) + row) * rank + i]
            }
            var keys: [Float] = [], others: [Float] = []
            for head in 0..<heads {
                for i in 0..<rank { for row in 0..<latent.plainDim { keys.append(value(head, row, i)) } }
                for row in 0..<latent.valueDim {
                    for i in 0..<rank { others.append(value(head, latent.plainDim + row, i)) }
                }
            }
            func add(_ name: String, _ shape: [Int], _ values: [Float]) {
                let name = tensor.name.replacingOccurrences(of: "attn_kv_b", with: name)
                tensors.append((.init(name: name, type: .f32, shape: shape), values.withUnsafeBytes { Array($0) }))
            }
            add("attn_k_b", [heads, rank, latent.plainDim], keys)
            add("attn_v_b", [heads, latent.valueDim, rank], others)
        }
        let writer = try GGUFWriter(path: output, metadata: metadata, tensors: tensors.map(\.0))
        for (declaration, bytes) in tensors {
            try bytes.withUnsafeBytes { try writer.append($0, to: declaration.name) }
        }
        try writer.finish()
    }

    @Test("latent attention in two tensors is that in one", arguments: ["deepseek-v2", "deepseek-v3"])
    func splitHeads(name: String) throws {
        let folder = fixturesFolder + "/" + name
        _ = try exportGGUF(
            model: folder, adapter: nil, output: scratch("one"), options: .init(type: .f32), pool: pool,
            replacing: false)
        try split(scratch("one"), to: scratch("two"))
        let adapters = [(path: folder + "/adapter", weight: 1.0)]
        for path in ["one", "two"] {
            _ = try mergeModel(model: scratch(path), adapters: adapters, output: scratch(path + "-merged"), pool: pool)
        }
        for suffix in ["", "-merged"] {
            let one = try GGUFModel(path: scratch("one" + suffix)), two = try GGUFModel(path: scratch("two" + suffix))
            #expect(two.config.headDim == one.config.headDim && two.config.valueDim == one.config.valueDim)
            #expect(two.file.tensor(named: "blk.0.attn_kv_b.weight") == nil)
            for parameter in ParameterTable(one.config).parameters {
                let expected = one.tensor(parameter).floats(), found = two.tensor(parameter).floats()
                #expect(zip(expected, found).allSatisfy { abs($0 - $1) <= 1e-6 }, "\(parameter.name)")
                guard parameter.headParts != nil else { continue }
                // Rows that begin and end within a head.
                let rows = 3..<parameter.shape[0] - 5, width = parameter.shape[1]
                var part = [Float](repeating: 0, count: rows.count * width)
                try part.withUnsafeMutableBufferPointer { try two.read(parameter, rows, into: $0) }
                #expect(part == Array(found[rows.lowerBound * width..<rows.upperBound * width]))
            }
        }
        let changed = try GGUFModel(path: scratch("two")).tensor(try keyValueUp())
        #expect(changed.floats() != (try GGUFModel(path: scratch("two-merged")).tensor(try keyValueUp()).floats()))
        func keyValueUp() throws -> ParameterTable.Parameter {
            try #require(
                ParameterTable(try GGUFModel(path: scratch("one")).config).parameters.first { $0.headParts != nil })
        }
    }

    @Test("layers that llama.cpp multiplies past an adapter are refused by name")
    func layersPastAdapters() throws {
        let model = fixturesFolder + "/deepseek-v3"
        let config = try ModelConfig(path: model), table = ParameterTable(config)
        let layers = table.linearModules.filter { $0.layer == 0 }
        let passed: Set<LinearRole> = [.queryDown, .queryUp, .keyValueDown, .keyValueUp]
        #expect(passed.isSubset(of: Set(layers.map(\.role))))
        var sites = layers.map { ($0.name, $0.outputWidth, $0.inputWidth, passed.contains($0.role)) }
        sites.append((ParameterTable.headModule, config.vocabularySize, config.hiddenSize, true))
        for (module, output, input, isPassed) in sites {
            try writeAdapter(module, output, input)
            let path = scratch("a.gguf")
            guard isPassed else {
                _ = try exportGGUFAdapter(model: model, adapter: scratch("a"), output: path, replacing: true)
                continue
            }
            do {
                _ = try exportGGUFAdapter(model: model, adapter: scratch("a"), output: path, replacing: true)
                Issue.record("\(module) was written")
            } catch ExportError.adapter(_, let problems) {
                #expect(problems.count == 1 && problems[0].contains(module), "\(problems)")
            }
        }
    }

    /// An adapter of rank 1 on one linear layer.
    private func writeAdapter(_ module: String, _ output: Int, _ input: Int) throws {
        mkdir(scratch("a"), 0o777)
        let json = #"{"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["\#(module)"]}"#
        try AtomicFile.write(Array(json.utf8), to: scratch("a/adapter_config.json"), replacing: true)
        let key = "base_model.model.\(module).lora_"
        let writer = try SafetensorsWriter(
            path: scratch("a/adapter_model.safetensors"),
            tensors: [
                .init(name: key + "A.weight", type: .f32, shape: [1, input]),
                .init(name: key + "B.weight", type: .f32, shape: [output, 1]),
            ], replacing: true)
        for (part, width) in [("A", input), ("B", output)] {
            try [Float](repeating: 1, count: width).withUnsafeBytes {
                try writer.append($0, to: key + part + ".weight")
            }
        }
        try writer.finish()
    }

    @Test("llama.cpp tells by the number of layers whether queries have latents", arguments: [2, 26, 27])
    func queryLatents(layers: Int) throws {
        let file = try JSONParser.parse(
            Array(try Data(contentsOf: URL(fileURLWithPath: fixturesFolder + "/deepseek-v2/config.json"))))
        for hasLatents in [true, false] {
            var json = try #require(file.objectValue)
            json["num_hidden_layers"] = .integer(layers)
            if !hasLatents { json["q_lora_rank"] = .null }
            let config = try ModelConfig(json: json, path: "config.json")
            let isRefused = config.family.gguf.problems(config).contains { $0.contains("q_lora_rank") }
            #expect(isRefused == (hasLatents == (layers > 2)))
        }
    }
}
