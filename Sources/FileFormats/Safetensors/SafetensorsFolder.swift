import Foundation

/// What can be wrong with a folder of weights.
public enum ModelFolderFault: Error, CustomStringConvertible, Sendable {
    case missingShard(String)
    /// The index names a file that could lie outside the folder.
    case unsafeShard(String, reason: String)
    /// A file beside the weights that is none of the folder's own, or not what its name says.
    case unsafeFile(String, reason: String)
    case malformedIndex(String)
    /// The index says that a shard holds a tensor, and it does not.
    case missingTensor(String, shard: String)
    /// Only weights in Python's pickle format are there.
    case onlyPickles([String])
    /// No weights under the names that model folders have; `found` are files that are there instead.
    case noWeights(found: [String])
    /// There is no config.json; `found` are files that tell what the folder is instead.
    case noConfig(found: [String])
    /// The root of a cache entry, whose `refs/main` names a revision that is not there.
    case missingSnapshot(String)
    /// The root of a cache entry without `refs/main`, and not with one snapshot.
    case ambiguousSnapshot([String])

    public var description: String {
        switch self {
        case .missingShard(let name): "shard \(quoted(name)) is named in the index and is not there; fetch it"
        case .unsafeShard(let name, let reason): "shard \(quoted(name)) is refused: \(reason)"
        case .unsafeFile(let name, let reason): "\(quoted(name)) is refused: \(reason); put a file in its place"
        case .malformedIndex(let reason): "\(SafetensorsFolder.indexName) \(reason)"
        case .missingTensor(let name, let shard): "tensor \(quoted(name)) is not in shard \(quoted(shard))"
        case .onlyPickles(let names):
            "its weights are only in \(names.map(quoted).joined(separator: ", ")): such files are refused, because "
                + "loading them can run any code they carry; fetch the model's safetensors files, or convert these "
                + "where that does no harm: Transformers' save_pretrained writes safetensors"
        case .missingSnapshot(let revision):
            "its refs/main names revision \(quoted(revision)), which is not among its snapshots; fetch the model "
                + "again, or give the folder of a snapshot"
        case .ambiguousSnapshot(let revisions):
            revisions.isEmpty
                ? "it is a cache entry without a snapshot; fetch the model"
                : "it is a cache entry with the snapshots \(revisions.map(quoted).joined(separator: ", ")) and no "
                    + "refs/main; give the folder of one, as in snapshots/\(revisions[0])"
        case .noWeights(let found): Self.noWeights(found)
        case .noConfig(let found): Self.noConfig(found)
        }
    }

    /// Whether it is that a file is not there.
    var isMissingFile: Bool {
        switch self {
        case .missingShard, .noWeights, .noConfig: true
        default: false
        }
    }

    private static func noConfig(_ found: [String]) -> String {
        func has(_ name: String) -> Bool { found.contains { $0.hasSameBytes(as: name) } }
        let reason: String
        if has("adapter_config.json") {
            reason = "it is an adapter: give its base with --model and the adapter with --adapter"
        } else if let file = found.first(where: { $0.hasSuffix(".gguf") }) {
            reason = "give the GGUF file itself, as in --model \(file)"
        } else if has("params.json") {
            reason = "params.json is of the publisher's own format: fetch the model in Transformers' format"
        } else {
            reason = "fetch the model folder with all its files"
        }
        return "config.json is missing; " + reason
    }

    private static func noWeights(_ found: [String]) -> String {
        let names = shortList(found.map(quoted)), index = SafetensorsFolder.indexName
        if let ready = found.first(where: { $0.hasSuffix(".gguf") }) {
            return "\(SafetensorsFolder.fileName) is missing; \(names) is there: give the GGUF file itself, as in "
                + "--model \(ready)"
        }
        if found.isEmpty { return "neither \(SafetensorsFolder.fileName) nor \(index) is there; fetch the weights" }
        if found.allSatisfy({ $0.utf8.starts(with: "model-".utf8) }) {
            return "\(index) is missing, which says what tensors are in \(names); fetch it"
        }
        return
            "neither \(SafetensorsFolder.fileName) nor \(index) is there, but \(names); rename a single file of weights "
            + "to \(SafetensorsFolder.fileName), or fetch the index of several"
    }
}

