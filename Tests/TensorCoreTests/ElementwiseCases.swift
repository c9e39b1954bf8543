@testable import TensorCore

/// Cases of the norm, the rotary embedding, SwiGLU, the embedding and row selection.
enum ElementwiseCases {
    static func rmsNorm(rows: Int, width: Int, eps: Float = 1e-5) -> OperationCase {
        OperationCase(
            name: "rmsNorm [\(rows), \(width)], eps \(eps)",
            inputs: [
                .init(name: "x", shape: [rows, width], kind: .residual, scale: 2),
                .init(name: "weight", shape: [width], kind: .vector, scale: 1),
            ],
            operation: { run in
                .tensors([run.tape.rmsNorm(run.tensor("x"), weight: run.weight("weight"), eps: eps, dtype: run.dtype)])
            },
            reference: { [Reference.rmsNorm($0["x"], weight: $0["weight"], eps: Double(eps))] })
    }

    /// Norms of `groups` runs a row, of activations: queries' heads, or a branch before it joins the stream.
    static func groupedNorm(rows: Int, groups: Int, width: Int) -> OperationCase {
        OperationCase(
            name: "rmsNorm of \(groups) x \(width) activations, \(rows) rows",
            inputs: [
                .init(name: "x", shape: [rows, groups * width], kind: .activation, scale: 2),
                .init(name: "weight", shape: [width], kind: .vector, scale: 1),
            ],
            operation: { run in
                let x = run.tensor("x")
                return .tensors([run.tape.rmsNorm(x, weight: run.weight("weight"), eps: 1e-5, dtype: run.dtype)])
            },
            reference: { [Reference.rmsNorm($0["x"], weight: $0["weight"], eps: 1e-5)] })
    }

    static func geGLU(_ rows: Int, _ width: Int) -> OperationCase {
        OperationCase(
            name: "geGLU [\(rows), \(width)]",
            inputs: [
                .init(name: "gate", shape: [rows, width], kind: .activation, scale: 3),
                .init(name: "up", shape: [rows, width], kind: .activation, scale: 1),
            ],
            operation: { .tensors([$0.tape.geGLU(gate: $0.tensor("gate"), up: $0.tensor("up"))]) },
            reference: { [Reference.geGLU(gate: $0["gate"], up: $0["up"])] })
    }

    static func split(rows: Int, widths: [Int]) -> OperationCase {
        let total = widths.reduce(0, +)
        return OperationCase(
            name: "split \(rows) rows into \(widths)",
            inputs: [.init(name: "x", shape: [rows, total], kind: .activation, scale: 1)],
            operation: { .tensors($0.tape.split($0.tensor("x"), widths: widths)) },
            reference: { values in
                var start = 0
                return widths.map { width in
                    defer { start += width }
                    return Reference.columns(values["x"], width: total, start..<start + width)
                }
            })
    }

    static func add(rows: Int, width: Int, scale: Float) -> OperationCase {
        OperationCase(
            name: "add [\(rows), \(width)] times \(scale)",
            inputs: [
                .init(name: "stream", shape: [rows, width], kind: .residual, scale: 1),
                .init(name: "branch", shape: [rows, width], kind: .activation, scale: 1),
            ],
            operation: { run in
                .tensors([run.tape.add(run.tensor("branch"), times: scale, to: run.tensor("stream"))])
            },
            reference: { [Reference.sum($0["stream"], $0["branch"].map { $0 * Double(scale) })] })
    }

    static func copy(rows: Int, width: Int) -> OperationCase {
        OperationCase(
            name: "copy [\(rows), \(width)]",
            inputs: [.init(name: "x", shape: [rows, width], kind: .residual, scale: 1)],
            operation: { .tensors([$0.tape.copy($0.tensor("x"), as: $0.dtype)]) },
            reference: { [$0["x"]] })
    }

