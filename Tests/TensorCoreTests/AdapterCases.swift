import Foundation

@testable import TensorCore

/// Cases of updates beyond plain LoRA: DoRA, updates of the embedding, and rows that stand in for a table's own.
enum AdapterCases {
    /// The lengths of the rows of W + scale B A: constants for the gradient, so of the inputs as they are.
    private static func norms(_ inputs: [OperationCase.Input], k: Int, rank: Int, scale: Double) -> [Double] {
        let probe = OperationCase(name: "", inputs: inputs, operation: { _ in .losses([]) }, reference: { _ in [] })
        let values = probe.values().map { $0.map(Double.init) }
        let index = probe.index
        let (w, a, b) = (values[index["W"]!], values[index["A"]!], values[index["B"]!])
        return (0..<w.count / k).map { row in
            (0..<k).reduce(0) { sum, i in
                let update = (0..<rank).reduce(0) { $0 + b[row * rank + $1] * a[$1 * k + i] }
                let value = w[row * k + i] + scale * update
                return sum + value * value
            }.squareRoot()
        }
    }

    private static func inputs(k: Int, outputs: Int, rank: Int, hasBias: Bool) -> [OperationCase.Input] {
        [
            .init(name: "W", shape: [outputs, k], kind: .frozen, scale: 0.2),
            .init(name: "A", shape: [rank, k], kind: .weight, scale: 0.3),
            .init(name: "B", shape: [outputs, rank], kind: .weight, scale: 0.3),
            .init(name: "m", shape: [outputs], kind: .vector, scale: 1),
        ] + (hasBias ? [.init(name: "bias", shape: [outputs], kind: .vector, scale: 1)] : [])
    }

    private static func projection(_ run: OperationCase.Run, hasBias: Bool) -> Projection {
        Projection(
            weight: run.weight("W"), bias: hasBias ? run.weight("bias") : nil,
            adapter: LowRankAdapter(
                a: run.weight("A"), b: run.weight("B"), scale: 1.5, magnitude: run.weight("m"), base: run.weight("W")))
    }

    private static func product(
        _ values: OperationCase.Values, _ x: [Double], norms: [Double], k: Int, rank: Int, hasBias: Bool,
        dropped: [Double]? = nil
    ) -> [Double] {
        let low = Reference.lowRank(dropped ?? x, a: values["A"], b: values["B"], k: k, rank: rank, scale: 1.5)
        let plain = Reference.sum(Reference.product(x, values["W"], k: k), low)
        let m = values["m"]
        let scaled = plain.indices.map { plain[$0] * m[$0 % m.count] / norms[$0 % m.count] }
        return hasBias ? Reference.adding(scaled, bias: values["bias"]) : scaled
    }

    static func dora(
        rows: Int, outputs: Int = 24, k: Int = 37, hasBias: Bool = false, residual: Bool = false,
        dropout: AdapterDropout? = nil
    ) -> OperationCase {
        let rank = 4
        let own = inputs(k: k, outputs: outputs, rank: rank, hasBias: hasBias)
        var all = [OperationCase.Input(name: "x", shape: [rows, k], kind: .activation, scale: 1)] + own
        if residual { all.append(.init(name: "residual", shape: [rows, outputs], kind: .residual, scale: 1)) }
        let constant = norms(all, k: k, rank: rank, scale: 1.5)
        return OperationCase(
            name: "DoRA\(hasBias ? " with bias" : "")\(residual ? " added to a residual" : "")"
                + "\(dropout == nil ? "" : " with dropout"), \(rows) rows, \(outputs) outputs",
            inputs: all, samples: 6,
            operation: { run in
                let layer = projection(run, hasBias: hasBias)
                guard residual else { return .tensors(run.tape.linear(run.tensor("x"), [layer], dropout: dropout)) }
                return .tensors([
                    run.tape.linear(run.tensor("x"), layer, addedTo: run.tensor("residual"), dropout: dropout)
                ])
            },
            reference: { values in
                let dropped = dropout.map {
                    Reference.dropout(values["x"], key: $0.key, probability: Double($0.probability))
                }
                let y = product(
                    values, values["x"], norms: constant, k: k, rank: rank, hasBias: hasBias, dropped: dropped)
                return [residual ? Reference.sum(y, values["residual"]) : y]
            })
    }

    /// The cross-entropy of a head with DoRA.
    static func doraHead(rows: Int, shape: LogitShape = LogitShape()) -> OperationCase {
        let (k, vocabulary, rank) = (11, 30, 4)
        let all =
            [OperationCase.Input(name: "x", shape: [rows, k], kind: .activation, scale: 1)]
            + inputs(k: k, outputs: vocabulary, rank: rank, hasBias: false)
        let constant = norms(all, k: k, rank: rank, scale: 1.5)
        let targets = (0..<rows).map { Int32($0 * 5 % vocabulary) }
        return OperationCase(
            name: "crossEntropy of a DoRA head, \(rows) rows, scale \(shape.scale)", inputs: all,
            operation: { run in
                .losses(
                    run.tape.crossEntropy(
                        run.tensor("x"), head: projection(run, hasBias: false), targets: targets, shape: shape))
            },
            reference: { values in
                let logits = product(values, values["x"], norms: constant, k: k, rank: rank, hasBias: false).map { x in
                    let scaled = x * Double(shape.scale)
                    return shape.cap.map { Double($0) * tanh(scaled / Double($0)) } ?? scaled
                }
                return [Reference.crossEntropy(logits: logits, vocabulary: vocabulary, targets: targets)]
            })
    }

