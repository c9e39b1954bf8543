extension FamilyDefinition {
    static let glm4 = FamilyDefinition(
        className: "Glm4ForCausalLM", gguf: GGUFTraits(architecture: "glm4", gaps: [.frequencyDivisors]),
        defaults: Defaults(headDim: 128, rmsNormEps: 1.5625e-7, partialRotary: 0.5),
        normNames: [
            .attentionOutput: "post_self_attn_layernorm", .feedForwardInput: "post_attention_layernorm",
            .feedForwardOutput: "post_mlp_layernorm",
        ],
        read: { config, reader in
            reader.requireActivation(["silu"])
            config.norms = [.attentionInput, .attentionOutput, .feedForwardInput, .feedForwardOutput]
            config.hasQKVBias = reader.flag("attention_bias", default: true)
            config.fusesGateUp = true
            config.interleavesRotary = true
        })
}
