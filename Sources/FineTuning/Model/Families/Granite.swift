extension FamilyDefinition {
    static let granite = FamilyDefinition(
        className: "GraniteForCausalLM",
        gguf: GGUFTraits(
            architecture: "granite", permutesRotaryRows: true,
            keys: [.embeddingScale, .residualScale, .logitScale, .attentionScale]),
        read: { config, reader in
            reader.requireActivation(["silu"])
            config.hasQKVBias = reader.flag("attention_bias", default: false)
            config.hasOutputBias = config.hasQKVBias
            config.hasMLPBias = reader.flag("mlp_bias", default: false)
            config.embeddingScale = Float(reader.factor("embedding_multiplier", default: 1))
            config.residualScale = Float(reader.factor("residual_multiplier", default: 1))
            config.attentionScale = reader.factor("attention_multiplier", default: 1)
            config.logitScale = Float(1 / reader.factor("logits_scaling", default: 1))
        })
}
