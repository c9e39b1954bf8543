import Foundation
import Host

/// The temporary sibling of an output; locked while its writer lives, removed when it goes unpublished.
final class Temporary {
    let path: String
    /// Where the output will stand.
    let folder: String
    let descriptor: Descriptor
    private let target: String
    private let parents: ParentFolders
    private var isPublished = false
    private let hold = StopRequest.Hold()

    /// - Throws: `FileError.locked` while another process writes to the same output, `.io`.
    init(for target: String, create: (String) throws -> Descriptor) throws {
        let (folder, name) = splitPath(target)
        guard !name.isEmpty, name != ".", name != "..", !target.utf8.contains(0) else {
            throw FileError.io(operation: "create", path: target, code: EINVAL)
        }
        // Told now rather than when all is written.
        guard name.utf8.count <= 255 else {
            throw FileError.io(operation: "create", path: target, code: ENAMETOOLONG)
        }
        parents = try ParentFolders(of: target)
        self.folder = folder
        self.target = folder == "/" ? "/" + name : folder + "/" + name
        try removeLeftovers(in: folder, before: name)
        while true {
            let candidate = folder + "/" + TemporaryName(of: name).text
            let descriptor = try create(candidate)
            let state = try descriptor.tryLock()
            if state == .unsupported { UnguardedOutputs.note(candidate) }
            // Another writer's clean-up may have come between creating and locking.
            if try state != .held && descriptor.isStillAtPath() {
                self.path = candidate
                self.descriptor = descriptor
                return
            }
        }
    }

    deinit { if !isPublished { removeTree(path) } }

    /// Gives the file or folder its name. When the disk does not take it, the name is taken back, so that a rerun
    /// finds nothing in its way.
    ///
    /// - Throws: `FileError.outputExists`, `.io`.
    func publish(replacing: Bool) throws {
        precondition(!isPublished, "published twice")
        let move = try Move(path, to: target, replacing: replacing)
        do { try synchronizeFolders() } catch {
            isPublished = !move.undo()
            throw error
        }
        isPublished = true
        move.settle()
    }

    /// Gives the files of this temporary folder their names beside it.
    func publish(_ set: FileSet, replacing: Bool) throws {
        precondition(!isPublished, "published twice")
        // Where a name cannot be taken back, the journal stays for the next run.
        try set.publish(replacing: replacing, synchronize: synchronizeFolders) { isPublished = true }
        isPublished = true
        removeTree(path)
    }

    private func synchronizeFolders() throws {
        try Descriptor.folder(folder).synchronize()
        try parents.synchronize()
    }
}

/// The name of a temporary: `.<output>.graft-<machine>-<process>-<random>.tmp`.
struct TemporaryName {
    static let mark = ".graft-"
    static let suffix = ".tmp"
    /// Names may have 255 bytes.
    private static let longest = 180

    let text: String
    /// What it shares with the other temporaries of the same output.
    let prefix: String
    /// Which running machine its writer is on; nil in names of another form.
    let machine: String?
    /// Of the writer.
    let process: Int32?

    init(of name: String) {
        prefix = Self.prefix(of: name)
        (machine, process) = (Self.thisMachine, getpid())
        text =
            "\(prefix)\(Self.thisMachine)-\(getpid())-\(String(UInt64.random(in: 0 ... .max), radix: 36))"
            + Self.suffix
    }

    /// Nil for the names of all other files.
    init?(_ text: String) {
        guard text.utf8.first == UInt8(ascii: "."), text.hasSuffix(Self.suffix),
            let mark = text.range(of: Self.mark, options: .backwards), mark.lowerBound > text.startIndex
        else { return nil }
        let middle = text[mark.upperBound...].dropLast(Self.suffix.utf8.count)
        let isPlain = middle.utf8.allSatisfy {
            (0x30...0x39).contains($0) || (0x61...0x7A).contains($0) || $0 == UInt8(ascii: "-")
        }
        guard isPlain, !middle.isEmpty else { return nil }
        self.text = text
        prefix = String(text[..<mark.upperBound])
        let fields = middle.split(separator: "-", omittingEmptySubsequences: false)
        (machine, process) = fields.count == 3 ? (String(fields[0]), Int32(fields[1])) : (nil, nil)
    }

    static func prefix(of name: String) -> String {
        // A cut name only makes two outputs share the clean-up of their leftovers.
        "." + String(decoding: name.utf8.prefix(longest), as: UTF8.self) + mark
    }

    static func isCut(_ name: String) -> Bool { name.utf8.count > longest }

