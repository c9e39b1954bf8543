public import ArgumentParser
import Export
import FileFormats
public import FineTuning
import Foundation
import Host
import TensorCore

/// What every command takes.
struct OutputOptions: ParsableArguments {
    @Flag(help: "Print one JSON document on standard output, nothing else; of a failure its \"error\".")
    var json = false

    @Flag(help: "Print no notes and draw no progress; errors are still told.")
    var quiet = false

    var messages: Messages { Messages(quiet: quiet) }
}

enum PrecisionChoice: String, ExpressibleByArgument, CaseIterable {
    case f32, bf16

    var dtype: DType { self == .f32 ? .f32 : .bf16 }
}

/// What every command that computes takes.
struct ComputeOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Threads that compute; by default the processors that graft may run on. Results do not depend on it.",
            valueName: "n"))
    var threads: Int?

    @Option(
        help: ArgumentHelp(
            "Type of weights and activations: f32, or bf16 for half the memory and, on processors with bf16 "
                + "products, more speed.", valueName: "f32|bf16"))
    var precision: PrecisionChoice?

    func validate() throws {
        if let threads, !(1...1024).contains(threads) {
            throw ValidationError("--threads must be from 1 to 1024, not \(threads)")
        }
        if precision == .bf16, !supportsBF16Products {
            throw ValidationError("--precision bf16 needs oneDNN and a processor with AVX512; use f32")
        }
    }

    var pool: WorkerPool { WorkerPool(threads: threads ?? Processors.available) }
    /// f32 unless asked otherwise: what is read off a model should not depend on the processor.
    var dtype: DType { (precision ?? .f32).dtype }
}

/// A base with what is put on it.
struct ModelOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The Hugging Face model folder (config.json, safetensors, tokenizer), or a GGUF file of any type.",
            valueName: "dir|file.gguf"), transform: HubCache.snapshot)
    var model: String

    @OptionGroup var adapters: WeightedAdapters

    @Option(
        help: ArgumentHelp(
            "Keep the linear layers' weights in memory as: none (as they are), nf4 (4 bits) or int8, as "
                + "training.quantization does.", valueName: "none|nf4|int8"))
    var quantization = BaseQuantization.none

    private func requirePresent() throws {
        guard let kind = fileKind(model) else {
            throw FileError.missing(path: model, what: "model folder or GGUF file")
        }
        guard kind != .other else { throw FileError.notAFile(path: model) }
        guard kind == .folder || TextResources.isGGUF(model) else {
            throw FineTuningError.badInput(["\(model): neither a model folder nor a GGUF file"])
        }
    }

    /// The configuration alone.
    func config() throws -> ModelConfig {
        try requirePresent()
        return try ModelReader.any.config(model)
    }

    /// The model; the adapter is not on it yet.
    func load(_ compute: ComputeOptions, _ messages: Messages) throws -> DecoderModel {
        try requirePresent()
        let loaded = try ModelReader.any.model(model, compute.dtype, .frozen, quantization, compute.pool)
        for note in loaded.config.notes { messages.note("note: \(note)") }
        return loaded
    }

    var hasAdapter: Bool { !adapters.uses.isEmpty }

    /// Puts the adapters on the model that was loaded.
    func attachAdapters(to model: DecoderModel) throws { try model.attachAdapters(adapters.uses) }

    /// What text is read and written with; nil when there is no tokenizer.
    func text() throws -> TextResources? {
        try requirePresent()
        return try TextResources(model: model, adapter: adapters.uses.first?.path)
    }
}

/// Adapters, each with a weight.
struct WeightedAdapters: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "A PEFT adapter folder, or the run directory it lies in; may be given several times.", valueName: "dir"),
        transform: Self.folder)
    var adapter: [String] = []

    @Option(
        parsing: .unconditionalSingleValue,
        help: ArgumentHelp("The weight of each adapter, in their order; 1 by default.", valueName: "x"))
    var weight: [Double] = []

    /// Where an argument's adapter lies.
    private static func folder(_ argument: String) throws -> String {
        let path = try HubCache.snapshot(argument)
        func has(_ name: String) -> Bool { isPresent("\(path)/\(name)") }
        return !has("adapter_config.json") && has("adapter/adapter_config.json") ? path + "/adapter" : path
    }

    func validate() throws {
        if !weight.isEmpty, weight.count != adapter.count {
            throw ValidationError(
                "\(adapter.count) adapters and \(weight.count) weights: give one --weight each, or none")
        }
        if let bad = weight.first(where: { !$0.isFinite }) {
            throw ValidationError("--weight must be finite, not \(bad)")
        }
        if Set(adapter).count != adapter.count { throw ValidationError("an adapter is given twice") }
    }

    var uses: [(path: String, weight: Double)] {
        adapter.enumerated().map { ($1, weight.isEmpty ? 1 : weight[$0]) }
    }
}

extension BaseQuantization: ExpressibleByArgument {}
