extension FamilyDefinition {
    static let llama = FamilyDefinition(
        className: "LlamaForCausalLM", gguf: GGUFTraits(architecture: "llama", permutesRotaryRows: true),
        read: { config, reader in
            reader.requireActivation(["silu"])
            config.hasQKVBias = reader.flag("attention_bias", default: false)
            config.hasOutputBias = config.hasQKVBias
            config.hasMLPBias = reader.flag("mlp_bias", default: false)
        })

    static let mistral = FamilyDefinition(
        className: "MistralForCausalLM",
        gguf: GGUFTraits(architecture: "llama", permutesRotaryRows: true, warnings: GGUFTraits.ignoredWindows),
        read: { config, reader in
            reader.requireActivation(["silu"])
            let window = reader.optionalSize("sliding_window")
            if let types = reader.slidingLayers(count: config.layerCount), types.contains(window == nil) {
                reader.problems.append("layer_types: this family has one kind of attention, as sliding_window says")
            }
            config.setWindows(Array(repeating: window, count: config.layerCount))
        })
}

extension GGUFTraits {
    /// For architectures that llama.cpp runs with full attention.
    static let ignoredWindows: @Sendable (ModelConfig) -> [String] = { config in
        guard let window = config.windows.compactMap({ $0 }).min() else { return [] }
        return [
            "llama.cpp runs \(config.family.rawValue) without the sliding window: its answers are this model's "
                + "up to \(window) tokens of context, and may differ beyond"
        ]
    }
}
