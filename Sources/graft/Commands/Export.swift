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
              graft export --model f16.gguf --out q4.gguf --type q4_k_m --imatrix i.gguf
              graft export --model base --out m.gguf --type bf16 --split-max-size 4G
              graft export --model base --adapter A --out a.gguf --adapter-only

            Types: f32, f16 and bf16; 8 bits: q8_0; 6: q6_k; 5: q5_k_m, q5_k_s, q5_1, q5_0; 4: q4_k_m, q4_k_s, iq4_nl, \
            iq4_xs, q4_1, q4_0, mxfp4 (experts; all else q8_0); 3: q3_k_l, q3_k_m, q3_k_s; 2: q2_k. They are llama.cpp's \
            mixes, in either case; q4_k_m is the common choice. The output must not exist.

            \(verifyHelp)

            \(exitStatusHelp)
            """)

    @Option(help: ArgumentHelp("The Hugging Face model folder, or a GGUF file.", valueName: "dir|file.gguf"))
    var model: String

    @OptionGroup var adapters: WeightedAdapters

    @Option(help: ArgumentHelp("The file to write.", valueName: "file.gguf"))
    var out: String

    @Option(help: ArgumentHelp("Type of the weights, such as f16, q8_0 or q4_k_m.", valueName: "type"))
    var type = GGUFOutputType.f16

    @Option(
        help: ArgumentHelp(
            "An importance matrix ('graft imatrix', or llama.cpp's): what the columns of each matrix weigh.",
            valueName: "file"))
    var imatrix: String?

    @Option(
        help: ArgumentHelp(
            "Split into parts of at most so many bytes, such as 2G or 500M (powers of 1000), named "
                + "file-00001-of-0000N.gguf.", valueName: "size"))
    var splitMaxSize: String?

    @Option(help: ArgumentHelp("The name inside the file; the folder's by default.", valueName: "text"))
    var name: String?

    @Flag(help: "Write the adapter alone; its matrices stay f32.")
    var adapterOnly = false

    @OptionGroup var verification: VerifyOptions
    @OptionGroup var compute: ComputeOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        if adapterOnly, adapters.adapter.count != 1 || adapters.uses[0].weight != 1 {
            throw ValidationError("--adapter-only takes one --adapter; 'graft adapter combine' makes one of several")
        }
        if splitMaxSize != nil, maximumPartSize == nil {
            throw ValidationError("--split-max-size must be a size such as 2G or 500M, not '\(splitMaxSize!)'")
        }
    }

    private var maximumPartSize: Int? {
        guard let text = splitMaxSize, let last = text.utf8.last else { return nil }
        let units: [UInt8: Int] = [
            UInt8(ascii: "K"): 1000, UInt8(ascii: "M"): 1_000_000, UInt8(ascii: "G"): 1_000_000_000,
        ]
        guard let unit = units[last & 0xDF], let number = Int(text.dropLast()), number > 0 else { return nil }
        let (size, isTooLarge) = number.multipliedReportingOverflow(by: unit)
        return isTooLarge ? nil : size
    }

    func run() throws {
        try refuseExisting(out)
        let messages = output.messages, pool = compute.pool
        let options = GGUFExportOptions(
            type: type, name: name, importance: imatrix, maximumPartSize: maximumPartSize)
        func write(_ path: String) throws -> ExportReport {
            if adapterOnly, let adapter = adapters.adapter.first {
                return try exportGGUFAdapter(model: model, adapter: adapter, output: path, name: name)
            }
            return try exportGGUF(
                model: model, adapters: adapters.uses, output: path, options: options, pool: pool,
                progress: { done, total in messages.progress("writing: \(bytesText(done)) of \(bytesText(total))") })
        }
        let report =
            try verification.gate(pool)?.passing(output: out, model: model, adapters: adapters.uses, write: write)
            ?? write(out)
        try report.print(output, messages, isAdapterGiven: !adapters.uses.isEmpty && !adapterOnly)
    }
}
