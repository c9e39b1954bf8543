internal import FileFormats

// Conversations: messages in OpenAI's form and turns in ShareGPT's.
extension RowReader {
    /// A message, and what its losses are multiplied with if it is trained.
    struct Message {
        var message: JSONValue
        var isTrainable: Bool
        var weight: Float = 1

        /// As a part of the prompt.
        var untrained: Message { Message(message: message, isTrainable: false) }
        var role: String { message["role"]?.stringValue ?? "" }

        init(message: JSONValue, isTrainable: Bool, weight: Float = 1) {
            (self.message, self.isTrainable, self.weight) = (message, isTrainable, weight)
        }

        init(_ role: String, _ text: String) {
            self.init(
                message: ["role": .string(role), "content": .string(text)], isTrainable: role == "assistant")
        }
    }

    func conversation(under key: String) throws -> Conversation {
        try conversation(withSystem(turns(under: key)))
    }

    func conversation(_ messages: [Message]) throws -> Conversation {
        let isWeighted = messages.contains { $0.isTrainable && $0.weight != 1 }
        let conversation = Conversation(
            messages: messages.map(\.message), tools: try tools(), variables: try variables(),
            isTrainable: messages.map(\.isTrainable), weights: isWeighted ? messages.map(\.weight) : nil)
        noteNulls(conversation)
        return conversation
    }

    /// The messages after the system message that the row has under a key of its own. One among the messages goes
    /// first, as in LLaMA-Factory; the key counts as not read then, unless both say the same.
    func withSystem(_ messages: [Message]) throws -> [Message] {
        if let first = messages.first, first.role == "system" || first.role == "developer" {
            guard let own = first.message["content"]?.stringValue, let given = object["system"]?.stringValue,
                !own.hasSameBytes(as: given)
            else {
                _ = value("system")
                return messages
            }
            return messages
        }
        let system = try string("system", default: "")
        return system.isEmpty ? messages : [Message("system", system)] + messages
    }

    func variables() throws -> JSONObject {
        let variables: JSONObject
        switch value("chat_template_kwargs") {
        case nil, .null?: return JSONObject()
        case .object(let found)?: variables = found
        case .string(let text)?:
            if ["", "null"].contains(text.trimmedASCII) { return JSONObject() }
            guard let value = try? JSONParser.parse(text), let found = value.objectValue else {
                throw RowError(
                    "\"chat_template_kwargs\": expected an object, found a string that is not one\(Self.hint(text))")
            }
            variables = found
        case let other?: throw RowError("\"chat_template_kwargs\": expected an object, found \(other.kindName)")
        }
        for key in ["messages", "tools", "add_generation_prompt", "continue_final_message"]
        where variables[key].map({ !$0.isNull }) ?? false {
            throw RowError("\"chat_template_kwargs\" may not set \"\(key)\"; take it out of the row")
        }
        return variables
    }

    func messages(_ key: String) throws -> [Message] {
        let values = try array(key)
        guard !values.isEmpty else { throw RowError("\"\(key)\" is empty") }
        return try values.enumerated().map { i, value in
            try message(value, "\"\(key)\"[\(i)]")
        }
    }

    /// Messages in ShareGPT's form, or in OpenAI's.
    func turns(under key: String) throws -> [Message] {
        let turns = try array(key)
        guard let first = turns.first else { throw RowError("\"\(key)\" is empty") }
        if turns.allSatisfy({ $0.stringValue != nil }) {
            let isAnswer = ["chosen", "rejected", "completion"].contains(key)
            throw RowError(
                "\"\(key)\": expected \(isAnswer ? "one answer (a text), or " : "")a list of messages, found a list of "
                    + "\(turns.count) text\(turns.count == 1 ? "" : "s")"
                    + (isAnswer && turns.count > 1 ? "; make a row of each" : ""))
        }
        let isShareGPT = first["role"] == nil && (first["from"] != nil || key == "conversations")
        if !isShareGPT { return try messages(key) }
        return try turns.enumerated().map { i, turn in try self.turn(turn, "\"\(key)\"[\(i)]") }
    }

    func message(_ value: JSONValue, _ place: String) throws -> Message {
        guard var message = value.objectValue else {
            throw RowError("\(place): expected an object, found \(value.kindName)")
        }
        guard var role = message["role"]?.stringValue else {
            throw RowError("\(place): \"role\" is \(message["role"].map(\.kindName) ?? "missing")")
        }
        if role == "function" {
            // The older name of what a call gave, as function_call is that of the call.
            role = "tool"
            message["role"] = "tool"
        }
        if message["content"] == nil, let text = message["value"]?.stringValue {
            message["content"] = .string(text)
            message["value"] = nil
        }
        try readCalls(of: &message, place)
        let hasMore =
            message["tool_calls"] != nil
            || ["reasoning_content", "thinking", "reasoning"].contains { message[$0]?.stringValue != nil }
        switch message["content"] {
        case .string?: break
        case .array(let parts)?: message["content"] = try content(parts, mayBeEmpty: hasMore, place)
        case .object?:
            message["content"] = try content([message["content"] ?? .null], mayBeEmpty: false, place)
        // A message that only calls tools may leave its content out.
        case nil, .null?: if !hasMore { throw RowError("\(place): \"content\" is missing") }
        case let other?: throw RowError("\(place): \"content\" is \(other.kindName); expected a string")
        }
        return try trained(message, role, place)
    }

