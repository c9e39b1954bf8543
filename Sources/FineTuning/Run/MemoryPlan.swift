import Foundation
public import TensorCore

/// How much memory a run needs, and the size of micro-batch that it allows. All sizes in bytes.
///
/// An estimate from the sizes of the buffers that the operations keep; what it decides changes speed and memory, and
/// results only by rounding.
public struct MemoryPlan: Sendable {
    /// Weights of the base in the type they are computed with.
    public var weightBytes: Int
    /// Master copies, gradients and moments of what learns.
    public var trainableBytes: Int
    /// What a micro-batch keeps for the backward pass.
    public var activationBytes: Int
    /// Logits tiles, scratch memory of the workers, the program itself.
    public var workspaceBytes: Int
    public var microbatchTokens: Int
    public var checkpointsActivations: Bool
    /// What the machine gives; nil where it does not say.
    public var limitBytes: Int?

    public var totalBytes: Int { weightBytes + trainableBytes + activationBytes + workspaceBytes }
    public var fits: Bool { limitBytes.map { totalBytes <= $0 } ?? true }

    /// Long enough for products to run at speed; more only costs memory.
    static let preferredTokens = 2048

    /// What the sizes follow from.
    struct Inputs {
        var config: ModelConfig
        var dtype: DType
        var threads: Int
        /// Parameters that learn.
        var trainableCount: Int
        var trainsBase: Bool
        /// Tokens of the longest row and, on average, of a whole optimiser step.
        var longestRow: Int
        var stepTokens: Int
        var limitBytes: Int?
    }

    init(_ inputs: Inputs, microbatch: Recipe.Training.MicrobatchTokens, checkpointing: Recipe.Training.Checkpointing) {
        let config = inputs.config
        let size = inputs.dtype.size
        weightBytes = inputs.trainsBase ? 0 : config.parameterCount * size
        // f32 master, gradient and two moments; the copy that products read when it is not the master.
        trainableBytes = inputs.trainableCount * (16 + (inputs.dtype == .f32 ? 0 : size))
        let tile = min(32 << 20, 128 * 4 * config.vocabularySize)
        workspaceBytes = (96 << 20) + inputs.threads * (2 * tile + (8 << 20))
        if inputs.trainsBase { workspaceBytes += 512 * config.vocabularySize * size }
        limitBytes = inputs.limitBytes.map { $0 / 10 * 9 }
        microbatchTokens = 0
        checkpointsActivations = checkpointing == .on
        activationBytes = 0

        // A row is never cut, so it is the least that passes at once.
        let least = max(1, inputs.longestRow)
        let choices: [Int]
        switch microbatch {
        case .tokens(let count): choices = [max(count, least)]
        case .auto:
            let most = max(least, min(Self.preferredTokens, max(1, inputs.stepTokens)))
            choices = [most, most / 2, most / 4, least].filter { $0 >= least }
        }
        let modes: [Bool] =
            switch checkpointing {
            case .on: [true]
            case .off: [false]
            case .auto: [false, true]
            }
        for mode in modes {
            for tokens in choices {
                microbatchTokens = tokens
                checkpointsActivations = mode
                activationBytes = Self.activations(config, inputs.dtype, tokens: tokens, checkpointing: mode)
                if fits { return }
            }
        }
    }

    /// Bytes that the blocks keep for `tokens` tokens: residual stream f32, everything else in `dtype`.
    private static func activations(_ config: ModelConfig, _ dtype: DType, tokens: Int, checkpointing: Bool) -> Int {
        let queries = config.headCount * config.headDim, keys = config.keyValueHeadCount * config.headDim
        let block = 2 * config.hiddenSize * 4
            + (2 * config.hiddenSize + 2 * queries + 2 * keys + 3 * config.intermediateSize) * dtype.size
        // Gradients that live while one block's pullbacks run.
        let backward = 2 * config.hiddenSize * 4 + (2 * queries + 2 * keys + 3 * config.intermediateSize) * dtype.size
        let kept = checkpointing ? config.layerCount * config.hiddenSize * 4 + block : config.layerCount * block
        return tokens * (kept + backward + 2 * config.hiddenSize * 4)
    }

    /// The text of a refusal: the estimate, and what would fit.
    func refusal() -> [String] {
        func megabytes(_ bytes: Int) -> String { "\(bytes >> 20) MiB" }
        var lines = [
            "not enough memory: about \(megabytes(totalBytes)) are needed and \(megabytes(limitBytes ?? 0)) may be used "
                + "(weights \(megabytes(weightBytes)), what learns \(megabytes(trainableBytes)), activations of "
                + "\(microbatchTokens) tokens \(megabytes(activationBytes)), workspace \(megabytes(workspaceBytes)))"
        ]
        let rest = (limitBytes ?? 0) - weightBytes - trainableBytes - workspaceBytes
        if rest > 0, microbatchTokens > 0, activationBytes > 0 {
            lines.append(
                "sequences of at most \(rest / max(1, activationBytes / microbatchTokens)) tokens would fit: set "
                    + "data.max_length, with data.overlong: truncate or split")
        }
        if !checkpointsActivations { lines.append("training.activation_checkpointing: true needs less") }
        return lines
    }
}
