public import FileFormats

/// Messages, and which of them are trained.
public struct Conversation: Sendable {
    /// Objects with `role`, `content` and so on, as templates see them.
    public var messages: [JSONValue]
    public var tools: JSONValue?
    /// Further variables of the template.
    public var variables: JSONObject
    /// Which messages the row itself allows to be trained; the options choose among these.
    public var isTrainable: [Bool]

    public init(
        messages: [JSONValue], tools: JSONValue? = nil, variables: JSONObject = JSONObject(), isTrainable: [Bool]? = nil
    ) {
        self.messages = messages
        self.tools = tools
        self.variables = variables
        self.isTrainable = isTrainable ?? messages.map { $0["role"]?.stringValue == "assistant" }
    }
}

/// One row of training data.
public enum Row: Sendable {
    case conversation(Conversation)
    /// `{"instruction", "input", "output"}`: a conversation, or plain text where the model has no template.
    case instruction(system: String, history: [(String, String)], prompt: String, output: String)
    /// Text to go on from, and text to learn.
    case completion(prompt: String, completion: String)
    case text(String)
    case tokens(TokenizedExample)

    /// The shapes that are recognised, for help and error texts.
    public static let knownShapes = [
        #"{"messages": [{"role", "content"}, ...], "tools"}"#, #"{"prompt", "completion"}"#,
        #"{"instruction", "input", "output"}"#, #"{"text"}"#, #"{"input_ids", "labels"}"#,
        #"{"conversations": [{"from", "value"}, ...]}"#,
    ]

    /// Recognises the shape of a row by its keys.
    ///
    /// - Throws: `RowError` with everything that is wrong with the row.
    public init(_ value: JSONValue) throws {
        guard let object = value.objectValue else { throw RowError("expected an object, found \(value.kindName)") }
        func has(_ keys: String...) -> Bool { keys.allSatisfy { object[$0].map { !$0.isNull } ?? false } }
        if has("input_ids") {
            self = .tokens(try RowReader(object).tokens())
        } else if has("messages") {
            self = .conversation(try RowReader(object).conversation())
        } else if has("conversations") {
            self = .conversation(try RowReader(object).shareGPT())
        } else if has("instruction", "output") {
            self = try RowReader(object).instruction()
        } else if has("prompt", "completion") {
            self = try RowReader(object).completion()
        } else if has("text") {
            self = .text(try RowReader(object).string("text"))
        } else {
            let keys = object.keys.prefix(12).map { "\"\($0)\"" }.joined(separator: ", ")
            let found = object.count == 0 ? "no keys" : "the keys \(keys)\(object.count > 12 ? ", ..." : "")"
            let hint = has("chosen") ? "; preference rows are not for this command" : ""
            throw RowError("found \(found)\(hint); a row is one of \(Row.knownShapes.joined(separator: ", "))")
        }
    }
}

/// What is wrong with a row; the place is known to who reads the file.
public struct RowError: Error, Sendable {
    public var reason: String
    public init(_ reason: String) { self.reason = reason }
}

/// Takes one object apart.
private struct RowReader {
    let object: JSONObject

    init(_ object: JSONObject) { self.object = object }

    func string(_ key: String, default fallback: String? = nil) throws -> String {
        switch object[key] {
        case .string(let text)?: return text
        case nil, .null?: if let fallback { return fallback }
        default: break
        }
        throw RowError("\"\(key)\": expected a string, found \(object[key]?.kindName ?? "nothing")")
    }

    // MARK: Tokens

    func tokens() throws -> TokenizedExample {
        let ids = try integers("input_ids")
        guard !ids.isEmpty else { throw RowError("\"input_ids\" is empty") }
        guard let given = object["labels"], !given.isNull else {
            return TokenizedExample(ids: ids, isTrained: Array(repeating: true, count: ids.count))
        }
        let labels = try integers("labels")
        guard labels.count == ids.count else {
            throw RowError("\"labels\" has \(labels.count) entries, \"input_ids\" has \(ids.count)")
        }
        for (i, (id, label)) in zip(ids, labels).enumerated() where label != ignoredTarget && label != id {
            throw RowError(
                "\"labels\"[\(i)] is \(label), \"input_ids\"[\(i)] is \(id); a label is the id at the same place or "
                    + "-100 (graft shifts)")
        }
        return TokenizedExample(ids: ids, isTrained: labels.map { $0 != ignoredTarget })
    }

