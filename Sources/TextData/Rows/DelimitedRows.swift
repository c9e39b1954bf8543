internal import FileFormats
import Foundation

/// Cuts comma-separated text (RFC 4180) into records, a buffer at a time.
struct CSVRecord {
    private enum State { case fieldStart, plain, quoted, quoteInQuotes }
    private enum Byte {
        static let quote = UInt8(ascii: "\"")
        static let lineFeed: UInt8 = 0x0A
        static let carriageReturn: UInt8 = 0x0D
    }

    let delimiter: UInt8
    let lineEnd: UInt8
    /// Fields beyond this number are counted, and not kept.
    let maximumFields: Int
    private(set) var fields: [[UInt8]] = []
    /// Which fields stood in quotes: an empty one is an empty text then, and not a missing one.
    private(set) var isQuoted: [Bool] = []
    private(set) var fieldCount = 0
    /// Whether one of the fields that are not kept holds anything.
    private(set) var hasMore = false
    private var field: [UInt8] = []
    private var state = State.fieldStart
    private var wasQuoted = false

    enum Step { case more, end, textAfterQuote }

    init(delimiter: UInt8, lineEnd: UInt8 = 0x0A, maximumFields: Int = .max) {
        self.delimiter = delimiter
        self.lineEnd = lineEnd
        self.maximumFields = maximumFields
    }

    var isOpenQuote: Bool { if case .quoted = state { true } else { false } }

    private mutating func endField(isLineEnd: Bool) {
        // A carriage return belongs to the end of the line, not to that of a field.
        if isLineEnd, lineEnd == Byte.lineFeed, !wasQuoted, field.last == Byte.carriageReturn { field.removeLast() }
        if fieldCount < maximumFields {
            fields.append(field)
            isQuoted.append(wasQuoted)
        } else if !field.isEmpty {
            hasMore = true
        }
        fieldCount += 1
        field = []
        wasQuoted = false
        state = .fieldStart
    }

    private mutating func keep(_ bytes: Slice<UnsafeBufferPointer<UInt8>>) {
        // What is not kept is only known to be there.
        if fieldCount < maximumFields || field.isEmpty { field.append(contentsOf: bytes) }
    }

    /// Takes bytes from `position` on, up to the end of the record or of the buffer, and moves it there.
    mutating func take(_ bytes: UnsafeBufferPointer<UInt8>, _ position: inout Int) -> Step {
        while position < bytes.count {
            let byte = bytes[position]
            switch state {
            case .fieldStart where byte == Byte.quote:
                state = .quoted
                wasQuoted = true
            case .quoted:
                let end = Self.first(Byte.quote, bytes, position) ?? bytes.count
                keep(bytes[position..<end])
                position = end
                guard end < bytes.count else { return .more }
                state = .quoteInQuotes
            case .quoteInQuotes where byte == Byte.quote:
                keep(bytes[position..<position + 1])
                state = .quoted
            case .fieldStart, .plain, .quoteInQuotes:
                if byte == delimiter {
                    endField(isLineEnd: false)
                } else if byte == lineEnd {
                    endField(isLineEnd: true)
                    position += 1
                    return .end
                } else if state == .quoteInQuotes {
                    if byte != Byte.carriageReturn { return .textAfterQuote }
                } else {
                    var end = position + 1
                    while end < bytes.count, bytes[end] != delimiter, bytes[end] != lineEnd { end += 1 }
                    keep(bytes[position..<end])
                    state = .plain
                    position = end
                    continue
                }
            }
            position += 1
        }
        return .more
    }

    private static func first(_ byte: UInt8, _ bytes: UnsafeBufferPointer<UInt8>, _ position: Int) -> Int? {
        guard let base = bytes.baseAddress,
            let found = memchr(base + position, Int32(byte), bytes.count - position)
        else { return nil }
        return UnsafeRawPointer(found) - UnsafeRawPointer(base)
    }

    /// Ends the last record of a file that has no line end.
    mutating func finish() { endField(isLineEnd: true) }
}

/// The header of a delimited file, and the rows that fit it.
struct DelimitedHeader {
    /// The most bytes of the line that names the columns.
    static let maximumSize = 1 << 20
    /// As many as Excel has.
    static let maximumColumns = 1 << 14

    /// By column; empty where there is no name.
    var names: [String]

    /// Columns without a name are left out: an index that pandas puts first, and what ends lines with a delimiter. Text
    /// in one that is not the first is an error of its row.
    ///
    /// - Parameter count: of the fields; those beyond `maximumColumns` may be missing.
    /// - Throws: `RowError` for names that are missing throughout, doubled or not UTF-8.
    init(_ fields: [[UInt8]], count: Int) throws {
        guard count <= Self.maximumColumns else {
            throw RowError(
                "the first row names \(count) columns, more than the \(Self.maximumColumns) of a spreadsheet")
        }
        names = try fields.enumerated().map { i, field in
            guard let name = String(validating: field, as: UTF8.self) else {
                throw RowError("the name of column \(i + 1) is not UTF-8; save the file as UTF-8")
            }
            return name
        }
        guard names.contains(where: { !$0.isEmpty }) else {
            throw RowError("no column has a name; the first row names the columns")
        }
        var seen: Set<ByteString> = []
        for name in names where !name.isEmpty && !seen.insert(ByteString(name)).inserted {
            throw RowError("two columns are named \"\(name)\"")
        }
    }

