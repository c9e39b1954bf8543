extension FamilyDefinition {
    static let llama = FamilyDefinition(
        className: "LlamaForCausalLM",
        gguf: GGUFTraits(
            architecture: "llama", permutesRotaryRows: true, recognizes: GGUFTraits.hasNoExperts,
            widensValues: { $0 == 80 && $1 }),
        read: { config, reader in
            reader.requireActivation(["silu"])
            config.hasQKVBias = reader.flag("attention_bias", default: false)
            config.hasOutputBias = config.hasQKVBias
            config.hasMLPBias = reader.flag("mlp_bias", default: false)
        })

    static let mistral = FamilyDefinition(
        className: "MistralForCausalLM",
        gguf: GGUFTraits(
            architecture: "llama", permutesRotaryRows: true, gaps: [.windows], recognizes: GGUFTraits.hasNoExperts),
        read: { config, reader in
            reader.requireActivation(["silu"])
            let window = reader.optionalSize("sliding_window")
            if let types = reader.slidingLayers(count: config.layerCount), types.contains(window == nil) {
                reader.report("layer_types: this family has one kind of attention, as sliding_window says")
            }
            config.setWindows(Array(repeating: window, count: config.layerCount))
        })
}

extension GGUFTraits {
    static let hasNoExperts: @Sendable ((String) -> Double?) -> Bool = { ($0("expert_count") ?? 0) == 0 }
}
