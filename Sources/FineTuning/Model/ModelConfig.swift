public import FileFormats
import Foundation

/// The arithmetic of a decoder, read from a Hugging Face `config.json`.
///
/// A key that would change the arithmetic in a way that graft does not compute is an error that names it.
public struct ModelConfig: Sendable {
    /// A gate's activation function.
    public enum Activation: Sendable {
        case silu
        /// The approximation of GELU with tanh.
        case geluTanh
    }

    /// How queries and keys are normalised before they turn.
    public enum QueryKeyNorm: Sendable {
        case perHead
        /// All heads together.
        case wholeWidth
    }

    /// What sets a block apart from the others.
    public struct LayerOptions: Sendable {
        /// A query sees the keys of this many last positions, itself included; nil sees everything before it.
        public var window: Int?
        /// The place of its rotary embedding in `rotaries`; nil for a block that does not turn queries and keys.
        public var rotary: Int? = 0
        /// Whether a mixture of experts stands in for the feed-forward layers.
        public var mixes = false
    }

    public var family: Family
    public var vocabularySize: Int
    public var hiddenSize: Int
    public var intermediateSize: Int
    public var layerCount: Int
    public var headCount: Int
    public var keyValueHeadCount: Int
    public var headDim: Int
    public var rmsNormEps: Float
    public var maxPositions: Int
    /// Tokens of the longest text that the model is made for; nil where its rotary embedding grows with the text.
    public var context: Int? {
        if case .dynamic? = rotaries.first?.scaling { nil } else { maxPositions }
    }
    public var tiesEmbeddings: Bool
    public var initializerRange: Double
    public var bosTokenID: Int?
    public var eosTokenIDs: [Int]
    public var padTokenID: Int?
    /// The whole file, for what is copied on export.
    public var json: JSONObject
    /// How the weights are quantised by what the file says; nil where it says nothing.
    var quantization: String?
    /// Whether the weights are plain all the same, so that the file's keys of it, which `json` has no longer, are left
    /// over from another checkpoint.
    public internal(set) var hasStaleQuantization = false
    /// What is right but worth knowing of the folder.
    public internal(set) var notes: [String] = []

    // MARK: options of the block

    public var activation = Activation.silu
    /// The norms that a block has, in the order of the parameter table.
    public var norms: [NormRole] = [.attentionInput, .feedForwardInput]
    /// Added to the stored weight of every norm.
    public var normOffset: Float = 0
    public var queryKeyNorm: QueryKeyNorm?
    /// Biases of q, k, v; of o; of gate, up and down.
    public var hasQKVBias = false
    public var hasOutputBias = false
    public var hasMLPBias = false
    /// Whether the pairs that turn lie next to each other, rather than half a head apart.
    public var interleavesRotary = false
    /// Whether q, k and v are one projection; gate and up.
    public var fusesQKV = false
    public var fusesGateUp = false
    /// Multiplies attention's scores; nil for 1 / sqrt(headDim).
    public var attentionScale: Double?
    /// c in c tanh(x / c), applied to attention's scores and to the logits.
    public var scoreCap: Float?
    public var logitCap: Float?
    /// Multiplies embeddings, what a block adds to the residual stream, and logits.
    public var embeddingScale: Float = 1
    public var residualScale: Float = 1
    public var logitScale: Float = 1
    /// Whether each head has a sink in its softmax.
    public var hasSinks = false
    public var latent: LatentAttention?
    public var mixture: Mixture?
    /// Layers in the files beyond the model's own.
    var extraLayers = 0
    public var layers: [LayerOptions]
    public var rotaries: [RotaryConfig]

    /// Elements of a value.
    public var valueDim: Int { latent?.valueDim ?? headDim }

    /// The attention window of each layer; nil sees everything before it.
    public var windows: [Int?] { layers.map(\.window) }

    mutating func setWindows(_ windows: [Int?]) {
        for (layer, window) in zip(layers.indices, windows) { layers[layer].window = window }
    }

    /// Reads `config.json` of a model folder, or a file.
    public init(path: String) throws {
        let (json, file) = try Self.readJSON(path)
        try self.init(json: json, path: file)
    }

    /// The `model_type` of a folder that graft may not run.
    public static func typeName(path: String) throws -> String? { try readJSON(path).json["model_type"]?.stringValue }

    /// Larger than any, the lists of layers that quantised checkpoints have included; a hostile document of this size
    /// takes about 60 MiB.
    private static let sizeLimit = 4 << 20

