import FileFormats
import Synchronization

/// The adapter of a run, compared with the hashes that the run's manifest holds.
///
/// A flipped bit in a matrix or in alpha changes what a model says and breaks no format. The hashes stand in the
/// manifest beside the folder and not in the adapter's own file: other programs that change tensors keep such notes as
/// they are. A copy that lies elsewhere is taken as it is.
enum PublishedAdapter {
    /// Folders that were compared already, by what their files' status said then.
    private static let checked = Mutex<Set<String>>([])

    /// - Throws: `FineTuningError.badAdapter` naming every file that is not as the run wrote it, `FileError.io`.
    static func check(_ folder: String) throws {
        guard let root = resolvedPath(folder) else { return }
        let (run, name) = splitPath(root)
        // Whatever else may be called manifest.json is none of a run.
        guard let bytes = try? readFile(run + "/manifest.json", limit: 64 << 20),
            let manifest = try? JSONParser.parse(bytes),
            manifest["format"]?.stringValue?.utf8.starts(with: "graft-run".utf8) == true,
            let outputs = manifest["outputs"]?.arrayValue
        else { return }
        let files = outputs.compactMap { output -> (name: String, sha256: String)? in
            guard let path = output["path"]?.stringValue, path.utf8.starts(with: (name + "/").utf8),
                let hash = output["sha256"]?.stringValue
            else { return nil }
            let file = String(decoding: path.utf8.dropFirst(name.utf8.count + 1), as: UTF8.self)
            return file.utf8.contains(UInt8(ascii: "/")) ? nil : (file, hash)
        }
        let stamp = sha256(bytes) + files.map { fileStamp(root + "/" + $0.name) }.joined(separator: "|") + root
        if checked.withLock({ $0.contains(stamp) }) { return }
        var problems: [String] = []
        for file in files where somethingExists(at: root + "/" + file.name) {
            let found = try sha256(ofFile: root + "/" + file.name)
            if !found.hasSameBytes(as: file.sha256) {
                problems.append(
                    "\(file.name) is not as the run wrote it: its SHA-256 is \(found), and manifest.json beside the folder "
                        + "has \(file.sha256)")
            }
        }
        guard problems.isEmpty else {
            throw FineTuningError.badAdapter(
                path: folder, problems: problems,
                next: "A damaged adapter is written anew by 'graft train' with --resume, from the last checkpoint. If "
                    + "it was changed on purpose, copy it out of the run directory: there it is taken as it is.")
        }
        _ = checked.withLock { $0.insert(stamp) }
    }
}
