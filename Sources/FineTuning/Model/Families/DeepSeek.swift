import FileFormats
import Foundation
import TensorCore

extension FamilyDefinition {
    static let deepseekV2 = FamilyDefinition(
        className: "DeepseekV2ForCausalLM",
        gguf: GGUFTraits(
            architecture: "deepseek2", gaps: deepseekGaps, layersPastAdapters: latentLayers,
            differences: { $0.latentDifferences },
            recognizes: { ($0("expert_gating_func") ?? 1) == 1 },
            complete: { json in
                for key in ["n_group", "topk_group"] { json[key] = nil }
            }),
        mixtureNames: MixtureNames(shared: "shared_experts"), inertKeys: deepseekInertKeys,
        read: { config, reader in
            config.interleavesRotary = true
            config.readDeepSeek(&reader, firstDense: 0, shared: 2)
            reader.requireFlag("mlp_bias", false, "graft computes these layers without biases")
            reader.requireFlag("norm_topk_prob", false, "implementations of this family differ on it")
            reader.require("scoring_func", "softmax")
            let method = reader.text("topk_method") ?? "greedy"
            config.mixture?.router = reader.router(
                experts: deepseekExperts, default: (64, 1)
            ) { router, reader in
                router.scale = reader.factor("routed_scaling_factor", default: 1)
                guard method.hasSameBytes(as: "group_limited_greedy") else { return }
                router.groups = reader.size("n_group", limit: 4096, default: 1)
                router.activeGroups = reader.size("topk_group", limit: 4096, default: 1)
            }
            if method.hasSameBytes(as: "greedy") {
                for key in ["n_group", "topk_group"] { reader.ignore(key) }
            } else if !method.hasSameBytes(as: "group_limited_greedy") {
                reader.report("topk_method is '\(method)'; this family has greedy and group_limited_greedy")
            }
        })

    static let deepseekV3 = FamilyDefinition(
        className: "DeepseekV3ForCausalLM",
        gguf: GGUFTraits(
            architecture: "deepseek2", gaps: deepseekGaps, layersPastAdapters: latentLayers,
            differences: { $0.latentDifferences }),
        mixtureNames: MixtureNames(shared: "shared_experts"), inertKeys: deepseekInertKeys,
        read: { config, reader in
            config.interleavesRotary = reader.flag("rope_interleave", default: true)
            config.readDeepSeek(&reader, firstDense: 3, shared: 1)
            config.extraLayers = reader.size("num_nextn_predict_layers", from: 0, limit: 64, default: 1)
            reader.require("scoring_func", "sigmoid")
            reader.require("topk_method", "noaux_tc")
            config.mixture?.hasCorrection = true
            config.mixture?.router = reader.router(experts: deepseekExperts, default: (256, 8)) { router, reader in
                router.score = .sigmoid
                router.normalizes = reader.flag("norm_topk_prob", default: true)
                router.scale = reader.factor("routed_scaling_factor", default: 2.5)
                router.groups = reader.size("n_group", limit: 4096, default: 8)
                router.activeGroups = reader.size("topk_group", limit: 4096, default: 4)
                router.groupScore = .bestTwo
            }
        })

    private static let deepseekGaps: [GGUFTraits.Gap] = [.queryKeyValueBias, .outputBias, .frequencyDivisors]
    /// llama.cpp's graph of the architecture applies adapters to what comes after attention alone, and not to the head.
    private static let latentLayers = ["attn_q", "attn_q_a", "attn_q_b", "attn_kv_a_mqa", "attn_kv_b", "output"]
    private static let deepseekExperts = ["n_routed_experts", "num_local_experts", "num_experts"]
    private static let deepseekInertKeys = MixtureReading.inertKeys + ["qk_head_dim", "num_mtp_layers"]
}

extension ConfigReader {
    /// A key that may only say what this family computes.
    fileprivate mutating func require(_ key: String, _ only: String) {
        guard let found = text(key), !found.hasSameBytes(as: only) else { return }
        report("\(key) is '\(found)'; this family runs with '\(only)'")
    }
}

extension ModelConfig {
    /// Latent attention, dense first layers and a mixture whose router is set by the caller.
    fileprivate mutating func readDeepSeek(_ reader: inout ConfigReader, firstDense: Int, shared: Int) {
        reader.requireActivation(["silu"])
        hasQKVBias = reader.flag("attention_bias", default: false)
        hasOutputBias = hasQKVBias
        keyValueHeadCount = headCount
        let limit = 1 << 16
        var latent = LatentAttention(
            queryRank: nil, keyValueRank: reader.size("kv_lora_rank", limit: limit, default: 512),
            plainDim: reader.size("qk_nope_head_dim", limit: limit, default: 128),
            rotaryDim: reader.size("qk_rope_head_dim", limit: limit, default: 64),
            valueDim: reader.size("v_head_dim", limit: limit, default: 128))
        if reader.isPresent("q_lora_rank") || !reader.has("q_lora_rank") {
            latent.queryRank = reader.size("q_lora_rank", limit: limit, default: 1536)
        }
        self.latent = latent
        headDim = latent.rotaryDim
        readRotaries(&reader, theta: 10_000)
        headDim = latent.plainDim + latent.rotaryDim
        attentionScale = latentScale(&reader)

        let dense = reader.size("first_k_dense_replace", from: 0, limit: 4096, default: firstDense)
        if reader.size("moe_layer_freq", limit: 4096, default: 1) != 1 {
            reader.report("moe_layer_freq: graft runs models with experts in every layer past the dense ones")
        }
        let width = reader.size("moe_intermediate_size", limit: 1 << 22, default: 1407)
        var mixture = Mixture(router: RouterShape(experts: 1, active: 1), innerWidth: width)
        let count = reader.size("n_shared_experts", from: 0, limit: 4096, default: shared)
        mixture.sharedWidth = count > 0 ? width * count : nil
        self.mixture = mixture
        mixLayers { $0 >= dense }
    }

    /// What llama.cpp computes otherwise.
    fileprivate var latentDifferences: [String] {
        var problems: [String] = []
        if !interleavesRotary {
            problems.append("rope_interleave is false: llama.cpp turns pairs that lie next to each other")
        }
        if let latent, (latent.queryRank == nil) != [26, 27].contains(layerCount) {
            problems.append(
                "q_lora_rank: llama.cpp takes models of 26 or 27 layers to have none, and all others to have one")
        }
        if let router = mixture?.router, router.groups > 1, router.groupScore == .best {
            problems.append("topk_method: llama.cpp chooses groups by their best two experts, not by their best")
        }
        return problems
    }

    /// YaRN's magnitude enters the scores twice where `mscale_all_dim` is set, once with the queries and once with the
    /// keys; what `RotaryConfig` multiplies cosines with is relative to it.
    private mutating func latentScale(_ reader: inout ConfigReader) -> Double {
        let plain = 1 / Double(headDim).squareRoot()
        let old = reader.object("rope_scaling"), new = reader.object("rope_parameters")
        let parameters = (old?.count ?? 0) > 0 ? old : new
        let type = (parameters?["rope_type"] ?? parameters?["type"])?.stringValue ?? "default"
        guard !type.hasSameBytes(as: "default"), let all = parameters?["mscale_all_dim"]?.doubleValue, all != 0,
            let factor = parameters?["factor"]?.doubleValue, factor > 1
        else { return plain }
        latent?.yarnMagnitude = all
        let magnitude = 0.1 * all * log(factor) + 1
        return plain * magnitude * magnitude
    }
}
