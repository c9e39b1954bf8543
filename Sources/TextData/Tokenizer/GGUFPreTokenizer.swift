import FileFormats

/// The pre-tokenizers that llama.cpp knows by the names of the models they came with (`tokenizer.ggml.pre`).
enum GGUFPreTokenizer {
    private static let llama3 = [
        "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
    ]

    /// Whether a word that is a token as a whole is not merged.
    static func ignoresMerges(_ name: String) -> Bool {
        llama3.contains(name) || ["tekken", "youtu", "minicpm5", "granite-embed-multi-97m"].contains(name)
    }
    /// Whether BOS is added unless the file says otherwise.
    static func addsBOS(_ name: String) -> Bool { llama3.contains(name) || ["tekken", "chameleon"].contains(name) }
    /// Whether decoding drops the spaces before punctuation.
    static func cleansSpaces(_ name: String) -> Bool {
        llama3.contains(name)
            || [
                "default", "minicpm5", "falcon", "mpt", "starcoder", "gpt-2", "phi-2", "jina-es", "jina-de", "gigachat",
                "jina-v2-es", "jina-v2-de", "a.x-4.0", "mellum", "modern-bert", "jais-2", "jina-v1-en", "jina-v2-code",
                "roberta-bpe", "refact", "stablelm2", "olmo", "dbrx", "smaug-bpe", "glm4", "chatglm-bpe", "jais",
                "codeshell", "bloom", "gpt3-finnish", "exaone", "exaone4", "exaone-moe", "minerva-7b", "megrez",
                "mellum2",
            ].contains(name)
    }

    /// A step that splits text.
    private enum Step: Equatable {
        case scanner(SplitScanner), numbers
        case expression(String)

        func pattern() throws -> SplitPattern {
            switch self {
            case .scanner(let scanner): .scanner(scanner)
            case .numbers: .scalars(.number)
            case .expression(let text): try .regularExpression(text)
            }
        }
    }

    /// - Returns: nil for a name that is not known.
    static func named(_ name: String) throws -> PreTokenizer? {
        guard let steps = steps(name) else { return nil }
        return splits(try steps.map { try $0.pattern() })
    }

    /// Whether two names that llama.cpp knows mean the same for every text.
    static func areAlike(_ first: String, _ second: String) -> Bool {
        guard let steps = steps(first), steps == self.steps(second) else { return false }
        return ignoresMerges(first) == ignoresMerges(second)
    }

    private static func steps(_ name: String) -> [Step]? {
        if let scanner = scanner(name) { return [.scanner(scanner)] }
        switch name {
        case "gpt-2", "phi-2", "olmo", "mpt", "jais", "trillion", "granite-docling", "jina-es", "jina-de", "gigachat",
            "jina-v2-es", "jina-v2-de", "a.x-4.0", "mellum", "modern-bert", "jina-v1-en", "jina-v2-code", "roberta-bpe",
            "exaone4":
            return [.scanner(.gpt2)]
        case "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2":
            return [.numbers, .scanner(.gpt2)]
        default: return patterns(name)?.map { .expression($0) }
        }
    }

    private static func splits(_ patterns: [SplitPattern]) -> PreTokenizer {
        .sequence(
            patterns.map { .split($0, .isolated, inverted: false) } + [
                .byteLevel(prefix: false, splits: false, maps: true)
            ])
    }

    private static func scanner(_ name: String) -> SplitScanner? {
        if llama3.contains(name) { return .cl100k(maximumDigits: 3) }
        switch name {
        case "smaug-bpe", "dbrx", "glm4", "chatglm-bpe", "jina-v5-nano": return .cl100k(maximumDigits: 3)
        case "qwen2", "stablelm2", "deepseek-r1-qwen", "hunyuan", "solar-open", "megrez", "grok-2", "kormo", "f2llmv2":
            return .cl100k(maximumDigits: 1)
        default: return nil
        }
    }

    private static let contractions = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    /// What GPT-2's pattern is in llama.cpp: the spaces it leaves over are pieces all the same.
    private static let gpt2 = #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"#
    private static let spaces = #"\s*[\r\n]+|\s+(?!\S)|\s+"#
    private static let letters = #"[^\r\n\p{L}\p{N}]?\p{L}+"#
    private static let upper = #"((?=[\p{L}])([^a-z]))"#
    private static let lower = #"((?=[\p{L}])([^A-Z]))"#
    /// Words that begin with one character of any sort and change from upper to lower case at most once.
    private static func cased(_ upper: String, _ lower: String, _ tail: String) -> String {
        #"[^\r\n\p{L}\p{N}]?\#(upper)*\#(lower)+\#(tail)|[^\r\n\p{L}\p{N}]?\#(upper)+\#(lower)*\#(tail)"#
    }
    private static let deepSeek3 =
        ##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"##
        + spaces
    private static let upperMarked = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#
    private static let lowerMarked = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#

