public import TensorCore

/// What a training step of a model needs in memory, from the shapes of what it keeps.
public struct MemoryPlan: Sendable {
    /// The base's weights; those of a mapped checkpoint count when they are touched, so at most this.
    public var weightBytes: Int
    /// Master copies, gradients, moments and the copies that operations read, of what learns.
    public var trainableBytes: Int
    /// Kept for the backward pass, a token of a micro-batch.
    public var activationBytesPerToken: Int
    /// The same with activation checkpointing, the one block that runs again included.
    public var checkpointedBytesPerToken: Int
    /// Logits and other scratch memory of the workers.
    public var scratchBytes: Int

    /// - Parameters:
    ///   - trainableCount: parameters that learn
    ///   - threads: workers
    public init(_ config: ModelConfig, dtype: DType, trainableCount: Int, threads: Int) {
        let size = dtype.size, hidden = config.hiddenSize
        let queries = config.headCount * config.headDim, keys = config.keyValueHeadCount * config.headDim
        weightBytes = config.parameterCount * size
        trainableBytes = trainableCount * (4 * 4 + (dtype == .f32 ? 0 : size) + size)
        // Two normalised inputs, q, k, v, attention's result, gate and up in the computation's type; the log sums of
        // attention. What follows from these row by row is computed again.
        let block = (2 * hidden + 2 * queries + 2 * keys + 2 * config.intermediateSize) * size
            + config.headCount * 4
        // While a block runs backward, what was computed again, its gradients and the residual stream's.
        let working = (4 * config.intermediateSize + 4 * hidden + 3 * queries + 2 * keys) * size + 3 * hidden * 4
        activationBytesPerToken = block * config.layerCount + working
        checkpointedBytesPerToken = hidden * 4 * config.layerCount + block + working
        let logitRows = min(128, max(16, (32 << 20) / (4 * config.vocabularySize) / 16 * 16))
        scratchBytes = threads * (logitRows * config.vocabularySize * (4 + size) + (16 << 20))
    }

    /// The step's peak for micro-batches of this many tokens, in bytes.
    public func peakBytes(microbatchTokens: Int, checkpointing: Bool) -> Int {
        let perToken = checkpointing ? checkpointedBytesPerToken : activationBytesPerToken
        return weightBytes + trainableBytes + scratchBytes + perToken * microbatchTokens
    }

    /// The micro-batch that graft chooses: about 1 GiB of activations, which keeps products large, from 512 to 16384
    /// tokens. It depends on the model alone, so that a run gives the same bytes on another machine of its kind.
    public func chosenMicrobatchTokens(checkpointing: Bool) -> Int {
        let perToken = checkpointing ? checkpointedBytesPerToken : activationBytesPerToken
        let tokens = (1 << 30) / max(1, perToken)
        return min(16_384, max(512, tokens / 256 * 256))
    }
}