    /// - Parameters:
    ///   - count: of the record's fields; `fields` may lack those beyond the columns.
    ///   - hasMore: whether one of those that lack holds anything.
    ///   - offset: of the record in the file, in bytes.
    func row(
        _ fields: [[UInt8]], _ isQuoted: [Bool], count: Int, hasMore: Bool, offset: Int
    ) throws -> JSONValue {
        // A delimiter at the end of the line makes one more field, and an empty one.
        let isEnded = count > names.count && !hasMore && fields.dropFirst(names.count).allSatisfy(\.isEmpty)
        guard count == names.count || isEnded else {
            throw RowError("\(count) fields; the first row names \(names.count) columns")
        }
        var entries: [(key: String, value: JSONValue)] = []
        entries.reserveCapacity(names.count)
        for (i, field) in fields.prefix(names.count).enumerated() {
            if names[i].isEmpty {
                guard i == 0 || field.isEmpty else {
                    throw RowError(
                        "column \(i + 1) has no name, but the row has something there; name it in the first row")
                }
            } else if field.isEmpty, !isQuoted[i] {
                entries.append((names[i], .null))
            } else if let text = String(validating: field, as: UTF8.self) {
                entries.append((names[i], .string(text)))
            } else {
                let bad = invalidOffset(field)
                throw RowError(
                    "the column \"\(names[i])\" is not UTF-8 (byte \(bad) of the field; the row begins at byte "
                        + "\(offset) of the file); save the file as UTF-8", lint: .invalidUnicode)
            }
        }
        return .object(JSONObject(entries))
    }
}

/// What ends the lines of a table or of plain text, told by how it begins: line feeds, or carriage returns alone.
struct LineEndSearch {
    /// A line that is longer than this is taken to end in a line feed somewhere.
    static let limit = 1 << 20
    let followsQuotes: Bool
    private(set) var lineFeed: Int?
    private var hasReturn = false
    private var isQuoted = false
    private var scanned = 0

    init(followsQuotes: Bool) { self.followsQuotes = followsQuotes }

    var isOver: Bool { lineFeed != nil || scanned >= Self.limit }
    var lineEnd: UInt8 { lineFeed == nil && hasReturn ? 0x0D : 0x0A }

    /// Goes on where it stopped; `bytes` begins where it did before.
    mutating func scan(_ bytes: UnsafeBufferPointer<UInt8>) {
        while scanned < bytes.count, !isOver {
            let byte = bytes[scanned]
            if byte == UInt8(ascii: "\""), followsQuotes { isQuoted.toggle() }
            if !isQuoted {
                if byte == 0x0A { lineFeed = scanned }
                if byte == 0x0D { hasReturn = true }
            }
            scanned += 1
        }
    }
}

/// The first byte that cannot stand where it does in UTF-8.
func invalidOffset(_ bytes: some Collection<UInt8>) -> Int {
    var decoder = UTF8()
    var iterator = bytes.makeIterator()
    var offset = 0
    while true {
        switch decoder.decode(&iterator) {
        case .scalarValue(let scalar): offset += UTF8.width(scalar)
        case .emptyInput, .error: return offset
        }
    }
}

/// Fields of a line of tab-separated text. There is no quoting that could take in a tab or a line end; a field that
/// stands in quotes as a whole, as spreadsheets write it, loses them.
///
/// - Parameter maximum: fields beyond this number are counted, and not kept.
func tabSeparated(
    _ line: ArraySlice<UInt8>, maximum: Int
) -> (fields: [[UInt8]], isQuoted: [Bool], count: Int, hasMore: Bool) {
    var fields: [[UInt8]] = []
    var isQuoted: [Bool] = []
    var count = 0
    var hasMore = false
    var start = line.startIndex
    while true {
        let end = line[start...].firstIndex(of: 0x09) ?? line.endIndex
        if fields.count < maximum {
            let (field, wasQuoted) = unquoted(line[start..<end])
            fields.append(field)
            isQuoted.append(wasQuoted)
        } else if end > start {
            hasMore = true
        }
        count += 1
        guard end < line.endIndex else { return (fields, isQuoted, count, hasMore) }
        start = end + 1
    }
}

private func unquoted(_ part: ArraySlice<UInt8>) -> (field: [UInt8], wasQuoted: Bool) {
    let quote = UInt8(ascii: "\"")
    guard part.count >= 2, part.first == quote, part.last == quote else { return (Array(part), false) }
    let inner = part.dropFirst().dropLast()
    var field: [UInt8] = []
    var index = inner.startIndex
    while index < inner.endIndex {
        field.append(inner[index])
        if inner[index] == quote {
            guard index + 1 < inner.endIndex, inner[index + 1] == quote else { return (Array(part), false) }
            index += 1
        }
        index += 1
    }
    return (field, true)
}
