public import FileFormats
import Foundation

/// Which linear layers get a low-rank update.
public enum AdapterTargets: Sendable {
    /// Every linear layer but the head.
    case allLinear
    /// A module whose name is an entry, or ends in `.entry`.
    case names([String])
    /// A regular expression that matches the whole name.
    case pattern(String)
}

/// A PEFT `adapter_config.json` for LoRA (PEFT 0.21).
public struct AdapterConfig: Sendable {
    public var rank: Int
    public var alpha: Double
    public var dropout: Double
    public var targets: AdapterTargets
    /// Parameters with an update, by name or `.suffix`: those of experts that are stacked.
    public var targetParameters: [String] = []
    public var usesRankStabilisedScale = false
    /// Ranks and alphas of modules that differ, by module name or pattern.
    public var rankPattern: [(String, Int)] = []
    public var alphaPattern: [(String, Double)] = []
    public var baseModel: String?
    /// The whole file as read; keys that graft does not use travel on.
    public var json = JSONObject()

    public init(rank: Int, alpha: Double, dropout: Double, targets: AdapterTargets, baseModel: String?) {
        self.rank = rank
        self.alpha = alpha
        self.dropout = dropout
        self.targets = targets
        self.baseModel = baseModel
    }

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

    /// PEFT's rule for pattern keys: the key, as a regular expression, matches the name's end after a dot, or all of it.
    private static func matches(_ key: String, _ module: String) -> Bool {
        fullMatch("(.*\\.)?(\(key))", module)
    }

    static func fullMatch(_ pattern: String, _ text: String) -> Bool {
        guard let expression = try? NSRegularExpression(pattern: "^(?:\(pattern))$") else { return false }
        return expression.firstMatch(in: text, range: NSRange(text.startIndex..., in: text)) != nil
    }

    public func targets(_ module: String) -> Bool {
        switch targets {
        case .allLinear: !module.hasSameBytes(as: ParameterTable.headModule)
        case .names(let names): names.contains { Self.ends(module, with: $0) }
        case .pattern(let pattern): Self.fullMatch(pattern, module)
        }
    }

    public func targets(parameter name: String) -> Bool {
        targetParameters.contains { Self.ends(name, with: $0) }
    }

    /// Whether the configuration asks for an update there.
    public func targets(_ site: AdapterSite) -> Bool {
        if targets(parameter: site.isParameter ? site.target : site.target + ".weight") { return true }
        guard site.isParameter else { return targets(site.target) }
        // Routers were linear layers in Transformers 4, and are still asked for by name.
        if case .linear = site.place, case .names = targets { return targets(site.module) }
        return false
    }

    private static func ends(_ name: String, with target: String) -> Bool {
        name.hasSameBytes(as: target) || name.utf8.reversed().starts(with: ("." + target).utf8.reversed())
    }

    // MARK: the file

    /// Reads `adapter_config.json` of an adapter folder.
    ///
    /// - Throws: `FineTuningError.adapterMismatch` with every setting that graft cannot honour.
    public init(folder: String) throws {
        let path = folder + "/adapter_config.json"
        let value: JSONValue
        do { value = try JSONParser.parse(try readFile(path, limit: 16 << 20), duplicateKeys: .refuse) } catch let
            error as JSONError
        { throw FineTuningError.adapterMismatch(path: path, problems: [error.description]) }
        guard let json = value.objectValue else {
            throw FineTuningError.adapterMismatch(path: path, problems: ["expected an object, found \(value.kindName)"])
        }
        var problems: [String] = []
        if json["peft_type"]?.stringValue?.hasSameBytes(as: "LORA") != true {
            problems.append("peft_type: expected \"LORA\", found \(JSONWriter.text(json["peft_type"] ?? .null))")
        }
        rank = json["r"]?.intValue ?? 0
        if !(1...65_536).contains(rank) { problems.append("r: expected an integer from 1 to 65536") }
        alpha = json["lora_alpha"]?.doubleValue ?? 0
        if !(alpha > 0) { problems.append("lora_alpha: expected a positive number") }
        dropout = json["lora_dropout"]?.doubleValue ?? 0
        usesRankStabilisedScale = json["use_rslora"]?.boolValue ?? false
        baseModel = json["base_model_name_or_path"]?.stringValue
        self.json = json
        switch json["target_modules"] {
        case .array(let names): targets = .names(names.compactMap(\.stringValue))
        case .string(let text) where text.hasSameBytes(as: "all-linear"): targets = .allLinear
        case .string(let text): targets = .pattern(text)
        case .null?, nil where json["target_parameters"]?.arrayValue?.isEmpty == false: targets = .names([])
        default:
            targets = .names([])
            problems.append("target_modules: expected a list of names or a string")
        }
        targetParameters = json["target_parameters"]?.arrayValue?.compactMap(\.stringValue) ?? []
        for (key, value) in json["rank_pattern"]?.objectValue?.entries ?? [] {
            guard let number = value.intValue, number > 0 else { problems.append("rank_pattern.\(key)"); continue }
            rankPattern.append((key, number))
        }
        for (key, value) in json["alpha_pattern"]?.objectValue?.entries ?? [] {
            guard let number = value.doubleValue, number > 0 else { problems.append("alpha_pattern.\(key)"); continue }
            alphaPattern.append((key, number))
        }
        problems += Self.unsupported(json)
        guard problems.isEmpty else { throw FineTuningError.adapterMismatch(path: path, problems: problems) }
    }