    /// Parts of a content, all of them text; templates that take strings get them joined.
    private func content(_ parts: [JSONValue], mayBeEmpty: Bool, _ place: String) throws -> JSONValue {
        guard !parts.isEmpty else {
            if mayBeEmpty { return "" }
            throw RowError("\(place): \"content\" is an empty list; give it a text, or leave the message out")
        }
        return .array(
            try parts.enumerated().map { i, part in
                if let text = part.stringValue { return ["type": "text", "text": .string(text)] }
                guard let object = part.objectValue else {
                    throw RowError("\(place), part \(i + 1) of \"content\": expected an object, found \(part.kindName)")
                }
                let type = object["type"]?.stringValue
                guard ["text", "input_text", "output_text"].contains(type ?? "text") else {
                    throw RowError(
                        "\(place), part \(i + 1) of \"content\" is of the type \(quoted(type ?? "")); graft trains on "
                            + "text and reads parts of the type \"text\" alone; leave the row out")
                }
                guard let text = object["text"]?.stringValue else {
                    throw RowError(
                        "\(place), part \(i + 1) of \"content\": \"text\" is "
                            + "\(object["text"].map(\.kindName) ?? "missing")")
                }
                return ["type": "text", "text": .string(text)]
            })
    }

    // MARK: ShareGPT

    func turn(_ turn: JSONValue, _ place: String) throws -> Message {
        guard var message = turn.objectValue, let from = turn["from"]?.stringValue,
            let text = (turn["value"] ?? turn["content"])?.stringValue
        else { throw RowError("\(place): expected \"from\" and \"value\", both strings") }
        message["from"] = nil
        message["value"] = nil
        message["content"] = nil
        let role: String
        var content = text
        switch from.lowercased() {
        case "human", "user": role = "user"
        case "gpt", "assistant", "model", "chatgpt", "ai", "bot": role = "assistant"
        case "system": role = "system"
        case "observation", "tool", "function_response": role = "tool"
        case "function_call":
            role = "assistant"
            content = ""
            guard let value = try? JSONParser.parse(text) else {
                throw RowError("\(place): a function_call is not JSON\(Self.hint(text))")
            }
            let calls = try (value.arrayValue ?? [value]).enumerated().map { i, call -> JSONValue in
                ["type": "function", "function": try function(call, "\(place), call \(i + 1)")]
            }
            message["tool_calls"] = .array(calls)
        default:
            throw RowError(
                "\(place): \"from\" is \(quoted(from)); expected human, gpt, system, observation or function_call")
        }
        let head: [(key: String, value: JSONValue)] = [("role", .string(role)), ("content", .string(content))]
        return try trained(JSONObject(head + message.entries), role, place)
    }

    // MARK: What is trained

    /// Flags with which other tools let a turn be trained, or keep it from it.
    private static let flags = ["loss", "train", "training", "trainable", "train_turn", "train_on_turn", "loss_mask"]
    private static let weightKeys = ["weight", "loss_weight", "loss_scale"]
    private static let details = ["train_detail", "training_detail"]

    /// The message without what only says how it is trained.
    private func trained(_ message: JSONObject, _ role: String, _ place: String) throws -> Message {
        var isAllowed = role == "assistant"
        var weight: Float = 1
        // Most messages have nothing else.
        guard message.count > 2 else {
            return Message(message: .object(message), isTrainable: isAllowed, weight: weight)
        }
        var kept: [(key: String, value: JSONValue)] = []
        for (key, value) in message.entries {
            func isOne(of names: [String]) -> Bool { names.contains { $0.hasSameBytes(as: key) } }
            if isOne(of: Self.flags) || key.hasSameBytes(as: "masked") {
                guard !value.isNull else { continue }
                guard let flag = value.flag else {
                    throw RowError(
                        "\(place): \"\(key)\" must be true or false for the whole turn, found "
                            + (value.arrayValue == nil ? JSONWriter.text(value) : "a list"))
                }
                let isTrained = key.hasSameBytes(as: "masked") ? !flag : flag
                if isTrained, role != "assistant", !key.hasSameBytes(as: "masked") {
                    throw RowError(
                        "\(place): \"\(key)\" asks to train a turn of the role \(quoted(role)), but graft trains turns of "
                            + "the assistant; take it out, or see train_on: all")
                }
                if !isTrained { isAllowed = false }
            } else if isOne(of: Self.weightKeys) {
                guard !value.isNull else { continue }
                guard let number = value.doubleValue, (0...100).contains(number) else {
                    throw RowError("\(place): \"\(key)\" must be a number from 0 to 100")
                }
                weight *= Float(number)
            } else if isOne(of: Self.details), !value.holdsNothing {
                throw RowError(
                    "\(place): \"\(key)\" names parts of a message to train, but graft trains whole turns; take it out, or "
                        + "give the row as \"input_ids\" with \"labels\"")
            } else if key.hasSameBytes(as: "mask"), !value.isNull {
                throw RowError(
                    "\(place): \"mask\" does not say whether it lets the turn be trained or keeps it from it; name it "
                        + "\"train\" or \"masked\"")
            } else {
                kept.append((key, value))
            }
        }
        return Message(
            message: .object(JSONObject(kept)), isTrainable: isAllowed && weight > 0, weight: weight)
    }
}
