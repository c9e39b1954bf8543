public import FileFormats

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
    /// - Throws: `FineTuningError.badAdapter` with every setting that graft cannot honour.
    public init(folder: String) throws {
        let path = folder + "/" + Self.fileName
        func bad(_ problems: [String]) -> FineTuningError {
            .badAdapter(
                path: path, problems: problems,
                next: "Write the adapter again with PEFT, or correct adapter_config.json.")
        }
        let value: JSONValue
        do { value = try JSONParser.parse(try readFile(path, limit: 16 << 20), duplicateKeys: .refuse) } catch let
            error as JSONError
        { throw bad([error.description]) }
        guard let json = value.objectValue else { throw bad(["expected an object, found \(value.kindName)"]) }
        var problems: [String] = []
        self.init(json: json, isOfFile: true, problems: &problems)
        guard problems.isEmpty else { throw bad(problems) }
    }

    /// - Parameters:
    ///   - isOfFile: whether there are tensors, which tell what is targeted even where a pattern does not
    ///   - problems: gets every setting that is wrong, at odds with another, or not computed by graft.
    public init(json: JSONObject, isOfFile: Bool = false, problems: inout [String]) {
        var reader = AdapterConfigReader(json)
        self.json = json
        reader.expect(
            json["peft_type"]?.stringValue?.hasSameBytes(as: "LORA") == true, "peft_type", "\"LORA\"")
        rank = json["r"]?.intValue ?? 0
        reader.expect((1...65_536).contains(rank), "r", "an integer from 1 to 65536")
        alpha = json["lora_alpha"]?.doubleValue ?? 0
        reader.expect(Self.isAlpha(alpha), "lora_alpha", "a positive number that f32 can hold")
        dropout = reader.number("lora_dropout", "a number from 0 to below 1") { (0..<1).contains($0) } ?? 0
        baseModel = reader.text("base_model_name_or_path")
        if let names = reader.names("target_modules", mustCompile: !isOfFile) {
            targets = names
        } else {
            targets = .names([])
            if json["target_parameters"]?.arrayValue?.isEmpty != false {
                reader.problems.append("target_modules: expected a list of names or a string")
            }
        }
        targetParameters = reader.strings("target_parameters")
        excluded = reader.names("exclude_modules", mustCompile: true)
        usesRankStabilisedScale = reader.flag("use_rslora")
        usesDoRA = reader.flag("use_dora")
        hasUpdateBias = reader.flag("lora_bias")
        ensuresWeightTying = reader.flag("ensure_weight_tying")
        if let value = json["bias"], !value.isNull {
            let text = value.stringValue ?? ""
            bias = Bias.allCases.first { $0.rawValue.hasSameBytes(as: text) } ?? .none
            reader.expect(bias.rawValue.hasSameBytes(as: text), "bias", "\"none\", \"all\" or \"lora_only\"")
        }
        modulesToSave = reader.strings("modules_to_save")
        layersPattern = reader.strings("layers_pattern")
        layers = reader.layers("layers_to_transform")
        rankPattern = reader.pattern("rank_pattern", "an integer from 1 to 65536") {
            $0.intValue.flatMap { (1...65_536).contains($0) ? $0 : nil }
        }
        alphaPattern = reader.pattern("alpha_pattern", "a positive number that f32 can hold") {
            $0.doubleValue.flatMap { Self.isAlpha($0) ? $0 : nil }
        }
        tokenIndices = reader.tokenIndices()
        initialization = reader.initialization()
        eva = reader.evaOptions()
        if initialization == .eva, eva.rho * Double(rank) > 65_536 {
            reader.problems.append("eva_config.rho: rho times r is above 65536")
        }
        reader.checkRules(self)
        reader.checkTypes()
        reader.checkUnsupported()
        problems += reader.problems
    }

    /// Whether updates can be scaled by it: updates are computed in f32.
    static func isAlpha(_ value: Double) -> Bool { Float(value).isFinite && Float(value) > 0 }

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
        // The layers here store [out, in]; PEFT itself sets false for them.
        object["fan_in_fan_out"] = false
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
