import TensorCore

extension DecoderModel {
    /// Queries `[T, heads * headDim]`, keys and values `[T, heads * valueDim]` of latent attention.
    func latentQueriesKeysValues(
        _ tape: Tape, _ x: Tensor, _ latent: LatentAttention, _ index: Int, _ pass: BlockPass
    ) -> (Tensor, Tensor, Tensor) {
        let layer = layers[index], heads = config.headCount
        func normed(_ x: Tensor, _ role: NormRole) -> Tensor {
            tape.rmsNorm(x, weight: layer[role]!, eps: latent.eps, dtype: dtype)
        }
        let isNarrow = latent.queryRank != nil
        let first = tape.linear(
            x, [layer.linear(isNarrow ? .queryDown : .attentionQuery), layer.linear(.keyValueDown)],
            dropout: pass.dropout(index, site: 0))
        var q = first[0]
        if isNarrow {
            let latent = normed(q, .queryLatent)
            q = tape.linear(latent, [layer.linear(.queryUp)], dropout: pass.dropout(index, site: 8))[0]
        }
        let parts = split(tape, first[1], [latent.keyValueRank, latent.rotaryDim])
        let plain = tape.linear(
            normed(parts[0], .keyValueLatent), [layer.linear(.keyValueUp)], dropout: pass.dropout(index, site: 9))[0]
        if let rotary = config.layers[index].rotary {
            let (rows, table) = (pass.rotations[rotary].rows, pass.rotations[rotary].table)
            tape.rotateInPlace(q, heads: heads, positions: rows, table: table, from: latent.plainDim)
            tape.rotateInPlace(parts[1], heads: 1, positions: rows, table: table)
        }
        let (k, v) = tape.latentKeysValues(
            plain, parts[1], heads: heads, plainDim: latent.plainDim, valueDim: latent.valueDim)
        return (q, k, v)
    }
}
