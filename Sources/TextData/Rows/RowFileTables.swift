internal import FileFormats

/// Rows of a line each, and the records of tables.
extension RowFile {
    /// Finds out what ends the lines.
    mutating func findLineEnd() throws {
        var search = LineEndSearch(followsQuotes: layout == .csv)
        while true {
            let start = bytes.start
            bytes.buffer.withUnsafeBufferPointer { search.scan(UnsafeBufferPointer(rebasing: $0[start...])) }
            guard !search.isOver, try bytes.fill() else { break }
        }
        blank.lineEnd = search.lineEnd
    }

    /// Spreadsheets of many countries write semicolons, because the comma is their decimal point, and some put a line
    /// `sep=;` before the first one. Without it, what stands most often between the names of columns is taken.
    mutating func chooseDelimiter() throws {
        while bytes.firstIndex(of: blank.lineEnd, from: bytes.start) == nil,
            bytes.buffer.count - bytes.start <= DelimitedHeader.maximumSize, try bytes.fill()
        {}
        let line = bytes.buffer[bytes.start...].prefix { $0 != blank.lineEnd }
        let choices = [UInt8(ascii: ","), UInt8(ascii: ";"), 0x09]
        let bare = line.last == 0x0D ? line.dropLast() : line
        if bare.count == 5, bare.starts(with: Array("sep=".utf8)), let mark = bare.last, choices.contains(mark) {
            delimiter = mark
            bytes.start = min(line.endIndex + 1, bytes.buffer.count)
            number += 1
        } else {
            let counts = Self.count(choices, in: line)
            for mark in choices where counts[mark, default: 0] > counts[delimiter, default: 0] { delimiter = mark }
        }
        blank.delimiter = delimiter
    }

    private static func count(_ choices: [UInt8], in line: ArraySlice<UInt8>) -> [UInt8: Int] {
        var counts: [UInt8: Int] = [:]
        var isQuoted = false
        for byte in line {
            if byte == UInt8(ascii: "\"") { isQuoted.toggle() }
            if !isQuoted, choices.contains(byte) { counts[byte, default: 0] += 1 }
        }
        return counts
    }

    /// Whether a file without a name for it is a table: its first line names columns, two at least, one of which is a
    /// key of a row.
    mutating func looksLikeTable() throws -> Bool {
        layout = .csv
        defer { layout = .unknown }
        try findLineEnd()
        try chooseDelimiter()
        let line = bytes.buffer[bytes.start...].prefix { $0 != blank.lineEnd }
        guard line.count <= DelimitedHeader.maximumSize else { return false }
        var record = CSVRecord(delimiter: delimiter, lineEnd: blank.lineEnd)
        var position = 0
        let step = Array(line).withUnsafeBufferPointer { record.take($0, &position) }
        guard step == .more, !record.isOpenQuote else { return false }
        record.finish()
        let names = record.fields.map { String(decoding: $0, as: UTF8.self) }
        return names.count > 1 && names.contains { name in Row.knownKeys.contains { $0.hasSameBytes(as: name) } }
    }

    // MARK: Lines

    mutating func nextLine() throws -> RawRow? {
        while true {
            guard try skipBlankLines() else { return nil }
            number += 1
            guard let end = try lineEnd() else { return tooLong() }
            let line = bytes.buffer[bytes.start..<end]
            let offset = bytes.base + bytes.start
            bytes.start = min(end + 1, bytes.buffer.count)
            if layout == .lines { return row(.json(Array(line), offset: offset), size: line.count) }
            let bare = line.last == 0x0D ? line.dropLast() : line
            if layout == .text { return plainRow(bare, offset: offset) }
            if header == nil, bare.count > DelimitedHeader.maximumSize { return headerIsTooLong() }
            let parts = tabSeparated(bare, maximum: header?.names.count ?? DelimitedHeader.maximumColumns)
            if let found = delimitedRow(
                parts.fields, parts.isQuoted, count: parts.count, hasMore: parts.hasMore, offset: offset,
                size: line.count)
            {
                return found
            }
        }
    }

    /// Where the line ends that begins at the start of the buffer; nil when it is longer than a row.
    private mutating func lineEnd() throws -> Int? {
        var count = 0
        while true {
            if let end = bytes.firstIndex(of: blank.lineEnd, from: bytes.start + count) {
                return end - bytes.start <= bytes.rowLimit ? end : nil
            }
            count = bytes.buffer.count - bytes.start
            guard count <= bytes.rowLimit else { return nil }
            guard try bytes.fill() else { return bytes.buffer.count }
        }
    }

    private mutating func plainRow(_ line: ArraySlice<UInt8>, offset: Int) -> RawRow {
        guard let text = String(validating: line, as: UTF8.self) else {
            return fault(
                "not valid UTF-8 at byte \(offset + invalidOffset(line)) of the file; save it as UTF-8",
                lint: .invalidUnicode)
        }
        return row(.value(.object(JSONObject([("text", .string(text))]))), size: line.count)
    }

    private mutating func headerIsTooLong() -> RawRow {
        broken(
            "the first row, which names the columns, is longer than \(DelimitedHeader.maximumSize >> 20) MiB; is it a "
                + "table?")
    }

    // MARK: Records

    /// A row of fields; nil for the first one, which names the columns.
    private mutating func delimitedRow(
        _ fields: [[UInt8]], _ isQuoted: [Bool], count: Int, hasMore: Bool, offset: Int, size: Int
    ) -> RawRow? {
        do {
            guard let header else {
                header = try DelimitedHeader(fields, count: count)
                return nil
            }
            return row(
                .value(try header.row(fields, isQuoted, count: count, hasMore: hasMore, offset: offset)), size: size)
        } catch {
            let reason = (error as? RowError)?.reason ?? "\(error)"
            return header == nil ? broken(reason) : fault(reason, lint: (error as? RowError)?.lint)
        }
    }

    mutating func nextRecord() throws -> RawRow? {
        while true {
            guard try skipBlankLines() else { return nil }
            number += 1
            let offset = bytes.base + bytes.start
            var record = CSVRecord(
                delimiter: delimiter, lineEnd: blank.lineEnd,
                maximumFields: header?.names.count ?? DelimitedHeader.maximumColumns)
            var size = 0
            let limit = header == nil ? DelimitedHeader.maximumSize : bytes.rowLimit
            reading: while true {
                var position = bytes.start
                let step = bytes.buffer.withUnsafeBufferPointer { record.take($0, &position) }
                size += position - bytes.start
                bytes.start = position
                switch step {
                case .end: break reading
                case .textAfterQuote:
                    return broken("text follows the quote that closes a field; double the quotes inside of fields")
                case .more: break
                }
                guard size <= limit else { return header == nil ? headerIsTooLong() : tooLong() }
                guard try bytes.fill() else {
                    if record.isOpenQuote { return broken("a quoted field is not closed before the end of the file") }
                    record.finish()
                    break
                }
            }
            if let row = delimitedRow(
                record.fields, record.isQuoted, count: record.fieldCount, hasMore: record.hasMore, offset: offset,
                size: size)
            {
                return row
            }
        }
    }
}
