/// The mixture that the shipped base learns from.
enum PretrainingText {
    private typealias Maker = @Sendable (inout RandomSource, Language) -> Row

    /// Shares in parts of their sum. Records come first: they exercise finding a value, copying it and quoting it.
    private static let mixture: [(weight: Int, make: Maker)] = [
        (34, Extraction.record), (3, Extraction.recordAgain), (4, Extraction.lines), (8, Extraction.question),
        (4, Extraction.sentences), (3, Extraction.translation), (4, Extraction.paragraph),
        (4, Story.narrative), (4, Story.who), (2, Story.translation),
        (6, Drills.again), (7, Drills.list), (7, Drills.object), (1, Drills.join), (3, Drills.lookup),
        (2, Drills.position), (3, Drills.word), (5, Drills.codes), (2, Drills.figure),
        (1, { random, _ in Drills.dictionary(&random) }), (2, Dialogues.smallTalk),
    ]

    /// English, Hindi, Tamil. Indic rows are longer in tokens, so that their share of the tokens is larger.
    private static let languageWeights = [46, 32, 22]

    static func row(_ index: Int, seed: UInt64) -> Row {
        var random = RandomSource(seed: seed, row: index)
        let language = Language.allCases[random.weighted(languageWeights)]
        return mixture[random.weighted(mixture.map(\.weight))].make(&random, language)
    }

    /// Rows to train the tokenizer on: the corpus as it is rendered, and, every fourth row, plain words after a space
    /// and after a quote, so that common words and the names of the roles become whole tokens.
    static func tokenizerRow(_ index: Int, seed: UInt64) -> Row {
        guard index % 4 == 3 else {
            switch row(index, seed: seed) {
            case .text(let text): return .text(text)
            case .messages(let turns):
                return .text(turns.map { "\($0.role)\n\($0.content)" }.joined(separator: "\n"))
            }
        }
        var random = RandomSource(seed: seed ^ 0x70_6B, row: index)
        let words = (0..<30).map { _ in random.pick(PlainWords.all) }
        return .text(
            random.chance(50)
                ? words.joined(separator: " ") : JSON.array(words.map(JSON.string)).text())
    }
}
