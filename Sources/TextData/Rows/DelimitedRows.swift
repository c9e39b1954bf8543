internal import FileFormats

/// Cuts comma-separated text (RFC 4180) into records, a byte at a time.
struct CSVRecord {
    private enum State { case fieldStart, plain, quoted, quoteInQuotes }
    private enum Byte {
        static let quote = UInt8(ascii: "\"")
        static let lineFeed: UInt8 = 0x0A
        static let carriageReturn: UInt8 = 0x0D
    }

    let delimiter: UInt8
    private(set) var fields: [[UInt8]] = []
    /// Which fields stood in quotes: an empty one is an empty text then, and not a missing one.
    private(set) var isQuoted: [Bool] = []
    private var field: [UInt8] = []
    private var state = State.fieldStart
    private var wasQuoted = false

    enum Step { case more, end, textAfterQuote }

    init(delimiter: UInt8) { self.delimiter = delimiter }

    var isOpenQuote: Bool { if case .quoted = state { true } else { false } }
    var isEmpty: Bool { fields.isEmpty && field.isEmpty && !wasQuoted }

    private mutating func endField(isLineEnd: Bool) {
        // A carriage return belongs to the end of the line, not to that of a field.
        if isLineEnd, !wasQuoted, field.last == Byte.carriageReturn { field.removeLast() }
        fields.append(field)
        isQuoted.append(wasQuoted)
        field = []
        wasQuoted = false
        state = .fieldStart
    }

    mutating func take(_ byte: UInt8) -> Step {
        switch state {
        case .fieldStart where byte == Byte.quote:
            state = .quoted
            wasQuoted = true
        case .quoted:
            if byte == Byte.quote { state = .quoteInQuotes } else { field.append(byte) }
        case .quoteInQuotes where byte == Byte.quote:
            field.append(byte)
            state = .quoted
        case .quoteInQuotes where byte == Byte.carriageReturn: break
        case .fieldStart, .plain, .quoteInQuotes:
            if byte == delimiter {
                endField(isLineEnd: false)
            } else if byte == Byte.lineFeed {
                endField(isLineEnd: true)
                return .end
            } else if state == .quoteInQuotes {
                return .textAfterQuote
            } else {
                field.append(byte)
                state = .plain
            }
        }
        return .more
    }

    /// Ends the last record of a file that has no line end.
    mutating func finish() { endField(isLineEnd: true) }
}

/// The header of a delimited file, and the rows that fit it.
struct DelimitedHeader {
    var names: [String]

    /// - Throws: `RowError` for names that are missing, doubled or not UTF-8.
    init(_ fields: [[UInt8]]) throws {
        names = try fields.enumerated().map { i, field in
            guard let name = String(validating: field, as: UTF8.self) else {
                throw RowError("the name of column \(i + 1) is not UTF-8; save the file as UTF-8")
            }
            guard !name.isEmpty else { throw RowError("column \(i + 1) has no name; the first row names the columns") }
            return name
        }
        for (i, name) in names.enumerated() where names[..<i].contains(where: { $0.hasSameBytes(as: name) }) {
            throw RowError("two columns are named \"\(name)\"")
        }
    }

    /// - Parameter offset: of the record in the file, in bytes.
    func row(_ fields: [[UInt8]], _ isQuoted: [Bool], offset: Int) throws -> JSONValue {
        guard fields.count == names.count else {
            throw RowError("\(fields.count) fields; the first row names \(names.count) columns")
        }
        var entries: [(key: String, value: JSONValue)] = []
        for (i, field) in fields.enumerated() {
            if field.isEmpty, !isQuoted[i] {
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
func tabSeparated(_ line: ArraySlice<UInt8>) -> (fields: [[UInt8]], isQuoted: [Bool]) {
    var fields: [[UInt8]] = []
    var isQuoted: [Bool] = []
    for part in line.split(separator: 0x09, omittingEmptySubsequences: false) {
        let inner = part.dropFirst().dropLast()
        let quote = UInt8(ascii: "\"")
        var unquoted: [UInt8] = []
        var index = inner.startIndex
        var isWhole = part.count >= 2 && part.first == quote && part.last == quote
        while isWhole, index < inner.endIndex {
            unquoted.append(inner[index])
            if inner[index] == quote {
                isWhole = index + 1 < inner.endIndex && inner[index + 1] == quote
                index += 1
            }
            index += 1
        }
        fields.append(isWhole ? unquoted : Array(part))
        isQuoted.append(isWhole)
    }
    return (fields, isQuoted)
}
