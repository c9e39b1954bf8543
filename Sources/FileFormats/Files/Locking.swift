import Foundation
import Host
import Synchronization

/// What asking for the lock of an open file gave.
enum LockState {
    case taken
    /// Another open file has it.
    case held
    /// The file system knows no locks.
    case unsupported
}

extension Descriptor {
    /// Takes the advisory lock of the open file without waiting.
    ///
    /// - Throws: `FileError.io`; a file system without locks is no error.
    func tryLock() throws -> LockState {
        while flock(number, LOCK_EX | LOCK_NB) != 0 {
            switch errno {
            case EINTR: continue
            case EWOULDBLOCK: return .held
            // A kernel, a file system or a mount without flock(2); NFS, which makes record locks of it, refuses
            // folders and files that are open to read only (EBADF).
            case ENOSYS, ENOLCK, EOPNOTSUPP, EINVAL, EBADF, EPERM: return .unsupported
            default: throw FileError.io(operation: "lock", path: path, code: errno)
            }
        }
        return .taken
    }
}

/// Outputs on file systems without locks, where nothing keeps a second writer away.
public enum UnguardedOutputs {
    private static let state = Mutex<(tell: (@Sendable (String) -> Void)?, isTold: Bool)>((nil, false))

    /// Has `tell` called with a sentence for a person, once, when an output is the first that no lock guards.
    public static func report(_ tell: @escaping @Sendable (String) -> Void) {
        state.withLock { $0 = (tell, false) }
    }

    static func note(_ path: String) {
        let tell = state.withLock { state in
            defer { state.isTold = true }
            return state.isTold ? nil : state.tell
        }
        tell?(
            "\(resolvedPath(splitPath(path).folder) ?? path): this file system has no locks (flock), so nothing keeps another graft from "
                + "writing to the same output: run one at a time there")
    }
}

/// A lock that one process at a time holds; the system frees it when its holder dies, however it dies.
///
/// On a file system without locks it guards nothing, which `UnguardedOutputs` tells.
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
            switch try opened.tryLock() {
            case .taken: break
            case .held: throw FileError.locked(path: path, holder: Self.holder(in: opened))
            case .unsupported: UnguardedOutputs.note(path)
            }
            // The holder before removes the file as it lets go: then this is a lock on nothing.
            guard try opened.isStillAtPath() else { continue }
            do {
                try opened.truncate()
                try Array("\(getpid())\n".utf8).withUnsafeBytes { try opened.write($0, at: 0) }
            } catch {
                unlink(path)
                throw error
            }
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
