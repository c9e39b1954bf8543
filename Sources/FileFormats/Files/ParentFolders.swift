import Foundation

/// Creates a folder and those above it that are missing; one that stands is no error.
///
/// - Returns: those that were made, the outermost first.
/// - Throws: `FileError.io`; none of them is left then.
@discardableResult
public func createFolders(_ path: String) throws -> [String] {
    if mkdir(path, 0o777) == 0 { return [path] }
    let code = errno
    if isFolder(path) { return [] }
    let parent = splitPath(path).folder
    guard code == ENOENT, !parent.utf8.elementsEqual(path.utf8), !path.isEmpty else {
        throw FileError.io(operation: "create", path: path, code: code == EEXIST ? ENOTDIR : code)
    }
    let made = try createFolders(parent)
    // Another process may have been faster.
    guard mkdir(path, 0o777) == 0 || isFolder(path) else {
        let code = errno
        removeEmptyFolders(made)
        throw FileError.io(operation: "create", path: path, code: code)
    }
    return made + [path]
}

private func removeEmptyFolders(_ paths: [String]) {
    for path in paths.reversed() { rmdir(path) }
}

/// The folders above an output, made where they are missing. With the object go those of them that nothing was put
/// into, so that an output that came to nothing leaves nothing behind.
final class ParentFolders {
    private let made: [String]

    /// - Throws: `FileError.io`.
    init(of path: String) throws { made = try createFolders(splitPath(path).folder) }

    deinit { removeEmptyFolders(made) }

    /// Has the disk hold the new folders' names.
    func synchronize() throws {
        for path in made { try Descriptor.folder(splitPath(path).folder).synchronize() }
    }
}
