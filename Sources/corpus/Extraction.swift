/// Tasks over a paragraph of facts: records, lines, questions, sentences, translations.
enum Extraction {
    static func paragraph(_ random: inout RandomSource, _ language: Language) -> Row {
        .text(scene(&random).paragraph(language, &random))
    }

    static func scene(_ random: inout RandomSource) -> Scene {
        Scene(random.pick(domains), &random)
    }

    /// People's domains count twice: their records need more than copying.
    private static let domains = TravelDomains.all + TownDomains.all + PeopleDomains.all + PeopleDomains.all

    // MARK: Records

    private static let recordRequests: [[String]] = [
        [
            "{p}\n\nWrite {k} as JSON{e}.", "Return JSON with {k}{e}.\n\n{p}",
            "Text: {p}\nKeys: {k}\nAnswer in JSON{e}.",
            "Take {k} from the text and answer in JSON{e}:\n{p}", "{p}\n{k} -> JSON{e}",
        ],
        [
            "{p}\n\n{k} को JSON में लिखिए{e}।", "इस पाठ से {k} निकालकर JSON दीजिए{e}:\n{p}", "{p}\nकुंजियाँ: {k}। उत्तर JSON में दीजिए{e}।",
        ],
        [
            "{p}\n\n{k} ஆகியவற்றை JSON ஆக எழுதவும்{e}.", "இந்த உரையிலிருந்து {k} எடுத்து JSON தரவும்{e}:\n{p}",
            "{p}\nசாவிகள்: {k}. JSON வடிவில் பதில் தரவும்{e}.",
        ],
    ]
    private static let inEnglish = [", words in English", ", शब्द अंग्रेज़ी में", ", சொற்கள் ஆங்கிலத்தில்"]

    /// What a record asks for: facts and the names they go by in it.
    private struct Request {
        var facts: [Int]
        var keys: [String]

        init(_ scene: Scene, _ random: inout RandomSource) {
            let unsaid = (0..<scene.facts.count).filter { !scene.said.contains($0) }
            var wanted = random.sample(scene.said, random.number(2...scene.said.count))
            if random.chance(40) { wanted += random.sample(unsaid, min(unsaid.count, random.number(1...2))) }
            facts = random.chance(50) ? wanted.sorted() : random.shuffled(wanted)
            keys = []
            for fact in facts {
                let free = scene.facts[fact].keys.filter { !keys.contains($0) }
                keys.append(free.isEmpty ? scene.facts[fact].keys[0] + "_2" : random.pick(free))
            }
        }

        func object(_ scene: Scene, _ language: Language) -> JSON {
            .object(
                zip(facts, keys).map { fact, key in
                    (key, scene.said.contains(fact) ? scene.values[fact].json(language) : .null)
                })
        }
    }

    static func record(_ random: inout RandomSource, _ language: Language) -> Row {
        let scene = scene(&random)
        let request = Request(scene, &random)
        let hasWord = request.facts.contains { scene.values[$0].isWord && scene.said.contains($0) }
        let english = language != .english && hasWord && random.chance(60)
        let spaced = random.chance(20)
        let question = random.pick(recordRequests[language.rawValue]).filled([
            ("p", scene.paragraph(language, &random)), ("k", request.keys.joined(separator: ", ")),
            ("e", english ? inEnglish[language.rawValue] : ""),
        ])
        // Only the words of the lexicon change language; names stay as they are written.
        let answer = JSON.object(
            zip(request.facts, request.keys).map { fact, key in
                guard scene.said.contains(fact) else { return (key, .null) }
                return (key, scene.values[fact].json(english && scene.values[fact].isWord ? .english : language))
            })
        let system = random.chance(25) ? "You turn text into records." : nil
        return .exchange(system: system, question, answer.text(spaced: spaced))
    }

    /// The second turn gives a text alone: the record's shape is the one of the first turn.
    static func recordAgain(_ random: inout RandomSource, _ language: Language) -> Row {
        let domain = random.pick(domains)
        let first = Scene(domain, &random)
        var request = Request(first, &random)
        request.facts = Array(request.facts.prefix(4))
        request.keys = Array(request.keys.prefix(4))
        let second = Scene(domain, &random)
        let question = random.pick(recordRequests[language.rawValue]).filled([
            ("p", first.paragraph(language, &random)), ("k", request.keys.joined(separator: ", ")), ("e", ""),
        ])
        return .messages([
            ("user", question), ("assistant", request.object(first, language).text()),
            ("user", second.paragraph(language, &random)), ("assistant", request.object(second, language).text()),
        ])
    }

