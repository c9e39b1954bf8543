public import FileFormats
import Foundation

extension AdapterConfig {
    static let fileName = "adapter_config.json"

    public init(rank: Int, alpha: Double, dropout: Double, targets: ModuleNames, baseModel: String?) {
        self.rank = rank
        self.alpha = alpha
        self.dropout = dropout
        self.targets = targets
        self.baseModel = baseModel
        json = JSONObject()
    }

    /// Reads `adapter_config.json` of an adapter folder.
    ///
    /// - Throws: `FineTuningError.adapterMismatch` with every setting that graft cannot honour.
    public init(folder: String) throws {
        let path = folder + "/" + Self.fileName
        let value: JSONValue
        do { value = try JSONParser.parse(try readFile(path, limit: 16 << 20), duplicateKeys: .refuse) } catch let
            error as JSONError
        { throw FineTuningError.adapterMismatch(path: path, problems: [error.description]) }
        guard let json = value.objectValue else {
            throw FineTuningError.adapterMismatch(path: path, problems: ["expected an object, found \(value.kindName)"])
        }
        var problems: [String] = []
        self.init(json: json, problems: &problems)
        guard problems.isEmpty else { throw FineTuningError.adapterMismatch(path: path, problems: problems) }
    }

    /// - Parameter problems: gets every setting that is wrong, at odds with another, or not computed by graft.
    public init(json: JSONObject, problems: inout [String]) {
        var reader = ConfigValues(json)
        self.json = json
        reader.expect(
            json["peft_type"]?.stringValue?.hasSameBytes(as: "LORA") == true, "peft_type", "\"LORA\"")
        rank = json["r"]?.intValue ?? 0
        reader.expect((1...65_536).contains(rank), "r", "an integer from 1 to 65536")
        alpha = json["lora_alpha"]?.doubleValue ?? 0
        reader.expect(alpha > 0 && alpha.isFinite, "lora_alpha", "a positive number")
        dropout = json["lora_dropout"]?.doubleValue ?? 0
        reader.expect((0..<1).contains(dropout), "lora_dropout", "a number from 0 to below 1")
        baseModel = json["base_model_name_or_path"]?.stringValue
        if let names = reader.names("target_modules") {
            targets = names
        } else {
            targets = .names([])
            if json["target_parameters"]?.arrayValue?.isEmpty != false {
                reader.problems.append("target_modules: expected a list of names or a string")
            }
        }
        targetParameters = reader.strings("target_parameters")
        excluded = reader.names("exclude_modules")
        usesRankStabilisedScale = reader.flag("use_rslora")
        usesDoRA = reader.flag("use_dora")
        hasUpdateBias = reader.flag("lora_bias")
        ensuresWeightTying = reader.flag("ensure_weight_tying")
        if let text = json["bias"]?.stringValue {
            bias = Bias.allCases.first { $0.rawValue.hasSameBytes(as: text) } ?? .none
            reader.expect(bias.rawValue.hasSameBytes(as: text), "bias", "\"none\", \"all\" or \"lora_only\"")
        }
        modulesToSave = reader.strings("modules_to_save")
        layersPattern = reader.strings("layers_pattern")
        layers = reader.layers("layers_to_transform")
        rankPattern = reader.pattern("rank_pattern") { $0.intValue.flatMap { (1...65_536).contains($0) ? $0 : nil } }
        alphaPattern = reader.pattern("alpha_pattern") { $0.doubleValue.flatMap { $0 > 0 ? $0 : nil } }
        tokenIndices = reader.tokenIndices()
        initialization = reader.initialization()
        eva = reader.evaOptions()
        reader.checkRules(self)
        reader.checkUnsupported()
        problems += reader.problems
    }

