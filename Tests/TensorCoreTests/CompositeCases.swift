import Foundation

@testable import TensorCore

/// Cases of the cross-entropy and of tensors with several consumers.
enum CompositeCases {
    static func crossEntropy(
        _ name: String, rows: Int, k: Int = 11, _ head: LinearCases.Layer, shape: LogitShape = LogitShape()
    ) -> OperationCase {
        let targets = (0..<rows).map { Int32($0 * 5 % head.outputs) }
        return OperationCase(
            name: "crossEntropy \(name), \(rows) rows, vocabulary \(head.outputs)",
            inputs: [.init(name: "x", shape: [rows, k], kind: .activation, scale: 1)]
                + LinearCases.inputs(head, 0, k: k),
            samples: rows * k * head.outputs > 100_000 ? 2 : 8,
            operation: { run in
                .losses(
                    run.tape.crossEntropy(
                        run.tensor("x"), head: LinearCases.projection(run, head, 0), targets: targets, shape: shape))
            },
            reference: { values in
                let logits = LinearCases.reference(values, values["x"], head, 0, k: k).map { x in
                    let scaled = x * Double(shape.scale)
                    return shape.cap.map { Double($0) * tanh(scaled / Double($0)) } ?? scaled
                }
                return [Reference.crossEntropy(logits: logits, vocabulary: head.outputs, targets: targets)]
            })
    }

    /// Rows' losses that enter the scalar with factors, known before the forward pass or only after it.
    static func weightedCrossEntropy(
        _ name: String, rows: Int, k: Int = 11, known: Bool, _ head: LinearCases.Layer,
        shape: LogitShape = LogitShape()
    ) -> OperationCase {
        let plain = crossEntropy(name, rows: rows, k: k, head, shape: shape)
        let targets = (0..<rows).map { Int32($0 * 5 % head.outputs) }, factors = Self.factors(rows)
        return OperationCase(
            name: "crossEntropy with \(known ? "known" : "late") factors, \(plain.name)", inputs: plain.inputs,
            samples: plain.samples,
            operation: { run in
                let given = LossFactors(known ? factors : nil)
                let losses = run.tape.crossEntropy(
                    run.tensor("x"), head: LinearCases.projection(run, head, 0), targets: targets, shape: shape,
                    factors: given)
                given.values = factors
                return .losses(zip(losses, factors).map { $0 * Double($1) })
            },
            reference: { values in [zip(plain.reference(values)[0], factors).map { $0 * Double($1) }] })
    }

    private static func factors(_ rows: Int) -> [Float] { (0..<rows).map { Float($0 % 7 - 3) / 4 } }

    /// Distance from a teacher whose head has another width and vocabulary.
    static func divergence(
        _ name: String, rows: Int, _ divergence: Divergence, _ head: LinearCases.Layer, teacherOutputs: Int
    ) -> OperationCase {
        let k = 11, width = 5, factors = Self.factors(rows)
        let states = normals(rows * width, 71), weights = normals(teacherOutputs * width, 72)
        return OperationCase(
            name: "crossEntropy's divergence \(name), beta \(divergence.beta), \(rows) rows",
            inputs: [.init(name: "x", shape: [rows, k], kind: .activation, scale: 1)]
                + LinearCases.inputs(head, 0, k: k),
            operation: { run in
                let weight = Tensor([teacherOutputs, width], values: roundedToBF16(weights)).converted(to: run.dtype)
                let teacher = TeacherStates(
                    x: Tensor([rows, width], values: roundedToBF16(states)).converted(to: run.dtype),
                    head: Projection(weight: Weight(frozen: weight, name: "teacher")))
                let late = LossFactors()
                let losses = run.tape.divergence(
                    run.tensor("x"), head: LinearCases.projection(run, head, 0), teacher: teacher, divergence,
                    factors: late)
                late.values = factors
                return .losses(zip(losses, factors).map { $0 * Double($1) })
            },
            reference: { values in
                let student = LinearCases.reference(values, values["x"], head, 0, k: k)
                let teacher = Reference.product(
                    roundedToBF16(states).map(Double.init), roundedToBF16(weights).map(Double.init), k: width)
                let losses = Reference.divergence(
                    student: student, head.outputs, teacher: teacher, teacherOutputs, divergence)
                return [zip(losses, factors).map { $0 * Double($1) }]
            })
    }

