import ArgumentParser
import FileFormats
import FineTuning
import Foundation
import TensorCore

struct Logits: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write the logits of token ids to a safetensors file.",
        discussion: """
            Runs the model once over the ids and writes one tensor, "logits", f32 of shape [T, V]: row i holds the \
            scores of the token after id i, before softmax. Meant for comparing graft with other programs, and one \
            model with another.

            Example:
              graft logits --model base --ids 1,306,4658 --out logits.safetensors
              graft logits --model base --adapter runs/x/adapter --ids 1,306 --out l.safetensors

            The model needs no tokenizer. The output must not exist.

            \(exitStatusHelp)
            """)

    @OptionGroup var base: ModelOptions

    @Option(help: ArgumentHelp("Token ids, separated by commas.", valueName: "id,..."))
    var ids: String

    @Option(help: ArgumentHelp("The file to write.", valueName: "file.safetensors"))
    var out: String

    @OptionGroup var compute: ComputeOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        if parsedIDs == nil { throw ValidationError("--ids must be whole numbers separated by commas, not '\(ids)'") }
    }

    private var parsedIDs: [Int32]? {
        let parts = ids.split(separator: ",", omittingEmptySubsequences: false)
        let numbers = parts.compactMap { Int32($0.trimmingCharacters(in: .whitespaces)) }
        return numbers.count == parts.count && !numbers.isEmpty ? numbers : nil
    }

    func run() throws {
        let tokens = parsedIDs ?? []
        try refuseExisting(out)
        try base.config().checkIDs(tokens)
        let model = try base.load(compute, output.messages)
        try base.attachAdapters(to: model)
        let logits = model.logits(tokens: tokens, pool: compute.pool)
        let writer = try SafetensorsWriter(
            path: out, tensors: [.init(name: "logits", type: .f32, shape: logits.shape)])
        try logits.withBytes { try writer.append(UnsafeRawBufferPointer($0), to: "logits") }
        try writer.finish()
        let isFinite = logits.withBytes {
            ElementConversion.firstNonFinite(UnsafeRawBufferPointer($0), as: .f32) == nil
        }
        if !isFinite { output.messages.note("warning: some logits are infinite or NaN") }
        if output.json {
            Output.json([
                "out": .string(out), "shape": .array(logits.shape.map { .integer($0) }), "dtype": "F32",
            ])
        } else {
            output.messages.note("\(out): logits \(logits.shape)")
        }
    }
}

/// Stops early, before any work, when the output stands already.
func refuseExisting(_ path: String) throws {
    try refuseUnexpanded(path)
    var status = stat()
    if lstat(path, &status) == 0 { throw FileError.outputExists(path: path) }
}

extension ModelConfig {
    /// - Throws: `FineTuningError.badInput` that lists the ids outside the vocabulary.
    func checkIDs(_ ids: [Int32]) throws {
        let bad = ids.enumerated().filter { $0.element < 0 || Int($0.element) >= vocabularySize }
        guard !bad.isEmpty else { return }
        throw FineTuningError.badInput(
            bad.prefix(10).map {
                "id \($0.element) at position \($0.offset) is outside the vocabulary of \(vocabularySize) tokens"
            })
    }
}
