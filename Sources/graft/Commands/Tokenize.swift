public import ArgumentParser
import Export
import FileFormats
import FineTuning
import Foundation
import Host
public import TextData

struct Tokenize: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Turn rows into a token store, once for many runs.",
        discussion: """
            Renders and tokenises rows as 'train' would and writes them to a token store. Use the store as a path \
            under data.train in a recipe. Memory stays bounded whatever the size of the data; all processors are \
            used.

            Examples:
              graft tokenize --model base --data train.jsonl --out train.h5
              graft tokenize --model base --data a.jsonl,b.jsonl --out all.h5 \\
                --max-length 2048 --overlong split --shuffle
              graft tokenize --model base --data 'en/*.jsonl,hi/*.jsonl' --out mix.h5 --shuffle \\
                --mix-temperature 3 --max-repeats 4
              graft tokenize --model base --data train.jsonl --out train.h5 \\
                --dedupe near --eval held-out.jsonl
              zcat rows.csv.gz | graft tokenize --model base --data csv:- --out rows.h5

            Mixing: each part of --data is a source. Source i with n rows is taken weight x (n_max / n)^(1 - 1/T) \
            times, at most --max-repeats times: with --mix-temperature T its share is proportional to \
            weight x n^(1/T). T is 1 by default and leaves sizes as they are; 'inf' makes all sources as large as \
            the largest. Of a fraction, the seed chooses the rows.

            Duplicates: equal rows (the same tokens) are counted; '--dedupe exact' keeps the first of each. \
            '--dedupe near' also leaves out rows of which an earlier one shares about 72 % or more of the word \
            5-grams (MinHash, 14 bands of 8 hashes; system prompts, punctuation and the case of ASCII letters do \
            not count). With --eval, rows that are also evaluation rows are an error, and near ones a warning. \
            This takes 16 bytes of disk a row, 128 with near duplicates, and at most about 100 MiB of memory.

            The store remembers the SHA-256 of its data, the tokenizer, the template and all options. 'train' \
            refuses one that is stale. Where --out is already what would be made, nothing is done; anything else \
            there is left as it is (status 73).

            After a kill or a stop, the same command goes on where it was: finished parts lie in a hidden folder \
            beside the output until it is complete. The bytes are those of an unbroken run. What comes from \
            standard input is read anew.

            Several machines, or processes, each take a part, and a merge gives the bytes of one run:
              graft tokenize --model base --data rows.jsonl --shuffle --out s1 --shard 1/2
              graft tokenize --model base --data rows.jsonl --shuffle --out s2 --shard 2/2
              graft tokenize --merge s1,s2 --out rows.h5

            The store is an HDF5 file with chunks compressed by zstd; h5py reads it with the package hdf5plugin:
              tokens       [tokens]    uint16, or int32 for vocabularies above 65,536
              trained      [tokens]    uint8, 1 where the prediction of the token is trained
              row_offsets  [rows + 1]  int64; row i is tokens[row_offsets[i]:row_offsets[i + 1]]
              files                    JSON of the data files: path, bytes, sha256
            Attributes: format, format_version, rows, tokens, trained_tokens, vocabulary_size, tokenizer_sha256, \
            template_sha256, data_sha256, options (JSON), key.

            Lengths are in tokens.

            \(exitStatusHelp)
            """)

    @Option(
        help: ArgumentHelp("The model folder whose tokenizer and template are used.", valueName: "dir"),
        transform: HubCache.snapshot)
    var model: String?

    @OptionGroup var rows: RowOptions

    @Option(help: ArgumentHelp("The store to write; with --shard, a folder.", valueName: "store.h5"))
    var out: String

    @Option(
        help: ArgumentHelp(
            "How often the rows of each part of --data are taken, as in 1,0.5,3; once by default.",
            valueName: "number,..."))
    var weights: NumberList?

    @Option(
        help: ArgumentHelp("Makes small sources larger: their share is that of n^(1/T); at least 1.", valueName: "T"))
    var mixTemperature = 1.0

    @Option(help: ArgumentHelp("The most times that a source is taken.", valueName: "number"))
    var maxRepeats: Double?

    @Flag(help: "Shuffle the rows, as the seed says; without it they keep their order.")
    var shuffle = false

    @Option(help: ArgumentHelp("Decides the order and which rows a fraction takes.", valueName: "n"))
    var seed: UInt64 = 42

    @Option(help: ArgumentHelp("Duplicates to leave out: none, exact or near.", valueName: "which"))
    var dedupe = Deduplication.none

    @Option(help: ArgumentHelp("Evaluation rows, which must not be among the data.", valueName: "file,..."))
    var eval: String?

    @Option(help: ArgumentHelp("Tokenise the i-th of n shares of the rows only.", valueName: "i/n"))
    var shard: ShardArgument?

    @Option(help: ArgumentHelp("Shards to put together; no other option is needed then.", valueName: "folder,..."))
    var merge: String?

    @Option(help: ArgumentHelp("Threads; the processors of the machine by default.", valueName: "n"))
    var threads: Int?

    @OptionGroup var output: OutputOptions

    func validate() throws {
        if merge != nil {
            if model != nil || rows.data != nil || shard != nil {
                throw ValidationError("--merge takes shards; it goes without --model, --data and --shard")
            }
            return
        }
        if model == nil { throw ValidationError("Missing expected argument '--model <dir>'") }
        let sources = try rows.requireData()
        if let weights {
            if weights.numbers.count != sources.count {
                throw ValidationError(
                    "--weights has \(weights.numbers.count) numbers for \(sources.count) parts of --data")
            }
            if !weights.numbers.allSatisfy({ $0 > 0 && $0 <= 10_000 }) {
                throw ValidationError("--weights must be above 0, up to 10000")
            }
        }
        if !(mixTemperature >= 1) { throw ValidationError("--mix-temperature must be at least 1") }
        if let maxRepeats, !(maxRepeats > 0) { throw ValidationError("--max-repeats must be above 0") }
        if let threads, !(1...1024).contains(threads) {
            throw ValidationError("--threads must be from 1 to 1024, not \(threads)")
        }
    }

    func run() throws {
        let messages = output.messages
        let result: StoreBuilder.Result
        if let merge {
            result = try StoreBuilder.merge(
                shards: merge.split(separator: ",").map(String.init), output: out,
                progress: { messages.progress($0) }, shouldStop: { StopRequest.isPending })
        } else {
            result = try builder(messages).run()
        }
        messages.clearProgress()
        try show(result, messages)
    }

    private func builder(_ messages: Messages) throws -> StoreBuilder {
        let model = model ?? ""
        guard isPresent(model) else {
            throw FileError.missing(path: model, what: "model folder or GGUF file")
        }
        let config = try TextResources.isGGUF(model) ? ModelReader.any.config(model) : ModelConfig(path: model)
        guard let text = try TextResources(ifPresentAt: model) else {
            throw FineTuningError.badInput(["\(model) has no tokenizer; add tokenizer.json to the folder"])
        }
        var loader = RowLoader(text: text, config: config, options: rows.options(config))
        loader.options.threads = threads ?? 0
        var request = StoreBuilder.Request(sources: try rows.requireData())
        request.weights = weights?.numbers
        request.temperature = mixTemperature
        request.maxRepeats = maxRepeats
        request.shuffle = shuffle
        request.seed = seed
        request.dedupe = dedupe
        request.eval = eval?.split(separator: ",").map(String.init) ?? []
        request.shard = shard?.shard ?? .whole
        return StoreBuilder(
            loader, request, output: out, progress: { messages.progress($0) }, shouldStop: { StopRequest.isPending })
    }

    private func show(_ result: StoreBuilder.Result, _ messages: Messages) throws {
        let isShard = shard.map { $0.shard.count > 1 } ?? false
        let size = fileSize(out) ?? 0
        if output.json {
            var object = result.isUpToDate && !isShard ? JSONObject() : result.report.json.objectValue ?? JSONObject()
            if !isShard {
                object["stored_examples"] = .integer(result.rowCount)
                object["stored_tokens"] = .integer(result.tokenCount)
                object["stored_trained_tokens"] = .integer(result.trainedCount)
                object["bytes"] = .integer(size)
            }
            if let duplicates = result.duplicates { object["duplicates"] = duplicates.json }
            if let repeats = result.repeats { object["repeats"] = .array(repeats.map { .double($0) }) }
            object["up_to_date"] = .bool(result.isUpToDate)
            object["out"] = .string(out)
            return Output.json(.object(object))
        }
        if result.isUpToDate {
            return messages.note(
                "\(out): up to date; data, tokenizer, template and options are those it was made with")
        }
        for fact in result.report.facts + (result.duplicates?.facts ?? []) {
            messages.note("\(fact.name): \(fact.value)")
        }
        if let repeats = result.repeats {
            let sources = rows.data?.split(separator: ",").map(String.init) ?? []
            for (i, count) in repeats.enumerated() {
                let name = i < sources.count ? sources[i] : "source \(i + 1)"
                messages.note("\(name): taken \(String(format: "%.4g", count)) times")
            }
        }
        if isShard { return messages.note("\(out): a shard; put all together with 'graft tokenize --merge'") }
        messages.note(
            "\(out): \(result.rowCount) examples, \(countText(result.tokenCount)) tokens, \(bytesText(size))")
    }
}