    private static let lineRequests = [
        ["{p}\n\nList {k}, one a line.", "Make a list of {k}:\n{p}"],
        ["{p}\n\n{k} की सूची बनाइए।"], ["{p}\n\n{k} பட்டியலிடவும்."],
    ]

    static func lines(_ random: inout RandomSource, _ language: Language) -> Row {
        let scene = scene(&random)
        let wanted = random.sample(scene.said, random.number(2...scene.said.count))
        let keys = wanted.map { scene.facts[$0].keys[0] }
        let question = random.pick(lineRequests[language.rawValue]).filled([
            ("p", scene.paragraph(language, &random)), ("k", keys.joined(separator: ", ")),
        ])
        let answer = zip(wanted, keys).map { fact, key in key + ": " + shown(scene.values[fact], language) }
        return .exchange(question, answer.joined(separator: "\n"))
    }

    // MARK: Questions

    private static let yes = ["Yes.", "हाँ।", "ஆம்."]
    private static let no = ["No.", "नहीं।", "இல்லை."]
    private static let unknown = ["The text does not say.", "पाठ में यह नहीं लिखा है।", "உரையில் இது இல்லை."]

    private static func shown(_ value: Value, _ language: Language) -> String {
        guard case .flag(let said) = value.form else { return value.shown[language] }
        return said ? ["yes", "हाँ", "ஆம்"][language.rawValue] : ["no", "नहीं", "இல்லை"][language.rawValue]
    }

    private static func answer(_ scene: Scene, _ fact: Int, _ language: Language) -> String {
        guard scene.said.contains(fact) else { return unknown[language.rawValue] }
        if case .flag(let said) = scene.values[fact].form { return (said ? yes : no)[language.rawValue] }
        return scene.values[fact].shown[language] + language.fullStop
    }

    static func question(_ random: inout RandomSource, _ language: Language) -> Row {
        let scene = scene(&random)
        let asked = random.sample(Array(0..<scene.facts.count), random.number(1...3))
        var turns: [(role: String, content: String)] = []
        for (turn, fact) in asked.enumerated() {
            let question = scene.facts[fact].questions[language.rawValue]
            let text =
                turn > 0
                ? question
                : random.chance(70)
                    ? scene.paragraph(language, &random) + "\n\n" + question
                    : question + "\n\n" + scene.paragraph(language, &random)
            turns.append(("user", text))
            turns.append(("assistant", answer(scene, fact, language)))
        }
        return .messages(turns)
    }

    // MARK: Sentences

    private static let sentenceRequests = ["Write this in sentences:\n", "इसे वाक्यों में लिखिए:\n", "இதை வாக்கியங்களாக எழுதவும்:\n"]

    /// The plain wording of the first `count` facts that were said.
    private static func plain(_ scene: Scene, _ count: Int, _ language: Language) -> String {
        scene.said.prefix(count).map { index in
            let fact = scene.facts[index]
            if case .flag(false) = scene.values[index].form { return fact.denials[language.rawValue][0] }
            return fact.sentences[language.rawValue][0].filled("v", scene.values[index].shown[language])
        }.joined(separator: " ")
    }

    static func sentences(_ random: inout RandomSource, _ language: Language) -> Row {
        let scene = scene(&random)
        let count = min(scene.said.count, random.number(2...4))
        let members = scene.said.prefix(count).map { (scene.facts[$0].keys[0], scene.values[$0].json(language)) }
        let notes =
            random.chance(50)
            ? JSON.object(members).text()
            : scene.said.prefix(count).map { scene.facts[$0].keys[0] + ": " + shown(scene.values[$0], language) }
                .joined(separator: "; ")
        return .exchange(sentenceRequests[language.rawValue] + notes, plain(scene, count, language))
    }

    static func translation(_ random: inout RandomSource, _ language: Language) -> Row {
        let scene = scene(&random)
        let count = min(scene.said.count, random.number(1...3))
        let target = random.pick(Language.allCases.filter { $0 != language })
        return .exchange(
            Translation.request(target, &random) + plain(scene, count, language), plain(scene, count, target))
    }
}

/// How a translation is asked for.
enum Translation {
    static func request(_ target: Language, _ random: inout RandomSource) -> String {
        switch random.below(3) {
        case 0: return "Translate into \(Language.english.name(of: target)): "
        case 1: return "\(Language.hindi.name(of: target)) में अनुवाद कीजिए: "
        default: return "இதை மொழிபெயர்க்கவும் (\(Language.tamil.name(of: target))): "
        }
    }
}
