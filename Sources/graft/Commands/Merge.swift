public import ArgumentParser
public import Export
import FileFormats
import FineTuning
import Foundation

struct Merge: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Fold an adapter into its base: a Hugging Face folder that needs no adapter.",
        discussion: """
            Computes W + scale B A in f32, tensor by tensor, so that the memory needed is that of the largest \
            tensor, and writes a model folder with config, weights, tokenizer and template. Transformers, vLLM and \
            llama.cpp's converter read it.

            Examples:
              graft merge --model base --adapter runs/x/adapter --out merged
              graft merge --model base --adapter runs/x/adapter --out merged --dtype bf16
              graft merge --model base --adapter A --adapter B --weight 0.5 --weight 0.5 --out m

            A GGUF base gives a GGUF file: --dtype keep quantises changed tensors again in their own type.

            --dtype keep stores each tensor in the base's own type; f32, f16 and bf16 convert all of them. The output \
            must not exist.

            \(verifyHelp)

            \(exitStatusHelp)
            """)

    @Option(
        help: ArgumentHelp("The Hugging Face model folder, or a GGUF file.", valueName: "dir|file.gguf"),
        transform: HubCache.snapshot)
    var model: String

    @OptionGroup var adapters: WeightedAdapters

    @Option(help: ArgumentHelp("The folder to write; a file for a GGUF base.", valueName: "dir|file.gguf"))
    var out: String

    @Option(help: ArgumentHelp("Type of the weights: keep, f32, f16 or bf16.", valueName: "type"))
    var dtype = MergedType.keep

    @OptionGroup var verification: VerifyOptions
    @OptionGroup var compute: ComputeOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        try refuseExisting(out)
        let messages = output.messages, pool = compute.pool
        func write(_ path: String) throws -> ExportReport {
            try mergeModel(
                model: model, adapters: adapters.uses, output: path, type: dtype, pool: pool,
                progress: { done, total in messages.progress("merging: \(bytesText(done)) of \(bytesText(total))") })
        }
        let report =
            try verification.gate(pool)?.passing(output: out, model: model, adapters: adapters.uses, write: write)
            ?? write(out)
        try report.print(output, messages, isAdapterGiven: !adapters.uses.isEmpty)
    }
}

extension MergedType: ExpressibleByArgument {}
extension ReadyTarget: ExpressibleByArgument {}
extension GGUFOutputType: ExpressibleByArgument {
    public init?(argument: String) { self.init(name: argument) }
}

extension ExportReport {
    /// Tells what was written; a merge that changes nothing is worth a warning.
    func print(_ output: OutputOptions, _ messages: Messages, isAdapterGiven: Bool) throws {
        messages.clearProgress()
        if output.json {
            return Output.json([
                "out": .string(path), "tensors": .integer(tensorCount), "bytes": .integer(byteCount),
                "merged_modules": .integer(mergedModules), "largest_change": .double(Double(largestChange)),
                "parts": .array(parts.map { .string($0) }),
                "warnings": .array(warnings.map { .string($0) }), "parity": parity?.json ?? .null,
            ])
        }
        for warning in warnings { messages.note("note: \(warning)") }
        if isAdapterGiven {
            messages.note("\(mergedModules) modules changed, the largest change of a weight is \(largestChange)")
            if mergedModules > 0, largestChange == 0 { messages.note("warning: the adapter changes nothing") }
        }
        if let parity {
            messages.note(parity.summary)
            for note in parity.notes { messages.note("note: \(note)") }
        }
        let target = parts.isEmpty ? path : "\(parts[0]) and \(parts.count - 1) more parts"
        messages.note("\(target): \(tensorCount) tensors, \(bytesText(byteCount))")
    }
}
