import ArgumentParser
import Export
import FileFormats
import FineTuning
import Foundation

struct ExportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Write a GGUF for llama.cpp, Ollama, LM Studio and their kin.",
        discussion: """
            Writes the model, with an adapter folded in when one is given, as one GGUF file with tokenizer, special \
            tokens and chat template inside; quantises while it writes, a tensor at a time. With --adapter-only the \
            adapter alone becomes a GGUF adapter, for programs that put it on the base themselves.

            Examples:
              graft export --model merged --out model.gguf --type q8_0
              graft export --model base --adapter runs/x/adapter --out m.gguf --type f16
              graft export --model base --adapter A --out a.gguf --adapter-only

            Types: f32, f16, bf16, q8_0. The output must not exist.

            \(exitStatusHelp)
            """)

    @Option(help: ArgumentHelp("The Hugging Face model folder.", valueName: "dir"))
    var model: String

    @Option(help: ArgumentHelp("A PEFT LoRA adapter folder to fold in.", valueName: "dir"))
    var adapter: String?

    @Option(help: ArgumentHelp("The file to write.", valueName: "file.gguf"))
    var out: String

    @Option(help: ArgumentHelp("Type of the weights: f32, f16, bf16 or q8_0.", valueName: "type"))
    var type = GGUFOutputType.f16

    @Option(help: ArgumentHelp("The name inside the file; the folder's by default.", valueName: "text"))
    var name: String?

    @Flag(help: "Write the adapter alone; its matrices stay f32.")
    var adapterOnly = false

    @OptionGroup var compute: ComputeOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        if adapterOnly, adapter == nil { throw ValidationError("--adapter-only needs --adapter") }
    }

    func run() throws {
        try refuseExisting(out)
        let messages = output.messages
        let report: ExportReport
        if adapterOnly, let adapter {
            report = try exportGGUFAdapter(model: model, adapter: adapter, output: out, name: name)
        } else {
            report = try exportGGUF(
                model: model, adapter: adapter, output: out, type: type, name: name, pool: compute.pool,
                progress: { done, total in messages.progress("writing: \(bytesText(done)) of \(bytesText(total))") })
        }
        try report.print(output, messages, isAdapterGiven: adapter != nil && !adapterOnly)
    }
}
