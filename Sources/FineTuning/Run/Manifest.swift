public import FileFormats
import Foundation

/// The version of graft, which goes into every file that says who wrote it.
public let graftVersion = "0.1.0"

/// `manifest.json`: versions and hashes of all that a run's bytes follow from, and of the bytes themselves.
///
/// Nothing in it depends on when or where the run took place but the paths.
public struct RunManifest {
    /// A file with what identifies its content.
    public struct HashedFile: Sendable {
        public var path: String
        public var size: Int
        /// SHA-256, 64 hexadecimal digits; nil of what is no plain file, such as a pipe.
        public var sha256: String?

        public init(path: String, name: String? = nil) throws {
            self.path = name ?? path
            do { (size, sha256) = try digest(ofFile: path) } catch FileError.notAFile { (size, sha256) = (0, nil) }
        }

        var json: JSONValue {
            let hash: JSONValue = sha256.map { .string($0) } ?? .null
            return .object(JSONObject([("path", .string(path)), ("size", .integer(size)), ("sha256", hash)]))
        }
    }

    /// Names and versions: graft, instruction set, matrix library...
    public var versions: [(name: String, version: String)] = []
    public var basePath: String?
    public var base: [HashedFile] = []
    public var tokenizer: [HashedFile] = []
    /// SHA-256 of the chat template's text.
    public var templateHash: String?
    public var data: [HashedFile] = []
    public var evalData: [HashedFile] = []
    /// SHA-256 of `recipe.resolved.yaml`.
    public var recipeHash: String
    public var seed: UInt64
    public var precision: String
    public var steps: Int?
    /// What the run made, named relative to the run directory.
    public var outputs: [HashedFile] = []

    public init(recipe: Recipe, precision: String = "") {
        recipeHash = sha256(Array(recipe.resolvedYAML.utf8))
        seed = recipe.training.seed
        self.precision = precision
        versions = [("graft", graftVersion)]
    }

    /// Hashes the files of a model folder that a model follows from, or a GGUF file with all its parts.
    public mutating func hashBase(folder: String) throws {
        basePath = folder
        guard !TextResources.isGGUF(folder) else {
            base = try GGUFFile(path: folder).paths.map {
                try HashedFile(path: $0, name: splitPath($0).name)
            }
            return
        }
        // Other weights may lie beside the model's own, as in another program's format.
        let weights = Set(try SafetensorsFolder(path: folder).files.map { splitPath($0.path).name })
        for name in try namesInFolder(folder)
        where name == "config.json" || weights.contains(name) || name == SafetensorsFolder.indexName {
            base.append(try HashedFile(path: folder + "/" + name, name: name))
        }
        tokenizer = try Self.tokenizerFiles(folder)
    }

    /// The files that text becomes ids by: of a folder, those with these names; or the file itself.
    static func tokenizerFiles(_ path: String) throws -> [HashedFile] {
        guard let names = try? namesInFolder(path) else {
            return [try HashedFile(path: path, name: splitPath(path).name)]
        }
        return try names.filter(tokenizerNames.contains).map { try HashedFile(path: path + "/" + $0, name: $0) }
    }

    /// Files of a model folder that text becomes ids by.
    public static let tokenizerNames: Set<String> = [
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
        "merges.txt", "tokenizer.model", "tekken.json", "tiktoken.model", "chat_template.jinja", "chat_template.json",
        "generation_config.json",
    ]

    public var json: JSONValue {
        func files(_ files: [HashedFile]) -> JSONValue { .array(files.map(\.json)) }
        return .object(
            JSONObject([
                ("format", "graft-run-1"),
                ("versions", .object(JSONObject(versions.map { ($0.name, .string($0.version)) }))),
                (
                    "base",
                    .object(JSONObject([("path", basePath.map { .string($0) } ?? .null), ("files", files(base))]))
                ),
                ("tokenizer", files(tokenizer)),
                ("chat_template_sha256", templateHash.map { .string($0) } ?? .null),
                ("data", .object(JSONObject([("train", files(data)), ("eval", files(evalData))]))),
                ("recipe_sha256", .string(recipeHash)),
                ("seed", Int(exactly: seed).map { .integer($0) } ?? .string("\(seed)")),
                ("precision", .string(precision)),
                ("steps", steps.map { .integer($0) } ?? .null),
                ("outputs", files(outputs)),
            ]))
    }

    public func write(to path: String) throws {
        try AtomicFile.write(Array((JSONWriter.text(json, .pretty) + "\n").utf8), to: path, replacing: true)
    }
}
