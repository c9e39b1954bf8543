/// A JSON value in the order in which it was built.
indirect enum JSON {
    case null
    case bool(Bool)
    /// A number, already spelled.
    case number(String)
    case string(String)
    case array([JSON])
    case object([(key: String, value: JSON)])

    /// - Parameter spaced: `{"a": 1, "b": 2}` instead of `{"a":1,"b":2}`.
    func text(spaced: Bool = false) -> String {
        let comma = spaced ? ", " : ","
        let colon = spaced ? ": " : ":"
        switch self {
        case .null: return "null"
        case .bool(let value): return value ? "true" : "false"
        case .number(let spelling): return spelling
        case .string(let value): return JSON.quoted(value)
        case .array(let items):
            return "[" + items.map { $0.text(spaced: spaced) }.joined(separator: comma) + "]"
        case .object(let members):
            let parts = members.map { JSON.quoted($0.key) + colon + $0.value.text(spaced: spaced) }
            return "{" + parts.joined(separator: comma) + "}"
        }
    }

    private static func quoted(_ value: String) -> String {
        var result = "\""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\t": result += "\\t"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}

/// One line of a corpus or data set.
enum Row {
    case text(String)
    case messages([(role: String, content: String)])

    static func exchange(system: String? = nil, _ user: String, _ assistant: String) -> Row {
        var turns: [(role: String, content: String)] = []
        if let system { turns.append(("system", system)) }
        turns.append(("user", user))
        turns.append(("assistant", assistant))
        return .messages(turns)
    }

    var line: String {
        switch self {
        case .text(let text):
            return JSON.object([("text", .string(text))]).text(spaced: true)
        case .messages(let turns):
            let list = turns.map { JSON.object([("role", .string($0.role)), ("content", .string($0.content))]) }
            return JSON.object([("messages", .array(list))]).text(spaced: true)
        }
    }
}
