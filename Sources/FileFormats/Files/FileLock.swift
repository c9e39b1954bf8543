import Foundation
import Host

/// A lock that one process at a time holds; the system frees it when its holder dies, however it dies.
public final class FileLock {
    public let path: String
    private let descriptor: Descriptor
    private let parents: ParentFolders
    private let hold = StopRequest.Hold()

    /// Takes the lock without waiting; folders above it are made where they are missing. The lock file at `path` holds the holder's process id while it is held.
    ///
    /// - Throws: `FileError.locked` with the holder's process id, `.io`. A lock file of a dead process is no error.
    public init(path: String) throws {
        self.path = path
        parents = try ParentFolders(of: path)
        while true {
            let opened = try Descriptor.opened(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW) {
                FileError.io(operation: "open", path: path, code: $0)
            }
            guard try opened.tryLock() else {
                throw FileError.locked(path: path, holder: Self.holder(in: opened))
            }
            // The holder before removes the file as it lets go: then this is a lock on nothing.
            guard try opened.isStillAtPath() else { continue }
            guard ftruncate(opened.number, 0) == 0 else {
                throw FileError.io(operation: "write", path: path, code: errno)
            }
            try Array("\(getpid())\n".utf8).withUnsafeBytes { try opened.write($0, at: 0) }
            descriptor = opened
            return
        }
    }

    deinit {
        unlink(path)
    }

    private static func holder(in file: Descriptor) -> Int32? {
        // The holder may have locked the file and not yet written its id.
        for _ in 0..<20 {
            if let bytes = try? file.read(32, at: 0), bytes.last == UInt8(ascii: "\n") {
                return Int32(String(decoding: bytes.dropLast(), as: UTF8.self))
            }
            usleep(5_000)
        }
        return nil
    }
}
