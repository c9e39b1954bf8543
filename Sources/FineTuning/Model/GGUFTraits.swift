public import FileFormats

/// A family's name and metadata in llama.cpp (src/llama-arch.cpp and src/models/ there).
public struct GGUFTraits: Sendable {
    /// A key of the metadata beyond those that every family has.
    public enum Key: String, Sendable {
        case slidingWindow = "attention.sliding_window"
        case slidingPeriod = "attention.sliding_window_pattern"
        case localTheta = "rope.freq_base_swa"
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
            case .slidingPeriod: "sliding_window_pattern"
            case .localTheta: "rope_local_base_freq"
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

    /// What a config.json of the family may ask for and llama.cpp's loader has no place for.
    public enum Gap: Sendable {
        case untiedHead, queryKeyValueBias, outputBias, feedForwardBias
        /// Divisors of the rotary embedding's frequencies: Llama 3.1's scaling, LongRoPE.
        case frequencyDivisors
        /// Windows: all layers see everything there.
        case windows
    }

    /// `general.architecture`.
    public var architecture: String
    /// Whether the rows of q and k are reordered, so that the pairs that turn lie next to each other.
    public var permutesRotaryRows = false
    public var keys: [Key] = []
    /// Names of norms that differ from `ParameterNames`' own.
    var normNames: [NormRole: String] = [:]
    /// Whether the family's files ask for YaRN without rounding and llama.cpp's users run it with: a warning, no reason
    /// to refuse.
    public var acceptsRoundedYarn = false
    public var gaps: [Gap] = []
    /// Whether llama.cpp loads no file without a head, even of a model whose head is its embedding.
    public var needsHead = false
    /// Linear layers that llama.cpp multiplies with past any adapter, by its names after `blk.N.` and before `.weight`.
    public var layersPastAdapters: [String] = []
    /// What llama.cpp computes in another way than this model would have it, as reasons to refuse.
    var differences: @Sendable (ModelConfig) -> [String] = { _ in [] }
    /// Tells a file of the family from others of its architecture by the numbers of its metadata, after the
    /// architecture's name.
    public var recognizes: @Sendable (_ number: (String) -> Double?) -> Bool = { _ in true }
    /// Whether llama.cpp's mixes give the values' matrices more bits in a model of so many layers, where query heads
    /// share keys or do not.
    public var widensValues: @Sendable (_ layers: Int, _ sharesKeys: Bool) -> Bool = { _, _ in false }
    /// Adds to a config.json made of a file's metadata what llama.cpp knows without being told.
    public var complete: @Sendable (inout JSONObject) -> Void = { _ in }

    /// Why llama.cpp cannot run a model of the family; empty when it can.
    public func problems(_ config: ModelConfig) -> [String] {
        let scaling = config.rotaries[0].scaling
        let found: [(Gap, Bool, String)] = [
            (
                .untiedHead, !config.tiesEmbeddings,
                "tie_word_embeddings is false: llama.cpp takes the embedding as head"
            ),
            (.queryKeyValueBias, config.hasQKVBias, "attention_bias: llama.cpp has none in this family"),
            (.outputBias, config.hasOutputBias, "attention_bias: llama.cpp has none on o_proj in this family"),
            (.feedForwardBias, config.hasMLPBias, "mlp_bias: llama.cpp has none in this family"),
            (
                .frequencyDivisors, scaling.dividesFrequencies,
                "rope_type: llama.cpp does not divide frequencies one by one in this family"
            ),
        ]
        return found.filter { gaps.contains($0.0) && $0.1 }.map(\.2) + differences(config)
    }

    /// What differs with long contexts alone.
    public func warnings(_ config: ModelConfig) -> [String] {
        var warnings: [String] = []
        if gaps.contains(.windows), let window = config.windows.compactMap({ $0 }).min() {
            warnings.append(
                "llama.cpp runs \(config.family.rawValue) without the sliding window: its answers are this model's "
                    + "up to \(window) tokens of context, and may differ beyond")
        }
        if case .longrope(_, _, let original, _) = config.rotaries[0].scaling {
            warnings.append(
                "llama.cpp chooses LongRoPE's divisors by the context it is started with, not by the length of the "
                    + "text: for texts of at most \(original) tokens start it with a context of at most \(original)")
        }
        return warnings
    }
}

extension RotaryConfig.Scaling {
    var dividesFrequencies: Bool {
        switch self {
        case .llama3, .longrope: true
        default: false
        }
    }
}

extension GGUFTraits.Key {
    /// What the key holds for a model; nil leaves it out.
    public func value(_ config: ModelConfig) -> GGUFTraits.Value? {
        switch self {
        case .slidingWindow: config.windows.compactMap { $0 }.min().map { .count($0) }
        case .slidingPeriod: config.slidingPeriod.map { .count($0) }
        case .localTheta: config.rotaries.count > 1 ? .number(config.rotaries[1].theta) : nil
        case .scoreCap: config.scoreCap.map { .number(Double($0)) }
        case .logitCap: config.logitCap.map { .number(Double($0)) }
        case .embeddingScale: .number(Double(config.embeddingScale))
        case .residualScale: .number(Double(config.residualScale))
        case .logitScale: .number(1 / Double(config.logitScale))
        case .attentionScale: config.attentionScale.map { .number($0) }
        }
    }
}

extension ModelConfig {
    /// p where all layers slide but every p-th, 0 where all do; nil for another order.
    var slidingPeriod: Int? {
        let slides = layers.map { $0.window != nil }
        return (0...layerCount).first { period in
            slides == layers.indices.map { period == 0 || ($0 + 1) % period != 0 }
        }
    }
}
