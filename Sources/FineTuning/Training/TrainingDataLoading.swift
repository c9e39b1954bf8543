import FileFormats
import Foundation
internal import TextData

extension LoadedRows {
    /// The rows whose tokens are those of a row of `others`, each with that row's place.
    func rowsShared(with others: LoadedRows) -> [RowFault] {
        var byHash: [Int: [Int]] = [:]
        for (i, example) in others.examples.enumerated() { byHash[example.ids.hashValue, default: []].append(i) }
        return examples.enumerated().compactMap { i, example in
            guard let candidates = byHash[example.ids.hashValue],
                let twin = candidates.first(where: { others.examples[$0].ids == example.ids })
            else { return nil }
            let place = others.places[twin]
            return RowFault(
                file: places[i].file, row: places[i].row,
                reason: "it is row \(place.row)\(place.file.map { " of \($0)" } ?? "")", lint: .duplicateRows)
        }
    }
}

extension TrainingData {
    /// Reads and tokenises the rows of a recipe.
    ///
    /// - Throws: `TextError` naming every bad row, `TokenizerError`, `FileError`, `FineTuningError.badInput`.
    static func load(_ recipe: Recipe, config: ModelConfig) throws -> TrainingData {
        let text = try recipe.tokenizerFolder.flatMap { try TextResources(ifPresentAt: $0) }
        var options = ExampleOptions()
        options.trainOn = ExampleOptions.TrainOn(rawValue: recipe.data.trainOn.rawValue) ?? .assistant
        options.maxLength = recipe.data.maxLength
        options.overlong = ExampleOptions.Overlong(rawValue: recipe.data.overlong.rawValue) ?? .error
        options.format = recipe.data.format
        options.columns = recipe.data.columns
        options.accepts = Set(recipe.data.accept)
        let loader = RowLoader(text: text, config: config, options: options)

        var data = TrainingData(train: [], eval: [])
        var report = DataReport()
        var rows = LoadedRows()
        for source in recipe.data.train {
            let loaded = try loader.load([source.path])
            data.train += repeated(loaded.examples, weight: source.weight, seed: recipe.training.seed)
            data.trainFiles += loaded.files
            report.add(loaded.report)
            rows.examples += loaded.examples
            rows.places += loaded.places
        }
        data.statistics = report.facts.map { ("training " + $0.name, $0.value) }
        if !recipe.data.eval.isEmpty {
            var loaded = try loader.load(recipe.data.eval.map(\.path))
            // Who names a file for both knows what they do: that is a choice, and worth a word only.
            let both = Set(data.trainFiles.map { ByteString($0) }).intersection(loaded.files.map { ByteString($0) })
            for file in both.sorted() {
                loaded.report.warnings.append(
                    "\(file) is trained on and evaluated on: its loss says nothing about new rows")
            }
            let shared = loaded.rowsShared(with: rows).filter { fault in
                !both.contains(ByteString(fault.file ?? ""))
            }
            if !shared.isEmpty {
                guard options.accepts.contains(.duplicateRows) else {
                    throw TextError.badRows(faults: Array(shared.prefix(1_000)), total: shared.count)
                }
                loaded.report.warnings.append("\(shared.count) evaluation rows are training rows, too (accepted)")
            }
            data.eval = loaded.examples
            data.evalFiles = loaded.files
            data.statistics += loaded.report.facts.map { ("evaluation " + $0.name, $0.value) }
        }
        if let text { data.addSamples(text) }
        return data
    }

    /// Rows `weight` times; of the fraction, a part that depends on the seed alone.
    private static func repeated(_ examples: [TokenizedExample], weight: Double, seed: UInt64) -> [TokenizedExample] {
        if weight == 1 { return examples }
        let whole = Int(weight)
        var result: [TokenizedExample] = []
        for _ in 0..<whole { result += examples }
        let rest = Int((Double(examples.count) * (weight - Double(whole))).rounded())
        if rest > 0 {
            let order = Permutation(count: examples.count, seed: seed, epoch: Int(Int32.max))
            result += (0..<min(rest, examples.count)).map { order[$0] }.sorted().map { examples[$0] }
        }
        return result
    }

    private static let sampleCount = 4

    /// Takes samples from all over the evaluation rows, or the training rows where there are none.
    private mutating func addSamples(_ text: TextResources) {
        let examples = eval.isEmpty ? train : eval
        let count = min(Self.sampleCount, examples.count)
        let prompts = (0..<count).compactMap { SamplePrompt(examples[$0 * examples.count / count]) }
        let tokenizer = text.tokenizer
        samples = prompts.map {
            Sample(
                prompt: $0.prompt, promptText: tokenizer.decode($0.prompt, skipSpecialTokens: false),
                expected: tokenizer.decode($0.expected, skipSpecialTokens: true))
        }
        stopTokens = text.stopTokens(after: prompts.flatMap(\.expected))
        template = text.template?.source
        decode = { tokenizer.decode($0, skipSpecialTokens: true) }
    }
}
