internal import FileFormats

/// The tokens that end a turn: those that the model's files declare, and what the chat template writes behind an answer.
struct TurnEnds: Sendable {
    private(set) var ids: Set<Int32>
    /// Tokens that are neither text nor tags: what a template may write behind the end of a turn.
    private var structure: Set<Int32> = []

    func contains(_ id: Int32) -> Bool { ids.contains(id) }
    func isStructure(_ id: Int32) -> Bool { structure.contains(id) }

    /// - Parameter declared: ids that end a text by the model's files.
    init(tokenizer: Tokenizer?, template: ChatTemplate?, declared: Set<Int32>) {
        ids = declared
        guard let tokenizer, let template else {
            // Without a template, any special token may end what is trained.
            ids.formUnion(tokenizer?.addedTokens.filter(\.isSpecial).map(\.id) ?? [])
            return
        }
        let tags = Self.tags(of: tokenizer)
        structure = tokenizer.addedIDs.subtracting(tags)
        var isKnown = false
        for template in [template] + template.toolUse {
            for ending in template.probe.endings {
                add(ending, tokenizer, tags)
                if !ending.isCall { isKnown = true }
            }
        }
        // A template that refuses the smallest conversation leaves it open.
        if !isKnown { ids.formUnion(tokenizer.addedTokens.filter { $0.isSpecial && !tags.contains($0.id) }.map(\.id)) }
    }

    /// Adds the token behind an answer that is none of text: the last one of a run, and of all behind a call. A model
    /// without an end of its own stops at the token that begins the next turn.
    private mutating func add(_ ending: TemplateProbe.Ending, _ tokenizer: Tokenizer, _ tags: Set<Int32>) {
        let marks = marks(ending.tail, tokenizer)
        var end = marks.last { !tags.contains($0.id) }
        if !ending.isCall, let first = marks.firstIndex(where: { !tags.contains($0.id) }) {
            var last = first
            while last + 1 < marks.count, marks[last + 1].isAdjacent, !ids.contains(marks[last].id) { last += 1 }
            end = marks[first...last].last { !tags.contains($0.id) }
        }
        if let end {
            ids.insert(end.id)
            // An answer amid a conversation may have another end than the last one.
            if !ending.isCall, let first = self.marks(ending.sequel, tokenizer).first, first.isBeforeText,
                !tags.contains(first.id), !marks.contains(where: { $0.id == first.id })
            {
                ids.insert(first.id)
            }
            return
        }
        let isContinued = ending.sequel.starts(with: ending.tail)
        let rest = isContinued ? Array(ending.sequel[ending.tail.count...]) : []
        if let next = self.marks(rest, tokenizer).first, next.isBeforeText, !tags.contains(next.id) {
            ids.insert(next.id)
        } else if !ending.isCall, let tag = marks.last {
            ids.insert(tag.id)
        }
    }

    /// The added tokens of a text: whether each follows another at once, and whether only white space stands before it.
    private func marks(
        _ text: [UInt8], _ tokenizer: Tokenizer
    ) -> [(id: Int32, isAdjacent: Bool, isBeforeText: Bool)] {
        let text = String(decoding: text, as: UTF8.self), bytes = Array(text.utf8)
        guard let encoding = try? tokenizer.encoding(of: text, addSpecialTokens: false) else { return [] }
        var (hasText, last) = (false, -1)
        return encoding.ids.indices.compactMap { i in
            let id = encoding.ids[i]
            guard tokenizer.addedIDs.contains(id) || ids.contains(id) else {
                if !bytes[encoding.byteRanges[i]].allSatisfy({ $0 == 0x20 || (0x09...0x0D).contains($0) }) {
                    hasText = true
                }
                return nil
            }
            defer { last = i }
            return (id, last == i - 1, !hasText)
        }
    }

    /// Tokens that come in pairs, such as `<think>` and `</think>`: they are of the text, and neither begin nor end a turn.
    static func tags(of tokenizer: Tokenizer) -> Set<Int32> {
        let own = [tokenizer.bosID, tokenizer.eosID].compactMap(\.self)
        var names: [ByteString: Int32] = [:]
        for token in tokenizer.addedTokens where !own.contains(token.id) { names[token.content] = token.id }
        var result: Set<Int32> = []
        for (name, id) in names where name.bytes.count > 3 && name.bytes.first == UInt8(ascii: "<") {
            let closing = ByteString(Array("</".utf8) + name.bytes.dropFirst())
            if let other = names[closing] { result.formUnion([id, other]) }
        }
        return result
    }
}
