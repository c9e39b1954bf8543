import Foundation

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

/// Something that was given its final name, and can be given its old one back until it is settled.
struct Move {
    /// Of the folder that a new one takes the place of, while the two cannot change places in one step.
    static let oldSuffix = ".old"

    private enum Kind {
        /// Nothing stood there.
        case new
        /// A file was replaced, which is gone.
        case over
        /// What stood there is now under the old name.
        case exchanged
        /// What stood there is now at this path.
        case aside(String)
    }
    private let path: String
    private let target: String
    private let kind: Kind

    /// Renames `path` to `target`.
    ///
    /// - Throws: `FileError.outputExists`, `.io`; nothing has changed then.
    init(_ path: String, to target: String, replacing: Bool) throws {
        (self.path, self.target) = (path, target)
        guard let code = renameWithFlags(path, target, .noReplace) else {
            kind = .new
            return
        }
        switch code {
        case EEXIST:
            guard replacing else { throw FileError.outputExists(path: target) }
        // File systems without the flag; some of them say EPERM or EOPNOTSUPP.
        case EINVAL, ENOSYS, EOPNOTSUPP, EPERM:
            guard somethingExists(at: target) else {
                guard rename(path, target) == 0 else {
                    throw FileError.io(operation: "rename to", path: target, code: errno)
                }
                kind = .new
                return
            }
            if !replacing { throw FileError.outputExists(path: target) }
        default: throw FileError.io(operation: "rename to", path: target, code: code)
        }
        if rename(path, target) == 0 {
            kind = .over
            return
        }
        guard errno == ENOTEMPTY || errno == EEXIST else {
            throw FileError.io(operation: "rename to", path: target, code: errno)
        }
        // A folder with files in it cannot be renamed over: the two change places, then the old one is removed.
        if renameWithFlags(path, target, .exchange) == nil {
            kind = .exchanged
            return
        }
        let old = path + Self.oldSuffix
        guard rename(target, old) == 0 else { throw FileError.io(operation: "move", path: target, code: errno) }
        guard rename(path, target) == 0 else {
            let code = errno
            rename(old, target)
            throw FileError.io(operation: "rename to", path: target, code: code)
        }
        kind = .aside(old)
    }

    /// Removes what was replaced.
    func settle() {
        switch kind {
        case .new, .over: break
        case .exchanged: removeTree(path)
        case .aside(let old): removeTree(old)
        }
    }

    /// Gives back the old names; what took the place of a file stays, since it is complete.
    ///
    /// - Returns: whether `path` is there again and `target` as it was.
    func undo() -> Bool {
        switch kind {
        case .new: return rename(target, path) == 0
        case .over: return false
        case .exchanged: return renameWithFlags(path, target, .exchange) == nil
        case .aside(let old): return rename(target, path) == 0 && rename(old, target) == 0
        }
    }
}

/// Gives a folder whose files are synchronised already another name, as one step, where nothing stands.
///
/// - Throws: `FileError.outputExists`, `.io`; the folder has its old name then.
public func publishFolder(_ path: String, as target: String) throws {
    try Descriptor.folder(path).synchronize()
    let move = try Move(path, to: target, replacing: false)
    do { try Descriptor.folder(splitPath(target).folder).synchronize() } catch {
        _ = move.undo()
        throw error
    }
}
