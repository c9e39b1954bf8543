import FileFormats
import Foundation
import TextData

/// `checkpoints/inputs.json`: what a run's bytes follow from besides its recipe, as it was when the run began. A
/// resume is exact only with the same.
struct RunInputs {
    /// By what a file is called in messages, and what it held; a pipe cannot be read twice and has no hash.
    struct Entry: Equatable {
        var path: String
        var sha256: String?

        static func == (a: Entry, b: Entry) -> Bool {
            splitPath(a.path).name.hasSameBytes(as: splitPath(b.path).name) && a.holdsTheSame(as: b)
        }

        func holdsTheSame(as other: Entry) -> Bool {
            guard let sha256, let other = other.sha256 else { return true }
            return sha256.hasSameBytes(as: other)
        }
    }

    static let fileName = "inputs.json"
    private static let kinds = ["base", "tokenizer", "init_from", "teacher", "data.train", "data.eval"]

    /// Of each kind, with the files of folders by their whole paths.
    private var files: [String: [Entry]] = [:]
    /// The day that templates were told, where they ask; a resume tells them the same.
    var day: CivilTime?

    /// Hashes all files that a recipe names.
    ///
    /// - Throws: what keeps them from being read.
    init(_ recipe: Recipe, manifest: inout RunManifest) throws {
        switch recipe.model {
        case .folder(let path): try manifest.hashBase(folder: path)
        case .initial(let config, let tokenizer):
            manifest.base = [try .init(path: config, name: splitPath(config).name)]
            if let tokenizer { manifest.tokenizer = try RunManifest.tokenizerFiles(tokenizer) }
        }
        manifest.data = try expandedPaths(recipe.data.train.map(\.path)).map { try .init(path: $0) }
        manifest.evalData = try expandedPaths(recipe.data.eval.map(\.path)).map { try .init(path: $0) }
        func entries(_ files: [RunManifest.HashedFile], in folder: String? = nil) -> [Entry] {
            files.map { Entry(path: (folder.map { $0 + "/" } ?? "") + $0.path, sha256: $0.sha256) }
        }
        let folder = manifest.basePath.map { TextResources.isGGUF($0) ? splitPath($0).folder : $0 }
        files["base"] = entries(manifest.base, in: folder)
        files["tokenizer"] = entries(manifest.tokenizer, in: folder ?? recipe.tokenizerFolder)
        files["data.train"] = entries(manifest.data)
        files["data.eval"] = entries(manifest.evalData)
        if let start = recipe.adapter.initFrom {
            files["init_from"] = try [AdapterConfig.fileName, AdapterFile.tensorsName].map {
                Entry(path: start + "/" + $0, sha256: try sha256(ofFile: start + "/" + $0))
            }
        }
        if case .distill(let distillation) = recipe.objective {
            var teacher = manifest
            (teacher.base, teacher.tokenizer) = ([], [])
            try teacher.hashBase(folder: distillation.teacher)
            files["teacher"] = entries(teacher.base + teacher.tokenizer, in: distillation.teacher)
        }
    }

    /// What a run began with; nil where it does not say.
    init?(recordedAt path: String) {
        guard let bytes = try? readFile(path, limit: 64 << 20), let json = try? JSONParser.parse(bytes),
            let recorded = json["files"]?.objectValue
        else { return nil }
        for (kind, list) in recorded.entries {
            files[kind] = (list.arrayValue ?? []).compactMap { entry in
                entry["path"]?.stringValue.map { Entry(path: $0, sha256: entry["sha256"]?.stringValue) }
            }
        }
        day = json["day"]?.stringValue.flatMap { CivilTime(iso: $0) }
    }

    func write(to path: String) throws {
        let files = Self.kinds.compactMap { kind in
            self.files[kind].map { list -> (key: String, value: JSONValue) in
                let entries = list.map { entry -> JSONValue in
                    ["path": .string(entry.path), "sha256": entry.sha256.map { .string($0) } ?? .null]
                }
                return (kind, .array(entries))
            }
        }
        let json: JSONValue = [
            "format": "graft-inputs-1", "files": .object(JSONObject(files)),
            "day": day.map { .string($0.isoDay) } ?? .null,
        ]
        try createFolders(splitPath(path).folder)
        try AtomicFile.write(JSONWriter.bytes(json, .pretty) + [UInt8(ascii: "\n")], to: path, replacing: true)
    }

    /// What of the base and what is made of it decides the weights: part of what a checkpoint must agree with.
    var weightHash: String {
        sha256(Array(["base", "init_from", "teacher"].flatMap { files[$0] ?? [] }.compactMap(\.sha256).joined().utf8))
    }

    /// How these differ from what the run began with, file by file.
    func differences(from recorded: RunInputs) -> [String] {
        Self.kinds.flatMap { kind -> [String] in
            let (now, then) = (files[kind] ?? [], recorded.files[kind] ?? [])
            // Rows count in their order, whatever their files are called; files of folders are known by their names.
            return kind.hasPrefix("data.")
                ? Self.differences(now, inOrderOf: then, kind) : Self.differences(now, byNameOf: then)
        }
    }

    private static func changed(_ now: Entry, _ then: Entry) -> String {
        func short(_ hash: String?) -> String { hash.map { $0.prefix(16) + "..." } ?? "unknown" }
        return "\(now.path): its SHA-256 has changed: it was \(short(then.sha256)) and is \(short(now.sha256))"
    }

    private static func differences(_ now: [Entry], inOrderOf then: [Entry], _ kind: String) -> [String] {
        guard now.count == then.count else {
            let added = now.filter { file in !then.contains(where: file.holdsTheSame) }.map {
                "\($0.path): it was not among the files of \(kind)"
            }
            let gone = then.filter { file in !now.contains(where: file.holdsTheSame) }.map {
                "\($0.path): it is no longer among the files of \(kind)"
            }
            return ["\(kind): \(now.count) files, where the run began with \(then.count)"] + added + gone
        }
        return zip(now, then).filter { !$0.holdsTheSame(as: $1) }.map { changed($0, $1) }
    }

    private static func differences(_ now: [Entry], byNameOf then: [Entry]) -> [String] {
        func find(_ entry: Entry, in list: [Entry]) -> Entry? {
            list.first { splitPath($0.path).name.hasSameBytes(as: splitPath(entry.path).name) }
        }
        // A single file may have another name now.
        if now.count == 1, then.count == 1 { return now[0].holdsTheSame(as: then[0]) ? [] : [changed(now[0], then[0])] }
        let found = now.compactMap { file -> String? in
            guard let before = find(file, in: then) else { return "\(file.path): it was not there when the run began" }
            return file.holdsTheSame(as: before) ? nil : changed(file, before)
        }
        return found
            + then.filter { find($0, in: now) == nil }.map {
                "\($0.path): it was there when the run began, and is gone"
            }
    }
}

extension CivilTime {
    /// The day alone, as ISO 8601 writes it.
    fileprivate var isoDay: String {
        func padded(_ number: Int, _ width: Int) -> String {
            let digits = String(number)
            return String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits
        }
        return "\(padded(year, 4))-\(padded(month, 2))-\(padded(day, 2))"
    }

    /// Midnight: the time of day should not make two runs of one.
    static var today: CivilTime {
        let now = CivilTime.now()
        return CivilTime(year: now.year, month: now.month, day: now.day)
    }
}
