import FileFormats
import Foundation
import TensorCore
import Testing

@testable import Export

/// A folder for one test, removed at its end.
final class Scratch {
    let path: String
    init() {
        path = NSTemporaryDirectory() + "graft-tests-" + UUID().uuidString
        mkdir(path, 0o777)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
    func callAsFunction(_ name: String) -> String { path + "/" + name }
    var names: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted() }
}

/// SplitMix64.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }
    mutating func floats(_ count: Int) -> [Float] { (0..<count).map { _ in Float.random(in: -1...1, using: &self) } }
}

/// Models of each family with an adapter and what PyTorch and PEFT make of them.
let fixturesFolder = URL(filePath: #filePath).appending(path: "../../Fixtures").standardized.path

/// Files of other projects, which are not part of this repository.
enum Shared {
    static let conformance = ProcessInfo.processInfo.environment["GRAFT_CONFORMANCE"] ?? "../shared/conformance"
    static func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }
}

/// A random model of one of the families, with an adapter, as Hugging Face and PEFT lay them out.
struct TinyModel {
    var family = "llama"
    var vocabulary = 20
    var hidden = 16
    var inner = 24
    var layers = 2
    var heads = 4
    var keyValueHeads = 2
    var isTied = false
    var type = ElementType.f32
    var extraConfig: JSONObject = JSONObject()
    var headDim: Int { hidden / heads }

    var parameters: [(name: String, shape: [Int])] {
        var result = [("model.embed_tokens.weight", [vocabulary, hidden])]
        for layer in 0..<layers {
            let prefix = "model.layers.\(layer)."
            result += [
                (prefix + "input_layernorm.weight", [hidden]), (prefix + "post_attention_layernorm.weight", [hidden]),
                (prefix + "self_attn.q_proj.weight", [hidden, hidden]),
                (prefix + "self_attn.k_proj.weight", [keyValueHeads * headDim, hidden]),
                (prefix + "self_attn.v_proj.weight", [keyValueHeads * headDim, hidden]),
                (prefix + "self_attn.o_proj.weight", [hidden, hidden]),
                (prefix + "mlp.gate_proj.weight", [inner, hidden]), (prefix + "mlp.up_proj.weight", [inner, hidden]),
                (prefix + "mlp.down_proj.weight", [hidden, inner]),
            ]
            guard family == "qwen2" else { continue }
            result += [
                (prefix + "self_attn.q_proj.bias", [hidden]),
                (prefix + "self_attn.k_proj.bias", [keyValueHeads * headDim]),
                (prefix + "self_attn.v_proj.bias", [keyValueHeads * headDim]),
            ]
        }
        result.append(("model.norm.weight", [hidden]))
        if !isTied { result.append(("lm_head.weight", [vocabulary, hidden])) }
        return result.map { (name: $0.0, shape: $0.1) }
    }

    var config: JSONObject {
        var config = JSONObject([
            ("model_type", .string(family)), ("vocab_size", .integer(vocabulary)), ("hidden_size", .integer(hidden)),
            ("intermediate_size", .integer(inner)), ("num_hidden_layers", .integer(layers)),
            ("num_attention_heads", .integer(heads)), ("num_key_value_heads", .integer(keyValueHeads)),
            ("max_position_embeddings", 64), ("rms_norm_eps", 1e-5), ("tie_word_embeddings", .bool(isTied)),
            ("torch_dtype", "float32"),
        ])
        for (key, value) in extraConfig.entries { config[key] = value }
        return config
    }

    /// Writes the folder, in `shards` files.
    func write(to folder: String, seed: UInt64 = 1, shards: Int = 1) throws {
        mkdir(folder, 0o777)
        try AtomicFile.write(JSONWriter.bytes(.object(config), .pretty), to: folder + "/config.json")
        var generator = SeededGenerator(seed)
        var map: [(key: String, value: JSONValue)] = []
        let perFile = (parameters.count + shards - 1) / shards
        for shard in 0..<shards {
            let part = parameters[shard * perFile..<min(parameters.count, (shard + 1) * perFile)]
            let name = shards == 1 ? "model.safetensors" : "part-\(shard).safetensors"
            let writer = try SafetensorsWriter(
                path: folder + "/" + name, tensors: part.map { .init(name: $0.name, type: type, shape: $0.shape) })
            for parameter in part {
                let values = generator.floats(parameter.shape.reduce(1, *))
                var bytes = [UInt8](repeating: 0, count: values.count * type.size)
                values.withUnsafeBufferPointer { values in
                    bytes.withUnsafeMutableBytes { ElementConversion.narrow(values, to: type, into: $0) }
                }
                try writer.append(bytes, to: parameter.name)
                map.append((parameter.name, .string(name)))
            }
            try writer.finish()
        }
        guard shards > 1 else { return }
        let index: JSONValue = ["weight_map": .object(JSONObject(map))]
        try AtomicFile.write(JSONWriter.bytes(index), to: folder + "/model.safetensors.index.json")
    }

    /// Writes an adapter on `modules`; further keys go into its configuration.
    func writeAdapter(
        to folder: String, modules: [(name: String, rank: Int)], alpha: Int = 8, extra: JSONObject = JSONObject(),
        seed: UInt64 = 2
    ) throws {
        mkdir(folder, 0o777)
        var config = JSONObject([
            ("peft_type", "LORA"), ("task_type", "CAUSAL_LM"), ("r", .integer(modules[0].rank)),
            ("lora_alpha", .integer(alpha)), ("target_modules", .array(modules.map { .string($0.name) })),
        ])
        for (key, value) in extra.entries { config[key] = value }
        try AtomicFile.write(JSONWriter.bytes(.object(config), .pretty), to: folder + "/adapter_config.json")
        var generator = SeededGenerator(seed)
        var tensors: [SafetensorsWriter.Declaration] = []
        for module in modules {
            let shape =
                module.name == "lm_head"
                ? [vocabulary, hidden]
                : parameters.first { $0.name == module.name + ".weight" }!.shape
            let key = "base_model.model.\(module.name)."
            tensors.append(.init(name: key + "lora_A.weight", type: .f32, shape: [module.rank, shape[1]]))
            tensors.append(.init(name: key + "lora_B.weight", type: .f32, shape: [shape[0], module.rank]))
        }
        let writer = try SafetensorsWriter(path: folder + "/adapter_model.safetensors", tensors: tensors)
        for tensor in tensors {
            try writer.append(generator.floats(tensor.shape[0] * tensor.shape[1]), to: tensor.name)
        }
        try writer.finish()
    }
}

/// scale B A, by the definition.
func delta(_ adapter: String, _ module: String, scale: Float) throws -> [Float] {
    let file = try SafetensorsFile(path: adapter + "/adapter_model.safetensors")
    let a = try #require(file.entry(named: "base_model.model.\(module).lora_A.weight"))
    let b = try #require(file.entry(named: "base_model.model.\(module).lora_B.weight"))
    let (av, bv) = (file.floats(of: a), file.floats(of: b))
    let (rank, width, height) = (a.shape[0], a.shape[1], b.shape[0])
    return (0..<height * width).map { i in
        scale * (0..<rank).reduce(Float(0)) { $0 + bv[i / width * rank + $1] * av[$1 * width + i % width] }
    }
}

func values(_ folder: String, _ name: String) throws -> [Float] {
    let files = try SafetensorsFolder(path: folder)
    return files.floats(of: try #require(files.entry(named: name)))
}

func largestDifference(_ a: [Float], _ b: [Float]) -> Float {
    a.count == b.count ? zip(a, b).reduce(0) { max($0, abs($1.0 - $1.1)) } : .infinity
}
