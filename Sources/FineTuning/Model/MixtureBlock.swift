import TensorCore

extension DecoderModel {
    /// stream + the routed experts of y + the shared one: the feed-forward half of a block with a mixture.
    ///
    /// - Parameters:
    ///   - y: the normalised stream, `[T, hidden]`
    ///   - stream: f32 `[T, hidden]`
    func mix(
        _ tape: Tape, _ y: Tensor, _ experts: Experts, _ index: Int, addedTo stream: Tensor, _ pass: BlockPass
    ) -> Tensor {
        let layer = layers[index], mixture = config.mixture!
        let logits = tape.linear(y, [layer.linear(.router)], dropout: pass.dropout(index, site: 4), dtype: .f32)[0]
        let routing = tape.route(logits, mixture.router, correction: layer.correction)
        var sum = stream
        if mixture.sharedWidth != nil {
            let gateUp = tape.linear(
                y, [layer.linear(.sharedGate), layer.linear(.sharedUp)], dropout: pass.dropout(index, site: 5))
            var shared = tape.swiGLU(gate: gateUp[0], up: gateUp[1])
            if mixture.gatesShared {
                let scale = tape.linear(
                    y, [layer.linear(.sharedScale)], dropout: pass.dropout(index, site: 6), dtype: .f32)[0]
                // The down projection is linear: its rows may be scaled before it.
                shared = tape.scaleRows(shared, bySigmoidOf: scale)
            }
            sum = tape.linear(shared, layer.linear(.sharedDown), addedTo: sum, dropout: pass.dropout(index, site: 7))
        }
        return tape.experts(y, routing, experts, addedTo: sum, dropout: pass.dropout(index, site: 2))
    }
}