    /// What PEFT 0.21 writes where nothing is set.
    private static let defaults: JSONObject = JSONObject([
        ("alora_invocation_tokens", .null), ("alpha_pattern", [:]), ("arrow_config", .null), ("auto_mapping", .null),
        ("base_model_name_or_path", .null), ("bias", "none"), ("corda_config", .null), ("ensure_weight_tying", false),
        ("eva_config", .null), ("exclude_modules", .null), ("fan_in_fan_out", false), ("inference_mode", true),
        ("init_lora_weights", true), ("kasa_config", .null), ("layer_replication", .null), ("layers_pattern", .null),
        ("layers_to_transform", .null), ("loftq_config", [:]), ("lora_alpha", 8), ("lora_bias", false),
        ("lora_dropout", 0.0), ("lora_ga_config", .null), ("megatron_config", .null),
        ("megatron_core", "megatron.core"), ("modules_to_save", .null), ("monteclora_config", .null),
        ("peft_type", "LORA"), ("peft_version", "0.21.2"), ("qalora_group_size", 16), ("r", 8), ("rank_pattern", [:]),
        ("revision", .null), ("target_modules", .null), ("target_parameters", .null), ("task_type", "CAUSAL_LM"),
        ("trainable_token_indices", .null), ("use_bdlora", .null), ("use_dora", false), ("use_qalora", false),
        ("use_rslora", false), ("velora_config", .null),
    ])

    /// The file as PEFT writes it: sorted keys, indent 2, no newline at the end.
    ///
    /// - Parameters:
    ///   - sites: that have an update
    ///   - renamesExperts: as `ParameterTable` has it
    public func jsonText(sites: [AdapterSite], renamesExperts: Bool) -> String {
        let isWhole = { (site: AdapterSite) in
            !site.isParameter && site.expertLayers.isEmpty && !(renamesExperts && site.hasExpertsName)
        }
        let modules = sites.filter(isWhole).map(\.target)
        var parameters: [String] = []
        for name in sites.filter({ !isWhole($0) }).map(\.parameterName)
        where !parameters.contains(where: name.hasSameBytes) { parameters.append(name) }
        var (ranks, alphas) = (rankPattern, alphaPattern)
        if let pattern = fusedPattern(sites) {
            ranks.append((pattern.key, pattern.rank))
            alphas.append((pattern.key, pattern.alpha))
        }
        var object = Self.defaults
        for (key, value) in json.entries where object[key] != nil { object[key] = value }
        object["r"] = .integer(rank)
        object["lora_alpha"] = Self.number(alpha)
        // PEFT refuses dropout beside parameters, even where nothing is trained.
        object["lora_dropout"] = .double(parameters.isEmpty ? dropout : 0)
        object["base_model_name_or_path"] = baseModel.map { .string($0) } ?? .null
        object["use_rslora"] = .bool(usesRankStabilisedScale)
        object["use_dora"] = .bool(usesDoRA)
        object["lora_bias"] = .bool(hasUpdateBias)
        object["rank_pattern"] = .object(JSONObject(ranks.map { (key: $0.0, value: .integer($0.1)) }))
        object["alpha_pattern"] = .object(JSONObject(alphas.map { (key: $0.0, value: Self.number($0.1)) }))
        object["target_modules"] = targetModules(modules, isPartial: !parameters.isEmpty)
        object["target_parameters"] =
            parameters.isEmpty
            ? .null : .array(parameters.sorted { ByteString($0) < ByteString($1) }.map { .string($0) })
        if let excluded { object["exclude_modules"] = Self.value(excluded, []) }
        object["inference_mode"] = true
        return JSONWriter.text(.object(object), .init(indent: 2, sortsKeys: true))
    }

    /// From this many modules on PEFT lists the ends of their names.
    private static let longList = 20

    /// Updates of single experts become PEFT's stacked ones on loading; those of gate and up, which are one parameter
    /// there, keep their matrices side by side, so that its rank is twice theirs.
    private func fusedPattern(_ sites: [AdapterSite]) -> (key: String, rank: Int, alpha: Double)? {
        let gates = sites.first {
            if case .expert(_, .gate, _) = $0.place { true } else { false }
        }
        guard let gate = gates else { return nil }
        let (rank, alpha) = rankAndAlpha(of: gate.target)
        let key = ".*\\.gate_up_proj"
        if rankPattern.contains(where: { $0.0.hasSameBytes(as: key) }) { return nil }
        return (key, 2 * rank, usesRankStabilisedScale ? alpha * 2.0.squareRoot() : 2 * alpha)
    }

    /// A pattern stays one, unless a part of its modules goes by parameters.
    private func targetModules(_ modules: [String], isPartial: Bool) -> JSONValue {
        guard isPartial else { return Self.value(targets, modules) }
        switch targets {
        case .names(let names):
            return Self.value(
                .names(names.filter { name in modules.contains(where: ModuleNames.names([name]).contains) }), [])
        case .pattern: return Self.value(.names(modules), [])
        case .allLinear: return Self.value(targets, modules)
        }
    }

