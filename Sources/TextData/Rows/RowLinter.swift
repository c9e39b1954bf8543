internal import FileFormats
import Foundation

/// What checks of rows need of a model, prepared once.
struct RowLinter: Sendable {
    /// The share of byte tokens in a row, and the fewest letters they spell, from which a script counts as unknown.
    private static let fallbackShare = 0.25
    private static let fallbackLetters = 8
    /// The share of a script's letters that take a token for each of their bytes from which a vocabulary does not know
    /// the script. A letter that is made of a merge of its first bytes and one byte more is spelled poorly, yet learned:
    /// many byte-level vocabularies write Kannada or Telugu so.
    private static let spelledShare = 0.5

    /// The tokens that end a turn.
    let ends: TurnEnds
    private let bosID: Int32?
    /// What the template may look up: every name that stands in its source.
    private let names: Set<ByteString>
    /// What the template writes where an answer begins.
    private let opening: [UInt8]
    /// By id, whether the token is one byte of a longer character; empty where the vocabulary has none.
    private let isByte: [Bool]
    /// Special tokens and literal markers by their first byte.
    private let markers: [UInt8: [Marker]]
    /// What stands before a turn in plain words, such as `### Response:`; counts at the start of a line.
    private let headings: [[UInt8]]
    private let beginsMarker: [Bool]

    private struct Marker {
        enum Kind {
            /// Begins or ends turns, or steers the tokenizer.
            case structure
            /// One of a pair such as `<think>` and `</think>`, which an answer may write itself.
            case tag
            /// Stands for what is no text.
            case media
        }
        var bytes: [UInt8]
        var kind = Kind.structure
    }

