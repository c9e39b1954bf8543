import ArgumentParser
import Export
import FileFormats
import FineTuning
import Foundation
import TextData

struct Imatrix: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure on rows which columns of a model's matrices matter, for quantising.",
        discussion: """
            Runs the model over the rows and writes, for every matrix, the mean of the squares of what it is \
            multiplied with: an importance matrix, as llama.cpp calls it. 'graft export --imatrix' and llama-quantize \
            use it to spend the bits where they count, which pays most at four bits and below.

            A few hundred rows like those the model will see are enough; with an adapter, those it was trained for.

            Examples:
              graft imatrix --model base --data rows.jsonl --out imatrix.gguf
              graft imatrix --model base --adapter A --data rows.jsonl --out i.gguf
              graft imatrix --model f16.gguf --data text.txt --out imatrix.dat --file-format dat

            The output must not exist.

            \(exitStatusHelp)
            """)

    enum FileFormat: String, ExpressibleByArgument, CaseIterable { case gguf, dat }

    @OptionGroup var base: ModelOptions
    @OptionGroup var rows: RowOptions

    @Option(help: ArgumentHelp("The file to write.", valueName: "file"))
    var out: String

    @Option(help: ArgumentHelp("gguf, or dat as llama.cpp wrote it before 2025.", valueName: "gguf|dat"))
    var fileFormat = FileFormat.gguf

    @OptionGroup var compute: ComputeOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        try refuseExisting(out)
        let messages = output.messages, pool = compute.pool
        let loaded = try rows.load(config: base.config(), text: base.text(), messages)
        let model = try base.load(compute, messages)
        if let note = model.config.contextNote(loaded.examples.lazy.map(\.ids.count), of: "rows") {
            messages.note("note: \(note)")
        }
        try base.attachAdapters(to: model)
        let matrix = ImportanceMatrix(model, examples: loaded.examples, dataSets: loaded.files, pool: pool) {
            messages.progress("\($0) of \($1) tokens")
        }
        if let bad = matrix.entries.first(where: { !$0.entry.sums.allSatisfy(\.isFinite) }) {
            throw FineTuningError.badInput([
                "the inputs of \(bad.name) are not numbers: the weights of the model or the adapter hold numbers that "
                    + "are infinite or NaN"
            ])
        }
        switch fileFormat {
        case .gguf: try matrix.writeGGUF(to: out)
        case .dat: try matrix.writeLegacy(to: out)
        }
        messages.clearProgress()
        let tokens = loaded.examples.reduce(0) { $0 + $1.ids.count }
        if output.json {
            Output.json([
                "out": .string(out), "entries": .integer(matrix.entries.count), "rows": .integer(loaded.examples.count),
                "tokens": .integer(tokens),
            ])
        } else {
            messages.note("\(out): \(matrix.entries.count) matrices, from \(tokens) tokens")
        }
    }
}
