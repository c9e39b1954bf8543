internal import FileFormats
import Foundation

/// Reads the rows of one file as a stream.
struct RowFile {
    static let chunkSize = RowBytes.chunkSize
    /// A row is text for one example; more than this is a damaged file.
    static let maximumRowSize = 64 << 20

    private enum Layout { case unknown, lines, array, csv, tsv, text, parquet, store }

    private let path: String
    private var bytes: RowBytes
    private let columns: [ColumnName]
    private let takesAllColumns: Bool
    private var layout = Layout.unknown
    private var number = 0
    private var header: DelimitedHeader?
    private var delimiter = UInt8(ascii: ",")
    private var parquet: ParquetFile?
    private var store: TokenStore?
    /// Set once a fault makes the rest of the file unreadable.
    private var isBroken = false
    /// Bytes that the last row took.
    private(set) var lastSize = 0

    /// - Throws: `TextError.missingFiles`, `.unreadable`.
    init(path: String, columns: [ColumnName] = [], takesAllColumns: Bool = false) throws {
        self.path = path
        self.takesAllColumns = takesAllColumns
        self.columns = columns
        bytes = try RowBytes(path: path)
    }

    private var name: String { RowFileKind.isStandardInput(path) ? "standard input" : path }

    /// What the file was taken for.
    var kindName: String? {
        switch layout {
        case .unknown: nil
        case .lines: "JSON lines"
        case .array: "JSON"
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
        if isBroken { return nil }
        if layout == .unknown {
            guard try open() else { return nil }
        }
        switch layout {
        case .unknown: return nil
        case .lines, .text, .tsv: return try nextLine()
        case .array: return try nextElement()
        case .csv: return try nextRecord()
        case .parquet: return try nextParquetRow()
        case .store: return try nextStoredRow()
        }
    }

    private mutating func row(_ content: RawRow.Content, size: Int) -> RawRow {
        lastSize = size
        return RawRow(file: name, number: number, content: content)
    }
    private mutating func fault(_ reason: String, lint: Lint? = nil) -> RawRow { row(.fault(reason, lint), size: 0) }
    private mutating func broken(_ reason: String) -> RawRow {
        isBroken = true
        return fault(reason)
    }
    private mutating func tooLong() -> RawRow {
        broken("the row is longer than \(Self.maximumRowSize >> 20) MiB; is the file damaged?")
    }

    // MARK: What it is

    private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 }

    /// Finds out the layout; false for an empty file.
    private mutating func open() throws -> Bool {
        while bytes.buffer.count < 4, try bytes.fill() {}
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
        if bytes.buffer.starts(with: [0xFF, 0xFE]) || bytes.buffer.starts(with: [0xFE, 0xFF]) {
            throw TextError.notRows(path: name, reason: "it is UTF-16; save it as UTF-8 (in Excel: CSV UTF-8)")
        }
        // Rows count from the top of the file: look ahead without moving.
        var first = bytes.start
        while true {
            while first < bytes.buffer.count, Self.isSpace(bytes.buffer[first]) { first += 1 }
            if first < bytes.buffer.count { break }
            let offset = first - bytes.start
            guard try bytes.fill() else { return false }
            first = bytes.start + offset
        }
        if RowFileKind(name: path) != .text { try Substitute.refuse(bytes.buffer[first...], path: name) }
        let byte = bytes.buffer[first]
        let looksLikeJSON = byte == UInt8(ascii: "{") || byte == UInt8(ascii: "[")
        switch RowFileKind(name: path) {
        case .csv?:
            layout = .csv
            try chooseDelimiter()
        case .tsv?: layout = .tsv
        case .text?: layout = .text
        case .parquet?: throw TextError.notRows(path: name, reason: "no Parquet file: it does not begin with PAR1")
        case nil where bytes.buffer.starts(with: Array("PK\u{3}\u{4}".utf8)):
            throw TextError.notRows(
                path: name, reason: "a workbook or zip archive; save its sheet as CSV UTF-8, or unpack it first")
        case nil where !looksLikeJSON:
            throw TextError.notRows(
                path: name,
                reason:
                    "neither its name nor its first bytes say what it is; name it .jsonl, .json, .csv, .tsv, .txt or "
                    + ".parquet (for standard input: csv:-, tsv:- or text:-)")
        case .json?, nil:
            layout = byte == UInt8(ascii: "[") ? .array : .lines
            if layout == .array { bytes.start = first + 1 }
        }
        return true
    }

