/// The farm help-line: a short Tamil or English note of a call and the JSON record that belongs to it.
struct FarmCall {
    let language: Language
    let person: Person
    let village: Trilingual
    let crop: (code: String, english: String, tamil: String)
    /// Acres, whole or with one decimal.
    let acres: String
    /// Days since sowing.
    let cropAge: Int
    let trouble: Trouble
    /// Which of the trouble's wordings the note uses.
    let wording: Int
    let days: Int
    let water: (code: String, english: String, tamil: String)?
    let phone: String?
    let visit: Bool?

    /// The figures that must not occur together on both sides of the split.
    var combination: String {
        "\(acres) \(cropAge) \(days)"
    }

    static func draw(_ random: inout RandomSource, _ split: Split) -> FarmCall {
        random.draw(on: split, key: { [$0.combination] }, make: { make(&$0, split) })
    }

    private static func make(_ random: inout RandomSource, _ split: Split) -> FarmCall {
        let language: Language = random.chance(60) ? .tamil : .english
        return FarmCall(
            language: language, person: Names.person(&random, split, in: [language]),
            village: Names.place(&random, split, in: [language]), crop: random.pick(FarmWords.crops),
            acres: random.chance(60)
                ? String(random.number(1...20)) : "\(random.number(0...9)).\(random.number(1...9))",
            cropAge: random.number(8...180), trouble: random.pick(FarmWords.troubles), wording: random.below(2),
            days: random.number(2...30), water: random.chance(60) ? random.pick(FarmWords.water) : nil,
            phone: random.chance(70) ? Names.phone(&random, split) : nil,
            visit: random.chance(60) ? random.chance(50) : nil)
    }

    /// The record; what the caller did not say is null.
    var record: String {
        JSON.object([
            ("farmer", .string(person.full(language))), ("village", .string(village[language])),
            ("crop", .string(crop.code)), ("acres", .number(acres)), ("crop_days", .number(String(cropAge))),
            ("problem", .string(trouble.code)), ("since_days", .number(String(days))),
            ("water", water.map { .string($0.code) } ?? .null), ("phone", phone.map(JSON.string) ?? .null),
            ("visit", visit.map(JSON.bool) ?? .null),
        ]).text()
    }

    static let system = "Farm help-line: call to record."

    func row(_ random: inout RandomSource) -> Row {
        .exchange(system: FarmCall.system, note(&random), record)
    }
}

// MARK: - Notes

extension FarmCall {
    private static let englishOpenings = [
        "{n} of {v} grows {c} on {a} acres, {g} days old. For {d} days {t}.",
        "Call from {n}, village {v}: {c}, {a} acres, sown {g} days ago; {t}, {d} days now.",
        "{n} ({v}) has {a} acres of {c} at day {g} and says that {t} since {d} days.",
    ]
    private static let tamilOpenings = [
        "{n}, {v} கிராமம். {a} ஏக்கர் {c}, வயது {g} நாட்கள். {d} நாட்களாக {t}.",
        "அழைத்தவர் {n}, ஊர் {v}. பயிர் {c}, பரப்பு {a} ஏக்கர், விதைத்து {g} நாட்கள். {t}, {d} நாட்களாக.",
        "விவசாயி {n} ({v}): {c} {a} ஏக்கர், {g} நாள் பயிர். கடந்த {d} நாட்களாக {t}.",
    ]

    func note(_ random: inout RandomSource) -> String {
        let isTamil = language == .tamil
        let opening = random.pick(isTamil ? FarmCall.tamilOpenings : FarmCall.englishOpenings).filled([
            ("n", person.full(language)), ("v", village[language]), ("c", isTamil ? crop.tamil : crop.english),
            ("a", acres), ("g", String(cropAge)), ("d", String(days)),
            ("t", isTamil ? trouble.tamil[wording] : trouble.english[wording]),
        ])
        return ([opening] + random.shuffled(parts(&random))).joined(separator: " ")
    }

    private func parts(_ random: inout RandomSource) -> [String] {
        let isTamil = language == .tamil
        var parts: [String] = []
        if let water { parts.append(isTamil ? water.tamil : water.english) }
        if let phone {
            let wordings = isTamil ? ["தொலைபேசி {v}.", "கைபேசி எண் {v}."] : ["Phone {v}.", "Mobile {v}.", "Call back on {v}."]
            parts.append(random.pick(wordings).filled("v", phone))
        }
        if let visit {
            let wordings = visit ? FarmWords.visit : FarmWords.noVisit
            parts.append(random.pick(isTamil ? wordings.tamil : wordings.english))
        }
        return parts
    }
}
