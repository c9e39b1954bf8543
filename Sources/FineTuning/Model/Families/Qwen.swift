extension FamilyDefinition {
    static let qwen2 = FamilyDefinition(
        className: "Qwen2ForCausalLM", gguf: GGUFTraits(architecture: "qwen2", warnings: GGUFTraits.ignoredWindows),
        inertKeys: ["attention_bias"],
        read: { config, reader in
            reader.requireActivation(["silu"])
            config.hasQKVBias = true
            config.setWindows(reader.qwenWindows(layerCount: config.layerCount))
        })

    static let qwen3 = FamilyDefinition(
        className: "Qwen3ForCausalLM", gguf: GGUFTraits(architecture: "qwen3", warnings: GGUFTraits.ignoredWindows),
        defaults: Defaults(headDim: 128),
        read: { config, reader in
            reader.requireActivation(["silu"])
            config.hasQKVBias = reader.flag("attention_bias", default: false)
            config.hasOutputBias = config.hasQKVBias
            config.queryKeyNorm = .perHead
            config.setWindows(reader.qwenWindows(layerCount: config.layerCount))
        })
}

extension ConfigReader {
    /// Qwen slides from layer `max_window_layers` on, when `use_sliding_window` is set.
    mutating func qwenWindows(layerCount: Int) -> [Int?] {
        let first = size("max_window_layers", from: 0, limit: 1 << 30, default: 28)
        return optionalWindows(count: layerCount) { $0 >= first }
    }
}
