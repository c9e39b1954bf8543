import Foundation

extension FamilyDefinition {
    static let gemma = FamilyDefinition(
        className: "GemmaForCausalLM", gguf: GGUFTraits(architecture: "gemma"), defaults: gemmaDefaults,
        read: { config, reader in
            // Old files say gelu and mean the approximation.
            reader.requireActivation(["gelu_pytorch_tanh", "gelu"])
            config.readGemma(&reader)
        })

    static let gemma2 = FamilyDefinition(
        className: "Gemma2ForCausalLM",
        gguf: GGUFTraits(
            architecture: "gemma2", keys: [.slidingWindow, .scoreCap, .logitCap],
            problems: { $0.gemmaDifferences(period: 2, unscaledLayers: 46) }),
        defaults: gemmaDefaults, normNames: gemmaNorms,
        inertKeys: ["hidden_act", "cache_implementation"],
        read: { config, reader in
            config.readGemma(&reader)
            config.norms = gemmaNormOrder
            config.attentionScale = 1 / reader.factor("query_pre_attn_scalar", default: 256).squareRoot()
            config.scoreCap = reader.optionalFactor("attn_logit_softcapping", default: 50).map { Float($0) }
            config.logitCap = reader.optionalFactor("final_logit_softcapping", default: 30).map { Float($0) }
            config.readGemmaWindows(&reader, period: 2)
        })

    static let gemma3 = FamilyDefinition(
        className: "Gemma3ForCausalLM",
        gguf: GGUFTraits(
            architecture: "gemma3", keys: [.slidingWindow, .logitCap],
            problems: { $0.gemmaDifferences(period: 6, unscaledLayers: 62) }),
        defaults: gemmaDefaults, normNames: gemmaNorms,
        inertKeys: ["hidden_act", "cache_implementation"],
        read: { config, reader in
            config.readGemma(&reader)
            config.norms = gemmaNormOrder
            config.queryKeyNorm = .perHead
            config.attentionScale = 1 / reader.factor("query_pre_attn_scalar", default: 256).squareRoot()
            config.logitCap = reader.optionalFactor("final_logit_softcapping", default: nil).map { Float($0) }
            let period = reader.size(
                "sliding_window_pattern", limit: 4096,
                default: reader.size("_sliding_window_pattern", limit: 4096, default: 6))
            config.readGemmaWindows(&reader, period: period)
            // Local layers turn by an embedding of their own; old files have its base beside rope_theta.
            config.readRotaries(
                &reader, theta: 1_000_000, localTheta: reader.number("rope_local_base_freq", default: 10_000))
        })

    private static let gemmaDefaults = Defaults(headDim: 256, tiesEmbeddings: true)
    private static let gemmaNormOrder: [NormRole] = [
        .attentionInput, .attentionOutput, .feedForwardInput, .feedForwardOutput,
    ]
    private static let gemmaNorms: [NormRole: String] = [
        .attentionOutput: "post_attention_layernorm", .feedForwardInput: "pre_feedforward_layernorm",
        .feedForwardOutput: "post_feedforward_layernorm",
    ]
}

extension ModelConfig {
    fileprivate mutating func readGemma(_ reader: inout ConfigReader) {
        reader.requireActivation(["gelu_pytorch_tanh"], key: "hidden_activation")
        reader.requireFlag("use_bidirectional_attention", false, "graft trains causal models")
        activation = .geluTanh
        normOffset = 1
        embeddingScale = Float(hiddenSize).squareRoot()
        hasQKVBias = reader.flag("attention_bias", default: false)
        hasOutputBias = hasQKVBias
    }

    /// All layers slide but every `period`-th.
    fileprivate mutating func readGemmaWindows(_ reader: inout ConfigReader, period: Int) {
        let window = reader.size("sliding_window", limit: 1 << 30, default: 4096)
        let types = reader.slidingLayers(count: layerCount) ?? (0..<layerCount).map { ($0 + 1) % period != 0 }
        setWindows(types.map { $0 ? window : nil })
    }

    /// llama.cpp derives which layers slide and the scale of the scores from the size of the model.
    fileprivate func gemmaDifferences(period: Int, unscaledLayers: Int) -> [String] {
        var problems: [String] = []
        let slides = layers.map { $0.window != nil }
        if let window = windows.compactMap({ $0 }).min(), window < maxPositions,
            slides != layers.indices.map({ ($0 + 1) % period != 0 })
        {
            problems.append("layer_types: llama.cpp slides in all layers but every \(period)th")
        }
        let width = layerCount == unscaledLayers ? hiddenSize / headCount : headDim
        let scale = attentionScale ?? 1 / Double(headDim).squareRoot()
        if abs(scale * Double(width).squareRoot() - 1) > 1e-6 {
            problems.append("query_pre_attn_scalar: llama.cpp divides by the square root of \(width)")
        }
        return problems
    }
}
