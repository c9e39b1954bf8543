import TensorCore

/// How queries find their keys.
enum AttentionContext {
    case packed(segmentStarts: [Int])
    case cached(KeyValueCache)
}

/// What the blocks of one pass share.
struct BlockPass {
    let rotations: [Rotation]
    let context: AttentionContext
    let dropout: AdapterDropout?

    /// The dropout of one of the places of layer `index` where adapters read.
    func dropout(_ index: Int, site: UInt64) -> AdapterDropout? {
        dropout.map {
            AdapterDropout(
                probability: $0.probability, key: CounterRNG($0.key, UInt64(index), site).key, firstRow: $0.firstRow)
        }
    }
}

extension DecoderModel {
    /// One block: what attention and then the feed-forward layers make of the normalised stream is added to it.
    ///
    /// - Parameters:
    ///   - input: the residual stream, f32 `[T, hidden]`
    ///   - kept: the rows that what follows needs, nil for all: past the attention, no others are computed.
    func block(
        _ tape: Tape, _ input: Tensor, layer index: Int, _ pass: BlockPass, keeping kept: [Int]? = nil
    ) -> Tensor {
        let layer = layers[index]
        let x = normed(tape, input, layer[.attentionInput])
        let (q, k, v) =
            config.latent.map { latentQueriesKeysValues(tape, x, $0, index, pass) }
            ?? queriesKeysValues(tape, x, index, pass)
        var attended = attend(tape, q, k, v, index, pass), stream = input
        if let kept { (attended, stream) = (tape.selectRows(attended, kept), tape.selectRows(input, kept)) }
        let middle = add(
            tape, attended, layer.linear(.attentionOutput), norm: layer[.attentionOutput], to: stream,
            dropout: pass.dropout(index, site: 1))
        if layer[.attentionInput] != nil { tape.release(x) }
        tape.release(input, stream)

        let y = normed(tape, middle, layer[.feedForwardInput])
        if let experts = layer.experts {
            let output = mix(tape, y, experts, index, addedTo: middle, pass)
            tape.release(y, middle)
            return output
        }
        let (gate, up) = gateAndUp(tape, y, index, pass)
        let activated = tape.gated(config.activation, gate: gate, up: up)
        let output = add(
            tape, activated, layer.linear(.feedForwardDown), norm: layer[.feedForwardOutput], to: middle,
            dropout: pass.dropout(index, site: 3))
        if layer[.feedForwardInput] != nil { tape.release(y) }
        tape.release(activated, middle)
        return output
    }

    /// The stream as the input of a branch, in the computation's type; some families normalise only what comes out.
    private func normed(_ tape: Tape, _ x: Tensor, _ norm: Weight?) -> Tensor {
        guard let norm else { return tape.copy(x, as: dtype) }
        return tape.rmsNorm(x, weight: norm, eps: config.rmsNormEps, dtype: dtype)
    }

    /// The end of a branch: its projection is added to the stream, normalised or multiplied first in some families.
    private func add(
        _ tape: Tape, _ x: Tensor, _ projection: Projection, norm: Weight?, to stream: Tensor, dropout: AdapterDropout?
    ) -> Tensor {
        if norm == nil, config.residualScale == 1 {
            return tape.linear(x, projection, addedTo: stream, dropout: dropout)
        }
        var branch = tape.linear(x, [projection], dropout: dropout)[0]
        if let norm {
            let unnormed = branch
            branch = tape.rmsNorm(unnormed, weight: norm, eps: config.rmsNormEps, dtype: dtype)
            tape.release(unnormed)
        }
        let sum = tape.add(branch, times: config.residualScale, to: stream)
        tape.release(branch)
        return sum
    }

    // MARK: attention

    /// Queries `[T, heads * headDim]`, keys and values, turned by their positions.
    private func queriesKeysValues(
        _ tape: Tape, _ x: Tensor, _ index: Int, _ pass: BlockPass
    ) -> (Tensor, Tensor, Tensor) {
        let layer = layers[index], dropout = pass.dropout(index, site: 0)
        let (queries, keys) = (config.headCount * config.headDim, config.keyValueHeadCount * config.headDim)
        var qkv: [Tensor]
        if let fused = layer[.attentionQueryKeyValue] {
            qkv = split(tape, tape.linear(x, [fused], dropout: dropout)[0], [queries, keys, keys])
        } else {
            let roles: [LinearRole] = [.attentionQuery, .attentionKey, .attentionValue]
            qkv = tape.linear(x, roles.map(layer.linear), dropout: dropout)
        }
        for (i, role) in [NormRole.query, .key].enumerated() {
            guard let norm = layer[role] else { continue }
            let raw = qkv[i]
            qkv[i] = tape.rmsNorm(raw, weight: norm, eps: config.rmsNormEps, dtype: dtype)
            tape.release(raw)
        }
        if let rotary = config.layers[index].rotary {
            let rotation = pass.rotations[rotary]
            for (x, heads) in [(qkv[0], config.headCount), (qkv[1], config.keyValueHeadCount)] {
                tape.rotateInPlace(x, heads: heads, positions: rotation.rows, table: rotation.table)
            }
        }
        return (qkv[0], qkv[1], qkv[2])
    }

    private func attend(
        _ tape: Tape, _ q: Tensor, _ k: Tensor, _ v: Tensor, _ index: Int, _ pass: BlockPass
    ) -> Tensor {
        let shape = AttentionShape(
            heads: config.headCount, keyValueHeads: config.keyValueHeadCount, headDim: config.headDim,
            valueDim: config.valueDim, scale: config.attentionScale.map { Float($0) },
            window: config.layers[index].window, softCap: config.scoreCap)
        switch pass.context {
        case .packed(let starts):
            return tape.attention(q: q, k: k, v: v, segmentStarts: starts, shape: shape, sinks: layers[index].sinks)
        case .cached(let cache):
            let (keys, values) = cache.append(k, v, layer: index, tape)
            return tape.cachedAttention(
                q: q, keys: keys, values: values, length: cache.length + q.rows, shape: shape,
                sinks: layers[index].sinks)
        }
    }

    // MARK: feed-forward

    private func gateAndUp(_ tape: Tape, _ y: Tensor, _ index: Int, _ pass: BlockPass) -> (Tensor, Tensor) {
        let layer = layers[index], dropout = pass.dropout(index, site: 2)
        if let fused = layer[.feedForwardGateUp] {
            let both = tape.linear(y, [fused], dropout: dropout)[0]
            let parts = split(tape, both, [both.width / 2, both.width / 2])
            return (parts[0], parts[1])
        }
        let parts = tape.linear(y, [layer.linear(.feedForwardGate), layer.linear(.feedForwardUp)], dropout: dropout)
        return (parts[0], parts[1])
    }

    /// The parts of what one projection computed for several.
    func split(_ tape: Tape, _ x: Tensor, _ widths: [Int]) -> [Tensor] {
        let parts = tape.split(x, widths: widths)
        tape.release(x)
        return parts
    }
}

extension Tape {
    fileprivate func gated(_ activation: ModelConfig.Activation, gate: Tensor, up: Tensor) -> Tensor {
        switch activation {
        case .silu: swiGLU(gate: gate, up: up)
        case .geluTanh: geGLU(gate: gate, up: up)
        }
    }
}
