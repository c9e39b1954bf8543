import Foundation

@testable import TensorCore

/// Cases of routing and of experts: T rows of C, E experts of F, k of them a token.
enum ExpertCases {
    /// How the experts' weights lie in memory.
    enum Storage: String, Sendable { case separate, stacked, inputMajor }
    /// One for each layer, or one for gate and up together.
    enum Adapters: String, Sendable { case none, single, joint }

    struct Setup: Sendable {
        var rows = 9, width = 6, inner = 5, experts = 4, active = 2
        var storage = Storage.separate
        var learns = false
        var adapters = Adapters.none
        var dropout: AdapterDropout?
        var isClamped: Bool { storage == .inputMajor }
        let rank = 2
    }

    static func route(_ name: String, rows: Int, _ shape: RouterShape, corrected: Bool = false) -> OperationCase {
        OperationCase(
            name: "route \(name), \(rows) rows",
            inputs: [.init(name: "logits", shape: [rows, shape.experts], kind: .residual, scale: 1)]
                + (corrected
                    ? [.init(name: "correction", shape: [shape.experts], kind: .fixedVector, scale: 0.3)] : []),
            operation: { run in
                .tensors([
                    run.tape.route(
                        run.tensor("logits"), shape, correction: corrected ? run.weight("correction") : nil
                    ).weights
                ])
            },
            reference: { values in
                let correction = corrected ? values["correction"] : Array(repeating: 0, count: shape.experts)
                return [Reference.route(values["logits"], shape, correction: correction).flatMap { $0.map(\.weight) }]
            })
    }

    /// The names, shapes and kinds of the experts' weights.
    private static func inputs(_ setup: Setup) -> [OperationCase.Input] {
        let (c, f, e, r) = (setup.width, setup.inner, setup.experts, setup.rank)
        let kind: OperationCase.Kind = setup.learns ? .weight : .frozen
        var inputs: [OperationCase.Input] = []
        func add(_ name: String, _ shape: [Int], _ kind: OperationCase.Kind, _ scale: Double = 0.4) {
            inputs.append(.init(name: name, shape: shape, kind: kind, scale: scale))
        }
        switch setup.storage {
        case .separate:
            for i in 0..<e {
                add("gate\(i)", [f, c], kind)
                add("up\(i)", [f, c], kind)
                add("down\(i)", [c, f], kind)
            }
        case .stacked:
            add("gateUp", [e, 2 * f, c], kind)
            add("down", [e, c, f], kind)
        case .inputMajor:
            add("gateUp", [e, c, 2 * f], kind)
            add("down", [e, f, c], kind)
            add("gateUpBias", [e, 2 * f], setup.learns ? .vector : .fixedVector, 1)
            add("downBias", [e, c], setup.learns ? .vector : .fixedVector, 1)
        }
        switch setup.adapters {
        case .none: break
        case .joint:
            for i in 0..<e {
                for (name, out, input) in [("gateUp", 2 * f, c), ("down", c, f)] {
                    add("\(name)\(i)A", [r, input], .weight)
                    add("\(name)\(i)B", [out, r], .weight)
                }
            }
        case .single:
            // The last expert has none.
            for i in 0..<e - 1 {
                for (name, out, input) in [("gate", f, c), ("up", f, c), ("down", c, f)] {
                    add("\(name)\(i)A", [r, input], .weight)
                    add("\(name)\(i)B", [out, r], .weight)
                }
            }
        }
        return inputs
    }

    private static func experts(_ setup: Setup, _ run: OperationCase.Run) -> Experts {
        let all = 0..<setup.experts
        func separate(_ name: String) -> ExpertProjection {
            ExpertProjection(.separate(all.map { run.weight("\(name)\($0)") }))
        }
        func stacked(_ name: String) -> ExpertProjection {
            ExpertProjection(
                .stacked(run.weight(name), isInputMajor: setup.isClamped),
                biases: setup.isClamped ? run.weight(name + "Bias") : nil)
        }
        var experts =
            setup.storage == .separate
            ? Experts(count: setup.experts, gateUp: [separate("gate"), separate("up")], down: separate("down"))
            : Experts(
                count: setup.experts, gateUp: [stacked("gateUp")], down: stacked("down"),
                activation: setup.isClamped ? .clampedSwiGLU(alpha: 1.7, limit: 1.5) : .swiGLU)
        // Where they are single, the last expert has none.
        func adapters(_ name: String, column: Int = 0) -> ExpertAdapter {
            ExpertAdapter(
                column: column,
                parts: all.map { i in
                    setup.adapters == .single && i == setup.experts - 1
                        ? nil : LowRankAdapter(a: run.weight("\(name)\(i)A"), b: run.weight("\(name)\(i)B"), scale: 1.5)
                })
        }
        switch setup.adapters {
        case .none: break
        case .single:
            experts.gateUpAdapters = [adapters("gate"), adapters("up", column: setup.inner)]
            experts.downAdapters = [adapters("down")]
        case .joint:
            experts.gateUpAdapters = [adapters("gateUp")]
            experts.downAdapters = [adapters("down")]
        }
        return experts
    }