    /// A decoder block on T rows of C = 12: every tensor of the residual stream has two consumers.
    static func block(lengths: [Int], adapters: Bool) -> OperationCase {
        typealias Layer = LinearCases.Layer
        let rows = lengths.reduce(0, +), width = 12, inner = 20
        let starts = lengths.reduce(into: [0]) { $0.append($0[$0.count - 1] + $1) }
        let positions = lengths.flatMap { (0..<$0).map(Int32.init) }
        let shape = AttentionShape(heads: 3, keyValueHeads: 1, headDim: 4)
        let rank: Int? = adapters ? 2 : nil
        let layers = [
            Layer(outputs: 12, learns: !adapters, hasBias: true, rank: rank),
            Layer(outputs: 4, learns: !adapters, rank: rank), Layer(outputs: 4, learns: !adapters, hasBias: true),
            Layer(outputs: width, learns: !adapters, rank: rank), Layer(outputs: inner, learns: !adapters, rank: rank),
            Layer(outputs: inner, learns: !adapters), Layer(outputs: width, learns: !adapters, rank: rank),
        ]
        let inputWidths = [width, width, width, width, width, width, inner]
        var inputs = [OperationCase.Input(name: "x", shape: [rows, width], kind: .residual, scale: 1)]
        for i in layers.indices { inputs += LinearCases.inputs(layers[i], i, k: inputWidths[i]) }
        inputs.append(.init(name: "norm1", shape: [width], kind: .vector, scale: 1))
        inputs.append(.init(name: "norm2", shape: [width], kind: .vector, scale: 1))
        return OperationCase(
            name: "decoder block on \(lengths)\(adapters ? " with adapters and dropout" : "")", inputs: inputs,
            samples: 3,
            operation: { run in
                let tape = run.tape, x = run.tensor("x"),
                    p = layers.indices.map {
                        LinearCases.projection(run, layers[$0], $0)
                    }
                let table = rotaryTable(positions: 64, half: 2)
                func drop(_ site: UInt64) -> AdapterDropout? {
                    adapters ? AdapterDropout(probability: 0.3, key: 5 + site) : nil
                }
                let normed = tape.rmsNorm(x, weight: run.weight("norm1"), eps: 1e-5, dtype: run.dtype)
                let qkv = tape.linear(normed, Array(p[0...2]), dropout: drop(0))
                tape.rotateInPlace(qkv[0], heads: 3, positions: positions, table: table)
                tape.rotateInPlace(qkv[1], heads: 1, positions: positions, table: table)
                let attended = tape.attention(q: qkv[0], k: qkv[1], v: qkv[2], segmentStarts: starts, shape: shape)
                let middle = tape.linear(attended, p[3], addedTo: x, dropout: drop(1))
                let y = tape.rmsNorm(middle, weight: run.weight("norm2"), eps: 1e-5, dtype: run.dtype)
                let gateUp = tape.linear(y, Array(p[4...5]), dropout: drop(2))
                let activated = tape.swiGLU(gate: gateUp[0], up: gateUp[1])
                return .tensors([tape.linear(activated, p[6], addedTo: middle, dropout: drop(3))])
            },
            reference: { values in
                func apply(_ i: Int, _ x: [Double], _ site: UInt64) -> [Double] {
                    let dropped = adapters ? Reference.dropout(x, key: 5 + site, probability: 0.3) : nil
                    return LinearCases.reference(values, x, layers[i], i, k: inputWidths[i], dropped: dropped)
                }
                let x = values["x"]
                let normed = Reference.rmsNorm(x, weight: values["norm1"], eps: 1e-5)
                func turn(_ x: [Double], _ heads: Int) -> [Double] {
                    Reference.rotate(x, heads: heads, headDim: 4, half: 2, positions: positions)
                }
                let attended = Reference.attention(
                    q: turn(apply(0, normed, 0), 3), k: turn(apply(1, normed, 0), 1), v: apply(2, normed, 0),
                    segmentStarts: starts, shape: shape)
                let middle = Reference.sum(x, apply(3, attended, 1))
                let y = Reference.rmsNorm(middle, weight: values["norm2"], eps: 1e-5)
                let activated = Reference.swiGLU(gate: apply(4, y, 2), up: apply(5, y, 2))
                return [Reference.sum(middle, apply(6, activated, 3))]
            })
    }

    /// One tensor that four operations read, one of them twice.
    static let manyConsumers = OperationCase(
        name: "several consumers",
        inputs: [
            .init(name: "x", shape: [19, 8], kind: .activation, scale: 1),
            .init(name: "W0", shape: [8, 8], kind: .weight, scale: 0.3),
        ],
        operation: { run in
            let x = run.tensor("x"), p = Projection(weight: run.weight("W0"))
            let shape = AttentionShape(heads: 2, keyValueHeads: 2, headDim: 4)
            return .tensors([
                run.tape.swiGLU(gate: x, up: x), run.tape.linear(x, [p, p])[1], run.tape.selectRows(x, [3, 4, 18]),
                run.tape.attention(q: x, k: x, v: x, segmentStarts: [0, 19], shape: shape),
            ])
        },
        reference: { values in
            let x = values["x"]
            return [
                Reference.swiGLU(gate: x, up: x), Reference.product(x, values["W0"], k: 8),
                Reference.rows(x, width: 8, [3, 4, 18]),
                Reference.attention(
                    q: x, k: x, v: x, segmentStarts: [0, 19],
                    shape: AttentionShape(heads: 2, keyValueHeads: 2, headDim: 4)),
            ]
        })

