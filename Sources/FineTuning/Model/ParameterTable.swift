public import FileFormats

/// The parts of a decoder that hold parameters.
public enum LinearRole: String, CaseIterable, Sendable {
    case attentionQuery, attentionKey, attentionValue, attentionOutput
    case feedForwardGate, feedForwardUp, feedForwardDown
}

/// Every parameter of a model under its Hugging Face name, with its GGUF name: nothing else in graft spells one.
public struct ParameterTable: Sendable {
    public struct Parameter: Sendable {
        /// Such as `model.layers.0.self_attn.q_proj.weight`.
        public var name: String
        /// Such as `blk.0.attn_q.weight`.
        public var ggufName: String
        public var shape: [Int]
        /// Rows that llama.cpp expects reordered for the rotary embedding: the number of heads, or nil.
        public var permutedHeads: Int?
    }

    /// A linear layer that an adapter may target.
    public struct LinearModule: Sendable {
        /// Such as `model.layers.0.self_attn.q_proj`.
        public var name: String
        public var layer: Int
        public var role: LinearRole
        public var outputWidth: Int
        public var inputWidth: Int
        public var hasBias: Bool
    }

    public static let embedding = "model.embed_tokens.weight"
    public static let finalNorm = "model.norm.weight"
    public static let headModule = "lm_head"
    public static let head = headModule + ".weight"

    public let parameters: [Parameter]
    public let linearModules: [LinearModule]

    public static func inputNorm(_ layer: Int) -> String { "model.layers.\(layer).input_layernorm.weight" }
    public static func postAttentionNorm(_ layer: Int) -> String {
        "model.layers.\(layer).post_attention_layernorm.weight"
    }

    public static func module(_ role: LinearRole, layer: Int) -> String {
        "model.layers.\(layer)." + names(role).hugging
    }

    private static func names(_ role: LinearRole) -> (hugging: String, gguf: String) {
        switch role {
        case .attentionQuery: ("self_attn.q_proj", "attn_q")
        case .attentionKey: ("self_attn.k_proj", "attn_k")
        case .attentionValue: ("self_attn.v_proj", "attn_v")
        case .attentionOutput: ("self_attn.o_proj", "attn_output")
        case .feedForwardGate: ("mlp.gate_proj", "ffn_gate")
        case .feedForwardUp: ("mlp.up_proj", "ffn_up")
        case .feedForwardDown: ("mlp.down_proj", "ffn_down")
        }
    }

    private static func shape(_ role: LinearRole, _ config: ModelConfig) -> (output: Int, input: Int, bias: Bool) {
        let (hidden, inner) = (config.hiddenSize, config.intermediateSize)
        let queries = config.headCount * config.headDim, keys = config.keyValueHeadCount * config.headDim
        return switch role {
        case .attentionQuery: (queries, hidden, config.hasQKVBias)
        case .attentionKey, .attentionValue: (keys, hidden, config.hasQKVBias)
        case .attentionOutput: (hidden, queries, config.hasOutputBias)
        case .feedForwardGate, .feedForwardUp: (inner, hidden, config.hasMLPBias)
        case .feedForwardDown: (hidden, inner, config.hasMLPBias)
        }
    }

    public init(_ config: ModelConfig) {
        let hidden = config.hiddenSize
        var parameters = [
            Parameter(name: Self.embedding, ggufName: "token_embd.weight", shape: [config.vocabularySize, hidden])
        ]
        var modules: [LinearModule] = []
        // Llama's and Mistral's GGUF files interleave the halves of each head that the rotary embedding turns.
        let permutes = config.family == .llama || config.family == .mistral
        for layer in 0..<config.layerCount {
            parameters.append(
                Parameter(name: Self.inputNorm(layer), ggufName: "blk.\(layer).attn_norm.weight", shape: [hidden]))
            parameters.append(
                Parameter(
                    name: Self.postAttentionNorm(layer), ggufName: "blk.\(layer).ffn_norm.weight", shape: [hidden]))
            for role in LinearRole.allCases {
                let (output, input, bias) = Self.shape(role, config)
                let module = Self.module(role, layer: layer), gguf = "blk.\(layer)." + Self.names(role).gguf
                let heads: Int? =
                    switch role {
                    case .attentionQuery where permutes: config.headCount
                    case .attentionKey where permutes: config.keyValueHeadCount
                    default: nil
                    }
                parameters.append(
                    Parameter(
                        name: module + ".weight", ggufName: gguf + ".weight", shape: [output, input],
                        permutedHeads: heads))
                if bias {
                    parameters.append(
                        Parameter(
                            name: module + ".bias", ggufName: gguf + ".bias", shape: [output], permutedHeads: heads))
                }
                modules.append(
                    LinearModule(
                        name: module, layer: layer, role: role, outputWidth: output, inputWidth: input, hasBias: bias))
            }
        }
        parameters.append(Parameter(name: Self.finalNorm, ggufName: "output_norm.weight", shape: [hidden]))
        if !config.tiesEmbeddings {
            parameters.append(
                Parameter(name: Self.head, ggufName: "output.weight", shape: [config.vocabularySize, hidden]))
        }
        self.parameters = parameters
        linearModules = modules
    }

    /// Parameters that the files lack, or hold with another shape or in a type that graft does not compute with.
    public func mismatches(_ files: SafetensorsFolder) -> [String] {
        parameters.flatMap { parameter -> [String] in
            guard let entry = files.entry(named: parameter.name) else { return ["\(parameter.name) is missing"] }
            var problems: [String] = []
            if entry.shape != parameter.shape {
                problems.append("\(parameter.name): expected shape \(parameter.shape), found \(entry.shape)")
            }
            if ![.f32, .f16, .bf16].contains(entry.type) {
                problems.append("\(parameter.name): expected F32, F16 or BF16, found \(entry.type.rawValue)")
            }
            return problems
        }
    }
}
