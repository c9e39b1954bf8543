internal import FileFormats

/// Text of a conversation, and the parts of it that are trained.
public struct TrainedText: Sendable {
    public var text: String
    /// UTF-8 byte ranges, in order, not overlapping.
    public var spans: [Range<Int>]
    /// What the losses of each span's tokens are multiplied with; empty: 1.
    public var weights: [Float] = []
    var notes: Set<ExampleNote> = []
}

/// Renders conversations and finds out which parts are what the model has to write.
///
/// A turn's part starts where a generation prompt would end, and runs to the end of the turn. Where the template marks
/// it (`{% generation %}`), those marks are taken. Otherwise it is found by rendering the conversation up to the turn
/// and through the turn; where the template writes a turn differently as the conversation goes on, by rendering the
/// whole conversation with that turn's content replaced, and seeing which part of the text changes.
struct SpanFinder {
    let template: ChatTemplate
    let conversation: Conversation
    let now: CivilTime
    /// Stands for a content in a rendering; private characters, with which no real content begins or ends.
    private static let placeholder = "\u{10FFFD}\u{10FFFC}\u{10FFFD}"

    private func render(_ messages: [JSONValue], prompt: Bool) throws -> RenderedText {
        try template.render(
            messages: messages, tools: conversation.tools, addGenerationPrompt: prompt, extra: conversation.variables,
            now: now)
    }

    /// - Throws: what the template throws, or `RowError` when a turn cannot be found in the text.
    func trainedText(_ trainOn: ExampleOptions.TrainOn) throws -> TrainedText {
        let full = try render(conversation.messages, prompt: false)
        var result = TrainedText(text: full.text, spans: [])
        if trainOn == .all {
            result.spans = [0..<full.text.utf8.count]
            return result
        }
        var turns = conversation.messages.indices.filter { conversation.isTrainable[$0] }
        if trainOn == .last { turns = turns.suffix(1) }
        guard !turns.isEmpty else { return result }
        if let marked = try markedSpans(full, turns) {
            result.spans = marked.map(\.span).filter { !$0.isEmpty }
            if let weights = conversation.weights {
                result.weights = marked.filter { !$0.span.isEmpty }.map { $0.turn.map { weights[$0] } ?? 1 }
            }
            return result
        }
        let bytes = Array(full.text.utf8)
        for turn in turns {
            let (span, isRewritten) = try span(of: turn, in: bytes)
            if isRewritten { result.notes.insert(.rewrittenTurns) }
            guard !span.isEmpty else { continue }
            if let last = result.spans.last, span.lowerBound < last.upperBound {
                throw RowError("the chat template puts turn \(turn + 1) before the end of an earlier one")
            }
            result.spans.append(span)
            if let weights = conversation.weights { result.weights.append(weights[turn]) }
        }
        return result
    }

    /// The template's own marks of `turns`; nil when it has none, or when they cannot be told apart.
    private func markedSpans(_ full: RenderedText, _ turns: [Int]) throws -> [(turn: Int?, span: Range<Int>)]? {
        guard let spans = full.generationSpans else { return nil }
        let assistants = conversation.messages.indices.filter {
            conversation.messages[$0]["role"]?.stringValue == "assistant"
        }
        guard spans.count == assistants.count else {
            return turns == assistants && conversation.weights == nil ? spans.map { (nil, $0) } : nil
        }
        return zip(assistants, spans).filter { turns.contains($0.0) }
    }

    private func span(of turn: Int, in full: [UInt8]) throws -> (Range<Int>, isRewritten: Bool) {
        let isLast = turn == conversation.messages.count - 1
        let before = prefixLength(Array(conversation.messages[..<turn]), prompt: true, of: full)
        let after = isLast ? full.count : prefixLength(Array(conversation.messages[...turn]), prompt: false, of: full)
        if let before, let after, before <= after { return (before..<after, false) }
        guard let content = contentRange(of: turn, in: full) else {
            throw RowError(
                "turn \(turn + 1): the chat template writes it differently as the conversation goes on, and its content "
                    + "cannot be found in the text; train_on: last avoids this")
        }
        var start = content.lowerBound
        if let before, before <= start { start = before }
        return (start..<(after.map { max($0, content.upperBound) } ?? content.upperBound), true)
    }

    /// The length of a rendering of the first messages, when it is the start of the whole text.
    private func prefixLength(_ messages: [JSONValue], prompt: Bool, of full: [UInt8]) -> Int? {
        // Some templates refuse a conversation that ends here; that only means that this way is closed.
        guard let text = try? render(messages, prompt: prompt).text else { return nil }
        return full.starts(with: text.utf8) ? text.utf8.count : nil
    }

    /// Where the content of a turn stands: what differs when the content is another.
    private func contentRange(of turn: Int, in full: [UInt8]) -> Range<Int>? {
        var messages = conversation.messages
        guard var message = messages[turn].objectValue else { return nil }
        switch message["content"] {
        case .string?: message["content"] = .string(Self.placeholder)
        case .array?: message["content"] = [["type": "text", "text": .string(Self.placeholder)]]
        default: return nil
        }
        messages[turn] = .object(message)
        guard let other = try? render(messages, prompt: false).text,
            Text(other).contains(Text(Self.placeholder))
        else { return nil }
        let bytes = Array(other.utf8)
        var start = 0
        while start < min(full.count, bytes.count), full[start] == bytes[start] { start += 1 }
        var tail = 0
        while tail < min(full.count, bytes.count) - start, full[full.count - 1 - tail] == bytes[bytes.count - 1 - tail]
        {
            tail += 1
        }
        // Bytes in common may end inside a character.
        while start > 0, start < full.count, full[start] & 0xC0 == 0x80 { start -= 1 }
        while tail > 0, full[full.count - tail] & 0xC0 == 0x80 { tail -= 1 }
        return start..<max(start, full.count - tail)
    }
}
