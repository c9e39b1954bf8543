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
        let prompt = try prompt(["chosen", "rejected"])
        return .preference(
            chosen: try answer("chosen", prompt: prompt), rejected: try answer("rejected", prompt: prompt))
    }

    /// `{"prompt", "completion", "label"}`
    func judged() throws -> Row {
        guard let isGood = label else {
            throw RowError("\"label\": expected true or false, found \(object["label"]?.kindName ?? "nothing")")
        }
        if object["completion_ids"] != nil {
            return .judged(.tokens(try answerTokens("completion_ids")), isGood: isGood)
        }
        return .judged(try answer("completion", prompt: prompt(["completion"])), isGood: isGood)
    }

    private var label: Bool? {
        if let flag = object["label"]?.boolValue { return flag }
        // Tables may write truth as a number or a word.
        switch object["label"] {
        case .string(let word)?:
            return ["true", "True", "1"].contains(word) ? true : ["false", "False", "0"].contains(word) ? false : nil
        case let value?: return value.doubleValue == 1 ? true : value.doubleValue == 0 ? false : nil
        case nil: return nil
        }
    }

    private func answerTokens(_ key: String) throws -> TokenizedExample {
        let prompt = try integers("prompt_ids")
        let answer = try integers(key)
        guard !answer.isEmpty else { throw RowError("\"\(key)\" is empty") }
        return TokenizedExample(
            ids: prompt + answer, isTrained: prompt.map { _ in false } + answer.map { _ in true })
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
        let system = try string("system", default: "")
        func withSystem(_ messages: [Message]) -> Prompt {
            let has = messages.first?.message["role"]?.stringValue == "system"
            return .messages(
                (system.isEmpty || has
                    ? [] : [Message(message: ["role": "system", "content": .string(system)], isTrainable: false)])
                    + messages.map(\.untrained))
        }
        if let key = ["prompt", "messages", "conversations"].first(where: { object[$0].map { !$0.isNull } ?? false }) {
            guard let text = object[key]?.stringValue, key == "prompt" else {
                return withSystem(key == "prompt" ? try messages(key) : try turns(under: key))
            }
            if areMessages {
                // Some sets name the question apart and repeat it in the lists.
                if let leading = try leadingMessages(keys), leading > 0 { return .leading(leading) }
                return withSystem([Message(message: ["role": "user", "content": .string(text)], isTrainable: false)])
            }
            guard system.isEmpty else {
                throw RowError("\"system\" needs a prompt that is a list of messages; here it is a text")
            }
            return .text(text)
        }
        if let instruction = object["instruction"]?.stringValue {
            let input = try string("input", default: "")
            let text = input.isEmpty ? instruction : instruction + "\n" + input
            return withSystem([Message(message: ["role": "user", "content": .string(text)], isTrainable: false)])
        }
        guard keys.count == 2 else { throw RowError("\"prompt\": expected a string or messages, found nothing") }
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
        guard lists.count == keys.count, let first = lists.first, let role = first.first?["role"]?.stringValue,
            role != "assistant"
        else { return nil }
        guard lists.count == 2 else {
            return first.prefix(while: { $0["role"]?.stringValue != "assistant" }).count
        }
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
        if count > 0, texts[0][count - 1] == 0x20 { count -= 1 }
        return count
    }

    /// One answer after its prompt: texts as they are, anything else as a conversation.
    private func answer(_ key: String, prompt: Prompt) throws -> Row {
        let text = object[key]?.stringValue
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
            answers = [Message(message: ["role": "assistant", "content": .string(text)], isTrainable: true)]
        } else if let single = object[key], single.objectValue != nil {
            answers = [
                single["from"] != nil
                    ? try turn(single, "\"\(key)\"", index: 0) : try message(single, "\"\(key)\"")
            ]
        } else {
            answers = try messages(key)
        }
        switch prompt {
        case .messages(let before): answers = before + answers
        case .text(let before):
            answers.insert(Message(message: ["role": "user", "content": .string(before)], isTrainable: false), at: 0)
        case .leading(let count): for i in 0..<min(count, answers.count) { answers[i] = answers[i].untrained }
        }
        return .conversation(try conversation(answers))
    }
}
