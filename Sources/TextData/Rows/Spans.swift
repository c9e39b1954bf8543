internal import FileFormats

/// Text of a conversation, and the parts of it that are trained.
public struct TrainedText: Sendable {
    public var text: String
    /// UTF-8 byte ranges, in order, not overlapping.
    public var spans: [Range<Int>]
    /// What the losses of each span's tokens are multiplied with; empty: 1.
    public var weights: [Float] = []
    var isRewritten = false
}

/// Renders conversations and finds out which parts are what the model has to write.
///
/// A turn's part starts where a generation prompt would end, and runs to the end of the turn. Where the template marks
/// it (`{% generation %}`), those marks are taken. Otherwise it is found by rendering the conversation up to the turn
/// and through the turn; where the template writes a turn differently as the conversation goes on, by rendering the
/// whole conversation with that turn's content replaced, and seeing which part of the text changes.
struct SpanFinder {
    let renderer: ConversationRenderer
    let conversation: Conversation
    /// Stands for a content in a rendering; private characters, with which no real content begins or ends.
    private static let placeholder = "\u{10FFFD}\u{10FFFC}\u{10FFFD}"

    /// - Throws: what the template throws, or `RowError` when a turn cannot be found in the text.
    func trainedText(_ trainOn: ExampleOptions.TrainOn) throws -> TrainedText {
        let full = try renderer.render()
        var result = TrainedText(text: String(decoding: full.bytes, as: UTF8.self), spans: [])
        if trainOn == .all {
            result.spans = [0..<full.bytes.count]
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
        for turn in turns {
            let (span, isRewritten) = try span(of: turn, in: full.bytes)
            if isRewritten { result.isRewritten = true }
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
    private func markedSpans(_ full: RenderedBytes, _ turns: [Int]) throws -> [(turn: Int?, span: Range<Int>)]? {
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
        let before = prefixLength(part(turn, prompt: true), of: full)
        let through = isLast ? full : part(turn + 1, prompt: false)
        let after = prefixLength(through, of: full)
        if let before, let after, before <= after { return (before..<after, false) }
        guard let written = writtenRange(of: turn, in: full) else {
            throw RowError(
                "turn \(turn + 1): the chat template writes it differently as the conversation goes on, and its content "
                    + "cannot be found in the text; train_on: last avoids this")
        }
        var start = written.lowerBound
        if let before, before <= start { start = before }
        let end = after ?? written.upperBound + endLength(after: written, in: full, as: through)
        return (start..<max(end, written.upperBound), true)
    }

    /// A rendering of the first messages. Some templates refuse a conversation that ends there; that only means that
    /// this way is closed.
    private func part(_ count: Int, prompt: Bool) -> [UInt8]? {
        try? renderer.render(Array(renderer.messages[..<count]), prompt: prompt).bytes
    }

    /// The length of a part, when it is the start of the whole text.
    private func prefixLength(_ part: [UInt8]?, of full: [UInt8]) -> Int? {
        part.flatMap { Text(full).hasPrefix(Text($0)) ? $0.count : nil }
    }

    /// How much of the text behind what a turn wrote ends it: what a rendering that ends with the turn has there.
    private func endLength(after written: Range<Int>, in full: [UInt8], as part: [UInt8]?) -> Int {
        guard let part, !written.isEmpty, let place = Text(part).lastOffset(of: Text(full[written])) else { return 0 }
        let end = part[(place + written.count)...]
        return full[written.upperBound...].starts(with: end) ? end.count : 0
    }

    /// Where the content of a turn and its calls of tools stand.
    private func writtenRange(of turn: Int, in full: [UInt8]) -> Range<Int>? {
        guard var message = conversation.messages[turn].objectValue else { return nil }
        let calls = message["tool_calls"]?.arrayValue ?? []
        switch message["content"] {
        case .array?: message["content"] = [["type": "text", "text": .string(Self.placeholder)]]
        case nil, .null?:
            guard !calls.isEmpty else { return nil }
            fallthrough
        default: message["content"] = .string(Self.placeholder)
        }
        guard
            let content = changedRange(of: turn, in: full, with: .object(message), holding: Text(Self.placeholder))
        else { return nil }
        guard !calls.isEmpty, var other = conversation.messages[turn].objectValue else { return content }
        other["tool_calls"] = .array(calls.enumerated().map { ToolProbe.changed(call: $1, $0) })
        let called = changedRange(of: turn, in: full, with: .object(other), holding: Text([]))
        return content.lowerBound..<max(content.upperBound, called?.upperBound ?? 0)
    }

    /// Which part of the text differs when a turn is another that writes `mark`.
    private func changedRange(
        of turn: Int, in full: [UInt8], with message: JSONValue, holding mark: Text
    ) -> Range<Int>? {
        var messages = renderer.messages
        guard let changed = try? TemplateValue(message: message) else { return nil }
        messages[turn] = changed
        guard let bytes = try? renderer.render(messages).bytes, bytes != full, Text(bytes).contains(mark) else {
            return nil
        }
        var start = Text(full).commonLength(Text(bytes))
        var tail = min(Text(full).commonLength(Text(bytes), atEnd: true), min(full.count, bytes.count) - start)
        // Bytes in common may end inside a character.
        while start > 0, start < full.count, full[start] & 0xC0 == 0x80 { start -= 1 }
        while tail > 0, full[full.count - tail] & 0xC0 == 0x80 { tail -= 1 }
        return start..<max(start, full.count - tail)
    }
}
