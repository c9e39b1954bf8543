import FileFormats

extension FamilyDefinition {
    static let qwen2 = FamilyDefinition(
        className: "Qwen2ForCausalLM",
        gguf: GGUFTraits(
            architecture: "qwen2", gaps: [.frequencyDivisors, .windows], widensValues: { layers, _ in layers == 80 }),
        inertKeys: ["attention_bias"],
        read: { config, reader in
            reader.requireActivation(["silu"])
            config.hasQKVBias = true
            config.setWindows(reader.qwenWindows(layerCount: config.layerCount))
        })

    static let qwen3 = FamilyDefinition(
        className: "Qwen3ForCausalLM",
        gguf: GGUFTraits(
            architecture: "qwen3", gaps: [.queryKeyValueBias, .outputBias, .frequencyDivisors, .windows]),
        defaults: Defaults(headDim: 128),
        read: { config, reader in
            reader.requireActivation(["silu"])
            config.hasQKVBias = reader.flag("attention_bias", default: false)
            config.hasOutputBias = config.hasQKVBias
            config.queryKeyNorm = .perHead
            config.setWindows(reader.qwenWindows(layerCount: config.layerCount))
        })

    static let qwen2MoE = FamilyDefinition(
        className: "Qwen2MoeForCausalLM",
        gguf: GGUFTraits(
            architecture: "qwen2moe", gaps: [.frequencyDivisors, .windows], needsHead: true,
            differences: { $0.mixtureDifferences(normalizes: false) },
            complete: { json in
                json["norm_topk_prob"] = false
                json["qkv_bias"] = json["attention_bias"]
                json["attention_bias"] = nil
            }),
        mixtureNames: MixtureNames(renamedByPEFT: false), inertKeys: MixtureReading.inertKeys,
        read: { config, reader in
            reader.requireActivation(["silu"])
            config.hasQKVBias = reader.flag("qkv_bias", default: true)
            let first = reader.size("max_window_layers", from: 0, limit: 1 << 30, default: 28)
            config.setWindows(reader.optionalWindows(count: config.layerCount) { $0 % 2 == 0 && $0 < first })
            config.readQwenMixture(&reader, default: (60, 4), width: 1408)
            config.mixture?.sharedWidth = reader.size("shared_expert_intermediate_size", limit: 1 << 22, default: 5632)
            config.mixture?.gatesShared = true
        })

    static let qwen3MoE = FamilyDefinition(
        className: "Qwen3MoeForCausalLM",
        gguf: GGUFTraits(
            architecture: "qwen3moe", gaps: [.frequencyDivisors, .windows, .queryKeyValueBias, .outputBias],
            differences: { $0.mixtureDifferences(normalizes: true) }, complete: { $0["norm_topk_prob"] = true }),
        inertKeys: MixtureReading.inertKeys + ["max_window_layers"],
        read: { config, reader in
            reader.requireActivation(["silu"])
            config.hasQKVBias = reader.flag("attention_bias", default: false)
            config.hasOutputBias = config.hasQKVBias
            config.queryKeyNorm = .perHead
            config.setWindows(reader.optionalWindows(count: config.layerCount) { _ in true })
            if config.windows.contains(nil), config.windows.contains(where: { $0 != nil }) {
                reader.report("layer_types: this family has one kind of attention, as use_sliding_window says")
            }
            config.readQwenMixture(&reader, default: (128, 8), width: 768)
        })
}

extension ModelConfig {
    /// Every `decoder_sparse_step`-th layer mixes, but those of `mlp_only_layers`.
    fileprivate mutating func readQwenMixture(
        _ reader: inout ConfigReader, default counts: (Int, Int), width: Int
    ) {
        let normalizes = reader.flag("norm_topk_prob", default: false)
        let router = reader.router(experts: ["num_experts", "num_local_experts"], default: counts) { router, _ in
            router.normalizes = normalizes
        }
        mixture = Mixture(
            router: router, innerWidth: reader.size("moe_intermediate_size", limit: 1 << 22, default: width))
        let dense = Set(reader.integers("mlp_only_layers"))
        let step = reader.size("decoder_sparse_step", limit: 4096, default: 1)
        mixLayers { !dense.contains($0) && ($0 + 1) % step == 0 }
    }
}

extension ConfigReader {
    /// Qwen slides from layer `max_window_layers` on, when `use_sliding_window` is set.
    mutating func qwenWindows(layerCount: Int) -> [Int?] {
        let first = size("max_window_layers", from: 0, limit: 1 << 30, default: 28)
        return optionalWindows(count: layerCount) { $0 >= first }
    }
}
