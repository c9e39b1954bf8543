import Foundation
import TensorCore

extension TrainingRun.Summary {
    /// Refuses a run that cannot fit into the memory this process may use, before anything is written.
    ///
    /// - Throws: `RunError.notEnoughMemory` with the estimate and what needs less.
    public func checkMemory() throws {
        guard let limit = ProcessMemory.limitBytes, memoryBytes > limit else { return }
        func mebibytes(_ bytes: Int) -> String { "\(bytes >> 20) MiB" }
        var lines = [
            "not enough memory: about \(mebibytes(memoryBytes)) are needed, and \(mebibytes(limit)) may be used"
        ]
        if !checkpointing { lines.append("training.activation_checkpointing: true keeps less for the backward pass") }
        lines.append("training.microbatch_tokens below \(microbatchTokens), and a lower data.max_length, need less")
        if precision == "f32" { lines.append("training.precision: bf16 halves the weights") }
        throw RunError.notEnoughMemory(lines)
    }
}

extension TrainingData.Sample {
    static let longestAnswer = 128
    /// About how long the samples of one side of a run may take, in seconds.
    private static let budget = 15.0

    /// Tokens of an answer that the report can afford: making one reads every weight, at 8 GB a second or so.
    static func affordableTokens(_ model: DecoderModel, samples: Int) -> Int {
        let seconds = Double(model.config.parameterCount * model.dtype.size) / 8e9
        return max(16, min(longestAnswer, Int(budget / max(1e-9, seconds) / Double(max(1, samples)))))
    }
}