    private static func readJSON(_ path: String) throws -> (json: JSONObject, file: String) {
        let isFolder = fileKind(path) == .folder
        let file = isFolder ? path + "/config.json" : path
        if !isFolder, TextResources.isGGUF(file) {
            throw FineTuningError.unsupportedModel(
                path: file, problems: ["it is a GGUF file; a model folder or its config.json is expected here"])
        }
        let value: JSONValue
        do { value = try FileFormats.readJSON(file, limit: sizeLimit, duplicateKeys: .refuse) } catch FileError.json(
            _, let error)
        {
            throw FineTuningError.unsupportedModel(path: file, problems: [error.description])
        } catch FileError.missing where isFolder {
            throw FileError.modelFolder(path: path, [.noConfig(found: try namesInFolder(path))])
        }
        guard let object = value.objectValue else {
            throw FineTuningError.unsupportedModel(
                path: file, problems: ["expected an object, found \(value.kindName)"])
        }
        return (object, file)
    }

    /// - Throws: `FineTuningError.unsupportedModel` with every problem of the file.
    public init(json: JSONObject, path: String) throws {
        var reader = ConfigReader(json: json)
        guard let family = reader.family() else {
            throw FineTuningError.unsupportedModel(path: path, problems: reader.problems)
        }
        let definition = family.definition, defaults = definition.defaults
        self.family = family
        self.json = json
        vocabularySize = reader.size("vocab_size", limit: 1 << 24)
        hiddenSize = reader.size("hidden_size", limit: 1 << 20)
        intermediateSize = reader.size("intermediate_size", limit: 1 << 22)
        layerCount = reader.size("num_hidden_layers", limit: 4096)
        headCount = reader.size("num_attention_heads", limit: 1 << 16)
        keyValueHeadCount = reader.size("num_key_value_heads", limit: 1 << 16, default: headCount)
        headDim = reader.size(
            "head_dim", limit: 1 << 16, default: defaults.headDim ?? hiddenSize / max(1, headCount))
        maxPositions = reader.size("max_position_embeddings", limit: 1 << 28, default: 2048, isNullable: false)
        rmsNormEps = Float(reader.number("rms_norm_eps", default: defaults.rmsNormEps))
        initializerRange = reader.number("initializer_range", default: 0.02)
        tiesEmbeddings = reader.flag("tie_word_embeddings", default: defaults.tiesEmbeddings)
        bosTokenID = reader.integers("bos_token_id").first
        padTokenID = reader.integers("pad_token_id").first
        eosTokenIDs = reader.integers("eos_token_id")
        layers = Array(repeating: LayerOptions(), count: layerCount)
        rotaries = []
        quantization = QuantizedCheckpoint.declaration(&reader)
        reader.requireFlag("is_causal", true, "graft trains causal models")
        definition.read(&self, &reader)
        if rotaries.isEmpty { readRotaries(&reader, theta: defaults.theta) }
        checkSizes(&reader)
        reader.reportUnknownKeys(inert: definition.inertKeys)
        guard reader.problems.isEmpty else {
            throw FineTuningError.unsupportedModel(path: path, problems: reader.problems)
        }
    }

    private func checkSizes(_ reader: inout ConfigReader) {
        if keyValueHeadCount > 0, headCount % keyValueHeadCount != 0 {
            reader.report(
                "num_attention_heads (\(headCount)) is not a multiple of num_key_value_heads (\(keyValueHeadCount))")
        }
        if headDim % 2 != 0 {
            let key = latent == nil ? "head_dim" : "qk_nope_head_dim + qk_rope_head_dim"
            reader.report("\(key) (\(headDim)) is odd")
        }
        if headCount * headDim > 1 << 22 {
            reader.report("num_attention_heads x head_dim (\(headCount) x \(headDim)) is more than \(1 << 22)")
        } else if reader.problems.isEmpty, parameterCount > Self.parameterLimit {
            reader.report("the sizes make \(parameterCount) parameters, more than \(Self.parameterLimit)")
        }
    }

    /// Beyond any model, and small enough that sums of bytes cannot overflow.
    private static let parameterLimit = 1 << 44

    /// Parameters of the model, tied ones once.
    public var parameterCount: Int {
        ParameterTable(self).parameters.reduce(0) { $0 + $1.shape.reduce(1, *) }
    }

    /// What to say of texts that are longer than the model's context; nil where none is.
    ///
    /// - Parameter lengths: in tokens
    public func contextNote(_ lengths: some Sequence<Int>, of what: String) -> String? {
        guard let context else { return nil }
        let all = Array(lengths), long = all.filter { $0 > context }
        guard let longest = long.max() else { return nil }
        return "\(long.count) of \(all.count) \(what) go beyond the model's context of \(context) tokens "
            + "(max_position_embeddings), the longest has \(longest) tokens: positions past the context are new to the model; "
            + "shorten or split these rows"
    }
}