    private func integers(_ key: String) throws -> [Int32] {
        guard let values = object[key]?.arrayValue else {
            throw RowError("\"\(key)\": expected an array, found \(object[key]?.kindName ?? "nothing")")
        }
        return try values.enumerated().map { i, value in
            guard case .integer(let number) = value, let id = Int32(exactly: number) else {
                throw RowError("\"\(key)\"[\(i)]: expected a token id, found \(value.kindName)")
            }
            return id
        }
    }

    // MARK: Conversations

    private func tools() throws -> JSONValue? {
        switch object["tools"] {
        case nil, .null?: return nil
        case .array(let tools)?: return tools.isEmpty ? nil : .array(tools)
        case .string(let text)?:
            if text.allSatisfy(\.isWhitespace) { return nil }
            guard let value = try? JSONParser.parse(text), let tools = value.arrayValue else {
                throw RowError("\"tools\": expected an array of functions, found a string that is not one")
            }
            return tools.isEmpty ? nil : .array(tools)
        case let other?: throw RowError("\"tools\": expected an array, found \(other.kindName)")
        }
    }

    private func variables() throws -> JSONObject {
        switch object["chat_template_kwargs"] {
        case nil, .null?: return JSONObject()
        case .object(let variables)?: return variables
        case let other?: throw RowError("\"chat_template_kwargs\": expected an object, found \(other.kindName)")
        }
    }

    func conversation() throws -> Conversation {
        let messages = try messages("messages")
        return Conversation(
            messages: messages.map(\.message), tools: try tools(), variables: try variables(),
            isTrainable: messages.map(\.isTrainable))
    }

    private func messages(_ key: String) throws -> [(message: JSONValue, isTrainable: Bool)] {
        guard let values = object[key]?.arrayValue else {
            throw RowError("\"\(key)\": expected an array, found \(object[key]?.kindName ?? "nothing")")
        }
        guard !values.isEmpty else { throw RowError("\"\(key)\" is empty") }
        return try values.enumerated().map { i, value in
            try message(value, "\"\(key)\"[\(i)]")
        }
    }

    private func message(_ value: JSONValue, _ place: String) throws -> (message: JSONValue, isTrainable: Bool) {
        guard var message = value.objectValue else { throw RowError("\(place): expected an object") }
        guard let role = message["role"]?.stringValue else {
            throw RowError("\(place): \"role\" is \(message["role"].map(\.kindName) ?? "missing")")
        }
        let calls = message["tool_calls"]?.arrayValue
        switch message["content"] {
        case .string?, .array?: break
        // A message that only calls tools may leave its content out.
        case nil, .null?:
            guard calls != nil || message["reasoning_content"]?.stringValue != nil else {
                throw RowError("\(place): \"content\" is missing")
            }
        case let other?: throw RowError("\(place): \"content\" is \(other.kindName); expected a string")
        }
        if let calls {
            message["tool_calls"] = .array(try calls.enumerated().map { try call($1, "\(place), call \($0)") })
        }
        var isTrainable = role == "assistant"
        if let weight = message["weight"], !weight.isNull {
            guard let number = weight.doubleValue, number == 0 || number == 1 else {
                throw RowError("\(place): \"weight\" must be 0 or 1")
            }
            isTrainable = isTrainable && number == 1
            message["weight"] = nil
        }
        return (.object(message), isTrainable)
    }

    /// Arguments may come as JSON text; templates expect the object.
    private func call(_ value: JSONValue, _ place: String) throws -> JSONValue {
        guard var call = value.objectValue else { throw RowError("\(place): expected an object") }
        if let arguments = Self.parsedArguments(call["arguments"]) { call["arguments"] = arguments }
        if var function = call["function"]?.objectValue {
            if let arguments = Self.parsedArguments(function["arguments"]) { function["arguments"] = arguments }
            call["function"] = .object(function)
        }
        return .object(call)
    }

