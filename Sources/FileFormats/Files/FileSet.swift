import Foundation

/// Files of a temporary folder that are to appear beside it, all or none.
///
/// No file system gives several names in one step. So the last to get its name is the one that readers open, and a
/// journal in the temporary folder says which files are of the set, so that those of an unfinished one are known and
/// taken back by the next run: as long as the temporary folder still holds one of them, the set is not whole.
struct FileSet {
    private static let journal = ".graft-set"

    /// In the order of their bytes.
    private let names: [String]
    private let stage: String
    private let folder: String

    init(_ names: [String], stage: String, folder: String) {
        (self.names, self.stage, self.folder) = (names, stage, folder)
    }

    /// By what a file is known again: its number in the file system, size and time of the last change, none of which
    /// a rename touches.
    private static func identity(_ path: String) -> String? {
        var status = stat()
        guard lstat(path, &status) == 0 else { return nil }
        return "\(status.st_ino) \(status.st_size) \(status.st_mtim.tv_sec) \(status.st_mtim.tv_nsec)"
    }

    func writeJournal() throws {
        let entries: [(key: String, value: JSONValue)] = try names.map { name in
            let path = stage + "/" + name
            guard let identity = Self.identity(path) else {
                throw FileError.io(operation: "look at", path: path, code: errno)
            }
            return (name, .string(identity))
        }
        try AtomicFile.write(JSONWriter.bytes(.object(JSONObject(entries))), to: stage + "/" + Self.journal)
    }

    /// - Parameter stuck: called when a name could not be taken back.
    /// - Throws: `FileError.outputExists`, `.io`.
    func publish(replacing: Bool, synchronize: () throws -> Void, stuck: () -> Void) throws {
        var moves: [Move] = []
        do {
            for name in names.dropFirst().reversed() + names.prefix(1) {
                // Names may reach the disk in any order; the last one must not come before the others.
                if moves.count > 0, moves.count == names.count - 1 { try synchronize() }
                moves.append(try Move(stage + "/" + name, to: folder + "/" + name, replacing: replacing))
            }
            try synchronize()
        } catch {
            for move in moves.reversed() where !move.undo() { stuck() }
            throw error
        }
        for move in moves { move.settle() }
    }

    /// Removes those of an unfinished set that have their names already.
    ///
    /// - Parameter stage: a temporary folder whose writer is dead.
    static func takeBack(stage: String, folder: String) {
        guard let bytes = try? readFile(stage + "/" + journal, limit: 16 << 20),
            let entries = (try? JSONParser.parse(bytes))?.objectValue?.entries,
            entries.contains(where: { somethingExists(at: stage + "/" + $0.key) })
        else { return }
        for (name, value) in entries where !name.utf8.contains(UInt8(ascii: "/")) {
            let path = folder + "/" + name
            guard !somethingExists(at: stage + "/" + name), let identity = value.stringValue,
                Self.identity(path)?.hasSameBytes(as: identity) == true
            else { continue }
            removeTree(path)
        }
    }
}
