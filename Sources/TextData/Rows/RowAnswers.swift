internal import FileFormats

// Rows that hold a prompt and one or two answers to it.
extension RowReader {
    func completion() throws -> Row { try answer("completion", prompt: prompt(["completion"])) }

    /// `{"prompt", "chosen", "rejected"}`; without a prompt, it is what both answers begin with.
    func preference() throws -> Row {
        if object["chosen_ids"] != nil {
            return .preference(
                chosen: .tokens(try answerTokens("chosen_ids")),
                rejected: .tokens(try answerTokens("rejected_ids")))
        }
        if object["chosen"] == nil, present("rejected_response") != nil { return try rejectedResponse() }
        let prompt = try prompt(["chosen", "rejected"])
        return .preference(
            chosen: try answer("chosen", prompt: prompt), rejected: try answer("rejected", prompt: prompt))
    }

    /// `{"messages", "rejected_response"}`: the last message is the good answer.
    private func rejectedResponse() throws -> Row {
        guard let text = value("rejected_response")?.stringValue else {
            throw RowError(
                "\"rejected_response\": expected one answer (a text), found "
                    + "\(value("rejected_response")?.kindName ?? "nothing")")
        }
        let prompt = try judgedMessages()
        let rejected = Array(prompt.dropLast()) + [Message("assistant", text)]
        return .preference(
            chosen: .conversation(try conversation(prompt)), rejected: .conversation(try conversation(rejected)))
    }

    /// An answer with its prompt and `"label"`, or `"kto_tag"`.
    func judged() throws -> Row {
        let isGood = try label()
        if object["completion_ids"] != nil {
            return .judged(.tokens(try answerTokens("completion_ids")), isGood: isGood)
        }
        func has(_ keys: String...) -> Bool { keys.allSatisfy { object[$0].map { !$0.isNull } ?? false } }
        if !has("completion"), has("instruction", "output") {
            return .judged(try answer("output", prompt: prompt(["output"])), isGood: isGood)
        }
        if !has("completion"), has("messages") || has("conversations") {
            return .judged(.conversation(try conversation(try judgedMessages())), isGood: isGood)
        }
        return .judged(try answer("completion", prompt: prompt(["completion"])), isGood: isGood)
    }

    /// The messages of a row whose last one is judged; what comes before is its prompt.
    private func judgedMessages() throws -> [Message] {
        let key = object["messages"].map { !$0.isNull } ?? false ? "messages" : "conversations"
        let messages = try withSystem(turns(under: key))
        guard let last = messages.last, last.role == "assistant" else {
            throw RowError("\"\(key)\" must end with the answer of the assistant that is judged")
        }
        return messages.dropLast().map(\.untrained) + [Message(message: last.message, isTrainable: true)]
    }

    private static let goodWords = ["true", "yes", "desirable", "good", "chosen", "preferred", "positive"]
    private static let badWords = ["false", "no", "undesirable", "bad", "rejected", "dispreferred", "negative"]

    /// Whether an answer is good, in any of the spellings of tables; nil for other values.
    static func judgement(_ value: JSONValue) -> Bool? {
        if let flag = value.flag { return flag }
        if value.doubleValue == -1 { return false }
        guard let word = value.stringValue?.trimmedASCII.lowercased() else { return nil }
        if word == "-1" { return false }
        return goodWords.contains(word) ? true : badWords.contains(word) ? false : nil
    }

    private func label() throws -> Bool {
        let keys = ["kto_tag", "label"].filter { present($0) != nil }
        let found = keys.map { value($0) ?? .null }
        for (key, value) in zip(keys, found) where Self.judgement(value) == nil {
            throw RowError("\"\(key)\": expected true or false, found \(quoted(JSONWriter.text(value)))")
        }
        let flags = found.compactMap(Self.judgement)
        guard let first = flags.first else { throw RowError("\"label\": expected true or false, found nothing") }
        guard flags.allSatisfy({ $0 == first }) else {
            throw RowError("\"kto_tag\" and \"label\" say different things")
        }
        return first
    }

    private func answerTokens(_ key: String) throws -> TokenizedExample {
        let prompt = try integers("prompt_ids")
        let answer = try integers(key)
        guard !answer.isEmpty else { throw RowError("\"\(key)\" is empty") }
        return TokenizedExample(
            ids: prompt + answer, isTrained: prompt.map { _ in false } + answer.map { _ in true })
    }

    // MARK: Messages as text

    /// Puts messages in place of a text that holds them as JSON, as tables do.
    ///
    /// - Throws: `RowError` for messages in Python's notation.
    static func readMessageText(_ key: String, in object: inout JSONObject, _ record: RowRecord) throws {
        guard let text = object[key]?.stringValue, let first = text.utf8.first(where: { $0 > 0x20 }),
            first == UInt8(ascii: "[") || first == UInt8(ascii: "{")
        else { return }
        let bytes = Text(text.trimmedASCII)
        for quote in ["[{'role'", "[{'from'", "[{'content'", "{'messages'"] where bytes.hasPrefix(Text(quote)) {
            throw RowError("\"\(key)\" holds messages in Python's notation; write them as JSON (json.dumps)")
        }
        guard bytes.contains(Text("\"role\"")) || bytes.contains(Text("\"from\"")),
            let parsed = try? JSONParser.parse(text)
        else { return }
        let list = parsed["messages"] ?? (parsed.objectValue != nil ? [parsed] : parsed)
        guard let messages = list.arrayValue, !messages.isEmpty else { return }
        let roles = messages.compactMap { ($0["role"] ?? $0["from"])?.stringValue }
        guard roles.count == messages.count else { return }
        // An answer that is asked for as JSON may be a list of messages, too; one that ends with an answer is one.
        guard key == "prompt" || ["assistant", "gpt"].contains(roles[roles.count - 1]) else { return }
        if object["tools"].map(\.holdsNothing) ?? true, let tools = parsed["tools"], !tools.holdsNothing {
            object["tools"] = tools
        }
        object[key] = list
        record.note(.messageText, "\"\(key)\"")
    }

