internal import FileFormats
import Foundation

/// Damage to a data set that training would learn without a word. Each is refused until it is accepted by its name.
public enum Lint: String, Sendable, CaseIterable {
    case noTrainedToken = "no_trained_token"
    case noEndOfTurn = "no_end_of_turn"
    case doubleBOS = "double_bos"
    case templateMarkers = "template_markers"
    case roleOrder = "role_order"
    case truncatedLabels = "truncated_labels"
    case duplicateRows = "duplicate_rows"
    case invalidUnicode = "invalid_unicode"
    case replacementCharacters = "replacement_characters"
    case mixedNormalization = "mixed_normalization"
    case byteFallback = "byte_fallback"

    /// What is wrong, in a few words.
    public var title: String {
        switch self {
        case .noTrainedToken: "nothing is trained"
        case .noEndOfTurn: "no end-of-turn token is trained: the model would not learn to stop"
        case .doubleBOS: "the text begins with two beginning-of-text tokens"
        case .templateMarkers: "the content holds markers of the chat template"
        case .roleOrder: "the chat template refuses the conversation"
        case .truncatedLabels: "cutting at max_length removes all that is trained"
        case .duplicateRows: "the evaluation row is a training row, too"
        case .invalidUnicode: "the text is no valid Unicode"
        case .replacementCharacters: "the text holds U+FFFD, which stands for what an earlier program could not read"
        case .mixedNormalization: "the text is not in NFC, while other rows are: the same word has two spellings"
        case .byteFallback: "the tokenizer spells much of the text in single bytes: it does not know the script"
        }
    }

    /// What to do about it, and what accepting it means.
    public var fix: String {
        let accept = "(data.accept, --accept \(rawValue))"
        return switch self {
        case .noTrainedToken: "give the rows an answer, see train_on, or leave them out by accepting it \(accept)"
        case .noEndOfTurn:
            "use a chat template that ends the assistant's turn with a special token, or accept it \(accept)"
        case .doubleBOS: "take the token out of the text or the template, or accept it \(accept)"
        case .templateMarkers: "take them out of the contents, or accept it \(accept)"
        case .roleOrder: "bring the roles into the order that the template takes, or leave the rows out \(accept)"
        case .truncatedLabels: "raise max_length, use overlong: split or drop, or leave the rows out \(accept)"
        case .duplicateRows: "take the rows out of one of the two sets, or accept it \(accept)"
        case .invalidUnicode: "save the file as UTF-8 without lone surrogates, or leave the rows out \(accept)"
        case .replacementCharacters:
            "make the rows again from their source with the right encoding, or accept it \(accept)"
        case .mixedNormalization: "bring all text into NFC, or accept it \(accept)"
        case .byteFallback: "use a model whose tokenizer was made for the script, or accept it \(accept)"
        }
    }

    /// Rows with this cannot be used at all: accepting leaves them out.
    var leavesOut: Bool { [.noTrainedToken, .roleOrder, .invalidUnicode, .truncatedLabels].contains(self) }
}

/// One finding about one row.
struct LintFinding: Sendable {
    var lint: Lint
    var detail: String
}

/// What checks of rows need of a model, prepared once.
struct RowLinter: Sendable {
    /// The share of byte tokens above which a tokenizer is said not to know a script, and the fewest that count.
    private static let fallbackShare = 0.25
    private static let fallbackCount = 16
    /// Byte tokens for each letter beyond ASCII; scripts that a tokenizer knows have far fewer, but for rare letters.
    private static let bytesPerLetter = 0.9

    private let bosID: Int32?
    private let byteTokens: Set<Int32>
    /// Special tokens and literal markers by their first byte.
    private let markers: [UInt8: [[UInt8]]]
    private let beginsMarker: [Bool]

    init(tokenizer: Tokenizer?, template: ChatTemplate?) {
        bosID = tokenizer?.bosID
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
        var bytes = Set(
            (0..<256).compactMap { byte in
                let digits = String(byte, radix: 16, uppercase: true)
                return tokenizer?.id(of: ByteString("<0x" + (digits.utf8.count < 2 ? "0" : "") + digits + ">"))
            })
        // A byte-level vocabulary has no fallback; there, its single bytes tell the same.
        if bytes.count < 256 {
            // Bytes of ASCII are letters of their own.
            bytes = Set(
                (UInt8(0x80)...0xFF).compactMap {
                    tokenizer?.id(of: ByteString(ByteAlphabet.encode(CollectionOfOne($0))))
                })
        }
        byteTokens = bytes
    }

