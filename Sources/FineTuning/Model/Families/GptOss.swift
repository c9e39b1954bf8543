import FileFormats
import TensorCore

extension FamilyDefinition {
    static let gptOSS = FamilyDefinition(
        className: "GptOssForCausalLM",
        gguf: GGUFTraits(
            architecture: "gpt-oss", keys: [.slidingWindow], normNames: [.feedForwardInput: "post_attention_norm"],
            acceptsRoundedYarn: true, needsHead: true, differences: { $0.clampDifferences },
            complete: { json in
                json["moe_intermediate_size"] = nil
                var scaling = json["rope_scaling"]?.objectValue ?? JSONObject([("rope_type", "default")])
                if scaling["rope_type"]?.stringValue?.hasSameBytes(as: "yarn") == true, scaling["truncate"] == nil {
                    scaling["truncate"] = false
                }
                json["rope_scaling"] = .object(scaling)
            }),
        defaults: Defaults(headDim: 64, rmsNormEps: 1e-5, theta: 150_000),
        mixtureNames: MixtureNames(router: "router"),
        inertKeys: MixtureReading.inertKeys + ["experts_per_token", "initial_context_length"],
        read: { config, reader in
            reader.requireActivation(["silu"])
            config.hasQKVBias = reader.flag("attention_bias", default: true)
            config.hasOutputBias = config.hasQKVBias
            config.hasSinks = true
            if !reader.isPresent("rope_parameters"), !reader.isPresent("rope_scaling") {
                reader.report("rope_parameters is missing")
            }
            let window = reader.size("sliding_window", limit: 1 << 30, default: 128)
            let slides = reader.slidingLayers(count: config.layerCount) ?? (0..<config.layerCount).map { $0 % 2 == 0 }
            config.setWindows(slides.map { $0 ? window : nil })
            var mixture = Mixture(
                router: reader.router(experts: ["num_local_experts", "num_experts"], default: (128, 4)) { router, _ in
                    // The softmax of the chosen logits.
                    router.normalizes = true
                },
                innerWidth: config.intermediateSize)
            mixture.storage = .inputMajor
            mixture.hasRouterBias = true
            mixture.activation = .clampedSwiGLU(
                alpha: Float(reader.factor("swiglu_alpha", default: 1.702)),
                limit: Float(reader.factor("swiglu_limit", default: 7)))
            config.mixture = mixture
            config.mixLayers { _ in true }
        })
}

extension ModelConfig {
    /// Constants of llama.cpp that config.json may have otherwise.
    fileprivate var clampDifferences: [String] {
        var problems: [String] = []
        if case .clampedSwiGLU(let alpha, let limit)? = mixture?.activation, alpha != 1.702 || limit != 7 {
            problems.append("swiglu_alpha and swiglu_limit: llama.cpp computes with 1.702 and 7")
        }
        if layers.map({ $0.window != nil }) != layers.indices.map({ $0 % 2 == 0 }) {
            problems.append("layer_types: llama.cpp slides in every second layer, from the first on")
        }
        return problems
    }
}
