public import FileFormats
import Foundation
public import TextData

/// Tokenised rows of files and token stores, with what became of them.
public struct LoadedRows: Sendable {
    public var examples: [TokenizedExample] = []
    /// Where each example comes from: the file, and the row in it.
    public var places: [(file: String?, row: Int)] = []
    public var report = DataReport()
    /// The files that were read, globs expanded.
    public var files: [String] = []

    public init() {}
}

/// Reads rows for one model: files of rows through the template and the tokenizer, token stores as they are.
public struct RowLoader: Sendable {
    public var text: TextResources?
    /// The model's: ids must be below its vocabulary's size.
    public var config: ModelConfig
    public var options: ExampleOptions

    public init(text: TextResources?, config: ModelConfig, options: ExampleOptions) {
        self.text = text
        self.config = config
        self.options = options
    }

    /// All examples of files, globs and token stores, in order.
    ///
    /// - Throws: `TextError` with the rows at fault, `FileError`, `FineTuningError.badInput` for a store that was
    ///   made with another tokenizer.
    public func load(_ patterns: [String], progress: (String) -> Void = { _ in }) throws -> LoadedRows {
        var result = LoadedRows()
        result.files = try expandedPaths(patterns)
        var builder = ExampleBuilder(
            tokenizer: text?.tokenizer, template: text?.template, vocabularySize: config.vocabularySize,
            options: options)
        // A tokenizer that names no end of text leaves it to config.json.
        builder.endID = builder.endID ?? config.eosTokenIDs.first.flatMap { Int32(exactly: $0) }
        // Row files that stand together are read together: faults of all of them are told at once.
        var pending: [String] = []
        func flush() throws {
            guard !pending.isEmpty else { return }
            let set = try builder.examples(fromFiles: pending)
            result.examples += set.examples
            result.places += set.places
            result.report.add(set.report)
            pending = []
        }
        for path in result.files {
            progress(path)
            if TokenStore.isStore(path) {
                try flush()
                try addStore(path, to: &result)
            } else {
                pending.append(path)
            }
        }
        try flush()
        return result
    }

    private func addStore(_ path: String, to result: inout LoadedRows) throws {
        let store = try TokenStore(path: path)
        var problems: [String] = []
        if store.header.vocabularySize > config.vocabularySize {
            problems.append(
                "\(path): made with a vocabulary of \(store.header.vocabularySize) tokens; the model has "
                    + "\(config.vocabularySize)")
        }
        if let text, try !text.tokenizerHash().hasSameBytes(as: store.header.tokenizerHash) {
            problems.append("\(path): made with another tokenizer than the model's; run 'graft tokenize' again")
        }
        guard problems.isEmpty else { throw FineTuningError.badInput(problems) }
        var report = DataReport()
        report.files = 1
        report.rows = store.rowCount
        for index in 0..<store.rowCount {
            let row = try store.row(index)
            let example = TokenizedExample(ids: row.ids, isTrained: row.isTrained)
            if let limit = options.maxLength, row.ids.count > limit {
                problems.append("\(path), row \(index + 1): \(row.ids.count) tokens, more than the limit of \(limit)")
                continue
            }
            result.examples.append(example)
            result.places.append((path, index + 1))
            report.examples += 1
            report.tokens += example.ids.count
            report.trainedTokens += example.trainedCount
            report.longest = max(report.longest, example.ids.count)
        }
        guard problems.isEmpty else { throw FineTuningError.badInput(Array(problems.prefix(20))) }
        result.report.add(report)
    }
}

extension DataReport {
    mutating func add(_ other: DataReport) {
        files += other.files
        rows += other.rows
        examples += other.examples
        tokens += other.tokens
        trainedTokens += other.trainedTokens
        longest = max(longest, other.longest)
        dropped += other.dropped
        truncated += other.truncated
        split += other.split
        emptied += other.emptied
        warnings += other.warnings
        shapes.merge(other.shapes, uniquingKeysWith: +)
        kinds.merge(other.kinds, uniquingKeysWith: +)
        accepted.merge(other.accepted, uniquingKeysWith: +)
    }

    /// Names and values, for tables.
    public var facts: [(name: String, value: String)] {
        var facts = [("rows", "\(rows)")]
        if !taken.isEmpty { facts.append(("taken as", taken)) }
        facts += [
            ("examples", "\(examples)"), ("tokens", "\(tokens)"),
            ("trained tokens", "\(trainedTokens)"), ("longest", "\(longest)"),
        ]
        for (name, count) in [("dropped", dropped), ("truncated", truncated), ("split", split), ("emptied", emptied)]
        where count > 0 {
            facts.append((name, "\(count)"))
        }
        return facts + warnings.map { ("warning", $0) }
    }

    /// What files and rows were taken for, such as `1,200 messages rows of JSON lines`.
    private var taken: String {
        func list(_ counts: [(name: String, count: Int)]) -> String {
            counts.map { counts.count == 1 ? $0.name : "\($0.name) (\($0.count))" }.joined(separator: ", ")
        }
        let rows = list(RowShape.allCases.compactMap { shape in shapes[shape].map { (shape.rawValue, $0) } })
        let files = list(kinds.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })
        return rows.isEmpty ? "" : files.isEmpty ? "\(rows) rows" : "\(rows) rows of \(files)"
    }

    public var json: JSONValue {
        .object(
            JSONObject([
                ("files", .integer(files)), ("rows", .integer(rows)), ("examples", .integer(examples)),
                ("tokens", .integer(tokens)), ("trained_tokens", .integer(trainedTokens)),
                ("longest", .integer(longest)), ("dropped", .integer(dropped)), ("truncated", .integer(truncated)),
                ("split", .integer(split)), ("emptied", .integer(emptied)),
                (
                    "row_shapes",
                    .object(
                        JSONObject(
                            RowShape.allCases.compactMap { shape in
                                shapes[shape].map { (key: shape.rawValue, value: .integer($0)) }
                            }))
                ),
                (
                    "file_kinds",
                    .object(
                        JSONObject(
                            kinds.sorted { $0.key < $1.key }.map { (key: $0.key, value: .integer($0.value)) }))
                ),
                ("warnings", .array(warnings.map { .string($0) })),
            ]))
    }
}
