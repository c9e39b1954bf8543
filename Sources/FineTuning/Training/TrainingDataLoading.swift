import FileFormats
internal import TextData

extension TrainingData {
    /// Reads and tokenises the rows of a recipe.
    static func load(_ recipe: Recipe, vocabularySize: Int) throws -> TrainingData {
        let train = try recipe.data.train.flatMap { try read($0.path, vocabularySize) }
        let eval = try recipe.data.eval.flatMap { try read($0.path, vocabularySize) }
        var data = TrainingData(train: train, eval: eval)
        data.trainFiles = recipe.data.train.map(\.path)
        data.evalFiles = recipe.data.eval.map(\.path)
        return data
    }

    private static func read(_ path: String, _ vocabularySize: Int) throws -> [TokenizedExample] {
        let bytes = try readFile(path, limit: 1 << 32)
        return try bytes.split(separator: 0x0A).enumerated().map { number, line in
            let row = try JSONParser.parse(Array(line))
            let ids = row["input_ids"]?.arrayValue?.compactMap(\.intValue) ?? []
            let labels = row["labels"]?.arrayValue?.compactMap(\.intValue) ?? ids
            guard !ids.isEmpty, ids.count == labels.count, ids.allSatisfy({ 0..<vocabularySize ~= $0 }) else {
                throw FineTuningError.badInput(["\(path), row \(number + 1): expected input_ids and labels"])
            }
            return TokenizedExample(ids: ids.map { Int32($0) }, isTrained: labels.map { $0 != -100 })
        }
    }
}
