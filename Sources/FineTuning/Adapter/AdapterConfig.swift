public import FileFormats
import TextData

/// Module names as PEFT's configurations give them.
public enum ModuleNames: Sendable {
    /// Every linear layer but the head.
    case allLinear
    /// A module whose name is an entry, or ends in `.entry`.
    case names([String])
    /// A regular expression of Python's that matches the whole name.
    case pattern(String)

    /// - Parameter module: such as `model.layers.0.self_attn.q_proj`
    public func contains(_ module: String) -> Bool {
        switch self {
        case .allLinear:
            ![ParameterTable.headModule, ParameterTable.embeddingModule].contains(where: module.hasSameBytes)
        case .names(let names):
            names.contains { module.hasSameBytes(as: $0) || module.hasBytes(atEnd: "." + $0) }
        case .pattern(let pattern): AdapterConfig.fullMatch(pattern, module)
        }
    }
}

extension String {
    func hasBytes(atStart start: String) -> Bool { utf8.starts(with: start.utf8) }
    func hasBytes(atEnd end: String) -> Bool { utf8.reversed().starts(with: end.utf8.reversed()) }
}

/// A PEFT `adapter_config.json` for LoRA (PEFT 0.21).
public struct AdapterConfig: Sendable {
    /// Which biases of the base learn, too.
    public enum Bias: String, Sendable, CaseIterable {
        case none, all
        /// Those of the targeted modules.
        case targeted = "lora_only"
    }

    /// How new matrices start.
    public enum Initialization: Sendable, Equatable {
        /// A uniform in ±1/sqrt(in), B zero.
        case standard
        /// A and B uniform: the update is not zero. For tests.
        case random
        /// A normal with deviation 1/r, B zero.
        case gaussian
        /// Both from one orthogonal matrix; their product is zero.
        case orthogonal
        /// The base's leading singular vectors, taken out of the base (PiSSA, arXiv:2404.02948).
        case pissa
        /// The base's first columns as an orthonormal basis, and what the base is in it, taken out of the base
        /// (OLoRA, arXiv:2406.01775).
        case olora
        /// A from the leading directions of the layer's inputs, B zero (EVA, arXiv:2410.07170).
        case eva

        /// Whether the update starts as a part of the base, which loses it.
        public var takesOutOfBase: Bool { self == .pissa || self == .olora }
    }

    public struct EVAOptions: Sendable, Equatable {
        /// The largest rank of a module is this times r; above 1 ranks go where the inputs vary most.
        public var rho = 2.0
        /// The cosine between a direction and what it was a batch before, from which it counts as found.
        public var tau = 0.99
        /// Only rows that are trained.
        public var usesLabelMask = true
        public var whitens = false
        /// alpha grows and shrinks with the rank.
        public var adjustsScale = true
    }

    public var rank: Int
    public var alpha: Double
    public var dropout = 0.0
    public var targets: ModuleNames
    /// Parameters with an update, by name or `.suffix`: those of experts that are stacked.
    public var targetParameters: [String] = []
    public var excluded: ModuleNames?
    /// Numbers of the layers that get an update, nil for all; and what stands before the number, nil for anything.
    public var layers: [Int]?
    public var layersPattern: [String] = []
    public var usesRankStabilisedScale = false
    public var usesDoRA = false
    /// Whether B has a bias (`lora_bias`).
    public var hasUpdateBias = false
    public var bias = Bias.none
    public var initialization = Initialization.standard
    public var eva = EVAOptions()
    /// Ranks and alphas of modules that differ, by module name or pattern.
    public var rankPattern: [(String, Int)] = []
    public var alphaPattern: [(String, Double)] = []
    /// Ends of names of modules that learn as they are.
    public var modulesToSave: [String] = []
    /// Rows that learn, by the end of the name of the embedding or head they belong to.
    public var tokenIndices: [(module: String, indices: [Int])] = []
    /// Whether embedding and head of a model that ties them learn as one.
    public var ensuresWeightTying = false
    public var baseModel: String?
    /// The whole file.
    public var json: JSONObject

    /// alpha / r, or alpha / sqrt(r) with rank-stabilised scaling (arXiv:2312.03732).
    public func scale(rank: Int, alpha: Double) -> Double {
        usesRankStabilisedScale ? alpha / Double(rank).squareRoot() : alpha / Double(rank)
    }

    /// The rank and alpha of a module, which the patterns may change.
    public func rankAndAlpha(of module: String) -> (rank: Int, alpha: Double) {
        (
            rankPattern.first { Self.matches($0.0, module) }?.1 ?? rank,
            alphaPattern.first { Self.matches($0.0, module) }?.1 ?? alpha
        )
    }

    /// PEFT's rule for pattern keys: the key, as a regular expression, matches the name's end after a dot, or all.
    private static func matches(_ key: String, _ module: String) -> Bool {
        fullMatch("(.*\\.)?(\(key))", module)
    }

    static func fullMatch(_ pattern: String, _ text: String) -> Bool { PythonPattern.matches(pattern, whole: text) }

    /// Whether a module gets a low-rank update: PEFT's `check_target_module_exists`.
    public func targets(_ module: String) -> Bool {
        if excluded?.contains(module) == true { return false }
        if modulesToSave.contains(where: { Self.fullMatch("(^|.*\\.)\($0)($|\\..*)", module) }) { return false }
        guard targets.contains(module) else { return false }
        guard let layers, !layers.isEmpty, case .names(let names) = targets,
            !names.contains(where: module.hasSameBytes)
        else { return true }
        guard let index = layerIndex(module) else { return false }
        return layers.contains(index)
    }

    public func targets(parameter name: String) -> Bool { ModuleNames.names(targetParameters).contains(name) }

    /// Whether the configuration asks for an update there.
    public func targets(_ site: AdapterSite) -> Bool {
        if targets(parameter: site.isParameter ? site.target : site.target + ".weight") { return true }
        guard site.isParameter else { return targets(site.target) }
        // Routers were linear layers in Transformers 4, and are still asked for by name.
        if case .linear = site.place, case .names = targets { return targets(site.module) }
        return false
    }

    /// The first number among the parts of a module's name that stands after the pattern, if there is one.
    private func layerIndex(_ module: String) -> Int? {
        let parts = module.utf8.split(separator: UInt8(ascii: ".")).map { String(decoding: $0, as: UTF8.self) }
        for i in parts.indices.dropLast() where i > 0 {
            guard let index = Int(parts[i]) else { continue }
            let before = parts[..<i].joined(separator: ".")
            if layersPattern.isEmpty || layersPattern.contains(where: { Self.fullMatch("(?:^|.*?\\.)\($0)", before) }) {
                return index
            }
        }
        return nil
    }

    /// The indices of the rows that learn in an embedding or head of this name.
    func tokenIndices(of module: String) -> [Int]? {
        tokenIndices.first { module.hasBytes(atEnd: $0.module) }?.indices
    }
}