    static func parsedArguments(_ value: JSONValue?) -> JSONValue? {
        guard let text = value?.stringValue, let parsed = try? JSONParser.parse(text), parsed.objectValue != nil else {
            return nil
        }
        return parsed
    }

    func shareGPT() throws -> Conversation {
        guard let turns = object["conversations"]?.arrayValue, !turns.isEmpty else {
            throw RowError("\"conversations\": expected an array with at least one turn")
        }
        if turns[0]["role"] != nil { return try openAI(under: "conversations") }
        var messages: [JSONValue] = []
        let system = try string("system", default: "")
        if !system.isEmpty { messages.append(["role": "system", "content": .string(system)]) }
        for (i, turn) in turns.enumerated() {
            guard let from = turn["from"]?.stringValue, let text = turn["value"]?.stringValue else {
                throw RowError("\"conversations\"[\(i)]: expected \"from\" and \"value\", both strings")
            }
            messages.append(try message(from: from, text, index: i))
        }
        return Conversation(messages: messages, tools: try tools(), variables: try variables())
    }

    private func openAI(under key: String) throws -> Conversation {
        let messages = try messages(key)
        return Conversation(
            messages: messages.map(\.message), tools: try tools(), variables: try variables(),
            isTrainable: messages.map(\.isTrainable))
    }

    private func message(from: String, _ text: String, index: Int) throws -> JSONValue {
        switch from {
        case "human", "user": return ["role": "user", "content": .string(text)]
        case "gpt", "assistant", "model", "chatgpt": return ["role": "assistant", "content": .string(text)]
        case "system": return ["role": "system", "content": .string(text)]
        case "observation", "tool": return ["role": "tool", "content": .string(text)]
        case "function_call":
            guard let value = try? JSONParser.parse(text) else {
                throw RowError("\"conversations\"[\(index)]: a function_call is not JSON")
            }
            let calls = (value.arrayValue ?? [value]).map { call -> JSONValue in
                var function = call.objectValue ?? JSONObject()
                if let arguments = Self.parsedArguments(function["arguments"]) { function["arguments"] = arguments }
                return ["type": "function", "function": .object(function)]
            }
            return ["role": "assistant", "content": "", "tool_calls": .array(calls)]
        default:
            throw RowError(
                "\"conversations\"[\(index)]: \"from\" is \"\(from)\"; expected human, gpt, system, observation or "
                    + "function_call")
        }
    }

    // MARK: Pairs

    func instruction() throws -> Row {
        let instruction = try string("instruction")
        let input = try string("input", default: "")
        var history: [(String, String)] = []
        for (i, turn) in (object["history"]?.arrayValue ?? []).enumerated() {
            guard let pair = turn.arrayValue, pair.count == 2, let question = pair[0].stringValue,
                let answer = pair[1].stringValue
            else { throw RowError("\"history\"[\(i)]: expected a pair of strings") }
            history.append((question, answer))
        }
        return .instruction(
            system: try string("system", default: ""), history: history,
            prompt: input.isEmpty ? instruction : instruction.isEmpty ? input : instruction + "\n" + input,
            output: try string("output"))
    }

    func completion() throws -> Row {
        if object["prompt"]?.arrayValue != nil || object["completion"]?.arrayValue != nil {
            let prompt =
                object["prompt"]?.stringValue.map { text -> [(message: JSONValue, isTrainable: Bool)] in
                    [(["role": "user", "content": .string(text)], false)]
                } ?? []
            let before = prompt.isEmpty ? try messages("prompt") : prompt
            let after: [(message: JSONValue, isTrainable: Bool)] =
                try object["completion"]?.stringValue.map {
                    [(["role": "assistant", "content": .string($0)], true)]
                } ?? messages("completion")
            return .conversation(
                Conversation(
                    messages: (before + after).map(\.message), tools: try tools(), variables: try variables(),
                    isTrainable: before.map { _ in false } + after.map(\.isTrainable)))
        }
        return .completion(prompt: try string("prompt"), completion: try string("completion"))
    }
}
