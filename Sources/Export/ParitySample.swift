import FileFormats
import FineTuning
import TextData

/// What a written model is tried on: texts, conversations, and token sequences for the logits.
struct ParitySample {
    /// The tokens of all sequences together, and of the longest.
    let tokenLimit: Int
    private static let sequenceLimit = 48

    var texts: [String] = []
    var conversations: [Conversation] = []
    var sequences: [[Int32]] = []

    /// - Parameter data: files of rows to take the sample from; none takes the built-in one.
    /// - Throws: what is wrong with the rows.
    init(text: TextResources?, vocabulary: Int, config: ModelConfig?, data: [String]) throws {
        tokenLimit = Self.tokenLimit(config)
        if !data.isEmpty, let config {
            try takeRows(data, text: text, config: config)
        } else if let text {
            texts = Self.builtInTexts
            conversations = Self.builtInConversations
            takeSequences(of: text, vocabulary: vocabulary)
        }
        if sequences.isEmpty {
            sequences = Self.arbitrarySequences(vocabulary: vocabulary, count: min(4, tokenLimit / 32))
        }
    }

    /// Fewer for large models, whose every token costs more: the weights are compared one by one as well.
    private static func tokenLimit(_ config: ModelConfig?) -> Int {
        guard let config else { return 192 }
        let parameters = ParameterTable(config).parameters.reduce(0.0) { $0 + Double($1.shape.reduce(1, *)) }
        return Int(min(192, max(64, 192 * 2.5e8 / max(1, parameters))))
    }

    /// Shortens all sequences to `length` tokens.
    mutating func cut(to length: Int) { sequences = sequences.map { Array($0.prefix(length)) } }

    /// Rows spread evenly over the data.
    private mutating func takeRows(_ data: [String], text: TextResources?, config: ModelConfig) throws {
        let rows = try RowLoader(text: text, config: config, options: ExampleOptions()).load(data)
        let wanted = min(rows.examples.count, 24)
        var taken = 0
        for index in 0..<wanted {
            let ids = rows.examples[index * rows.examples.count / wanted].ids
            if let text { texts.append(text.tokenizer.decode(ids, skipSpecialTokens: false)) }
            guard taken < tokenLimit else { continue }
            sequences.append(Array(ids.prefix(min(2 * Self.sequenceLimit, tokenLimit - taken))))
            taken += sequences[sequences.count - 1].count
        }
        if text?.template != nil { conversations = Self.builtInConversations }
    }

    /// The first conversation that the template takes, then the texts, each cut short.
    private mutating func takeSequences(of text: TextResources, vocabulary: Int) {
        var candidates: [[Int32]] = []
        if let template = text.template {
            let rendered = conversations.lazy.compactMap {
                try? template.render(messages: $0.messages, tools: $0.tools, addGenerationPrompt: true).text
            }.first
            if let ids = rendered.flatMap({ try? text.tokenizer.encoding(of: $0, addSpecialTokens: false).ids }) {
                candidates.append(ids)
            }
        }
        candidates += texts.compactMap { try? text.tokenizer.encoding(of: $0, addSpecialTokens: true).ids }
        var taken = 0
        for ids in candidates where taken < tokenLimit {
            let part = ids.prefix(min(Self.sequenceLimit, tokenLimit - taken))
            guard !part.isEmpty, part.allSatisfy({ Int($0) < vocabulary }) else { continue }
            sequences.append(Array(part))
            taken += part.count
        }
    }

    /// Ids spread over the vocabulary, for models without a tokenizer.
    private static func arbitrarySequences(vocabulary: Int, count: Int) -> [[Int32]] {
        var state: UInt64 = 0x9E37_79B9
        return (0..<count).map { _ in
            (0..<32).map { _ in
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return Int32(state >> 33 & 0x7FFF_FFFF) % Int32(vocabulary)
            }
        }
    }

    /// Scripts, digits, contractions, cases, white space and code: where pre-tokenizers differ. In form NFC, since no
    /// GGUF file can say that a text is to be brought into it.
    static let builtInTexts = [
        "It's 12,345.67 km from here; they'll arrive at 09:30, WE'VE checked (twice)!\n\n  Don't wait.",
        "नमस्ते दुनिया! क्या आप बता सकते हैं कि बैंक १२३ कब खुलता है?",
        "def f(x):\n    if x >= 10:\n\t\treturn {'a': x ** 2, \"b\": [1, 22, 333, 4444]}\n\n\n"
            + "# XMLHttpRequest snake_case",
        "வணக்கம், இன்று மழை பெய்யுமா? ನಮಸ್ಕಾರ, ಪುಸ್ತಕದ ಬೆಲೆ ಎಷ್ಟು?",
        "Größe, façade, niño, œuvre: déjà vu à Łódź, 2024-11-05. Ещё один день, и всё готово.",
        "今天天气很好，我们去公园吧。ひらがなとカタカナ。안녕하세요 세계",
        "مرحبا، كم الساعة الآن؟ สวัสดีครับ Habari ya asubuhi, ng'ombe wangapi wako shambani?",
        "a  b   c    d\te\r\nf \u{1F680}\u{1F680} \u{1F469}\u{200D}\u{1F52C} <b>ok</b> "
            + "https://example.org/a?b=c&d=%20 ...???!!",
        " 1234567890 + 98765 = ~1e9; $5 #1 @me _x_ --- `code` \\n «да» „ja“",
    ]

    static let builtInConversations = [
        Conversation(messages: [
            ["role": "system", "content": "Answer briefly."],
            ["role": "user", "content": "What is 12 x 34? क्या यह सही है?"],
            ["role": "assistant", "content": "It is 408."], ["role": "user", "content": "And 5 more?"],
        ]),
        Conversation(messages: [["role": "user", "content": "Write a line of Python.\n\nThen stop."]]),
        Conversation(messages: [
            ["role": "user", "content": "Hello"], ["role": "assistant", "content": "Hello, what can I do?"],
            ["role": "user", "content": "Nothing."], ["role": "assistant", "content": "Good."],
        ]),
        Conversation(
            messages: [["role": "user", "content": "How warm is it in Mysuru?"]],
            tools: [
                [
                    "type": "function",
                    "function": [
                        "name": "temperature", "description": "The temperature of a place.",
                        "parameters": [
                            "type": "object", "properties": ["place": ["type": "string"]], "required": ["place"],
                        ],
                    ],
                ]
            ]),
    ]
}