    /// Markers that a template writes as plain text: `<|...|>`, and the brackets of instructions.
    static func literalMarkers(in source: [UInt8]) -> Set<[UInt8]> {
        var found: Set<[UInt8]> = []
        for literal in ["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"] {
            let bytes = Array(literal.utf8)
            if Text(source).contains(Text(bytes)) { found.insert(bytes) }
        }
        var start: Int?
        for i in source.indices.dropLast() {
            if source[i] == UInt8(ascii: "<"), source[i + 1] == UInt8(ascii: "|") { start = i }
            guard source[i] == UInt8(ascii: "|"), source[i + 1] == UInt8(ascii: ">"), let first = start else {
                continue
            }
            start = nil
            let inner = source[(first + 2)..<max(i, first + 2)]
            let isName = inner.allSatisfy {
                $0 >= 0x80 || (0x30...0x39).contains($0) || (0x41...0x5A).contains($0 & 0xDF) || $0 == 0x5F
                    || $0 == 0x2D
            }
            if isName, (1...40).contains(inner.count) { found.insert(Array(source[first...(i + 1)])) }
        }
        return found
    }

    // MARK: One row

    /// What is wrong with a row and the example that was made of it.
    func findings(_ row: Row, _ made: MadeExample) -> [LintFinding] {
        var found: [LintFinding] = []
        let ids = made.example.ids
        if let bosID, ids.count > 1, ids[0] == bosID, ids[1] == bosID {
            found.append(LintFinding(lint: .doubleBOS, detail: "the tokens 1 and 2 are both \(bosID)"))
        }
        if !byteTokens.isEmpty {
            let count = ids.count { byteTokens.contains($0) }
            let letters = row.texts.reduce(0) { $0 + $1.utf8.count { $0 >= 0xC0 } }
            if count >= Self.fallbackCount, Double(count) >= Self.fallbackShare * Double(ids.count),
                Double(count) >= Self.bytesPerLetter * Double(letters)
            {
                found.append(
                    LintFinding(lint: .byteFallback, detail: "\(count) of \(ids.count) tokens are single bytes"))
            }
        }
        if made.lacksEnd {
            found.append(LintFinding(lint: .noEndOfTurn, detail: "no special token ends what is trained"))
        }
        for text in row.texts {
            let bytes = Array(text.utf8)
            if let place = Self.replacement(in: bytes) {
                found.append(
                    LintFinding(lint: .replacementCharacters, detail: "at \(Self.excerpt(bytes, around: place))"))
                break
            }
        }
        if row.isRendered {
            for text in row.texts {
                guard let marker = marker(in: Array(text.utf8)) else { continue }
                found.append(
                    LintFinding(lint: .templateMarkers, detail: "it holds \(String(decoding: marker, as: UTF8.self))"))
                break
            }
        }
        return found
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

    private func marker(in bytes: [UInt8]) -> [UInt8]? {
        for i in bytes.indices where beginsMarker[Int(bytes[i])] {
            guard let candidates = markers[bytes[i]] else { continue }
            if let found = candidates.first(where: { bytes[i...].starts(with: $0) }) { return found }
        }
        return nil
    }

    // MARK: Spelling

    enum Spelling { case plain, composed, decomposed }

    /// How the text of a row is spelled: plain where no form changes anything that matters.
    static func spelling(_ row: Row) -> Spelling {
        var result = Spelling.plain
        for text in row.texts {
            let bytes = Array(text.utf8)
            guard bytes.contains(where: { $0 >= 0x80 }) else { continue }
            if NormalizationForm.nfc.isQuicklyNormal(bytes.span, 0..<bytes.count)
                || text.precomposedStringWithCanonicalMapping.hasSameBytes(as: text)
            {
                result = .composed
            } else {
                return .decomposed
            }
        }
        return result
    }
}

extension Row {
    /// What people wrote: contents of messages, prompts, texts.
    var texts: [String] {
        switch self {
        case .conversation(let conversation):
            conversation.messages.flatMap { message -> [String] in
                if let text = message["content"]?.stringValue { return [text] }
                return message["content"]?.arrayValue?.compactMap { $0["text"]?.stringValue } ?? []
            }
        case .instruction(let system, let history, let prompt, let output):
            [system] + history.flatMap { [$0.0, $0.1] } + [prompt, output]
        case .completion(let prompt, let completion): [prompt, completion]
        case .text(let text): [text]
        case .tokens: []
        }
    }

    /// Whether a template puts its markers around the texts; prompts and plain texts may bring their own.
    var isRendered: Bool {
        switch self {
        case .conversation, .instruction: true
        case .completion, .text, .tokens: false
        }
    }
}
