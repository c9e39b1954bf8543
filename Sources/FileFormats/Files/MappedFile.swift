import Foundation

/// A file mapped into memory to read.
///
/// Reading mapped bytes past a file's new end raises SIGBUS. Headers that tell sizes are therefore read, not mapped;
/// `checkUnchanged` finds a file that was cut since, and `reportMappedFileFaults` turns the signal into words.
public final class MappedFile: @unchecked Sendable {
    public let path: String
    /// The bytes, valid as long as this object lives.
    public let bytes: UnsafeRawBufferPointer
    let descriptor: Descriptor

    /// - Throws: `FileError.missing`, `.notAFile`, `.io`. An empty file is not an error.
    public convenience init(path: String) throws { try self.init(Descriptor.reading(path)) }

    init(_ descriptor: Descriptor) throws {
        self.descriptor = descriptor
        path = descriptor.path
        let size = try descriptor.size()
        guard size > 0 else {
            bytes = UnsafeRawBufferPointer(start: nil, count: 0)
            return
        }
        guard let start = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor.number, 0), start != MAP_FAILED else {
            throw FileError.io(operation: "map", path: path, code: errno)
        }
        bytes = UnsafeRawBufferPointer(start: start, count: size)
    }

    deinit {
        if let start = bytes.baseAddress { munmap(UnsafeMutableRawPointer(mutating: start), bytes.count) }
    }

    /// - Throws: `FileError.changed` when the file has no longer the size it was mapped with.
    public func checkUnchanged() throws {
        let size = try descriptor.size()
        guard size == bytes.count else { throw FileError.changed(path: path, expected: bytes.count, found: size) }
    }
}

/// Makes a mapped file that is cut short while it is read end the program with a message and the I/O exit code
/// instead of a bare signal. To be called once, by the program: a library installs no signal handlers by itself.
public func reportMappedFileFaults() {
    var action = sigaction()
    action.__sigaction_handler.sa_handler = { _ in
        let text: StaticString = "graft: a file was cut short, or its disk failed, while it was being read\n"
        _ = write(STDERR_FILENO, text.utf8Start, text.utf8CodeUnitCount)
        _exit(ExitStatus.io.rawValue)
    }
    sigemptyset(&action.sa_mask)
    sigaction(SIGBUS, &action, nil)
}

/// The first bytes of a file, fewer when it is shorter, by which its kind is told.
///
/// - Throws: `FileError.missing`, `.notAFile` (a pipe that nobody writes to does not hold the program up), `.io`.
public func readHead(_ path: String, count: Int) throws -> [UInt8] { try Descriptor.reading(path).read(count, at: 0) }

/// The bytes of a whole file.
///
/// - Parameter limit: the largest size in bytes that is accepted.
/// - Throws: `FileError.missing`, `.notAFile`, `.tooLarge`, `.io`; `.substitute` for what downloads leave in a file's
///   place.
public func readFile(_ path: String, limit: Int) throws -> [UInt8] {
    let file = try Descriptor.reading(path)
    let size = try file.size()
    guard size <= limit else { throw FileError.tooLarge(path: path, size: size, limit: limit) }
    // One byte more than the size shows that the file grew meanwhile; files of /proc report size 0.
    var bytes = try file.read(size + 1, at: 0)
    try Substitute.refuse(bytes, path: path)
    while bytes.count > size, bytes.count <= limit {
        let more = try file.read(1 << 20, at: bytes.count)
        if more.isEmpty { break }
        bytes += more
    }
    guard bytes.count <= limit else { throw FileError.tooLarge(path: path, size: bytes.count, limit: limit) }
    return bytes
}

/// A JSON document from a file.
///
/// - Parameter limit: the largest size in bytes that is accepted; the document takes up to some twenty times as much
///   memory.
/// - Throws: as `readFile`; `FileError.json`.
public func readJSON(
    _ path: String, limit: Int, duplicateKeys: JSONParser.DuplicateKeys = .keepLast
) throws -> JSONValue {
    let bytes = try readFile(path, limit: limit)
    if [[0xFF, 0xFE], [0xFE, 0xFF]].contains(where: bytes.starts) {
        throw FileError.json(
            path: path, JSONError(offset: 0, reason: "it is UTF-16; save it as UTF-8", kind: .encoding))
    }
    do { return try JSONParser.parse(bytes, duplicateKeys: duplicateKeys) } catch let error as JSONError {
        throw FileError.json(path: path, error)
    }
}
