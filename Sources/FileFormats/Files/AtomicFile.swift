import Foundation
import Host

/// A file that appears complete or not at all: written as a temporary sibling, synchronised, then renamed.
///
/// Folders above it are made where they are missing. The temporary is removed when the object goes without `commit`, and
/// those folders with it. One that a killed process left behind is removed
/// by the next writer of the same path: the lock on it shows whether its writer still lives.
public final class AtomicFile {
    public let path: String
    private let replacing: Bool
    private let temporary: Temporary
    private let descriptor: Descriptor
    private var buffer: [UInt8] = []
    private var flushed = 0
    private static let bufferSize = 1 << 18
    /// How far the system has been told to write to the disk, in steps of so many bytes.
    private var started = 0
    private static let startSize = 32 << 20

    /// - Parameter replacing: whether a file that stands at `path` may be replaced.
    /// - Throws: `FileError.outputExists`, `.io`.
    public init(path: String, replacing: Bool = false) throws {
        if !replacing, somethingExists(at: path) { throw FileError.outputExists(path: path) }
        self.path = path
        self.replacing = replacing
        temporary = try Temporary(for: path) { try Descriptor.creating($0) }
        descriptor = temporary.descriptor
        buffer.reserveCapacity(Self.bufferSize)
    }

    /// Where the file is until it is published, for libraries that write by path.
    var temporaryPath: String { temporary.path }

    /// Sets room on the disk aside for a file of `count` bytes.
    ///
    /// - Throws: `FileError.io` when there is none.
    func reserve(_ count: Int) throws { try descriptor.reserve(count) }

    /// The number of bytes written so far.
    public var position: Int { flushed + buffer.count }

    /// - Throws: `FileError.io`, `StopRequest.Stopped`.
    public func write(_ bytes: UnsafeRawBufferPointer) throws {
        try StopRequest.check()
        if buffer.count + bytes.count > Self.bufferSize { try flush() }
        if bytes.count >= Self.bufferSize {
            try descriptor.write(bytes, at: flushed)
            flushed += bytes.count
            if flushed - started >= Self.startSize {
                descriptor.startWriting(started..<flushed)
                started = flushed
            }
        } else {
            buffer.append(contentsOf: bytes)
        }
    }

    public func write(_ bytes: [UInt8]) throws { try bytes.withUnsafeBytes { try write($0) } }

    public func write(_ text: String) throws { try write(Array(text.utf8)) }

    private func flush() throws {
        guard !buffer.isEmpty else { return }
        try buffer.withUnsafeBytes { try descriptor.write($0, at: flushed) }
        flushed += buffer.count
        buffer.removeAll(keepingCapacity: true)
    }

    /// Makes the file appear under its name.
    ///
    /// - Throws: `FileError.io`; `.outputExists` when something came to stand at the path meanwhile.
    public func commit() throws {
        try flush()
        try descriptor.synchronize()
        try temporary.publish(replacing: replacing)
    }

    /// Writes a whole small file at once.
    public static func write(_ bytes: [UInt8], to path: String, replacing: Bool = false) throws {
        let file = try AtomicFile(path: path, replacing: replacing)
        try file.write(bytes)
        try file.commit()
    }
}

/// A folder that appears complete or not at all.
///
/// Fill `temporaryPath`, then `commit`; without it, the folder and all in it are removed with the object, and the folders
/// above it that had to be made.
public final class AtomicFolder {
    public let path: String
    public var temporaryPath: String { temporary.path }
    private let replacing: Bool
    private let temporary: Temporary

    /// - Throws: `FileError.outputExists`, `.io`.
    public init(path: String, replacing: Bool = false) throws {
        if !replacing, somethingExists(at: path) { throw FileError.outputExists(path: path) }
        self.path = path
        self.replacing = replacing
        temporary = try Temporary(for: path) {
            guard mkdir($0, 0o777) == 0 else { throw FileError.io(operation: "create", path: $0, code: errno) }
            return try Descriptor.folder($0)
        }
    }

    /// The path, inside the temporary folder, of a file to be.
    public func path(of name: String) -> String { temporaryPath + "/" + name }

    /// Makes the folder appear under its name, everything in it synchronised.
    public func commit() throws {
        try Self.synchronize(temporaryPath)
        try temporary.publish(replacing: replacing)
    }

    /// Makes everything in the temporary folder appear by itself in the folder that `path` stands in: for outputs that
    /// are looked at as a whole before any of them is published.
    ///
    /// - Throws: `FileError.outputExists` when something stands where one of them goes, `.io`.
    public func publishContents() throws {
        try Self.synchronize(temporaryPath)
        for name in try namesInFolder(temporaryPath).sorted() {
            try temporary.publish(part: name, replacing: replacing)
        }
    }

    private static func synchronize(_ folder: String) throws {
        for name in try namesInFolder(folder) {
            let path = folder + "/" + name
            var status = stat()
            guard lstat(path, &status) == 0 else { throw FileError.io(operation: "look at", path: path, code: errno) }
            switch status.st_mode & S_IFMT {
            case S_IFDIR: try synchronize(path)
            case S_IFREG: try Descriptor.reading(path).synchronize()
            default: break
            }
        }
        try Descriptor.folder(folder).synchronize()
    }
}

/// The temporary sibling of an output; locked while its writer lives, removed when it goes unpublished.
private final class Temporary {
    let path: String
    let target: String
    let descriptor: Descriptor
    private let parents: ParentFolders
    private var isPublished = false
    private let hold = StopRequest.Hold()

