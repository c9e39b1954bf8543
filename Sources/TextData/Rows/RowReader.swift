internal import FileFormats

/// Takes one object apart.
struct RowReader {
    let object: JSONObject
    let record = RowRecord()

    /// - Throws: `RowError` for messages in a notation that is not JSON.
    init(_ object: JSONObject, as shape: RowShape? = nil) throws {
        switch shape {
        case .preference, .kto, .completion:
            var object = object
            for key in ["prompt", "chosen", "rejected", "completion"] {
                try Self.readMessageText(key, in: &object, record)
            }
            self.object = object
        default: self.object = object
        }
    }

    /// The value of a key, which counts as read.
    func value(_ key: String) -> JSONValue? {
        guard let index = object.entries.firstIndex(where: { $0.key.hasSameBytes(as: key) }) else { return nil }
        record.markRead(index)
        return object.entries[index].value
    }

    /// The value of a key that says something.
    func present(_ key: String) -> JSONValue? { value(key).flatMap { $0.isNull ? nil : $0 } }

    func string(_ key: String, default fallback: String? = nil) throws -> String {
        let found = value(key)
        switch found {
        case .string(let text)?: return text
        case nil, .null?: if let fallback { return fallback }
        default: break
        }
        throw RowError("\"\(key)\": expected a string, found \(found?.kindName ?? "nothing")")
    }

    /// An array; one that comes as JSON text, as tables have it, is parsed.
    func array(_ key: String) throws -> [JSONValue] {
        let found = value(key)
        if let values = found?.arrayValue { return values }
        if let text = found?.stringValue {
            guard let values = (try? JSONParser.parse(text))?.arrayValue else {
                throw RowError("\"\(key)\": expected an array, found a string that is not one\(Self.hint(text))")
            }
            return values
        }
        if let columns = found?.objectValue, let rows = Self.transposed(columns) { return rows }
        throw RowError("\"\(key)\": expected an array, found \(found?.kindName ?? "nothing")")
    }