    init(_ builder: ExampleBuilder) {
        let tokenizer = builder.tokenizer, template = builder.template
        ends = builder.turnEnds
        bosID = tokenizer?.bosID
        let sources = [template?.source].compactMap(\.self) + (template?.toolUse.map(\.source) ?? [])
        names = sources.reduce(into: []) { $0.formUnion(Self.names(in: Array($1.utf8))) }
        opening = template.map(Self.opening) ?? []
        let tags = tokenizer.map(TurnEnds.tags) ?? []
        var markers: [Marker] = ["<image>", "<video>", "<audio>"].map { Marker(bytes: Array($0.utf8), kind: .media) }
        func add(_ bytes: [UInt8], _ kind: Marker.Kind) {
            if !markers.contains(where: { $0.bytes == bytes }) { markers.append(Marker(bytes: bytes, kind: kind)) }
        }
        for token in tokenizer?.addedTokens ?? [] where token.isSpecial && token.content.bytes.count >= 3 {
            add(token.content.bytes, tags.contains(token.id) ? .tag : .structure)
        }
        for source in sources {
            for literal in Self.literalMarkers(in: Array(source.utf8)) { add(literal, .structure) }
        }
        let sorted = markers.sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }
        let grouped = Dictionary(grouping: sorted) { $0.bytes[0] }
        self.markers = grouped
        beginsMarker = (UInt8.min...UInt8.max).map { grouped[$0] != nil }
        headings = template.map(Self.headings) ?? []
        isByte = tokenizer?.byteTokens ?? []
    }

    /// The names and words of a template.
    private static func names(in source: [UInt8]) -> Set<ByteString> {
        let words = source.split { byte in
            !(byte == UInt8(ascii: "_") || (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte & 0xDF))
        }
        return Set(words.map { ByteString($0) })
    }

    /// What a template writes between the last message and an answer, without white space around it.
    private static func opening(of template: ChatTemplate) -> [UInt8] {
        let messages: [JSONValue] = [["role": "user", "content": "question"]]
        let now = CivilTime(iso: "2024-01-01") ?? .now()
        guard let open = try? template.render(messages: messages, now: now).text,
            let prompted = try? template.render(messages: messages, addGenerationPrompt: true, now: now).text,
            prompted.utf8.starts(with: open.utf8)
        else { return [] }
        // A prompt may go on with a thought; what begins the turn stands in its first line.
        let added = prompted.utf8.dropFirst(open.utf8.count).drop { $0 <= 0x20 }
        return Array(added.prefix { $0 != 0x0A })
    }

    // MARK: Markers

    /// Markers that a template writes as plain text: `<|...|>`, the same with U+FF5C, and the brackets of instructions.
    static func literalMarkers(in source: [UInt8]) -> Set<[UInt8]> {
        var found: Set<[UInt8]> = []
        for literal in ["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"] {
            let bytes = Array(literal.utf8)
            if Text(source).contains(Text(bytes)) { found.insert(bytes) }
        }
        for bar in ["|", "\u{FF5C}"] {
            let (open, close) = (Array("<\(bar)".utf8), Array("\(bar)>".utf8))
            var start: Int?
            for i in source.indices {
                if source[i...].starts(with: open) { start = i }
                guard let first = start, i >= first + open.count, source[i...].starts(with: close) else { continue }
                start = nil
                let inner = source[(first + open.count)..<i]
                let isName = inner.allSatisfy {
                    $0 >= 0x80 || (0x30...0x39).contains($0) || (0x41...0x5A).contains($0 & 0xDF) || $0 == 0x5F
                        || $0 == 0x2D
                }
                if isName, (1...40).contains(inner.count) { found.insert(Array(source[first..<(i + close.count)])) }
            }
        }
        return found
    }

    /// The lines that a template puts before a question and an answer, as far as they are words and punctuation.
    static func headings(of template: ChatTemplate) -> [[UInt8]] {
        let content = "\u{10FFFD}\u{10FFFC}"
        let messages: [JSONValue] = [["role": "user", "content": .string(content)]]
        let now = CivilTime(iso: "2024-01-01") ?? .now()
        guard let open = try? template.render(messages: messages, now: now).text,
            let prompted = try? template.render(messages: messages, addGenerationPrompt: true, now: now).text
        else { return [] }
        func lines(_ text: some Sequence<UInt8>) -> [[UInt8]] {
            Array(text).split(separator: 0x0A).map { line in
                Array(line.drop { $0 == 0x20 }.reversed().drop { $0 == 0x20 }.reversed())
            }.filter { !$0.isEmpty }
        }
        var found: [[UInt8]] = []
        let (openBytes, promptBytes) = (Array(open.utf8), Array(prompted.utf8))
        if promptBytes.count > openBytes.count, promptBytes.starts(with: openBytes),
            let first = lines(promptBytes[openBytes.count...]).first
        {
            found.append(first)
        }
        let marker = Array(content.utf8)
        if let place = openBytes.indices.first(where: { openBytes[$0...].starts(with: marker) }),
            let last = lines(openBytes[..<place]).last
        {
            found.append(last)
        }
        // A word alone is no marker, and neither is a long text, such as a system prompt.
        return found.filter { heading in
            (6...40).contains(heading.count)
                && [UInt8(ascii: ":"), UInt8(ascii: ">")].contains(heading[heading.count - 1])
        }
    }

    private func marker(in text: String, isAnswer: Bool) -> Marker? {
        var text = text
        return text.withUTF8 { bytes in
            for i in bytes.indices where beginsMarker[Int(bytes[i])] {
                guard let candidates = markers[bytes[i]] else { continue }
                if let found = candidates.first(where: {
                    !(isAnswer && $0.kind != .structure) && bytes[i...].starts(with: $0.bytes)
                }) {
                    return found
                }
            }
            for heading in headings {
                var start = 0
                while true {
                    if bytes[start...].starts(with: heading) { return Marker(bytes: heading) }
                    guard let newline = bytes[start...].firstIndex(of: 0x0A), newline + 1 < bytes.count else { break }
                    start = newline + 1
                }
            }
            return nil
        }
    }

    // MARK: One row

    /// What is wrong with the texts of a row, whatever becomes of it.
    ///
    /// - Parameter answers: those of the row that are trained.
    func findings(_ row: Row, answers: [String]) -> [LintFinding] {
        var found: [LintFinding] = []
        let passages = row.passages
        for (text, _) in passages {
            let bytes = Array(text.utf8)
            guard let place = Self.replacement(in: bytes) else { continue }
            found.append(LintFinding(lint: .replacementCharacters, detail: "at \(Self.excerpt(bytes, around: place))"))
            break
        }
        if row.isRendered,
            let marker = passages.lazy.compactMap({ marker(in: $0.text, isAnswer: $0.isAnswer) }).first
        {
            let lint = marker.kind == .media ? Lint.mediaPlaceholder : .templateMarkers
            found.append(LintFinding(lint: lint, detail: "it holds \(String(decoding: marker.bytes, as: UTF8.self))"))
        }
        for answer in answers where Self.isMissing(answer) {
            found.append(LintFinding(lint: .missingAnswer, detail: "the answer is \(quoted(answer))"))
            break
        }
        return found
    }

    /// What pandas and others write for a value that is missing.
    private static let missingWords: Set<String> = ["nan", "none", "null", "<na>", "n/a", "#n/a"]

    private static func isMissing(_ answer: String) -> Bool {
        // The words are short, and so is the white space that may stand around them.
        answer.utf8.count < 32 && missingWords.contains(answer.trimmedASCII.lowercased())
    }

    /// What is wrong with a row that has an answer without a text: the end of the turn alone would be trained.
    static func emptyAnswer(among answers: [String]) -> String? {
        let hasEmpty = answers.contains { $0.utf8.allSatisfy { $0 == 0x20 || (0x09...0x0D).contains($0) } }
        return hasEmpty ? "an answer is empty: only its end would be trained" : nil
    }

    /// What is worth a word about a row as it was read.
    func notes(_ row: Row, answers: [String]) -> [ExampleNote: String] {
        var notes: [ExampleNote: String] = [:]
        switch row {
        case .text(let text) where !opening.isEmpty && Text(text).contains(Text(opening)): notes[.renderedText] = ""
        case .conversation(let conversation):
            var other: [String] = []
            for role in conversation.messages.compactMap({ $0["role"]?.stringValue })
            where !Self.commonRoles.contains(role) && !names.contains(ByteString(role))
                && !other.contains(where: { $0.hasSameBytes(as: role) })
            { other.append(role) }
            if !other.isEmpty { notes[.otherRoles] = other.prefix(4).map { quoted($0) }.joined(separator: ", ") }
        default: break
        }
        for answer in answers {
            let text = Text(answer)
            guard text.contains(Self.thought.begin), let start = text.lastOffset(of: Self.thought.begin) else {
                continue
            }
            if text.firstOffset(of: Self.thought.end, in: start..<text.bytes.count) == nil { notes[.openThought] = "" }
        }
        return notes
    }

    private static let thought = (begin: Text("<think>"), end: Text("</think>"))
    private static let commonRoles: Set<String> = ["system", "developer", "user", "assistant", "tool", "ipython"]

    /// Keys of messages that the template does not mention.
    func unreadKeys(of row: Row) -> [UnreadKey] {
        var found: [UnreadKey] = []
        row.forEachConversation { conversation in
            for message in conversation.messages {
                guard let entries = message.objectValue?.entries, entries.count > 2 else { continue }
                for (key, value) in entries
                where !(key.hasSameBytes(as: "role") || key.hasSameBytes(as: "content")) && !value.holdsNothing {
                    // What of calls a template leaves out is told by itself.
                    if key.hasSameBytes(as: "tool_calls") { continue }
                    let isReasoning = ChatTemplate.reasoningKeys.contains { $0.hasSameBytes(as: key) }
                    let spellings = isReasoning ? ChatTemplate.reasoningKeys : [key]
                    if spellings.contains(where: { names.contains(ByteString($0)) }) { continue }
                    let unread = UnreadKey(name: ByteString(key), isOfMessage: true)
                    if !found.contains(unread) { found.append(unread) }
                }
            }
        }
        return found
    }

    /// What is wrong with the example that was made of a row.
    func findings(_ row: Row, _ made: MadeExample) -> [LintFinding] {
        var found: [LintFinding] = []
        let example = made.example
        if let bosID, example.ids.count > 1, example.ids[0] == bosID, example.ids[1] == bosID {
            found.append(LintFinding(lint: .doubleBOS, detail: "the tokens 1 and 2 are both \(bosID)"))
        }
        if made.lacksEnd || isCutShort(row, example) {
            found.append(LintFinding(lint: .noEndOfTurn, detail: "no special token ends what is trained"))
        }
        if let script = unknownScript(made) { found.append(LintFinding(lint: .byteFallback, detail: script)) }
        return found
    }

    /// Whether a row that came as tokens has its end behind what is trained, but masked: labels that are ignored by the
    /// id of the end, as padding is, lose it. Rows without an end may go on in the next row.
    private func isCutShort(_ row: Row, _ example: TokenizedExample) -> Bool {
        guard case .tokens = row, let last = example.isTrained.lastIndex(of: true), last + 1 < example.ids.count,
            ends.contains(example.ids[last + 1])
        else { return false }
        return !example.ids.indices.contains { example.isTrained[$0] && ends.contains(example.ids[$0]) }
    }

    private static func replacement(in bytes: [UInt8]) -> Int? {
        var start = 0
        while let i = bytes[start...].firstIndex(of: 0xEF) {
            if bytes[i...].starts(with: [0xEF, 0xBF, 0xBD]) { return i }
            start = i + 1
        }
        return nil
    }

    private static func excerpt(_ bytes: [UInt8], around place: Int) -> String {
        var start = max(0, place - 20)
        while start > 0, bytes[start] & 0xC0 == 0x80 { start -= 1 }
        var end = min(bytes.count, place + 20)
        while end < bytes.count, bytes[end] & 0xC0 == 0x80 { end += 1 }
        return JSONWriter.text(.string(String(decoding: bytes[start..<end], as: UTF8.self)))
    }

    // MARK: Scripts

    private struct Spelled {
        var letters = 0
        /// Letters each byte of which is a token, and those tokens.
        var spelled = 0
        var bytes = 0
    }

    /// The script whose letters the tokenizer spells in bytes, with figures; nil where it knows the scripts.
    private func unknownScript(_ made: MadeExample) -> String? {
        let ids = made.example.ids
        var fewest = max(Self.fallbackLetters, Int(Self.fallbackShare * Double(ids.count)))
        for id in ids where Int(id) < isByte.count && isByte[Int(id)] {
            fewest -= 1
            if fewest == 0 { break }
        }
        guard fewest <= 0 else { return nil }
        let table = ScriptTable.shared
        var scripts: [UInt8: Spelled] = [:]
        let text = Array(made.text.utf8)
        let span = text.span
        var i = 0
        while i < text.count {
            let scalar = decodeScalar(span, at: i)
            i += scalar.length
            if let script = Self.script(scalar.value, table) { scripts[script, default: Spelled()].letters += 1 }
        }
        var (last, run) = (-1, 0)
        for (id, range) in zip(ids, made.byteRanges) where Int(id) < isByte.count && isByte[Int(id)] && !range.isEmpty {
            let start =
                text[range.lowerBound] & 0xC0 == 0x80 ? scalarStart(span, before: range.lowerBound) : range.lowerBound
            run = start == last ? run + 1 : 1
            last = start
            let letter = decodeScalar(span, at: start)
            guard run == letter.length, let script = Self.script(letter.value, table) else { continue }
            scripts[script, default: Spelled()].spelled += 1
            scripts[script, default: Spelled()].bytes += run
        }
        let unknown = scripts.filter { _, found in
            found.spelled >= Self.fallbackLetters
                && Double(found.bytes) >= Self.fallbackShare * Double(ids.count)
                && Double(found.spelled) >= Self.spelledShare * Double(found.letters)
        }
        guard let (script, found) = unknown.max(by: { ($0.value.bytes, $0.key) < ($1.value.bytes, $1.key) }) else {
            return nil
        }
        return "\(found.bytes) of \(ids.count) tokens are single bytes of \(table.name(script)) letters"
    }

    /// The script of a letter beyond ASCII, or of a mark of one script; nil for what all scripts share.
    private static func script(_ scalar: UInt32, _ table: ScriptTable) -> UInt8? {
        guard scalar >= 0x80 else { return nil }
        let script = table[scalar]
        return script > ScriptTable.inherited ? script : nil
    }

    // MARK: Spelling

    /// How the text of a row is spelled, as far as there is a choice.
    struct Spelling {
        /// It has characters that NFC spells in another way than its other forms do, in the way of NFC.
        var isComposed = false
        /// It differs from its NFC form.
        var isDecomposed = false
    }

    static func spelling(_ row: Row) -> Spelling {
        var result = Spelling()
        for text in row.texts {
            var text = text
            let isNormal = text.withUTF8 { bytes in
                guard bytes.contains(where: { $0 >= 0x80 }) else { return true }
                if !result.isComposed { result.isComposed = NormalizationForm.hasComposed(bytes) }
                return NormalizationForm.nfc.isQuicklyNormal(bytes.span, 0..<bytes.count)
            }
            if !isNormal, !text.precomposedStringWithCanonicalMapping.hasSameBytes(as: text) {
                result.isDecomposed = true
            }
        }
        return result
    }
}
