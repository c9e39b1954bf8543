extension FamilyDefinition {
    static let olmo2 = FamilyDefinition(
        className: "Olmo2ForCausalLM",
        gguf: GGUFTraits(
            architecture: "olmo2", gaps: [.queryKeyValueBias, .outputBias, .frequencyDivisors], needsHead: true),
        defaults: Defaults(rmsNormEps: 1e-5),
        normNames: [
            .attentionOutput: "post_attention_layernorm", .feedForwardOutput: "post_feedforward_layernorm",
        ],
        read: { config, reader in
            reader.requireActivation(["silu"])
            config.norms = [.attentionOutput, .feedForwardOutput]
            config.queryKeyNorm = .wholeWidth
            config.hasQKVBias = reader.flag("attention_bias", default: false)
            config.hasOutputBias = config.hasQKVBias
        })
}
