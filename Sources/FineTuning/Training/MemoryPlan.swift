internal import FileFormats
public import Host
public import TensorCore

/// What a training step of a model needs in memory, from the shapes of what it keeps.
public struct MemoryPlan: Sendable {
    /// The base's weights; those of a mapped checkpoint count when they are touched, so at most this.
    public var weightBytes: Int
    /// Of the weights, routed experts of a mapped file beside those that one token takes: where memory is short, the
    /// system drops them and reads them again.
    public var idleExpertBytes: Int
    /// Master copies, gradients, moments and the copies that operations read, of what learns.
    public var trainableBytes: Int
    public var layerCount: Int
    /// Kept for the backward pass by a block, a token of a micro-batch; and by one that runs again, its input alone.
    public var blockBytesPerToken: Int
    public var recomputedBlockBytesPerToken: Int
    /// What exists while one block runs backward: its gradients, and its own activations if it runs again.
    public var workingBytesPerToken: Int
    /// The program itself, logits and other scratch memory of the workers.
    public var scratchBytes: Int
    /// Whether micro-batches differ so much in length that their blocks of memory do not serve each other.
    public var variesInLength = true

    /// - Parameters:
    ///   - trainableCount: parameters that learn
    ///   - threads: workers
    public init(
        _ config: ModelConfig, dtype: DType, trainableCount: Int, threads: Int, quantization: BaseQuantization = .none
    ) {
        let size = dtype.size, hidden = config.hiddenSize
        let queries = config.headCount * config.headDim, keys = config.keyValueHeadCount * config.headDim
        let inner = config.widestInner
        let linear = quantization.parameters(config).reduce(0) { $0 + $1.shape.reduce(1, *) }
        let isFrozen = trainableCount < config.parameterCount
        let quantized = quantization.byteCount(of: linear).map { $0 + (config.parameterCount - linear) * size }
        weightBytes = quantized ?? config.parameterCount * size
        // What is quantised is no longer mapped.
        idleExpertBytes = quantized == nil && isFrozen ? Self.idleExpertBytes(config, dtype: dtype) : 0
        trainableBytes = trainableCount * (4 * 4 + size)
        // The norms' units, or a branch's input where no norm stands before it; q, k, v, attention's result, gate and
        // up in the computation's type; the log sums of attention. What follows from these row by row is computed
        // again.
        let inputs = [NormRole.attentionInput, .feedForwardInput].filter { !config.norms.contains($0) }.count
        let units = (config.norms.count + inputs) * hidden + (config.queryKeyNorm == nil ? 0 : queries + keys)
        let block = (units + 2 * queries + 2 * keys + 2 * inner) * size + config.headCount * 4
        // While a block runs backward, what was computed again, its gradients and the residual stream's.
        let slots = config.mixture?.router.active ?? 0
        let working = (4 * inner + (4 + 2 * slots) * hidden + 3 * queries + 2 * keys) * size + 3 * hidden * 4
        layerCount = config.layerCount
        blockBytesPerToken = block
        recomputedBlockBytesPerToken = hidden * 4
        workingBytesPerToken = working
        // The packed weights of a block and of its neighbour; a tile's scores, sums and copies of each worker.
        let blockWeights = 2 * hidden * (queries + keys) + 3 * hidden * inner
        scratchBytes = (dtype == .bf16 ? blockWeights * size : 0) + threads * (8 << 20) + (48 << 20)
        if !isFrozen {
            // A head that learns keeps the gradients of 512 rows of logits, and each worker 128 rows of them.
            scratchBytes += config.vocabularySize * (512 * size + threads * 128 * (4 + size))
        }
    }

    private static func idleExpertBytes(_ config: ModelConfig, dtype: DType) -> Int {
        guard let mixture = config.mixture, config.isStored(as: dtype) else { return 0 }
        let expert = 3 * config.hiddenSize * mixture.innerWidth * dtype.size
        let idle = mixture.router.experts - mixture.router.active
        return expert * idle * config.layers.reduce(0) { $0 + ($1.mixes ? 1 : 0) }
    }

    /// Adds what DoRA keeps: the products before their gain, and the gradients after it.
    ///
    /// - Parameter updates: all of the adapter's
    mutating func add(magnitudesOf updates: [AdapterPlan.Update], dtype: DType) {
        var widths = [Int](repeating: 0, count: layerCount)
        for update in updates where update.hasMagnitude {
            if case .linear(let layer, _) = update.site.place { widths[layer] += update.site.outputWidth }
        }
        blockBytesPerToken += (widths.reduce(0, +) + layerCount - 1) / layerCount * dtype.size
        workingBytesPerToken += (widths.max() ?? 0) * dtype.size
    }

