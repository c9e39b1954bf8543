public import FileFormats
import Foundation

/// The arithmetic of a decoder, read from a Hugging Face `config.json`.
///
/// A key that would change the arithmetic in a way that graft does not compute is an error that names it.
public struct ModelConfig: Sendable {
    /// A `model_type` that graft computes.
    public enum Family: String, Sendable, CaseIterable {
        case llama, mistral, qwen2
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
    public var tiesEmbeddings: Bool
    public var initializerRange: Double
    public var rotary: RotaryConfig
    /// Biases of q, k, v; of o; of gate, up and down.
    public var hasQKVBias = false
    public var hasOutputBias = false
    public var hasMLPBias = false
    /// The attention window of each layer; nil sees everything before it.
    public var windows: [Int?]
    public var bosTokenID: Int?
    public var eosTokenIDs: [Int]
    public var padTokenID: Int?
    /// The whole file, for what is copied on export.
    public var json: JSONObject

    /// Reads `config.json` of a model folder, or a file.
    public init(path: String) throws {
        var isDirectory: ObjCBool = false
        let isFolder = FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) && isDirectory.boolValue
        let file = isFolder ? path + "/config.json" : path
        let bytes = try readFile(file, limit: 16 << 20)
        let value: JSONValue
        do { value = try JSONParser.parse(bytes, duplicateKeys: .refuse) } catch let error as JSONError {
            throw FineTuningError.unsupportedModel(path: file, problems: [error.description])
        }
        guard let object = value.objectValue else {
            throw FineTuningError.unsupportedModel(path: file, problems: ["expected an object, found \(value.kindName)"])
        }
        try self.init(json: object, path: file)
    }

    /// - Throws: `FineTuningError.unsupportedModel` with every problem of the file.
    public init(json: JSONObject, path: String) throws {
        var reader = ConfigReader(json: json)
        let type = json["model_type"]?.stringValue
        guard let family = type.flatMap(Family.init(rawValue:)) else {
            let known = Family.allCases.map(\.rawValue).joined(separator: ", ")
            throw FineTuningError.unsupportedModel(
                path: path, problems: ["model_type is \(type.map { "'\($0)'" } ?? "missing"); graft runs \(known)"])
        }
        self.family = family
        self.json = json
        vocabularySize = reader.size("vocab_size", limit: 1 << 24)
        hiddenSize = reader.size("hidden_size", limit: 1 << 20)
        intermediateSize = reader.size("intermediate_size", limit: 1 << 22)
        layerCount = reader.size("num_hidden_layers", limit: 4096)
        headCount = reader.size("num_attention_heads", limit: 1 << 16)
        keyValueHeadCount = reader.size("num_key_value_heads", limit: 1 << 16, default: headCount)
        headDim = reader.size("head_dim", limit: 1 << 16, default: hiddenSize / max(1, headCount))
        maxPositions = reader.size("max_position_embeddings", limit: 1 << 28, default: 2048)
        rmsNormEps = Float(reader.number("rms_norm_eps", default: 1e-6))
        initializerRange = reader.number("initializer_range", default: 0.02)
        tiesEmbeddings = reader.flag("tie_word_embeddings", default: false)
        bosTokenID = json["bos_token_id"]?.intValue
        padTokenID = json["pad_token_id"]?.intValue
        eosTokenIDs = json["eos_token_id"]?.intValue.map { [$0] } ?? json["eos_token_id"]?.arrayValue?.compactMap(\.intValue) ?? []
        rotary = RotaryConfig(&reader, headDim: headDim, maxPositions: maxPositions)
        windows = Array(repeating: nil, count: max(0, layerCount))

        let activation = json["hidden_act"]?.stringValue ?? "silu"
        if activation != "silu" { reader.problems.append("hidden_act is '\(activation)'; \(family) runs with 'silu'") }
        if json["quantization_config"].map({ !$0.isNull }) == true {
            reader.problems.append("quantization_config: quantised checkpoints cannot be read; use the original weights")
        }
        switch family {
        case .llama:
            hasQKVBias = reader.flag("attention_bias", default: false)
            hasOutputBias = hasQKVBias
            hasMLPBias = reader.flag("mlp_bias", default: false)
        case .mistral:
            windows = Array(repeating: reader.optionalSize("sliding_window"), count: layerCount)
        case .qwen2:
            hasQKVBias = true
            windows = reader.qwenWindows(layerCount: layerCount)
        }
        if keyValueHeadCount > 0, headCount % keyValueHeadCount != 0 {
            reader.problems.append(
                "num_attention_heads (\(headCount)) is not a multiple of num_key_value_heads (\(keyValueHeadCount))")
        }
        if headDim % 2 != 0 { reader.problems.append("head_dim (\(headDim)) is odd") }
        if headCount * headDim > 1 << 22 {
            reader.problems.append("num_attention_heads x head_dim (\(headCount) x \(headDim)) is more than \(1 << 22)")
        } else if reader.problems.isEmpty, parameterCount > Self.parameterLimit {
            reader.problems.append("the sizes make \(parameterCount) parameters, more than \(Self.parameterLimit)")
        }
        guard reader.problems.isEmpty else {
            throw FineTuningError.unsupportedModel(path: path, problems: reader.problems)
        }
    }

