import FileFormats
import TextData

/// Reads values of an adapter's configuration and notes what is wrong with them.
struct AdapterConfigReader {
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

    mutating func text(_ key: String) -> String? {
        guard !isAbsent(key) else { return nil }
        expect(json[key]?.stringValue != nil, key, "text")
        return json[key]?.stringValue
    }

    mutating func number(_ key: String, _ expected: String, where isAllowed: (Double) -> Bool) -> Double? {
        guard !isAbsent(key) else { return nil }
        let number = json[key]?.doubleValue
        expect(number.map(isAllowed) == true, key, expected)
        return number
    }

    /// A name or a list of names.
    mutating func strings(_ key: String) -> [String] {
        guard !isAbsent(key) else { return [] }
        if let text = json[key]?.stringValue { return text.isEmpty ? [] : [text] }
        let found = json[key]?.arrayValue?.compactMap(\.stringValue)
        expect(found != nil && found?.count == json[key]?.arrayValue?.count, key, "a list of names")
        return found ?? []
    }

    /// - Parameter mustCompile: refuse a regular expression that does not compile
    mutating func names(_ key: String, mustCompile: Bool) -> ModuleNames? {
        switch json[key] {
        case nil, .null: return nil
        case .array(let values) where values.allSatisfy({ $0.stringValue != nil }):
            return .names(values.compactMap(\.stringValue))
        case .string(let text) where text.lowercased().hasSameBytes(as: "all-linear"): return .allLinear
        case .string(let text):
            expect(!mustCompile || PythonPattern.isValid(text), key, "a list of names or a regular expression")
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

    mutating func pattern<Value>(_ key: String, _ expected: String, _ read: (JSONValue) -> Value?) -> [(String, Value)]
    {
        guard !isAbsent(key) else { return [] }
        guard let object = json[key]?.objectValue else {
            expect(false, key, "a mapping of module names to numbers")
            return []
        }
        var result: [(String, Value)] = []
        for (name, value) in object.entries {
            guard PythonPattern.isValid(name) else {
                problems.append("\(key): \(quoted(name)) is no regular expression")
                continue
            }
            guard let number = read(value) else {
                problems.append("\(key): \(quoted(name)) is \(JSONWriter.text(value)); expected \(expected)")
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
        case .string(let text) where text.utf8.starts(with: "corda".utf8) || text.hasSameBytes(as: "lora_ga"):
            problems.append(
                "init_lora_weights is \(text), which changed the base that the adapter learnt on: PEFT's "
                    + "save_pretrained with path_initial_model_for_weight_conversion writes it for the plain base")
            return .standard
        case .string("loftq") where json["loftq_config"]?.objectValue?.count ?? 0 > 0:
            problems.append(
                "init_lora_weights is loftq: PEFT quantises the base by loftq_config, which graft does not compute")
            return .standard
        // In a file they only tell how the weights came about.
        case .string: return .standard
        default:
            expect(false, "init_lora_weights", "true, false or a name")
            return .standard
        }
    }

    mutating func evaOptions() -> AdapterConfig.EVAOptions {
        var options = AdapterConfig.EVAOptions()
        guard !isAbsent("eva_config") else { return options }
        guard let object = json["eva_config"]?.objectValue else {
            expect(false, "eva_config", "a mapping")
            return options
        }
        func problem(_ key: String, _ expected: String) {
            problems.append("eva_config.\(key): expected \(expected), found \(JSONWriter.text(object[key] ?? .null))")
        }
        func read<Value>(
            _ key: String, _ value: inout Value, _ expected: String, _ read: (JSONValue) -> Value?
        ) {
            guard let found = object[key], !found.isNull else { return }
            if let number = read(found) { value = number } else { problem(key, expected) }
        }
        read("rho", &options.rho, "a number of at least 1") { $0.doubleValue.flatMap { $0 >= 1 ? $0 : nil } }
        read("tau", &options.tau, "a number from 0 to 1") { $0.doubleValue.flatMap { (0...1).contains($0) ? $0 : nil } }
        read("use_label_mask", &options.usesLabelMask, "true or false", \.boolValue)
        read("whiten", &options.whitens, "true or false", \.boolValue)
        read("adjust_scaling_factors", &options.adjustsScale, "true or false", \.boolValue)
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

    /// The types of settings that say nothing of what is computed.
    mutating func checkTypes() {
        _ = flag("fan_in_fan_out")
        _ = flag("inference_mode")
        for key in ["revision", "task_type", "peft_version"] { _ = text(key) }
        for key in ["loftq_config", "corda_config", "lora_ga_config", "runtime_config", "auto_mapping"]
        where !isAbsent(key) {
            expect(json[key]?.objectValue != nil, key, "a mapping")
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
    }
}
