internal import FileFormats

// One row to one example.
extension ExampleBuilder {
    /// The example of one row, whatever its length.
    ///
    /// - Throws: `RowError`, or what the template throws.
    public func example(for row: Row) throws -> TokenizedExample { try example(of: row, turnEnds).example }

    /// The tokens that end a turn; to be made once for many rows.
    var turnEnds: TurnEnds {
        TurnEnds(
            tokenizer: tokenizer, template: template, declared: stopIDs.union([endID].compactMap(\.self)))
    }

    /// - Throws: `RowError` for an id that the model has no row for: of rows that are tokenised already, or of a tokenizer
    ///   with more tokens than the model.
    func checkIDs(_ example: TokenizedExample) throws {
        func isBad(_ id: Int32) -> Bool { id < 0 || Int(id) >= vocabularySize }
        var bad = example.ids.first(where: isBad)
        if case .chosen(let ids, _)? = example.judgement { bad = bad ?? ids.first(where: isBad) }
        guard let bad else { return }
        let size = tokenizer.map(\.vocabularySize) ?? 0
        throw RowError(
            "the token id \(bad) is outside of the vocabulary of \(vocabularySize) (the rows of the embedding)"
                + (size > Int(bad) && bad >= 0
                    ? "; the tokenizer has \(size) tokens: it is another model's, or the model's vocab_size is too small"
                    : ""))
    }

    /// - Throws: `RowError` when the objective has no use for such a row.
    private func require(_ kinds: ExampleOptions.Kind..., found what: String) throws {
        if kinds.contains(options.kind) { return }
        let reason = "\(what), but \(options.kind.demand)"
        throw options.kind == .supervised ? RowError(reason, lint: .judgedRows) : RowError(reason)
    }

    /// The example of a prompt and an answer to it. All that follows the prompt is trained, to the last token, as
    /// TRL's trainers take it: also what a template writes after the token that ends a turn.
    private func answer(_ row: Row, _ ends: TurnEnds) throws -> MadeExample {
        switch row {
        case .conversation(let conversation): try example(of: conversation, ends, trainsTail: true)
        default: try example(ofAny: row, ends)
        }
    }

    func example(of row: Row, _ ends: TurnEnds) throws -> MadeExample {
        // Of judged rows that are accepted, good answers are learned and bad ones left out.
        let takesGood = options.kind == .supervised && options.accepts.contains(.judgedRows)
        switch row {
        case .preference(let chosen, _) where takesGood: return try example(ofAny: chosen, ends)
        case .judged(let row, isGood: true) where takesGood: return try example(ofAny: row, ends)
        case .preference, .judged: break
        default: try require(.supervised, found: "a row without a judgement")
        }
        return try example(ofAny: row, ends)
    }

    private func example(ofAny row: Row, _ ends: TurnEnds) throws -> MadeExample {
        switch row {
        case .tokens(let example):
            return MadeExample(
                example: example,
                reasonWithoutLabels: "every label is -100 or masked (or only the first is not): nothing is trained")
        case .text(let text): return try example(text: text, trainedFrom: 0)
        case .completion(let prompt, let completion):
            var made = try example(text: prompt + completion, trainedFrom: prompt.utf8.count)
            // Who writes the template's tokens into the texts has put it there already.
            let hasMarkers = zip(made.example.ids, made.byteRanges).contains {
                !$1.isEmpty && tokenizer?.isSpecial($0) == true
            }
            if template != nil, !prompt.isEmpty, !hasMarkers { made.notes[.plainPrompt] = "" }
            return made
        case .conversation(let conversation): return try example(of: conversation, ends)
        case .preference(let chosen, let rejected):
            try require(.preference, .judged, found: "a preference row")
            var made = try answer(chosen, ends)
            let other = try answer(rejected, ends)
            made.notes.merge(other.notes) { $0.isEmpty ? $1 : $0 }
            made.lacksEnd = made.lacksEnd || other.lacksEnd
            if made.example.ids == other.example.ids { made.notes[.sameAnswers] = "" }
            if made.example.trainedCount > 0 { made.reasonWithoutLabels = other.reasonWithoutLabels }
            made.example.judgement = .chosen(ids: other.example.ids, isTrained: other.example.isTrained)
            return made
        case .judged(let row, let isGood):
            try require(.judged, found: "a KTO row")
            var made = try answer(row, ends)
            made.example.judgement = .label(isGood)
            return made
        case .instruction(let system, let history, let prompt, let output):
            guard template == nil else {
                return try example(of: Self.conversation(system, history, prompt, output), ends)
            }
            let before = [system] + history.flatMap { [$0.0, $0.1] } + [prompt, ""]
            let start = before.enumerated().filter { !$1.isEmpty || $0 == before.count - 1 }.map(\.element)
                .joined(separator: "\n\n")
            var made = try example(text: start + output, trainedFrom: start.utf8.count)
            made.notes[.noTemplate] = ""
            return made
        }
    }

