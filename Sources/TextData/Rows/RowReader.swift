internal import FileFormats

/// Takes one object apart.
struct RowReader {
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

    /// An array; one that comes as JSON text, as tables have it, is parsed.
    private func array(_ key: String) throws -> [JSONValue] {
        if let values = object[key]?.arrayValue { return values }
        if let text = object[key]?.stringValue {
            guard let values = (try? JSONParser.parse(text))?.arrayValue else {
                throw RowError("\"\(key)\": expected an array, found a string that is not one")
            }
            return values
        }
        if let columns = object[key]?.objectValue, let rows = Self.transposed(columns) { return rows }
        throw RowError("\"\(key)\": expected an array, found \(object[key]?.kindName ?? "nothing")")
    }

    /// Lists of equal length under several keys, as some writers of tables store a list of structures.
    private static func transposed(_ columns: JSONObject) -> [JSONValue]? {
        guard let count = columns.entries.first?.value.arrayValue?.count,
            columns.entries.allSatisfy({ $0.value.arrayValue?.count == count })
        else { return nil }
        return (0..<count).map { i in
            .object(JSONObject(columns.entries.map { (key: $0.key, value: $0.value[i] ?? .null) }))
        }
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

    func integers(_ key: String) throws -> [Int32] {
        let values = try array(key)
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
        case nil, .null?: return functions()
        case .array(let tools)?: return tools.isEmpty ? nil : .array(tools)
        case .string(let text)?:
            if text.utf8.allSatisfy({ [0x20, 0x09, 0x0A, 0x0D].contains($0) }) { return nil }
            guard let value = try? JSONParser.parse(text), let tools = value.arrayValue else {
                throw RowError("\"tools\": expected an array of functions, found a string that is not one")
            }
            return tools.isEmpty ? nil : .array(tools)
        case let other?: throw RowError("\"tools\": expected an array, found \(other.kindName)")
        }
    }

    /// Definitions under the older name, each in the envelope of today's.
    private func functions() -> JSONValue? {
        guard let functions = object["functions"]?.arrayValue, !functions.isEmpty else { return nil }
        return .array(functions.map { ["type": "function", "function": $0] })
    }

    private func variables() throws -> JSONObject {
        switch object["chat_template_kwargs"] {
        case nil, .null?: return JSONObject()
        case .object(let variables)?: return variables
        case .string(let text)?:
            guard let value = try? JSONParser.parse(text), let variables = value.objectValue else {
                throw RowError("\"chat_template_kwargs\": expected an object, found a string that is not one")
            }
            return variables
        case let other?: throw RowError("\"chat_template_kwargs\": expected an object, found \(other.kindName)")
        }
    }

    func conversation() throws -> Conversation {
        if let first = try array("messages").first, first["role"] == nil, first["from"] != nil {
            return try shareGPT(under: "messages")
        }
        return try conversation(messages("messages"))
    }

    /// A message, and what its losses are multiplied with if it is trained.
    struct Message {
        var message: JSONValue
        var isTrainable: Bool
        var weight: Float = 1

        /// As a part of the prompt.
        var untrained: Message { Message(message: message, isTrainable: false) }
    }

    func conversation(_ messages: [Message]) throws -> Conversation {
        let isWeighted = messages.contains { $0.isTrainable && $0.weight != 1 }
        return Conversation(
            messages: messages.map(\.message), tools: try tools(), variables: try variables(),
            isTrainable: messages.map(\.isTrainable), weights: isWeighted ? messages.map(\.weight) : nil)
    }

    func messages(_ key: String) throws -> [Message] {
        let values = try array(key)
        guard !values.isEmpty else { throw RowError("\"\(key)\" is empty") }
        return try values.enumerated().map { i, value in
            try message(value, "\"\(key)\"[\(i)]")
        }
    }

    func message(_ value: JSONValue, _ place: String) throws -> Message {
        guard var message = value.objectValue else { throw RowError("\(place): expected an object") }
        guard let role = message["role"]?.stringValue else {
            throw RowError("\(place): \"role\" is \(message["role"].map(\.kindName) ?? "missing")")
        }
        if let call = message["function_call"], call.objectValue != nil {
            // The older form of a single call.
            message["function_call"] = nil
            message["tool_calls"] = [["type": "function", "function": call]]
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
        let weight = try weight(of: value, place)
        message["weight"] = nil
        return Message(message: .object(message), isTrainable: weight > 0 && role == "assistant", weight: weight)
    }

    /// What a message's losses are multiplied with; 0 keeps it from being trained.
    private func weight(of message: JSONValue, _ place: String) throws -> Float {
        guard let weight = message["weight"], !weight.isNull else { return 1 }
        guard let number = weight.doubleValue, (0...100).contains(number) else {
            throw RowError("\(place): \"weight\" must be a number from 0 to 100")
        }
        return Float(number)
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

    func shareGPT(under key: String = "conversations") throws -> Conversation {
        let turns = try turns(under: key)
        let system = try string("system", default: "")
        if system.isEmpty || turns[0].message["role"]?.stringValue == "system" { return try conversation(turns) }
        return try conversation([Self.system(system)] + turns)
    }

    private static func system(_ text: String) -> Message {
        Message(message: ["role": "system", "content": .string(text)], isTrainable: false)
    }

    /// Messages in ShareGPT's form, or in OpenAI's.
    func turns(under key: String) throws -> [Message] {
        let turns = try array(key)
        guard !turns.isEmpty else { throw RowError("\"\(key)\" is empty") }
        if turns[0]["role"] != nil { return try messages(key) }
        return try turns.enumerated().map { i, turn in try self.turn(turn, "\"\(key)\"[\(i)]", index: i) }
    }

    func turn(_ turn: JSONValue, _ place: String, index: Int) throws -> Message {
        guard let from = turn["from"]?.stringValue, let text = turn["value"]?.stringValue else {
            throw RowError("\(place): expected \"from\" and \"value\", both strings")
        }
        let message = try message(from: from, text, index: index), weight = try weight(of: turn, place)
        return Message(
            message: message, isTrainable: message["role"]?.stringValue == "assistant" && weight > 0, weight: weight)
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
        let past =
            object["history"].map { $0.isNull || $0.stringValue?.isEmpty == true } ?? true ? [] : try array("history")
        for (i, turn) in past.enumerated() {
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
}
