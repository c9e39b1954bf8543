internal import FileFormats

extension Row {
    /// What people wrote: contents of messages, calls and reasoning, prompts, texts.
    var texts: [String] {
        switch self {
        case .conversation(let conversation):
            var found: [String] = []
            for message in conversation.messages {
                for (key, value) in message.objectValue?.entries ?? [] where !key.hasSameBytes(as: "role") {
                    Self.collect(value, &found)
                }
            }
            return found
        case .instruction(let system, let history, let prompt, let output):
            return [system] + history.flatMap { [$0.0, $0.1] } + [prompt, output]
        case .completion(let prompt, let completion): return [prompt, completion]
        case .text(let text): return [text]
        case .tokens: return []
        case .preference(let chosen, let rejected): return chosen.texts + rejected.texts
        case .judged(let row, _): return row.texts
        }
    }

    /// The texts, and whether each is written by the assistant.
    var passages: [(text: String, isAnswer: Bool)] {
        switch self {
        case .conversation(let conversation):
            var found: [(String, Bool)] = []
            for message in conversation.messages {
                let isAnswer = message["role"]?.stringValue == "assistant"
                var texts: [String] = []
                for (key, value) in message.objectValue?.entries ?? [] where !key.hasSameBytes(as: "role") {
                    Self.collect(value, &texts)
                }
                found += texts.map { ($0, isAnswer) }
            }
            return found
        case .instruction(let system, let history, let prompt, let output):
            return [(system, false)] + history.flatMap { [($0.0, false), ($0.1, true)] } + [
                (prompt, false), (output, true),
            ]
        case .completion(let prompt, let completion): return [(prompt, false), (completion, true)]
        case .text(let text): return [(text, false)]
        case .tokens: return []
        case .preference(let chosen, let rejected): return chosen.passages + rejected.passages
        case .judged(let row, _): return row.passages
        }
    }

    /// The texts that are trained as answers; of turns with a thought or a call, only those that have one.
    func answers(_ trainOn: ExampleOptions.TrainOn) -> [String] {
        switch self {
        case .conversation(let conversation):
            var turns = conversation.messages.indices.filter { conversation.isTrainable[$0] }
            if trainOn == .last { turns = turns.suffix(1) }
            return turns.compactMap { turn in
                let message = conversation.messages[turn]
                guard let text = message["content"]?.plainText else { return nil }
                let hasMore =
                    message["tool_calls"] != nil
                    || ChatTemplate.reasoningKeys.contains { message[$0]?.stringValue?.isEmpty == false }
                return hasMore && text.trimmedASCII.isEmpty ? nil : text
            }
        case .instruction(_, let history, _, let output): return history.map(\.1) + [output]
        case .completion(_, let completion): return [completion]
        case .text(let text): return [text]
        case .tokens: return []
        case .preference(let chosen, let rejected): return chosen.answers(trainOn) + rejected.answers(trainOn)
        case .judged(let row, _): return row.answers(trainOn)
        }
    }

    func forEachConversation(_ body: (Conversation) -> Void) {
        switch self {
        case .conversation(let conversation): body(conversation)
        case .preference(let chosen, let rejected):
            chosen.forEachConversation(body)
            rejected.forEachConversation(body)
        case .judged(let row, _): row.forEachConversation(body)
        case .instruction, .completion, .text, .tokens: break
        }
    }

    private static func collect(_ value: JSONValue, _ found: inout [String]) {
        if let text = value.stringValue {
            found.append(text)
        } else if let values = value.arrayValue {
            for value in values { collect(value, &found) }
        } else if let object = value.objectValue {
            for (_, value) in object.entries { collect(value, &found) }
        }
    }

    /// Whether a template puts its markers around the texts; prompts and plain texts may bring their own.
    var isRendered: Bool {
        switch self {
        case .conversation, .instruction: true
        case .completion, .text, .tokens: false
        case .preference(let row, _), .judged(let row, _): row.isRendered
        }
    }
}

extension JSONValue {
    /// The text of a content, also of one in parts.
    fileprivate var plainText: String? {
        if let text = stringValue { return text }
        return arrayValue.map { parts in parts.compactMap { $0["text"]?.stringValue }.joined() }
    }
}