    /// The conversation an instruction row stands for.
    static func conversation(
        _ system: String, _ history: [(String, String)], _ prompt: String, _ output: String
    ) -> Conversation {
        var messages: [JSONValue] = []
        if !system.isEmpty { messages.append(["role": "system", "content": .string(system)]) }
        for (question, answer) in history + [(prompt, output)] {
            messages.append(["role": "user", "content": .string(question)])
            messages.append(["role": "assistant", "content": .string(answer)])
        }
        return Conversation(messages: messages)
    }

    /// Plain text with the tokenizer's own special tokens around it, and the end of text trained.
    private func example(text: String, trainedFrom start: Int) throws -> MadeExample {
        let tokenizer = try requireTokenizer()
        let encoding = try tokenizer.encoding(of: text, addSpecialTokens: true)
        let end = text.utf8.count
        let isAll = options.trainOn == .all || start == 0
        let prefix = tokenizer.addedPrefix.count
        var ids = encoding.ids
        var isTrained = encoding.byteRanges.enumerated().map { i, range in
            isAll || i >= prefix && Self.overlaps(range, start..<end) || range.lowerBound == end && end > 0
        }
        if let eos = endID, ids.last != eos {
            ids.append(eos)
            isTrained.append(true)
        }
        return MadeExample(
            example: TokenizedExample(ids: ids, isTrained: isTrained),
            reasonWithoutLabels: end == start ? "there is no text to train on" : nil,
            notes: endID == nil ? [.noStopToken: ""] : [:],
            lacksEnd: !isAll && ids.last.map { !(tokenizer.isSpecial($0) || $0 == endID) } ?? false,
            text: text, byteRanges: encoding.byteRanges)
    }

    /// A conversation as its template writes it, and what is trained of it.
    private struct Rendered {
        var conversation: Conversation
        var trained: TrainedText
        var dropped: [String]
    }

    private func rendered(_ given: Conversation) throws -> Rendered {
        let template = try requireTemplate()
        func render(_ conversation: Conversation) throws -> Rendered {
            let renderer = try ConversationRenderer(template, conversation, now: options.now)
            let trained = try SpanFinder(renderer: renderer, conversation: conversation).trainedText(options.trainOn)
            let probe = ToolProbe(template: template, renderer: renderer, conversation: conversation)
            return Rendered(conversation: conversation, trained: trained, dropped: probe.dropped(from: trained.text))
        }
        let conversation = given.fitted(to: template)
        do { return try render(conversation) } catch let error as TextError {
            // Some templates take a content that is empty, but none that is missing.
            guard let filled = conversation.withEmptyContents, let result = try? render(filled) else { throw error }
            return result
        }
    }