    static func make(_ setup: Setup, isLopsided: Bool = false) -> OperationCase {
        let shape = RouterShape(experts: setup.experts, active: setup.active, normalizes: true)
        let dropout = setup.dropout == nil ? "" : ", dropout"
        return OperationCase(
            name: "experts [\(setup.rows), \(setup.width)], \(setup.active) of \(setup.experts) x \(setup.inner) "
                + "\(setup.storage), adapters \(setup.adapters)\(setup.learns ? ", learning" : "")\(dropout)"
                + (isLopsided ? ", most without tokens" : ""),
            inputs: [
                .init(name: "x", shape: [setup.rows, setup.width], kind: .activation, scale: 1),
                .init(name: "residual", shape: [setup.rows, setup.width], kind: .residual, scale: 1),
                .init(
                    name: "logits", shape: [setup.rows, setup.experts], kind: .residual, scale: isLopsided ? 0.01 : 1),
                .init(name: "favour", shape: [setup.experts], kind: .fixedVector, scale: isLopsided ? 100 : 0),
            ] + inputs(setup), samples: setup.rows > 100 ? 2 : 6,
            operation: { run in
                let routing = run.tape.route(run.tensor("logits"), shape, correction: run.weight("favour"))
                return .tensors([
                    run.tape.experts(
                        run.tensor("x"), routing, experts(setup, run), addedTo: run.tensor("residual"),
                        dropout: setup.dropout)
                ])
            },
            reference: { values in
                let routes = Reference.route(values["logits"], shape, correction: values["favour"])
                let c = setup.width
                var result = values["residual"]
                for (t, route) in routes.enumerated() {
                    for (place, choice) in route.enumerated() {
                        let x = Array(values["x"][t * c..<(t + 1) * c])
                        let y = expert(choice.expert, x, t, place, setup, values)
                        for i in 0..<c { result[t * c + i] += choice.weight * y[i] }
                    }
                }
                return [result]
            })
    }

    /// One expert on one row, from the formulas.
    private static func expert(
        _ e: Int, _ x: [Double], _ t: Int, _ place: Int, _ setup: Setup, _ values: OperationCase.Values
    ) -> [Double] {
        let (c, f, r, count) = (setup.width, setup.inner, setup.rank, setup.experts)
        func part(_ name: String, _ size: Int) -> [Double] { Array(values[name][e * size..<(e + 1) * size]) }
        func transposed(_ w: [Double], _ rows: Int, _ columns: Int) -> [Double] {
            (0..<rows * columns).map { w[$0 % rows * columns + $0 / rows] }
        }
        func apply(_ name: String, _ x: [Double], out: Int, dropped: [Double]) -> [Double] {
            let k = x.count
            var y: [Double]
            switch setup.storage {
            case .separate: y = Reference.product(x, values["\(name)\(e)"], k: k)
            case .stacked: y = Reference.product(x, part(name, out * k), k: k)
            case .inputMajor:
                y = Reference.sum(
                    Reference.product(x, transposed(part(name, out * k), k, out), k: k), part(name + "Bias", out))
            }
            guard setup.adapters == .single, e < count - 1 else { return y }
            y = Reference.sum(
                y,
                Reference.lowRank(
                    dropped, a: values["\(name)\(e)A"], b: values["\(name)\(e)B"], k: k, rank: r, scale: 1.5))
            return y
        }
        func joint(_ name: String, _ x: [Double], out: Int) -> [Double] {
            guard setup.adapters == .joint else { return Array(repeating: 0, count: out) }
            return Reference.lowRank(
                x, a: values["\(name)\(e)A"], b: values["\(name)\(e)B"], k: x.count, rank: r, scale: 1.5)
        }
        func drop(_ x: [Double], _ key: UInt64, _ first: Int) -> [Double] {
            guard let dropout = setup.dropout else { return x }
            let probability = Double(dropout.probability), limit = (probability * 0x1p32).rounded(.down)
            return x.indices.map {
                Double(Reference.random(key, UInt64(first + $0)) >> 32) < limit ? 0 : x[$0] / (1 - probability)
            }
        }
        let key = setup.dropout?.key ?? 0
        let dropped = drop(x, key, t * c)
        var gateUp =
            setup.storage == .separate
            ? apply("gate", x, out: f, dropped: dropped) + apply("up", x, out: f, dropped: dropped)
            : apply("gateUp", x, out: 2 * f, dropped: dropped)
        gateUp = Reference.sum(gateUp, joint("gateUp", dropped, out: 2 * f))
        let active = (0..<f).map { i -> Double in
            guard setup.isClamped else { return gateUp[i] / (1 + exp(-gateUp[i])) * gateUp[f + i] }
            let gate = min(gateUp[2 * i], 1.5), up = min(max(gateUp[2 * i + 1], -1.5), 1.5)
            return (up + 1) * gate / (1 + exp(-Double(Float(1.7)) * gate))
        }
        let droppedActive = drop(active, CounterRNG(key, 1).key, (t * setup.active + place) * f)
        return Reference.sum(
            apply("down", active, out: c, dropped: droppedActive), joint("down", droppedActive, out: c))
    }

