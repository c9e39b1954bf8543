public import TensorCore
public import TextData

/// A decoder-only language model: its weights and its forward pass.
public final class DecoderModel {
    public let config: ModelConfig
    /// The type of activations and of the matrices that they are multiplied with.
    public let dtype: DType
    public let embedding: Weight
    public internal(set) var layers: [DecoderLayer]
    public let finalNorm: Weight
    /// Shares the embedding's weight when the model ties them.
    public internal(set) var head: Projection
    /// A low-rank update of the embedding: A `[r, hidden]`, B `[vocabulary, r]`.
    public internal(set) var embeddingAdapter: LowRankAdapter?
    /// What is attached: the plan, and what updates took out of the base's weights, by module.
    var attached: (plan: AdapterPlan, parts: [(module: String, part: BasePart)])?
    /// Every weight of the base by its Hugging Face name, in the table's order.
    public let weights: [Weight]
    let table: ParameterTable
    private var rotary: RotaryTables

    /// Whether matrices are read as operations need them.
    var isStreamed = false

    /// What one pass needs to know beside the tokens.
    public struct PassOptions {
        /// Blocks, from the first on, that keep only their input and run again in the backward pass.
        public var recomputedBlocks = 0
        /// The dropout of adapters' inputs; the layer's number is mixed into the key.
        public var dropout: AdapterDropout?
        /// What the losses are multiplied with in what is differentiated; nil: their sum is.
        public var factors: LossFactors?
        /// Whose distribution to learn in the place of the targets: states of the rows with a target, and the distance.
        public var teacher: (states: TeacherStates, divergence: Divergence)?
        public init() {}
    }

    init(
        config: ModelConfig, dtype: DType, weights: [Weight], embedding: Weight, layers: [DecoderLayer],
        finalNorm: Weight, head: Projection
    ) {
        self.config = config
        self.dtype = dtype
        self.weights = weights
        self.embedding = embedding
        self.layers = layers
        self.finalNorm = finalNorm
        self.head = head
        table = ParameterTable(config)
        rotary = RotaryTables(config.rotaries)
    }

    /// Makes the model ready for sequences of this length; after it, passes of such lengths only read the model and
    /// may run side by side.
    func prepare(positions needed: Int) { rotary.reserve(needed) }

    /// How tokens at `positions` turn; the frequencies of some embeddings depend on the length of the sequence.
    private func rotations(_ positions: [Int32], _ context: AttentionContext) -> [Rotation] {
        prepare(positions: Int(positions.max() ?? 0) + 1)
        var lengths = [Int](repeating: 0, count: positions.count)
        switch context {
        case .cached(let cache): lengths = lengths.map { _ in cache.length + positions.count }
        case .packed(let starts):
            for (start, end) in zip(starts, starts.dropFirst()) where end > start {
                let length = Int(positions[start..<end].max() ?? 0) + 1
                for row in start..<end { lengths[row] = length }
            }
        }
        return rotary.rotations(positions: positions, lengths: lengths)
    }

    // MARK: the forward pass

    /// The residual stream after the last block, f32 `[T, hidden]`, or of the rows `kept` alone.
    private func residual(
        _ tape: Tape, tokens: [Int32], positions: [Int32], context: AttentionContext, options: PassOptions,
        keeping kept: [Int]? = nil
    ) -> Tensor {
        let pass = BlockPass(
            rotations: rotations(positions, context), context: context, dropout: options.dropout)
        var x = tape.embedding(tokens, table: embedding, scale: config.embeddingScale, adapter: embeddingAdapter)
        for index in layers.indices {
            let body = { (tape: Tape, x: Tensor) in
                self.block(tape, x, layer: index, pass, keeping: index == self.layers.count - 1 ? kept : nil)
            }
            x =
                index < options.recomputedBlocks
                ? tape.checkpoint(x, hasWeights: layers[index].isTrainable, body) : body(tape, x)
        }
        return x
    }

    private var logitShape: LogitShape { LogitShape(scale: config.logitScale, cap: config.logitCap) }

    private func normed(_ tape: Tape, _ x: Tensor) -> Tensor {
        tape.rmsNorm(x, weight: finalNorm, eps: config.rmsNormEps, dtype: dtype)
    }

    /// The loss of every trained position of a batch, in nats, in the order of the positions: the cross-entropy with
    /// the target, or the divergence from the teacher.
    ///
    /// On a recording tape, `tape.backward()` then adds the gradient of their sum, or of what the factors make of it,
    /// to the weights that learn.
    public func losses(_ tape: Tape, _ batch: PackedBatch, options: PassOptions = PassOptions()) -> [Double] {
        let trained = batch.trainedPositions
        guard !trained.isEmpty else { return [] }
        return tape.fusing {
            let x = targetStates(tape, batch, trained, options)
            if let teacher = options.teacher {
                return tape.divergence(
                    x, head: head, teacher: teacher.states, teacher.divergence, shape: logitShape,
                    factors: options.factors)
            }
            return tape.crossEntropy(
                x, head: head, targets: trained.map { batch.targets[$0] }, shape: logitShape,
                factors: options.factors)
        }
    }

