public import FileFormats
import Foundation
public import TextData

/// Everything that decides the bytes of a token store, as it stands in the folder of its parts.
public struct StorePlan: Codable, Sendable {
    public var header: TokenStoreHeader
    public var mixture: SourceMixture
    public var shuffle: Bool
    public var seed: UInt64
    public var dedupe: Deduplication
    public var accepts: [Lint]
    public var shard: Shard
    /// The data files as they were named, for messages.
    public var files: [String]

    /// The same for all shards of one store.
    var common: StorePlan {
        var copy = self
        copy.shard = .whole
        copy.files = []
        return copy
    }

    static let fileName = "plan.json"

    func encoded() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        encoder.nonConformingFloatEncodingStrategy = .convertToString(
            positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
        return Array(try encoder.encode(self))
    }

    static func read(_ folder: String) throws -> StorePlan {
        let path = folder + "/" + fileName
        let decoder = JSONDecoder()
        decoder.nonConformingFloatDecodingStrategy = .convertFromString(
            positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
        let bytes = somethingExists(at: path) ? try readFile(path, limit: 256 << 20) : []
        guard let plan = try? decoder.decode(StorePlan.self, from: Data(bytes)),
            plan.shard.count > 0, (0..<plan.shard.count).contains(plan.shard.index)
        else { throw FileError.tokenStore(path: folder, reason: "it is no shard of a token store") }
        return plan
    }
}

/// A data file of a store: what it was when the store was made.
struct StoreFile: Codable, Equatable {
    /// Relative to the store's folder; "-" for standard input.
    var path: String
    var bytes: Int
    var sha256: String
}

extension TokenStoreHeader {
    var fileList: [StoreFile] {
        (try? JSONDecoder().decode([StoreFile].self, from: Data(files.utf8))) ?? []
    }

    /// Hashes the data files: their list, and one hash of all, which is empty when standard input is among them.
    static func dataFiles(
        _ files: [DataFile], storeAt store: String, progress: (String) -> Void = { _ in }
    ) throws -> (list: String, hash: String) {
        let folder = absolute(splitPath(store).folder)
        var list: [StoreFile] = []
        var hash = SHA256Stream()
        var isKnown = true
        for file in files {
            guard fileKind(file.path) == .file else {
                isKnown = false
                list.append(StoreFile(path: "-", bytes: 0, sha256: ""))
                continue
            }
            progress(file.path)
            let digest = try sha256(ofFile: file.path)
            let size = fileSize(file.path) ?? 0
            list.append(StoreFile(path: relative(absolute(file.path), to: folder), bytes: size, sha256: digest))
            hash.update(Array("\(file.source) \(digest)\n".utf8))
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return (String(decoding: try encoder.encode(list), as: UTF8.self), isKnown ? hash.hexDigest() : "")
    }

    static func absolute(_ path: String) -> String {
        resolvedPath(path) ?? absolutePath(path)
    }

    private static func relative(_ path: String, to folder: String) -> String {
        let (a, b) = (path.split(separator: "/"), folder.split(separator: "/"))
        var same = 0
        while same < a.count - 1, same < b.count, String(a[same]).hasSameBytes(as: String(b[same])) { same += 1 }
        return (Array(repeating: "..", count: b.count - same) + a[same...].map(String.init)).joined(separator: "/")
    }

    /// What makes a store another one than that of `wanted`, in words.
    func differences(from wanted: TokenStoreHeader) -> [String] {
        var found: [String] = []
        if vocabularySize != wanted.vocabularySize || !tokenizerHash.hasSameBytes(as: wanted.tokenizerHash) {
            found.append("it was made with another tokenizer")
        }
        if !templateHash.hasSameBytes(as: wanted.templateHash) {
            found.append("it was made with another chat template")
        }
        if wanted.dataHash.isEmpty {
            found.append("whether its data are those of standard input cannot be told")
        } else if !dataHash.hasSameBytes(as: wanted.dataHash) {
            found.append("it was made of other data")
        }
        let (mine, others) = (try? JSONParser.parse(options), try? JSONParser.parse(wanted.options))
        for entry in others?.objectValue?.entries ?? [] {
            let (a, b) = (mine?[entry.key].map { JSONWriter.text($0) } ?? "unknown", JSONWriter.text(entry.value))
            if !a.hasSameBytes(as: b) { found.append("\(entry.key) was \(a) and is \(b)") }
        }
        return found.isEmpty ? ["it was written in another way"] : found
    }
}

/// Whether a store may be trained on.
struct StoreCheck {
    var text: TextResources?
    var config: ModelConfig
    /// What a recipe asks for; nil for a command that takes rows as they are.
    var options: ExampleOptions?

    /// Everything that makes the store at `path` unfit or stale, in words.
    func problems(_ path: String) throws -> [String] {
        let header = try TokenStore(path: path).header
        var found: [String] = []
        func stale(_ reason: String) { found.append("\(path): \(reason); run 'graft tokenize' again") }
        if header.vocabularySize > config.vocabularySize {
            stale(
                "made with a vocabulary of \(header.vocabularySize) tokens; the model has \(config.vocabularySize)")
        }
        if let text {
            if try !text.tokenizerHash().hasSameBytes(as: header.tokenizerHash) {
                stale("made with another tokenizer than the model's")
            }
            if !text.templateHash.hasSameBytes(as: header.templateHash) {
                stale("made with another chat template than the model's")
            }
        }
        let made = try? JSONParser.parse(header.options)
        let version = made?["graft"]?.stringValue ?? "unknown"
        if !version.hasSameBytes(as: graftVersion) { stale("made by graft \(version); this is \(graftVersion)") }
        if let options {
            let trainOn = made?["train_on"]?.stringValue ?? "unknown"
            if !trainOn.hasSameBytes(as: options.trainOn.rawValue) {
                stale("made with train_on: \(trainOn); the recipe says \(options.trainOn.rawValue)")
            }
            let (overlong, length) = (made?["overlong"]?.stringValue ?? "unknown", made?["max_length"]?.intValue ?? 0)
            // Where long rows were an error, none was cut, and any limit may be asked for.
            if !overlong.hasSameBytes(as: "error"), let limit = options.maxLength, limit != length {
                stale("made with max_length: \(length) and overlong: \(overlong); the recipe's max_length is \(limit)")
            }
        }
        for file in try changedFiles(path, header) { stale("\(file) has changed since it was made") }
        return found
    }

    /// Data files that are still where they were and hold something else now. Those that are not, are no problem: a
    /// store may travel alone.
    private func changedFiles(_ path: String, _ header: TokenStoreHeader) throws -> [String] {
        let folder = TokenStoreHeader.absolute(splitPath(path).folder)
        func status(_ path: String) -> stat? {
            var status = stat()
            return stat(path, &status) == 0 ? status : nil
        }
        guard let made = status(path) else { return [] }
        return try header.fileList.compactMap { file in
            let place = absolutePath(folder + "/" + file.path)
            guard !file.sha256.isEmpty, let now = status(place) else { return nil }
            if Int(now.st_size) == file.bytes {
                // A file that is older than the store is the one it was made of.
                if (now.st_mtim.tv_sec, now.st_mtim.tv_nsec) <= (made.st_mtim.tv_sec, made.st_mtim.tv_nsec) {
                    return nil
                }
                if try sha256(ofFile: place).hasSameBytes(as: file.sha256) { return nil }
            }
            return place
        }
    }
}