    /// A layer, or a head's cross-entropy, with a bias of the update: y = W x + scale (B A x + b).
    static func biased(rows: Int, outputs: Int = 24, residual: Bool = false, isHead: Bool = false) -> OperationCase {
        let (k, rank) = (19, 3)
        var inputs: [OperationCase.Input] = [
            .init(name: "x", shape: [rows, k], kind: .activation, scale: 1),
            .init(name: "W", shape: [outputs, k], kind: .frozen, scale: 0.2),
            .init(name: "A", shape: [rank, k], kind: .weight, scale: 0.3),
            .init(name: "B", shape: [outputs, rank], kind: .weight, scale: 0.3),
            .init(name: "b", shape: [outputs], kind: .vector, scale: 1),
        ]
        if residual { inputs.append(.init(name: "residual", shape: [rows, outputs], kind: .residual, scale: 1)) }
        let targets = (0..<rows).map { Int32($0 * 5 % outputs) }
        return OperationCase(
            name: "\(isHead ? "crossEntropy of a head" : "linear") with a bias of B\(residual ? ", residual" : ""), "
                + "\(rows) rows, \(outputs) outputs", inputs: inputs, samples: 6,
            operation: { run in
                let layer = Projection(
                    weight: run.weight("W"),
                    adapter: LowRankAdapter(
                        a: run.weight("A"), b: run.weight("B"), scale: 1.5, bias: run.weight("b")))
                if isHead { return .losses(run.tape.crossEntropy(run.tensor("x"), head: layer, targets: targets)) }
                guard residual else { return .tensors(run.tape.linear(run.tensor("x"), [layer])) }
                return .tensors([run.tape.linear(run.tensor("x"), layer, addedTo: run.tensor("residual"))])
            },
            reference: { values in
                let low = Reference.lowRank(
                    values["x"], a: values["A"], b: values["B"], k: k, rank: rank, scale: 1.5)
                let plain = Reference.sum(Reference.product(values["x"], values["W"], k: k), low)
                let y = Reference.adding(plain, bias: values["b"].map { 1.5 * $0 })
                if isHead { return [Reference.crossEntropy(logits: y, vocabulary: outputs, targets: targets)] }
                return [residual ? Reference.sum(y, values["residual"]) : y]
            })
    }

    /// An embedding whose columns DoRA brings to lengths.
    static func doraEmbedding(tokens: Int, scale: Float) -> OperationCase {
        let (vocabulary, width, rank) = (23, 37, 3)
        let ids = (0..<tokens).map { Int32($0 * $0 % vocabulary) }
        let inputs: [OperationCase.Input] = [
            .init(name: "table", shape: [vocabulary, width], kind: .frozen, scale: 1),
            .init(name: "A", shape: [rank, width], kind: .weight, scale: 0.3),
            .init(name: "B", shape: [vocabulary, rank], kind: .weight, scale: 0.3),
            .init(name: "m", shape: [width], kind: .vector, scale: 1),
        ]
        @Sendable func whole(_ values: OperationCase.Values) -> [Double] {
            let a = values["A"]
            let transposed = (0..<width * rank).map { a[$0 % rank * width + $0 / rank] }
            return Reference.sum(
                values["table"], Reference.product(values["B"], transposed, k: rank).map { 1.5 * $0 })
        }
        let probe = OperationCase(name: "", inputs: inputs, operation: { _ in .losses([]) }, reference: { _ in [] })
        let start = whole(OperationCase.Values(arrays: probe.values().map { $0.map(Double.init) }, index: probe.index))
        var squares = [Double](repeating: 0, count: width)
        for i in start.indices { squares[i % width] += start[i] * start[i] }
        let norms = squares.map { $0.squareRoot() }
        return OperationCase(
            name: "embedding of \(tokens) tokens times \(scale) with DoRA", inputs: inputs, isRepeatable: false,
            operation: { run in
                let table = run.weight("table")
                let adapter = LowRankAdapter(
                    a: run.weight("A"), b: run.weight("B"), scale: 1.5, magnitude: run.weight("m"), base: table,
                    isEmbedding: true)
                return .tensors([run.tape.embedding(ids, table: table, scale: scale, adapter: adapter)])
            },
            reference: { values in
                let rows = Reference.rows(whole(values), width: width, ids.map(Int.init))
                let gains = (0..<width).map { values["m"][$0] / norms[$0] * Double(scale) }
                return [rows.indices.map { rows[$0] * gains[$0 % width] }]
            })
    }

    private static let rowIndices = [7, 2, 19]