    /// What the head takes, `[N, hidden]`, for the N positions of a batch that have a target.
    private func targetStates(
        _ tape: Tape, _ batch: PackedBatch, _ trained: [Int], _ options: PassOptions
    ) -> Tensor {
        // Rows without a target never enter the head, nor the last block past its attention. With dropout that
        // block takes all rows: its masks go by the number of the row.
        let selects = trained.count < batch.count, selectsEarly = selects && options.dropout == nil
        var x = residual(
            tape, tokens: batch.tokens, positions: batch.positions,
            context: .packed(segmentStarts: batch.segmentStarts), options: options,
            keeping: selectsEarly ? trained : nil)
        if selects, !selectsEarly { x = tape.selectRows(x, trained) }
        return normed(tape, x)
    }

    /// This model as the teacher of another: its states at the positions of a batch that have a target.
    public func teacherStates(_ batch: PackedBatch, pool: WorkerPool) -> TeacherStates {
        let tape = Tape(pool: pool, recording: false)
        return TeacherStates(
            x: tape.fusing { targetStates(tape, batch, batch.trainedPositions, PassOptions()) }, head: head,
            shape: logitShape)
    }

    /// All logits of one sequence, f32 `[T, vocabulary]`.
    public func logits(tokens: [Int32], pool: WorkerPool) -> Tensor {
        logits(PackedBatch(tokens: tokens), pool: pool)
    }

    /// All logits of a batch, f32 `[T, vocabulary]`; the targets are not used.
    public func logits(_ batch: PackedBatch, pool: WorkerPool) -> Tensor {
        let tape = Tape(pool: pool, recording: false)
        func pass() -> Tensor {
            let x = residual(
                tape, tokens: batch.tokens, positions: batch.positions,
                context: .packed(segmentStarts: batch.segmentStarts), options: PassOptions())
            return tape.logits(normed(tape, x), head: head, shape: logitShape)
        }
        // Operations that wait for others keep the matrices that were read for them.
        return isStreamed ? pass() : tape.fusing(pass)
    }

    /// Runs a batch through the blocks for what `squares` gathers of their inputs; no logits are computed.
    public func gather(_ squares: InputSquares, _ batch: PackedBatch, pool: WorkerPool) {
        let tape = Tape(pool: pool, recording: false)
        tape.inputSquares = squares
        tape.fusing {
            _ = residual(
                tape, tokens: batch.tokens, positions: batch.positions,
                context: .packed(segmentStarts: batch.segmentStarts), options: PassOptions())
        }
    }

    /// Logits of the last of `tokens`, f32 `[1, vocabulary]`, after those that `cache` holds; the cache grows.
    public func nextLogits(tokens new: [Int32], cache: KeyValueCache, pool: WorkerPool) -> Tensor {
        let tape = Tape(pool: pool, recording: false)
        let tokens = cache.tokensToCompute(new, config.rotaries)
        let positions = tokens.indices.map { Int32(cache.length + $0) }
        defer { cache.advance(tokens) }
        return tape.fusing {
            let x = residual(
                tape, tokens: tokens, positions: positions, context: .cached(cache), options: PassOptions(),
                keeping: tokens.count > 1 ? [tokens.count - 1] : nil)
            return tape.logits(normed(tape, x), head: head, shape: logitShape)
        }
    }

    // MARK: what learns

    /// The weights that learn, in a fixed order: of the base, of rows that stand in for its own, of the adapters.
    public var trainableWeights: [Weight] {
        let tables = weights + [head.weight]
        let all = tables + tables.compactMap { $0.rows?.content } + adapters.flatMap(\.weights)
        var seen: Set<ObjectIdentifier> = []
        return all.filter { $0.isTrainable && seen.insert(ObjectIdentifier($0)).inserted }
    }

    /// Modules and parameters that have an update; all experts of a stacked layer are one.
    public var updateCount: Int { attached?.plan.updates.count ?? 0 }

    /// The adapters, in the model's order, those of routed experts after the others of their layer.
    public var adapters: [LowRankAdapter] {
        var result = embeddingAdapter.map { [$0] } ?? []
        var next = 0
        for layer in layers.indices {
            while next < table.linearModules.count, table.linearModules[next].layer == layer {
                if let adapter = layers[layer][table.linearModules[next].role]?.adapter { result.append(adapter) }
                next += 1
            }
            if let experts = layers[layer].experts {
                result += (experts.gateUpAdapters + experts.downAdapters).flatMap { $0.parts.compactMap { $0 } }
            }
        }
        if let adapter = head.adapter { result.append(adapter) }
        return result
    }

    /// Brings the copies that operations read up to date after an optimiser step.
    public func refreshWeights(_ pool: WorkerPool) {
        let adapters = adapters
        var seen: Set<ObjectIdentifier> = []
        let changing = (weights + [head.weight]).filter {
            ($0.isTrainable || $0.rows != nil) && seen.insert(ObjectIdentifier($0)).inserted
        }
        pool.parallelFor(changing.count, .optimizer) { i, _ in changing[i].refresh() }
        pool.parallelFor(adapters.count, .optimizer) { i, _ in adapters[i].refresh() }
    }
}
