internal import FileFormats
import Foundation

/// Reads the rows of one file as a stream.
struct RowFile {
    static let chunkSize = RowBytes.chunkSize

    enum Layout { case unknown, lines, objects, array, csv, tsv, text, parquet, store }

    let path: String
    var bytes: RowBytes
    let columns: [ColumnName]
    private let takesAllColumns: Bool
    var layout = Layout.unknown
    /// Of the row read last; what it counts is told at `RawRow.number`.
    var number = 0
    var header: DelimitedHeader?
    var delimiter = UInt8(ascii: ",")
    var blank = BlankBytes()
    /// The key of the object around it that an array of rows stands under.
    var wrapper: String?
    private var parquet: ParquetFile?
    private var store: TokenStore?
    /// Set once nothing more can be read: a fault, or the end of an array.
    var isOver = false
    /// Bytes that the last row took.
    private(set) var lastSize = 0

    /// - Throws: `TextError.missingFiles`, `.unreadable`.
    init(path: String, columns: [ColumnName] = [], takesAllColumns: Bool = false) throws {
        self.path = path
        self.takesAllColumns = takesAllColumns
        self.columns = columns
        bytes = try RowBytes(path: path)
    }

    var name: String { RowFileKind.isStandardInput(path) ? "standard input" : path }

    /// What the file was taken for.
    var kindName: String? {
        switch layout {
        case .unknown: nil
        case .lines: "JSON lines"
        case .objects: "JSON, an object after the other"
        case .array: wrapper.map { "JSON, rows under \(quoted($0))" } ?? "JSON"
        case .csv: delimiter == UInt8(ascii: ";") ? "CSV with semicolons" : delimiter == 0x09 ? "CSV with tabs" : "CSV"
        case .tsv: "TSV"
        case .text: "plain text, a row a line"
        case .parquet: "Parquet"
        case .store: "token store"
        }
    }

    /// Columns that no row has use for, and that are not read.
    var skippedColumns: [String] { parquet?.skippedColumns ?? [] }

    mutating func next() throws -> RawRow? {
        if isOver { return nil }
        if layout == .unknown {
            guard try open() else { return nil }
        }
        switch layout {
        case .unknown: return nil
        case .lines, .text, .tsv: return try nextLine()
        case .objects: return try nextObject()
        case .array: return try nextElement()
        case .csv: return try nextRecord()
        case .parquet: return try nextParquetRow()
        case .store: return try nextStoredRow()
        }
    }

    mutating func row(_ content: RawRow.Content, size: Int) -> RawRow {
        lastSize = size
        return RawRow(file: name, number: number, content: content)
    }
    mutating func fault(_ reason: String, lint: Lint? = nil) -> RawRow { row(.fault(reason, lint), size: 0) }
    mutating func broken(_ reason: String) -> RawRow {
        isOver = true
        return fault(reason)
    }
    mutating func tooLong() -> RawRow { broken(bytes.rowLimitReason) }

    /// Passes over lines without content, which count like others.
    mutating func skipBlankLines() throws -> Bool {
        var lineEnds = 0
        defer { number += lineEnds }
        return try bytes.skipBlank(blank, wholeLines: layout != .lines, lineEnds: &lineEnds)
    }

    // MARK: What it is

    /// Finds out the layout; false for an empty file.
    private mutating func open() throws -> Bool {
        while bytes.buffer.count < Substitute.headSize, try bytes.fill() {}
        if ParquetFile.isParquet(prefix: bytes.buffer) {
            try openParquet()
            return true
        }
        if !RowFileKind.isStandardInput(path), !bytes.isCompressed, TokenStore.isStore(path) {
            layout = .store
            store = try TokenStore(path: path)
            return true
        }
        if bytes.buffer.starts(with: [0xEF, 0xBB, 0xBF]) { bytes.start = 3 }
        let kind = RowFileKind(name: path)
        if let reason = ForeignFile.reason(bytes.buffer[bytes.start...]) {
            throw TextError.notRows(path: name, reason: reason)
        }
        // Any text is a row of plain text, that of a web page, too.
        if kind != .text { try Substitute.refuse(bytes.buffer[bytes.start...], path: name) }
        switch kind {
        case .csv?, .tsv?, .text?: return try openTable(kind)
        case .parquet?:
            if bytes.buffer.isEmpty { return false }
            throw TextError.notRows(path: name, reason: "no Parquet file: it does not begin with PAR1")
        case .json?, nil: return try openJSON(isNamed: kind != nil)
        }
    }

    private mutating func openTable(_ kind: RowFileKind?) throws -> Bool {
        layout = kind == .csv ? .csv : kind == .tsv ? .tsv : .text
        try findLineEnd()
        guard try skipBlankLines() else { return false }
        if layout == .csv { try chooseDelimiter() }
        return true
    }

    private mutating func openJSON(isNamed: Bool) throws -> Bool {
        // Rows count from the top of the file; white space before the first one means nothing.
        guard try bytes.skipBlank(blank, lineEnds: &number) else { return false }
        let first = bytes.buffer[bytes.start]
        if first == UInt8(ascii: "[") {
            layout = .array
            bytes.start += 1
            number = 0
        } else if first == UInt8(ascii: "{") {
            try openObject()
        } else if isNamed {
            layout = .lines
        } else if try looksLikeTable() {
            layout = .csv
        } else {
            throw TextError.notRows(
                path: name,
                reason:
                    "neither its name nor its first bytes say what it is; name it .jsonl, .json, .csv, .tsv, .txt or "
                    + ".parquet (for standard input: csv:-, tsv:- or text:-)")
        }
        return true
    }

    private mutating func openParquet() throws {
        layout = .parquet
        let columns = columns, takesAllColumns = takesAllColumns
        func isWanted(_ name: String) -> Bool {
            takesAllColumns || Row.knownKeys.contains { $0.hasSameBytes(as: name) }
                || columns.contains { $0.mayBegin(with: name) }
        }
        if RowFileKind.isStandardInput(path) || bytes.isCompressed {
            parquet = try ParquetFile(name: name, stream: { try bytes.rest() }, wanted: isWanted)
        } else {
            parquet = try ParquetFile(path: path, wanted: isWanted)
        }
    }

    private mutating func nextParquetRow() throws -> RawRow? {
        number += 1
        do {
            guard let found = try parquet?.next() else { return nil }
            // Rows in memory take several times what they take in the file; this keeps batches small enough.
            return row(found.problem.map { .fault($0, .invalidUnicode) } ?? .value(found.value), size: 4 << 10)
        } catch let error as FileError {
            return broken(error.description.split(separator: "\n").first.map(String.init) ?? "\(error)")
        }
    }

    private mutating func nextStoredRow() throws -> RawRow? {
        guard let store, number < store.rowCount else { return nil }
        number += 1
        let (ids, isTrained) = try store.row(number - 1)
        return row(.example(TokenizedExample(ids: ids, isTrained: isTrained)), size: 5 * ids.count)
    }
}
