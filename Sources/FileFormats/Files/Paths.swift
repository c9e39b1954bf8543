import Foundation

// Paths are bytes to the system: they are cut at slashes here, and at nothing else.

/// What stands at a path.
public enum FileKind: Sendable {
    case file, folder
    /// A pipe, a socket or a device.
    case other
}

/// What stands at `path`, links followed; nil for nothing, and for what may not be looked at.
public func fileKind(_ path: String) -> FileKind? {
    var status = stat()
    guard !path.utf8.contains(0), stat(path, &status) == 0 else { return nil }
    switch status.st_mode & S_IFMT {
    case S_IFREG: return .file
    case S_IFDIR: return .folder
    default: return .other
    }
}

/// Whether `path` leads to anything, links followed.
public func isPresent(_ path: String) -> Bool { fileKind(path) != nil }

/// Whether `path` leads to a folder.
public func isFolder(_ path: String) -> Bool { fileKind(path) == .folder }

/// The size in bytes of what `path` leads to; nil where nothing is.
public func fileSize(_ path: String) -> Int? {
    var status = stat()
    return !path.utf8.contains(0) && stat(path, &status) == 0 ? Int(status.st_size) : nil
}

/// The path of `name` in the folder that `path` stands in, written as `path` is.
public func siblingPath(of path: String, name: String) -> String {
    var bytes = Array(path.utf8)
    while bytes.count > 1, bytes.last == UInt8(ascii: "/") { bytes.removeLast() }
    let end = bytes.lastIndex(of: UInt8(ascii: "/")).map { $0 + 1 } ?? 0
    return String(decoding: bytes[..<end], as: UTF8.self) + name
}

/// `path` itself when it is absolute, else below `folder`, the working folder by default; `~` is the shell's business.
/// Dots are folded away, links are not followed.
public func absolutePath(_ path: String, relativeTo folder: String? = nil) -> String {
    let slash = UInt8(ascii: "/")
    let whole = path.utf8.first == slash ? path : (folder ?? workingFolder()) + "/" + path
    var parts: [String.UTF8View.SubSequence] = []
    for part in whole.utf8.split(separator: slash) {
        if part.elementsEqual(".".utf8) { continue }
        if part.elementsEqual("..".utf8) { _ = parts.popLast() } else { parts.append(part) }
    }
    return parts.isEmpty ? "/" : parts.map { "/" + String(Substring($0)) }.joined()
}

private func workingFolder() -> String {
    guard let path = getcwd(nil, 0) else { return "/" }
    defer { free(path) }
    return String(cString: path)
}
