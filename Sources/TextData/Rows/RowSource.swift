internal import FileFormats
import Foundation

/// The bytes of one row, not parsed yet.
struct RawRow: Sendable {
    var file: String
    /// Counted from 1: the line of a JSONL file, the element of a JSON array.
    var number: Int
    var bytes: [UInt8]
    /// Set when the bytes are no whole row.
    var fault: String?
}

/// Expands globs to the files they match, in the order of the patterns, sorted within each.
///
/// - Throws: `TextError.missingFile` for a path that does not exist and a pattern without matches.
public func expandedPaths(_ patterns: [String]) throws -> [String] {
    var paths: [String] = []
    for pattern in patterns {
        if access(pattern, F_OK) == 0 || !pattern.contains(where: { "*?[".contains($0) }) {
            paths.append(pattern)
            continue
        }
        var matches = glob_t()
        defer { globfree(&matches) }
        guard glob(pattern, 0, nil, &matches) == 0 else { throw TextError.missingFile(path: pattern) }
        for i in 0..<Int(matches.gl_pathc) {
            if let path = matches.gl_pathv[i] { paths.append(String(cString: path)) }
        }
    }
    for path in paths where access(path, F_OK) != 0 { throw TextError.missingFile(path: path) }
    return paths
}

/// Reads the rows of one file as a stream: JSON lines, or the elements of a JSON array, told apart by the first byte.
struct RowFile {
    static let chunkSize = 1 << 20
    /// A row is text for one example; more than this is a damaged file.
    static let maximumRowSize = 64 << 20

    private enum Layout { case unknown, lines, array }

    private let path: String
    private let handle: FileHandle
    private var buffer: [UInt8] = []
    private var start = 0
    private var layout = Layout.unknown
    private var isAtEnd = false
    private var number = 0
    /// Set once a fault makes the rest of the file unreadable.
    private var isBroken = false

    init(path: String) throws {
        self.path = path
        var information = stat()
        guard stat(path, &information) == 0 else { throw TextError.missingFile(path: path) }
        guard information.st_mode & S_IFMT != S_IFDIR else {
            throw TextError.unreadable(path: path, reason: "it is a folder; name its files or use a glob")
        }
        guard let handle = FileHandle(forReadingAtPath: path) else {
            throw TextError.unreadable(path: path, reason: String(cString: strerror(errno)))
        }
        self.handle = handle
    }

    private mutating func fill() throws -> Bool {
        guard !isAtEnd else { return false }
        if start > 0 {
            buffer.removeFirst(start)
            start = 0
        }
        do {
            guard let data = try handle.read(upToCount: Self.chunkSize), !data.isEmpty else {
                isAtEnd = true
                return false
            }
            buffer.append(contentsOf: data)
        } catch {
            throw TextError.unreadable(path: path, reason: "\(error)")
        }
        return true
    }

