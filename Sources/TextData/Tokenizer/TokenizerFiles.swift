import FileFormats
import Foundation

/// Finds and reads the files of a tokenizer.
struct TokenizerFiles {
    let path: String
    /// No tokenizer comes near this; it bounds the memory that a wrong file takes.
    private static let limit = 512 << 20

    func read() throws -> (TokenizerParts, TokenizerConfig) {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
            throw TokenizerError.missing(path: path, looked: ["tokenizer.json"])
        }
        guard isFolder.boolValue else {
            let file = try bytes(of: path, limit: 4)
            if file.elementsEqual("GGUF".utf8) { return try GGUFVocabulary(try GGUFFile(path: path)).read() }
            return (try readJSON(path), TokenizerConfig())
        }
        let file = path + "/tokenizer.json"
        guard FileManager.default.fileExists(atPath: file) else {
            throw TokenizerError.missing(path: path, looked: ["tokenizer.json"])
        }
        var config = TokenizerConfig()
        for name in ["special_tokens_map.json", "tokenizer_config.json"] {
            let file = path + "/" + name
            guard FileManager.default.fileExists(atPath: file) else { continue }
            config.merge(try TokenizerConfig(try parse(try bytes(of: file), file), path: file))
        }
        return (try readJSON(file), config)
    }

    private func readJSON(_ file: String) throws -> TokenizerParts {
        try TokenizerJSONReader(path: file).read(parse(bytes(of: file), file))
    }

    /// The whole file, or its first `limit` bytes.
    private func bytes(of file: String, limit: Int? = nil) throws -> [UInt8] {
        guard let handle = FileHandle(forReadingAtPath: file) else {
            throw TokenizerError.unreadable(path: file, reason: String(cString: strerror(errno)))
        }
        defer { try? handle.close() }
        let data: Data?
        do {
            data = try handle.read(upToCount: limit ?? Self.limit + 1)
        } catch {
            throw TokenizerError.unreadable(path: file, reason: error.localizedDescription)
        }
        guard let data, data.count <= Self.limit else {
            let reason = data == nil ? "it is empty" : "it is larger than \(Self.limit >> 20) MiB"
            throw TokenizerError.malformed(path: file, place: "", reason: reason)
        }
        return Array(data)
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
/// `add_bos_token` and `add_eos_token` are not read: Transformers 5 leaves them to the post-processor of a
/// tokenizer.json as well.
struct TokenizerConfig: Sendable {
    var bos: ByteString?
    var eos: ByteString?
    var pad: ByteString?
    var unk: ByteString?
    /// Whether there was a file at all.
    var isPresent = false

    init() {}

    init(_ value: JSONValue, path: String) throws {
        if value.isNull { return }
        guard value.objectValue != nil else {
            throw TokenizerError.malformed(path: path, place: "", reason: "expected an object, found \(value.kindName)")
        }
        isPresent = true
        func token(_ key: String) -> ByteString? {
            (value[key]?.stringValue ?? value[key]?["content"]?.stringValue).map { ByteString($0) }
        }
        bos = token("bos_token")
        eos = token("eos_token")
        pad = token("pad_token")
        unk = token("unk_token")
    }

    /// Takes what `other` knows over what is here.
    mutating func merge(_ other: TokenizerConfig) {
        bos = other.bos ?? bos
        eos = other.eos ?? eos
        pad = other.pad ?? pad
        unk = other.unk ?? unk
        isPresent = isPresent || other.isPresent
    }
}