    static func rowScale(_ rows: Int, _ width: Int) -> OperationCase {
        OperationCase(
            name: "scaleRows [\(rows), \(width)]",
            inputs: [
                .init(name: "x", shape: [rows, width], kind: .activation, scale: 1),
                .init(name: "gate", shape: [rows, 1], kind: .residual, scale: 1),
            ],
            operation: { .tensors([$0.tape.scaleRows($0.tensor("x"), bySigmoidOf: $0.tensor("gate"))]) },
            reference: { values in
                [values["x"].indices.map { values["x"][$0] / (1 + exp(-values["gate"][$0 / width])) }]
            })
    }

    static let all: [OperationCase] = {
        let dropout = AdapterDropout(probability: 0.25, key: 99)
        return [
            route("softmax", rows: 7, RouterShape(experts: 5, active: 2)),
            route("softmax normalised", rows: 40, RouterShape(experts: 5, active: 3, normalizes: true, scale: 2)),
            route("one expert", rows: 3, RouterShape(experts: 1, active: 1)),
            route(
                "sigmoid corrected", rows: 20,
                RouterShape(experts: 6, active: 2, score: .sigmoid, normalizes: true, scale: 2.5), corrected: true),
            route(
                "groups by their best two", rows: 33,
                RouterShape(
                    experts: 12, active: 3, score: .sigmoid, normalizes: true, scale: 2.5, groups: 4, activeGroups: 2,
                    groupScore: .bestTwo), corrected: true),
            route(
                "groups by their best", rows: 33,
                RouterShape(experts: 12, active: 3, scale: 16, groups: 3, activeGroups: 2)),
            rowScale(1, 3), rowScale(40, 9),
            make(Setup(adapters: .joint)), make(Setup(rows: 1, adapters: .single)),
            make(Setup(rows: 1, storage: .stacked)), make(Setup(learns: true)),
            make(Setup(adapters: .single)), make(Setup(adapters: .single, dropout: dropout)),
            make(Setup(storage: .stacked, learns: true, adapters: .joint)),
            make(Setup(storage: .stacked, adapters: .single, dropout: dropout).withSeparate),
            make(Setup(storage: .inputMajor)), make(Setup(storage: .inputMajor, learns: true)),
            make(Setup(storage: .inputMajor, adapters: .joint, dropout: dropout)),
            make(Setup(rows: 1, storage: .inputMajor, adapters: .joint)),
            make(Setup(rows: 30, experts: 9, adapters: .joint), isLopsided: true),
            // Several tiles an expert.
            make(Setup(rows: 330, width: 2, inner: 2, experts: 3, learns: true, adapters: .joint), isLopsided: true),
        ]
    }()
}

extension ExpertCases.Setup {
    fileprivate var withSeparate: Self {
        var copy = self
        copy.storage = .separate
        return copy
    }
}

extension Reference {
    /// The chosen experts of each row and their weights, best first.
    static func route(_ logits: [Double], _ shape: RouterShape, correction: [Double])
        -> [[(expert: Int, weight: Double)]]
    {
        let count = shape.experts, size = count / shape.groups
        return (0..<logits.count / count).map { row in
            let values = Array(logits[row * count..<(row + 1) * count])
            let scores = shape.score == .softmax ? softmax(values) : values.map { 1 / (1 + exp(-$0)) }
            let corrected = zip(scores, correction).map(+)
            let groups = (0..<shape.groups).map { group -> (group: Int, score: Double) in
                let best = corrected[group * size..<(group + 1) * size].sorted(by: >)
                return (group, shape.groupScore == .best ? best[0] : best.prefix(2).reduce(0, +))
            }
            let open = Set(groups.sorted { $0.score > $1.score }.prefix(shape.activeGroups).map(\.group))
            let order = (0..<count).filter { open.contains($0 / size) }.sorted { corrected[$0] > corrected[$1] }
            let chosen = order.prefix(shape.active)
            let sum = shape.normalizes ? chosen.reduce(0) { $0 + scores[$1] } : 1
            return chosen.map { ($0, scores[$0] / sum * Double(shape.scale)) }
        }
    }
}
