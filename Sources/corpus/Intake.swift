/// The clinic's intake desk: a short note in English or Hindi and the JSON record that belongs to it.
struct IntakeVisit {
    let language: Language
    let person: Person
    let age: Int
    let complaints: [Complaint]
    /// Which of a complaint's phrases the note uses.
    let phrases: [Int]
    let days: Int
    /// The note's words for `days`, where it does not give the figure.
    let daysInWords: String?
    /// Degrees Fahrenheit, spelled with one decimal.
    let temperature: String?
    /// Millimetres of mercury, systolic/diastolic.
    let pressure: String?
    let phone: String?
    /// Whether the note speaks of urgency, and what it says.
    let urgent: Bool?

    /// The readings that must not occur together on both sides of the split.
    var combination: String {
        "\(age) \(days) \(temperature ?? "-") \(pressure ?? "-")"
    }

    static func draw(_ random: inout RandomSource, _ split: Split) -> IntakeVisit {
        random.draw(on: split, key: { [$0.combination] }, make: { make(&$0, split) })
    }

    private static func make(_ random: inout RandomSource, _ split: Split) -> IntakeVisit {
        let language: Language = random.chance(55) ? .english : .hindi
        let complaints = random.sample(IntakeWords.complaints, random.chance(35) ? 2 : 1)
        let span = random.pick(IntakeWords.spansInWords)
        let inWords = random.chance(30)
        return IntakeVisit(
            language: language, person: Names.person(&random, split, in: [language]), age: random.number(18...89),
            complaints: complaints,
            phrases: complaints.map { random.below(language == .english ? $0.english.count : $0.hindi.count) },
            days: inWords ? span.days : random.number(2...25),
            daysInWords: inWords ? (language == .english ? span.english : span.hindi) : nil,
            temperature: random.chance(65) ? temperature(complaints, &random) : nil,
            pressure: random.chance(60) ? pressure(&random) : nil,
            phone: random.chance(70) ? Names.phone(&random, split) : nil,
            urgent: random.chance(65) ? random.chance(50) : nil)
    }

    private static func temperature(_ complaints: [Complaint], _ random: inout RandomSource) -> String {
        let hasFever = complaints.contains { $0.code == "fever" }
        return "\(random.number(hasFever ? 100...104 : 97...99)).\(random.below(10))"
    }

    private static func pressure(_ random: inout RandomSource) -> String {
        let systolic = random.number(92...188)
        return "\(systolic)/\(random.number(max(50, systolic * 5 / 10)...min(118, systolic * 8 / 10)))"
    }

    /// The record; what the note does not say is null.
    var record: String {
        JSON.object([
            ("name", .string(person.full(language))), ("age", .number(String(age))),
            ("sex", .string(person.isWoman ? "F" : "M")), ("phone", phone.map(JSON.string) ?? .null),
            ("complaints", .array(complaints.map { .string($0.code) })), ("days", .number(String(days))),
            ("temp_f", temperature.map(JSON.number) ?? .null), ("bp", pressure.map(JSON.string) ?? .null),
            ("urgent", urgent.map(JSON.bool) ?? .null),
        ]).text()
    }

    static let system = "Clinic intake: note to record."

    func row(_ random: inout RandomSource) -> Row {
        .exchange(system: IntakeVisit.system, note(&random), record)
    }
}

// MARK: - Notes

extension IntakeVisit {
    func note(_ random: inout RandomSource) -> String {
        let opening = language == .english ? englishOpening(&random) : hindiOpening(&random)
        var parts = language == .english ? englishParts(&random) : hindiParts(&random)
        parts = random.shuffled(parts)
        return ([opening] + parts).joined(separator: " ")
    }

    private var span: String {
        daysInWords ?? (language == .english ? "\(days) days" : "\(days) दिन")
    }

    private static let englishOpenings = [
        "{n}, {a}-year-old {s}, with {c} for {d}.", "{n} ({a}, {s}) has had {c} for {d}.",
        "{n}, {s}, aged {a}, complains of {c} for the past {d}.", "Walk-in: {n}, {s}, {a} years. For {d}: {c}.",
        "Patient {n}, {s}, age {a}. Reports {c} for the last {d}.", "For {d} {n}, a {s} of {a}, has had {c}.",
    ]

    private func englishOpening(_ random: inout RandomSource) -> String {
        let complaint = zip(complaints, phrases).map { $0.english[$1] }.joined(separator: " and ")
        return random.pick(IntakeVisit.englishOpenings).filled([
            ("n", person.full(.english)), ("a", String(age)), ("c", complaint), ("d", span),
            ("s", person.isWoman ? random.pick(["woman", "female"]) : random.pick(["man", "male"])),
        ])
    }

    private func englishParts(_ random: inout RandomSource) -> [String] {
        var parts: [String] = []
        if let temperature {
            parts.append(
                random.pick(["Temp {v} F.", "Temperature {v} F.", "Thermometer {v}."]).filled("v", temperature))
        }
        if let pressure {
            parts.append(random.pick(["BP {v}.", "Blood pressure {v}.", "BP is {v}."]).filled("v", pressure))
        }
        if let phone {
            parts.append(random.pick(["Phone {v}.", "Mobile {v}.", "Call {v}.", "Contact: {v}."]).filled("v", phone))
        }
        if let urgent { parts.append(random.pick(urgent ? IntakeWords.urgent.english : IntakeWords.calm.english)) }
        return parts
    }

    private static let hindiOpenings = [
        "{n}, {a} वर्ष, {s}। {d} से {c} की शिकायत है।", "मरीज़ {n}, उम्र {a} साल, {s}, {d} से {c} की शिकायत।",
        "{n}, {s}, उम्र {a} वर्ष, को {d} से {c} की शिकायत है।", "{n} ({s}, {a} साल) को पिछले {d} से {c} की शिकायत है।",
        "{d} से {c} की शिकायत: {n}, {s}, {a} साल।",
    ]

    private func hindiOpening(_ random: inout RandomSource) -> String {
        let complaint = zip(complaints, phrases).map { $0.hindi[$1] }.joined(separator: " और ")
        return random.pick(IntakeVisit.hindiOpenings).filled([
            ("n", person.full(.hindi)), ("a", String(age)), ("c", complaint), ("d", span),
            ("s", person.isWoman ? random.pick(["महिला", "स्त्री"]) : "पुरुष"),
        ])
    }

    private func hindiParts(_ random: inout RandomSource) -> [String] {
        var parts: [String] = []
        if let temperature {
            parts.append(random.pick(["तापमान {v} है।", "ताप {v}।", "थर्मामीटर {v}।"]).filled("v", temperature))
        }
        if let pressure { parts.append(random.pick(["बीपी {v}।", "बीपी {v} है।", "रक्तचाप {v}।"]).filled("v", pressure)) }
        if let phone { parts.append(random.pick(["फ़ोन {v}।", "मोबाइल {v}।", "मोबाइल नंबर {v} है।"]).filled("v", phone)) }
        if let urgent { parts.append(random.pick(urgent ? IntakeWords.urgent.hindi : IntakeWords.calm.hindi)) }
        return parts
    }
}
