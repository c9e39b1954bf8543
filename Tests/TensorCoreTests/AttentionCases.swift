@testable import TensorCore

/// Cases of `Tape.attention`.
enum AttentionCases {
    static func make(
        lengths: [Int], heads: Int, keyValueHeads: Int, headDim: Int, valueDim: Int? = nil, scale: Float? = nil,
        window: Int? = nil, softCap: Float? = nil, sinks: Bool = false
    ) -> OperationCase {
        let starts = lengths.reduce(into: [0]) { $0.append($0[$0.count - 1] + $1) }
        let rows = lengths.reduce(0, +)
        let shape = AttentionShape(
            heads: heads, keyValueHeads: keyValueHeads, headDim: headDim, valueDim: valueDim, scale: scale,
            window: window, softCap: softCap)
        let details =
            (window.map { ", window \($0)" } ?? "") + (valueDim.map { ", values of \($0)" } ?? "")
            + (softCap.map { ", capped at \($0)" } ?? "") + (sinks ? ", sinks" : "")
        return OperationCase(
            name: "attention of segments \(lengths), heads \(heads)/\(keyValueHeads) x \(headDim)\(details)",
            inputs: [
                .init(name: "q", shape: [rows, heads * headDim], kind: .activation, scale: 1.5),
                .init(name: "k", shape: [rows, keyValueHeads * headDim], kind: .activation, scale: 1.5),
                .init(name: "v", shape: [rows, keyValueHeads * shape.valueDim], kind: .activation, scale: 1),
            ] + (sinks ? [.init(name: "sinks", shape: [heads], kind: .vector, scale: 1)] : []),
            samples: rows > 100 ? 2 : 8,
            operation: { run in
                .tensors([
                    run.tape.attention(
                        q: run.tensor("q"), k: run.tensor("k"), v: run.tensor("v"), segmentStarts: starts, shape: shape,
                        sinks: sinks ? run.weight("sinks") : nil)
                ])
            },
            reference: {
                [
                    Reference.attention(
                        q: $0["q"], k: $0["k"], v: $0["v"], segmentStarts: starts, shape: shape,
                        sinks: sinks ? $0["sinks"] : nil)
                ]
            })
    }

    static let all: [OperationCase] =
        [[1], [5], [16, 17], [64], [65], [130], [1, 5, 64, 65, 130]].map {
            make(lengths: $0, heads: 4, keyValueHeads: 2, headDim: 5)
        } + [
            make(lengths: [33, 1, 20], heads: 2, keyValueHeads: 2, headDim: 8),
            make(lengths: [70, 3], heads: 6, keyValueHeads: 1, headDim: 4, scale: 0.25),
            // A group so large that a tile holds sixteen queries of each head.
            make(lengths: [40], heads: 20, keyValueHeads: 1, headDim: 3),
            make(lengths: [130], heads: 2, keyValueHeads: 1, headDim: 4, window: 1),
            make(lengths: [130, 9], heads: 2, keyValueHeads: 1, headDim: 4, window: 7),
            make(lengths: [150], heads: 2, keyValueHeads: 2, headDim: 4, window: 70),
            make(lengths: [300], heads: 1, keyValueHeads: 1, headDim: 2, window: 64),
            make(lengths: [290], heads: 1, keyValueHeads: 1, headDim: 2),
            make(lengths: [5, 0, 6], heads: 2, keyValueHeads: 1, headDim: 4),
            make(lengths: [12], heads: 2, keyValueHeads: 1, headDim: 1),
            make(lengths: [20, 3], heads: 4, keyValueHeads: 2, headDim: 6, softCap: 1.5),
            make(lengths: [70], heads: 2, keyValueHeads: 1, headDim: 5, scale: 0.3, window: 9, softCap: 50),
            make(lengths: [20, 3], heads: 4, keyValueHeads: 2, headDim: 6, sinks: true),
            make(lengths: [70], heads: 6, keyValueHeads: 1, headDim: 4, window: 16, sinks: true),
            make(lengths: [600], heads: 2, keyValueHeads: 1, headDim: 2, sinks: true),
            make(lengths: [20, 3], heads: 4, keyValueHeads: 4, headDim: 6, valueDim: 3),
            make(lengths: [70], heads: 4, keyValueHeads: 2, headDim: 3, valueDim: 8, softCap: 2, sinks: true),
            // Long enough to be cut into several tasks backward.
            make(lengths: [2050], heads: 1, keyValueHeads: 1, headDim: 2, valueDim: 3, window: 40, sinks: true),
        ]
}
