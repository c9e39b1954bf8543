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
        /// The share of a head that turns; nil for families that turn whole heads, whatever a file says.
        var partialRotary: Double?
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
