import FileFormats
import FineTuning
import Foundation
import TextData

/// Compares the tokenizer and the template of a written model with those that base and adapter are used with.
struct TextComparison {
    private let expected: TextResources
    private let found: TextResources
    private(set) var result = ParityReport.Text()
    private(set) var problems: [String] = []
    private(set) var notes: [String] = []

    /// - Parameter isGGUF: whether the written file is read by llama.cpp's rules, which cannot say everything.
    init(expected: TextResources, found: TextResources, sample: ParitySample, isGGUF: Bool) {
        self.expected = expected
        self.found = found
        let limits = isGGUF ? FormatLimits(expected.tokenizer) : FormatLimits()
        compareTokens()
        let addsSpecial = !isGGUF || GGUFTokenizer.canSaySpecialTokens(expected.tokenizer)
        for text in sample.texts { compare(text, limits, addSpecialTokens: addsSpecial) }
        compareTemplates(sample.conversations, limits)
        if result.leftOut > 0 {
            notes.append(
                "\(result.leftOut) texts of the sample were left out: \(limits.reasons.joined(separator: "; "))")
        }
    }

    /// What a GGUF file cannot say of a tokenizer; the export warns of it.
    private struct FormatLimits {
        /// llama.cpp brings no text into a normal form.
        var normalizes = false
        /// llama.cpp puts a space before every piece of text, this tokenizer only where there is none.
        var spacesOnce = false
        /// llama.cpp puts a space after each special token, this tokenizer before the first word alone.
        var spacesFirstOnly = false
        /// llama.cpp parts words at combining marks.
        var partsWordsAtMarks = false
        /// There are no bytes for characters beyond the vocabulary.
        var hasNoBytes = false

        init() {}

        init(_ tokenizer: Tokenizer) {
            let normalizer = JSONWriter.text(tokenizer.definitions.normalizer)
            hasNoBytes = tokenizer.kind == .plainBPE
            normalizes = ["NFC", "NFKC", "NFD", "NFKD"].contains { normalizer.contains("\"\($0)\"") }
            let preTokenizer = tokenizer.definitions.preTokenizer
            let identity = PreTokenizerIdentity.name(
                preTokenizer: preTokenizer, normalizer: tokenizer.definitions.normalizer,
                ignoresMerges: tokenizer.ignoresMerges)
            if case .success(let name) = identity { partsWordsAtMarks = PreTokenizerIdentity.partsWordsAtMarks(name) }
            guard preTokenizer["type"]?.stringValue?.hasSameBytes(as: "Metaspace") == true else { return }
            let scheme = preTokenizer["prepend_scheme"]?.stringValue ?? "always"
            spacesOnce = !scheme.hasSameBytes(as: "never")
            spacesFirstOnly = scheme.hasSameBytes(as: "first")
        }

        var reasons: [String] {
            (normalizes ? ["a GGUF file cannot say that text is brought into form NFC"] : [])
                + (partsWordsAtMarks ? ["llama.cpp parts words at combining marks"] : [])
                + (spacesOnce ? ["a GGUF file cannot say where no space is put before text that has one"] : [])
                + (spacesFirstOnly ? ["or that only the first word gets one"] : [])
                + (hasNoBytes ? ["the vocabulary does not cover them"] : [])
        }

        /// Whether the format can say how this text is encoded.
        func covers(_ text: String, _ tokenizer: Tokenizer) -> Bool {
            if normalizes, !text.precomposedStringWithCanonicalMapping.hasSameBytes(as: text) { return false }
            if partsWordsAtMarks, text.unicodeScalars.contains(where: Self.isMark) { return false }
            if hasNoBytes {
                let ids = try? tokenizer.encoding(of: text, addSpecialTokens: false).ids
                guard let ids, !ids.contains(where: { $0 == tokenizer.unkID }) else { return false }
            }
            guard spacesOnce else { return true }
            let bytes = Array(text.utf8)
            if bytes.first == 0x20 { return false }
            return !tokenizer.addedTokens.contains { token in
                Self.ends(of: token.content.bytes, in: bytes).contains {
                    spacesFirstOnly || $0 < bytes.count && bytes[$0] == 0x20
                }
            }
        }