extension Deduplication: ExpressibleByArgument {}

/// Numbers separated by commas.
struct NumberList: ExpressibleByArgument {
    var numbers: [Double]

    init?(argument: String) {
        let parts = argument.split(separator: ",", omittingEmptySubsequences: false).map { Double($0) }
        guard !parts.contains(where: { $0?.isFinite != true }) else { return nil }
        numbers = parts.compactMap(\.self)
    }
}

/// `i/n`, from 1/1 to n/n.
struct ShardArgument: ExpressibleByArgument {
    var shard: Shard

    init?(argument: String) {
        let parts = argument.split(separator: "/", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
        guard parts.count == 2, (1...100_000).contains(parts[1]), (1...parts[1]).contains(parts[0]) else { return nil }
        shard = Shard(index: parts[0] - 1, count: parts[1])
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
            "Files of rows, globs or token stores, separated by commas. '-' is standard input (csv:-, tsv:- or text:- "
                + "for what is no JSON).", valueName: "file,..."))
    var data: String?

    @Option(
        help: ArgumentHelp(
            "What every row has to be: messages, sharegpt, alpaca, completion, text or tokens; by default its keys "
                + "tell.",
            valueName: "shape"))
    var format: RowFormat = .auto

    @Option(
        help: ArgumentHelp(
            "Names that the files have for keys of rows, as in instruction=question,output=answer.",
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
        if let data, data.split(separator: ",").isEmpty { throw ValidationError("--data names no file") }
    }

    /// The parts of --data.
    func requireData() throws -> [String] {
        guard let data else { throw ValidationError("Missing expected argument '--data <file,...>'") }
        return data.split(separator: ",").map(String.init)
    }

    func options(_ config: ModelConfig) -> ExampleOptions {
        var options = ExampleOptions()
        options.trainOn = trainOn
        options.maxLength = maxLength == 0 ? config.maxPositions : maxLength
        options.overlong = overlong
        options.format = format.shape
        options.columns = columns?.names ?? []
        options.accepts = Set(accept)
        return options
    }

    func load(config: ModelConfig, text: TextResources?, _ messages: Messages) throws -> LoadedRows {
        let loader = RowLoader(text: text, config: config, options: options(config))
        let loaded = try loader.load(try requireData()) { messages.progress("reading \($0)") }
        guard !loaded.examples.isEmpty else {
            throw FineTuningError.badInput(["\(data ?? ""): no rows, or every row was dropped"])
        }
        for warning in loaded.report.warnings { messages.note("note: \(warning)") }
        return loaded
    }
}