    /// PEFT expands `all-linear` when it writes.
    private static func value(_ names: ModuleNames, _ modules: [String]) -> JSONValue {
        switch names {
        case .pattern(let pattern): return .string(pattern)
        case .names(let names): return .array(names.sorted { ByteString($0) < ByteString($1) }.map { .string($0) })
        case .allLinear:
            guard modules.count >= longList else { return value(.names(modules), []) }
            let ends = Set(
                modules.map { ByteString($0.utf8.split(separator: UInt8(ascii: ".")).last.map(Array.init) ?? []) })
            return .array(ends.sorted().map { .string($0.description) })
        }
    }

    static func number(_ value: Double) -> JSONValue { Int(exactly: value).map { .integer($0) } ?? .double(value) }
}

/// Reads values of an adapter's configuration and notes what is wrong with them.
private struct ConfigValues {
    let json: JSONObject
    var problems: [String] = []

    init(_ json: JSONObject) { self.json = json }

    mutating func expect(_ condition: Bool, _ key: String, _ expected: String) {
        if !condition {
            problems.append("\(key): expected \(expected), found \(JSONWriter.text(json[key] ?? .null))")
        }
    }

    private func isAbsent(_ key: String) -> Bool { json[key]?.isNull != false }

    mutating func flag(_ key: String) -> Bool {
        guard !isAbsent(key) else { return false }
        expect(json[key]?.boolValue != nil, key, "true or false")
        return json[key]?.boolValue ?? false
    }

    /// A name or a list of names.
    mutating func strings(_ key: String) -> [String] {
        guard !isAbsent(key) else { return [] }
        if let text = json[key]?.stringValue { return text.isEmpty ? [] : [text] }
        let found = json[key]?.arrayValue?.compactMap(\.stringValue)
        expect(found != nil && found?.count == json[key]?.arrayValue?.count, key, "a list of names")
        return found ?? []
    }

    mutating func names(_ key: String) -> ModuleNames? {
        switch json[key] {
        case nil, .null: return nil
        case .array(let values) where values.allSatisfy({ $0.stringValue != nil }):
            return .names(values.compactMap(\.stringValue))
        case .string(let text) where text.lowercased().hasSameBytes(as: "all-linear"): return .allLinear
        case .string(let text):
            let isValid = (try? NSRegularExpression(pattern: text)) != nil
            expect(isValid, key, "a list of names or a regular expression")
            return .pattern(text)
        default:
            expect(false, key, "a list of names or a regular expression")
            return .names([])
        }
    }

    mutating func layers(_ key: String) -> [Int]? {
        guard !isAbsent(key) else { return nil }
        if let number = json[key]?.intValue, number >= 0 { return [number] }
        let found = json[key]?.arrayValue?.compactMap(\.intValue).filter { $0 >= 0 }
        expect(found != nil && found?.count == json[key]?.arrayValue?.count, key, "a layer's number or a list of them")
        return found
    }

    mutating func pattern<Value>(_ key: String, _ read: (JSONValue) -> Value?) -> [(String, Value)] {
        guard !isAbsent(key) else { return [] }
        guard let object = json[key]?.objectValue else {
            expect(false, key, "a mapping of module names to numbers")
            return []
        }
        var result: [(String, Value)] = []
        for (name, value) in object.entries {
            guard let number = read(value), (try? NSRegularExpression(pattern: name)) != nil else {
                problems.append("\(key): \(quoted(name)) is \(JSONWriter.text(value)); expected a positive number")
                continue
            }
            result.append((name, number))
        }
        return result
    }

    mutating func tokenIndices() -> [(module: String, indices: [Int])] {
        let key = "trainable_token_indices"
        func indices(_ value: JSONValue) -> [Int]? {
            guard let numbers = value.arrayValue?.compactMap(\.intValue), numbers.count == value.arrayValue?.count,
                numbers.allSatisfy({ $0 >= 0 }), Set(numbers).count == numbers.count
            else { return nil }
            return numbers
        }
        switch json[key] {
        case nil, .null: return []
        case .object(let object):
            return object.entries.compactMap { entry in
                guard let numbers = indices(entry.value) else {
                    problems.append("\(key): \(quoted(entry.key)) needs a list of token ids, each once")
                    return nil
                }
                return (entry.key, numbers)
            }
        case .some(let value):
            guard let numbers = indices(value) else {
                expect(false, key, "a list of token ids, each once, or a mapping of modules to such lists")
                return []
            }
            return [("embed_tokens", numbers)]
        }
    }