    /// The same tensor as input and as residual (f32 only: a residual is f32).
    static let ownResidual = OperationCase(
        name: "linear added to its own input",
        inputs: [
            .init(name: "x", shape: [21, 6], kind: .residual, scale: 1),
            .init(name: "W0", shape: [6, 6], kind: .vector, scale: 0.5),
        ],
        operation: { run in
            let x = run.tensor("x")
            return .tensors([run.tape.linear(x, Projection(weight: run.weight("W0")), addedTo: x)])
        },
        reference: { [Reference.sum($0["x"], Reference.product($0["x"], $0["W0"], k: 6))] })

    static let all: [OperationCase] = {
        typealias Layer = LinearCases.Layer
        return [1, 5, 17, 140].flatMap { rows in
            [
                crossEntropy("frozen head", rows: rows, Layer(outputs: 37)),
                crossEntropy("frozen head with bias", rows: rows, Layer(outputs: 16, hasBias: true)),
                crossEntropy("trainable head", rows: rows, Layer(outputs: 37, learns: true, hasBias: true)),
                crossEntropy("LoRA", rows: rows, Layer(outputs: 37, rank: 3)),
                crossEntropy("everything", rows: rows, Layer(outputs: 21, learns: true, hasBias: true, rank: 3)),
            ]
        } + [
            crossEntropy("wide", rows: 9, k: 270, Layer(outputs: 300, learns: true, hasBias: true, rank: 1)),
            // More rows than the gradients of a learning head keep at once.
            crossEntropy("two chunks", rows: 530, k: 3, Layer(outputs: 7, learns: true, hasBias: true, rank: 2)),
            crossEntropy(
                "frozen head, capped", rows: 20, Layer(outputs: 600), shape: LogitShape(scale: 0.7, cap: 2)),
            crossEntropy("frozen head, scaled", rows: 3, Layer(outputs: 37), shape: LogitShape(scale: 0.25)),
            crossEntropy(
                "LoRA, capped", rows: 20, Layer(outputs: 37, learns: true, rank: 3), shape: LogitShape(cap: 1.5)),
            crossEntropy("two words", rows: 3, Layer(outputs: 2)),
            block(lengths: [9], adapters: false), block(lengths: [9], adapters: true),
            block(lengths: [17, 1, 14], adapters: false), block(lengths: [17, 1, 14], adapters: true),
            manyConsumers, ownResidual,
        ] + weighted
    }()

    private static let weighted: [OperationCase] = {
        typealias Layer = LinearCases.Layer
        let everything = Layer(outputs: 21, learns: true, hasBias: true, rank: 3)
        return [1, 17, 140].flatMap { rows in
            [true, false].flatMap { known in
                [
                    weightedCrossEntropy("frozen head", rows: rows, known: known, Layer(outputs: 37)),
                    weightedCrossEntropy("LoRA", rows: rows, known: known, Layer(outputs: 37, rank: 3)),
                    weightedCrossEntropy("everything", rows: rows, known: known, everything),
                    weightedCrossEntropy(
                        "frozen head, capped", rows: rows, known: known, Layer(outputs: 37),
                        shape: LogitShape(scale: 0.5, cap: 2)),
                    weightedCrossEntropy(
                        "LoRA, capped", rows: rows, known: known, Layer(outputs: 37, rank: 3),
                        shape: LogitShape(scale: 0.5, cap: 2)),
                ]
            }
        }
            + [0, 0.1, 0.5, 1].flatMap { (beta: Double) in
                [
                    divergence(
                        "frozen head", rows: 17, Divergence(beta: beta, temperature: 0.8), Layer(outputs: 37),
                        teacherOutputs: 37),
                    divergence(
                        "everything, shorter teacher", rows: 140, Divergence(beta: beta, temperature: 2), everything,
                        teacherOutputs: 18),
                    divergence(
                        "longer teacher", rows: 3, Divergence(beta: beta, temperature: 1), Layer(outputs: 8, rank: 2),
                        teacherOutputs: 12),
                ]
            }
    }()
}
