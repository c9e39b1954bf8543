/// The mixture that the shipped base learns from.
enum PretrainingText {
    private typealias Maker = @Sendable (inout RandomSource, Language) -> Row

    /// Shares in parts of their sum. Records come first: they exercise finding a value, copying it and quoting it.
    private static let mixture: [(weight: Int, make: Maker)] = [
        (30, Extraction.record), (5, Extraction.recordAgain), (6, Extraction.lines), (9, Extraction.question),
        (5, Extraction.sentences), (4, Extraction.translation), (5, Extraction.paragraph),
        (5, Story.narrative), (5, Story.who), (3, Story.translation),
        (6, Drills.again), (8, Drills.list), (1, Drills.join), (4, Drills.lookup), (2, Drills.position),
        (3, Drills.word), (1, { random, _ in Drills.dictionary(&random) }),
        (2, Dialogues.smallTalk),
    ]

    /// English, Hindi, Tamil. Indic rows are longer in tokens, so that their share of the tokens is larger.
    private static let languageWeights = [50, 30, 20]

    static func row(_ index: Int, seed: UInt64) -> Row {
        var random = RandomSource(seed: seed, row: index)
        let language = Language.allCases[random.weighted(languageWeights)]
        return mixture[random.weighted(mixture.map(\.weight))].make(&random, language)
    }
}