    /// `half` below headDim / 2 leaves the tail of each head as it is.
    static func rotate(
        rows: Int, heads: Int, headDim: Int, half: Int, isInterleaved: Bool = false
    ) -> OperationCase {
        let positions = (0..<rows).map { Int32(($0 * 7 + 3) % 50) }
        return OperationCase(
            name:
                "rotateInPlace \(rows) rows of \(heads) x \(headDim), \(half) pairs\(isInterleaved ? " of neighbours" : "")",
            inputs: [.init(name: "x", shape: [rows, heads * headDim], kind: .activation, scale: 1)],
            isRepeatable: false,
            operation: { run in
                let x = run.tensor("x")
                run.tape.rotateInPlace(
                    x, heads: heads, positions: positions,
                    table: rotaryTable(positions: 50, half: half, isInterleaved: isInterleaved))
                return .tensors([x])
            },
            reference: {
                [
                    Reference.rotate(
                        $0["x"], heads: heads, headDim: headDim, half: half, positions: positions,
                        isInterleaved: isInterleaved)
                ]
            })
    }

    static func swiGLU(_ rows: Int, _ width: Int) -> OperationCase {
        OperationCase(
            name: "swiGLU [\(rows), \(width)]",
            inputs: [
                .init(name: "gate", shape: [rows, width], kind: .activation, scale: 3),
                .init(name: "up", shape: [rows, width], kind: .activation, scale: 1),
            ],
            operation: { .tensors([$0.tape.swiGLU(gate: $0.tensor("gate"), up: $0.tensor("up"))]) },
            reference: { [Reference.swiGLU(gate: $0["gate"], up: $0["up"])] })
    }

    static func embedding(tokens: Int, vocabulary: Int, width: Int, scale: Float = 1) -> OperationCase {
        let ids = (0..<tokens).map { Int32($0 * $0 % vocabulary) }
        return OperationCase(
            name: "embedding of \(tokens) tokens, [\(vocabulary), \(width)], times \(scale)",
            inputs: [.init(name: "table", shape: [vocabulary, width], kind: .weight, scale: 1)],
            isRepeatable: false,
            operation: { .tensors([$0.tape.embedding(ids, table: $0.weight("table"), scale: scale)]) },
            reference: { [Reference.rows($0["table"], width: width, ids.map(Int.init)).map { $0 * Double(scale) }] })
    }

    static func selectRows(_ indices: [Int], rows: Int, width: Int, _ kind: OperationCase.Kind) -> OperationCase {
        OperationCase(
            name: "selectRows \(indices.count) of [\(rows), \(width)] \(kind)",
            inputs: [.init(name: "x", shape: [rows, width], kind: kind, scale: 1)],
            operation: { .tensors([$0.tape.selectRows($0.tensor("x"), indices)]) },
            reference: { [Reference.rows($0["x"], width: width, indices)] })
    }

    static let all: [OperationCase] = [
        rmsNorm(rows: 1, width: 5), rmsNorm(rows: 7, width: 16), rmsNorm(rows: 40, width: 37),
        rmsNorm(rows: 300, width: 130), rmsNorm(rows: 3, width: 64, eps: 0.5),
        rotate(rows: 1, heads: 2, headDim: 8, half: 4), rotate(rows: 7, heads: 3, headDim: 10, half: 3),
        rotate(rows: 100, heads: 2, headDim: 40, half: 20),
        rotate(rows: 9, heads: 2, headDim: 10, half: 3, isInterleaved: true),
        rotate(rows: 100, heads: 3, headDim: 16, half: 8, isInterleaved: true),
        groupedNorm(rows: 1, groups: 1, width: 5), groupedNorm(rows: 300, groups: 3, width: 24),
        geGLU(1, 1), geGLU(300, 40), split(rows: 1, widths: [2, 1]), split(rows: 300, widths: [8, 4, 4]),
        add(rows: 1, width: 3, scale: 1), add(rows: 300, width: 33, scale: 0.22), copy(rows: 70, width: 9),
        embedding(tokens: 40, vocabulary: 11, width: 70, scale: 3),
        swiGLU(1, 1), swiGLU(7, 13), swiGLU(300, 40),
        embedding(tokens: 1, vocabulary: 3, width: 4), embedding(tokens: 30, vocabulary: 11, width: 130),
        embedding(tokens: 300, vocabulary: 17, width: 5),
        selectRows([0, 3, 6], rows: 7, width: 5, .activation),
        selectRows([1, 2], rows: 4, width: 17, .activation),
        selectRows(Array(stride(from: 0, through: 99, by: 3)), rows: 100, width: 3, .residual),
        selectRows([], rows: 4, width: 3, .activation),
    ]
}
