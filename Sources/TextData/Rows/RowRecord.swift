internal import FileFormats

/// What comes to light while a row is read: which of its keys were looked at, and what is worth a word.
final class RowRecord {
    private var isRead: [Bool] = []
    /// Each with what it was found in; empty where the note says it all.
    private(set) var notes: [ExampleNote: String] = [:]

    func markRead(_ index: Int) {
        while isRead.count <= index { isRead.append(false) }
        isRead[index] = true
    }

    func note(_ note: ExampleNote, _ detail: String = "") {
        guard let known = notes[note], !known.isEmpty else { return notes[note] = detail }
        if !detail.isEmpty, !Text(known).contains(Text(detail)) { notes[note] = known + ", " + detail }
    }

    /// The keys of `object` that hold something and were not looked at.
    func unread(of object: JSONObject) -> [UnreadKey] {
        object.entries.enumerated().compactMap { index, entry in
            (isRead.indices.contains(index) && isRead[index]) || entry.value.holdsNothing
                ? nil : UnreadKey(name: ByteString(entry.key), isOfMessage: false)
        }
    }
}

/// A key of a row, or of one of its messages, that nothing was made of.
struct UnreadKey: Hashable, Sendable {
    var name: ByteString
    var isOfMessage: Bool
}

/// A row, and what came to light while it was read.
struct ReadRow {
    var row: Row
    var shape: RowShape
    var notes: [ExampleNote: String] = [:]
    var unread: [UnreadKey] = []
}

extension JSONValue {
    /// Null, or empty as tables write absent values.
    var holdsNothing: Bool {
        switch self {
        case .null: true
        case .string(let text): text.utf8.isEmpty
        case .array(let values): values.isEmpty
        case .object(let object): object.count == 0
        default: false
        }
    }

    /// Truth in any of the spellings of tables: true, 1, "True", "0"; nil for other values.
    var flag: Bool? {
        switch self {
        case .bool(let flag): flag
        case .string(let text):
            switch text.trimmedASCII.lowercased() {
            case "true", "1", "1.0", "yes": true
            case "false", "0", "0.0", "no": false
            default: nil
            }
        default: doubleValue == 1 ? true : doubleValue == 0 ? false : nil
        }
    }
}

extension String {
    /// Without white space of ASCII at both ends.
    var trimmedASCII: String {
        func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }
        let bytes = utf8.drop(while: isSpace)
        guard let last = bytes.lastIndex(where: { !isSpace($0) }) else { return "" }
        return String(bytes[...last]) ?? self
    }
}