/// The weights of a Hugging Face model folder: one `model.safetensors`, or an index and its shards.
public final class SafetensorsFolder: Sendable {
    static let fileName = "model.safetensors"
    public static let indexName = "model.safetensors.index.json"
    private static let indexSizeLimit = 100_000_000
    /// More than any model has.
    private static let indexTensorLimit = 400_000

    public let path: String
    /// The files, shards in the order of their names.
    public let files: [SafetensorsFile]
    /// All tensors, file by file, in the order of their data.
    public let entries: [TensorEntry]
    /// What is right but worth knowing.
    public let notes: [String]
    private let places: [ByteString: (file: Int, entry: TensorEntry)]

    /// - Throws: `FileError.missing`, `.io`, `.safetensors`; `.modelFolder` with all that is wrong at once.
    public init(path: String) throws {
        self.path = path
        let (names, owners, hasStaleIndex) = try Self.layout(of: path)
        files = try names.map { try SafetensorsFile(path: path + "/" + $0) }
        var entries: [TensorEntry] = []
        var places: [ByteString: (file: Int, entry: TensorEntry)] = [:]
        for (index, file) in files.enumerated() {
            for entry in file.entries {
                let name = ByteString(entry.name)
                // A tensor that the index gives to another shard is a leftover there.
                if let owner = owners[name], owner != ByteString(names[index]) { continue }
                guard places[name] == nil else { continue }
                places[name] = (index, entry)
                entries.append(entry)
            }
        }
        let missing = owners.filter { places[$0.key] == nil }.sorted { $0.key < $1.key }
        guard missing.isEmpty else {
            throw FileError.modelFolder(
                path: path, missing.map { .missingTensor($0.key.description, shard: $0.value.description) })
        }
        self.entries = entries
        self.places = places
        notes = hasStaleIndex ? Self.notes(onIndexOf: path, entries) : []
    }

    public func entry(named name: String) -> TensorEntry? { places[ByteString(name)]?.entry }

    /// The file that holds `name`.
    public func file(of name: String) -> SafetensorsFile? { places[ByteString(name)].map { files[$0.file] } }

    /// The bytes of one of the folder's tensors; see `SafetensorsFile.withBytes`.
    public func withBytes(of entry: TensorEntry) -> UnsafeRawBufferPointer {
        guard let file = file(of: entry.name) else { preconditionFailure("\(entry.name) is not of this folder") }
        return file.withBytes(of: entry)
    }

    /// The tensor's elements as f32, in row-major order.
    public func floats(of entry: TensorEntry) -> [Float] {
        guard let file = file(of: entry.name) else { preconditionFailure("\(entry.name) is not of this folder") }
        return file.floats(of: entry)
    }

    // MARK: Finding the files

    /// The files of weights in a folder, and what the index says about which tensor is where.
    private static func layout(
        of folder: String
    ) throws -> (names: [String], owners: [ByteString: ByteString], hasStaleIndex: Bool) {
        let names = try namesInFolder(folder)
        func has(_ name: String) -> Bool { names.contains { $0.hasSameBytes(as: name) } }
        func ending(_ suffixes: [String]) -> [String] {
            names.filter { name in suffixes.contains { name.utf8.suffix($0.utf8.count).elementsEqual($0.utf8) } }
        }
        // Transformers takes the single file where there are both.
        if has(fileName) { return ([fileName], [:], has(indexName)) }
        guard has(indexName) else {
            let pickles = ending([".bin", ".pt", ".pth", ".pkl", ".ckpt"]), found = ending([".safetensors", ".gguf"])
            throw FileError.modelFolder(
                path: folder, [found.isEmpty && !pickles.isEmpty ? .onlyPickles(pickles) : .noWeights(found: found)])
        }
        let owners = try readIndex(folder)
        let shards = Set(owners.values).sorted().map(\.description)
        let faults = shards.compactMap { fault(ofShard: $0, in: folder) }
        guard faults.isEmpty else { throw FileError.modelFolder(path: folder, faults) }
        return (shards, owners, false)
    }

