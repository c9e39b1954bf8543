import Testing

@testable import TensorCore

/// One operation with its inputs and its reference: run in any precision and with any pool, forward and backward.
struct OperationCase: Sendable, CustomTestStringConvertible {
    /// What an input is to the operation.
    enum Kind: Sendable {
        /// A tensor in the precision of the computation.
        case activation
        /// A tensor of the f32 residual stream.
        case residual
        /// A weight that learns, seen in the precision of the computation.
        case weight
        /// A weight that learns and stays f32: a norm or a bias.
        case vector
        /// A weight that does not learn.
        case frozen
        /// A weight that does not learn and stays f32.
        case fixedVector

        var isTensor: Bool { self == .activation || self == .residual }
    }

    struct Input: Sendable {
        var name: String
        var shape: [Int]
        var kind: Kind
        /// Standard deviation of the entries.
        var scale: Double
    }

    /// An operation's result: tensors, or the rows' losses.
    enum Output {
        case tensors([Tensor])
        case losses([Double])
    }

    /// The inputs of one run.
    final class Run {
        let tape: Tape
        let dtype: DType
        fileprivate(set) var tensors: [Tensor?]
        let weights: [Weight?]
        /// Position among the inputs, by name.
        let index: [String: Int]

        fileprivate init(tape: Tape, dtype: DType, tensors: [Tensor?], weights: [Weight?], index: [String: Int]) {
            (self.tape, self.dtype, self.tensors, self.weights, self.index) = (tape, dtype, tensors, weights, index)
        }

        /// The same inputs on a checkpoint's tape, with its view of the first tensor.
        fileprivate func replacing(_ tape: Tape, first: Tensor) -> Run {
            let run = Run(tape: tape, dtype: dtype, tensors: tensors, weights: weights, index: index)
            run.tensors[0] = first
            return run
        }

        func tensor(_ name: String) -> Tensor { tensors[index[name]!]! }
        func weight(_ name: String) -> Weight { weights[index[name]!]! }
    }

    /// The values of the inputs by name, for the reference.
    struct Values {
        let arrays: [[Double]]
        let index: [String: Int]
        subscript(_ name: String) -> [Double] { arrays[index[name]!] }
    }

    struct Result {
        var outputs: [[Float]]
        var losses: [Double] = []
        /// One array an input, in their order; empty where the input has no gradient.
        var gradients: [[Float]]

        func hasSameBits(as other: Result) -> Bool {
            outputs.count == other.outputs.count && zip(outputs, other.outputs).allSatisfy(sameBits)
                && losses == other.losses && zip(gradients, other.gradients).allSatisfy(sameBits)
        }
    }

    let name: String
    let inputs: [Input]
    /// Entries an input whose gradient is compared one by one; few where the reference is slow.
    var samples = 12
    /// Whether the operation leaves its first input as it was, so that it may run twice.
    var isRepeatable = true
    let operation: @Sendable (Run) -> Output
    let reference: @Sendable (Values) -> [[Double]]

    var testDescription: String { name }
    var index: [String: Int] {
        [String: Int](uniqueKeysWithValues: inputs.enumerated().map { ($1.name, $0) })
    }

    /// The inputs' entries: the same in every run of the case.
    func values(roundedToBF16 isRounded: Bool = false) -> [[Float]] {
        inputs.enumerated().map { i, input in
            let entries = normals(input.shape.reduce(1, *), scale: input.scale, UInt64(i) + 1000)
            let isCompute = input.kind != .vector && input.kind != .residual && input.kind != .fixedVector
            return isRounded && isCompute ? roundedToBF16(entries) : entries
        }
    }

    /// The factors by which the outputs enter the loss.
    static func seeds(_ output: Int, _ count: Int) -> [Float] { roundedToBF16(normals(count, UInt64(output) + 2000)) }

    func run(
        _ pool: WorkerPool, _ dtype: DType = .f32, values: [[Float]], backward: Bool = true, checkpoint: Bool = false
    ) -> Result {
        var (tensors, weights): ([Tensor?], [Weight?]) = ([], [])
        for (input, entries) in zip(inputs, values) {
            let base = Tensor(input.shape, values: entries)
            let isWide = input.kind == .residual || input.kind == .vector || input.kind == .fixedVector
            let tensor = base.converted(to: isWide ? .f32 : dtype)
            tensor.requiresGradient = input.kind.isTensor
            tensors.append(input.kind.isTensor ? tensor : nil)
            switch input.kind {
            case .activation, .residual: weights.append(nil)
            case .weight: weights.append(Weight(trainable: base, name: input.name, dtype: dtype))
            case .vector: weights.append(Weight(trainable: base, name: input.name, dtype: .f32))
            case .frozen, .fixedVector: weights.append(Weight(frozen: tensor, name: input.name))
            }
        }
        let tape = Tape(pool: pool, recording: backward)
        let context = Run(tape: tape, dtype: dtype, tensors: tensors, weights: weights, index: index)
        let output: Output
        if checkpoint {
            let result = tape.checkpoint(tensors[0]!, hasWeights: true) { [operation] tape, x in
                guard case .tensors(let results) = operation(context.replacing(tape, first: x)) else { return x }
                return results[0]
            }
            output = .tensors([result])
        } else {
            output = operation(context)
        }
        var result = Result(outputs: [], gradients: [])
        switch output {
        case .tensors(let outputs):
            result.outputs = outputs.map { $0.floats() }
            for (i, tensor) in outputs.enumerated() where backward {
                tensor.gradient = Tensor(tensor.shape, values: Self.seeds(i, tensor.count)).converted(to: tensor.dtype)
            }
        case .losses(let losses): result.losses = losses
        }
        if backward { tape.backward() }
        result.gradients = inputs.indices.map { i in
            (tensors[i]?.gradient ?? weights[i]?.gradient)?.floats() ?? []
        }
        return result
    }
}