    /// Spreadsheets of many countries write semicolons, because the comma is their decimal point, and some put a line
    /// `sep=;` before the first one. Without it, what stands most often between the names of columns is taken.
    private mutating func chooseDelimiter() throws {
        while !bytes.buffer[bytes.start...].contains(0x0A), bytes.buffer.count < Self.maximumRowSize,
            try bytes.fill()
        {}
        let line = bytes.buffer[bytes.start...].prefix { $0 != 0x0A }
        let choices = [UInt8(ascii: ","), UInt8(ascii: ";"), 0x09]
        let bare = line.last == 0x0D ? line.dropLast() : line
        if bare.count == 5, bare.starts(with: Array("sep=".utf8)), let mark = bare.last, choices.contains(mark) {
            delimiter = mark
            bytes.start = min(line.endIndex + 1, bytes.buffer.count)
            number = 1
            return
        }
        var counts: [UInt8: Int] = [:]
        var isQuoted = false
        for byte in line {
            if byte == UInt8(ascii: "\"") { isQuoted.toggle() }
            if !isQuoted, choices.contains(byte) { counts[byte, default: 0] += 1 }
        }
        for mark in choices where counts[mark, default: 0] > counts[delimiter, default: 0] { delimiter = mark }
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

    // MARK: Lines

    private mutating func nextLine() throws -> RawRow? {
        while true {
            var end = bytes.start
            while true {
                if let newline = bytes.buffer[end...].firstIndex(of: 0x0A) {
                    end = newline
                    break
                }
                let scanned = bytes.buffer.count - bytes.start
                guard scanned <= Self.maximumRowSize else {
                    number += 1
                    return tooLong()
                }
                guard try bytes.fill() else {
                    end = bytes.buffer.count
                    break
                }
                end = bytes.start + scanned
            }
            guard end < bytes.buffer.count || end > bytes.start else { return nil }
            number += 1
            let line = bytes.buffer[bytes.start..<end]
            let offset = bytes.base + bytes.start
            bytes.start = min(end + 1, bytes.buffer.count)
            if line.allSatisfy(Self.isSpace) {
                if bytes.isAtEnd, bytes.start >= bytes.buffer.count { return nil }
                continue
            }
            if layout == .lines { return row(.json(Array(line), offset: offset), size: line.count) }
            if let found = try plainRow(line.last == 0x0D ? line.dropLast() : line, offset: offset) { return found }
        }
    }

    /// A line of plain or tab-separated text; nil for the header.
    private mutating func plainRow(_ line: ArraySlice<UInt8>, offset: Int) throws -> RawRow? {
        if layout == .text {
            guard let text = String(validating: line, as: UTF8.self) else {
                return fault(
                    "not valid UTF-8 at byte \(offset + invalidOffset(line)) of the file; save it as UTF-8",
                    lint: .invalidUnicode)
            }
            return row(.value(.object(JSONObject([("text", .string(text))]))), size: line.count)
        }
        let (fields, isQuoted) = tabSeparated(line)
        return delimitedRow(fields, isQuoted, offset: offset, size: line.count)
    }

    /// A row of fields; nil for the first one, which names the columns.
    private mutating func delimitedRow(
        _ fields: [[UInt8]], _ isQuoted: [Bool], offset: Int, size: Int
    ) -> RawRow? {
        do {
            guard let header else {
                header = try DelimitedHeader(fields)
                return nil
            }
            return row(.value(try header.row(fields, isQuoted, offset: offset)), size: size)
        } catch {
            let reason = (error as? RowError)?.reason ?? "\(error)"
            return header == nil ? broken(reason) : fault(reason, lint: (error as? RowError)?.lint)
        }
    }

    private mutating func nextRecord() throws -> RawRow? {
        while true {
            let offset = bytes.base + bytes.start
            var record = CSVRecord(delimiter: delimiter)
            var size = 0
            reading: while true {
                while bytes.start < bytes.buffer.count {
                    let step = record.take(bytes.buffer[bytes.start])
                    bytes.start += 1
                    size += 1
                    if step == .end { break reading }
                    if step == .textAfterQuote {
                        number += 1
                        return broken("text follows the quote that closes a field; double the quotes inside of fields")
                    }
                }
                guard size <= Self.maximumRowSize else {
                    number += 1
                    return tooLong()
                }
                guard try bytes.fill() else {
                    if size == 0 { return nil }
                    number += 1
                    if record.isOpenQuote { return broken("a quoted field is not closed before the end of the file") }
                    number -= 1
                    record.finish()
                    break
                }
            }
            number += 1
            // Spreadsheets write rows that were emptied, or only once touched, as delimiters alone.
            if record.fields.allSatisfy(\.isEmpty), !record.isQuoted.contains(true) { continue }
            if let row = delimitedRow(record.fields, record.isQuoted, offset: offset, size: size) { return row }
        }
    }

    // MARK: Arrays

    /// The next byte that is not white space; nil at the end of the file.
    private mutating func skipSpace() throws -> UInt8? {
        while true {
            while bytes.start < bytes.buffer.count {
                if !Self.isSpace(bytes.buffer[bytes.start]) { return bytes.buffer[bytes.start] }
                bytes.start += 1
            }
            guard try bytes.fill() else { return nil }
        }
    }

    /// The next element of the array; its own syntax is left to the parser.
    private mutating func nextElement() throws -> RawRow? {
        number += 1
        guard let first = try skipSpace() else { return broken("the file ends inside its array") }
        if first == UInt8(ascii: "]") {
            bytes.start += 1
            if try skipSpace() != nil { return broken("text after the end of the array") }
            isBroken = true
            return nil
        }
        if number > 1 {
            guard first == UInt8(ascii: ",") else { return broken("expected ',' or ']' between the rows") }
            bytes.start += 1
            guard let next = try skipSpace() else { return broken("the file ends inside its array") }
            if next == UInt8(ascii: "]") { return broken("a comma stands before the end of the array") }
        }
        var scan = ElementScan()
        var offset = 0
        while true {
            while bytes.start + offset < bytes.buffer.count {
                if scan.isEnd(bytes.buffer[bytes.start + offset]) {
                    let found = Array(bytes.buffer[bytes.start..<bytes.start + offset])
                    let place = bytes.base + bytes.start
                    bytes.start += offset
                    return row(.json(found, offset: place), size: offset)
                }
                offset += 1
            }
            guard offset <= Self.maximumRowSize else { return tooLong() }
            guard try bytes.fill() else { return broken("the file ends inside its array") }
        }
    }
}

/// Follows JSON text to the end of an element.
private struct ElementScan {
    private var depth = 0
    private var isString = false
    private var isEscaped = false

    mutating func isEnd(_ byte: UInt8) -> Bool {
        if isString {
            if isEscaped {
                isEscaped = false
            } else if byte == UInt8(ascii: "\\") {
                isEscaped = true
            } else if byte == UInt8(ascii: "\"") {
                isString = false
            }
            return false
        }
        switch byte {
        case UInt8(ascii: "\""): isString = true
        case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
        case UInt8(ascii: "}"), UInt8(ascii: "]"), UInt8(ascii: ","):
            if depth == 0 { return true }
            if byte != UInt8(ascii: ",") { depth -= 1 }
        default: break
        }
        return false
    }
}