    /// What an index beside the single file says otherwise.
    private static func notes(onIndexOf folder: String, _ entries: [TensorEntry]) -> [String] {
        guard let owners = try? readIndex(folder) else {
            return ["\(indexName) cannot be read; \(fileName) is taken, which is there alone"]
        }
        let others = Set(owners.values).filter { $0 != ByteString(fileName) }.sorted().map { quoted($0.description) }
        let isSame = owners.count == entries.count && entries.allSatisfy { owners[ByteString($0.name)] != nil }
        guard !others.isEmpty || !isSame else { return [] }
        return [
            "\(fileName) is taken, as Transformers does; \(indexName) beside it names "
                + (others.isEmpty ? "other tensors" : "other files (\(shortList(others)))")
                + ": remove the one that does not belong to the model"
        ]
    }

    private static func readIndex(_ folder: String) throws -> [ByteString: ByteString] {
        let path = folder + "/" + indexName
        func malformed(_ reason: String) -> FileError { .modelFolder(path: folder, [.malformedIndex(reason)]) }
        var owners: [ByteString: ByteString] = [:]
        var hasMap = false
        let bytes = try readFile(path, limit: indexSizeLimit)
        do {
            // Straight into the table: a tree of the document would take many times its size.
            try bytes.withUnsafeBufferPointer { bytes in
                var parser = JSONParser(bytes: bytes, maximumDepth: 8, duplicateKeys: .refuse)
                guard parser.nextByte == UInt8(ascii: "{") else { throw malformed("is no object") }
                try parser.parseMembers { key, parser in
                    guard key.hasSameBytes(as: "weight_map") else { return _ = try parser.parseValue(depth: 1) }
                    guard !hasMap else { throw malformed("has \"weight_map\" twice") }
                    guard parser.nextByte == UInt8(ascii: "{") else { throw malformed("has no object \"weight_map\"") }
                    hasMap = true
                    try parser.parseMembers { name, parser in
                        guard let shard = try parser.parseValue(depth: 2).stringValue else {
                            throw malformed("gives no text as the shard of \(quoted(name))")
                        }
                        guard owners.updateValue(ByteString(shard), forKey: ByteString(name)) == nil else {
                            throw malformed("names tensor \(quoted(name)) twice")
                        }
                        guard owners.count <= indexTensorLimit else {
                            throw malformed("names more than \(indexTensorLimit) tensors")
                        }
                    }
                }
                guard parser.nextByte == nil else { throw parser.error("text after the end of the document") }
            }
        } catch let error as JSONError {
            throw FileError.json(path: path, error)
        }
        guard hasMap else { throw malformed("has no object \"weight_map\"") }
        guard !owners.isEmpty else { throw malformed("has an empty \"weight_map\"") }
        return owners
    }

    private static func fault(ofShard name: String, in folder: String) -> ModelFolderFault? {
        func refused(_ reason: String) -> ModelFolderFault { .unsafeShard(name, reason: reason) }
        if name.isEmpty { return refused("its name is empty") }
        if name.utf8.contains(0) { return refused("its name holds a NUL") }
        if name.utf8.first == UInt8(ascii: "/") { return refused("its path is absolute") }
        if name.utf8.split(separator: UInt8(ascii: "/")).contains(where: { $0.elementsEqual("..".utf8) }) {
            return refused("its path holds '..'")
        }
        if !name.utf8.suffix(12).elementsEqual(".safetensors".utf8) { return refused("it is no .safetensors file") }
        guard resolvedPath(folder + "/" + name) != nil else { return .missingShard(name) }
        return linkFault(of: name, in: folder).map(refused)
    }
}
