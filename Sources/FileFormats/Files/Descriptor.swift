import Foundation
import Host

/// An open file that closes itself; every call is safe against EINTR and short transfers.
final class Descriptor {
    let number: Int32
    let path: String

    private init(_ number: Int32, _ path: String) {
        self.number = number
        self.path = path
    }
    deinit { close(number) }

    /// Opens a plain file to read.
    static func reading(_ path: String, what: String = "file") throws -> Descriptor {
        guard !path.utf8.contains(0) else { throw FileError.missing(path: path, what: what) }
        // O_NONBLOCK keeps a pipe that nobody writes to from holding the program up.
        let file = try opened(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) {
            FileError.reading("open", path, what: what, code: $0)
        }
        guard (try file.status().st_mode & S_IFMT) == S_IFREG else { throw FileError.notAFile(path: path) }
        return file
    }

    /// Creates a file that must not exist.
    static func creating(_ path: String) throws -> Descriptor {
        try opened(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC) {
            FileError.io(operation: "create", path: path, code: $0)
        }
    }

    /// A file without a name that is gone once it is closed; `name` stands for it in errors.
    static func temporary(name: String) throws -> Descriptor {
        let folder = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        var template = Array((folder + "/graft-XXXXXX").utf8CString)
        let number = mkstemp(&template)
        guard number >= 0 else { throw FileError.io(operation: "create a file in", path: folder, code: errno) }
        unlink(template)
        _ = fcntl(number, F_SETFD, FD_CLOEXEC)
        return Descriptor(number, name)
    }

    static func folder(_ path: String) throws -> Descriptor {
        try opened(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) {
            FileError.reading("open", path, what: "folder", code: $0)
        }
    }

    static func opened(_ path: String, _ flags: Int32, _ failure: (Int32) -> FileError) throws -> Descriptor {
        while true {
            let number = open(path, flags, 0o666)
            if number >= 0 { return Descriptor(number, path) }
            guard errno == EINTR else { throw failure(errno) }
            try StopRequest.check()
        }
    }

    func status() throws -> stat {
        var status = stat()
        guard fstat(number, &status) == 0 else {
            throw FileError.io(operation: "look at", path: path, code: errno)
        }
        return status
    }

    /// The size in bytes.
    func size() throws -> Int { Int(try status().st_size) }

    /// Reads up to `buffer.count` bytes at `offset`; fewer only at the end of the file.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws -> Int {
        var done = 0
        while done < buffer.count {
            let count = pread(number, buffer.baseAddress! + done, buffer.count - done, off_t(offset + done))
            if count < 0 {
                guard errno == EINTR else { throw FileError.io(operation: "read", path: path, code: errno) }
                try StopRequest.check()
                continue
            }
            if count == 0 { break }
            done += count
        }
        return done
    }

    /// Reads `count` bytes at `offset`, or as many as the file has from there on.
    func read(_ count: Int, at offset: Int) throws -> [UInt8] {
        try [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            initialized = try read(into: UnsafeMutableRawBufferPointer(buffer), at: offset)
        }
    }

    /// Writes all bytes at `offset`.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws {
        var done = 0
        while done < bytes.count {
            let count = pwrite(number, bytes.baseAddress! + done, bytes.count - done, off_t(offset + done))
            if count < 0 {
                if errno == EINTR { continue }
                throw FileError.io(operation: "write", path: path, code: errno)
            }
            done += count
        }
    }

    /// Sets blocks of the disk aside for the first `count` bytes, whose size does not change: a disk that is too small
    /// shows before anything is written. File systems that cannot do it are left as they are.
    ///
    /// - Throws: `FileError.io` when there is no room.
    func reserve(_ count: Int) throws {
        // Linux's fallocate(2) with FALLOC_FL_KEEP_SIZE.
        typealias Call = @convention(c) (Int32, Int32, off_t, off_t) -> Int32
        guard count > 0, let symbol = dlsym(nil, "fallocate") else { return }
        guard unsafeBitCast(symbol, to: Call.self)(number, 1, 0, off_t(count)) != 0 else { return }
        if [ENOSPC, EDQUOT, EFBIG].contains(errno) {
            throw FileError.io(operation: "reserve \(count) bytes for", path: path, code: errno)
        }
    }

    /// Has the system begin to write a range to the disk, so that `synchronize` has less to wait for. A hint: where
    /// the call is missing or fails, nothing is lost.
    func startWriting(_ range: Range<Int>) {
        // Linux's sync_file_range(2) with SYNC_FILE_RANGE_WRITE, found by name: see `renameWithFlags`.
        typealias Call = @convention(c) (Int32, off_t, off_t, UInt32) -> Int32
        guard let symbol = dlsym(nil, "sync_file_range") else { return }
        _ = unsafeBitCast(symbol, to: Call.self)(number, off_t(range.lowerBound), off_t(range.count), 2)
    }

    /// Cuts the file to nothing.
    func truncate() throws {
        while ftruncate(number, 0) != 0 {
            if errno != EINTR { throw FileError.io(operation: "write", path: path, code: errno) }
        }
    }

    /// Makes what was written outlast a power cut.
    func synchronize() throws {
        while fsync(number) != 0 {
            if errno == EINTR { continue }
            // Some file systems cannot synchronise folders; there is nothing more to do then.
            if errno == EINVAL || errno == ENOTSUP { return }
            throw FileError.io(operation: "synchronise", path: path, code: errno)
        }
    }

    /// Whether `path` still names this open file.
    func isStillAtPath() throws -> Bool {
        var there = stat()
        guard lstat(path, &there) == 0 else { return false }
        let here = try status()
        return here.st_ino == there.st_ino && here.st_dev == there.st_dev
    }
}

/// Splits a path into its folder ("." when it names none) and its last component.
public func splitPath(_ path: String) -> (folder: String, name: String) {
    var bytes = Array(path.utf8)
    while bytes.count > 1, bytes.last == UInt8(ascii: "/") { bytes.removeLast() }
    guard let slash = bytes.lastIndex(of: UInt8(ascii: "/")) else {
        return (".", String(decoding: bytes, as: UTF8.self))
    }
    let folder = slash == 0 ? "/" : String(decoding: bytes[..<slash], as: UTF8.self)
    return (folder, String(decoding: bytes[(slash + 1)...], as: UTF8.self))
}

/// Whether anything, a dangling link included, stands at `path`.
public func somethingExists(at path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0
}

/// The path with all links followed; nil when it does not lead anywhere.
public func resolvedPath(_ path: String) -> String? {
    guard let resolved = realpath(path, nil) else { return nil }
    defer { free(resolved) }
    return String(cString: resolved)
}

/// The names in a folder, sorted by bytes, without "." and "..".
public func namesInFolder(_ path: String) throws -> [String] {
    var opened = opendir(path)
    while opened == nil, errno == EINTR { opened = opendir(path) }
    guard let stream = opened else {
        let code = errno
        if code == ENOTDIR, somethingExists(at: path) { throw FileError.notAFolder(path: path) }
        throw FileError.reading("list", path, what: "folder", code: code)
    }
    defer { closedir(stream) }
    var names: [ByteString] = []
    while true {
        errno = 0
        guard let entry = readdir(stream) else {
            guard errno == 0 else { throw FileError.io(operation: "list", path: path, code: errno) }
            break
        }
        let name = withUnsafeBytes(of: &entry.pointee.d_name) { ByteString($0.prefix { $0 != 0 }) }
        if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted().map(\.description)
}
