import ArgumentParser
import FileFormats
import FineTuning
import Foundation

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

            Sizes are in bytes, losses in nats a token. Nothing is changed, and weights are not loaded.

            \(exitStatusHelp)
            """)

    @Argument(help: ArgumentHelp("The file or folder.", valueName: "path"))
    var path: String

    @Flag(help: "List every tensor and every metadata value in full.")
    var all = false

    @OptionGroup var output: OutputOptions

    func run() throws {
        let inspection = try Inspector(path: path, showsAll: all || output.json).inspect()
        if output.json { try Output.json(inspection.json) } else { try Output.write(inspection.text) }
    }
}