    private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 }

    /// The next byte that is not white space; nil at the end of the file.
    private mutating func skipSpace() throws -> UInt8? {
        while true {
            while start < buffer.count {
                if !Self.isSpace(buffer[start]) { return buffer[start] }
                start += 1
            }
            guard try fill() else { return nil }
        }
    }

    mutating func next() throws -> RawRow? {
        if isBroken { return nil }
        if layout == .unknown {
            while buffer.count < 3, try fill() {}
            if buffer.starts(with: [0xEF, 0xBB, 0xBF]) { start = 3 }
            // Line numbers count from the top of the file: look ahead without moving.
            var first = start
            while true {
                while first < buffer.count, Self.isSpace(buffer[first]) { first += 1 }
                if first < buffer.count { break }
                let offset = first - start
                guard try fill() else { return nil }
                first = start + offset
            }
            layout = buffer[first] == UInt8(ascii: "[") ? .array : .lines
            if layout == .array { start = first + 1 }
        }
        return layout == .array ? try nextElement() : try nextLine()
    }

    private mutating func nextLine() throws -> RawRow? {
        while true {
            var end = start
            while true {
                if let newline = buffer[end...].firstIndex(of: 0x0A) {
                    end = newline
                    break
                }
                let scanned = buffer.count - start
                guard scanned <= Self.maximumRowSize else { return tooLong(number + 1) }
                guard try fill() else {
                    end = buffer.count
                    break
                }
                end = start + scanned
            }
            guard end < buffer.count || end > start else { return nil }
            number += 1
            let line = buffer[start..<end]
            start = min(end + 1, buffer.count)
            if line.allSatisfy(Self.isSpace) {
                if isAtEnd, start >= buffer.count { return nil }
                continue
            }
            return RawRow(file: path, number: number, bytes: Array(line))
        }
    }

    private mutating func tooLong(_ number: Int) -> RawRow {
        broken(number, "the row is longer than \(Self.maximumRowSize >> 20) MiB; is the file damaged?")
    }
    private mutating func broken(_ number: Int, _ reason: String) -> RawRow {
        isBroken = true
        return RawRow(file: path, number: number, bytes: [], fault: reason)
    }

    /// The next element of the array; its own syntax is left to the parser.
    private mutating func nextElement() throws -> RawRow? {
        guard let first = try skipSpace() else { return broken(number + 1, "the file ends inside its array") }
        if first == UInt8(ascii: "]") {
            start += 1
            if try skipSpace() != nil { return broken(number + 1, "text after the end of the array") }
            isBroken = true
            return nil
        }
        if number > 0 {
            guard first == UInt8(ascii: ",") else { return broken(number + 1, "expected ',' or ']' between the rows") }
            start += 1
            guard let next = try skipSpace() else { return broken(number + 1, "the file ends inside its array") }
            if next == UInt8(ascii: "]") { return broken(number + 1, "a comma stands before the end of the array") }
        }
        number += 1
        var offset = 0
        var depth = 0
        var isString = false
        var isEscaped = false
        while true {
            while start + offset < buffer.count {
                let byte = buffer[start + offset]
                if isString {
                    if isEscaped {
                        isEscaped = false
                    } else if byte == UInt8(ascii: "\\") {
                        isEscaped = true
                    } else if byte == UInt8(ascii: "\"") {
                        isString = false
                    }
                } else {
                    switch byte {
                    case UInt8(ascii: "\""): isString = true
                    case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
                    case UInt8(ascii: "}"), UInt8(ascii: "]"), UInt8(ascii: ","):
                        if depth == 0 {
                            let row = Array(buffer[start..<start + offset])
                            start += offset
                            return RawRow(file: path, number: number, bytes: row)
                        }
                        if byte != UInt8(ascii: ",") { depth -= 1 }
                    default: break
                    }
                }
                offset += 1
            }
            guard offset <= Self.maximumRowSize else { return tooLong(number) }
            guard try fill() else { return broken(number, "the file ends inside its array") }
        }
    }
}

/// The rows of several files, one after the other.
struct RowSource {
    private var paths: ArraySlice<String>
    private var file: RowFile?
    private var current = ""
    private var rowsOfFile = 0

    init(paths: [String]) { self.paths = paths[...] }

    /// Up to `count` rows; empty at the end.
    ///
    /// - Throws: `TextError` for a file that is missing, unreadable or without rows.
    mutating func next(_ count: Int) throws -> [RawRow] {
        var rows: [RawRow] = []
        var bytes = 0
        while rows.count < count, bytes < 32 << 20 {
            if file == nil {
                guard let path = paths.popFirst() else { break }
                file = try RowFile(path: path)
                current = path
                rowsOfFile = 0
            }
            if let row = try file?.next() {
                rows.append(row)
                bytes += row.bytes.count
                rowsOfFile += 1
            } else {
                guard rowsOfFile > 0 else { throw TextError.emptyData(path: current) }
                file = nil
            }
        }
        return rows
    }
}
