public import FileFormats

/// What a GGUF file says of its special tokens and of the space before a text, with llama.cpp's defaults where it says
/// nothing.
public struct GGUFTokenizerSettings: Sendable {
    /// Declared, or llama.cpp's default; of no vocabulary yet, and -1 or 0xFFFFFFFF for none.
    public let bosID, eosID, unknownID: Int?
    public let addsBOS, addsEOS, addsSpacePrefix: Bool

    /// - Parameter value: the metadata by what follows `tokenizer.ggml.` in their keys.
    public init(_ value: (String) -> GGUFValue?) {
        let model = value("model")?.stringValue ?? "", name = ByteString(model)
        let defaults = Self.defaultIDs(model)
        bosID = value("bos_token_id")?.intValue ?? defaults.bos
        eosID = value("eos_token_id")?.intValue ?? defaults.eos
        unknownID = value("unknown_token_id")?.intValue ?? defaults.unknown
        let pre = value("pre")?.stringValue ?? "default"
        addsBOS = value("add_bos_token")?.boolValue ?? (name == "llama" || GGUFPreTokenizer.addsBOS(pre))
        addsEOS = value("add_eos_token")?.boolValue ?? (name == "t5")
        addsSpacePrefix = value("add_space_prefix")?.boolValue ?? (name == "llama")
    }

    static func defaultIDs(_ model: String) -> (bos: Int?, eos: Int?, unknown: Int?) {
        switch ByteString(model) {
        case "llama": (1, 2, 0)
        case "t5": (nil, 1, 2)
        case "bert": (101, nil, 100)
        default: (nil, nil, nil)
        }
    }
}
