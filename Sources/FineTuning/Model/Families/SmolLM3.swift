import FileFormats

extension FamilyDefinition {
    static let smollm3 = FamilyDefinition(
        className: "SmolLM3ForCausalLM",
        gguf: GGUFTraits(
            architecture: "smollm3", permutesRotaryRows: true,
            gaps: [.queryKeyValueBias, .outputBias, .feedForwardBias, .frequencyDivisors, .windows],
            differences: { config in
                let turns = config.layers.map { $0.rotary != nil }
                if turns == config.layers.indices.map({ ($0 + 1) % 4 != 0 }) { return [] }
                return ["no_rope_layers: llama.cpp turns queries and keys in all layers but every fourth"]
            }),
        defaults: Defaults(tiesEmbeddings: true, theta: 2_000_000), inertKeys: ["max_window_layers"],
        read: { config, reader in
            reader.requireActivation(["silu"])
            config.hasQKVBias = reader.flag("attention_bias", default: false)
            config.hasOutputBias = config.hasQKVBias
            config.hasMLPBias = reader.flag("mlp_bias", default: false)
            let interval = reader.size("no_rope_layer_interval", limit: 4096, default: 4)
            var turns = (0..<config.layerCount).map { ($0 + 1) % interval != 0 }
            // Despite the key's name, 1 stands for a layer that turns.
            turns = reader.marks("no_rope_layers", count: config.layerCount) ?? turns
            config.setWindows(reader.optionalWindows(count: config.layerCount) { !turns[$0] })
            for layer in config.layers.indices where !turns[layer] { config.layers[layer].rotary = nil }
        })
}
