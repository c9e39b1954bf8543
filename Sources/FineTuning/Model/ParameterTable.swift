import FileFormats
import TensorCore

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
        /// Whether it never learns: what training sets by other means than gradients.
        public var isFixed = false
        /// Its place in a GGUF tensor that holds those of all experts.
        public var expert: Int?
        /// Whether it is added rather than multiplied with: zero at first.
        public var isBias = false
        /// Whether it holds the experts' matrices, or biases, of a layer.
        public var isStack = false
        /// The GGUF tensors of a stack's parts, which alternate in it; of gates over ups, where `isStack` is false,
        /// those of the halves.
        public var stackNames: [String] = []
        /// How newer GGUF files hold it in two.
        public var headParts: HeadParts?

        /// Matrices that it holds: those of a stack, or 1.
        public var matrixCount: Int { shape.count == 3 ? shape[0] : 1 }
        /// Whether it is of one routed expert, or of all.
        public var isOfExperts: Bool { expert != nil || shape.count == 3 }
        /// `[out, in]` of each of its matrices.
        public var productShape: [Int] { isStack ? [shape[2], shape[1]] : Array(shape.suffix(2)) }

        /// Whether it is multiplied with activations, and so held in the precision of the computation.
        public var isMatrix: Bool { shape.count > 1 && !isBias }
    }

    /// The up projection of latent attention, `[heads * (plain + value), rank]`, in two tensors of a GGUF file, from
    /// which llama.cpp attends in the latents: `[heads, rank, plain]` of the keys and `[heads, value, rank]`.
    public struct HeadParts: Sendable {
        public var keyName: String
        public var valueName: String
        public var heads: Int
        public var plainDim: Int
        public var valueDim: Int
        public var rank: Int
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

    /// Matrices of the routed experts, or of one of them.
    public struct ExpertModule: Sendable {
        /// Such as `model.layers.0.mlp.experts.3.gate_proj`, or of all `model.layers.0.mlp.experts.gate_up_proj`.
        public var name: String
        public var layer: Int
        public var part: ExpertPart
        /// Nil for all experts.
        public var expert: Int?
        public var outputWidth: Int
        public var inputWidth: Int
    }

    /// A norm of a block.
    public struct NormModule: Sendable {
        /// Such as `model.layers.0.input_layernorm.weight`.
        public var name: String
        public var layer: Int
        public var role: NormRole
    }

    public static let embeddingModule = "model.embed_tokens"
    public static let embedding = embeddingModule + ".weight"
    public static let finalNorm = "model.norm.weight"
    public static let headModule = "lm_head"
    public static let head = headModule + ".weight"

    public private(set) var parameters: [Parameter] = []
    public private(set) var linearModules: [LinearModule] = []
    public private(set) var normModules: [NormModule] = []
    /// The routed experts' layers one by one, where checkpoints have them so; and those of all experts together.
    public private(set) var expertModules: [ExpertModule] = []
    public private(set) var stackedExpertModules: [ExpertModule] = []
    let config: ModelConfig

    public init(_ config: ModelConfig) {
        self.config = config
        let hidden = config.hiddenSize
        add(Self.embedding, "token_embd.weight", [config.vocabularySize, hidden])
        for layer in 0..<config.layerCount {
            for role in config.norms { addNorm(role, layer, hidden) }
            if let latent = config.latent { addLatentAttention(latent, layer) } else { addAttention(layer) }
            if config.hasSinks { add(Self.sinks(layer), "blk.\(layer).attn_sinks.weight", [config.headCount]) }
            if config.layers[layer].mixes, let mixture = config.mixture {
                addMixture(mixture, layer)
            } else {
                addFeedForward(layer)
            }
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

    private mutating func addLatentAttention(_ latent: LatentAttention, _ layer: Int) {
        let hidden = config.hiddenSize, heads = config.headCount, bias = config.hasQKVBias
        let queries = heads * config.headDim
        if let rank = latent.queryRank {
            addLinear(.queryDown, layer, rank, hidden, bias: bias)
            addNorm(.queryLatent, layer, rank)
            addLinear(.queryUp, layer, queries, rank, bias: false)
        } else {
            addLinear(.attentionQuery, layer, queries, hidden, bias: false)
        }
        addLinear(.keyValueDown, layer, latent.keyValueRank + latent.rotaryDim, hidden, bias: bias)
        addNorm(.keyValueLatent, layer, latent.keyValueRank)
        addLinear(
            .keyValueUp, layer, heads * (latent.plainDim + latent.valueDim), latent.keyValueRank, bias: false)
        parameters[parameters.count - 1].headParts = HeadParts(
            keyName: "blk.\(layer).\(ParameterNames.keyUp).weight",
            valueName: "blk.\(layer).\(ParameterNames.valueUp).weight",
            heads: heads, plainDim: latent.plainDim, valueDim: latent.valueDim, rank: latent.keyValueRank)
        addLinear(.attentionOutput, layer, hidden, heads * latent.valueDim, bias: config.hasOutputBias)
    }

    private mutating func addMixture(_ mixture: Mixture, _ layer: Int) {
        let hidden = config.hiddenSize
        addLinear(.router, layer, mixture.router.experts, hidden, bias: mixture.hasRouterBias)
        if mixture.hasCorrection {
            add(Self.correction(config, layer), "blk.\(layer).exp_probs_b.bias", [mixture.router.experts])
            parameters[parameters.count - 1].isFixed = true
            parameters[parameters.count - 1].isBias = true
        }
        if let shared = mixture.sharedWidth {
            addLinear(.sharedGate, layer, shared, hidden, bias: false)
            addLinear(.sharedUp, layer, shared, hidden, bias: false)
            addLinear(.sharedDown, layer, hidden, shared, bias: false)
            if mixture.gatesShared { addLinear(.sharedScale, layer, 1, hidden, bias: false) }
        }
        addExperts(mixture, layer)
    }

    private mutating func addExperts(_ mixture: Mixture, _ layer: Int) {
        let (hidden, inner, count) = (config.hiddenSize, mixture.innerWidth, mixture.router.experts)
        func gguf(_ part: ExpertPart) -> String { "blk.\(layer).\(ParameterNames.gguf(part))" }
        let stackedBlock = Self.expertsModule(layer)
        for (part, name, output, input) in [
            (ExpertPart.gateUp, "gate_up_proj", 2 * inner, hidden), (.down, "down_proj", hidden, inner),
        ] {
            let module = "\(stackedBlock).\(name)"
            stackedExpertModules.append(
                ExpertModule(
                    name: module, layer: layer, part: part, expert: nil, outputWidth: output, inputWidth: input))
            switch mixture.storage {
            case .separate: break
            case .stacked:
                add(module, gguf(part) + ".weight", [count, output, input])
                guard part == .gateUp else { continue }
                parameters[parameters.count - 1].stackNames = [gguf(.gate) + ".weight", gguf(.up) + ".weight"]
            case .inputMajor:
                add(module, gguf(part) + ".weight", [count, input, output])
                add(module + "_bias", gguf(part) + ".bias", [count, output])
                parameters[parameters.count - 1].isBias = true
                let parts = part == .gateUp ? [ExpertPart.gate, .up] : [part]
                for (place, kind) in zip(parameters.indices.suffix(2), ["weight", "bias"]) {
                    parameters[place].isStack = true
                    parameters[place].stackNames = parts.map { "\(gguf($0)).\(kind)" }
                }
            }
        }
        guard mixture.storage != .inputMajor else { return }
        let names = config.family.definition.mixtureNames
        for expert in 0..<count {
            for (part, name, output, input) in [
                (ExpertPart.gate, names.gate, inner, hidden), (.up, names.up, inner, hidden),
                (.down, names.down, hidden, inner),
            ] {
                let module = "model.layers.\(layer).\(names.block).experts.\(expert).\(name)"
                expertModules.append(
                    ExpertModule(
                        name: module, layer: layer, part: part, expert: expert, outputWidth: output, inputWidth: input))
                guard mixture.storage == .separate else { continue }
                add(module + ".weight", gguf(part) + ".weight", [output, input])
                parameters[parameters.count - 1].expert = expert
            }
        }
    }

    /// The family's names; newer files of stacked experts have those of Transformers alone.
    private var mixtureNames: MixtureNames {
        var names = config.family.definition.mixtureNames
        if config.mixture?.storage == .stacked { names.block = "mlp" }
        return names
    }

    private func hugging(_ role: LinearRole) -> String {
        let names = mixtureNames
        return switch role {
        case .router: "\(names.block).\(names.router)"
        case .sharedGate: "\(names.block).\(names.shared).gate_proj"
        case .sharedUp: "\(names.block).\(names.shared).up_proj"
        case .sharedDown: "\(names.block).\(names.shared).down_proj"
        case .sharedScale: "\(names.block).\(names.shared)_gate"
        default: config.family.definition.linearNames[role] ?? ParameterNames.hugging(role)
        }
    }

    /// The module of all experts, and the router's, in Transformers.
    static func expertsModule(_ layer: Int) -> String { "model.layers.\(layer).mlp.experts" }
    func routerModule(_ layer: Int) -> String { "model.layers.\(layer).mlp.\(mixtureNames.router)" }
    var expertCount: Int { config.mixture?.router.experts ?? 1 }
    /// Whether PEFT takes the names of experts' linear layers for their stacked parameters, as for all but one of the
    /// families whose checkpoints have experts one by one: what else goes by such a name has to be targeted as a
    /// parameter.
    var renamesExperts: Bool { !expertModules.isEmpty && mixtureNames.renamedByPEFT }

    /// The tensor of a GGUF file that holds a part of all experts of a layer.
    public static func expertGGUFName(_ layer: Int, _ part: ExpertPart) -> String {
        "blk.\(layer).\(ParameterNames.gguf(part)).weight"
    }

    /// The gates over the ups of all experts in a GGUF file, after `blk.N.`.
    public static let stackedGGUFName = ParameterNames.gguf(.gateUp)

    static func sinks(_ layer: Int) -> String { "model.layers.\(layer).self_attn.sinks" }
    static func correction(_ config: ModelConfig, _ layer: Int) -> String {
        "model.layers.\(layer).\(config.family.definition.mixtureNames.block).gate.e_score_correction_bias"
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
        let gguf = config.family.gguf.normNames[role] ?? ParameterNames.gguf(role)
        addNorm(name, "blk.\(layer).\(gguf).weight", width)
        normModules.append(NormModule(name: name, layer: layer, role: role))
    }

    private mutating func addLinear(
        _ role: LinearRole, _ layer: Int, _ output: Int, _ input: Int, bias: Bool, permutedHeads: Int? = nil
    ) {
        let part = hugging(role)
        let module = "model.layers.\(layer).\(part)", gguf = "blk.\(layer).\(ParameterNames.gguf(role))"
        add(module + ".weight", gguf + ".weight", [output, input], permutedHeads: permutedHeads)
        if bias {
            add(module + ".bias", gguf + ".bias", [output], permutedHeads: permutedHeads)
            parameters[parameters.count - 1].isBias = true
        }
        linearModules.append(
            LinearModule(
                name: module, layer: layer, role: role, outputWidth: output, inputWidth: input, hasBias: bias))
    }
}
