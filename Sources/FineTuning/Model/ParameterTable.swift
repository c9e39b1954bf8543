public import FileFormats

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
        /// Added to the stored value for the arithmetic, and in GGUF files.
        public var offset: Float = 0

        /// Whether it is multiplied with activations, and so held in the precision of the computation.
        public var isMatrix: Bool { shape.count > 1 }
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

    /// A norm of a block.
    public struct NormModule: Sendable {
        /// Such as `model.layers.0.input_layernorm.weight`.
        public var name: String
        public var layer: Int
        public var role: NormRole
    }

    public static let embedding = "model.embed_tokens.weight"
    public static let finalNorm = "model.norm.weight"
    public static let headModule = "lm_head"
    public static let head = headModule + ".weight"

    public private(set) var parameters: [Parameter] = []
    public private(set) var linearModules: [LinearModule] = []
    public private(set) var normModules: [NormModule] = []
    private let config: ModelConfig

    public init(_ config: ModelConfig) {
        self.config = config
        let hidden = config.hiddenSize
        add(Self.embedding, "token_embd.weight", [config.vocabularySize, hidden])
        for layer in 0..<config.layerCount {
            for role in config.norms { addNorm(role, layer, hidden) }
            addAttention(layer)
            addFeedForward(layer)
        }
        addNorm(Self.finalNorm, "output_norm.weight", hidden)
        if !config.tiesEmbeddings { add(Self.head, "output.weight", [config.vocabularySize, hidden]) }
    }

    // MARK: the parts of a block

    private mutating func addAttention(_ layer: Int) {
        let hidden = config.hiddenSize, bias = config.hasQKVBias
        let queries = config.headCount * config.headDim, keys = config.keyValueHeadCount * config.headDim
        let permutes = config.family.gguf.permutesRotaryRows
        if config.fusesQKV {
            addLinear(.attentionQueryKeyValue, layer, queries + 2 * keys, hidden, bias: bias)
        } else {
            addLinear(
                .attentionQuery, layer, queries, hidden, bias: bias, permutedHeads: permutes ? config.headCount : nil)
            addLinear(
                .attentionKey, layer, keys, hidden, bias: bias,
                permutedHeads: permutes ? config.keyValueHeadCount : nil)
            addLinear(.attentionValue, layer, keys, hidden, bias: bias)
        }
        addLinear(.attentionOutput, layer, hidden, queries, bias: config.hasOutputBias)
        if let norm = config.queryKeyNorm {
            addNorm(.query, layer, norm == .perHead ? config.headDim : queries)
            addNorm(.key, layer, norm == .perHead ? config.headDim : keys)
        }
    }

    private mutating func addFeedForward(_ layer: Int) {
        let hidden = config.hiddenSize, inner = config.intermediateSize, bias = config.hasMLPBias
        if config.fusesGateUp {
            addLinear(.feedForwardGateUp, layer, 2 * inner, hidden, bias: bias)
        } else {
            addLinear(.feedForwardGate, layer, inner, hidden, bias: bias)
            addLinear(.feedForwardUp, layer, inner, hidden, bias: bias)
        }
        addLinear(.feedForwardDown, layer, hidden, inner, bias: bias)
    }

    // MARK: rows of the table

    private mutating func add(_ name: String, _ gguf: String, _ shape: [Int], permutedHeads: Int? = nil) {
        parameters.append(Parameter(name: name, ggufName: gguf, shape: shape, permutedHeads: permutedHeads))
    }

    private mutating func addNorm(_ name: String, _ gguf: String, _ width: Int) {
        parameters.append(Parameter(name: name, ggufName: gguf, shape: [width], offset: config.normOffset))
    }

    private mutating func addNorm(_ role: NormRole, _ layer: Int, _ width: Int) {
        let part = config.family.definition.normNames[role] ?? ParameterNames.hugging(role)
        let name = "model.layers.\(layer).\(part).weight"
        addNorm(name, "blk.\(layer).\(ParameterNames.gguf(role)).weight", width)
        normModules.append(NormModule(name: name, layer: layer, role: role))
    }

    private mutating func addLinear(
        _ role: LinearRole, _ layer: Int, _ output: Int, _ input: Int, bias: Bool, permutedHeads: Int? = nil
    ) {
        let part = config.family.definition.linearNames[role] ?? ParameterNames.hugging(role)
        let module = "model.layers.\(layer).\(part)", gguf = "blk.\(layer).\(ParameterNames.gguf(role))"
        add(module + ".weight", gguf + ".weight", [output, input], permutedHeads: permutedHeads)
        if bias { add(module + ".bias", gguf + ".bias", [output], permutedHeads: permutedHeads) }
        linearModules.append(
            LinearModule(
                name: module, layer: layer, role: role, outputWidth: output, inputWidth: input, hasBias: bias))
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
