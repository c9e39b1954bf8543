internal import CKernels
import Foundation
public import TensorCore

/// AdamW (arXiv:1711.05101) with PyTorch's order of operations, over f32 master weights.
public final class AdamW {
    public struct Options: Sendable {
        public var beta1 = 0.9
        public var beta2 = 0.999
        public var eps = 1e-8
        public var weightDecay = 0.0
        public init() {}
    }

    /// What one weight's steps differ in.
    public struct Group: Sendable, Equatable {
        /// Multiplies the learning rate.
        public var rateFactor = 1.0
        /// Nil takes the options'.
        public var weightDecay: Double?
        public init() {}
    }

    public let options: Options
    private let groups: [Group]
    public let weights: [Weight]
    /// First and second moments, in the weights' order; f32, of the weights' shapes.
    public let moments: [(first: Tensor, second: Tensor)]
    /// Steps taken.
    public internal(set) var step = 0

    /// - Parameter groups: one for each weight; nil for none that differs
    public init(_ weights: [Weight], _ options: Options = Options(), groups: [Group]? = nil) {
        self.weights = weights
        self.groups = groups ?? weights.map { _ in Group() }
        precondition(self.groups.count == weights.count)
        self.options = options
        // What decays changes without gradients, too.
        for (weight, group) in zip(weights, self.groups) where group.weightDecay ?? options.weightDecay != 0 {
            weight.make()
        }
        moments = weights.map { (.untouchedZeros($0.shape), .untouchedZeros($0.shape)) }
    }

    /// Parameters are worked on in pieces of this many, one a worker at a time.
    private static let piece = 1 << 16

    /// The pieces of all weights that exist, for no other has a gradient: the weight's index, the first element and the
    /// number of elements.
    private var pieces: [(weight: Int, first: Int, count: Int)] {
        weights.indices.filter { weights[$0].isMade }.flatMap { index in
            let count = weights[index].shape.reduce(1, *)
            return stride(from: 0, to: count, by: Self.piece).map { (index, $0, min(Self.piece, count - $0)) }
        }
    }

    /// The norm of all gradients together, each multiplied by `scale`; summed in a fixed order.
    func gradientNorm(scale: Double, pool: WorkerPool) -> Double {
        let pieces = pieces
        var sums = [Double](repeating: 0, count: pieces.count)
        sums.withUnsafeMutableBufferPointer { sums in
            let sums = sums.baseAddress!
            pool.parallelFor(pieces.count, .optimizer) { i, _ in
                let (index, first, count) = pieces[i]
                weights[index].gradient!.withFloats {
                    sums[i] = graft_sum_of_squares($0.baseAddress! + first, count)
                }
            }
        }
        return sums.reduce(0, +).squareRoot() * scale
    }

    /// One step with gradients multiplied by `gradientScale`; the gradients are cleared.
    public func apply(learningRate: Double, gradientScale: Double, pool: WorkerPool) {
        step += 1
        let correction1 = 1 - pow(options.beta1, Double(step)), correction2 = 1 - pow(options.beta2, Double(step))
        let pieces = pieces
        pool.parallelFor(pieces.count, .optimizer) { i, _ in
            let (index, first, count) = pieces[i]
            let (weight, moment, group) = (weights[index], moments[index], groups[index])
            weight.master!.withFloats { parameters in
                weight.gradient!.withFloats { gradients in
                    moment.first.withFloats { moment1 in
                        moment.second.withFloats { moment2 in
                            // What never had a gradient stays as it is, and takes up no memory.
                            let decay = group.weightDecay ?? options.weightDecay
                            if decay == 0, [gradients, moment1, moment2].allSatisfy({ isZero($0, first, count) }) {
                                return
                            }
                            graft_adamw(
                                parameters.baseAddress! + first, moment1.baseAddress! + first,
                                moment2.baseAddress! + first, gradients.baseAddress! + first, Float(gradientScale),
                                Float(learningRate * group.rateFactor), options.beta1, options.beta2,
                                Float(options.eps),
                                Float(decay), Float(correction1), Float(correction2), count)
                            (gradients.baseAddress! + first).update(repeating: 0, count: count)
                        }
                    }
                }
            }
        }
    }

    /// Forgets the gradients of a step that is not taken.
    func discardGradients() {
        for weight in weights where weight.isMade {
            weight.gradient!.withFloats { if !isZero($0, 0, $0.count) { $0.update(repeating: 0) } }
        }
    }

    private func isZero(_ values: UnsafeMutableBufferPointer<Float>, _ first: Int, _ count: Int) -> Bool {
        count > 0 && values[first] == 0 && graft_sum_of_squares(values.baseAddress! + first, count) == 0
    }
}
