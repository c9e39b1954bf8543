import ArgumentParser
import FileFormats
import FineTuning
import Foundation
import TextData

struct Inspect: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what a file or folder holds.",
        discussion: """
            Reads any file or folder that graft reads or writes and prints a table: safetensors and GGUF files \
            (tensors, types, shapes, metadata), model folders (architecture, parameters), adapter folders (rank, \
            alpha, modules), token stores (rows, tokens), run directories and checkpoints (steps, losses), recipes, \
            tokenizers and data rows. The kind is told by the content, not by the name.

            Examples:
              graft inspect models/base
              graft inspect runs/intake/adapter
              graft inspect model.gguf --json | jq .metadata
              graft inspect data/train.jsonl
              graft inspect train.h5 --rows --model models/base     what is trained, in colour

            Sizes are in bytes, losses in nats a token. Nothing is changed, and weights are not loaded.

            \(exitStatusHelp)
            """)

    @Argument(help: ArgumentHelp("The file or folder.", valueName: "path"), transform: HubCache.snapshot)
    var path: String

    @Flag(help: "List every tensor and every metadata value in full.")
    var all = false

    @Flag(help: "Of a token store, show rows with their trained tokens coloured, or between [[ and ]].")
    var rows = false

    @Option(help: ArgumentHelp("How many rows --rows shows.", valueName: "n"))
    var count = 5

    @Option(
        help: ArgumentHelp(
            "The folder of the tokenizer that --rows shows text with; ids without it.", valueName: "dir"),
        transform: HubCache.snapshot)
    var model: String?

    @OptionGroup var output: OutputOptions

    func run() throws {
        if rows { return try showRows() }
        let inspection = try Inspector(path: path, showsAll: all || output.json).inspect()
        if output.json { Output.json(inspection.json) } else { try Output.write(inspection.text) }
    }

    private func showRows() throws {
        let store = try TokenStore(path: path)
        let text = try model.map { try TextResources(path: $0) }
        if let text, try !text.tokenizerHash().hasSameBytes(as: store.header.tokenizerHash) {
            throw FineTuningError.badInput(["\(path): made with another tokenizer than that of \(text.path)"])
        }
        let shown = try (0..<min(max(0, count), store.rowCount)).map { index in
            let row = try store.row(index)
            return trainedPieces(
                TokenizedExample(ids: row.ids, isTrained: row.isTrained), tokenizer: text?.tokenizer)
        }
        guard !output.json else {
            let rows = shown.map { pieces -> JSONValue in
                .array(pieces.map { ["text": .string($0.text), "trained": .bool($0.isTrained)] })
            }
            return Output.json(["path": .string(path), "row_count": .integer(store.rowCount), "rows": .array(rows)])
        }
        let isColoured = isatty(STDOUT_FILENO) == 1
        for (index, pieces) in shown.enumerated() {
            try Output.writeStyled(
                "row \(index + 1) of \(store.rowCount):\n" + renderPieces(pieces, colour: isColoured) + "\n")
        }
    }
}