    /// Adds what a teacher needs, which never runs backward: its weights and a tile of its logits.
    mutating func add(teacher config: ModelConfig, dtype: DType) {
        weightBytes += config.parameterCount * dtype.size
        idleExpertBytes += Self.idleExpertBytes(config, dtype: dtype)
        scratchBytes += 64 << 20
    }

    /// Kept and worked with, a token of a micro-batch, when `recomputed` of the blocks run again.
    public func bytesPerToken(recomputed: Int) -> Int {
        let kept = blockBytesPerToken * (layerCount - recomputed) + recomputedBlockBytesPerToken * recomputed
        return kept + workingBytesPerToken + (recomputed == layerCount ? blockBytesPerToken : 0)
    }

    /// The step's peak for micro-batches of at most this many tokens, in bytes.
    ///
    /// Blocks of memory are up to an eighth larger than what they hold. Where lengths vary, one serves requests down to
    /// four fifths of its size, and idle blocks are kept: an eighth of what was used and 64 MiB at most.
    public func peakBytes(microbatchTokens: Int, recomputed: Int) -> Int {
        let (activations, overflow) = bytesPerToken(recomputed: recomputed).multipliedReportingOverflow(
            by: microbatchTokens)
        guard !overflow, activations < Int.max / 4 else { return .max }
        var blocks = activations / 8 * 9
        if variesInLength {
            blocks = activations / 4 * 5
            blocks += min(blocks, blocks / 8 + (64 << 20))
        }
        return weightBytes + trainableBytes + scratchBytes + blocks
    }

    /// The peak without the experts that the system can drop: with less a run does not get on.
    func workingSetBytes(microbatchTokens: Int, recomputed: Int) -> Int {
        peakBytes(microbatchTokens: microbatchTokens, recomputed: recomputed) - idleExpertBytes
    }

    /// How a run uses memory.
    public struct Choice: Sendable, Equatable {
        public var microbatchTokens: Int
        /// Blocks, from the first on, whose activations are computed again in the backward pass.
        public var recomputedBlocks: Int

        public init(microbatchTokens: Int, recomputedBlocks: Int) {
            self.microbatchTokens = microbatchTokens
            self.recomputedBlocks = recomputedBlocks
        }
    }

    /// The micro-batch and the blocks to recompute for a budget: first the micro-batch shrinks, down to the longest
    /// row, which costs little time; then blocks run again, no more than needed, which costs up to a third.
    ///
    /// Where memory abounds, a micro-batch keeps about 1 GiB of activations, from 512 to 16384 tokens: products are as
    /// fast as with more. More than four processors get 128 tokens each, up to 4096, or they would wait for one another.
    /// - Parameters:
    ///   - tokens: the micro-batch that the recipe asks for; nil leaves it open
    ///   - recomputed: the blocks that the recipe asks to run again; nil leaves it open
    ///   - longest: tokens of the longest row
    ///   - processors: of the machine
    public func choice(
        budget: Int, longest: Int, tokens: Int? = nil, recomputed: Int? = nil,
        processors: Int = Processors.ofMachine
    ) -> Choice {
        func fits(_ tokens: Int, _ recomputed: Int) -> Bool {
            workingSetBytes(microbatchTokens: max(tokens, longest), recomputed: recomputed) <= budget
        }
        let plenty = (1 << 30) / max(1, bytesPerToken(recomputed: recomputed ?? 0)) / 256 * 256
        var chosen = tokens ?? min(16_384, max(512, min(4096, 128 * processors), plenty))
        if tokens == nil {
            while chosen > max(256, longest), !fits(chosen, recomputed ?? 0) { chosen -= 256 }
        }
        let blocks = recomputed ?? (0..<layerCount).first { fits(chosen, $0) } ?? layerCount
        return Choice(microbatchTokens: chosen, recomputedBlocks: blocks)
    }
}

extension ModelConfig {
    /// Values between the feed-forward layers of a token, in the block that has most.
    fileprivate var widestInner: Int {
        guard let mixture else { return intermediateSize }
        let mixed = mixture.router.active * mixture.innerWidth + (mixture.sharedWidth ?? 0)
        return layers.allSatisfy(\.mixes) ? mixed : max(mixed, intermediateSize)
    }

    /// Whether config.json says that the weights are in this type, and so are used where they lie in their file.
    fileprivate func isStored(as dtype: DType) -> Bool {
        let name = (json["dtype"] ?? json["torch_dtype"])?.stringValue ?? ""
        return name.hasSameBytes(as: dtype == .bf16 ? "bfloat16" : "float32")
    }
}
