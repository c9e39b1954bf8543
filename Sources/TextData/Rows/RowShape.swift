internal import FileFormats

/// What a row is, told by its keys.
public enum RowShape: String, Sendable, CaseIterable, Codable {
    case messages, sharegpt, alpaca, completion, text, tokens, preference, kto

    /// The form of such a row, for help and error texts.
    public var form: String {
        switch self {
        case .messages: #"{"messages": [{"role", "content"}, ...], "tools"}"#
        case .sharegpt: #"{"conversations": [{"from", "value"}, ...], "system", "tools"}"#
        case .alpaca: #"{"instruction", "input", "output", "system", "history"}"#
        case .completion: #"{"prompt", "completion"}"#
        case .text: #"{"text"}"#
        case .tokens: #"{"input_ids", "labels"}"#
        case .preference: #"{"prompt", "chosen", "rejected"}"#
        case .kto: #"{"prompt", "completion", "label"}"#
        }
    }

    /// What is wrong with a row that has no shape: values that are missing, or other keys.
    static func error(for object: JSONObject) -> RowError {
        let demands = [
            ["messages"], ["conversations"], ["instruction", "output"], ["prompt", "completion"],
            ["prompt", "chosen", "rejected"], ["text"], ["input_ids"],
        ]
        func isNull(_ key: String) -> Bool { object[key]?.isNull == true }
        let known = demands.filter { $0.allSatisfy { object[$0] != nil } }
        if let keys = known.first(where: { !$0.allSatisfy(isNull) }) ?? known.first {
            let empty = keys.filter(isNull).map { "\"\($0)\"" }.joined(separator: " and ")
            let reason = "\(empty) \(keys.count(where: isNull) == 1 ? "has" : "have") no value"
            // Without an answer there is nothing to train, and such rows can be left out by that name.
            return isNull(keys.last ?? "")
                ? RowError(reason, lint: .noTrainedToken) : RowError("\(reason); fill it in, or remove the row")
        }
        let keys = object.keys.prefix(12).map { "\"\($0)\"" }.joined(separator: ", ")
        let found = object.count == 0 ? "no keys" : "the keys \(keys)\(object.count > 12 ? ", ..." : "")"
        return RowError(
            "found \(found); a row is one of \(allCases.map(\.form).joined(separator: ", ")); other names are told by "
                + "data.columns (--columns), as in {instruction: question, output: answer}")
    }

    /// Nil for keys that are those of no shape. Keys whose value is null count as absent.
    init?(of object: JSONObject) {
        func has(_ keys: String...) -> Bool { keys.allSatisfy { object[$0].map { !$0.isNull } ?? false } }
        if has("input_ids") {
            self = .tokens
        } else if has("chosen", "rejected") || has("chosen_ids", "rejected_ids") {
            self = .preference
        } else if has("prompt_ids", "completion_ids", "label") {
            self = .kto
        } else if has("messages") {
            self = has("rejected_response") ? .preference : .messages
        } else if has("conversations") {
            self = has("rejected_response") ? .preference : .sharegpt
        } else if has("instruction", "output") {
            self = .alpaca
        } else if has("prompt", "completion") {
            self = .completion
        } else if has("text") {
            self = .text
        } else {
            return nil
        }
        if [.messages, .sharegpt, .alpaca, .completion].contains(self), Self.isJudged(object) { self = .kto }
    }

    /// Whether a row says that its answer is good or bad. A label that is neither names something else, such as a class.
    private static func isJudged(_ object: JSONObject) -> Bool {
        if let tag = object["kto_tag"], !tag.holdsNothing { return true }
        return object["label"].flatMap(RowReader.judgement) != nil
    }
}

/// Which column of a file stands for a key of graft's rows.
public struct ColumnName: Sendable, Equatable {
    public var key: String
    /// A column, or a dotted path into its structures.
    public var column: String

    public init(key: String, column: String) {
        self.key = key
        self.column = column
    }

    public static func == (a: ColumnName, b: ColumnName) -> Bool {
        a.key.hasSameBytes(as: b.key) && a.column.hasSameBytes(as: b.column)
    }

    /// Whether the column, or what its path begins with, has this name.
    func mayBegin(with name: String) -> Bool {
        column.hasSameBytes(as: name) || Array(column.utf8).starts(with: Array(name.utf8) + [UInt8(ascii: ".")])
    }

    private func value(in object: JSONObject) -> JSONValue? {
        if let value = object[column] { return value }
        var value = JSONValue.object(object)
        for part in column.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false) {
            guard let inner = value[String(decoding: part, as: UTF8.self)] else { return nil }
            value = inner
        }
        return value
    }

    /// The row with graft's keys for its columns; the columns themselves are taken away.
    ///
    /// - Throws: `RowError` naming every column that is missing.
    static func renamed(_ row: JSONValue, _ columns: [ColumnName]) throws -> JSONValue {
        guard !columns.isEmpty, let object = row.objectValue else { return row }
        let found = columns.map { $0.value(in: object) }
        let missing = zip(columns, found).filter { $0.1 == nil }.map { "\"\($0.0.column)\" (for \($0.0.key))" }
        guard missing.isEmpty else {
            let keys = object.keys.prefix(12).map { "\"\($0)\"" }.joined(separator: ", ")
            throw RowError(
                "no column \(missing.joined(separator: ", ")); the row has \(keys); see data.columns (--columns)")
        }
        var result = JSONObject(
            object.entries.filter { entry in !columns.contains { $0.column.hasSameBytes(as: entry.key) } })
        for (column, value) in zip(columns, found) { result[column.key] = value }
        return .object(result)
    }
}
