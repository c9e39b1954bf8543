public import TensorCore
public import TextData

/// One block of a decoder.
public struct DecoderLayer {
    public var inputNorm: Weight
    public var postAttentionNorm: Weight
    public var query, key, value, output: Projection
    public var gate, up, down: Projection

    /// The projection of a role; adapters are attached through it.
    public subscript(role: LinearRole) -> Projection {
        get { self[keyPath: Self.path(role)] }
        set { self[keyPath: Self.path(role)] = newValue }
    }

    private static func path(_ role: LinearRole) -> WritableKeyPath<DecoderLayer, Projection> {
        switch role {
        case .attentionQuery: \.query
        case .attentionKey: \.key
        case .attentionValue: \.value
        case .attentionOutput: \.output
        case .feedForwardGate: \.gate
        case .feedForwardUp: \.up
        case .feedForwardDown: \.down
        }
    }

    var isTrainable: Bool {
        inputNorm.isTrainable || LinearRole.allCases.contains { self[$0].isTrainable }
    }
}

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
    /// Every weight of the base by its Hugging Face name, in the table's order.
    public let weights: [Weight]
    private var rotary: RotaryTable

    /// What one pass needs to know beside the tokens.
    public struct PassOptions {
        /// Blocks, from the first on, that keep only their input and run again in the backward pass.
        public var recomputedBlocks = 0
        /// The dropout of adapters' inputs; the layer's number is mixed into the key.
        public var dropout: AdapterDropout?
        public init() {}
    }

    /// How queries find their keys.
    private enum Context {
        case packed(segmentStarts: [Int])
        case cached(KeyValueCache)
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
        rotary = config.rotary.table(positions: 256)
    }

    /// The table grows with the longest position seen, so that a long context costs only who uses it.
    private func rotaryTable(for positions: [Int32]) -> RotaryTable {
        prepare(positions: Int(positions.max() ?? 0) + 1)
        return rotary
    }

    /// Makes the model ready for sequences of this length; after it, passes of such lengths only read the model and
    /// may run side by side.
    func prepare(positions needed: Int) {
        guard rotary.positions < needed else { return }
        var size = rotary.positions
        while size < needed { size *= 2 }
        rotary = config.rotary.table(positions: size)
    }

    // MARK: the forward pass

    /// - Parameter kept: the rows that what follows needs, nil for all: past the attention, no others are computed.
    private func block(
        _ tape: Tape, _ input: Tensor, layer index: Int, positions: [Int32], table: RotaryTable, context: Context,
        dropout: AdapterDropout?, keeping kept: [Int]? = nil
    ) -> Tensor {
        let layer = layers[index]
        func drop(_ site: UInt64) -> AdapterDropout? {
            dropout.map {
                AdapterDropout(
                    probability: $0.probability, key: CounterRNG($0.key, UInt64(index), site).key,
                    firstRow: $0.firstRow)
            }
        }
        let x = tape.rmsNorm(input, weight: layer.inputNorm, eps: config.rmsNormEps, dtype: dtype)
        let qkv = tape.linear(x, [layer.query, layer.key, layer.value], dropout: drop(0))
        tape.rotateInPlace(qkv[0], heads: config.headCount, positions: positions, table: table)
        tape.rotateInPlace(qkv[1], heads: config.keyValueHeadCount, positions: positions, table: table)
        var attended = attend(tape, qkv, layer: index, context), stream = input
        if let kept { (attended, stream) = (tape.selectRows(attended, kept), tape.selectRows(input, kept)) }
        let middle = tape.linear(attended, layer.output, addedTo: stream, dropout: drop(1))
        tape.release(x, input, stream)
        let y = tape.rmsNorm(middle, weight: layer.postAttentionNorm, eps: config.rmsNormEps, dtype: dtype)
        let gateUp = tape.linear(y, [layer.gate, layer.up], dropout: drop(2))
        let activated = tape.swiGLU(gate: gateUp[0], up: gateUp[1])
        let output = tape.linear(activated, layer.down, addedTo: middle, dropout: drop(3))
        tape.release(y, activated, middle)
        return output
    }

    private func attend(_ tape: Tape, _ qkv: [Tensor], layer: Int, _ context: Context) -> Tensor {
        let shape = AttentionShape(
            heads: config.headCount, keyValueHeads: config.keyValueHeadCount, headDim: config.headDim,
            window: config.windows[layer])
        switch context {
        case .packed(let starts):
            return tape.attention(q: qkv[0], k: qkv[1], v: qkv[2], segmentStarts: starts, shape: shape)
        case .cached(let cache):
            let (keys, values) = cache.append(qkv[1], qkv[2], layer: layer, tape)
            return tape.cachedAttention(
                q: qkv[0], keys: keys, values: values, length: cache.length + qkv[0].rows, shape: shape)
        }
    }

    /// The residual stream after the last block, f32 `[T, hidden]`, or of the rows `kept` alone.
    private func residual(
        _ tape: Tape, tokens: [Int32], positions: [Int32], context: Context, options: PassOptions,
        keeping kept: [Int]? = nil
    ) -> Tensor {
        let table = rotaryTable(for: positions)
        var x = tape.embedding(tokens, table: embedding)
        for index in layers.indices {
            let body = { (tape: Tape, x: Tensor) in
                self.block(
                    tape, x, layer: index, positions: positions, table: table, context: context,
                    dropout: options.dropout, keeping: index == self.layers.count - 1 ? kept : nil)
            }
            x = index < options.recomputedBlocks
                ? tape.checkpoint(x, hasWeights: layers[index].isTrainable, body) : body(tape, x)
        }
        return x
    }

    private func normed(_ tape: Tape, _ x: Tensor) -> Tensor {
        tape.rmsNorm(x, weight: finalNorm, eps: config.rmsNormEps, dtype: dtype)
    }

    /// The loss of every trained position of a batch, in nats, in the order of the positions.
    ///
    /// On a recording tape, `tape.backward()` then adds the gradient of their *sum* to the weights that learn.
    public func losses(_ tape: Tape, _ batch: PackedBatch, options: PassOptions = PassOptions()) -> [Double] {
        let trained = batch.targets.indices.filter { batch.targets[$0] != ignoredTarget }
        guard !trained.isEmpty else { return [] }
        return tape.fusing {
            // Rows without a target never enter the head, nor the last block past its attention. With dropout that
            // block takes all rows: its masks go by the number of the row.
            let selects = trained.count < batch.count, selectsEarly = selects && options.dropout == nil
            var x = residual(
                tape, tokens: batch.tokens, positions: batch.positions,
                context: .packed(segmentStarts: batch.segmentStarts), options: options,
                keeping: selectsEarly ? trained : nil)
            if selects, !selectsEarly { x = tape.selectRows(x, trained) }
            return tape.crossEntropy(normed(tape, x), head: head, targets: trained.map { batch.targets[$0] })
        }
    }

    /// All logits of one sequence, f32 `[T, vocabulary]`.
    public func logits(tokens: [Int32], pool: WorkerPool) -> Tensor {
        logits(PackedBatch(tokens: tokens), pool: pool)
    }

    /// All logits of a batch, f32 `[T, vocabulary]`; the targets are not used.
    public func logits(_ batch: PackedBatch, pool: WorkerPool) -> Tensor {
        let tape = Tape(pool: pool, recording: false)
        return tape.fusing {
            let x = residual(
                tape, tokens: batch.tokens, positions: batch.positions,
                context: .packed(segmentStarts: batch.segmentStarts), options: PassOptions())
            return tape.logits(normed(tape, x), head: head)
        }
    }

    /// Logits of the last of `tokens`, f32 `[1, vocabulary]`, after those that `cache` holds; the cache grows.
    public func nextLogits(tokens: [Int32], cache: KeyValueCache, pool: WorkerPool) -> Tensor {
        let tape = Tape(pool: pool, recording: false)
        let positions = tokens.indices.map { Int32(cache.length + $0) }
        defer { cache.advance(tokens.count) }
        return tape.fusing {
            let x = residual(
                tape, tokens: tokens, positions: positions, context: .cached(cache), options: PassOptions(),
                keeping: tokens.count > 1 ? [tokens.count - 1] : nil)
            return tape.logits(normed(tape, x), head: head)
        }
    }

    // MARK: what learns

    /// The weights that learn: all of the base, or the adapters', in a fixed order.
    public var trainableWeights: [Weight] {
        weights.filter(\.isTrainable) + adapters.flatMap { [$0.adapter.a, $0.adapter.b] }.filter(\.isTrainable)
    }

    /// The adapters by the name of the module that they sit on, in the model's order.
    public var adapters: [(module: String, adapter: LowRankAdapter)] {
        var result: [(module: String, adapter: LowRankAdapter)] = []
        for (index, layer) in layers.enumerated() {
            for role in LinearRole.allCases {
                if let adapter = layer[role].adapter {
                    result.append((ParameterTable.module(role, layer: index), adapter))
                }
            }
        }
        if let adapter = head.adapter { result.append((ParameterTable.headModule, adapter)) }
        return result
    }

    /// Brings the copies that operations read up to date after an optimiser step.
    public func refreshWeights(_ pool: WorkerPool) {
        let adapters = adapters, learning = weights.filter(\.isTrainable)
        pool.parallelFor(learning.count, .optimizer) { i, _ in learning[i].refresh() }
        pool.parallelFor(adapters.count, .optimizer) { i, _ in adapters[i].adapter.refresh() }
    }
}