    private func example(
        of given: Conversation, _ stops: TurnEnds, trainsTail: Bool = false
    ) throws -> MadeExample {
        let tokenizer = try requireTokenizer()
        let rendered = try rendered(given)
        let trained = rendered.trained
        // The template writes BOS and all other special tokens itself.
        let encoding = try tokenizer.encoding(of: trained.text, addSpecialTokens: false)
        var isTrained = Array(repeating: false, count: encoding.ids.count)
        var weights = trained.weights.isEmpty ? nil : Array(repeating: Float(1), count: encoding.ids.count)
        var index = 0
        var notes: [ExampleNote: String] = trained.isRewritten ? [.rewrittenTurns: ""] : [:]
        if !rendered.dropped.isEmpty {
            let parts = rendered.dropped
            let rest = parts.count > 2 ? " and \(parts.count - 2) more" : ""
            notes[.droppedParts] = parts.prefix(2).joined(separator: ", ") + rest
        }
        var hasEnd = false
        let text = Array(trained.text.utf8)
        for (number, span) in trained.spans.enumerated() {
            while index < isTrained.count, encoding.byteRanges[index].upperBound <= span.lowerBound,
                encoding.byteRanges[index].lowerBound < span.lowerBound
            { index += 1 }
            var end = index
            while end < isTrained.count, Self.overlaps(encoding.byteRanges[end], span) {
                isTrained[end] = true
                end += 1
            }
            if options.trainOn != .all, end > index {
                let hasStop = Self.settleEnd(
                    of: index..<end, encoding, text, stops: stops, &isTrained)
                if hasStop { hasEnd = true } else { notes[.noStopToken] = "" }
                if trainsTail, span.upperBound == text.count { for i in index..<end { isTrained[i] = true } }
            }
            if weights != nil {
                // The token that ends the turn may stand behind the span.
                for i in index..<min(end + 1, isTrained.count) where isTrained[i] {
                    weights?[i] = trained.weights[number]
                }
            }
            index = end
        }
        return MadeExample(
            example: TokenizedExample(ids: encoding.ids, isTrained: isTrained, weights: weights),
            reasonWithoutLabels: trained.spans.isEmpty ? reasonWithoutTurns(rendered.conversation) : nil,
            notes: notes, lacksEnd: options.trainOn != .all && !hasEnd, text: trained.text,
            byteRanges: encoding.byteRanges)
    }

    /// Why no turn of a conversation is trained.
    private func reasonWithoutTurns(_ conversation: Conversation) -> String {
        var roles: [String] = []
        for role in conversation.messages.compactMap({ $0["role"]?.stringValue })
        where !roles.contains(where: { $0.hasSameBytes(as: role) }) { roles.append(role) }
        if roles.contains("assistant") {
            return "no turn of the assistant is trained: the row's own flags or weights keep them all from it, or the "
                + "chat template writes none of them (train_on is \(options.trainOn.rawValue))"
        }
        let names = roles.prefix(8).map { quoted($0) }.joined(separator: ", ")
        return
            "no turn is trained: graft trains the role \"assistant\" (train_on is \(options.trainOn.rawValue)), and the "
            + "role\(roles.count == 1 ? " here is" : "s here are") \(names); rename the role of the answers to assistant"
    }

    /// The rendered text of a conversation and which parts of it are trained.
    public func trainedText(of conversation: Conversation) throws -> TrainedText {
        try rendered(conversation).trained
    }

    private func requireTemplate() throws -> ChatTemplate {
        guard let template else {
            throw RowError("the row is a conversation, but the model has no chat template; add chat_template.jinja")
        }
        return template
    }

    /// A turn ends with its end-of-turn token: one that follows the trained tokens is trained too, and white space
    /// after it is not. Returns whether there is such a token.
    private static func settleEnd(
        of tokens: Range<Int>, _ encoding: Encoding, _ text: [UInt8], stops: TurnEnds, _ isTrained: inout [Bool]
    ) -> Bool {
        var last = tokens.upperBound - 1
        // Some templates write what begins the next turn behind the last one.
        var end = last
        while end > tokens.lowerBound, !stops.contains(encoding.ids[end]), stops.isStructure(encoding.ids[end]) {
            end -= 1
        }
        if stops.contains(encoding.ids[end]) { last = end }
        func isSpace(_ index: Int) -> Bool {
            text[encoding.byteRanges[index]].allSatisfy { $0 == 0x20 || $0 == 0x0A || $0 == 0x0D || $0 == 0x09 }
        }
        while last > tokens.lowerBound, !stops.contains(encoding.ids[last]), isSpace(last) { last -= 1 }
        if stops.contains(encoding.ids[last]) {
            for i in (last + 1)..<max(tokens.upperBound, last + 1) { isTrained[i] = false }
            return true
        }
        let next = tokens.upperBound
        guard next < encoding.ids.count, stops.contains(encoding.ids[next]) else { return false }
        isTrained[next] = true
        return true
    }

    /// Whether a token belongs to a span; one without text of its own does when it stands inside.
    private static func overlaps(_ token: Range<Int>, _ span: Range<Int>) -> Bool {
        token.isEmpty
            ? token.lowerBound > span.lowerBound && token.lowerBound < span.upperBound
            : token.lowerBound < span.upperBound && token.upperBound > span.lowerBound
    }

    private func requireTokenizer() throws -> Tokenizer {
        guard let tokenizer else {
            throw RowError("the model has no tokenizer; only rows with \"input_ids\" can be used")
        }
        return tokenizer
    }
}
