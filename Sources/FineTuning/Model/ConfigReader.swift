import FileFormats

/// Reads keys of a `config.json` and collects what is wrong with them. A key that was asked for is a known one.
struct ConfigReader {
    let json: JSONObject
    var problems: [String] = []
    private var known: Set<ByteString> = []

    init(json: JSONObject) { self.json = json }

    /// The value of a key, nil when it is absent or null.
    mutating func value(_ key: String) -> JSONValue? {
        known.insert(ByteString(key))
        guard let value = json[key], !value.isNull else { return nil }
        return value
    }

    /// Whether the key is there, be it null: many defaults are for absent keys only.
    func has(_ key: String) -> Bool { json[key] != nil }

    mutating func size(_ key: String, from least: Int = 1, limit: Int, default fallback: Int? = nil) -> Int {
        guard let value = value(key) else {
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
        value(key) == nil ? nil : size(key, limit: 1 << 30)
    }

    mutating func number(_ key: String, default fallback: Double) -> Double {
        guard let value = value(key) else { return fallback }
        guard let number = value.doubleValue, number >= 0 else {
            problems.append("\(key): expected a number from 0, found \(JSONWriter.text(value))")
            return fallback
        }
        return number
    }

    /// A factor or a divisor: a positive number within f32's range.
    mutating func factor(_ key: String, default fallback: Double) -> Double {
        let factor = number(key, default: fallback)
        guard factor > 0, Float(factor) > 0, Float(factor).isFinite else {
            problems.append("\(key): expected a positive number, found \(factor)")
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
            problems.append("\(key): expected true or false, found \(JSONWriter.text(value))")
            return fallback
        }
        return flag
    }

    mutating func text(_ key: String) -> String? { value(key)?.stringValue }

    /// One id or a list of them.
    mutating func identifiers(_ key: String) -> [Int] {
        guard let value = value(key) else { return [] }
        return value.intValue.map { [$0] } ?? value.arrayValue?.compactMap(\.intValue) ?? []
    }

    /// A flag that only its default is computed for.
    mutating func requireFlag(_ key: String, _ required: Bool, _ reason: String) {
        if flag(key, default: required) != required { problems.append("\(key) is \(!required): \(reason)") }
    }

    /// The activation function's name has to be one of `names`.
    mutating func requireActivation(_ names: [String], key: String = "hidden_act") {
        guard let name = text(key), !names.contains(where: name.hasSameBytes) else { return }
        problems.append("\(key) is '\(name)'; this family runs with \(names.joined(separator: " or "))")
    }

    // MARK: windows

    /// Which layers slide, by `layer_types`; nil without it.
    mutating func slidingLayers(count: Int) -> [Bool]? {
        guard let types = value("layer_types")?.arrayValue else { return nil }
        guard types.count == count else {
            problems.append("layer_types has \(types.count) entries for \(count) layers")
            return nil
        }
        return types.map { type in
            let name = type.stringValue ?? ""
            if name.hasSameBytes(as: "sliding_attention") { return true }
            if !name.hasSameBytes(as: "full_attention") {
                problems.append("layer_types: \(JSONWriter.text(type)) is neither full_attention nor sliding_attention")
            }
            return false
        }
    }

    /// Windows where `use_sliding_window` turns them on: by `layer_types`, or as `isSliding` says.
    mutating func optionalWindows(count: Int, isSliding: (Int) -> Bool) -> [Int?] {
        let types = slidingLayers(count: count)
        let isUsed = flag("use_sliding_window", default: false)
        if !isUsed, types?.contains(true) == true {
            problems.append(
                "layer_types has layers that slide, use_sliding_window is off: implementations differ on it")
        }
        guard let window = optionalSize("sliding_window", isUsed: isUsed) else {
            return Array(repeating: nil, count: count)
        }
        return (0..<count).map { (types?[$0] ?? isSliding($0)) ? window : nil }
    }

    private mutating func optionalSize(_ key: String, isUsed: Bool) -> Int? {
        guard isUsed else {
            _ = value(key)
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
        "use_cache", "use_flash_attn", "use_return_dict", "vllm_config", "quantization_config",
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
            problems.append(
                "\(key) is \(JSONWriter.text(value)): graft does not know what it changes; "
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
