public import FileFormats
public import FineTuning
import Foundation
public import TensorCore

/// A GGUF file as a model to run: its metadata as a configuration, its tensors as Hugging Face's.
///
/// Rows that were interleaved for llama.cpp are put back; quantised tensors of every type are read.
public final class GGUFModel {
    public let path: String
    public let file: GGUFFile
    public let config: ModelConfig

    /// - Throws: `FileError`; `ExportError.unreadable` with everything that graft cannot run, all at once.
    public init(path: String) throws {
        self.path = path
        file = try GGUFFile(path: path)
        var reader = GGUFConfigReader(file)
        let json = reader.config()
        guard reader.problems.isEmpty else { throw ExportError.unreadable(path: path, problems: reader.problems) }
        var config = try ModelConfig(json: json, path: path)
        // Newer files may have the gates over the ups of all experts in one tensor.
        if config.mixture?.storage == .separate, let layer = config.layers.firstIndex(where: \.mixes),
            file.tensor(named: "blk.\(layer).\(ParameterTable.stackedGGUFName).weight") != nil
        {
            config.mixture?.storage = .stacked
        }
        self.config = config
        let problems = mismatches()
        guard problems.isEmpty else { throw ExportError.unreadable(path: path, problems: problems) }
    }

    private func mismatches() -> [String] {
        var problems: [String] = []
        var known: Set<ByteString> = [
            "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight",
        ]
        for parameter in ParameterTable(config).parameters {
            for (name, shape) in parameter.ggufTensors(experts: config.mixture?.router.experts ?? 1, in: file)
            where known.insert(ByteString(name)).inserted {
                guard let tensor = file.tensor(named: name) else {
                    problems.append("\(name) is missing")
                    continue
                }
                if tensor.shape != shape {
                    problems.append("\(name): expected shape \(shape), found \(tensor.shape)")
                }
                if !RowEncoding.canDecode(tensor.type) {
                    problems.append("\(name) is \(tensor.type.name), which holds no weights that graft reads")
                }
            }
        }
        for tensor in file.tensors where !known.contains(ByteString(tensor.name)) {
            problems.append("\(quoted(tensor.name)) is not part of a \(config.family.rawValue) model")
        }
        // A file of some other type of quantisation would list each of its tensors.
        return problems.count <= 12 ? problems : problems.prefix(12) + ["and \(problems.count - 12) more"]
    }

    /// A parameter's values in f32, in the order of Hugging Face's rows.
    public func tensor(_ parameter: ParameterTable.Parameter) -> Tensor {
        if parameter.isStack { return columns(parameter) }
        if let parts = parameter.headParts(in: file) {
            let result = Tensor(parameter.shape)
            result.withFloats { parts.read(0..<parameter.shape[0], of: file, into: $0) }
            return result
        }
        guard let info = file.tensor(named: parameter.ggufName) else {
            preconditionFailure("\(parameter.ggufName) is not of this model")
        }
        let result = Tensor(parameter.shape)
        let bytes = file.withBytes(of: info)
        let width = parameter.shape.count == 1 && parameter.permutedHeads != nil ? 1 : parameter.shape.last ?? 1
        let rows = parameter.shape.reduce(1, *) / width, first = (parameter.expert ?? 0) * rows
        guard let rowSize = info.type.byteCount(of: [width]) else { preconditionFailure("rows of \(width)") }
        let order = RowOrder(heads: parameter.permutedHeads, rows: rows)
        result.withFloats { values in
            for row in 0..<rows {
                let start = order.source(of: row) * width
                RowEncoding.decode(
                    UnsafeRawBufferPointer(rebasing: bytes[(first + row) * rowSize..<(first + row + 1) * rowSize]),
                    as: info.type, into: UnsafeMutableBufferPointer(rebasing: values[start..<start + width]))
            }
            if parameter.offset != 0 { for i in values.indices { values[i] -= parameter.offset } }
        }
        return result
    }

