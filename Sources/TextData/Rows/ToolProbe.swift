internal import FileFormats

/// Finds out which of a conversation's tools, calls, results and messages a chat template leaves out of the text: those
/// that can be changed without changing the text. Conversations without tools cost nothing, others two renderings more.
struct ToolProbe {
    let template: ChatTemplate
    let renderer: ConversationRenderer
    let conversation: Conversation
    /// Renderings that a row may cost when something does not show in the text.
    private static let renderingLimit = 8

    /// A call of a tool, or the result of one.
    private enum Part {
        case call(message: Int, index: Int, name: String)
        case result(message: Int)
    }

    /// - Parameter text: what the template makes of the conversation.
    func dropped(from text: String) -> [String] {
        var dropped: [String] = []
        let text = Array(text.utf8)
        if hasTools, let other = try? renderer.renderWithoutTools(by: template).bytes, other == text {
            dropped.append("the tools")
        }
        dropped += droppedMessages(from: text)
        let parts = parts
        guard !parts.isEmpty else { return dropped }
        guard let probed = render(changing: parts.indices) else { return dropped }
        let isNoneWritten = probed == text
        let bytes = Text(probed)
        var renderings = 0
        for (i, part) in parts.enumerated() {
            if !isNoneWritten {
                // What a template cuts or spells in another way is changed alone.
                if bytes.contains(Text(Self.mark(i))) || renderings == Self.renderingLimit { continue }
                renderings += 1
                guard let other = render(changing: i..<i + 1), other == text else { continue }
            }
            switch part {
            case .call(let message, _, let name): dropped.append("the call of \(name) in turn \(message + 1)")
            case .result(let message): dropped.append("the result in turn \(message + 1)")
            }
        }
        return dropped
    }

    /// Questions and instructions that do not stand in the text and can be changed without changing it.
    private func droppedMessages(from bytes: [UInt8]) -> [String] {
        let text = Text(bytes)
        var (start, renderings) = (0, 0)
        var dropped: [String] = []
        for (number, message) in conversation.messages.enumerated() {
            let role = message["role"]?.stringValue ?? ""
            guard role != "assistant", role != "tool",
                let content = message["content"]?.stringValue.map({ Text($0).stripped() }), !content.isEmpty
            else { continue }
            // Most stand there in order.
            if let place = text.firstOffset(of: content, in: start..<bytes.count) ?? text.firstOffset(of: content) {
                start = max(start, place)
                continue
            }
            var messages = renderer.messages
            guard renderings < Self.renderingLimit,
                let other = try? TemplateValue(message: message.setting("content", .string(Self.mark(number))))
            else { continue }
            renderings += 1
            messages[number] = other
            if let other = try? renderer.render(messages).bytes, other == bytes {
                dropped.append("the message of the role \(quoted(role)) in turn \(number + 1)")
            }
        }
        return dropped
    }

    private var hasTools: Bool {
        guard let tools = conversation.tools else { return false }
        return !(tools.isNull || tools.arrayValue?.isEmpty ?? false)
    }

    /// With other calls and results in place of the parts `indices`.
    private func render(changing indices: Range<Int>) -> [UInt8]? {
        var messages = renderer.messages
        for (number, message) in changed(indices) {
            guard let value = try? TemplateValue(message: message) else { return nil }
            messages[number] = value
        }
        // A template that refuses the change looks at what was changed.
        return try? renderer.render(messages).bytes
    }

    private var parts: [Part] {
        conversation.messages.enumerated().flatMap { number, message -> [Part] in
            let calls = (message["tool_calls"]?.arrayValue ?? []).enumerated().map { index, call in
                let name = (call["function"] ?? call)["name"]?.stringValue ?? "a tool"
                return Part.call(message: number, index: index, name: name)
            }
            let isResult =
                message["role"]?.stringValue == "tool" && message["content"]?.stringValue.map { !$0.isEmpty } ?? false
            return calls + (isResult ? [.result(message: number)] : [])
        }
    }

    private static func mark(_ index: Int) -> String { "qz\(index)zq" }

    /// The messages that are changed.
    private func changed(_ indices: Range<Int>) -> [Int: JSONValue] {
        var messages: [Int: JSONValue] = [:]
        let parts = parts
        for i in indices {
            switch parts[i] {
            case .result(let number):
                let message = messages[number] ?? conversation.messages[number]
                messages[number] = message.setting("content", .string(Self.mark(i)))
            case .call(let number, let index, _):
                let message = messages[number] ?? conversation.messages[number]
                guard var calls = message["tool_calls"]?.arrayValue else { continue }
                calls[index] = Self.changed(call: calls[index], i)
                messages[number] = message.setting("tool_calls", .array(calls))
            }
        }
        return messages
    }

    /// Another call in place of a call.
    static func changed(call: JSONValue, _ index: Int) -> JSONValue {
        guard let function = call["function"] else { return changed(call, index) }
        return call.setting("function", changed(function, index))
    }

    private static func changed(_ function: JSONValue, _ index: Int) -> JSONValue {
        let arguments: JSONValue =
            function["arguments"]?.stringValue == nil
            ? ["x": .string(mark(index))] : .string("{\"x\": \"\(mark(index))\"}")
        return function.setting("name", .string(mark(index))).setting("arguments", arguments)
    }
}

extension JSONValue {
    /// The object with another value of `key`; anything else as it is.
    fileprivate func setting(_ key: String, _ value: JSONValue) -> JSONValue {
        guard var object = objectValue else { return self }
        object[key] = value
        return .object(object)
    }
}
