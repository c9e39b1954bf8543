import FileFormats
import Foundation
import TensorCore
import Testing

@testable import Export

@Suite struct GGUFExportTests {
    let scratch = Scratch()
    let pool = WorkerPool(threads: 2)

    func floats(_ file: GGUFFile, _ name: String) throws -> [Float] {
        let tensor = try #require(file.tensor(named: name))
        var result = [Float](repeating: 0, count: tensor.elementCount)
        let type: ElementType = tensor.type == .f32 ? .f32 : tensor.type == .f16 ? .f16 : .bf16
        result.withUnsafeMutableBufferPointer {
            ElementConversion.widen(file.withBytes(of: tensor), as: type, into: $0)
        }
        return result
    }
    /// Rows of W [heads * d, width] with each head's halves interleaved, by the definition of interop.md.
    func interleaved(_ w: [Float], heads: Int, width: Int) -> [Float] {
        let d = w.count / width / heads
        var result: [Float] = []
        for head in 0..<heads {
            for i in 0..<d / 2 {
                for half in 0..<2 {
                    let row = head * d + half * (d / 2) + i
                    result += w[row * width..<(row + 1) * width]
                }
            }
        }
        return result
    }

    @Test(arguments: ["llama", "mistral", "qwen2"]) func tensorsAndMetadata(family: String) throws {
        var model = TinyModel()
        model.family = family
        try model.write(to: scratch("m"))
        let report = try exportGGUF(model: scratch("m"), output: scratch("o.gguf"), type: .f32, pool: pool)
        let file = try GGUFFile(path: scratch("o.gguf"))
        let architecture = family == "qwen2" ? "qwen2" : "llama"
        #expect(file["general.architecture"] == .string(architecture))
        #expect(file["general.file_type"] == .uint32(0) && file["general.quantization_version"] == .uint32(2))
        for (key, value) in [
            ("context_length", 64), ("embedding_length", 16), ("block_count", 2), ("feed_forward_length", 24),
            ("attention.head_count", 4), ("attention.head_count_kv", 2), ("attention.key_length", 4),
            ("attention.value_length", 4), ("rope.dimension_count", 4), ("vocab_size", 20),
        ] { #expect(file["\(architecture).\(key)"] == .uint32(UInt32(value)), "\(key)") }
        #expect(file["\(architecture).attention.layer_norm_rms_epsilon"] == .float32(1e-5))
        #expect(file["\(architecture).rope.freq_base"] == .float32(10_000))
        #expect(file["tokenizer.ggml.model"] == .string("none") && report.warnings.count == 1)
        let q = try values(scratch("m"), "model.layers.1.self_attn.q_proj.weight")
        let k = try values(scratch("m"), "model.layers.1.self_attn.k_proj.weight")
        let permutes = family != "qwen2"
        #expect(try floats(file, "blk.1.attn_q.weight") == (permutes ? interleaved(q, heads: 4, width: 16) : q))
        #expect(try floats(file, "blk.1.attn_k.weight") == (permutes ? interleaved(k, heads: 2, width: 16) : k))
        for (name, gguf) in [
            ("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output"), ("mlp.gate_proj", "ffn_gate"),
            ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down"), ("input_layernorm", "attn_norm"),
            ("post_attention_layernorm", "ffn_norm"),
        ] {
            #expect(try floats(file, "blk.0.\(gguf).weight") == values(scratch("m"), "model.layers.0.\(name).weight"))
        }
        #expect(try floats(file, "output.weight") == values(scratch("m"), "lm_head.weight"))
        #expect(try floats(file, "output_norm.weight") == values(scratch("m"), "model.norm.weight"))
        if !permutes {
            #expect(
                try floats(file, "blk.0.attn_q.bias") == values(scratch("m"), "model.layers.0.self_attn.q_proj.bias"))
        }
    }
    @Test func biasesArePermutedLikeTheirRows() throws {
        let order = RowOrder(heads: 2, rows: 8)
        #expect((0..<8).map(order.source) == [0, 2, 1, 3, 4, 6, 5, 7])
        #expect((0..<8).map(RowOrder(heads: nil, rows: 8).source) == Array(0..<8))
    }
    @Test func tiedHeadIsLeftOut() throws {
        var model = TinyModel()
        model.isTied = true
        try model.write(to: scratch("m"))
        _ = try exportGGUF(model: scratch("m"), output: scratch("o.gguf"), type: .f16, pool: pool)
        #expect(try GGUFFile(path: scratch("o.gguf")).tensor(named: "output.weight") == nil)
        try model.writeAdapter(to: scratch("a"), modules: [("lm_head", 2)])
        _ = try exportGGUF(
            model: scratch("m"), adapter: scratch("a"), output: scratch("p.gguf"), type: .f32, pool: pool)
        #expect(try GGUFFile(path: scratch("p.gguf")).tensor(named: "output.weight") != nil)
    }
    @Test(arguments: GGUFOutputType.allCases) func types(type: GGUFOutputType) throws {
        let model = TinyModel(hidden: 32, inner: 40)
        try model.write(to: scratch("m"))
        let report = try exportGGUF(model: scratch("m"), output: scratch("o.gguf"), type: type, pool: pool)
        let file = try GGUFFile(path: scratch("o.gguf"))
        #expect(file["general.file_type"] == .uint32(type.fileType))
        #expect(file.tensor(named: "blk.0.attn_norm.weight")?.type == .f32)
        // Rows of 40 are no whole number of blocks of any quantised type.
        let isQuantised = type.mainType.blockLength > 1
        #expect(file.tensor(named: "blk.0.ffn_down.weight")?.type == (isQuantised ? .f16 : type.mainType))
        #expect(report.warnings.count == (isQuantised ? 2 : 1))
    }
    @Test func adapterIsMergedOnTheWay() throws {
        let model = TinyModel()
        try model.write(to: scratch("m"))
        try model.writeAdapter(
            to: scratch("a"), modules: [("model.layers.0.self_attn.q_proj", 6), ("model.layers.0.self_attn.v_proj", 6)])
        _ = try mergeModel(model: scratch("m"), adapter: scratch("a"), output: scratch("merged"), pool: pool)
        for type in [GGUFOutputType.f32, .q8_0] {
            _ = try exportGGUF(
                model: scratch("m"), adapter: scratch("a"), output: scratch("1"), type: type, name: "x", pool: pool,
                replacing: true)
            _ = try exportGGUF(
                model: scratch("merged"), output: scratch("2"), type: type, name: "x", pool: pool, replacing: true)
            #expect(try sha256(ofFile: scratch("1")) == sha256(ofFile: scratch("2")))
        }
    }
    @Test func ropeScaling() throws {
        func export(_ scaling: JSONValue) throws -> GGUFFile {
            var model = TinyModel()
            model.extraConfig = JSONObject([("rope_scaling", scaling), ("rope_theta", 10000.0)])
            try? FileManager.default.removeItem(atPath: scratch("m"))
            try model.write(to: scratch("m"))
            _ = try exportGGUF(model: scratch("m"), output: scratch("o"), type: .f32, pool: pool, replacing: true)
            return try GGUFFile(path: scratch("o"))
        }
        let linear = try export(["type": "linear", "factor": 4.0])
        #expect(linear["llama.rope.scaling.type"] == .string("linear"))
        #expect(linear["llama.rope.scaling.factor"] == .float32(4))
        let yarn = try export(["rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16])
        #expect(yarn["llama.rope.scaling.type"] == .string("yarn"))
        #expect(yarn["llama.rope.scaling.original_context_length"] == .uint32(16))
        #expect(yarn["llama.rope.scaling.attn_factor"] == nil)
        let llama3 = try export([
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        ])
        #expect(llama3["llama.rope.scaling.type"] == nil)
        // Wavelengths 6.28 and 628: below 32 / 4, and above 32 / 1.
        #expect(try floats(llama3, "rope_freqs.weight") == [1, 8])
    }
    @Test func slidingWindowIsToldOf() throws {
        var model = TinyModel()
        model.family = "mistral"
        model.extraConfig = JSONObject([("sliding_window", 16)])
        try model.write(to: scratch("m"))
        let report = try exportGGUF(model: scratch("m"), output: scratch("o"), type: .f32, pool: pool)
        #expect(report.warnings.contains { $0.contains("16 tokens") })
    }
    @Test func valuesThatDoNotFitAreErrors() throws {
        let model = TinyModel()
        try model.write(to: scratch("m"))
        let bytes = try readFile(scratch("m/model.safetensors"), limit: 1 << 20)
        let entry = try #require(
            try SafetensorsFile(path: scratch("m/model.safetensors")).entry(named: "model.layers.0.mlp.up_proj.weight"))
        let dataStart = 8 + Int(bytes[0]) + Int(bytes[1]) << 8
        for (value, type) in [
            (Float(70000), GGUFOutputType.f16), (.infinity, .f32), (.nan, .q8_0), (-.infinity, .bf16),
        ] {
            var damaged = bytes
            withUnsafeBytes(of: value) {
                damaged.replaceSubrange(
                    dataStart + entry.byteRange.lowerBound + 68..<dataStart + entry.byteRange.lowerBound + 72, with: $0)
            }
            try AtomicFile.write(damaged, to: scratch("m/model.safetensors"), replacing: true)
            do {
                _ = try exportGGUF(model: scratch("m"), output: scratch("o"), type: type, pool: pool)
                Issue.record("\(value) was written as \(type)")
            } catch ExportError.value(let tensor, 1, let found, _) {
                #expect(tensor == "model.layers.0.mlp.up_proj.weight" && (found == value || value.isNaN))
            }
            #expect(scratch.names == ["m"])
        }
        try AtomicFile.write(bytes, to: scratch("m/model.safetensors"), replacing: true)
        _ = try exportGGUF(model: scratch("m"), output: scratch("o"), type: .f16, pool: pool)
    }

    // MARK: Adapters

    @Test func adapterFile() throws {
        let model = TinyModel()
        try model.write(to: scratch("m"))
        try model.writeAdapter(
            to: scratch("a"), modules: [("model.layers.0.self_attn.q_proj", 4), ("model.layers.1.mlp.gate_proj", 4)],
            alpha: 12)
        _ = try exportGGUFAdapter(model: scratch("m"), adapter: scratch("a"), output: scratch("o"))
        let file = try GGUFFile(path: scratch("o"))
        #expect(file["general.type"] == .string("adapter") && file["adapter.type"] == .string("lora"))
        #expect(file["general.architecture"] == .string("llama") && file["adapter.lora.alpha"] == .float32(12))
        #expect(
            file.tensors.map(\.name) == [
                "blk.0.attn_q.weight.lora_a", "blk.0.attn_q.weight.lora_b", "blk.1.ffn_gate.weight.lora_a",
                "blk.1.ffn_gate.weight.lora_b",
            ])
        #expect(file.tensors.map(\.shape) == [[4, 16], [16, 4], [4, 16], [24, 4]])
        let source = try SafetensorsFile(path: scratch("a/adapter_model.safetensors"))
        let b = source.floats(
            of: try #require(source.entry(named: "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight")))
        #expect(try floats(file, "blk.0.attn_q.weight.lora_b") == interleaved(b, heads: 4, width: 4))
        let a = source.floats(
            of: try #require(source.entry(named: "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight")))
        #expect(try floats(file, "blk.0.attn_q.weight.lora_a") == a)
    }
    @Test func mixedScalesAreFoldedIntoB() throws {
        var model = TinyModel()
        model.family = "qwen2"
        try model.write(to: scratch("m"))
        let modules = [(name: "model.layers.0.self_attn.v_proj", rank: 4), ("model.layers.1.self_attn.v_proj", 2)]
        try model.writeAdapter(
            to: scratch("a"), modules: modules, alpha: 6,
            extra: JSONObject([
                ("use_rslora", true), ("rank_pattern", ["layers.1.self_attn.v_proj": 2]),
                ("alpha_pattern", ["layers.1.self_attn.v_proj": 3]),
            ]))
        _ = try exportGGUFAdapter(model: scratch("m"), adapter: scratch("a"), output: scratch("o"))
        let file = try GGUFFile(path: scratch("o"))
        let alpha = try #require(file["adapter.lora.alpha"]?.doubleValue)
        #expect(abs(alpha - 12) < 1e-6)
        for (layer, rank, scale) in [(0, 4, Float(3)), (1, 2, 3 / Float(2).squareRoot())] {
            // What llama.cpp computes: alpha / rank B A.
            let a = try floats(file, "blk.\(layer).attn_v.weight.lora_a")
            let b = try floats(file, "blk.\(layer).attn_v.weight.lora_b")
            let product = (0..<8 * 16).map { i in
                Float(alpha) / Float(rank)
                    * (0..<rank).reduce(Float(0)) { $0 + b[i / 16 * rank + $1] * a[$1 * 16 + i % 16] }
            }
            let expected = try delta(scratch("a"), "model.layers.\(layer).self_attn.v_proj", scale: scale)
            #expect(largestDifference(product, expected) < 1e-4)
        }
    }
    @Test func sharedHeadCannotBeCarried() throws {
        var model = TinyModel()
        model.isTied = true
        try model.write(to: scratch("m"))
        try model.writeAdapter(to: scratch("a"), modules: [("lm_head", 4)])
        #expect(throws: ExportError.self) {
            try exportGGUFAdapter(model: scratch("m"), adapter: scratch("a"), output: scratch("o"))
        }
    }

    // MARK: Against llama.cpp's own files

    @Test(
        .enabled(if: Shared.exists(Shared.conformance), "the conformance data are not there"),
        arguments: [(GGUFOutputType.f32, "f32"), (.f16, "f16"), (.q8_0, "q8_0")])
    func sameTensorBytesAsLlamaCpp(type: GGUFOutputType, name: String) throws {
        let model = Shared.conformance + "/models/stories260K"
        _ = try exportGGUF(model: model, output: scratch("o"), type: type, pool: pool)
        let ours = try GGUFFile(path: scratch("o"))
        let theirs = try GGUFFile(path: Shared.conformance + "/models/gguf/stories260K-\(name).gguf")
        #expect(Set(ours.tensors.map(\.name)) == Set(theirs.tensors.map(\.name)))
        for tensor in theirs.tensors {
            let own = try #require(ours.tensor(named: tensor.name))
            #expect(own.type == tensor.type && own.shape == tensor.shape)
            #expect(ours.withBytes(of: own).elementsEqual(theirs.withBytes(of: tensor)), "\(tensor.name)")
        }
        for (key, value) in theirs.metadata where key != "general.size_label" && key != "tokenizer.ggml.add_sep_token" {
            #expect(ours[key] == value, "\(key)")
        }
    }
    @Test(.enabled(if: Shared.exists(Shared.conformance), "the conformance data are not there"))
    func sameAdapterBytesAsLlamaCpp() throws {
        let folder = Shared.conformance + "/adapters/stories260K-lora-qv-r8"
        _ = try exportGGUFAdapter(
            model: Shared.conformance + "/models/stories260K", adapter: folder + "/final", output: scratch("o"))
        let ours = try GGUFFile(path: scratch("o"))
        let theirs = try GGUFFile(path: folder + "/adapter-f32.gguf")
        #expect(
            ours.tensors.count == theirs.tensors.count && ours["adapter.lora.alpha"] == theirs["adapter.lora.alpha"])
        for tensor in theirs.tensors {
            let own = try #require(ours.tensor(named: tensor.name))
            #expect(ours.withBytes(of: own).elementsEqual(theirs.withBytes(of: tensor)), "\(tensor.name)")
        }
    }
}

