import FileFormats

@testable import TextData

/// Clean chat rows in many languages, with code, emoji and names, and rows with one defect each.
struct PlantedRows {
    var generator: SeededGenerator

    /// Some words of each language, and its full stop.
    static let languages: [(words: [String], stop: String)] = [
        (
            "the market opens early and every farmer brings fresh bread apples honey to sell before noon while "
                + "children play near café naïve résumé", "."
        ), ("आज बाज़ार सुबह जल्दी खुलता है और किसान ताज़ी सब्ज़ी लेकर आते हैं लड़का पढ़ता है पानी ठंडा है", "।"),
        ("இன்று சந்தை காலையில் திறக்கும் விவசாயி புதிய காய்கறி கொண்டு வருகிறார் தண்ணீர் குளிர்ச்சியாக உள்ளது", "."),
        ("ಇಂದು ಮಾರುಕಟ್ಟೆ ಬೆಳಿಗ್ಗೆ ತೆರೆಯುತ್ತದೆ ರೈತ ತಾಜಾ ತರಕಾರಿ ತರುತ್ತಾನೆ ನೀರು ತಣ್ಣಗಿದೆ ಕೋಳಿ ಮೊಟ್ಟೆ", "."),
        (
            "leo soko linafunguliwa asubuhi na mkulima analeta mboga mpya watoto wanacheza karibu na mto maji baridi",
            "."
        ),
        ("আজ বাজার সকালে খোলে কৃষক তাজা সবজি নিয়ে আসে ছেলেটি পড়ে জল ঠান্ডা", "।"),
        ("aujourd’hui le marché ouvre tôt et l’élève mange une crêpe près du château à Noël où ça", "."),
        ("heute öffnet der Markt früh und der Bäcker bringt süßes Brot für die Straße über den Fluß", "."),
        ("hôm nay chợ mở cửa sớm và người nông dân mang rau tươi đến bán trước buổi trưa", "."),
        ("今日 市場 早朝 開く 農家 新鮮 野菜 持って 来る 子供 遊ぶ", "。"), ("오늘 시장은 아침 일찍 열리고 농부는 신선한 채소를 가져온다", "."),
        ("сегодня рынок открывается рано и ёжик несёт свежий хлеб большой дом", "."),
        ("اليوم يفتح السوق مبكرا ويحضر الفلاح خضارا طازجة والماء بارد", "."),
    ].map { ($0.0.split(separator: " ").map(String.init), $0.1) }

    private static let extras = [
        "```python\ndef area(r):\n    return 3.14 * r ** 2\n```", "`a[i] < b[i] && x > 0 || !done`",
        "<b>bold</b> and <i>italic</i>", "🎉🎉🎉 👩‍👩‍👧 🇮🇳 👍🏽 😂😂😂🔥🔥 💯", "José Álvarez met Zoë and Łukasz Żółć.",
        "Ngũgĩ wa Thiong’o", "1,234.50 € ≥ 10 %", "https://example.org/a?b=c&d=[e]", "{\"key\": [1, 2, null]}",
        "if (a <= b) { return a | b; }", "User: admin, pass: <hidden>", "C:\\temp\\file.txt", "| a | b |\n|---|---|",
        "#include <vector>", "∑ x² → ∞", "§ 5 “quoted” — done…", "हिन्दी and English mixed", "<s", "[inst]", "s> </",
    ]

    init(seed: UInt64) { generator = SeededGenerator(seed) }

    mutating func sentence(_ language: Int? = nil) -> String {
        let choice = language ?? Int.random(in: 0..<Self.languages.count, using: &generator)
        let (words, stop) = Self.languages[choice]
        let count = Int.random(in: 3...9, using: &generator)
        var text = (0..<count).map { _ in words.randomElement(using: &generator) ?? "" }.joined(separator: " ") + stop
        if Int.random(in: 0..<3, using: &generator) == 0 {
            text += " " + (Self.extras.randomElement(using: &generator) ?? "")
        }
        return text
    }

