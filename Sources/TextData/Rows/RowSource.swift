internal import FileFormats
import Foundation

/// One row as it was read, not understood yet.
struct RawRow: Sendable {
    enum Content: Sendable {
        /// JSON text, parsed later by whichever thread takes the row; `offset` is where it begins in the file.
        case json([UInt8], offset: Int)
        case value(JSONValue)
        /// A row of a token store.
        case example(TokenizedExample)
        /// Why there is no whole row.
        case fault(String, Lint?)
    }
    var file: String
    /// Counted from 1: the line of a text, the element of a JSON array, the object where objects take several lines, the
    /// record of a CSV file with its header.
    var number: Int
    var content: Content
    var place = RowPlace()

    /// - Throws: `RowError`.
    func value() throws -> JSONValue {
        switch content {
        case .fault(let reason, let lint): throw lint.map { RowError(reason, lint: $0) } ?? RowError(reason)
        case .value(let value): return value
        case .example: throw RowError("the row is tokenised already")
        case .json(let bytes, let offset):
            do {
                // Of two values one would be learned and one lost.
                return try JSONParser.parse(bytes, duplicateKeys: .refuse)
            } catch let error as JSONError {
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
/// - Throws: `TextError.missingFiles` for paths that do not exist and patterns without matches, all of them.
public func expandedPaths(_ patterns: [String]) throws -> [String] {
    var paths: [String] = []
    var missing: [String] = []
    for pattern in patterns {
        if RowFileKind.isStandardInput(pattern) || access(pattern, F_OK) == 0
            || !pattern.contains(where: { "*?[".contains($0) })
        {
            paths.append(pattern)
            continue
        }
        var matches = glob_t()
        defer { globfree(&matches) }
        guard glob(pattern, 0, nil, &matches) == 0 else {
            missing.append(pattern)
            continue
        }
        for i in 0..<Int(matches.gl_pathc) {
            if let path = matches.gl_pathv[i] { paths.append(String(cString: path)) }
        }
    }
    for path in paths where !RowFileKind.isStandardInput(path) && access(path, F_OK) != 0 {
        missing.append(path)
    }
    guard missing.isEmpty else { throw TextError.missingFiles(missing) }
    guard paths.count(where: RowFileKind.isStandardInput) <= 1 else {
        throw TextError.badOption(name: "data", reason: "standard input can be read only once")
    }
    return paths
}

/// Where a row stands among all rows that are read.
public struct RowPlace: Sendable {
    /// Counted from 0 over all files, blank lines left out.
    public var ordinal = 0
    /// Rows that follow one another make blocks of a few megabytes; each source begins a new one.
    public var block = 0
    public var source = 0
    /// Which of the files that are read.
    public var file = 0

    public init() {}
}

/// Every `count`-th row, from `index` on: rows that several machines share.
public struct Shard: Sendable, Equatable, Codable {
    /// From 0.
    public var index: Int
    public var count: Int
    public static let whole = Shard(index: 0, count: 1)

    public init(index: Int, count: Int) {
        precondition(count > 0 && (0..<count).contains(index))
        (self.index, self.count) = (index, count)
    }

    func holds(_ ordinal: Int) -> Bool { ordinal % count == index }
}

/// The rows of several files, one after the other.
struct RowSource {
    /// Bytes of rows that make a block.
    static let blockSize = 8 << 20

    private let files: [DataFile]
    private var nextFile = 0
    private var file: RowFile?
    private var rowsOfFile = 0
    private let columns: [ColumnName]
    private let shard: Shard
    private var place = RowPlace()
    private var blockBytes = 0
    /// What the files were taken for, and how many there were of each.
    private(set) var kinds: [String: Int] = [:]
    /// Columns of the files that were not even read, with the number of rows.
    private(set) var skippedColumns: [String: Int] = [:]
    /// Rows read so far, those of other shards among them.
    var rowCount: Int { place.ordinal }

    init(files: [DataFile], columns: [ColumnName] = [], shard: Shard = .whole) {
        self.files = files
        self.columns = columns
        self.shard = shard
    }

    init(paths: [String], columns: [ColumnName] = []) {
        self.init(files: paths.map { DataFile(path: $0) }, columns: columns)
    }

    /// Up to `count` rows of the shard; empty at the end.
    ///
    /// - Parameter start: rows before this one are passed over.
    /// - Throws: `TextError` for a file that is missing, unreadable or without rows.
    mutating func next(_ count: Int, from start: Int = 0) throws -> [RawRow] {
        var rows: [RawRow] = []
        var bytes = 0
        while rows.count < count, bytes < Self.blockSize {
            if file == nil {
                guard nextFile < files.count else { break }
                try openNext()
            }
            guard var row = try file?.next() else {
                guard rowsOfFile > 0 else { throw TextError.emptyData(path: files[place.file].path) }
                if let kind = file?.kindName { kinds[kind, default: 0] += 1 }
                for name in file?.skippedColumns ?? [] { skippedColumns[name, default: 0] += rowsOfFile }
                file = nil
                continue
            }
            let size = file?.lastSize ?? 0
            if blockBytes >= Self.blockSize { beginBlock() }
            row.place = place
            blockBytes += size
            place.ordinal += 1
            rowsOfFile += 1
            if row.place.ordinal >= start, shard.holds(row.place.ordinal) {
                rows.append(row)
                bytes += size
            }
        }
        return rows
    }

    private mutating func beginBlock() {
        place.block += 1
        blockBytes = 0
    }

    private mutating func openNext() throws {
        file = try RowFile(path: files[nextFile].path, columns: columns)
        if files[nextFile].source != place.source { beginBlock() }
        place.file = nextFile
        place.source = files[nextFile].source
        nextFile += 1
        rowsOfFile = 0
    }
}

/// A file of rows, and which of the sources of a mixture it belongs to.
public struct DataFile: Sendable {
    public var path: String
    public var source: Int

    public init(path: String, source: Int = 0) {
        self.path = path
        self.source = source
    }
}
