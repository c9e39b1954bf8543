import FileFormats

/// How checkpoints that other programs quantised are told from plain ones: by what config.json says, and by what the
/// files hold. Graft computes with plain weights, and says by name what it finds instead.
enum QuantizedCheckpoint {
    /// Keys of config.json that say that weights are quantised: Transformers', mlx-lm's, and an older one.
    static let keys = ["quantization_config", "quantization", "compression_config"]

    /// The method that config.json names; nil where it names none.
    static func declaration(_ reader: inout ConfigReader) -> String? {
        let found = keys.compactMap { key in reader.object(key).map { (key, $0) } }.filter { $0.1.count > 0 }
        guard let (_, object) = found.first else { return nil }
        func number(_ keys: String...) -> Int? { keys.lazy.compactMap { object[$0]?.intValue }.first }
        func isOn(_ key: String) -> Bool { object[key]?.boolValue == true }
        let bits = number("bits", "w_bit", "nbits").map { " in \($0) bits" } ?? ""
        if let method = object["quant_method"]?.stringValue {
            let kind = object["bnb_4bit_quant_type"]?.stringValue.flatMap { isOn("load_in_4bit") ? $0 : nil }
            return (names.first { $0.method.hasSameBytes(as: method) }?.name ?? method) + bits
                + (kind.map { ", \($0)" } ?? "")
        }
        if isOn("load_in_8bit") || isOn("load_in_4bit") { return "bitsandbytes" }
        if object["group_size"] != nil, object["bits"] != nil { return "MLX" + bits }
        return "a method that config.json does not name"
    }

    private static let names: [(method: String, name: String)] = [
        ("fp8", "FP8 (fp8)"), ("fbgemm_fp8", "FP8 (fbgemm_fp8)"), ("gptq", "GPTQ"), ("awq", "AWQ"), ("mxfp4", "MXFP4"),
        ("hqq", "HQQ"), ("aqlm", "AQLM"), ("bitnet", "BitNet"),
    ]

    /// What a file's tensors show of it.
    struct Evidence {
        /// Nil where the type of numbers is all that shows.
        var method: String?
        var tensor: TensorEntry
    }

    /// Integers that hold the bits of several weights, or one in steps.
    private static let packed: [ElementType] = [.i8, .u8, .i16, .u16, .i32, .u32]

    /// The first tensor that only a quantised checkpoint has; nil for plain weights.
    static func evidence(_ files: SafetensorsFolder) -> Evidence? {
        func has(_ ending: String) -> Bool { files.entries.contains { $0.name.hasSuffix(ending) } }
        func found(_ method: String?, _ tensor: TensorEntry) -> Evidence { Evidence(method: method, tensor: tensor) }
        for entry in files.entries {
            let name = entry.name
            if name.hasSuffix(".qweight") { return found(has(".g_idx") ? "GPTQ" : "AWQ or GPTQ", entry) }
            if name.hasSuffix(".SCB") || name.hasSuffix(".absmax") || name.contains(".quant_state.bitsandbytes") {
                return found("bitsandbytes", entry)
            }
            if name.hasSuffix(".weight_packed") { return found("compressed-tensors", entry) }
            if name.hasSuffix("_blocks"), has("_scales") { return found("MXFP4", entry) }
            if name.hasSuffix(".weight_scale_inv") || name.hasSuffix(".weight_scale") { return found("FP8", entry) }
        }
        // Integers of other names are tables of positions and the like.
        guard
            let entry = files.entries.first(where: {
                $0.type.isNarrowFloat || packed.contains($0.type) && $0.name.hasSuffix(".weight")
            })
        else { return nil }
        if entry.type == .u32, has(".scales") { return found("MLX", entry) }
        let isFP8 = entry.type.isNarrowFloat && entry.type.bits == 8
        return found(isFP8 ? "FP8" : nil, entry)
    }
}

extension ModelConfig {
    /// Compares what config.json says of quantisation with the files: weights that are plain are taken as they are.
    ///
    /// - Throws: `FineTuningError.quantizedCheckpoint`.
    mutating func settleQuantization(path: String, _ files: SafetensorsFolder) throws {
        if let evidence = QuantizedCheckpoint.evidence(files) {
            throw FineTuningError.quantizedCheckpoint(
                path: path, method: quantization ?? evidence.method,
                found: "\(quoted(evidence.tensor.name)) is \(evidence.tensor.type.rawValue)")
        }
        guard let quantization else { return }
        for key in QuantizedCheckpoint.keys { json[key] = nil }
        hasStaleQuantization = true
        notes.append(
            "config.json says that the weights are quantised (\(quantization)), yet they are plain: they are taken as they "
                + "are; remove the entry from config.json, since other programs may go by it")
    }
}
