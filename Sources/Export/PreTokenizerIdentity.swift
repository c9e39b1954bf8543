import FileFormats
import TextData

/// Recognises a byte-level pre-tokenizer by its definition and gives it the name that llama.cpp knows it by
/// (`llama_vocab::impl::load` in src/llama-vocab.cpp). One that is not recognised is an error, never a guess.
struct PreTokenizerIdentity {
    /// A pre-tokenizer as the expressions that split the text one after the other.
    private struct Known {
        var name: String
        var splits: [String]
        /// Whether a word that is a token as a whole is taken before any merge.
        var ignoresMerges = false
        /// The normaliser that its models have; llama.cpp itself applies none.
        var normalizer: String?

        /// Whether the expression leaves no character over: those that stand alone are of this sort.
        var coversText: Bool { splits.count == 1 && !splits[0].hasSameBytes(as: gpt2) }
    }

    private static let contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    /// The expression inside GPT-2's ByteLevel pre-tokenizer, by a name of our own.
    private static let gpt2 = "<ByteLevel>"
    private static func modern(digits: String) -> String {
        contractions + #"|[^\r\n\p{L}\p{N}]?\p{L}+|\#(digits)| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
    }
    private static let letters = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#
    private static let lowerLetters = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#
    private static func cased(suffix: String, digits: String) -> String {
        let head = #"[^\r\n\p{L}\p{N}]?"#
        return "\(head)\(letters)*\(lowerLetters)+\(suffix)|\(head)\(letters)+\(lowerLetters)*\(suffix)"
            + #"|\#(digits)| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
    }
    /// Han on its own, and words without it.
    private static let kimi: String = {
        let upper = String(letters.dropLast()) + #"&&[^\p{Han}]]"#,
            lower = String(lowerLetters.dropLast()) + #"&&[^\p{Han}]]"#
        let head = #"[^\r\n\p{L}\p{N}]?"#
        return
            #"[\p{Han}]+|\#(head)\#(upper)*\#(lower)+\#(contractions)?|\#(head)\#(upper)+\#(lower)*\#(contractions)?"#
            + #"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
    }()
    private static let deepSeek =
        ##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"##
        + #"|\s*[\r\n]+|\s+(?!\S)|\s+"#

    /// DeepSeek's models before the third. llama.cpp keeps digits in one piece there: no vocabulary has a token of two.
    private static let deepSeekLLM = [
        #"[\r\n]"#, #"\s?[\#(Tokenizer.casedLetters)]+"#, #"\s?[!-/:-~！-／：-～‘-‟　-。]+"#, #"\s+$"#,
        "[\u{4E00}-\u{9FA5}\u{800}-\u{4E00}\u{AC00}-\u{D7FF}]+", #"\p{N}"#,
    ]

