import FileFormats
import Foundation

extension ModelConfig {
    /// Reads the rotary embeddings: one for all layers, or for families with a `localTheta` one for layers that see
    /// everything and one for those that slide.
    ///
    /// - Parameters:
    ///   - theta: the base where the file gives none
    ///   - localTheta: the same for layers that slide; what is not nested is then of the others alone
    mutating func readRotaries(
        _ reader: inout ConfigReader, theta: Double, localTheta: Double? = nil
    ) {
        let file = RotaryReader(
            &reader, self, partial: family.definition.defaults.partialRotary, isLayered: localTheta != nil)
        func read(_ nested: String?, _ theta: Double, usesFile: Bool = true) -> RotaryConfig {
            file.rotary(&reader, nested, theta: theta, usesFile: usesFile)
        }
        guard let localTheta else {
            rotaries = [read(nil, theta)]
            return
        }
        rotaries = [
            read(file.isNested ? "full_attention" : nil, theta),
            read(file.isNested ? "sliding_attention" : nil, localTheta, usesFile: file.isNested),
        ]
        for layer in layers.indices where layers[layer].rotary != nil {
            layers[layer].rotary = layers[layer].window == nil ? 0 : 1
        }
    }
}

/// The parameters of rotary embeddings, in `rope_parameters` (new files) or `rope_theta` and `rope_scaling` (older
/// ones).
private struct RotaryReader {
    private let parameters: JSONObject
    private let prefix: String
    private let theta: Double?
    private let partial: Double
    private let turnsPartly: Bool
    private let original: Int?
    private let headDim, maxPositions: Int
    private let isInterleaved, isLayered: Bool

    var isNested: Bool { parameters.entries.contains { $0.value.objectValue != nil } }

    init(_ reader: inout ConfigReader, _ config: ModelConfig, partial: Double?, isLayered: Bool) {
        let new = reader.object("rope_parameters"), old = reader.object("rope_scaling")
        // The older spelling wins where a file has both, as in Transformers.
        let usesOld = (old?.count ?? 0) > 0
        if usesOld, let new, new.entries.contains(where: { $0.value.objectValue != nil }) {
            reader.report(
                "rope_scaling: rope_parameters says the same for each kind of layer; remove one of them")
        }
        parameters = (usesOld ? old : new) ?? JSONObject()
        prefix = usesOld ? "rope_scaling" : "rope_parameters"
        theta = reader.optionalNumber("rope_theta") ?? new?["rope_theta"]?.doubleValue
        if usesOld, old?["rope_theta"] == nil, !reader.isPresent("rope_theta"), theta != nil {
            reader.report(
                "rope_scaling: implementations that let it replace rope_parameters lose the rope_theta there; remove "
                    + "one of them, or write rope_theta beside them")
        }
        self.partial = reader.optionalNumber("partial_rotary_factor") ?? partial ?? 1
        turnsPartly = partial != nil
        original = reader.optionalSize("original_max_position_embeddings")
        (headDim, maxPositions, isInterleaved) = (config.headDim, config.maxPositions, config.interleavesRotary)
        self.isLayered = isLayered
        if !usesOld { reportWrongNesting(&reader) }
    }

    /// Implementations pass over parameters that are nested where the family has one embedding for all layers, and over
    /// those that are not where it has one for each kind.
    private func reportWrongNesting(_ reader: inout ConfigReader) {
        for (key, value) in parameters.entries where !value.isNull && isLayered != (value.objectValue != nil) {
            reader.report(
                "rope_parameters.\(key): this family has "
                    + (isLayered
                        ? "an embedding for each kind of layer; put it under full_attention or sliding_attention"
                        : "one embedding for all layers; put its parameters into rope_parameters itself"))
        }
    }

    /// - Parameters:
    ///   - nested: the key of the parameters that are meant, where they are nested
    ///   - usesFile: false takes `theta` as it is, without stretching
    func rotary(
        _ reader: inout ConfigReader, _ nested: String?, theta fallback: Double, usesFile: Bool
    ) -> RotaryConfig {
        let object = usesFile ? nested.map { parameters[$0]?.objectValue ?? JSONObject() } ?? parameters : JSONObject()
        var section = RotarySection(
            parameters: object, prefix: nested.map { "\(prefix).\($0)" } ?? prefix, original: original,
            maxPositions: maxPositions, isLayered: isLayered, isOfWholeFile: nested == nil)
        let theta = section.optional("rope_theta") ?? (usesFile ? self.theta : nil) ?? fallback
        if !(theta > 0 && theta.isFinite) {
            section.problems.append("rope_theta: expected a positive number, found \(theta)")
        }
        let share = section.optional("partial_rotary_factor") ?? partial
        var dimensions = Int(Double(headDim) * min(max(share, 0), 1))
        if share != 1, !turnsPartly {
            section.problems.append("partial_rotary_factor is \(share): this family turns whole heads")
        } else if !(share > 0 && share <= 1) || dimensions % 2 != 0 || dimensions == 0 {
            section.problems.append(
                "partial_rotary_factor is \(share): of \(headDim) elements a head, an even number has to turn")
            dimensions = 2
        }
        let scaling = section.scaling(pairs: dimensions / 2)
        section.reportUnusableValues()
        section.reportUnknownKeys()
        reader.report(section.problems)
        return RotaryConfig(theta: theta, scaling: scaling, dimensions: dimensions, isInterleaved: isInterleaved)
    }
}

/// The parameters of one rotary embedding.
private struct RotarySection {
    let parameters: JSONObject
    let prefix: String
    let original: Int?
    let maxPositions: Int
    let isLayered: Bool
    /// Whether it is one of the file, rather than of a kind of layer.
    let isOfWholeFile: Bool
    var problems: [String] = []