    init(for target: String, create: (String) throws -> Descriptor) throws {
        let (folder, name) = splitPath(target)
        guard !name.isEmpty, name != ".", name != "..", !target.utf8.contains(0) else {
            throw FileError.io(operation: "create", path: target, code: EINVAL)
        }
        // Told now rather than when all is written.
        guard name.utf8.count <= 255 else {
            throw FileError.io(operation: "create", path: target, code: ENAMETOOLONG)
        }
        // Names may have 255 bytes; a cut name only makes two outputs share the clean-up of their leftovers.
        let prefix = "." + String(decoding: name.utf8.prefix(200), as: UTF8.self) + ".graft-"
        parents = try ParentFolders(of: target)
        Self.removeLeftovers(in: folder, prefix: prefix)
        self.target = folder == "/" ? "/" + name : folder + "/" + name
        while true {
            let candidate = "\(folder)/\(prefix)\(String(UInt64.random(in: 0 ... .max), radix: 36)).tmp"
            let descriptor = try create(candidate)
            // Another writer's clean-up may have come between creating and locking.
            if try descriptor.tryLock(), try descriptor.isStillAtPath() {
                self.path = candidate
                self.descriptor = descriptor
                return
            }
        }
    }

    deinit { if !isPublished { removeTree(path) } }

    /// Moves a file or folder of this temporary folder next to it.
    func publish(part name: String, replacing: Bool) throws {
        let folder = splitPath(target).folder
        let part = folder == "/" ? "/" + name : folder + "/" + name
        try Self.move(path + "/" + name, to: part, replacing: replacing)
        try Descriptor.folder(folder).synchronize()
        try parents.synchronize()
    }

    func publish(replacing: Bool) throws {
        precondition(!isPublished, "published twice")
        try Self.move(path, to: target, replacing: replacing)
        isPublished = true
        try Descriptor.folder(splitPath(target).folder).synchronize()
        try parents.synchronize()
    }

    private static func move(_ path: String, to target: String, replacing: Bool) throws {
        guard let code = renameWithFlags(path, target, .noReplace) else { return }
        switch code {
        case EEXIST:
            guard replacing else { throw FileError.outputExists(path: target) }
        case EINVAL, ENOSYS:
            if !replacing, somethingExists(at: target) { throw FileError.outputExists(path: target) }
        default: throw FileError.io(operation: "rename to", path: target, code: code)
        }
        try replace(target, by: path)
    }

    private static func replace(_ target: String, by path: String) throws {
        if rename(path, target) == 0 { return }
        guard errno == ENOTEMPTY || errno == EEXIST else {
            throw FileError.io(operation: "rename to", path: target, code: errno)
        }
        // A folder with files in it cannot be renamed over: the two change places, then the old one is removed.
        if renameWithFlags(path, target, .exchange) == nil {
            removeTree(path)
            return
        }
        let old = path + ".old"
        guard rename(target, old) == 0 else { throw FileError.io(operation: "move", path: target, code: errno) }
        guard rename(path, target) == 0 else {
            let code = errno
            rename(old, target)
            throw FileError.io(operation: "rename to", path: target, code: code)
        }
        removeTree(old)
    }

    private static func removeLeftovers(in folder: String, prefix: String) {
        guard let names = try? namesInFolder(folder) else { return }
        for name in names where name.utf8.starts(with: prefix.utf8) && name.hasSuffix(".tmp") {
            let path = folder + "/" + name
            let opened = try? Descriptor.opened(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW) {
                FileError.io(operation: "open", path: path, code: $0)
            }
            guard let opened, (try? opened.tryLock()) == true else { continue }
            removeTree(path)
        }
    }
}

/// The flags of Linux's renameat2(2).
private enum RenameFlags: UInt32 {
    case noReplace = 1
    case exchange = 2
}

/// Renames as one step that neither replaces nor loses anything; the error code, or nil when it went well.
///
/// Found by name at run time: C libraries declare the call only for programs that ask for their extensions.
private func renameWithFlags(_ from: String, _ to: String, _ flags: RenameFlags) -> Int32? {
    typealias Call = @convention(c) (Int32, UnsafePointer<CChar>, Int32, UnsafePointer<CChar>, UInt32) -> Int32
    guard let symbol = dlsym(nil, "renameat2") else { return ENOSYS }
    return unsafeBitCast(symbol, to: Call.self)(AT_FDCWD, from, AT_FDCWD, to, flags.rawValue) == 0 ? nil : errno
}

/// Gives a folder whose files are synchronised already another name, as one step, where nothing stands.
///
/// - Throws: `FileError.outputExists`, `.io`.
public func publishFolder(_ path: String, as target: String) throws {
    try Descriptor.folder(path).synchronize()
    if let code = renameWithFlags(path, target, .noReplace) {
        if code == EEXIST || somethingExists(at: target) { throw FileError.outputExists(path: target) }
        guard code == EINVAL || code == ENOSYS, rename(path, target) == 0 else {
            throw FileError.io(operation: "rename to", path: target, code: code)
        }
    }
    try Descriptor.folder(splitPath(target).folder).synchronize()
}

/// Removes a file, or a folder with all in it; what cannot be removed stays.
public func removeTree(_ path: String) {
    var status = stat()
    guard lstat(path, &status) == 0 else { return }
    if status.st_mode & S_IFMT == S_IFDIR {
        for name in (try? namesInFolder(path)) ?? [] { removeTree(path + "/" + name) }
        rmdir(path)
    } else {
        unlink(path)
    }
}