    // MARK: Prompts

    private enum Prompt {
        case text(String)
        case messages([Message])
        /// The answers hold it: this many of their messages, or of their bytes.
        case leading(Int)
    }

    /// The prompt of the answers under `keys`.
    private func prompt(_ keys: [String]) throws -> Prompt {
        let areMessages = keys.contains { object[$0]?.stringValue == nil }
        func after(_ messages: [Message]) throws -> Prompt {
            .messages(try withSystem(messages.map(\.untrained)))
        }
        if let key = ["prompt", "messages", "conversations"].first(where: { present($0) != nil }) {
            guard let text = value(key)?.stringValue, key == "prompt" else {
                return try after(turns(under: key))
            }
            if areMessages {
                // Some sets name the question apart and repeat it in the lists.
                if let leading = try leadingMessages(keys), leading > 0 { return .leading(leading) }
                return try after([Message("user", text)])
            }
            guard try string("system", default: "").isEmpty else {
                throw RowError("\"system\" needs a prompt that is a list of messages; here it is a text")
            }
            return .text(text)
        }
        if object["instruction"]?.stringValue != nil {
            let past = try history().flatMap { [Message("user", $0.0), Message("assistant", $0.1)] }
            return try after(past + [Message("user", try instructionPrompt())])
        }
        guard keys.count == 2 else { throw RowError("\"prompt\": expected a string or messages, found nothing") }
        if let key = ["question", "input", "query", "problem"].first(where: { !(object[$0]?.holdsNothing ?? true) }) {
            throw RowError(
                "there is no \"prompt\", but \"\(key)\"; name it with data.columns (--columns prompt=\(key))")
        }
        if areMessages {
            guard let leading = try leadingMessages(keys), leading > 0 else {
                throw RowError(
                    "there is no \"prompt\", and \"chosen\" and \"rejected\" do not begin with the same messages")
            }
            return .leading(leading)
        }
        return .leading(try leadingBytes(keys))
    }

    /// How many messages the answers have in common, when they begin with something else than an answer.
    private func leadingMessages(_ keys: [String]) throws -> Int? {
        let lists = keys.compactMap { object[$0]?.arrayValue }
        guard lists.count == keys.count, let first = lists.first,
            let role = (first.first?["role"] ?? first.first?["from"])?.stringValue,
            role != "assistant", role != "gpt"
        else { return nil }
        func isAnswer(_ message: JSONValue) -> Bool {
            ["assistant", "gpt"].contains((message["role"] ?? message["from"])?.stringValue ?? "")
        }
        guard lists.count == 2 else { return first.prefix(while: { !isAnswer($0) }).count }
        let count = zip(lists[0], lists[1]).prefix(while: {
            JSONWriter.text($0.0).hasSameBytes(as: JSONWriter.text($0.1))
        }).count
        // Equal answers are no preference, but have a prompt all the same.
        return min(count, first.count - 1)
    }

    /// The bytes that two texts have in common, without a space at their end: it belongs to the answers.
    private func leadingBytes(_ keys: [String]) throws -> Int {
        let texts = try keys.map { Array(try string($0).utf8) }
        var count = zip(texts[0], texts[1]).prefix(while: { $0 == $1 }).count
        // Not inside of a character.
        while count > 0, count < texts[0].count, texts[0][count] & 0xC0 == 0x80 { count -= 1 }
        // Equal texts have no prompt that could be told from the answer.
        if texts[0] == texts[1] { return 0 }
        if count > 0, texts[0][count - 1] == 0x20 { count -= 1 }
        return count
    }

    /// One answer after its prompt: texts as they are, anything else as a conversation.
    private func answer(_ key: String, prompt: Prompt) throws -> Row {
        let found = value(key)
        let text = found?.stringValue
        if let text {
            switch prompt {
            case .text(let before): return .completion(prompt: before, completion: text)
            case .leading(let count):
                let bytes = Array(text.utf8)
                return .completion(
                    prompt: String(decoding: bytes[..<count], as: UTF8.self),
                    completion: String(decoding: bytes[count...], as: UTF8.self))
            case .messages: break
            }
        }
        var answers: [Message]
        if let text {
            answers = [Message("assistant", text)]
        } else if let single = found, single.objectValue != nil {
            answers = [
                single["from"] != nil ? try turn(single, "\"\(key)\"") : try message(single, "\"\(key)\"")
            ]
        } else {
            answers = try turns(under: key)
        }
        switch prompt {
        case .messages(let before): answers = before + answers
        case .text(let before): answers.insert(Message("user", before), at: 0)
        case .leading(let count):
            for i in 0..<min(count, answers.count) { answers[i] = answers[i].untrained }
            answers = try withSystem(answers)
        }
        return .conversation(try conversation(answers))
    }
}
