/// Short exercises in copying, looking up and quoting what stands in the question.
enum Drills {
    private static let requests = (
        again: ["Repeat: ", "दोहराइए: ", "திரும்பச் சொல்லவும்: "],
        list: ["Make a JSON list: ", "JSON सूची बनाइए: ", "JSON பட்டியலாக எழுதவும்: "],
        join: ["Write without spaces: ", "बिना जगह छोड़े लिखिए: ", "இடைவெளி இல்லாமல் எழுதவும்: "]
    )

    private static func name(_ random: inout RandomSource, _ language: Language) -> String {
        let person = Names.person(&random)
        return random.chance(60) ? person.full(language) : person.given[language]
    }

    /// A thing worth copying: a name, a place, a number, a code, a word.
    private static func item(_ random: inout RandomSource, _ language: Language) -> String {
        switch random.below(9) {
        case 0, 1, 2: return name(&random, language)
        case 3: return Names.place(&random)[language]
        case 4: return Names.phone(&random)
        case 5: return String(random.number(1...999))
        case 6: return "\(random.number(80...190))/\(random.number(50...120))"
        case 7: return ValueKind.code(random.pick(["@@-###", "#@##", "@####", "###-####"]), &random)
        default: return random.chance(50) ? random.pick(PlainWords.all) : random.pick(Lexicon.everything)[language]
        }
    }

    private static func items(_ random: inout RandomSource, _ language: Language, _ count: ClosedRange<Int>) -> [String]
    {
        (0..<random.number(count)).map { _ in item(&random, language) }
    }

    static func again(_ random: inout RandomSource, _ language: Language) -> Row {
        let text = items(&random, language, 2...6).joined(separator: random.pick([", ", " ", "; "]))
        return .exchange(requests.again[language.rawValue] + text, text)
    }

    static func list(_ random: inout RandomSource, _ language: Language) -> Row {
        let items = items(&random, language, 2...6)
        return .exchange(
            requests.list[language.rawValue] + items.joined(separator: random.pick([", ", "; ", "\n"])),
            JSON.array(items.map { .string($0) }).text())
    }

    /// Digits that stand apart are written together.
    static func join(_ random: inout RandomSource, _ language: Language) -> Row {
        let phone = Names.phone(&random)
        return .exchange(requests.join[language.rawValue] + phone.map(String.init).joined(separator: " "), phone)
    }

    private static let lookups = ["What is {k}?", "{k} क्या है?", "{k} என்ன?"]

    static func lookup(_ random: inout RandomSource, _ language: Language) -> Row {
        let keys = random.sample(Lexicon.everything, random.number(3...6)).map { $0[language] }
        let values = keys.map { _ in item(&random, language) }
        let sign = random.pick([" = ", ": ", " - "])
        let pairs = zip(keys, values).map { $0 + sign + $1 }
        let asked = random.below(keys.count)
        return .exchange(
            pairs.joined(separator: random.pick(["\n", ", ", "; "])) + "\n"
                + lookups[language.rawValue].filled("k", keys[asked]),
            values[asked])
    }

    private static let positions: [[String]] = [
        ["first", "second", "third", "last"], ["पहला", "दूसरा", "तीसरा", "आख़िरी"],
        ["முதல்", "இரண்டாவது", "மூன்றாவது", "கடைசி"],
    ]
    private static let positionRequests = ["Which is the {k} one?\n", "{k} कौन-सा है?\n", "{k} எது?\n"]

    static func position(_ random: inout RandomSource, _ language: Language) -> Row {
        let items = items(&random, language, 3...5)
        let which = random.below(4)
        let request = positionRequests[language.rawValue].filled("k", positions[language.rawValue][which])
        return .exchange(request + items.joined(separator: "\n"), which == 3 ? items[items.count - 1] : items[which])
    }

    private static let wordRequests = [
        "What is \"{w}\" in {l}?", "\"{w}\" को {l} में क्या कहते हैं?", "\"{w}\" என்பதற்கு {l} சொல் என்ன?",
    ]

    static func word(_ random: inout RandomSource, _ language: Language) -> Row {
        let word = random.pick(Lexicon.everything)
        let target = random.pick(Language.allCases.filter { $0 != language })
        return .exchange(
            wordRequests[language.rawValue].filled([("w", word[language]), ("l", language.name(of: target))]),
            word[target])
    }

    static func dictionary(_ random: inout RandomSource) -> Row {
        let words = random.sample(Lexicon.everything, random.number(4...8))
        return .text(words.map { "\($0.english) = \($0.hindi) = \($0.tamil)" }.joined(separator: "\n"))
    }

    private static let objectRequests = [
        "Write this as a JSON object:\n", "इसे JSON वस्तु में लिखिए:\n", "இதை JSON ஆக எழுதவும்:\n",
    ]

    /// Keys and values, line by line or in a row, to a JSON object: any word can be a key.
    static func object(_ random: inout RandomSource, _ language: Language) -> Row {
        let keys = random.sample(PlainWords.all, random.number(2...6))
        var pairs: [String] = []
        var members: [(key: String, value: JSON)] = []
        for key in keys {
            let isNumber = random.chance(30)
            let value =
                isNumber
                ? String(random.number(0...2000))
                : random.chance(25) ? random.pick(PlainWords.all) : item(&random, language)
            pairs.append("\(key): \(value)")
            members.append((key, isNumber ? .number(value) : .string(value)))
        }
        return .exchange(
            objectRequests[language.rawValue] + pairs.joined(separator: random.pick(["\n", ", ", "; "])),
            JSON.object(members).text(spaced: random.chance(15)))
    }

    private static let codeRequests = ["Give the code: ", "कोड दीजिए: ", "குறியீடு தரவும்: "]

    /// Wordings to the codes of what they mean.
    static func codes(_ random: inout RandomSource, _ language: Language) -> Row {
        let concepts = (0..<random.number(1...4)).map { _ in random.pick(random.pick(Concepts.groups)) }
        let wordings = concepts.map { $0.wording(&random)[language] }
        return .exchange(
            codeRequests[language.rawValue] + wordings.joined(separator: "; "),
            concepts.map(\.code).joined(separator: "; "))
    }

    private static let figureRequests = ["How many days? ", "कितने दिन? ", "எத்தனை நாட்கள்? "]

    static func figure(_ random: inout RandomSource, _ language: Language) -> Row {
        let spans = (0..<random.number(1...3)).map { _ in random.pick(Concepts.spans) }
        return .exchange(
            figureRequests[language.rawValue] + spans.map { $0.words[language] }.joined(separator: "; "),
            spans.map { String($0.days) }.joined(separator: "; "))
    }
}