    private static let known: [Known] = [
        Known(name: "gpt-2", splits: [gpt2]),
        Known(name: "smollm", splits: [#"\p{N}"#, gpt2]),
        Known(name: "llama-bpe", splits: [modern(digits: #"\p{N}{1,3}"#)], ignoresMerges: true),
        Known(name: "smaug-bpe", splits: [modern(digits: #"\p{N}{1,3}"#)]),
        Known(name: "qwen2", splits: [modern(digits: #"\p{N}"#)], normalizer: "NFC"),
        Known(name: "qwen2", splits: [modern(digits: #"\p{N}"#)]),
        Known(
            name: "deepseek-coder",
            splits: [#"[\r\n]"#, #"\s?\p{L}+"#, #"\s?\p{P}+"#, "[一-龥ࠀ-一가-퟿]+", #"\p{N}"#]),
        Known(name: "deepseek-llm", splits: deepSeekLLM),
        Known(name: "deepseek-v3", splits: [#"\p{N}{1,3}"#, "[一-龥぀-ゟ゠-ヿ]+", deepSeek]),
        Known(name: "kimi-k2", splits: [kimi], ignoresMerges: true),
        Known(name: "gpt-4o", splits: [cased(suffix: contractions + "?", digits: #"\p{N}{1,3}"#)]),
        Known(name: "tekken", splits: [cased(suffix: "", digits: #"\p{N}"#)], ignoresMerges: true),
    ]

    /// Whether llama.cpp ends a word at a combining mark although the expression of this name goes on.
    static func partsWordsAtMarks(_ name: String) -> Bool {
        ["gpt-4o", "tekken", "kimi-k2"].contains { name.hasSameBytes(as: $0) }
    }

    /// The name for `tokenizer.ggml.pre`.
    ///
    /// - Throws: the problems, as texts, through `ExportError.tokenizer` of the caller.
    static func name(
        preTokenizer: JSONValue, normalizer: JSONValue, ignoresMerges: Bool
    ) -> Result<String, Unrecognised> {
        var reader = Reader()
        reader.read(preTokenizer)
        let normalizer = soleNormalizer(normalizer)
        let normalizerName = normalizer.isNull ? nil : normalizer["type"]?.stringValue ?? JSONWriter.text(normalizer)
        guard reader.isByteLevel, reader.problems.isEmpty else {
            let problems = reader.problems.isEmpty ? ["it does not end in ByteLevel"] : reader.problems
            return .failure(Unrecognised(problems: problems + [found(preTokenizer)]))
        }
        let splits = reader.splits.map(canonical)
        let candidates = known.filter {
            $0.splits.map(canonical).elementsEqual(splits) { $0.hasSameBytes(as: $1) }
                && ($0.coversText || !reader.keepsMatchesAlone)
        }
        guard !candidates.isEmpty else { return .failure(Unrecognised(problems: [found(preTokenizer)])) }
        let match = candidates.first { candidate in
            guard candidate.ignoresMerges == ignoresMerges else { return false }
            switch (candidate.normalizer, normalizerName) {
            case (nil, nil): return true
            case (let wanted?, let found?): return wanted.hasSameBytes(as: found)
            default: return false
            }
        }
        guard let match else {
            let setting = ignoresMerges ? "ignore_merges" : "no ignore_merges"
            return .failure(
                Unrecognised(problems: [
                    "the pre-tokenizer is that of \(candidates.map(\.name).joined(separator: ", ")), but llama.cpp has "
                        + "none such with \(setting) and \(normalizerName.map { "the normalizer \($0)" } ?? "no normalizer")"
                ]))
        }
        return .success(match.name)
    }

    /// A normaliser that a sequence of it alone stands for; null for an empty sequence.
    static func soleNormalizer(_ normalizer: JSONValue) -> JSONValue {
        guard let parts = normalizer["normalizers"]?.arrayValue, parts.count <= 1 else { return normalizer }
        return parts.first.map(soleNormalizer) ?? .null
    }

    struct Unrecognised: Error { var problems: [String] }

    private static func found(_ definition: JSONValue) -> String {
        "llama.cpp has no pre-tokenizer like this one: \(JSONWriter.text(definition))"
    }

    /// Spellings of one expression: literal line breaks and their escapes.
    private static func canonical(_ pattern: String) -> String {
        var result = String.UnicodeScalarView()
        for scalar in pattern.unicodeScalars {
            switch scalar {
            case "\n": result.append(contentsOf: #"\n"#.unicodeScalars)
            case "\r": result.append(contentsOf: #"\r"#.unicodeScalars)
            default: result.append(scalar)
            }
        }
        return String(result)
    }

    /// Flattens a definition into its splits.
    private struct Reader {
        var splits: [String] = []
        var problems: [String] = []
        var isByteLevel = false
        /// Whether what an expression does not match is dropped: no difference where it matches everything.
        var keepsMatchesAlone = false

        mutating func read(_ definition: JSONValue) {
            switch definition["type"]?.stringValue ?? "" {
            case "Sequence":
                for part in definition["pretokenizers"]?.arrayValue ?? [] { read(part) }
            case "Split":
                switch (definition["behavior"]?.stringValue, definition["invert"]?.boolValue ?? false) {
                case ("Isolated", false): break
                case ("Removed", true): keepsMatchesAlone = true
                default: problems.append("a Split that is not plainly isolated")
                }
                guard let pattern = definition["pattern"]?["Regex"]?.stringValue else {
                    problems.append("a Split without a regular expression")
                    return
                }
                splits.append(pattern)
            case "Digits":
                splits.append(definition["individual_digits"]?.boolValue == true ? #"\p{N}"# : #"\p{N}+"#)
            case "ByteLevel":
                isByteLevel = true
                if definition["add_prefix_space"]?.boolValue == true {
                    problems.append("add_prefix_space, which llama.cpp does not do for byte-level tokenizers")
                }
                if definition["use_regex"]?.boolValue != false { splits.append(PreTokenizerIdentity.gpt2) }
            case let other: problems.append(other.isEmpty ? "there is no pre-tokenizer" : "a part of type \(other)")
            }
        }
    }
}
