internal import FileFormats
import Foundation

/// What the rows of a file have for keys; nothing is made of them.
public struct RowSurvey: Sendable {
    /// What the file was read as, such as `CSV with semicolons`.
    public var kind = ""
    public var rows = 0
    /// The keys that rows have together, each with the number of such rows; the first hundred.
    public var shapes: [(keys: String, count: Int)] = []

    /// Whether a file's name says that it holds rows and can hold nothing else.
    public static func isRows(_ path: String) -> Bool {
        switch RowFileKind(name: path) {
        case nil: false
        case .json?: !path.lowercased().hasSuffix(".json")
        default: true
        }
    }

    /// Whether a file's content is that of rows, whatever its name: Parquet, packed text, an array, several objects, or one
    /// that is a row or holds rows.
    ///
    /// - Throws: `TextError.missingFiles`, `.unreadable`.
    public static func holdsRows(_ path: String) throws -> Bool {
        var file = try RowFile(path: path, takesAllColumns: true)
        guard let row = try? file.next() else { return file.layout == .array && file.wrapper == nil }
        switch file.layout {
        case .unknown, .store: return false
        case .csv, .tsv, .text, .parquet: return true
        case .array where file.wrapper == nil: return true
        case .lines, .objects, .array:
            if let object = try? row.value().objectValue, RowShape(of: object) != nil { return true }
            // One object with other keys may be anything; two are rows, if bad ones.
            return file.wrapper == nil && (try? file.next()) != nil
        }
    }

    /// - Throws: `TextError.badRows` with the rows that cannot be read, or what is wrong with the file.
    public init(path: String) throws {
        var file = try RowFile(path: path, takesAllColumns: true)
        var faults: [RowFault] = []
        var faultCount = 0
        while let row = try file.next() {
            do {
                try add(row.value())
            } catch let error as RowError {
                faultCount += 1
                if faults.count < ExampleCollector.lintFaultLimit {
                    faults.append(RowFault(file: path, row: row.number, reason: error.reason, lint: error.lint))
                }
            }
        }
        kind = file.kindName ?? "an empty file"
        if faultCount > 0 { throw TextError.badRows(faults: faults, total: faultCount) }
    }

    private mutating func add(_ row: JSONValue) {
        rows += 1
        let keys = row.objectValue?.keys.joined(separator: ", ") ?? row.kindName
        if let index = shapes.firstIndex(where: { $0.keys.hasSameBytes(as: keys) }) {
            shapes[index].count += 1
        } else if shapes.count < 100 {
            shapes.append((keys, 1))
        }
    }
}
