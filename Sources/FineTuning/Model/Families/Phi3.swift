extension FamilyDefinition {
    static let phi3 = FamilyDefinition(
        className: "Phi3ForCausalLM", gguf: GGUFTraits(architecture: "phi3", keys: [.slidingWindow], gaps: [.windows]),
        defaults: Defaults(rmsNormEps: 1e-5, partialRotary: 1),
        inertKeys: ["attention_bias", "lm_head_bias", "mlp_bias", "full_attn_mod", "interpolate_factor"],
        read: { config, reader in
            reader.requireActivation(["silu"])
            config.fusesQKV = true
            config.fusesGateUp = true
            config.setWindows(Array(repeating: reader.optionalSize("sliding_window"), count: config.layerCount))
        })
}
