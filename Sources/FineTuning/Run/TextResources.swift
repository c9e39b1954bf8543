import FileFormats
import Foundation
public import TextData

/// What turns a model's text into ids and back: the tokenizer, the chat template and the tokens that end an answer.
public struct TextResources: Sendable {
    public let tokenizer: Tokenizer
    /// Nil when the folder has none; rows that are no conversations do without.
    public let template: ChatTemplate?
    /// A folder, or a single tokenizer file.
    public let path: String
    /// Where the other files are that belong to the tokenizer in `path`.
    private let sources: TextSources
    /// Tokens that end a text, from config.json, generation_config.json and the tokenizer.
    public private(set) var stopTokens: Set<Int32>

    /// - Throws: `TokenizerError`, `TextError`, `FileError.missing`.
    public init(path: String) throws { try self.init(TextSources(model: path, adapter: nil)) }

    private init(_ sources: TextSources) throws {
        path = sources.vocabulary
        guard isPresent(path) else {
            throw FileError.missing(path: path, what: "model folder or tokenizer file")
        }
        self.sources = sources
        let isApart = !sources.settings.hasSameBytes(as: path)
        tokenizer = try Tokenizer(path: path, settings: isApart ? sources.settings : nil)
        template = try Self.template(at: sources.template, settings: sources.settings)
        stopTokens = try Self.declaredStops(path)
        if let eos = tokenizer.eosID { stopTokens.insert(eos) }
    }

    /// The end tokens that a folder's config.json and generation_config.json name.
    ///
    /// - Throws: `FileError`; `FineTuningError.unsupportedModel` for ids that are no integers.
    private static func declaredStops(_ folder: String) throws -> Set<Int32> {
        var stops: Set<Int32> = []
        for name in ["config.json", "generation_config.json"] {
            let path = folder + "/" + name, value: JSONValue
            do { value = try readJSON(path, limit: 4 << 20) } catch FileError.missing { continue }
            guard let object = value.objectValue else {
                throw FineTuningError.unsupportedModel(
                    path: path, problems: ["expected an object, found \(value.kindName)"])
            }
            var reader = ConfigReader(json: object)
            stops.formUnion(reader.integers("eos_token_id").compactMap(Int32.init(exactly:)))
            guard reader.problems.isEmpty else {
                throw FineTuningError.unsupportedModel(path: path, problems: reader.problems)
            }
        }
        return stops
    }

    /// What a model with an adapter on it reads and writes text with. Nil when neither has a tokenizer.
    public init?(model: String, adapter: String?) throws {
        let sources = TextSources(model: model, adapter: adapter)
        guard try Self.holdsTokenizer(sources.vocabulary) else { return nil }
        try self.init(sources)
        stopTokens.formUnion(try Self.declaredStops(model))
    }

    /// Whether a GGUF file has a tokenizer; models of token ids alone say that they have none.
    private static func hasTokenizer(gguf path: String) throws -> Bool {
        try GGUFFile(path: path)["tokenizer.ggml.model"]?.stringValue.map { !$0.hasSameBytes(as: "none") } ?? false
    }

    /// Nil for a folder or a GGUF file without a tokenizer.
    public init?(ifPresentAt folder: String) throws {
        guard try Self.holdsTokenizer(folder) else { return nil }
        try self.init(path: folder)
    }

    private static func holdsTokenizer(_ path: String) throws -> Bool {
        try isGGUF(path) ? hasTokenizer(gguf: path) : TextSources.hasVocabulary(path)
    }

    /// The stop tokens, with special tokens that answers of the data hold: an end of turn that no file declares.
    public func stopTokens(after answers: [Int32]) -> Set<Int32> {
        stopTokens.union(answers.filter(tokenizer.isSpecial))
    }

    /// The files that travel with an adapter or a merged model.
    public var files: [(name: String, path: String)] {
        guard isFolder(path) else {
            return [(path.split(separator: "/").last.map(String.init) ?? "tokenizer.json", path)]
        }
        return RunManifest.tokenizerNames.sorted().map { ($0, sources.folder(of: $0) + "/" + $0) }
            .filter { isPresent($0.1) }
    }

    /// SHA-256 of all tokenizer files, of a GGUF file's tokenizer alone, so that ids are known to come from this very
    /// tokenizer.
    public func tokenizerHash() throws -> String {
        var stream = SHA256Stream()
        if Self.isGGUF(path) {
            for (key, value) in try GGUFFile(path: path).metadata where key.utf8.starts(with: "tokenizer.ggml.".utf8) {
                var bytes = Array(key.utf8) + [0]
                value.appendBody(to: &bytes)
                stream.update(bytes)
            }
            return stream.hexDigest()
        }
        for file in files
        where !["generation_config.json", "chat_template.jinja", "chat_template.json"].contains(file.name) {
            stream.update(Array(file.name.utf8) + [0])
            stream.update(Array(try sha256(ofFile: file.path).utf8))
        }
        return stream.hexDigest()
    }

    /// SHA-256 of the chat template, and of the one for tools where there is one.
    public var templateHash: String {
        guard let template else { return "" }
        return sha256(Array(template.source.utf8) + template.toolUse.flatMap { [0] + Array($0.source.utf8) })
    }

    /// Whether the template may ask for the time, so that rows of another day give other tokens.
    public var usesClock: Bool {
        ([template].compactMap(\.self) + (template?.toolUse ?? [])).contains { $0.source.contains("strftime_now") }
    }
}

extension TextResources {
    /// The tokenizer of a folder or a single file, without anything else that may be there.
    public static func tokenizer(at path: String) throws -> Tokenizer {
        guard isPresent(path) else {
            throw FileError.missing(path: path, what: "model folder or tokenizer file")
        }
        return try Tokenizer(path: path)
    }

    /// The chat template of a folder or a GGUF file; of another single file, that of the folder it stands in.
    ///
    /// - Parameter settings: of a folder, where tokenizer_config.json is; nil for the same
    public static func template(at path: String, settings: String? = nil) throws -> ChatTemplate? {
        guard let kind = fileKind(path) else {
            throw FileError.missing(path: path, what: "model folder or tokenizer file")
        }
        if kind == .folder { return try ChatTemplate.loadIfPresent(folder: path, settings: settings) }
        if isGGUF(path) { return try template(inGGUF: path) }
        return try ChatTemplate.loadIfPresent(folder: splitPath(path).folder)
    }

    /// Whether a file begins as GGUF files do.
    public static func isGGUF(_ path: String) -> Bool {
        (try? readHead(path, count: 4)).map { $0.elementsEqual("GGUF".utf8) } ?? false
    }

    private static func template(inGGUF path: String) throws -> ChatTemplate? {
        let file = try GGUFFile(path: path)
        guard let template = try template(file, key: "tokenizer.chat_template") else { return nil }
        return template.with(toolUse: try Self.template(file, key: "tokenizer.chat_template.tool_use"))
    }

    private static func template(_ file: GGUFFile, key: String) throws -> ChatTemplate? {
        guard let source = file[key]?.stringValue else { return nil }
        let tokens = file["tokenizer.ggml.tokens"]?.stringsValue
        var constants = JSONObject()
        for name in ["bos", "eos", "unknown", "padding"] {
            guard let id = file["tokenizer.ggml.\(name)_token_id"]?.intValue, let tokens, tokens.indices.contains(id)
            else { continue }
            let key = ["unknown": "unk", "padding": "pad"][name] ?? name
            constants[key + "_token"] = .string(tokens[id].description)
        }
        return try ChatTemplate(source: source, name: file.path, constants: constants)
    }
}
