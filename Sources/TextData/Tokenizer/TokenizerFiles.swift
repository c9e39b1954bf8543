import FileFormats
import Foundation

/// Finds and reads the files of a tokenizer.
struct TokenizerFiles {
    let path: String
    /// The folder of tokenizer_config.json and special_tokens_map.json; nil for the tokenizer's own.
    var settings: String?
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
                let config = try readConfigAndAddedTokens(folder)
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
            let file = (settings ?? folder) + "/" + name
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

    /// With the tokens of added_tokens.json, which counts beside vocabularies other than tokenizer.json where
    /// tokenizer_config.json lists none itself, as in Transformers.
    private func readConfigAndAddedTokens(_ folder: String) throws -> TokenizerConfig {
        var config = try readConfig(folder)
        let file = folder + "/added_tokens.json"
        if config.addedTokenEntries.isEmpty, isPresent(file) {
            try config.add(try parse(try bytes(of: file), file), path: file)
        }
        return config
    }

    /// A SentencePiece model in a model's folder: the tokens that the configuration names are found in text, as
    /// Transformers finds them, and BOS and EOS are added as it says.
    private func configure(_ parts: inout TokenizerParts, _ config: inout TokenizerConfig) throws {
        let named = try readConfigAndAddedTokens(path)
        config.merge(named)
        let vocabulary = parts.model.vocabulary
        let names = [config.bos, config.eos, config.unk, config.pad].compactMap { $0 }
        let known = names.compactMap { vocabulary.find($0.bytes).map { Int32($0) } }
        parts.unmatchedTokens.subtract(known)
        var listed = Set(parts.added.map(\.id))
        var problems: [String] = []
        let missing = named.missingSpecialEntries(vocabularySize: vocabulary.count) { vocabulary.find($0.bytes) }
        for entry in named.addedTokenEntries + missing {
            guard var token = AddedToken(entry) else { continue }
            // The dummy prefix is no part of what Transformers looks for them in.
            token.normalized = false
            if let id = vocabulary.find(token.content.bytes) {
                if Int(token.id) != id {
                    problems.append(
                        "\(shortened(token.content.description)) is added as \(token.id), but is \(id) in the vocabulary"
                    )
                }
                token.id = Int32(id)
                parts.unmatchedTokens.remove(Int32(id))
            } else if Int(token.id) < vocabulary.count {
                problems.append(
                    "\(shortened(token.content.description)) is added as \(token.id), which is "
                        + "\(shortened(String(decoding: vocabulary[Int(token.id)], as: UTF8.self))) in the vocabulary")
                continue
            }
            if listed.insert(token.id).inserted { parts.added.append(token) }
        }
        guard problems.isEmpty else { throw TokenizerError.inconsistent(path: path, problems: problems) }
        func id(_ token: ByteString?) -> [Int32] {
            token.flatMap { vocabulary.find($0.bytes) }.map { [Int32($0)] } ?? []
        }
        // Transformers gives Llama's class a Metaspace that prepends to the first piece only, unless told `legacy`.
        if case .sentencePiece(var normalizer)? = parts.normalizer, named.isLlama, named.isLegacy != true {
            normalizer.prefixesTextOnly = true
            parts.normalizer = .sentencePiece(normalizer)
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
