public import FileFormats
public import TextData

/// Tokenised rows of files and token stores, with what became of them.
public struct LoadedRows: Sendable {
    public var examples: [TokenizedExample] = []
    /// Where each example comes from; a pattern that was loaded is a source.
    public var origins: [RowOrigin] = []
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
    /// Whether token stores have to be made with these options.
    public var checksOptions = false
    /// Whether ids that the model's embedding has no row for pass if they are the tokenizer's: for looking at rows, which
    /// is right before the embedding is made larger, and not for computing with them.
    public var takesIDsWithoutRow = false

    public init(text: TextResources?, config: ModelConfig, options: ExampleOptions) {
        self.text = text
        self.config = config
        self.options = options
    }

    var builder: ExampleBuilder {
        var builder = ExampleBuilder(
            tokenizer: text?.tokenizer, template: text?.template,
            vocabularySize: takesIDsWithoutRow
                ? max(config.vocabularySize, text?.tokenizer.vocabularySize ?? 0) : config.vocabularySize,
            options: options)
        // A tokenizer that names no end of text leaves it to config.json.
        builder.endID = builder.endID ?? config.eosTokenIDs.first.flatMap { Int32(exactly: $0) }
        builder.stopIDs = (text?.stopTokens ?? []).union(config.eosTokenIDs.compactMap { Int32(exactly: $0) })
        return builder
    }

    /// The files of patterns, each pattern a source.
    ///
    /// - Throws: `TextError` for a file that is not there; `FineTuningError.badInput` for token stores that are stale.
    func files(_ patterns: [String]) throws -> [DataFile] {
        // All of them together once, since standard input can be read only once.
        _ = try expandedPaths(patterns)
        let files = try patterns.enumerated().flatMap { source, pattern in
            try expandedPaths([pattern]).map { DataFile(path: $0, source: source) }
        }
        let check = StoreCheck(text: text, config: config, options: checksOptions ? options : nil)
        var problems = try files.flatMap { TokenStore.isStore($0.path) ? try check.problems($0.path) : [] }
        if options.kind != .supervised {
            problems += files.filter { TokenStore.isStore($0.path) }.map {
                "\($0.path): a token store holds no preferences; name the files of the rows"
            }
        }
        guard problems.isEmpty else { throw FineTuningError.badInput(problems) }
        return files
    }

    /// All examples of files, globs and token stores, in order.
    ///
    /// - Throws: `TextError` with the rows at fault, `FileError`, `FineTuningError.badInput` for a store that is stale
    ///   or was made with another tokenizer.
    public func load(_ patterns: [String], progress: (String) -> Void = { _ in }) throws -> LoadedRows {
        var result = LoadedRows()
        let files = try files(patterns)
        result.files = files.map(\.path)
        var stream = try ExampleStream(builder, files: files)
        while let set = try stream.next() {
            result.examples += set.examples
            result.origins += set.origins
            progress("row \(stream.rowCount)")
        }
        result.report = try stream.finish()
        return result
    }
}

extension DataReport {
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