    /// Settings that change what the adapter computes and that graft does not compute.
    private static func unsupported(_ json: JSONObject) -> [String] {
        let known: Set<ByteString> = [
            "alpha_pattern", "auto_mapping", "base_model_name_or_path", "fan_in_fan_out", "inference_mode",
            "init_lora_weights", "lora_alpha", "lora_dropout", "megatron_core", "peft_type", "peft_version",
            "qalora_group_size", "r", "rank_pattern", "revision", "target_modules", "target_parameters", "task_type", "use_rslora",
            // What initialised the weights, which are in the file by now.
            "loftq_config", "eva_config", "corda_config", "lora_ga_config", "runtime_config", "ensure_weight_tying",
        ]
        var problems: [String] = []
        for (key, value) in json.entries where !known.contains(ByteString(key)) {
            let isOff: Bool
            switch value {
            case .null, .bool(false): isOff = true
            case .array(let elements): isOff = elements.isEmpty
            case .object(let object): isOff = object.count == 0
            case .string(let text): isOff = key.hasSameBytes(as: "bias") && text.hasSameBytes(as: "none")
            default: isOff = false
            }
            if !isOff { problems.append("\(key) is \(JSONWriter.text(value)), which graft does not compute") }
        }
        if json["fan_in_fan_out"]?.boolValue == true {
            problems.append("fan_in_fan_out is true: the base's layers store [out, in]")
        }
        return problems
    }

    /// The file as PEFT writes it: sorted keys, indent 2.
    ///
    /// - Parameters:
    ///   - sites: that have an update
    ///   - renamesExperts: as `ParameterTable` has it
    public func jsonText(sites: [AdapterSite], renamesExperts: Bool) -> String {
        let isWhole = { (site: AdapterSite) in !site.isParameter && !(renamesExperts && site.hasExpertsName) }
        let modules = sites.filter(isWhole)
        var parameters: [String] = []
        for name in sites.filter({ !isWhole($0) }).map(\.parameterName)
        where !parameters.contains(where: name.hasSameBytes) { parameters.append(name) }
        var (ranks, alphas) = (rankPattern, alphaPattern)
        if let pattern = fusedPattern(sites) {
            ranks.append((pattern.key, pattern.rank))
            alphas.append((pattern.key, pattern.alpha))
        }
        var object: [String: JSONValue] = [
            "alpha_pattern": .object(JSONObject(alphas.map { (key: $0.0, value: Self.number($0.1)) })),
            "auto_mapping": .null, "base_model_name_or_path": baseModel.map { .string($0) } ?? .null, "bias": "none",
            "ensure_weight_tying": false, "exclude_modules": .null, "fan_in_fan_out": false, "inference_mode": true,
            "init_lora_weights": true, "layers_pattern": .null, "layers_to_transform": .null,
            // PEFT refuses dropout beside parameters, even where nothing is trained.
            "lora_alpha": Self.number(alpha), "lora_bias": false,
            "lora_dropout": .double(parameters.isEmpty ? dropout : 0),
            "modules_to_save": .null, "peft_type": "LORA", "r": .integer(rank),
            "rank_pattern": .object(JSONObject(ranks.map { (key: $0.0, value: .integer($0.1)) })),
            "revision": json["revision"] ?? .null,
            "target_parameters": parameters.isEmpty
                ? .null : .array(parameters.sorted { ByteString($0) < ByteString($1) }.map { .string($0) }),
            "task_type": "CAUSAL_LM",
            "trainable_token_indices": .null, "use_dora": false, "use_rslora": .bool(usesRankStabilisedScale),
        ]
        object["target_modules"] = targetModules(modules.map(\.target), isPartial: !parameters.isEmpty)
        let entries = object.map { (key: $0.key, value: $0.value) }
        return JSONWriter.text(.object(JSONObject(entries)), .init(indent: 2, sortsKeys: true)) + "\n"
    }

    /// Updates of single experts become PEFT's stacked ones on loading; those of gate and up, which are one parameter
    /// there, keep their matrices side by side, so that its rank is twice theirs.
    private func fusedPattern(_ sites: [AdapterSite]) -> (key: String, rank: Int, alpha: Double)? {
        let gates = sites.first {
            if case .expert(_, .gate, _) = $0.place { true } else { false }
        }
        guard let gate = gates else { return nil }
        let (rank, alpha) = rankAndAlpha(of: gate.target), key = ".*\\.gate_up_proj"
        if rankPattern.contains(where: { $0.0.hasSameBytes(as: key) }) { return nil }
        return (key, 2 * rank, usesRankStabilisedScale ? alpha * 2.0.squareRoot() : 2 * alpha)
    }

    /// PEFT expands `all-linear` when it writes; a pattern stays one, unless a part of its modules goes by parameters.
    private func targetModules(_ modules: [String], isPartial: Bool) -> JSONValue {
        switch targets {
        case .pattern(let pattern) where !isPartial: return .string(pattern)
        case .names(let names):
            let used = isPartial ? names.filter { name in modules.contains { Self.ends($0, with: name) } } : names
            return .array(used.sorted { ByteString($0) < ByteString($1) }.map { .string($0) })
        case .pattern: return .array(modules.sorted { ByteString($0) < ByteString($1) }.map { .string($0) })
        case .allLinear:
            let suffixes = Set(modules.map { ByteString($0.utf8.split(separator: UInt8(ascii: ".")).last.map(Array.init) ?? []) })
            return .array(suffixes.sorted().map { .string($0.description) })
        }
    }

    private static func number(_ value: Double) -> JSONValue {
        Int(exactly: value).map { .integer($0) } ?? .double(value)
    }
}