    /// Rows of a parameter in f32 and in the order of Hugging Face's, read and not mapped. May be called on many
    /// threads at once.
    public func read(
        _ parameter: ParameterTable.Parameter, _ rows: Range<Int>, into numbers: UnsafeMutableBufferPointer<Float>
    ) throws {
        if let parts = parameter.headParts(in: file) { return parts.read(rows, of: file, into: numbers) }
        guard parameter.shape.count == 2, let info = file.tensor(named: parameter.ggufName),
            Array(info.shape.suffix(2)) == parameter.shape
        else {
            // Vectors, whose values may move one by one, and stacks, which are read as a whole.
            return tensor(parameter).withFloats { values in
                let width = parameter.rowWidth
                let part = values[rows.lowerBound * width..<rows.upperBound * width]
                _ = numbers.update(fromContentsOf: UnsafeMutableBufferPointer(rebasing: part))
            }
        }
        let width = parameter.rowWidth, order = RowOrder(heads: parameter.permutedHeads, rows: parameter.shape[0])
        guard let rowSize = info.type.byteCount(of: [width]) else { preconditionFailure("rows of \(width)") }
        let step = order.moves ? 1 : rows.count, first = (parameter.expert ?? 0) * parameter.shape[0]
        try withUnsafeTemporaryAllocation(byteCount: step * rowSize, alignment: 64) { bytes in
            for row in stride(from: rows.lowerBound, to: rows.upperBound, by: step) {
                let start = (first + order.place(ofSource: row)) * rowSize, target = (row - rows.lowerBound) * width
                try file.read(start..<start + step * rowSize, of: info, into: bytes)
                RowEncoding.decode(
                    UnsafeRawBufferPointer(bytes), as: info.type,
                    into: UnsafeMutableBufferPointer(rebasing: numbers[target..<target + step * width]))
            }
        }
    }
}

extension GGUFModel {
    /// A matrix as the file holds it, its rows in Hugging Face's order; nil for one that is not quantised.
    public func quantized(_ parameter: ParameterTable.Parameter) -> QuantizedMatrix? {
        if parameter.isStack { return quantizedStack(parameter) }
        guard let info = file.tensor(named: parameter.ggufName), info.type.blockLength > 1, parameter.shape.count == 2,
            parameter.offset == 0, let rowSize = info.type.byteCount(of: [parameter.shape[1]])
        else { return nil }
        let (rows, columns) = (parameter.shape[0], parameter.shape[1]), first = (parameter.expert ?? 0) * rows
        let order = RowOrder(heads: parameter.permutedHeads, rows: rows)
        return QuantizedMatrix(rows: rows, columns: columns, byteCount: rows * rowSize) { [file] range, numbers in
            let bytes = file.withBytes(of: info)
            for (i, row) in range.enumerated() {
                let start = (first + order.place(ofSource: row)) * rowSize
                RowEncoding.decode(
                    UnsafeRawBufferPointer(rebasing: bytes[start..<start + rowSize]), as: info.type,
                    into: UnsafeMutableBufferPointer(start: numbers + i * columns, count: columns))
            }
        }
    }
}

extension GGUFModel {
    /// What the frozen model takes in memory: the bits of the file where they stay, numbers of the computation elsewhere.
    func frozenBytes(_ dtype: DType) -> Int {
        let kept = Set(BaseQuantization.nf4.parameters(config).map { ByteString($0.name) })
        return ParameterTable(config).parameters.reduce(0) { sum, parameter in
            let bits = kept.contains(ByteString(parameter.name)) ? quantized(parameter)?.byteCount : nil
            return sum + (bits ?? parameter.shape.reduce(1, *) * (parameter.isMatrix ? dtype.size : 4))
        }
    }
}

extension ModelReader {
    /// Reads folders and GGUF files. Frozen linear layers stay in the bits of the file, mapped, and are decoded where
    /// they are multiplied; other tensors are decoded as they are read, one at a time.
    public static let any = ModelReader(
        config: { TextResources.isGGUF($0) ? try GGUFModel(path: $0).config : try ModelConfig(path: $0) },
        model: { path, dtype, training, quantization, pool in
            guard TextResources.isGGUF(path) else {
                return try ModelReader.folders.model(path, dtype, training, quantization, pool)
            }
            guard quantization == .none else {
                throw FineTuningError.badInput([
                    "\(path): a GGUF base cannot be kept in \(quantization.rawValue); leave the quantization out, or give the "
                        + "model's Hugging Face folder"
                ])
            }
            let file = try GGUFModel(path: path)
            return DecoderModel(
                config: file.config, dtype: dtype, training: training, quantized: file.quantized, tensor: file.tensor)
        },
        frozenBytes: { TextResources.isGGUF($0) ? try GGUFModel(path: $0).frozenBytes($1) : nil })
}