    /// What to say of text that should be JSON and is not.
    static func hint(_ text: String) -> String {
        let bytes = Text(text)
        let isPython = ["{'", "['", "[{'", "None", "True", "False"].contains { bytes.hasPrefix(Text($0)) }
        return isPython ? " (Python's notation? json.dumps writes JSON)" : ""
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

    // MARK: What is not read

    /// Keys with which other tools name what no text holds.
    static let media: [(key: String, what: String)] = [
        ("images", "pictures"), ("image", "pictures"), ("videos", "films"), ("video", "films"), ("audios", "sound"),
        ("audio", "sound"),
    ]
    /// Masks of other tools over tokens.
    static let tokenMasks = ["completion_mask", "assistant_masks", "loss_mask"]
    static let refusedKeys = ["prompt_mask", "train_on_turn"]

    /// - Throws: `RowError` for keys without which the row would mean something else.
    func refuseWhatIsNotRead(in shape: RowShape) throws {
        guard shape != .tokens else { return }
        for (key, value) in object.entries where !value.holdsNothing {
            if let media = Self.media.first(where: { $0.key.hasSameBytes(as: key) }) {
                throw RowError(
                    "\"\(key)\": graft trains on text and does not read \(media.what); leave out rows that need them, or "
                        + "take the key out of those that do not")
            }
            if (Self.tokenMasks + Self.refusedKeys).contains(where: { $0.hasSameBytes(as: key) }) {
                throw RowError(
                    "\"\(key)\" says which tokens or turns are trained, which graft reads only beside \"input_ids\" (a "
                        + "mask), or in the messages themselves (\"train\": true or false)")
            }
        }
    }

    // MARK: Tokens

    func tokens() throws -> TokenizedExample {
        var ids = try integers("input_ids")
        guard !ids.isEmpty else { throw RowError("\"input_ids\" is empty") }
        var isTrained = Array(repeating: true, count: ids.count)
        if present("labels") != nil {
            let labels = try integers("labels")
            guard labels.count == ids.count else {
                throw RowError("\"labels\" has \(labels.count) entries, \"input_ids\" has \(ids.count)")
            }
            for (i, (id, label)) in zip(ids, labels).enumerated() where label != ignoredTarget && label != id {
                throw RowError(
                    "\"labels\"[\(i)] is \(label), \"input_ids\"[\(i)] is \(id); a label is the id at the same place or "
                        + "-100 (graft shifts)")
            }
            isTrained = labels.map { $0 != ignoredTarget }
        }
        // As in TRL, what each of them leaves is trained.
        for key in Self.tokenMasks where present(key) != nil {
            for (i, keeps) in try mask(key, count: ids.count).enumerated() where !keeps { isTrained[i] = false }
        }
        if present("prompt_mask") != nil {
            throw RowError(
                "\"prompt_mask\" is not read; give \"labels\" with -100 for the prompt, or \"completion_mask\"")
        }
        if present("attention_mask") != nil {
            let isSeen = try mask("attention_mask", count: ids.count)
            guard let first = isSeen.firstIndex(of: true), let last = isSeen.lastIndex(of: true) else {
                throw RowError("\"attention_mask\" hides every token")
            }
            guard isSeen[first...last].allSatisfy({ $0 }) else {
                throw RowError("\"attention_mask\" hides tokens amid others; only padding at the ends can be left out")
            }
            (ids, isTrained) = (Array(ids[first...last]), Array(isTrained[first...last]))
        }
        try refusePackedTokens()
        return TokenizedExample(ids: ids, isTrained: isTrained)
    }

    /// Several texts in one row would see each other.
    private func refusePackedTokens() throws {
        var isPacked = false
        if present("position_ids") != nil {
            let positions = try integers("position_ids")
            isPacked = zip(positions.dropFirst(), positions).contains { $0 <= $1 }
        }
        if present("seq_lengths") != nil { isPacked = try array("seq_lengths").count > 1 || isPacked }
        guard !isPacked else {
            throw RowError(
                "the row packs several texts, which would see each other; give each text a row (graft packs)")
        }
    }

    private func mask(_ key: String, count: Int) throws -> [Bool] {
        let values = try array(key)
        guard values.count == count else {
            throw RowError("\"\(key)\" has \(values.count) entries, \"input_ids\" has \(count)")
        }
        return try values.enumerated().map { i, value in
            switch value {
            case .bool(let flag): return flag
            case .integer(0): return false
            case .integer(1): return true
            default: throw RowError("\"\(key)\"[\(i)]: expected 0 or 1, found \(JSONWriter.text(value))")
            }
        }
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

    // MARK: Instructions

    func instruction() throws -> Row {
        let prompt = try instructionPrompt(), history = try history()
        let system = try string("system", default: ""), output = try string("output")
        let tools = try tools(), variables = try variables()
        guard tools != nil || variables.count > 0 else {
            return .instruction(system: system, history: history, prompt: prompt, output: output)
        }
        // Only a template has a place for these.
        var conversation = ExampleBuilder.conversation(system, history, prompt, output)
        (conversation.tools, conversation.variables) = (tools, variables)
        return .conversation(conversation)
    }

    /// The instruction with its input.
    func instructionPrompt() throws -> String {
        let instruction = try string("instruction"), input = try string("input", default: "")
        return input.isEmpty ? instruction : instruction.isEmpty ? input : instruction + "\n" + input
    }

    /// Earlier questions with their answers.
    func history() throws -> [(String, String)] {
        guard let found = present("history"), found.stringValue?.isEmpty != true else { return [] }
        return try array("history").enumerated().map { i, turn in
            guard let pair = turn.arrayValue, pair.count == 2, let question = pair[0].stringValue,
                let answer = pair[1].stringValue
            else { throw RowError("\"history\"[\(i)]: expected a pair of strings") }
            return (question, answer)
        }
    }
}
