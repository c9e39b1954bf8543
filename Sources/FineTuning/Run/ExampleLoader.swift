public import FileFormats
import Foundation
public import TensorCore
public import TextData

/// Turns a recipe's sources into tokenised examples.
struct ExampleLoader {
    let recipe: Recipe
    let config: ModelConfig
    let text: TextResources?

    func load(_ sources: [Recipe.Source], weighted: Bool, progress: (String) -> Void) throws -> ExampleSet {
        var set = ExampleSet()
        for source in sources {
            for path in try Self.files(matching: source.path) {
                progress(path)
                var summary = ExampleSet.SourceSummary(path: path)
                summary.weight = source.weight
                var examples = TokenStore.isStore(path) ? try store(path) : try rows(path, &summary)
                summary.rows = max(summary.rows, examples.count)
                summary.examples = examples.count
                summary.tokens = examples.reduce(0) { $0 + $1.ids.count }
                summary.trainedTokens = examples.reduce(0) { $0 + $1.trainedCount }
                summary.longest = examples.map(\.ids.count).max() ?? 0
                if weighted { examples = ExampleSet.weighted(examples, weight: source.weight, seed: recipe.training.seed) }
                set.examples += examples
                set.sources.append(summary)
            }
        }
        return set
    }

    /// The files a path stands for: itself, or what a pattern matches, in the order of their bytes.
    static func files(matching path: String) throws -> [String] {
        if FileManager.default.fileExists(atPath: path) { return [path] }
        guard path.utf8.contains(where: { "*?[".utf8.contains($0) }) else {
            throw FileError.missing(path: path, what: "data file")
        }
        var matches = glob_t()
        defer { globfree(&matches) }
        guard glob(path, 0, nil, &matches) == 0 else { throw FileError.missing(path: path, what: "file that matches") }
        return (0..<Int(matches.gl_pathc)).compactMap { matches.gl_pathv[$0].map { String(cString: $0) } }
            .sorted { ByteString($0) < ByteString($1) }
    }

    private func store(_ path: String) throws -> [TokenizedExample] {
        let store = try TokenStore(path: path)
        var problems: [String] = []
        if store.header.vocabularySize > config.vocabularySize {
            problems.append(
                "\(path): made with a vocabulary of \(store.header.vocabularySize) tokens; the model has "
                    + "\(config.vocabularySize)")
        }
        if let text, try text.tokenizerHash() != store.header.tokenizerHash {
            problems.append("\(path): made with another tokenizer than the model's; run 'graft tokenize' again")
        }
        guard problems.isEmpty else { throw FineTuningError.badInput(problems) }
        return try (0..<store.rowCount).map {
            let row = try store.row($0)
            return TokenizedExample(ids: row.ids, isTrained: row.isTrained)
        }
    }

    private func rows(_ path: String, _ summary: inout ExampleSet.SourceSummary) throws -> [TokenizedExample] {
        let lines = try readFile(path, limit: 1 << 34).split(separator: UInt8(ascii: "\n"))
        return try lines.enumerated().map { index, line in
            let row = try JSONParser.parse(Array(line))
            guard let ids = row["input_ids"]?.arrayValue?.compactMap(\.intValue) else {
                throw FineTuningError.badInput(["\(path), row \(index + 1): no input_ids"])
            }
            let labels = row["labels"]?.arrayValue?.compactMap(\.intValue) ?? ids
            return TokenizedExample(ids: ids.map(Int32.init), isTrained: labels.map { $0 != -100 })
        }
    }
}

extension ExampleSet {
    /// Reads the training sources of `settings` with a model's tokenizer, for commands that need no recipe.
    public init(
        reading settings: Recipe.Data, config: ModelConfig, text: TextResources?,
        progress: (String) -> Void = { _ in }
    ) throws {
        var recipe = Recipe(model: .folder(""), output: "", data: settings)
        recipe.data.shuffle = false
        let loader = ExampleLoader(recipe: recipe, config: config, text: text)
        self = try loader.load(settings.train, weighted: false, progress: progress)
    }
}