/// A GGUF file's metadata as the config.json that it came from.
private struct GGUFConfigReader {
    private let file: GGUFFile
    private let architecture: String
    var problems: [String] = []

    init(_ file: GGUFFile) {
        self.file = file
        architecture = file["general.architecture"]?.stringValue ?? ""
    }

    private func value(_ key: String) -> GGUFValue? { file["\(architecture).\(key)"] }

    private mutating func integer(_ key: String, default fallback: Int? = nil) -> JSONValue {
        if let number = value(key)?.intValue { return .integer(number) }
        // Some files give a number for each layer; the families that graft runs have one for all.
        if let numbers = value(key)?.intsValue, let first = numbers.first, numbers.allSatisfy({ $0 == first }) {
            return .integer(first)
        }
        if let fallback, value(key) == nil { return .integer(fallback) }
        problems.append("\(architecture).\(key) is \(value(key) == nil ? "missing" : "no integer")")
        return .integer(1)
    }

    /// Newer files of latent attention give the lengths of the latents where others give those of keys and values.
    private var latentKeyKey: String {
        value("attention.key_length_mla") == nil ? "attention.key_length" : "attention.key_length_mla"
    }
    private var latentValueKey: String {
        value("attention.value_length_mla") == nil ? "attention.value_length" : "attention.value_length_mla"
    }

