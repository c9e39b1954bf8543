import FileFormats

/// Reads keys of a `config.json` and collects what is wrong with them. A key that was asked for is a known one.
///
/// Every key is read as the type that it has to be: a value of another type is a problem that says what was expected
/// and found, and never counts as absent. Integers may be written as 64.0, as JSON has no other distinction.
struct ConfigReader {
    private let json: JSONObject
    private(set) var problems: [String] = []
    private var known: Set<ByteString> = []

    init(json: JSONObject) { self.json = json }

    // MARK: problems

    mutating func report(_ problem: String) {
        if !problems.contains(where: problem.hasSameBytes) { problems.append(problem) }
    }

    mutating func report(_ more: [String]) { for problem in more { report(problem) } }

    private mutating func wrong(_ key: String, _ expected: String, _ found: JSONValue?) {
        report("\(key): expected \(expected), found \(found.map(Self.shown) ?? "nothing")")
    }

    /// A value for a message, cut when long.
    static func shown(_ value: JSONValue) -> String {
        let text = JSONWriter.text(value)
        return text.unicodeScalars.count > 80
            ? String(String.UnicodeScalarView(text.unicodeScalars.prefix(77))) + "..." : text
    }

    // MARK: presence

    /// Whether the key is there, be it null: many defaults are for absent keys only.
    func has(_ key: String) -> Bool { json[key] != nil }

    /// Whether the key is there and not null.
    mutating func isPresent(_ key: String) -> Bool { value(key) != nil }

    /// Takes a key for known whose value is of no use here.
    mutating func ignore(_ key: String) { _ = value(key) }

    /// The value of a key, nil when it is absent or null.
    private mutating func value(_ key: String) -> JSONValue? {
        known.insert(ByteString(key))
        guard let value = json[key], !value.isNull else { return nil }
        return value
    }

    /// A value that has to be there where the key is: null is of the wrong type.
    private mutating func present(_ key: String, _ expected: String) -> JSONValue? {
        if let value = value(key) { return value }
        if has(key) { wrong(key, expected, .null) }
        return nil
    }

    // MARK: typed values

    /// - Parameter isNullable: whether null stands for the default
    mutating func size(
        _ key: String, from least: Int = 1, limit: Int, default fallback: Int? = nil, isNullable: Bool = true
    ) -> Int {
        let expected = "an integer from \(least) to \(limit)"
        guard let value = isNullable && fallback != nil ? value(key) : present(key, expected) else {
            if let fallback { return fallback }
            if !has(key) { report("\(key) is missing") }
            return 1
        }
        guard let size = value.intValue, size >= least, size <= limit else {
            wrong(key, expected, value)
            return 1
        }
        return size
    }

    mutating func optionalSize(_ key: String) -> Int? {
        value(key) == nil ? nil : size(key, limit: 1 << 30)
    }

    mutating func number(_ key: String, default fallback: Double) -> Double {
        guard let value = present(key, "a number from 0") else { return fallback }
        guard let number = value.doubleValue, number >= 0 else {
            wrong(key, "a number from 0", value)
            return fallback
        }
        return number
    }

    /// A number that may be null or left out.
    mutating func optionalNumber(_ key: String) -> Double? { value(key) == nil ? nil : number(key, default: 1) }

    /// A factor or a divisor: a positive number within f32's range.
    mutating func factor(_ key: String, default fallback: Double) -> Double {
        guard let value = present(key, "a positive number") else { return fallback }
        guard let factor = value.doubleValue, factor > 0, Float(factor) > 0, Float(factor).isFinite else {
            wrong(key, "a positive number", value)
            return 1
        }
        return factor
    }

    /// A factor that may be turned off with null; absent, it is `fallback`.
    mutating func optionalFactor(_ key: String, default fallback: Double?) -> Double? {
        if value(key) == nil, has(key) || fallback == nil { return nil }
        return factor(key, default: fallback ?? 1)
    }

    /// Null counts as false, unlike a key that is absent.
    mutating func flag(_ key: String, default fallback: Bool) -> Bool {
        guard let value = value(key) else { return fallback && !has(key) }
        guard let flag = value.boolValue else {
            wrong(key, "true or false", value)
            return fallback
        }
        return flag
    }

    mutating func text(_ key: String) -> String? {
        guard let value = value(key) else { return nil }
        guard let text = value.stringValue else {
            wrong(key, "a string", value)
            return nil
        }
        return text
    }

    /// Whether an object stands there; nothing is wrong where not.
    func isObject(_ key: String) -> Bool { json[key]?.objectValue != nil }

    mutating func object(_ key: String) -> JSONObject? {
        guard let value = value(key) else { return nil }
        guard let object = value.objectValue else {
            wrong(key, "an object", value)
            return nil
        }
        return object
    }

    /// One integer or a list of them, such as token ids.
    mutating func integers(_ key: String) -> [Int] {
        guard let value = value(key) else { return [] }
        if let integer = value.intValue { return [integer] }
        guard let elements = value.arrayValue else {
            wrong(key, "an integer or a list of them", value)
            return []
        }
        return list(key, elements, "an integer", \.intValue)
    }

    /// A list with an element for each layer, of which some formats write more; nil without it.
    private mutating func layers<Element>(
        _ key: String, count: Int, expected: String, mayBeLonger: Bool = false, _ element: (JSONValue) -> Element?
    ) -> [Element]? {
        guard let value = value(key) else { return nil }
        guard let elements = value.arrayValue else {
            wrong(key, "a list", value)
            return nil
        }
        guard elements.count == count || mayBeLonger && elements.count > count else {
            report("\(key) has \(elements.count) entries for \(count) layers")
            return nil
        }
        let read = list(key, Array(elements.prefix(count)), expected, element)
        return read.count == count ? read : nil
    }

