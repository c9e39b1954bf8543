@testable import TensorCore

/// Cases of `Tape.linear`: K in, O out, rank r.
enum LinearCases {
    /// What one projection has.
    struct Layer: Sendable {
        var outputs = 24
        var learns = false
        var hasBias = false
        var rank: Int?
        var scale: Float = 1.5
    }

    static func inputs(_ layer: Layer, _ i: Int, k: Int) -> [OperationCase.Input] {
        var result = [
            OperationCase.Input(
                name: "W\(i)", shape: [layer.outputs, k], kind: layer.learns ? .weight : .frozen, scale: 0.2)
        ]
        if layer.hasBias { result.append(.init(name: "bias\(i)", shape: [layer.outputs], kind: .vector, scale: 1)) }
        if let rank = layer.rank {
            result.append(.init(name: "A\(i)", shape: [rank, k], kind: .weight, scale: 0.3))
            result.append(.init(name: "B\(i)", shape: [layer.outputs, rank], kind: .weight, scale: 0.3))
        }
        return result
    }

    static func projection(_ run: OperationCase.Run, _ layer: Layer, _ i: Int) -> Projection {
        Projection(
            weight: run.weight("W\(i)"), bias: layer.hasBias ? run.weight("bias\(i)") : nil,
            adapter: layer.rank == nil
                ? nil : LowRankAdapter(a: run.weight("A\(i)"), b: run.weight("B\(i)"), scale: layer.scale))
    }

    static func reference(
        _ values: OperationCase.Values, _ x: [Double], _ layer: Layer, _ i: Int, k: Int, dropped: [Double]? = nil
    ) -> [Double] {
        var y = Reference.product(x, values["W\(i)"], k: k)
        if layer.hasBias { y = Reference.adding(y, bias: values["bias\(i)"]) }
        guard let rank = layer.rank else { return y }
        return Reference.sum(
            y,
            Reference.lowRank(
                dropped ?? x, a: values["A\(i)"], b: values["B\(i)"], k: k, rank: rank, scale: Double(layer.scale)))
    }

    static func make(
        _ name: String, rows: Int, k: Int = 37, _ layers: [Layer], dropout: AdapterDropout? = nil,
        residual: Bool = false
    ) -> OperationCase {
        var inputs = [OperationCase.Input(name: "x", shape: [rows, k], kind: .activation, scale: 1)]
        for (i, layer) in layers.enumerated() { inputs += Self.inputs(layer, i, k: k) }
        if residual {
            inputs.append(.init(name: "residual", shape: [rows, layers[0].outputs], kind: .residual, scale: 1))
        }
        return OperationCase(
            name: "linear \(name), \(rows) rows", inputs: inputs,
            samples: rows * k * layers[0].outputs > 100_000 ? 2 : 8,
            operation: { run in
                let projections = layers.enumerated().map { projection(run, $1, $0) }
                guard residual else {
                    return .tensors(run.tape.linear(run.tensor("x"), projections, dropout: dropout))
                }
                return .tensors([
                    run.tape.linear(
                        run.tensor("x"), projections[0], addedTo: run.tensor("residual"), dropout: dropout)
                ])
            },
            reference: { values in
                let x = values["x"]
                let dropped = dropout.map {
                    Reference.dropout(x, key: $0.key, probability: Double($0.probability))
                }
                let outputs = layers.enumerated().map { reference(values, x, $1, $0, k: k, dropped: dropped) }
                return residual ? [Reference.sum(outputs[0], values["residual"])] : outputs
            })
    }

    static let rowCounts = [1, 7, 16, 17, 40, 300]
    static let dropout = AdapterDropout(probability: 0.25, key: 99)

    static let all: [OperationCase] =
        rowCounts.flatMap { rows in
            [
                make("frozen", rows: rows, [Layer()]),
                make("weight and bias", rows: rows, [Layer(learns: true, hasBias: true)]),
                make("LoRA", rows: rows, [Layer(hasBias: true, rank: 4)]),
                make("LoRA with dropout", rows: rows, [Layer(rank: 4)], dropout: dropout),
                make(
                    "three projections", rows: rows,
                    [
                        Layer(outputs: 24, hasBias: true, rank: 8), Layer(outputs: 9, learns: true),
                        Layer(outputs: 5, rank: 1, scale: 0.5),
                    ], dropout: dropout),
                make("added to a residual", rows: rows, [Layer()], residual: true),
                make(
                    "LoRA added to a residual", rows: rows, [Layer(hasBias: true, rank: 4)], dropout: dropout,
                    residual: true),
                make(
                    "everything added to a residual", rows: rows, [Layer(learns: true, hasBias: true, rank: 4)],
                    residual: true),
            ]
        } + [
            // Wider than a block of columns or of gradient rows.
            make("wide", rows: 1, k: 270, [Layer(outputs: 300, learns: true, hasBias: true, rank: 3)]),
            make("wide", rows: 7, k: 270, [Layer(outputs: 300, learns: true, hasBias: true, rank: 3)]),
            make("wide residual", rows: 9, k: 64, [Layer(outputs: 300, hasBias: true, rank: 3)], residual: true),
            make("wide residual", rows: 1, k: 64, [Layer(outputs: 300, hasBias: true, rank: 3)], residual: true),
            make("wide", rows: 20, k: 270, [Layer(outputs: 300, learns: true, hasBias: true, rank: 3)]),
            make("one column", rows: 20, k: 1, [Layer(outputs: 1, learns: true, hasBias: true, rank: 1)]),
            make("one column", rows: 3, k: 1, [Layer(outputs: 1, learns: true, hasBias: true, rank: 1)]),
        ]
}
