internal import FileFormats
import Foundation

/// One row as it was read, not understood yet.
struct RawRow: Sendable {
    enum Content: Sendable {
        /// JSON text, parsed later by whichever thread takes the row; `offset` is where it begins in the file.
        case json([UInt8], offset: Int)
        case value(JSONValue)
        /// Why there is no whole row.
        case fault(String, Lint?)
    }
    var file: String
    /// Counted from 1: the line of a text, the element of a JSON array, the record of a CSV file with its header.
    var number: Int
    var content: Content

    /// - Throws: `RowError`.
    func value() throws -> JSONValue {
        switch content {
        case .fault(let reason, let lint): throw lint.map { RowError(reason, lint: $0) } ?? RowError(reason)
        case .value(let value): return value
        case .json(let bytes, let offset):
            do { return try JSONParser.parse(bytes) } catch let error as JSONError {
                guard error.kind == .encoding else { throw RowError(error.description) }
                throw RowError(
                    "not valid Unicode at byte \(offset + error.offset) of the file: \(error.reason)",
                    lint: .invalidUnicode)
            }
        }
    }
}

/// Expands globs to the files they match, in the order of the patterns, sorted within each. `-` is standard input.
///
/// - Throws: `TextError.missingFile` for a path that does not exist and a pattern without matches.
public func expandedPaths(_ patterns: [String]) throws -> [String] {
    var paths: [String] = []
    for pattern in patterns {
        if RowFileKind.isStandardInput(pattern) || access(pattern, F_OK) == 0
            || !pattern.contains(where: { "*?[".contains($0) })
        {
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
    for path in paths where !RowFileKind.isStandardInput(path) && access(path, F_OK) != 0 {
        throw TextError.missingFile(path: path)
    }
    guard paths.count(where: RowFileKind.isStandardInput) <= 1 else {
        throw TextError.badOption(name: "data", reason: "standard input can be read only once")
    }
    return paths
}

/// The rows of several files, one after the other.
struct RowSource {
    private var paths: ArraySlice<String>
    private var file: RowFile?
    private var current = ""
    private var rowsOfFile = 0
    private let columns: [ColumnName]
    /// What the files were taken for, and how many there were of each.
    private(set) var kinds: [String: Int] = [:]

    init(paths: [String], columns: [ColumnName] = []) {
        self.paths = paths[...]
        self.columns = columns
    }

    /// Up to `count` rows; empty at the end.
    ///
    /// - Throws: `TextError` for a file that is missing, unreadable or without rows.
    mutating func next(_ count: Int) throws -> [RawRow] {
        var rows: [RawRow] = []
        var bytes = 0
        while rows.count < count, bytes < 32 << 20 {
            if file == nil {
                guard let path = paths.popFirst() else { break }
                file = try RowFile(path: path, columns: columns)
                current = path
                rowsOfFile = 0
            }
            if let row = try file?.next() {
                rows.append(row)
                bytes += file?.lastSize ?? 0
                rowsOfFile += 1
            } else {
                guard rowsOfFile > 0 else { throw TextError.emptyData(path: current) }
                if let kind = file?.kindName { kinds[kind, default: 0] += 1 }
                file = nil
            }
        }
        return rows
    }
}
