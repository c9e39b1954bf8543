import FileFormats

/// What tokenizer_config.json and special_tokens_map.json say of the special tokens.
///
/// `add_bos_token` and `add_eos_token` count only where there is no tokenizer.json: Transformers 5 leaves them to the
/// post-processor of one.
struct TokenizerConfig: Sendable {
    var bos: ByteString?
    var eos: ByteString?
    var pad: ByteString?
    var unk: ByteString?
    var addsBOS: Bool?
    var addsEOS: Bool?
    var addsPrefixSpace = false
    var tokenizerClass = ""
    /// `legacy` of Llama's tokenizers: each stretch of text between added tokens gets a dummy space.
    var isLegacy: Bool?
    var isLlama: Bool { ["LlamaTokenizer", "CodeLlamaTokenizer"].contains { tokenizerClass.hasPrefix($0) } }
    /// `added_tokens_decoder` in order of id, as entries of a tokenizer.json's `added_tokens`.
    var addedTokenEntries: [JSONValue] = []
    /// Every token that stands under a key of a special one, in the order in which Transformers adds those that a
    /// vocabulary lacks.
    private(set) var specialTokens: [ByteString] = []
    private var knownSpecial: Set<ByteString> = []
    private static let specialKeys = [
        "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
        "additional_special_tokens", "extra_special_tokens",
    ]
    /// Whether there was a file at all.
    var isPresent = false

    init() {}

    var addedTokens: [(id: Int, text: String)] {
        addedTokenEntries.compactMap { entry in
            guard let id = entry["id"]?.intValue, let text = entry["content"]?.stringValue else { return nil }
            return (id, text)
        }
    }

    init(_ value: JSONValue, path: String) throws {
        if value.isNull { return }
        guard value.objectValue != nil else {
            throw TokenizerError.malformed(path: path, place: "", reason: "expected an object, found \(value.kindName)")
        }
        isPresent = true
        var problems: [String] = []
        func typed<Value>(_ key: String, _ expected: String, _ read: (JSONValue) -> Value?) -> Value? {
            guard let found = value[key], !found.isNull else { return nil }
            if let value = read(found) { return value }
            problems.append("\(key): expected \(expected), found \(JSONWriter.text(found).prefix(80))")
            return nil
        }
        func token(_ key: String) -> ByteString? {
            typed(key, "a token's text or an object with its \"content\"") {
                ($0.stringValue ?? $0["content"]?.stringValue).map { ByteString($0) }
            }
        }
        func flag(_ key: String) -> Bool? { typed(key, "true or false", \.boolValue) }
        bos = token("bos_token")
        eos = token("eos_token")
        pad = token("pad_token")
        unk = token("unk_token")
        addsBOS = flag("add_bos_token")
        addsEOS = flag("add_eos_token")
        addsPrefixSpace = flag("add_prefix_space") ?? false
        tokenizerClass = typed("tokenizer_class", "a string", \.stringValue) ?? ""
        isLegacy = flag("legacy")
        let added = typed("added_tokens_decoder", "an object of tokens by their ids", \.objectValue)
        guard problems.isEmpty else {
            throw TokenizerError.malformed(path: path, place: "", reason: problems.joined(separator: "; "))
        }
        for key in Self.specialKeys {
            let found = value[key] ?? .null
            let named = found["content"] == nil ? found.objectValue?.entries.map(\.value) : nil
            for entry in found.arrayValue ?? named ?? [found] {
                guard let text = entry.stringValue ?? entry["content"]?.stringValue, !text.isEmpty else { continue }
                add(special: ByteString(text))
            }
        }
        for (key, entry) in added?.entries ?? [] {
            guard let id = Int32(key), id >= 0, let object = entry.objectValue, entry["content"]?.stringValue != nil
            else {
                throw TokenizerError.malformed(
                    path: path, place: "added_tokens_decoder", reason: "\(shortened(key)) is no id, or has no content")
            }
            addedTokenEntries.append(.object(JSONObject([(key: "id", value: .integer(Int(id)))] + object.entries)))
        }
        addedTokenEntries.sort { ($0["id"]?.intValue ?? 0) < ($1["id"]?.intValue ?? 0) }
    }

    /// Takes what `other` knows over what is here.
    mutating func merge(_ other: TokenizerConfig) {
        bos = other.bos ?? bos
        eos = other.eos ?? eos
        pad = other.pad ?? pad
        unk = other.unk ?? unk
        addsBOS = other.addsBOS ?? addsBOS
        addsEOS = other.addsEOS ?? addsEOS
        addsPrefixSpace = addsPrefixSpace || other.addsPrefixSpace
        isLegacy = other.isLegacy ?? isLegacy
        if !other.tokenizerClass.isEmpty { tokenizerClass = other.tokenizerClass }
        if !other.addedTokenEntries.isEmpty { addedTokenEntries = other.addedTokenEntries }
        for token in other.specialTokens { add(special: token) }
        isPresent = isPresent || other.isPresent
    }

    private mutating func add(special token: ByteString) {
        if knownSpecial.insert(token).inserted { specialTokens.append(token) }
    }

    /// The special tokens that `addedTokenEntries` lacks, as entries, with the ids that `find` knows, or the next ones that
    /// are free.
    func missingSpecialEntries(vocabularySize: Int, _ find: (ByteString) -> Int?) -> [JSONValue] {
        let listed = Set(addedTokens.map { ByteString($0.text) })
        var next = max(vocabularySize, (addedTokens.map(\.id).max() ?? -1) + 1)
        return specialTokens.filter { !listed.contains($0) }.map { token in
            let id = find(token) ?? next
            if id == next { next += 1 }
            return ["id": .integer(id), "content": .string(token.description), "special": true]
        }
    }

    /// Takes the tokens of an added_tokens.json, `{"<token>": id}`. Those that have no key of their own are ordinary words,
    /// found in the text as it stands after normalisation: so does Transformers read them.
    ///
    /// - Throws: `TokenizerError.malformed` for anything but ids.
    mutating func add(_ value: JSONValue, path: String) throws {
        guard let object = value.objectValue else {
            throw TokenizerError.malformed(path: path, place: "", reason: "expected an object, found \(value.kindName)")
        }
        for (text, id) in object.entries {
            guard let id = id.intValue, (0..<Int(Int32.max)).contains(id) else {
                throw TokenizerError.malformed(path: path, place: shortened(text), reason: "its value is no id")
            }
            addedTokenEntries.append([
                "id": .integer(id), "content": .string(text), "special": .bool(knownSpecial.contains(ByteString(text))),
            ])
        }
        addedTokenEntries.sort { ($0["id"]?.intValue ?? 0) < ($1["id"]?.intValue ?? 0) }
    }
}

extension AddedToken {
    /// An entry of a tokenizer.json's `added_tokens`; nil without an id in range and a text.
    init?(_ entry: JSONValue) {
        guard let content = entry["content"]?.stringValue, let id = entry["id"]?.intValue, id >= 0,
            let id32 = Int32(exactly: id)
        else { return nil }
        let isSpecial = entry["special"]?.boolValue ?? false
        self.init(
            id: id32, content: ByteString(content), lstrip: entry["lstrip"]?.boolValue ?? false,
            rstrip: entry["rstrip"]?.boolValue ?? false, singleWord: entry["single_word"]?.boolValue ?? false,
            normalized: entry["normalized"]?.boolValue ?? !isSpecial, isSpecial: isSpecial)
    }
}
