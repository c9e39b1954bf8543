import FileFormats
import Foundation

extension FamilyDefinition {
    static let gemma = FamilyDefinition(
        className: "GemmaForCausalLM", gguf: GGUFTraits(architecture: "gemma", gaps: gemmaGaps),
        defaults: gemmaDefaults,
        read: { config, reader in
            // Old files say gelu and mean the approximation.
            reader.requireActivation(["gelu_pytorch_tanh", "gelu"])
            config.readGemma(&reader)
        })

    static let gemma2 = FamilyDefinition(
        className: "Gemma2ForCausalLM",
        gguf: GGUFTraits(
            architecture: "gemma2", keys: [.slidingWindow, .slidingPeriod, .scoreCap, .logitCap], gaps: gemmaGaps,
            differences: { config in
                let isCapped = config.scoreCap != nil && config.logitCap != nil
                return config.gemmaDifferences(unscaledLayers: 46)
                    + (isCapped ? [] : ["attn_ and final_logit_softcapping: llama.cpp has no gemma2 without them"])
            }, complete: { completeGemma(&$0, period: 2, unscaledLayers: 46) }),
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
            architecture: "gemma3", keys: [.slidingWindow, .slidingPeriod, .localTheta], gaps: gemmaGaps,
            differences: { config in
                let isCapped = config.logitCap != nil
                return config.gemmaDifferences(unscaledLayers: 62)
                    + (isCapped ? ["final_logit_softcapping: llama.cpp does not cap gemma3's logits"] : [])
            }, complete: { completeGemma(&$0, period: 6, unscaledLayers: 62) }),
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

    private static let gemmaGaps: [GGUFTraits.Gap] = [
        .untiedHead, .queryKeyValueBias, .outputBias, .frequencyDivisors,
    ]

    /// Says what llama.cpp's loader derives: the layers that slide, and the scale of the scores.
    private static func completeGemma(_ json: inout JSONObject, period: Int, unscaledLayers: Int) {
        let layers = json["num_hidden_layers"]?.intValue ?? 0, heads = json["num_attention_heads"]?.intValue ?? 1
        let width =
            layers == unscaledLayers
            ? (json["hidden_size"]?.intValue ?? 1) / max(1, heads) : json["head_dim"]?.intValue ?? 1
        let period = json["sliding_window_pattern"]?.intValue ?? period
        json["query_pre_attn_scalar"] = .integer(width)
        json["sliding_window_pattern"] = nil
        json["layer_types"] = .array(
            (0..<min(4096, max(0, layers))).map { layer in
                period <= 0 || (layer + 1) % period != 0 ? "sliding_attention" : "full_attention"
            })
    }

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
        reader.requireActivation(["gelu_pytorch_tanh"], key: "hidden_activation", isNullable: true)
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

    /// llama.cpp slides in a period and derives the scale of the scores from the size of the model.
    fileprivate func gemmaDifferences(unscaledLayers: Int) -> [String] {
        var problems: [String] = []
        if slidingPeriod == nil { problems.append("layer_types: llama.cpp slides in all layers but every n-th") }
        if rotaries.count > 1, !rotaries[1].scaling.isNone {
            problems.append("rope_parameters.sliding_attention: llama.cpp stretches the other layers alone")
        }
        let width = layerCount == unscaledLayers ? hiddenSize / headCount : headDim
        let scale = attentionScale ?? 1 / Double(headDim).squareRoot()
        if abs(scale * Double(width).squareRoot() - 1) > 1e-6 {
            problems.append("query_pre_attn_scalar: llama.cpp divides by the square root of \(width)")
        }
        return problems
    }
}