    /// Beyond any model, and small enough that sums of bytes cannot overflow.
    private static let parameterLimit = 1 << 44

    /// Parameters of the model, tied ones once.
    public var parameterCount: Int {
        ParameterTable(self).parameters.reduce(0) { $0 + $1.shape.reduce(1, *) }
    }
}

/// Reads keys and collects what is wrong with them.
struct ConfigReader {
    let json: JSONObject
    var problems: [String] = []

    init(json: JSONObject) { self.json = json }

    private func present(_ key: String) -> JSONValue? {
        guard let value = json[key], !value.isNull else { return nil }
        return value
    }

    mutating func size(_ key: String, from least: Int = 1, limit: Int, default fallback: Int? = nil) -> Int {
        guard let value = present(key) else {
            if let fallback { return fallback }
            problems.append("\(key) is missing")
            return 1
        }
        guard let size = value.intValue, size >= least, size <= limit else {
            problems.append("\(key): expected an integer from \(least) to \(limit), found \(JSONWriter.text(value))")
            return 1
        }
        return size
    }

    mutating func optionalSize(_ key: String) -> Int? {
        present(key) == nil ? nil : size(key, limit: 1 << 30)
    }

    mutating func number(_ key: String, default fallback: Double) -> Double {
        guard let value = present(key) else { return fallback }
        guard let number = value.doubleValue, number >= 0 else {
            problems.append("\(key): expected a number from 0, found \(JSONWriter.text(value))")
            return fallback
        }
        return number
    }

    mutating func flag(_ key: String, default fallback: Bool) -> Bool {
        guard let value = present(key) else { return fallback }
        guard let flag = value.boolValue else {
            problems.append("\(key): expected true or false, found \(JSONWriter.text(value))")
            return fallback
        }
        return flag
    }

    /// Qwen2 slides from layer `max_window_layers` on, when `use_sliding_window` is set; `layer_types` says it outright.
    mutating func qwenWindows(layerCount: Int) -> [Int?] {
        let isUsed = flag("use_sliding_window", default: false)
        guard isUsed, let window = optionalSize("sliding_window") else {
            return Array(repeating: nil, count: layerCount)
        }
        if let types = present("layer_types")?.arrayValue {
            guard types.count == layerCount else {
                problems.append("layer_types has \(types.count) entries for \(layerCount) layers")
                return []
            }
            return types.map { $0.stringValue?.hasSameBytes(as: "sliding_attention") == true ? window : nil }
        }
        let first = size("max_window_layers", from: 0, limit: 1 << 30, default: 28)
        return (0..<layerCount).map { $0 >= first ? window : nil }
    }
}
