import FileFormats
import Foundation
internal import TextData

extension TrainingData {
    /// Reads and tokenises the rows of a recipe.
    ///
    /// - Parameter planning: whether nothing will be computed of the rows: ids without a row in the embedding then pass.
    /// - Throws: `TextError` naming every bad row, `TokenizerError`, `FileError`, `FineTuningError.badInput`.
    static func load(
        _ recipe: Recipe, config: ModelConfig, day: CivilTime = .today, planning: Bool = false
    ) throws -> TrainingData {
        let text = try recipe.tokenizerFolder.flatMap { try TextResources(ifPresentAt: $0) }
        var options = ExampleOptions()
        options.trainOn = ExampleOptions.TrainOn(rawValue: recipe.data.trainOn.rawValue) ?? .assistant
        options.maxLength = recipe.data.maxLength
        options.overlong = ExampleOptions.Overlong(rawValue: recipe.data.overlong.rawValue) ?? .error
        options.format = recipe.data.format
        options.columns = recipe.data.columns
        options.accepts = Set(recipe.data.accept)
        options.kind = recipe.objective.rowKind
        options.now = day
        // Near duplicates are looked for where the answer matters; each takes 112 bytes a row.
        options.fingerprints = recipe.data.dedupe == .near || !recipe.data.eval.isEmpty ? .near : .exact
        // Files that are not there are told together, before any is read.
        _ = try expandedPaths((recipe.data.train + recipe.data.eval).map(\.path))
        var loader = RowLoader(text: text, config: config, options: options)
        loader.checksOptions = true
        loader.takesIDsWithoutRow = planning

        var data = TrainingData(train: [], eval: [])
        let rows = try loader.load(recipe.data.train.map(\.path))
        let table = RowTable(rows.origins)
        let (duplicates, removed) = try table.duplicates(recipe.data.dedupe)
        let copies = RowCopies(recipe.data.mixture, removed: removed, seed: recipe.training.seed) { body in
            var last = -1
            for place in rows.origins.map(\.place) where place.ordinal != last {
                last = place.ordinal
                body(UInt64(place.ordinal), place.source)
            }
        }
        data.train = taken(rows, copies)
        data.trainFiles = rows.files
        data.statistics = (rows.report.facts + duplicates.facts).map { ("training " + $0.name, $0.value) }
        if !recipe.data.mixture.isPlain {
            data.statistics += zip(recipe.data.train, copies.repeats).map { source, repeats in
                ("training mixture", "\(source.path): \(String(format: "%.4g", repeats)) times")
            }
        }
        if !recipe.data.eval.isEmpty {
            var loaded = try loader.load(recipe.data.eval.map(\.path))
            // Who names a file for both knows what they do: that is a choice, and worth a word only.
            let both = Set(data.trainFiles.map { ByteString($0) }).intersection(loaded.files.map { ByteString($0) })
            for file in both.sorted() {
                loaded.report.warnings.append(
                    "\(file) is trained on and evaluated on: its loss says nothing about new rows")
            }
            let others = loaded.origins.filter { !both.contains(ByteString($0.file ?? "")) }
            loaded.report.warnings += try RowTable.checkOverlap(
                eval: RowTable(others), train: table, accepts: options.accepts)
            data.eval = loaded.examples
            data.evalFiles = loaded.files
            data.statistics += loaded.report.facts.map { ("evaluation " + $0.name, $0.value) }
        }
        if recipe.objective.rowKind == .judged {
            data.train = data.train.flatMap(\.judgedAnswers)
            data.eval = data.eval.flatMap(\.judgedAnswers)
        }
        if let text {
            data.addSamples(text)
            data.day = text.usesClock ? day : nil
        }
        return data
    }

    /// Source by source, the rows as often as they are repeated: those with a further copy once more, in order.
    private static func taken(_ rows: LoadedRows, _ copies: RowCopies) -> [TokenizedExample] {
        var result: [TokenizedExample] = []
        var start = 0
        while start < rows.origins.count {
            let source = rows.origins[start].place.source
            var end = start
            while end < rows.origins.count, rows.origins[end].place.source == source { end += 1 }
            for copy in 0..<copies.limits[source] {
                for i in start..<end where copies(UInt64(rows.origins[i].place.ordinal), source: source) > copy {
                    result.append(rows.examples[i])
                }
            }
            start = end
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

extension TokenizedExample {
    /// A pair as a good and a bad answer; a single answer as it is.
    fileprivate var judgedAnswers: [TokenizedExample] {
        guard var rejected else { return [self] }
        var chosen = self
        chosen.judgement = .label(true)
        rejected.judgement = .label(false)
        return [chosen, rejected]
    }
}
