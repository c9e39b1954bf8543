import FileFormats
import TensorCore

/// What a run takes on the disk, in bytes.
public struct DiskPlan: Sendable {
    /// Weights and moments of what learns, in f32.
    public var checkpointBytes: Int
    /// The adapter, or the model of a run with `method: full`.
    public var resultBytes: Int
    /// Files of the tokenizer and the template that are copied to the result.
    public var tokenizerBytes: Int
    /// The log of the steps and the report.
    public var logBytes: Int

    /// What stays when the run has ended.
    public var keptBytes: Int { Checkpoint.kept * checkpointBytes + resultBytes + tokenizerBytes + logBytes }
    /// What it takes at most: a new checkpoint is whole before an old one goes, and so is a result that is written
    /// once more.
    public var peakBytes: Int { keptBytes + max(checkpointBytes, resultBytes + tokenizerBytes) }

    /// Of these, what a run that is gone on with has already.
    func presentBytes(in checkpoints: String) -> Int {
        min(Checkpoint.kept, Checkpoint.list(checkpoints).count) * checkpointBytes
    }
}

extension TrainingRun {
    /// Of the files that `copyTokenizerFiles` copies.
    private func tokenizerBytes(_ folder: String) -> Int {
        RunManifest.tokenizerNames.reduce(0) { $0 + (fileSize(folder + "/" + $1) ?? 0) }
    }

    /// - Parameter trainable: parameters that learn.
    func diskPlan(_ model: DecoderModel, _ adapter: AdapterConfig?, trainable: Int, steps: Int) -> DiskPlan {
        // An adapter that began as a part of its base is written with twice the rank.
        let factor = adapter?.initialization.takesOutOfBase == true ? 2 : 1
        let result =
            adapter == nil ? model.config.parameterCount * (model.dtype == .bf16 ? 2 : 4) : factor * 4 * trainable
        // A line of the log has some 250 bytes, and the report a point for each.
        let lines = steps / max(1, recipe.training.logEvery) + 1
        return DiskPlan(
            checkpointBytes: 12 * trainable + (1 << 16), resultBytes: result + (1 << 14),
            tokenizerBytes: recipe.tokenizerFolder.map(tokenizerBytes) ?? 0,
            logBytes: min(lines, 1 << 30) * 300 + (1 << 16))
    }
}
