import Foundation
import Host

/// A file that appears complete or not at all: written as a temporary sibling, synchronised, then renamed.
///
/// Folders above it are made where they are missing. The temporary is removed when the object goes without `commit`, and
/// those folders with it. One that a killed process left behind is removed
/// by the next writer of the same path: the lock on it shows whether its writer still lives. So are those of other outputs in the same folder.
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
    /// - Throws: `FileError.outputExists`, `.locked` while another process writes it, `.io`.
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

    /// - Throws: `FileError.outputExists`, `.locked` while another process writes it, `.io`.
    public convenience init(path: String, replacing: Bool = false) throws {
        if !replacing, somethingExists(at: path) { throw FileError.outputExists(path: path) }
        try self.init(publishingBeside: path, replacing: replacing)
    }

    /// A folder whose contents alone are to be published; what stands at `path` does not matter.
    ///
    /// - Throws: `FileError.io`.
    init(publishingBeside path: String, replacing: Bool) throws {
        self.path = path
        self.replacing = replacing
        temporary = try Temporary(for: path) {
            guard mkdir($0, 0o777) == 0 else { throw FileError.io(operation: "create", path: $0, code: errno) }
            do { return try Descriptor.folder($0) } catch {
                rmdir($0)
                throw error
            }
        }
    }

    /// The path, inside the temporary folder, of a file to be.
    public func path(of name: String) -> String { temporaryPath + "/" + name }

    /// Makes the folder appear under its name, everything in it synchronised.
    public func commit() throws {
        try Self.synchronize(temporaryPath)
        try temporary.publish(replacing: replacing)
    }

    /// Makes everything in the temporary folder appear by itself in the folder that `path` stands in, all of it or
    /// nothing: for outputs that are looked at as a whole before any of them is published, and for sets of files. The
    /// first by name, which readers of a set open, appears last.
    ///
    /// - Throws: `FileError.outputExists` when something stands where one of them goes, `.io`; nothing of it stands
    ///   under its name then.
    public func publishContents() throws {
        let names = try namesInFolder(temporaryPath)
        let set = FileSet(names, stage: temporaryPath, folder: temporary.folder)
        if names.count > 1 { try set.writeJournal() }
        try Self.synchronize(temporaryPath)
        try temporary.publish(set, replacing: replacing)
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