    private static func replacing(_ table: [Double], _ rows: [Double], width: Int) -> [Double] {
        var result = table
        for (place, index) in rowIndices.enumerated() {
            result.replaceSubrange(
                index * width..<(index + 1) * width, with: rows[place * width..<(place + 1) * width])
        }
        return result
    }

    /// The cross-entropy of a frozen head some of whose rows learn.
    static func rowsOfHead(rows: Int, shape: LogitShape = LogitShape()) -> OperationCase {
        let (k, vocabulary) = (11, 30)
        let targets = (0..<rows).map { Int32($0 * 5 % vocabulary) }
        return OperationCase(
            name: "crossEntropy with rows of the head, \(rows) rows, scale \(shape.scale)",
            inputs: [
                .init(name: "x", shape: [rows, k], kind: .activation, scale: 1),
                .init(name: "W", shape: [vocabulary, k], kind: .frozen, scale: 0.4),
                .init(name: "rows", shape: [rowIndices.count, k], kind: .weight, scale: 0.4),
            ],
            operation: { run in
                let table = run.weight("W")
                if table.rows == nil { table.substitute(TableRows(indices: rowIndices, content: run.weight("rows"))) }
                return .losses(
                    run.tape.crossEntropy(
                        run.tensor("x"), head: Projection(weight: table), targets: targets, shape: shape))
            },
            reference: { values in
                let head = replacing(values["W"], values["rows"], width: k)
                let logits = Reference.product(values["x"], head, k: k).map { x in
                    let scaled = x * Double(shape.scale)
                    return shape.cap.map { Double($0) * tanh(scaled / Double($0)) } ?? scaled
                }
                return [Reference.crossEntropy(logits: logits, vocabulary: vocabulary, targets: targets)]
            })
    }

    /// An embedding with rows of its own, or with a low-rank update.
    static func embedding(tokens: Int, scale: Float, hasRows: Bool) -> OperationCase {
        let (vocabulary, width, rank) = (23, 37, 3)
        let ids = (0..<tokens).map { Int32($0 * $0 % vocabulary) }
        return OperationCase(
            name: "embedding of \(tokens) tokens times \(scale) with \(hasRows ? "rows of its own" : "LoRA")",
            inputs: [.init(name: "table", shape: [vocabulary, width], kind: .frozen, scale: 1)]
                + (hasRows
                    ? [.init(name: "rows", shape: [rowIndices.count, width], kind: .weight, scale: 1)]
                    : [
                        .init(name: "A", shape: [rank, width], kind: .weight, scale: 0.3),
                        .init(name: "B", shape: [vocabulary, rank], kind: .weight, scale: 0.3),
                    ]),
            isRepeatable: false,
            operation: { run in
                let table = run.weight("table")
                if hasRows, table.rows == nil {
                    table.substitute(TableRows(indices: rowIndices, content: run.weight("rows")))
                }
                let adapter = hasRows ? nil : LowRankAdapter(a: run.weight("A"), b: run.weight("B"), scale: 1.5)
                return .tensors([run.tape.embedding(ids, table: table, scale: scale, adapter: adapter)])
            },
            reference: { values in
                guard !hasRows else {
                    let table = replacing(values["table"], values["rows"], width: width)
                    return [Reference.rows(table, width: width, ids.map(Int.init)).map { $0 * Double(scale) }]
                }
                let low = Reference.rows(values["B"], width: rank, ids.map(Int.init))
                let a = values["A"]
                let transposed = (0..<width * rank).map { a[$0 % rank * width + $0 / rank] }
                let update = Reference.product(low, transposed, k: rank).map { 1.5 * $0 }
                let plain = Reference.rows(values["table"], width: width, ids.map(Int.init))
                return [Reference.sum(plain, update).map { $0 * Double(scale) }]
            })
    }

    static let all: [OperationCase] =
        [1, 7, 16, 17, 40, 300].flatMap { rows in
            [
                dora(rows: rows), dora(rows: rows, hasBias: true, dropout: LinearCases.dropout),
                dora(rows: rows, hasBias: true, residual: true),
            ]
        } + [
            dora(rows: 9, outputs: 300, k: 64, hasBias: true), dora(rows: 20, outputs: 300, k: 64, residual: true),
            doraHead(rows: 5), doraHead(rows: 40, shape: LogitShape(scale: 0.5, cap: 3)),
            rowsOfHead(rows: 1), rowsOfHead(rows: 70), rowsOfHead(rows: 40, shape: LogitShape(scale: 0.5, cap: 3)),
            embedding(tokens: 1, scale: 1, hasRows: true), embedding(tokens: 90, scale: 2.5, hasRows: true),
            biased(rows: 5), biased(rows: 40, outputs: 300), biased(rows: 1, residual: true),
            biased(rows: 20, residual: true), biased(rows: 30, isHead: true),
            doraEmbedding(tokens: 1, scale: 1), doraEmbedding(tokens: 90, scale: 2.5),
            embedding(tokens: 1, scale: 1, hasRows: false), embedding(tokens: 90, scale: 2.5, hasRows: false),
        ]
}
