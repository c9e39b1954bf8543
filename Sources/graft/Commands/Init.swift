import ArgumentParser
import FileFormats
import FineTuning
import Foundation

struct Init: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make a model folder with random weights.",
        discussion: """
            Writes config.json and model.safetensors for a configuration, with the weights that training starts from \
            when a recipe says 'model: {init: config.json}': normal with the configuration's initializer_range, \
            norms 1, biases 0. For benchmarks and for trying a shape; the model knows nothing.

            Example:
              graft init config.json --out random-model

            \(exitStatusHelp)
            """)

    @Argument(help: ArgumentHelp("The configuration, a config.json.", valueName: "config.json"))
    var config: String

    @Option(help: ArgumentHelp("The folder to write; it must not exist.", valueName: "dir"))
    var out: String

    @Option(help: "Decides the weights.")
    var seed: UInt64 = 42

    @OptionGroup var compute: ComputeOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        try refuseExisting(out)
        let dtype = (compute.precision ?? .bf16).dtype
        let model = DecoderModel(
            initialising: try ModelConfig(path: config), dtype: dtype, seed: seed, training: .frozen,
            pool: compute.pool)
        let folder = try AtomicFolder(path: out)
        try model.writeFolder(folder.temporaryPath, dtype: dtype)
        try folder.commit()
        let parameters = model.config.parameterCount
        if output.json { return Output.json(["out": .string(out), "parameters": .integer(parameters)]) }
        output.messages.note("\(out): \(countText(parameters)) parameters")
    }
}
