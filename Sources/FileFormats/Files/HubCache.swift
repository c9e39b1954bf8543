import Foundation

/// What a Hugging Face cache keeps of one repository: `models--org--name/` with `refs/`, `blobs/` and
/// `snapshots/<revision>/` (huggingface_hub, "Understand caching").
public enum HubCache {
    /// The folder of files that `path` stands for: of a cache entry's root, the snapshot that `refs/main` names, or the
    /// only one; any other path stays as it is.
    ///
    /// - Throws: `FileError.modelFolder` for an entry that does not tell which snapshot is meant.
    public static func snapshot(_ path: String) throws -> String {
        let folder = path + "/snapshots"
        guard let revisions = try? namesInFolder(folder), let names = try? namesInFolder(path),
            !names.contains(where: { $0.hasSuffix(".json") || $0.hasSuffix(".safetensors") })
        else { return path }
        if let bytes = try? readFile(path + "/refs/main", limit: 4096) {
            let main = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace).joined()
            guard revisions.contains(where: main.hasSameBytes) else {
                throw FileError.modelFolder(path: path, [.missingSnapshot(main)])
            }
            return folder + "/" + main
        }
        guard let only = revisions.first, revisions.count == 1 else {
            throw FileError.modelFolder(path: path, [.ambiguousSnapshot(revisions)])
        }
        return folder + "/" + only
    }

    /// The repository, as in `org/name`, whose snapshot a folder is; nil for any other folder.
    public static func repository(ofFolder path: String) -> String? {
        let snapshots = splitPath(resolvedPath(path) ?? path).folder
        let entry = splitPath(splitPath(snapshots).folder).name
        guard splitPath(snapshots).name.hasSameBytes(as: "snapshots"), entry.utf8.starts(with: "models--".utf8) else {
            return nil
        }
        return entry.components(separatedBy: "--").dropFirst().joined(separator: "/")
    }

    /// The name of a model by its folder, links followed: of a snapshot, that of the repository without its owner.
    public static func name(ofFolder path: String) -> String {
        splitPath(repository(ofFolder: path) ?? resolvedPath(path) ?? path).name
    }
}
