import FileFormats

/// A `model_type` that graft computes.
public enum Family: String, Sendable, CaseIterable {
    case llama, mistral, qwen2, qwen3, gemma, gemma2, phi3, smollm3, olmo2, granite, glm4
    case gemma3 = "gemma3_text"
    case mixtral
    case qwen2MoE = "qwen2_moe"
    case qwen3MoE = "qwen3_moe"
    case deepseekV2 = "deepseek_v2"
    case deepseekV3 = "deepseek_v3"
    case kimiK2 = "kimi_k2"
    case gptOSS = "gpt_oss"

    var definition: FamilyDefinition {
        switch self {
        case .llama: .llama
        case .mistral: .mistral
        case .qwen2: .qwen2
        case .qwen3: .qwen3
        case .gemma: .gemma
        case .gemma2: .gemma2
        case .gemma3: .gemma3
        case .phi3: .phi3
        case .smollm3: .smollm3
        case .olmo2: .olmo2
        case .granite: .granite
        case .glm4: .glm4
        case .mixtral: .mixtral
        case .qwen2MoE: .qwen2MoE
        case .qwen3MoE: .qwen3MoE
        case .deepseekV2: .deepseekV2
        case .deepseekV3, .kimiK2: .deepseekV3
        case .gptOSS: .gptOSS
        }
    }

    /// The class in Transformers, as `architectures` names it.
    public var className: String { definition.className }
    /// How llama.cpp takes the family.
    public var gguf: GGUFTraits { definition.gguf }
}

/// All that graft knows of one family: how its config.json sets the options of the block, and the names by which
/// others know its parts. One file of `Families/` holds it.
struct FamilyDefinition: Sendable {
    /// What an absent key of config.json means where families differ.
    struct Defaults: Sendable {
        /// Nil for hidden_size / num_attention_heads.
        var headDim: Int?
        var rmsNormEps = 1e-6
        var tiesEmbeddings = false
        var theta = 10_000.0
        var partialRotary = 1.0
    }

    var className: String
    var gguf: GGUFTraits
    var defaults = Defaults()
    /// Hugging Face names that differ from `ParameterNames`' own.
    var normNames: [NormRole: String] = [:]
    var linearNames: [LinearRole: String] = [:]
    var mixtureNames = MixtureNames()
    /// Keys that the family's files hold and that change nothing.
    var inertKeys: [String] = []
    /// Sets the options of the block from config.json.
    var read: @Sendable (inout ModelConfig, inout ConfigReader) -> Void
}

/// A family's name and metadata in llama.cpp (src/llama-arch.cpp and llama-model.cpp there).
public struct GGUFTraits: Sendable {
    /// A key of the metadata beyond those that every family has.
    public enum Key: String, Sendable {
        case slidingWindow = "attention.sliding_window"
        case scoreCap = "attn_logit_softcapping"
        case logitCap = "final_logit_softcapping"
        case embeddingScale = "embedding_scale"
        case residualScale = "residual_scale"
        case logitScale = "logit_scale"
        case attentionScale = "attention.scale"

        /// The key of config.json that has the same value.
        public var configKey: String {
            switch self {
            case .slidingWindow: "sliding_window"
            case .scoreCap: "attn_logit_softcapping"
            case .logitCap: "final_logit_softcapping"
            case .embeddingScale: "embedding_multiplier"
            case .residualScale: "residual_multiplier"
            case .logitScale: "logits_scaling"
            case .attentionScale: "attention_multiplier"
            }
        }
    }

    /// A value of the metadata.
    public enum Value: Sendable {
        case count(Int)
        case number(Double)
    }

    /// `general.architecture`.
    public var architecture: String
    /// Whether the rows of q and k are reordered, so that the pairs that turn lie next to each other.
    public var permutesRotaryRows = false
    public var keys: [Key] = []
    /// What llama.cpp computes in another way than this model would have it, as reasons to refuse.
    public var problems: @Sendable (ModelConfig) -> [String] = { _ in [] }
    /// The same where only long contexts differ.
    public var warnings: @Sendable (ModelConfig) -> [String] = { _ in [] }
}

extension GGUFTraits.Key {
    /// What the key holds for a model; nil leaves it out.
    public func value(_ config: ModelConfig) -> GGUFTraits.Value? {
        switch self {
        case .slidingWindow: config.windows.compactMap { $0 }.min().map { .count($0) }
        case .scoreCap: config.scoreCap.map { .number(Double($0)) }
        case .logitCap: config.logitCap.map { .number(Double($0)) }
        case .embeddingScale: .number(Double(config.embeddingScale))
        case .residualScale: .number(Double(config.residualScale))
        case .logitScale: .number(1 / Double(config.logitScale))
        case .attentionScale: config.attentionScale.map { .number($0) }
        }
    }
}
