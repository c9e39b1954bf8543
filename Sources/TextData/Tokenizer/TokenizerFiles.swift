import FileFormats
import Foundation

/// Finds and reads the files of a tokenizer.
struct TokenizerFiles {
    let path: String
    /// No tokenizer comes near this; it bounds the memory that a wrong file takes.
    private static let limit = 512 << 20

    /// What a folder is searched for, in this order.
    private static let names = [
        "tokenizer.json", "tekken.json", "tokenizer.model", "tiktoken.model", "spiece.model", "sentencepiece.bpe.model",
        "spm.model", "vocab.json",
    ]

    func read() throws -> (TokenizerParts, TokenizerConfig) {
        guard let kind = fileKind(path) else {
            throw TokenizerError.missing(path: path, looked: ["tokenizer.json"])
        }
        guard kind == .folder else { return try readTokenizer(path) }
        for name in Self.names where isPresent(path + "/" + name) {
            let file = path + "/" + name
            if name == "tokenizer.json" { return (try readJSON(file), try readConfig(path)) }
            var (parts, config) = try readTokenizer(file)
            if case .sentencePiece? = parts.idDecoder { try configure(&parts, &config) }
            return (parts, config)
        }
        let ranks = (try? namesInFolder(path)) ?? []
        if let name = ranks.sorted().first(where: { $0.hasSuffix(".tiktoken") }) {
            return try readTokenizer(path + "/" + name)
        }
        throw TokenizerError.missing(path: path, looked: Self.names)
    }

    /// A single file of any kind. What stands beside it counts only where the file alone does not make a tokenizer.
    private func readTokenizer(_ file: String) throws -> (TokenizerParts, TokenizerConfig) {
        let start = try bytes(of: file, limit: 4096)
        if start.starts(with: "GGUF".utf8) { return try GGUFVocabulary(try GGUFFile(path: file)).read() }
        let folder = splitPath(file).folder
        if start.first(where: { ![0x20, 0x09, 0x0A, 0x0D].contains($0) }) == UInt8(ascii: "{"),
            !SentencePieceFile.isLikely(start)
        {
            let document = try parse(try bytes(of: file), file)
            if TekkenFile.isLikely(document) { return try TekkenFile(path: file).read(document, readConfig(folder)) }
            let merges = folder + "/merges.txt"
            if document["model"]?.objectValue == nil, isPresent(merges) {
                let config = try readConfig(folder)
                let parts = try VocabularyAndMerges(
                    path: file, vocabulary: document, merges: try bytes(of: merges), config: config
                ).read()
                return (parts, config)
            }
            return (try TokenizerJSONReader(path: file).read(document), TokenizerConfig())
        }
        if TiktokenFile.isLikely(start) {
            return try TiktokenFile(try bytes(of: file), path: file).read(readConfig(folder))
        }
        if start.starts(with: "#version".utf8), isPresent(folder + "/vocab.json") {
            return try readTokenizer(folder + "/vocab.json")
        }
        guard SentencePieceFile.isLikely(start) || file.hasSuffix(".model") else {
            throw TokenizerError.malformed(
                path: file, place: "",
                reason:
                    "it is no tokenizer.json, tekken.json, vocab.json, SentencePiece model, tiktoken file or GGUF file")
        }
        return try SentencePieceFile(try bytes(of: file), path: file).read()
    }

    /// Enough for lists of some hundred thousand added tokens.
    private static let configLimit = 32 << 20

    private func readConfig(_ folder: String) throws -> TokenizerConfig {
        var config = TokenizerConfig()
        for name in ["special_tokens_map.json", "tokenizer_config.json"] {
            let file = folder + "/" + name
            guard isPresent(file) else { continue }
            let content = try bytes(of: file, limit: Self.configLimit + 1)
            guard content.count <= Self.configLimit else {
                throw TokenizerError.malformed(
                    path: file, place: "", reason: "it is larger than \(Self.configLimit >> 20) MiB")
            }
            config.merge(try TokenizerConfig(try parse(content, file), path: file))
        }
        return config
    }

    /// A SentencePiece model in a model's folder: the tokens that the configuration names are found in text, as
    /// Transformers finds them, and BOS and EOS are added as it says.
    private func configure(_ parts: inout TokenizerParts, _ config: inout TokenizerConfig) throws {
        let named = try readConfig(path)
        config.merge(named)
        let vocabulary = parts.model.vocabulary
        let names = [config.bos, config.eos, config.unk, config.pad].compactMap { $0 }
        let known = names.compactMap { vocabulary.find($0.bytes).map { Int32($0) } }
        parts.unmatchedTokens.subtract(known)
        for token in named.addedTokens {
            let content = ByteString(token.text)
            if let id = vocabulary.find(content.bytes) {
                parts.unmatchedTokens.remove(Int32(id))
                if !parts.added.contains(where: { $0.id == Int32(id) }) {
                    parts.added.append(AddedToken(id: Int32(id), content: content))
                }
            } else if token.id >= vocabulary.count, !parts.added.contains(where: { Int($0.id) == token.id }) {
                parts.added.append(AddedToken(id: Int32(token.id), content: content))
            }
        }
        func id(_ token: ByteString?) -> [Int32] {
            token.flatMap { vocabulary.find($0.bytes) }.map { [Int32($0)] } ?? []
        }
        if named.addsBOS == false { parts.postProcessor.prefix = [] }
        if named.addsEOS == true { parts.postProcessor.suffix = id(config.eos) }
    }

    private func readJSON(_ file: String) throws -> TokenizerParts {
        try TokenizerJSONReader(path: file).read(parse(bytes(of: file), file))
    }

    /// The whole file, or its first `limit` bytes.
    private func bytes(of file: String, limit: Int? = nil) throws -> [UInt8] {
        let size = fileSize(file) ?? 0
        guard limit != nil || size <= Self.limit else {
            let reason = "it is larger than \(Self.limit >> 20) MiB"
            throw TokenizerError.malformed(path: file, place: "", reason: reason)
        }
        let bytes = try limit.map { try readHead(file, count: $0) } ?? readFile(file, limit: Self.limit)
        guard !bytes.isEmpty else { throw TokenizerError.malformed(path: file, place: "", reason: "it is empty") }
        try Substitute.refuse(bytes, path: file)
        return bytes
    }

    private func parse(_ bytes: [UInt8], _ file: String) throws -> JSONValue {
        do {
            return try JSONParser.parse(bytes)
        } catch let error as JSONError {
            throw TokenizerError.malformed(path: file, place: "", reason: error.description)
        }
    }
}

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
    /// `added_tokens_decoder` in order of id, as entries of a tokenizer.json's `added_tokens`.
    var addedTokenEntries: [JSONValue] = []
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
        let added = typed("added_tokens_decoder", "an object of tokens by their ids", \.objectValue)
        guard problems.isEmpty else {
            throw TokenizerError.malformed(path: path, place: "", reason: problems.joined(separator: "; "))
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
        if !other.tokenizerClass.isEmpty { tokenizerClass = other.tokenizerClass }
        if !other.addedTokenEntries.isEmpty { addedTokenEntries = other.addedTokenEntries }
        isPresent = isPresent || other.isPresent
    }
}