@Suite struct Q8_0Tests {
    func encode(_ row: [Float]) -> (step: Float, quants: [Int8]) {
        var bytes = [UInt8](repeating: 0, count: row.count / 32 * 34)
        row.withUnsafeBufferPointer { row in
            bytes.withUnsafeMutableBytes { _ = RowEncoding.encode(row, width: row.count, as: .q8_0, into: $0) }
        }
        return (
            ElementConversion.float(f16: UInt16(bytes[0]) | UInt16(bytes[1]) << 8),
            bytes[2..<34].map { Int8(bitPattern: $0) }
        )
    }
    @Test func halvesRoundAwayFromZero() {
        // A step of exactly 1: the quotients are the values.
        let row: [Float] =
            [127, 0.5, -0.5, 1.5, 2.5, -2.5, 0.49999997, -0.49999997, 126.5, -126.5] + [Float](repeating: 0, count: 22)
        let (step, quants) = encode(row)
        #expect(step == 1)
        #expect(quants.prefix(10).elementsEqual([127, 1, -1, 2, 3, -3, 0, 0, 127, -127]))
    }
    @Test func agreesWithTheDefinition() {
        var generator = SeededGenerator(11)
        for _ in 0..<300 {
            let size = Float.random(in: -20...4, using: &generator)
            let row = generator.floats(32).map { $0 * Float(exp2(Double(size))) }
            let magnitude = row.reduce(0) { max($0, abs($1)) }
            let inverse = 1 / (magnitude / 127)
            let (step, quants) = encode(row)
            #expect(step == Float(Float16(magnitude / 127)))
            for (x, q) in zip(row, quants) { #expect(q == Int8((x * inverse).rounded(.toNearestOrAwayFromZero))) }
        }
    }
    @Test func zeroAndTinyBlocks() {
        #expect(encode([Float](repeating: 0, count: 32)).quants.allSatisfy { $0 == 0 })
        #expect(encode([Float](repeating: .leastNonzeroMagnitude, count: 32)).step == 0)
    }
}
