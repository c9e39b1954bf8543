import Foundation

/// Why the file under a name in a folder is none of the folder's own; nil when it is, or when nothing is there.
///
/// What stands there may be a link: into the folder itself, or into the `blobs` beside a snapshot of the Hugging Face
/// cache. Any other leads to files that nobody meant to hand on with the folder.
public func linkFault(of name: String, in folder: String) -> String? {
    guard let target = resolvedPath(folder + "/" + name), let root = resolvedPath(folder) else { return nil }
    if isInside(target, root) { return nil }
    // The Hugging Face cache keeps snapshots/<revision>/<name> as links into the blobs/ beside snapshots/.
    let snapshots = splitPath(root).folder
    if splitPath(snapshots).name == "snapshots", isInside(target, splitPath(snapshots).folder + "/blobs") { return nil }
    return "it is a link that leads out of the folder, to \(target)"
}

private func isInside(_ path: String, _ folder: String) -> Bool {
    path.utf8.starts(with: (folder == "/" ? folder : folder + "/").utf8)
}

/// Files that may hold a vocabulary of millions of tokens; all others are short.
private let vocabularyFiles: Set<String> = [
    "tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json", "tiktoken.model", "merges.txt",
]

/// The bytes of a file that lies beside a model's weights, to be handed on with them.
///
/// - Parameter name: relative to the folder; a short file whose name ends in `.json` has to hold a JSON object
/// - Throws: `FileError.modelFolder` for a link that leads out of the folder, `.missing`, `.notAFile`, `.tooLarge`,
///   `.json`, `.io`.
public func readSideFile(_ name: String, in folder: String) throws -> [UInt8] {
    func refused(_ reason: String) -> FileError {
        .modelFolder(path: folder, [.unsafeFile(name, reason: reason)])
    }
    if let reason = linkFault(of: name, in: folder) { throw refused(reason) }
    let holdsVocabulary = vocabularyFiles.contains(name), path = folder + "/" + name
    let bytes = try readFile(path, limit: holdsVocabulary ? 512 << 20 : 16 << 20)
    guard !holdsVocabulary, name.utf8.suffix(5).elementsEqual(".json".utf8) else { return bytes }
    do {
        guard try JSONParser.parse(bytes).objectValue != nil else { throw refused("it holds no JSON object") }
    } catch let error as JSONError { throw FileError.json(path: path, error) }
    return bytes
}

/// Whether a plain file, or a link to one, stands at `path`.
public func isPlainFile(_ path: String) -> Bool { fileKind(path) == .file }

/// By what a change of a file shows without reading it: its number, size, and times of the last change.
public func fileStamp(_ path: String) -> String {
    var status = stat()
    guard stat(path, &status) == 0 else { return "" }
    return "\(status.st_dev) \(status.st_ino) \(status.st_size) \(status.st_mtim.tv_sec) \(status.st_mtim.tv_nsec) "
        + "\(status.st_ctim.tv_sec) \(status.st_ctim.tv_nsec)"
}

/// The bytes that the file system a path lies on, or will lie on, has left for this user; nil when it does not say.
public func freeBytes(at path: String) -> Int? {
    var path = path
    while !somethingExists(at: path) {
        let parent = splitPath(path).folder
        if parent.hasSameBytes(as: path) { return nil }
        path = parent
    }
    var status = statvfs()
    guard statvfs(path, &status) == 0 else { return nil }
    let (bytes, isTooLarge) = UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize))
    // Some network file systems do not count, and say 0 blocks in all.
    return isTooLarge || status.f_blocks == 0 ? nil : Int(clamping: bytes)
}