    mutating func config() -> JSONObject {
        guard let family = Family.allCases.first(where: { family in
            family.gguf.architecture.hasSameBytes(as: architecture)
                && family.gguf.recognizes { value($0)?.doubleValue ?? value($0)?.intValue.map(Double.init) }
        }) else {
            var known: [String] = []
            for name in Family.allCases.map(\.gguf.architecture) where !known.contains(name) { known.append(name) }
            problems.append(
                "general.architecture is \(quoted(architecture)); graft runs \(known.joined(separator: ", "))")
            return JSONObject()
        }
        if let kind = file["general.type"]?.stringValue, !kind.hasSameBytes(as: "model") {
            problems.append("general.type is \(quoted(kind)); expected a model")
        }
        func has(_ name: String) -> Bool { file.tensor(named: name) != nil }
        let vocabulary = file.tensor(named: "token_embd.weight")?.shape.first ?? 1
        let hidden = integer("embedding_length")
        let heads = integer("attention.head_count")
        let headDim = max(1, hidden.intValue ?? 1) / max(1, heads.intValue ?? 1)
        var json = JSONObject([
            ("model_type", .string(family.rawValue)), ("vocab_size", .integer(vocabulary)), ("hidden_size", hidden),
            ("intermediate_size", integer("feed_forward_length")), ("num_hidden_layers", integer("block_count")),
            ("num_attention_heads", heads),
            ("num_key_value_heads", integer("attention.head_count_kv", default: heads.intValue)),
            ("head_dim", integer(latentKeyKey, default: headDim)),
            ("max_position_embeddings", integer("context_length")),
            ("rms_norm_eps", .double(value("attention.layer_norm_rms_epsilon")?.doubleValue ?? 1e-6)),
            ("tie_word_embeddings", .bool(!has("output.weight"))),
            ("attention_bias", .bool(has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias"))),
            ("mlp_bias", .bool(has("blk.0.ffn_gate.bias"))), ("torch_dtype", "float32"),
        ])
        for key in family.gguf.keys {
            if let count = value(key.rawValue)?.intValue {
                json[key.configKey] = .integer(count)
            } else if let number = value(key.rawValue)?.doubleValue {
                json[key.configKey] = .double(number)
            }
        }
        for (key, name) in [("bos_token_id", "bos"), ("pad_token_id", "padding")] {
            if let id = file["tokenizer.ggml.\(name)_token_id"]?.intValue { json[key] = .integer(id) }
        }
        let ends = ["eos", "eot"].compactMap { file["tokenizer.ggml.\($0)_token_id"]?.intValue }
        json["eos_token_id"] = .array(ends.map { .integer($0) })
        let theta = value("rope.freq_base")?.doubleValue ?? 10_000
        json["rope_theta"] = .double(theta)
        let width = json["head_dim"]?.intValue ?? headDim
        let turning = value("rope.dimension_count")?.intValue ?? width
        json["partial_rotary_factor"] = .double(Double(turning) / Double(max(1, width)))
        if let scaling = scaling(theta: theta, dimensions: turning) { json["rope_scaling"] = scaling }
        readMixture(&json, turning: turning)
        family.gguf.complete(&json)
        return json
    }

    /// Experts and latent attention, in the spellings of config.json that most families share.
    private func readMixture(_ json: inout JSONObject, turning: Int) {
        func copy(_ key: String, _ name: String) {
            guard let value = value(name) else { return }
            json[key] =
                value.boolValue.map { .bool($0) } ?? value.intValue.map { .integer($0) }
                ?? value.doubleValue.map { .double($0) }
        }
        if value("expert_count")?.intValue ?? 0 > 0 {
            copy("num_local_experts", "expert_count")
            copy("num_experts_per_tok", "expert_used_count")
            copy("moe_intermediate_size", "expert_feed_forward_length")
            copy("shared_expert_intermediate_size", "expert_shared_feed_forward_length")
        }
        guard let rank = value("attention.kv_lora_rank")?.intValue else { return }
        let width = json["head_dim"]?.intValue ?? 0
        json["partial_rotary_factor"] = nil
        json["kv_lora_rank"] = .integer(rank)
        json["q_lora_rank"] = value("attention.q_lora_rank")?.intValue.map { .integer($0) } ?? .null
        json["qk_rope_head_dim"] = .integer(turning)
        json["qk_nope_head_dim"] = .integer(width - turning)
        copy("v_head_dim", latentValueKey)
        (json["n_shared_experts"], json["n_group"], json["topk_group"]) = (0, 1, 1)
        copy("n_shared_experts", "expert_shared_count")
        copy("first_k_dense_replace", "leading_dense_block_count")
        copy("routed_scaling_factor", "expert_weights_scale")
        copy("norm_topk_prob", "expert_weights_norm")
        copy("n_group", "expert_group_count")
        copy("topk_group", "expert_group_used_count")
    }

    /// The values of an f32 tensor of `count` elements.
    private mutating func divisors(_ name: String, count: Int) -> [Float] {
        var divisors = [Float](repeating: 1, count: max(0, count))
        guard let tensor = file.tensor(named: name), tensor.type == .f32, tensor.shape == [count] else {
            problems.append("\(name): expected F32 [\(count)]")
            return divisors
        }
        divisors.withUnsafeMutableBufferPointer {
            ElementConversion.widen(file.withBytes(of: tensor), as: .f32, into: $0)
        }
        return divisors
    }

    private mutating func scaling(theta: Double, dimensions: Int) -> JSONValue? {
        if file.tensor(named: "rope_freqs.weight") != nil {
            let divisors = divisors("rope_freqs.weight", count: dimensions / 2)
            let found = Llama3Scaling(divisors: divisors, theta: theta, headDim: dimensions)
            if found == nil { problems.append("rope_freqs.weight is not the scaling of Llama 3") }
            return found?.json
        }
        let type = value("rope.scaling.type")?.stringValue ?? "none"
        let factor = value("rope.scaling.factor")?.doubleValue ?? 1
        switch ByteString(type) {
        case "none": return nil
        case "linear": return ["rope_type": "linear", "factor": .double(factor)]
        case "yarn":
            var yarn = JSONObject([("rope_type", "yarn"), ("factor", .double(factor))])
            if let original = value("rope.scaling.original_context_length")?.intValue {
                yarn["original_max_position_embeddings"] = .integer(original)
            }
            for (key, name) in [("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")] {
                if let number = value("rope.scaling.\(name)")?.doubleValue { yarn[key] = .double(number) }
            }
            if let truncate = value("rope.scaling.yarn_truncate")?.boolValue { yarn["truncate"] = .bool(truncate) }
            var magnitude = factor <= 1 ? 1 : 0.1 * log(factor) + 1
            if let multiplier = value("rope.scaling.yarn_log_multiplier")?.doubleValue, multiplier > 0 {
                for key in ["mscale", "mscale_all_dim"] { yarn[key] = .double(Double(Float(10 * multiplier))) }
                magnitude = 1
            }
            if let own = value("rope.scaling.attn_factor")?.doubleValue {
                yarn["attention_factor"] = .double(own * magnitude)
            }
            return .object(yarn)
        case "longrope":
            func list(_ name: String) -> JSONValue {
                .array(divisors(name, count: dimensions / 2).map { .double(Double($0)) })
            }
            return [
                "rope_type": "longrope", "short_factor": list("rope_factors_short.weight"),
                "long_factor": list("rope_factors_long.weight"),
                "original_max_position_embeddings": integer("rope.scaling.original_context_length"),
                "attention_factor": .double(value("rope.scaling.attn_factor")?.doubleValue ?? 1),
            ]
        default:
            problems.append("rope.scaling.type is \(quoted(type)); graft runs none, linear, yarn and longrope")
            return nil
        }
    }
}

/// The parameters of Llama 3's frequency scaling, found again from the divisors that it gives.
struct Llama3Scaling {
    private let factor, low, high, original: Double

    /// The file holds the divisor d of each frequency; between the two thresholds 1 / d is linear in the number of
    /// turns that the original context makes, so that two divisors there give the line.
    init?(divisors: [Float], theta: Double, headDim: Int) {
        let wavelengths = divisors.indices.map { 2 * .pi * pow(theta, Double(2 * $0) / Double(headDim)) }
        let factor = Double(divisors.max() ?? 1)
        guard divisors.allSatisfy({ $0.isFinite && $0 >= 1 }), factor > 1 else { return nil }
        let ramp = divisors.indices.filter { divisors[$0] > 1.0001 && Double(divisors[$0]) < factor * 0.9999 }
        func smooth(_ i: Int) -> Double { (1 / Double(divisors[i]) - 1 / factor) / (1 - 1 / factor) }
        var candidates: [(low: Double, high: Double, original: Double)] = []
        if let first = ramp.first, let last = ramp.last, first != last {
            let slope = (smooth(first) - smooth(last)) / (1 / wavelengths[first] - 1 / wavelengths[last])
            let offset = slope / wavelengths[first] - smooth(first)
            if offset > 0, slope > 0 { candidates.append((1, 1 + 1 / offset, (slope / offset).rounded())) }
        } else if let only = ramp.first {
            candidates.append((1, 4, (wavelengths[only] * (smooth(only) * 3 + 1)).rounded()))
            // A range so narrow that it holds this frequency alone.
            candidates.append((1, 1.001, wavelengths[only] * (1 + 0.001 * smooth(only))))
        }
        candidates.append((1, 4, 8192))
        if let scaled = divisors.indices.first(where: { divisors[$0] > 1.0001 }), scaled > 0 {
            // Nothing lies between the thresholds: any two with the step between them do.
            candidates.append((1, 1.0001, (wavelengths[scaled - 1] * wavelengths[scaled]).squareRoot()))
        }
        let match = candidates.first { candidate in
            divisors.indices.allSatisfy { i in
                let turns = candidate.original / wavelengths[i]
                let smooth = min(1, max(0, (turns - candidate.low) / (candidate.high - candidate.low)))
                return abs(1 / ((1 - smooth) / factor + smooth) / Double(divisors[i]) - 1) < 1e-3
            }
        }
        guard let match else { return nil }
        self.factor = factor
        (low, high, original) = match
    }

    var json: JSONValue {
        [
            "rope_type": "llama3", "factor": .double(factor), "low_freq_factor": .double(low),
            "high_freq_factor": .double(high), "original_max_position_embeddings": .double(original),
        ]
    }
}