    /// Patterns that are applied one after the other.
    private static func patterns(_ name: String) -> [String]? {
        switch name {
        case "default": [#"[\p{P}\$\+<=>\^~\|]+"#, gpt2, #"\p{N}+"#, "[0-9][0-9][0-9]"]
        case "falcon": [#"[\p{P}\$\+<=>\^~\|`]+"#, gpt2, "[0-9][0-9][0-9]"]
        case "deepseek-coder":
            [
                #"[\r\n]"#, #"\s?\p{L}+"#, #"\s?\p{P}+"#, "[\u{4E00}-\u{9FA5}\u{800}-\u{4E00}\u{AC00}-\u{D7FF}]+",
                #"\p{N}"#,
            ]
        case "deepseek-llm":
            [
                #"[\r\n]"#, #"\s?[\#(casedLetters)]+"#, #"\s?[!-/:-~！-／：-～‘-‟　-。]+"#, #"\s+\z"#,
                "[\u{4E00}-\u{9FA5}\u{800}-\u{4E00}\u{AC00}-\u{D7FF}]+", #"\p{N}+"#,
            ]
        case "deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4":
            [#"\p{N}{1,3}"#, "[\u{4E00}-\u{9FA5}\u{3040}-\u{309F}\u{30A0}-\u{30FF}]+", deepSeek3]
        case "qwen35":
            [
                #"\#(contractions)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\#(spaces)"#
            ]
        case "ufakzeka": [#"\#(letters)|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\#(spaces)"#]
        case "tekken": [#"\#(cased(upper, lower, ""))|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\#(spaces)"#]
        case "gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2":
            [#"\#(cased(upper, lower, contractions + "?"))|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\#(spaces)"#]
        case "granite-embed-multi-97m":
            [
                #"\#(cased(#"((?=[\p{L}\p{M}])([^a-z]))"#, #"((?=[\p{L}\p{M}])([^A-Z]))"#, contractions + "?"))"#
                    + #"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\#(spaces)"#
            ]
        case "tiny_aya", "cohere2moe":
            [
                #"\d{1,3}(?=(?:\d{3})*\b)"#,
                #"\#(cased(upperMarked, lowerMarked, contractions + "?"))|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\#(spaces)"#,
            ]
        case "kimi-k2": [TiktokenFamily.kimiPattern]
        default: furtherPatterns(name)
        }
    }

    private static func furtherPatterns(_ name: String) -> [String]? {
        switch name {
        case "bloom", "gpt3-finnish", "poro-chat": [" ?[^(\\s|.,!?…。，、।۔،)]+"]
        case "viking": [" ?[^(\\s|.,!?…。，、।۔،)]+", #"\p{N}"#]
        case "jais-2":
            [
                #"\#(contractions)|\#(letters)|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"#
                    + [512, 256, 128, 64, 32, 16, 8, 4].map { #"|\s{\#($0)}(?!\S)"# }.joined()
                    + #"|\s{1,2}(?!\S)|\s{1}"#
            ]
        case "superbpe": [#"\p{N}+"#, #"(?=(\d{3})+(?!\d))"#]
        case "bailingmoe", "bailingmoe2", "llada-moe":
            [
                #"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|\#(letters)|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]"#
                    + #"|\s+(?!\S)|\s+"#
            ]
        case "seed-coder":
            [#"\#(contractions)|\#(letters)|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\#(spaces)"#]
        case "laguna": [#"[^\n]+|[\n]+"#, SplitScanner.qwen2Pattern]
        case "exaone-moe":
            [
                #"\#(contractions)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?"#
                    + #"|\s*[\r\n]|\s+(?!\S)|\s+"#
            ]
        case "minicpm5":
            [#"\p{N}{1,3}"#, #"\#(contractions)|\#(letters)|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\#(spaces)"#]
        case "chameleon":
            [
                "<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", #"([\t\n]|    |  )"#, #"\p{N}"#,
                #"[\p{P}!-/:-@\[-`{-~]"#, gpt2,
            ]
        case "youtu":
            [
                "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[\u{4E00}-\u{9FA5}\u{3040}-\u{309F}\u{30A0}-\u{30FF}]+",
                #"\#(cased(upperMarked, lowerMarked, contractions + "?"))|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\#(spaces)"#,
            ]
        default: nil
        }
    }

    /// Letters that have case, as DeepSeek's first models list them: ranges of a character class.
    static let casedLetters =
        """
        41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376 377 37B-37D 37F 386 388-38A
        38C 38E-3A1 3A3-3F5 3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF
        1D00-1D2B 1D6B-1D77 1D79-1D9A 1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D
        1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4
        1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128 212A-212D 212F-2134 2139 213C-213F
        2145-2149 214E 2183 2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2 2CF3 A640-A66D A680-A69B A722-A76F
        A771-A787 A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F 104B0-104D3
        104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF 1E900-1E943
        """.split { $0 == " " || $0 == "\n" }.map { range in
            range.split(separator: "-").map { point in
                String(Unicode.Scalar(UInt32(point, radix: 16) ?? 0) ?? " ")
            }.joined(separator: "-")
        }.joined()
}

extension Tokenizer {
    /// What stands in the character class for words of DeepSeek's first models.
    public static var casedLetters: String { GGUFPreTokenizer.casedLetters }

    /// Whether llama.cpp splits every text alike under two values of `tokenizer.ggml.pre`.
    public static func splitsAlike(preTokenizer first: String, _ second: String) -> Bool {
        GGUFPreTokenizer.areAlike(first, second)
    }
}
