import FileFormats
import FineTuning
import Foundation

/// What keeps a GGUF file from being run.
struct GGUFProblems {
    /// What another program may well know.
    var unknown: [String] = []
    /// What is missing or contradicts the rest, as far as graft knows the file's family.
    var faults: [String] = []

    /// - Throws: `ExportError.damaged` where faults are all there is. Beside something unknown they may be a variant's
    ///   way to say the same: `.unreadable` then.
    func check(_ path: String) throws {
        let problems = unknown + faults
        guard !problems.isEmpty else { return }
        // A file of some other type of quantisation would list each of its tensors.
        let listed = problems.count <= 12 ? problems : problems.prefix(12) + ["and \(problems.count - 12) more"]
        throw unknown.isEmpty
            ? ExportError.damaged(path: path, problems: listed) : ExportError.unreadable(path: path, problems: listed)
    }
}

/// A GGUF file's metadata as the config.json that it came from.
struct GGUFConfigReader {
    private let file: GGUFFile
    private let architecture: String
    var problems = GGUFProblems()

    init(_ file: GGUFFile) {
        self.file = file
        architecture = file["general.architecture"]?.stringValue ?? ""
    }

    private func value(_ key: String) -> GGUFValue? { file["\(architecture).\(key)"] }

    private mutating func integer(_ key: String, default fallback: Int? = nil) -> JSONValue {
        let name = "\(architecture).\(key)"
        // Some files give a number for each layer; the families that graft runs have one for all.
        let numbers = value(key)?.intsValue ?? value(key)?.intValue.map { [$0] }
        if let numbers, let first = numbers.first, numbers.allSatisfy({ $0 == first }) {
            if first > 0 { return .integer(first) }
            problems.faults.append("\(name) is \(first), expected a positive number")
        } else if numbers?.isEmpty == false {
            problems.unknown.append("\(name) differs from layer to layer")
        } else if value(key) != nil {
            problems.faults.append("\(name) is no integer")
        } else if let fallback {
            return .integer(fallback)
        } else {
            problems.faults.append("\(name) is missing")
        }
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
        guard let family = family() else { return JSONObject() }
        if let kind = file["general.type"]?.stringValue, !kind.hasSameBytes(as: "model") {
            problems.unknown.append("general.type is \(quoted(kind)); expected a model")
        }
        var json = sizes()
        json["model_type"] = .string(family.rawValue)
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
        let width = json["head_dim"]?.intValue ?? 1
        let turning = value("rope.dimension_count")?.intValue ?? width
        json["partial_rotary_factor"] = .double(Double(turning) / Double(max(1, width)))
        if let scaling = scaling(theta: theta, dimensions: turning) { json["rope_scaling"] = scaling }
        readMixture(&json, turning: turning)
        family.gguf.complete(&json)
        return json
    }

    /// Nil, and a problem, for an architecture that graft does not run.
    private mutating func family() -> Family? {
        let found = Family.allCases.first { family in
            family.gguf.architecture.hasSameBytes(as: architecture)
                && family.gguf.recognizes { value($0)?.doubleValue ?? value($0)?.intValue.map(Double.init) }
        }
        if let found { return found }
        var known: [String] = []
        for name in Family.allCases.map(\.gguf.architecture) where !known.contains(name) { known.append(name) }
        problems.unknown.append(
            "general.architecture is \(quoted(architecture)); graft runs \(known.joined(separator: ", "))")
        return nil
    }

    /// What every family has.
    private mutating func sizes() -> JSONObject {
        func has(_ name: String) -> Bool { file.tensor(named: name) != nil }
        let vocabulary = file.tensor(named: "token_embd.weight")?.shape.first ?? 1
        let hidden = integer("embedding_length")
        let heads = integer("attention.head_count")
        let groups = integer("attention.head_count_kv", default: heads.intValue)
        if problems.faults.isEmpty, let heads = heads.intValue, let groups = groups.intValue, heads % groups != 0 {
            problems.faults.append(
                "\(architecture).attention.head_count is \(heads), no multiple of the \(groups) of "
                    + "attention.head_count_kv")
        }
        let headDim = max(1, (hidden.intValue ?? 1) / (heads.intValue ?? 1))
        return JSONObject([
            ("vocab_size", .integer(vocabulary)), ("hidden_size", hidden),
            ("intermediate_size", integer("feed_forward_length")), ("num_hidden_layers", integer("block_count")),
            ("num_attention_heads", heads), ("num_key_value_heads", groups),
            ("head_dim", integer(latentKeyKey, default: headDim)),
            ("max_position_embeddings", integer("context_length")),
            ("rms_norm_eps", .double(value("attention.layer_norm_rms_epsilon")?.doubleValue ?? 1e-6)),
            ("tie_word_embeddings", .bool(!has("output.weight"))),
            ("attention_bias", .bool(has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias"))),
            ("mlp_bias", .bool(has("blk.0.ffn_gate.bias"))), ("torch_dtype", "float32"),
        ])
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
            problems.faults.append("\(name): expected F32 [\(count)]")
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
            if found == nil { problems.unknown.append("rope_freqs.weight is not the scaling of Llama 3") }
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
            problems.unknown.append("rope.scaling.type is \(quoted(type)); graft runs none, linear, yarn and longrope")
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
