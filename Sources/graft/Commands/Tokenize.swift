public import ArgumentParser
import FileFormats
import FineTuning
import Foundation
public import TextData

struct Tokenize: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Turn rows into a token store, once for many runs.",
        discussion: """
            Renders and tokenises rows as 'train' would and writes them to an HDF5 file with compressed chunks: \
            token ids, which of them are trained, and where rows begin. The store remembers the tokenizer, the \
            template and the options it was made with; 'train' refuses one that does not belong to its model. Use \
            it as a path under data.train in a recipe.

            Examples:
              graft tokenize --model base --data train.jsonl --out train.h5
              graft tokenize --model base --data a.jsonl,b.jsonl --out all.h5 \\
                --max-length 2048 --overlong split

            The output must not exist. Lengths are in tokens.

            \(exitStatusHelp)
            """)

    @Option(help: ArgumentHelp("The model folder whose tokenizer and template are used.", valueName: "dir"))
    var model: String

    @OptionGroup var rows: RowOptions

    @Option(help: ArgumentHelp("The store to write.", valueName: "store.h5"))
    var out: String

    @OptionGroup var output: OutputOptions

    func run() throws {
        try refuseExisting(out)
        let messages = output.messages
        guard FileManager.default.fileExists(atPath: model) else {
            throw FileError.missing(path: model, what: "model folder")
        }
        let config = try ModelConfig(path: model)
        guard let text = try TextResources(ifPresentAt: model) else {
            throw FineTuningError.badInput(["\(model) has no tokenizer; add tokenizer.json to the folder"])
        }
        let loaded = try rows.load(config: config, text: text, messages)
        let options: JSONValue = [
            "train_on": .string(rows.trainOn.rawValue), "max_length": .integer(rows.maxLength),
            "overlong": .string(rows.overlong.rawValue), "graft": .string(versionText),
        ]
        let writer = try TokenStoreWriter(
            path: out,
            header: TokenStoreHeader(
                vocabularySize: text.tokenizer.vocabularySize, tokenizerHash: try text.tokenizerHash(),
                templateHash: text.templateHash, options: JSONWriter.text(options)))
        for example in loaded.examples { try writer.append(ids: example.ids, isTrained: example.isTrained) }
        try writer.finish()
        messages.clearProgress()
        let size = (try? FileManager.default.attributesOfItem(atPath: out)[.size] as? NSNumber)?.intValue ?? 0
        if output.json {
            var object = loaded.report.json.objectValue ?? JSONObject()
            object["out"] = .string(out)
            object["bytes"] = .integer(size)
            try Output.json(.object(object))
        } else {
            for fact in loaded.report.facts { messages.note("\(fact.name): \(fact.value)") }
            messages.note("\(out): \(bytesText(size))")
        }
    }
}

extension Lint: ExpressibleByArgument {}
extension ExampleOptions.TrainOn: ExpressibleByArgument {}
extension ExampleOptions.Overlong: ExpressibleByArgument {}

/// The shape of rows, or auto.
struct RowFormat: ExpressibleByArgument {
    var shape: RowShape?
    static let auto = RowFormat()

    init() {}
    init?(argument: String) {
        if argument == "auto" { return }
        guard let shape = RowShape(rawValue: argument) else { return nil }
        self.shape = shape
    }
    var defaultValueDescription: String { shape?.rawValue ?? "auto" }
    static var allValueStrings: [String] { ["auto"] + RowShape.allCases.map(\.rawValue) }
}

struct ColumnMap: ExpressibleByArgument {
    var names: [ColumnName] = []

    init?(argument: String) {
        for part in argument.split(separator: ",") {
            let pair = part.split(separator: "=", maxSplits: 1).map(String.init)
            guard pair.count == 2, Row.knownKeys.contains(where: { $0.hasSameBytes(as: pair[0]) }) else { return nil }
            names.append(ColumnName(key: pair[0], column: pair[1]))
        }
    }
}

let acceptHelp = ArgumentHelp(
    "Take rows with this damage as they are, or leave them out where they cannot be used; repeat for more. One of "
        + Lint.allCases.map(\.rawValue).joined(separator: ", ") + ".", valueName: "lint")

/// Rows and how they are read: the keys of a recipe's 'data' as flags.
struct RowOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Files of rows, globs or token stores, separated by commas. '-' is standard input (csv:-, tsv:- or text:- for "
                + "what is no JSON).", valueName: "file,..."))
    var data: String

    @Option(
        help: ArgumentHelp(
            "What every row has to be: messages, sharegpt, alpaca, completion, text or tokens; by default its keys tell.",
            valueName: "shape"))
    var format: RowFormat = .auto

    @Option(
        help: ArgumentHelp(
            "Names that the files have for keys of rows, as in prompt=question,completion=answer.",
            valueName: "key=column,..."))
    var columns: ColumnMap?

    @Option(help: ArgumentHelp("What is trained on: assistant, last or all.", valueName: "which"))
    var trainOn = ExampleOptions.TrainOn.assistant

    @Option(help: ArgumentHelp("Tokens of the longest row; the model's context by default.", valueName: "n"))
    var maxLength = 0

    @Option(help: ArgumentHelp("What becomes of longer rows: error, drop, truncate or split.", valueName: "what"))
    var overlong = ExampleOptions.Overlong.error

    @Option(parsing: .singleValue, help: acceptHelp)
    var accept: [Lint] = []

    func validate() throws {
        if maxLength < 0 || maxLength == 1 { throw ValidationError("--max-length must be at least 2") }
        if data.split(separator: ",").isEmpty { throw ValidationError("--data names no file") }
    }

    func load(config: ModelConfig, text: TextResources?, _ messages: Messages) throws -> LoadedRows {
        var options = ExampleOptions()
        options.trainOn = trainOn
        options.maxLength = maxLength == 0 ? config.maxPositions : maxLength
        options.overlong = overlong
        options.format = format.shape
        options.columns = columns?.names ?? []
        options.accepts = Set(accept)
        let loader = RowLoader(text: text, config: config, options: options)
        let loaded = try loader.load(data.split(separator: ",").map(String.init)) { messages.progress("reading \($0)") }
        guard !loaded.examples.isEmpty else {
            throw FineTuningError.badInput(["\(data): no rows, or every row was dropped"])
        }
        return loaded
    }
}
