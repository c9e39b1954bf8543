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

    private let bosID: Int32?
    private let stops: Set<Int32>
    /// By id, whether the token is one byte of a longer character; empty where the vocabulary has none.
    private let isByte: [Bool]
    /// Special tokens and literal markers by their first byte.
    private let markers: [UInt8: [[UInt8]]]
    /// What stands before a turn in plain words, such as `### Response:`; counts at the start of a line.
    private let headings: [[UInt8]]
    private let beginsMarker: [Bool]

    init(tokenizer: Tokenizer?, template: ChatTemplate?, endID: Int32? = nil) {
        bosID = tokenizer?.bosID
        stops = Set((tokenizer?.addedTokens.map(\.id) ?? []) + [endID].compactMap(\.self))
        var markers: Set<[UInt8]> = []
        for token in tokenizer?.addedTokens ?? [] where token.isSpecial && token.content.bytes.count >= 3 {
            markers.insert(Array(token.content.bytes))
        }
        for source in [template?.source].compactMap(\.self) + (template?.toolUse.map(\.source) ?? []) {
            markers.formUnion(Self.literalMarkers(in: Array(source.utf8)))
        }
        let grouped = Dictionary(grouping: markers.sorted { $0.lexicographicallyPrecedes($1) }) { $0[0] }
        self.markers = grouped
        beginsMarker = (UInt8.min...UInt8.max).map { grouped[$0] != nil }
        headings = template.map(Self.headings) ?? []
        isByte = tokenizer?.byteTokens ?? []
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

    private func marker(in text: String) -> [UInt8]? {
        var text = text
        return text.withUTF8 { bytes in
            for i in bytes.indices where beginsMarker[Int(bytes[i])] {
                guard let candidates = markers[bytes[i]] else { continue }
                if let found = candidates.first(where: { bytes[i...].starts(with: $0) }) { return found }
            }
            for heading in headings {
                var start = 0
                while true {
                    if bytes[start...].starts(with: heading) { return heading }
                    guard let newline = bytes[start...].firstIndex(of: 0x0A), newline + 1 < bytes.count else { break }
                    start = newline + 1
                }
            }
            return nil
        }
    }

    // MARK: One row

    /// What is wrong with the texts of a row, whatever becomes of it.
    func findings(_ row: Row) -> [LintFinding] {
        var found: [LintFinding] = []
        let texts = row.texts
        for text in texts {
            let bytes = Array(text.utf8)
            guard let place = Self.replacement(in: bytes) else { continue }
            found.append(LintFinding(lint: .replacementCharacters, detail: "at \(Self.excerpt(bytes, around: place))"))
            break
        }
        if row.isRendered, let marker = texts.lazy.compactMap(marker).first {
            found.append(
                LintFinding(lint: .templateMarkers, detail: "it holds \(String(decoding: marker, as: UTF8.self))"))
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
            stops.contains(example.ids[last + 1])
        else { return false }
        return !example.ids.indices.contains { example.isTrained[$0] && stops.contains(example.ids[$0]) }
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