    mutating func list(_ key: String) -> [JSONValue] {
        guard let value = value(key) else { return [] }
        guard let elements = value.arrayValue else {
            wrong(key, "a list", value)
            return []
        }
        return elements
    }

    /// The elements that are of the type; tells the first one that is not.
    private mutating func list<Element>(
        _ key: String, _ elements: [JSONValue], _ expected: String, _ element: (JSONValue) -> Element?
    ) -> [Element] {
        if let bad = elements.firstIndex(where: { element($0) == nil }) {
            wrong("\(key)[\(bad)]", expected, elements[bad])
        }
        return elements.compactMap(element)
    }

    /// Which layers a list of 0 and 1, or of false and true, marks; lists for more layers count up to `count`.
    mutating func marks(_ key: String, count: Int) -> [Bool]? {
        layers(key, count: count, expected: "0 or 1", mayBeLonger: true) { $0.boolValue ?? $0.intValue.map { $0 != 0 } }
    }

    /// A flag that only its default is computed for.
    mutating func requireFlag(_ key: String, _ required: Bool, _ reason: String) {
        if flag(key, default: required) != required { report("\(key) is \(!required): \(reason)") }
    }

    /// The activation function's name has to be one of `names`.
    ///
    /// - Parameter isNullable: whether null stands for the family's own
    mutating func requireActivation(_ names: [String], key: String = "hidden_act", isNullable: Bool = false) {
        if !isNullable { _ = present(key, "a string") }
        guard let name = text(key), !names.contains(where: name.hasSameBytes) else { return }
        report("\(key) is '\(name)'; this family runs with \(names.joined(separator: " or "))")
    }

    // MARK: windows

    /// Which layers slide, by `layer_types`; nil without it.
    mutating func slidingLayers(count: Int) -> [Bool]? {
        layers("layer_types", count: count, expected: "full_attention or sliding_attention") { type in
            switch type.stringValue.map({ ByteString($0) }) {
            case "sliding_attention": true
            case "full_attention": false
            default: nil
            }
        }
    }

    /// Windows where `use_sliding_window` turns them on: by `layer_types`, or as `isSliding` says.
    mutating func optionalWindows(count: Int, isSliding: (Int) -> Bool) -> [Int?] {
        let types = slidingLayers(count: count)
        let isUsed = flag("use_sliding_window", default: false)
        if !isUsed, types?.contains(true) == true {
            report(
                "layer_types has layers that slide, use_sliding_window is off: implementations differ on it")
        }
        guard let window = optionalSize("sliding_window", isUsed: isUsed) else {
            return Array(repeating: nil, count: count)
        }
        return (0..<count).map { (types?[$0] ?? isSliding($0)) ? window : nil }
    }

    private mutating func optionalSize(_ key: String, isUsed: Bool) -> Int? {
        guard isUsed else {
            ignore(key)
            return nil
        }
        return optionalSize(key)
    }

    // MARK: keys that nobody asked for

    /// Keys that Transformers and training tools write and that no family's arithmetic depends on. Dropout is the
    /// base's own, which fine-tuning with graft leaves off.
    private static let inert: Set<ByteString> = [
        "architectures", "attention_dropout", "auto_map", "attn_implementation", "chunk_size_feed_forward",
        "cross_attention_hidden_size", "decoder_start_token_id", "dtype", "embd_pdrop", "finetuning_task",
        "forced_bos_token_id", "forced_eos_token_id", "hidden_dropout", "hidden_dropout_prob", "id2label", "label2id",
        "initializer_factor", "language", "license", "max_sequence_length", "model_max_length", "model_name",
        "model_name_or_path", "name_or_path", "num_logits_to_keep", "output_attentions", "output_hidden_states",
        "output_router_logits", "output_scores", "prefix", "pretraining_tp", "problem_type", "resid_pdrop",
        "return_dict", "sep_token_id", "task_specific_params", "tokenizer_class", "torch_dtype", "torchscript",
        "transformers_version", "transformers.js_config", "unk_token_id", "unsloth_fixed", "unsloth_version",
        "use_bfloat16",
        "use_cache", "use_flash_attn", "use_return_dict", "vllm_config",
        // Older files hold the settings of generation too.
        "bad_words_ids", "begin_suppress_tokens", "diversity_penalty", "do_sample", "early_stopping",
        "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "is_decoder", "is_encoder_decoder",
        "length_penalty", "max_length", "max_new_tokens", "min_length", "no_repeat_ngram_size", "num_beam_groups",
        "num_beams", "num_return_sequences", "remove_invalid_values", "repetition_penalty", "suppress_tokens",
        "temperature", "top_k", "top_p", "typical_p", "pruned_heads", "tf_legacy_loss", "tie_encoder_decoder",
        "add_cross_attention",
    ]

    /// An unknown key with a value that is not plainly off may change the arithmetic: an error that names it.
    mutating func reportUnknownKeys(inert more: [String]) {
        let inert = Self.inert.union(more.map { ByteString($0) })
        for (key, value) in json.entries where !known.contains(ByteString(key)) && !inert.contains(ByteString(key)) {
            if Self.isOff(value) || key.utf8.first == UInt8(ascii: "_") { continue }
            report(
                "\(key) is \(Self.shown(value)): graft does not know what it changes; "
                    + "remove it if the model computes the same without it")
        }
    }

    private static func isOff(_ value: JSONValue) -> Bool {
        switch value {
        case .null, .bool(false): true
        case .array(let elements): elements.isEmpty
        case .object(let object): object.count == 0
        case .string(let text): text.isEmpty
        default: false
        }
    }
}