    static func chat(_ question: String, _ answer: String) -> JSONValue {
        [
            "messages": [
                ["role": "user", "content": .string(question)], ["role": "assistant", "content": .string(answer)],
            ]
        ]
    }

    /// A row without a defect, as a line of JSON.
    mutating func clean() -> [UInt8] {
        let (a, b) = (sentence(), sentence())
        let value: JSONValue =
            switch Int.random(in: 0..<8, using: &generator) {
            case 0: ["instruction": .string(a), "input": "", "output": .string(b)]
            case 1: ["conversations": [["from": "human", "value": .string(a)], ["from": "gpt", "value": .string(b)]]]
            case 2: ["text": .string(a + "\n" + b)]
            case 3: ["prompt": .string(a + "\n"), "completion": .string(b)]
            case 4: ["input_ids": [5, 6, 7, 257], "labels": [-100, 6, 7, 257]]
            case 5:
                [
                    "messages": [
                        ["role": "system", "content": .string(sentence())], ["role": "user", "content": .string(a)],
                        ["role": "assistant", "content": .string(b), "weight": 0],
                        ["role": "user", "content": .string(sentence())],
                        ["role": "assistant", "content": .string(sentence())],
                    ]
                ]
            default: Self.chat(a, b)
            }
        return JSONWriter.bytes(value)
    }

    /// A row that has this defect and no other.
    mutating func planted(_ lint: Lint) -> [UInt8] {
        let (a, b) = (sentence(), sentence())
        let isFirst = Bool.random(using: &generator)
        func line(_ value: JSONValue) -> [UInt8] { JSONWriter.bytes(value) }
        switch lint {
        case .noTrainedToken:
            return isFirst
                ? line(["messages": [["role": "user", "content": .string(a)]]])
                : line(["input_ids": [4, 5, 257], "labels": [-100, -100, -100]])
        case .noEndOfTurn: return line(["input_ids": [4, 5, 6, 257], "labels": [-100, 5, 6, -100]])
        case .doubleBOS: return line(["text": .string("<s>" + a)])
        case .templateMarkers:
            let marker = ["<|im_start|>", "<|im_end|>", "</s>"].randomElement(using: &generator) ?? ""
            return line(isFirst ? Self.chat(a + marker, b) : Self.chat(a, marker + "user\n" + b))
        case .roleOrder:
            return line([
                "messages": [
                    ["role": "assistant", "content": .string(a)], ["role": "user", "content": .string(b)],
                    ["role": "assistant", "content": .string(a)],
                ]
            ])
        case .truncatedLabels: return line(Self.chat(String(repeating: "long text ", count: 800), b))
        case .duplicateRows: return line(Self.chat(a, b))
        case .invalidUnicode:
            let bad: [UInt8] = isFirst ? [0xED, 0xA0, 0x80] : Array("\\udc00".utf8)
            return Array("{\"text\": \"x ".utf8) + bad + Array(" y\"}".utf8)
        case .replacementCharacters: return line(isFirst ? Self.chat(a + "\u{FFFD}", b) : ["text": "caf\u{FFFD} 1"])
        case .mixedNormalization:
            return line(isFirst ? Self.chat(a, "cafe\u{301} " + b) : Self.chat("ಕ\u{CC6}\u{CC2}ಳಿ " + a, b))
        case .judgedRows:
            return line(["prompt": .string(a), "completion": .string(b), "label": isFirst ? false : "undesirable"])
        case .missingAnswer: return line(Self.chat(a, isFirst ? "nan" : "None"))
        case .mediaPlaceholder: return line(Self.chat("<image>" + a, b))
        case .byteFallback: return line(Self.chat("ᱥᱟᱱᱛᱟᱲᱤ ᱯᱟᱹᱨᱥᱤ ᱛᱮ ᱚᱞ ᱟᱠᱟᱱ", "ᱯᱩᱛᱷᱤ ᱥᱟᱱᱛᱟᱲᱤ ᱯᱟᱹᱨᱥᱤ"))
        }
    }
}