        private static func isMark(_ scalar: Unicode.Scalar) -> Bool {
            [.nonspacingMark, .spacingMark, .enclosingMark].contains(scalar.properties.generalCategory)
        }

        private static func ends(of token: [UInt8], in bytes: [UInt8]) -> [Int] {
            guard let first = token.first else { return [] }
            return bytes.indices.filter { bytes[$0] == first && bytes[$0...].starts(with: token) }
                .map { $0 + token.count }
        }
    }

    // MARK: tokens

    private mutating func compareTokens() {
        for (name, wanted, has) in [
            ("BOS", expected.tokenizer.bosID, found.tokenizer.bosID),
            ("EOS", expected.tokenizer.eosID, found.tokenizer.eosID),
        ] where wanted != nil && wanted != has {
            problems.append("tokenizer: \(name) is \(has.map(String.init) ?? "missing"), expected \(wanted!)")
        }
    }

    private mutating func compare(_ text: String, _ limits: FormatLimits, addSpecialTokens: Bool) {
        guard limits.covers(text, expected.tokenizer) else {
            result.leftOut += 1
            return
        }
        guard let wanted = try? expected.tokenizer.encoding(of: text, addSpecialTokens: addSpecialTokens).ids else {
            return
        }
        result.texts += 1
        result.tokens += wanted.count
        let has: [Int32]
        do { has = try found.tokenizer.encoding(of: text, addSpecialTokens: addSpecialTokens).ids } catch {
            problems.append("tokenizer: \(quoted(String(text.prefix(40)))) cannot be encoded: \(error)")
            return
        }
        guard wanted != has, problems.count < 12 else { return }
        let place = zip(wanted, has).enumerated().first { $1.0 != $1.1 }?.offset ?? min(wanted.count, has.count)
        func shown(_ ids: [Int32]) -> String { "\(Array(ids.dropFirst(max(0, place - 1)).prefix(4)))" }
        problems.append(
            "tokenizer: \(quoted(String(text.prefix(40)))) becomes \(has.count) ids, expected \(wanted.count); from id "
                + "\(max(0, place - 1)) on \(shown(has)), expected \(shown(wanted))")
    }

    // MARK: templates

    private mutating func compareTemplates(_ conversations: [Conversation], _ limits: FormatLimits) {
        guard let wanted = expected.template else { return }
        guard let has = found.template else {
            problems.append("chat template: missing")
            return
        }
        let now = CivilTime.now()
        for (index, conversation) in conversations.enumerated() {
            for prompts in [false, true] {
                func rendered(_ template: ChatTemplate) -> Result<String, any Error> {
                    Result {
                        try template.render(
                            messages: conversation.messages, tools: conversation.tools, addGenerationPrompt: prompts,
                            extra: conversation.variables, now: now
                        ).text
                    }
                }
                switch (rendered(wanted), rendered(has)) {
                case (.success(let wanted), .success(let has)):
                    result.conversations += 1
                    if !wanted.hasSameBytes(as: has) {
                        problems.append(
                            "chat template: conversation \(index + 1) is written otherwise: "
                                + Self.firstDifference(wanted, has))
                    } else if !prompts {
                        compare(wanted, limits, addSpecialTokens: false)
                    }
                case (.failure, .failure): break
                case (.success, .failure(let error)):
                    problems.append("chat template: conversation \(index + 1) is refused: \(error)")
                case (.failure, .success):
                    problems.append("chat template: conversation \(index + 1) is taken, and the model's refuses it")
                }
                if problems.count >= 12 { return }
            }
        }
    }

    private static func firstDifference(_ wanted: String, _ has: String) -> String {
        let (a, b) = (Array(wanted.unicodeScalars), Array(has.unicodeScalars))
        let place = zip(a, b).enumerated().first { $1.0 != $1.1 }?.offset ?? min(a.count, b.count)
        func shown(_ scalars: [Unicode.Scalar]) -> String {
            var text = ""
            text.unicodeScalars.append(contentsOf: scalars.dropFirst(max(0, place - 8)).prefix(32))
            return quoted(text)
        }
        return "\(shown(b)), expected \(shown(a)), at character \(place)"
    }
}