    /// The output's name, where it is not cut.
    var target: String? {
        let name = String(decoding: prefix.utf8.dropFirst().dropLast(Self.mark.utf8.count), as: UTF8.self)
        return name.utf8.count < Self.longest ? name : nil
    }

    /// Differs between machines, and between starts of one: on shared disks whose locks hold on each machine alone,
    /// a lock shows nothing about the writers of another.
    static let thisMachine: String = {
        let bytes = (try? readFile("/proc/sys/kernel/random/boot_id", limit: 1 << 10)) ?? []
        var host = [CChar](repeating: 0, count: 256)
        gethostname(&host, host.count - 1)
        let name = bytes.isEmpty ? host.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)) : bytes
        return String(sha256(name).prefix(8))
    }()
}

/// Whether a name is that of a file or folder that is not yet published.
public func isTemporaryName(_ name: String) -> Bool { TemporaryName(name) != nil }

/// Removes what killed writers left in a folder, and takes back what they published of a set.
///
/// - Parameter output: the name that is to be written; nil when there is none.
/// - Throws: `FileError.locked` when another process is writing to that very output.
public func removeLeftovers(in folder: String, before output: String? = nil) throws {
    guard let names = try? namesInFolder(folder) else { return }
    let own = output.map(TemporaryName.prefix)
    for name in names where name.utf8.first == UInt8(ascii: ".") {
        let path = folder + "/" + name
        if name.hasSuffix(TemporaryName.suffix + Move.oldSuffix) {
            settleReplaced(path, in: folder, String(name.dropLast(Move.oldSuffix.utf8.count)))
            continue
        }
        if name.hasSuffix(ResumableParts.suffix) {
            ResumableParts.removeIfForgotten(path)
            continue
        }
        guard let temporary = TemporaryName(name) else { continue }
        let isOwn = own.map(temporary.prefix.hasSameBytes) ?? false
        guard isOwn || temporary.machine == TemporaryName.thisMachine || isStale(path) else { continue }
        let opened = try? Descriptor.opened(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW) {
            FileError.io(operation: "open", path: path, code: $0)
        }
        guard let opened, let state = try? opened.tryLock() else { continue }
        switch state {
        case .unsupported: continue
        case .held:
            guard isOwn, let process = temporary.process, process != getpid(), let output,
                !TemporaryName.isCut(output)
            else { continue }
            throw FileError.locked(path: folder + "/" + output, holder: process)
        case .taken:
            FileSet.takeBack(stage: path, folder: folder)
            removeTree(path)
        }
    }
}

/// A folder that was put aside for another one: given its name back where the other one did not come.
private func settleReplaced(_ path: String, in folder: String, _ name: String) {
    guard let temporary = TemporaryName(name), let target = temporary.target else { return }
    if let writer = try? Descriptor.folder(folder + "/" + name), (try? writer.tryLock()) != .taken { return }
    if somethingExists(at: folder + "/" + target) {
        removeTree(path)
    } else {
        rename(path, folder + "/" + target)
    }
}

/// Whether nothing in a file or folder was written for some days; no writer rests for one.
private func isStale(_ path: String, days: Int = 1) -> Bool {
    var status = stat()
    guard lstat(path, &status) == 0, time(nil) - status.st_mtim.tv_sec > 86_400 * days else { return false }
    guard status.st_mode & S_IFMT == S_IFDIR, let names = try? namesInFolder(path) else { return true }
    return names.allSatisfy { isStale(path + "/" + $0, days: days) }
}

/// Finished parts of an output that a killed or stopped command left to go on from, `.<output>.graft-parts`, with the
/// lock that their writer holds.
public enum ResumableParts {
    static let suffix = ".graft-parts"
    private static let lockSuffix = ".graft-lock"
    /// Whoever has not gone on by then will not.
    private static let keptDays = 7

    public static func folder(of output: String) -> String {
        let (folder, name) = splitPath(output)
        return "\(folder)/.\(name)\(suffix)"
    }

    /// - Throws: `FileError.locked` with the holder's process id, `.io`.
    public static func lock(_ output: String) throws -> FileLock {
        let (folder, name) = splitPath(output)
        return try FileLock(path: "\(folder)/.\(name)\(lockSuffix)")
    }

    static func removeIfForgotten(_ parts: String) {
        guard isStale(parts, days: keptDays) else { return }
        // A lock file without a holder goes with the lock.
        let lock = try? FileLock(path: String(parts.dropLast(suffix.utf8.count)) + lockSuffix)
        if let lock { withExtendedLifetime(lock) { removeTree(parts) } }
    }
}
