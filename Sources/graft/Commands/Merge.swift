import ArgumentParser
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
              graft merge --model models/base --adapter runs/x/adapter --out merged
              graft merge --model models/base --adapter runs/x/adapter --out merged --dtype bf16

            --dtype keep stores each tensor in the base's own type; f32, f16 and bf16 convert all of them. The output \
            must not exist.

            \(exitStatusHelp)
            """)

    @Option(help: ArgumentHelp("The Hugging Face model folder.", valueName: "dir"))
    var model: String

    @Option(help: ArgumentHelp("The PEFT LoRA adapter folder to fold in.", valueName: "dir"))
    var adapter: String

    @Option(help: ArgumentHelp("The folder to write.", valueName: "dir"))
    var out: String

    @Option(help: ArgumentHelp("Type of the weights: keep, f32, f16 or bf16.", valueName: "type"))
    var dtype = "keep"

    @OptionGroup var compute: ComputeOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        throw ValidationError("not yet")
    }
}
