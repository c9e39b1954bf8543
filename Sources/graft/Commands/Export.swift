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
              graft export --model base --adapter A --out helper --for ollama --type q4_k_m

            --for makes a folder that a program takes as it is, with a model card: ollama (GGUF and Modelfile), \
            lmstudio (the folders that LM Studio and Jan look through), vllm (the adapter, if vLLM can take it), hf (a \
            merged Hugging Face folder).

            Types: f32, f16 and bf16; 8 bits: q8_0; 6: q6_k; 5: q5_k_m, q5_k_s, q5_1, q5_0; 4: q4_k_m, q4_k_s, iq4_nl, \
            iq4_xs, q4_1, q4_0, mxfp4 (experts; all else q8_0); 3: q3_k_l, q3_k_m, q3_k_s; 2: q2_k. They are \
            llama.cpp's mixes, in either case; q4_k_m is the common choice. The output must not exist.

            \(verifyHelp)

            \(exitStatusHelp)
            """)

    @Option(
        help: ArgumentHelp("The Hugging Face model folder, or a GGUF file.", valueName: "dir|file.gguf"),
        transform: HubCache.snapshot)
    var model: String

    @OptionGroup var adapters: WeightedAdapters

    @Option(help: ArgumentHelp("The file to write; with --for a folder.", valueName: "file.gguf|dir"))
    var out: String

    @Option(
        name: .customLong("for"),
        help: ArgumentHelp("Make a folder ready for a program: ollama, lmstudio, vllm or hf.", valueName: "program"))
    var target: ReadyTarget?

    @Option(
        help: ArgumentHelp(
            "Type of the weights, such as f16, q8_0 or q4_k_m; f16 by default, q8_0 for ollama and lmstudio, the "
                + "base's own for hf.", valueName: "type"))
    var type: GGUFOutputType?

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

    @Option(
        help: ArgumentHelp(
            "The name inside the file; the model folder's by default, with --for and --adapter that of the output.",
            valueName: "text"))
    var name: String?

    @Flag(help: "Write the adapter alone; its matrices stay f32.")
    var adapterOnly = false

    @Option(help: ArgumentHelp("A system message for Ollama's Modelfile.", valueName: "text"))
    var system: String?

    @Option(help: ArgumentHelp("The publisher's folder in LM Studio's layout.", valueName: "name"))
    var publisher = "local"

    @OptionGroup var verification: VerifyOptions
    @OptionGroup var compute: ComputeOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        if adapterOnly, adapters.adapter.count != 1 || adapters.uses[0].weight != 1 {
            throw ValidationError("--adapter-only takes one --adapter; 'graft adapter combine' makes one of several")
        }
        if adapterOnly, target != nil { throw ValidationError("--for and --adapter-only exclude each other") }
        if system != nil, target != .ollama {
            throw ValidationError("--system goes into Ollama's Modelfile: add --for ollama")
        }
        if target == .vllm, adapters.uses.isEmpty { throw ValidationError("--for vllm needs --adapter") }
        if target == .hf, type != nil, mergedType == nil {
            throw ValidationError("--for hf takes the types f32, f16 and bf16")
        }
        let letters = publisher.utf8.allSatisfy {
            ($0 | 0x20) >= 0x61 && ($0 | 0x20) <= 0x7A || $0 >= 0x30 && $0 <= 0x39 || $0 == 0x2D || $0 == 0x5F
        }
        if publisher.isEmpty || !letters { throw ValidationError("--publisher takes letters, digits, - and _") }
        if splitMaxSize != nil, maximumPartSize == nil {
            throw ValidationError("--split-max-size must be a size such as 2G or 500M, not '\(splitMaxSize!)'")
        }
    }

    private var mergedType: MergedType? { type.map { MergedType(rawValue: $0.rawValue) } ?? .keep }

    private var maximumPartSize: Int? {
        guard let text = splitMaxSize, let last = text.utf8.last else { return nil }
        let units: [UInt8: Int] = [
            UInt8(ascii: "K"): 1000, UInt8(ascii: "M"): 1_000_000, UInt8(ascii: "G"): 1_000_000_000,
        ]
        guard let unit = units[last & 0xDF], let number = Int(text.dropLast()), number > 0 else { return nil }
        let (size, isTooLarge) = number.multipliedReportingOverflow(by: unit)
        return isTooLarge ? nil : size
    }

    /// In a program's list of models, what was made of a base must not take the base's place.
    private var nameOfOutput: String? {
        target == nil || adapters.uses.isEmpty ? nil : splitPath(out).name
    }

    func run() throws {
        try refuseExisting(out)
        let messages = output.messages, pool = compute.pool
        let options = GGUFExportOptions(
            type: type ?? (target == nil ? .f16 : .q8_0), name: name ?? nameOfOutput, importance: imatrix,
            maximumPartSize: maximumPartSize)
        func progress(_ done: Int, _ total: Int) {
            messages.progress("writing: \(bytesText(done)) of \(bytesText(total))")
        }
        if let target {
            var folder = ReadyFolder(target, model: model, adapters: adapters.uses, options: options)
            folder.mergedType = mergedType ?? .keep
            (folder.system, folder.publisher) = (system, publisher)
            let report = try folder.write(to: out, gate: verification.gate(pool), pool: pool, progress: progress)
            return try report.print(output, messages, isAdapterGiven: !adapters.uses.isEmpty && target != .vllm)
        }
        func write(_ path: String) throws -> ExportReport {
            if adapterOnly, let adapter = adapters.adapter.first {
                return try exportGGUFAdapter(model: model, adapter: adapter, output: path, name: name)
            }
            return try exportGGUF(
                model: model, adapters: adapters.uses, output: path, options: options, pool: pool,
                progress: progress)
        }
        let report =
            try verification.gate(pool)?.passing(output: out, model: model, adapters: adapters.uses, write: write)
            ?? write(out)
        try report.print(output, messages, isAdapterGiven: !adapters.uses.isEmpty && !adapterOnly)
    }
}
