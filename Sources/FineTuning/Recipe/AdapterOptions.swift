public import FileFormats

/// Settings of an adapter under the names that PEFT has for them.
public struct AdapterOptions: Sendable, Equatable {
    static let keys = [
        "use_rslora", "use_dora", "lora_bias", "init_lora_weights", "rank_pattern", "alpha_pattern",
        "layers_to_transform", "layers_pattern", "exclude_modules", "bias", "modules_to_save",
        "trainable_token_indices",
        "ensure_weight_tying", "eva_config",
    ]
    static let evaKeys = ["rho", "tau", "use_label_mask", "whiten", "adjust_scaling_factors"]
    static let initializations = ["gaussian", "orthogonal", "pissa", "pissa_niter_16", "olora", "eva"]

    /// Those that are given, in the order of `keys`.
    public var json = JSONObject()

    public init() {}

    init(_ section: inout RecipeSection) {
        for key in Self.keys {
            guard let value = section.value(key) else { continue }
            if case .null = value.content { continue }
            json[key] = value.json
            if key.hasSameBytes(as: "init_lora_weights") { Self.checkInitialization(value, section) }
        }
        for (key, _) in json["eva_config"]?.objectValue?.entries ?? []
        where !Self.evaKeys.contains(where: key.hasSameBytes) {
            let near = nearest(to: key, among: Self.evaKeys).map { "; did you mean '\($0)'?" }
            section.conflict(
                section.location,
                "unknown key '\(section.path("eva_config")).\(key)'"
                    + (near ?? "; known here: " + Self.evaKeys.joined(separator: ", "))
            )
        }
    }

    private static func checkInitialization(_ value: RecipeValue, _ section: RecipeSection) {
        if value.flag != nil { return }
        guard let word = value.word else {
            return section.wrong("init_lora_weights", value, expected: "true, false or a name")
        }
        let steps = word.utf8.starts(with: "pissa_niter_".utf8) ? Int(word.dropFirst("pissa_niter_".count)) : nil
        guard !initializations.contains(where: word.hasSameBytes), (steps ?? -1) < 0 else { return }
        let near = nearest(to: word, among: initializations).map { "; did you mean '\($0)'?" } ?? ""
        section.conflict(
            value.location,
            "\(section.path("init_lora_weights")) must be true, false, \(initializations.joined(separator: ", ")), not "
                + "\(value.kindName)\(near)")
    }

    public static func == (a: AdapterOptions, b: AdapterOptions) -> Bool {
        JSONWriter.text(.object(a.json)) == JSONWriter.text(.object(b.json))
    }
}

extension Recipe.Adapter {
    /// The configuration of a new adapter.
    ///
    /// - Parameter problems: gets settings that PEFT refuses, or refuses to combine.
    func config(baseModel: String?, problems: inout [String]) -> AdapterConfig {
        var json = options.json
        json["peft_type"] = "LORA"
        json["r"] = .integer(rank)
        json["lora_alpha"] = AdapterConfig.number(alpha)
        json["lora_dropout"] = .double(dropout)
        json["base_model_name_or_path"] = baseModel.map { .string($0) } ?? .null
        json["target_modules"] =
            switch targets {
            case .allLinear: "all-linear"
            case .names(let names): .array(names.map { .string($0) })
            case .pattern(let pattern): .string(pattern)
            }
        return AdapterConfig(json: json, problems: &problems)
    }

    /// Notes settings that do not go together.
    func check(_ section: inout RecipeSection, _ location: String) {
        let given = options.json.keys.map { "adapter." + $0 }.joined(separator: ", ")
        if method == .full, !given.isEmpty {
            return section.conflict(
                location, "\(given): adapter.method full trains the whole model, without an adapter")
        }
        if initFrom != nil, !given.isEmpty {
            return section.conflict(location, "\(given): with adapter.init_from these come from that adapter")
        }
        var problems: [String] = []
        let config = config(baseModel: nil, problems: &problems)
        if config.usesRankStabilisedScale == false, config.initialization == .eva, config.usesDoRA {
            problems.append("init_lora_weights: eva with use_dora is not computed")
        }
        for problem in problems { section.conflict(location, "adapter.\(problem)") }
    }
}

extension RecipeValue {
    /// The value as JSON; plain words that are no numbers, booleans or null are text.
    var json: JSONValue {
        switch content {
        case .null: .null
        case .scalar(let text, _):
            flag.map { .bool($0) } ?? integer.map { .integer($0) } ?? number.map { .double($0) } ?? .string(text)
        case .sequence(let values): .array(values.map(\.json))
        case .mapping(let entries): .object(JSONObject(entries.map { (key: $0.key, value: $0.value.json) }))
        }
    }
}
