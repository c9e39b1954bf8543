/// What people do and when, as stories, as questions about them, and as translations.
struct Story {
    private let people: [Person]
    private let activities: [Activity]
    private let times: [Trilingual?]

    init(_ random: inout RandomSource, sentences: ClosedRange<Int>) {
        let count = random.number(sentences)
        people = (0..<count).map { _ in Names.person(&random) }
        activities = random.sample(Activities.habits, count)
        times = (0..<count).map { _ in random.chance(75) ? random.pick(Activities.times) : nil }
    }

    private func sentence(_ index: Int, _ language: Language, full: Bool = false) -> String {
        let person = people[index]
        return Activities.sentence(
            full ? person.full(language) : person.given[language], isWoman: person.isWoman, activities[index],
            times[index], language)
    }

    private func text(_ language: Language, full: Bool = false) -> String {
        people.indices.map { sentence($0, language, full: full) }.joined(separator: " ")
    }

    static func narrative(_ random: inout RandomSource, _ language: Language) -> Row {
        let story = Story(&random, sentences: 2...5)
        return .text(story.text(language, full: random.chance(30)))
    }

    static func who(_ random: inout RandomSource, _ language: Language) -> Row {
        let story = Story(&random, sentences: 2...4)
        let full = random.chance(50)
        let asked = random.below(story.people.count)
        let person = story.people[asked]
        let question = Activities.question(story.activities[asked], story.times[asked], language)
        return .exchange(
            story.text(language, full: full) + "\n\n" + question,
            (full ? person.full(language) : person.given[language]) + language.fullStop)
    }

    static func translation(_ random: inout RandomSource, _ language: Language) -> Row {
        let story = Story(&random, sentences: 1...2)
        let target = random.pick(Language.allCases.filter { $0 != language })
        return .exchange(Translation.request(target, &random) + story.text(language), story.text(target))
    }
}