    mutating func number(_ key: String) -> Double {
        if let value = optional(key) { return value }
        if parameters[key] == nil { problems.append("\(prefix).\(key) is missing") }
        return 1
    }

    /// A number that may be left out. Zero is as if it were, for the keys that Transformers asks `or` of.
    func optional(_ key: String) -> Double? {
        guard let value = parameters[key]?.doubleValue, value > 0, value.isFinite else { return nil }
        return value
    }

    /// Values that are not of the type that their key has to be, which the readers here pass over.
    mutating func reportUnusableValues() {
        func report(_ key: String, _ expected: String, unless isRight: (JSONValue) -> Bool) {
            guard let value = parameters[key], !value.isNull, !isRight(value) else { return }
            problems.append("\(prefix).\(key): expected \(expected), found \(ConfigReader.shown(value))")
        }
        for key in Self.numbers { report(key, "a positive number") { _ in optional(key) != nil } }
        for key in Self.numbersOrZero {
            report(key, "a positive number") { optional(key) != nil || $0.doubleValue == 0 }
        }
        for key in ["rope_type", "type"] { report(key, "a string") { $0.stringValue != nil } }
        report("truncate", "true or false") { $0.boolValue != nil }
    }

    private static let numbers = [
        "factor", "attention_factor", "rope_theta", "original_max_position_embeddings", "partial_rotary_factor",
        "low_freq_factor", "high_freq_factor",
    ]
    /// Zero is as if they were left out.
    private static let numbersOrZero = ["mscale", "mscale_all_dim", "beta_fast", "beta_slow"]

    /// The context before stretching; a key of the whole file comes before one of these parameters.
    private var originalPositions: Double {
        original.map(Double.init) ?? optional("original_max_position_embeddings") ?? Double(maxPositions)
    }

    mutating func scaling(pairs: Int) -> RotaryConfig.Scaling {
        let type = parameters["rope_type"]?.stringValue ?? parameters["type"]?.stringValue ?? "default"
        if isLayered, isOfWholeFile, parameters["rope_type"] == nil, !type.hasSameBytes(as: "default") {
            problems.append(
                "\(prefix).type is '\(type)': implementations pass over it where layers differ; call it rope_type")
        }
        switch type {
        case "default": return .none
        case "linear": return .linear(factor: number("factor"))
        case "dynamic" where isLayered:
            problems.append("\(prefix).rope_type is 'dynamic': where layers differ, implementations do not agree on it")
            return .none
        case "dynamic": return .dynamic(factor: number("factor"), positions: Double(maxPositions))
        case "llama3":
            return .llama3(
                factor: number("factor"), lowFrequency: number("low_freq_factor"),
                highFrequency: number("high_freq_factor"), originalPositions: originalPositions)
        case "longrope", "su": return longrope(pairs)
        // Early files call it so; YaRN has no list of divisors.
        case "yarn": return parameters["long_factor"] != nil ? longrope(pairs) : yarn()
        default:
            problems.append(
                "\(prefix).rope_type is '\(type)'; graft computes default, linear, dynamic, llama3, yarn and longrope")
            return .none
        }
    }

    private func yarn() -> RotaryConfig.Scaling {
        let original = originalPositions, factor = optional("factor") ?? Double(maxPositions) / original
        func magnitude(_ scale: Double, _ m: Double = 1) -> Double { scale <= 1 ? 1 : 0.1 * m * log(scale) + 1 }
        var attention = magnitude(factor)
        if let m = optional("mscale"), let all = optional("mscale_all_dim") {
            attention = magnitude(factor, m) / magnitude(factor, all)
        }
        return .yarn(
            factor: factor, originalPositions: original, betaFast: optional("beta_fast") ?? 32,
            betaSlow: optional("beta_slow") ?? 1, attentionFactor: optional("attention_factor") ?? attention,
            truncates: parameters["truncate"].map { $0.boolValue ?? !$0.isNull } ?? true)
    }

    private mutating func longrope(_ pairs: Int) -> RotaryConfig.Scaling {
        func divisors(_ key: String) -> [Double] {
            let found = parameters[key]?.arrayValue ?? []
            let values = found.compactMap(\.doubleValue).filter { $0 > 0 && $0.isFinite }
            if values.count == pairs, found.count == pairs { return values }
            problems.append(
                "\(prefix).\(key): expected \(pairs) positive numbers, found "
                    + (parameters[key].map(ConfigReader.shown) ?? "nothing"))
            return Array(repeating: 1, count: pairs)
        }
        let original = max(2, originalPositions), factor = optional("factor") ?? Double(maxPositions) / original
        let attention = factor <= 1 ? 1 : (1 + log(factor) / log(original)).squareRoot()
        return .longrope(
            short: divisors("short_factor"), long: divisors("long_factor"),
            originalPositions: Int(min(original, 1e15)), attentionFactor: optional("attention_factor") ?? attention)
    }

    private static let known: Set<ByteString> = [
        "rope_type", "type", "rope_theta", "partial_rotary_factor", "factor", "original_max_position_embeddings",
        "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow", "attention_factor", "mscale",
        "mscale_all_dim", "truncate", "short_factor", "long_factor",
        // Said by tools about where a value came from, or of no use to the type at hand.
        "finetuned", "rope_interleaved", "short_mscale", "long_mscale",
    ]

    mutating func reportUnknownKeys() {
        for (key, value) in parameters.entries where !Self.known.contains(ByteString(key)) && !value.isNull {
            problems.append("\(prefix).\(key) is \(JSONWriter.text(value)): graft does not know what it changes")
        }
    }
}