    mutating func initialization() -> AdapterConfig.Initialization {
        switch json["init_lora_weights"] {
        case nil, .null, .bool(true): return .standard
        case .bool(false): return .random
        case .string("gaussian"): return .gaussian
        case .string("orthogonal"): return .orthogonal
        case .string("eva"): return .eva
        case .string(let text) where text.hasSameBytes(as: "pissa") || text.utf8.starts(with: "pissa_niter_".utf8):
            return .pissa
        case .string(let text) where text.lowercased().hasSameBytes(as: "olora"): return .olora
        case .string(let text) where text.utf8.starts(with: "corda".utf8):
            problems.append(
                "init_lora_weights is \(text), which changed the base that the adapter learnt on: PEFT's "
                    + "save_pretrained with path_initial_model_for_weight_conversion writes it for the plain base")
            return .standard
        case .string("loftq") where json["loftq_config"]?.objectValue?.count ?? 0 > 0:
            problems.append(
                "init_lora_weights is loftq: PEFT quantises the base by loftq_config, which graft does not compute")
            return .standard
        // In a file they only tell how the weights came about.
        default: return .standard
        }
    }

    mutating func evaOptions() -> AdapterConfig.EVAOptions {
        var options = AdapterConfig.EVAOptions()
        guard let object = json["eva_config"]?.objectValue else { return options }
        options.rho = object["rho"]?.doubleValue ?? options.rho
        options.tau = object["tau"]?.doubleValue ?? options.tau
        options.usesLabelMask = object["use_label_mask"]?.boolValue ?? true
        options.whitens = object["whiten"]?.boolValue ?? false
        options.adjustsScale = object["adjust_scaling_factors"]?.boolValue ?? true
        if !(options.rho >= 1) { problems.append("eva_config.rho: expected a number of at least 1") }
        if !(0...1).contains(options.tau) { problems.append("eva_config.tau: expected a number from 0 to 1") }
        return options
    }

    /// What PEFT refuses to combine.
    mutating func checkRules(_ config: AdapterConfig) {
        if case .pattern = config.targets {
            if config.layers != nil {
                problems.append("layers_to_transform cannot go with target_modules as a regular expression")
            }
            if !config.layersPattern.isEmpty {
                problems.append("layers_pattern cannot go with target_modules as a regular expression")
            }
        }
        if config.usesDoRA, config.hasUpdateBias { problems.append("lora_bias cannot go with use_dora") }
        if !config.layersPattern.isEmpty, config.layers == nil {
            problems.append("layers_pattern needs layers_to_transform")
        }
        for (module, _) in config.tokenIndices where config.modulesToSave.contains(where: module.hasSameBytes) {
            problems.append(
                "trainable_token_indices and modules_to_save both name \(module): it learns whole, or some of its rows")
        }
    }

    /// Settings that change what the adapter computes and that graft does not compute.
    mutating func checkUnsupported() {
        let known: Set<ByteString> = [
            "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "ensure_weight_tying",
            "exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern",
            "layers_to_transform", "lora_alpha", "lora_bias", "lora_dropout",
            "megatron_core", "modules_to_save", "peft_type",
            "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "target_modules", "target_parameters",
            "task_type",
            "trainable_token_indices", "use_dora", "use_rslora",
            // What initialised the weights, which are in the file by now.
            "loftq_config", "eva_config", "corda_config", "lora_ga_config", "runtime_config",
        ]
        for (key, value) in json.entries where !known.contains(ByteString(key)) {
            let isOff: Bool
            switch value {
            case .null, .bool(false): isOff = true
            case .array(let elements): isOff = elements.isEmpty
            case .object(let object): isOff = object.count == 0
            default: isOff = false
            }
            if !isOff { problems.append("\(key) is \(JSONWriter.text(value)), which graft does not compute") }
        }
        if json["fan_in_fan_out"]?.boolValue == true {
            problems.append("fan_in_fan_out is true: the base's layers store [out, in]")
        }
    }
}
