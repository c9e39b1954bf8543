import ArgumentParser
import Export
import FileFormats
import FineTuning

struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compare a merged folder or a GGUF file with the base and the adapter it comes from.",
        discussion: """
            What merge and export do before they publish what they wrote, for any file, also one that another program \
            wrote or that was copied: every weight against W + scale B A in f32, the logits of a sample against base \
            and adapter, the tokenizer's ids and the rendered chat template. Coarse types may differ by stated bounds, \
            others by their rounding alone. Of a GGUF file's tokenizer, vocabulary, merges and settings (BOS, EOS, the \
            space before a text) are compared as well.

            What is right comes from --model alone. With a GGUF file there, differences from that file are seen, not \
            what it has wrong itself; templates are compared by what they write for a few conversations.

            Examples:
              graft verify --model base --adapter runs/x/adapter merged
              graft verify --model base --adapter runs/x/adapter model.gguf --json
              graft verify --model base --adapter runs/x/adapter adapter.gguf

            \(exitStatusHelp)
            """)

    @Argument(help: "The merged folder, GGUF model or GGUF adapter; of a split file the first part.")
    var path: String

    @Option(
        help: ArgumentHelp("The Hugging Face model folder, or a GGUF file.", valueName: "dir|file.gguf"),
        transform: HubCache.snapshot)
    var model: String

    @OptionGroup var adapters: WeightedAdapters

    @Option(
        name: .customLong("data"),
        help: ArgumentHelp(
            "Rows that the sample is taken from, instead of the built-in multilingual texts.", valueName: "file"))
    var data: [String] = []

    @OptionGroup var compute: ComputeOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        let report = try ParityGate(data: data, pool: compute.pool).compare(
            path, model: model, adapters: adapters.uses)
        if output.json { return Output.json(report.json) }
        try Output.line(report.summary)
        for note in report.notes { output.messages.note("note: \(note)") }
    }
}
