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
        /// SHA-256, 64 hexadecimal digits.
        public var sha256: String

        public init(path: String, name: String? = nil) throws {
            self.path = name ?? path
            size = fileSize(path) ?? 0
            sha256 = try FileFormats.sha256(ofFile: path)
        }

        var json: JSONValue {
            .object(JSONObject([("path", .string(path)), ("size", .integer(size)), ("sha256", .string(sha256))]))
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

    public init(recipe: Recipe, precision: String) {
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
        let names = try namesInFolder(folder)
        for name in names {
            if name == "config.json" || weights.contains(name) || name == SafetensorsFolder.indexName {
                base.append(try HashedFile(path: folder + "/" + name, name: name))
            } else if Self.tokenizerNames.contains(name) {
                tokenizer.append(try HashedFile(path: folder + "/" + name, name: name))
            }
        }
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
