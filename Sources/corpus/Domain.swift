/// What a fact's value looks like.
enum ValueKind {
    case person, place, phone, time, date
    case number(ClosedRange<Int>, step: Int = 1)
    /// One digit after the point.
    case decimal(ClosedRange<Int>)
    /// `#` stands for a digit, `@` for a capital letter.
    case code(String)
    case word([Trilingual])
    /// Several words, named together.
    case words([Trilingual], ClosedRange<Int>)
    /// Meanings, which the text puts in its own words and a record gives as codes: one code, or a list.
    case concepts([Concept], ClosedRange<Int>)
    /// A number of days, in words.
    case span
    /// Said or denied.
    case flag
}

/// A drawn value, as text says it and as a record holds it.
struct Value {
    enum Form {
        case text, number
        case flag(Bool)
        /// A word of the lexicon, for which a record may ask in English.
        case word
        case words([Trilingual])
        /// A code, or a list of codes.
        case codes([String], isList: Bool)
        case figure(Int)
    }

    let shown: Trilingual
    let form: Form

    var isWord: Bool {
        switch form {
        case .word, .words: return true
        default: return false
        }
    }

    /// - Parameter language: of the record: that of the text, or English where the record is to be in English.
    func json(_ language: Language) -> JSON {
        switch form {
        case .text, .word: return .string(shown[language])
        case .number: return .number(shown[language])
        case .flag(let said): return .bool(said)
        case .words(let words): return .array(words.map { .string($0[language]) })
        case .codes(let codes, let isList): return isList ? .array(codes.map(JSON.string)) : .string(codes[0])
        case .figure(let days): return .number(String(days))
        }
    }
}

extension ValueKind {
    func draw(_ random: inout RandomSource) -> Value {
        switch self {
        case .person:
            let person = Names.person(&random)
            return Value(shown: Trilingual.joined(person.given, person.surname), form: .text)
        case .place:
            return Value(shown: Names.place(&random), form: .text)
        case .phone:
            return same(Names.phone(&random), .text)
        case .time:
            return same(
                "\(random.number(1...12)):\(random.pick(["00", "05", "10", "15", "20", "30", "40", "45", "50"]))", .text
            )
        case .date:
            return same("\(random.number(1...28))/\(random.number(1...12))/\(random.number(2019...2027))", .text)
        case .number(let range, let step):
            return same(String(random.number(range) / step * step), .number)
        case .decimal(let range):
            return same("\(random.number(range)).\(random.below(10))", .number)
        case .code(let pattern):
            return same(ValueKind.code(pattern, &random), .text)
        case .word(let words):
            return Value(shown: random.pick(words), form: .word)
        case .words(let words, let count):
            let drawn = random.sample(words, random.number(count))
            return Value(shown: ValueKind.listed(drawn), form: .words(drawn))
        case .concepts(let concepts, let count):
            let drawn = random.sample(concepts, random.number(count))
            return Value(
                shown: ValueKind.listed(drawn.map { $0.wording(&random) }),
                form: .codes(drawn.map(\.code), isList: count.upperBound > 1))
        case .span:
            let span = random.pick(Concepts.spans)
            return Value(shown: span.words, form: .figure(span.days))
        case .flag:
            return same("", .flag(random.chance(50)))
        }
    }

    private func same(_ text: String, _ form: Value.Form) -> Value {
        Value(shown: Trilingual(text, text, text), form: form)
    }

    /// "a, b and c" in each language.
    private static func listed(_ words: [Trilingual]) -> Trilingual {
        func joined(_ language: Language, _ and: String) -> String {
            let list = words.map { $0[language] }
            return list.count < 2
                ? list.joined() : list.dropLast().joined(separator: ", ") + and + list[list.count - 1]
        }
        return Trilingual(joined(.english, " and "), joined(.hindi, " और "), joined(.tamil, " மற்றும் "))
    }

    static func code(_ pattern: String, _ random: inout RandomSource) -> String {
        var result = ""
        for character in pattern.unicodeScalars {
            switch character {
            case "#": result += String(random.below(10))
            case "@": result.unicodeScalars.append(Unicode.Scalar(UInt8(65 + random.below(26))))
            default: result.unicodeScalars.append(character)
            }
        }
        return result
    }
}

/// One thing that can be said about a subject: sentences with `{v}` for the value.
struct Fact {
    /// Names that a record may give it.
    let keys: [String]
    let kind: ValueKind
    let sentences: [[String]]
    /// Of a flag: the sentences that deny it.
    let denials: [[String]]
    let questions: [String]

    init(
        _ keys: [String], _ kind: ValueKind, _ english: [String], _ hindi: [String], _ tamil: [String], ask: [String],
        no denials: [[String]] = []
    ) {
        self.keys = keys
        self.kind = kind
        sentences = [english, hindi, tamil]
        self.denials = denials
        questions = ask
    }

    func sentence(_ value: Value, _ language: Language, _ random: inout RandomSource) -> String {
        if case .flag(false) = value.form { return random.pick(denials[language.rawValue]) }
        return random.pick(sentences[language.rawValue]).filled("v", value.shown[language])
    }
}

/// A kind of thing that people write down, with the facts that belong to it. The first fact is said in every text.
struct Domain {
    let facts: [Fact]
}

/// A domain with values: the facts of `said` are in the text, in that order; the others are left out of it.
struct Scene {
    let facts: [Fact]
    let values: [Value]
    let said: [Int]

    init(_ domain: Domain, _ random: inout RandomSource) {
        facts = domain.facts
        values = facts.map { $0.kind.draw(&random) }
        let others = random.shuffled(Array(1..<facts.count))
        let count = random.number(min(2, others.count)...others.count)
        said = [0] + others.prefix(count)
    }

    func sentences(_ language: Language, _ random: inout RandomSource) -> [String] {
        said.map { facts[$0].sentence(values[$0], language, &random) }
    }

    func paragraph(_ language: Language, _ random: inout RandomSource) -> String {
        sentences(language, &random).joined(separator: random.chance(15) ? "\n" : " ")
    }
}
