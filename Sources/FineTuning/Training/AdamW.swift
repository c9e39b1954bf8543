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

    public let options: Options
    public let weights: [Weight]
    /// First and second moments, in the weights' order; f32, of the weights' shapes.
    public let moments: [(first: Tensor, second: Tensor)]
    /// Steps taken.
    public internal(set) var step = 0

    public init(_ weights: [Weight], _ options: Options = Options()) {
        self.weights = weights
        self.options = options
        moments = weights.map { (.zeros($0.shape), .zeros($0.shape)) }
    }

    /// The norm of all gradients together, each multiplied by `scale`; summed in a fixed order.
    public func gradientNorm(scale: Double) -> Double {
        var sum = 0.0
        for weight in weights { weight.gradient!.withFloats { sum += graft_sum_of_squares($0.baseAddress, $0.count) } }
        return sum.squareRoot() * scale
    }

    /// One step with gradients multiplied by `gradientScale`; the gradients are cleared.
    public func apply(learningRate: Double, gradientScale: Double, pool: WorkerPool) {
        step += 1
        let correction1 = 1 - pow(options.beta1, Double(step)), correction2 = 1 - pow(options.beta2, Double(step))
        for (weight, moment) in zip(weights, moments) {
            let (master, gradient) = (weight.master!, weight.gradient!)
            master.withFloats { parameters in
                gradient.withFloats { gradients in
                    moment.first.withFloats { first in
                        moment.second.withFloats { second in
                            let count = parameters.count, piece = 1 << 16
                            pool.parallelFor((count + piece - 1) / piece) { i, _ in
                                let start = i * piece, length = min(piece, count - start)
                                graft_adamw(
                                    parameters.baseAddress! + start, first.baseAddress! + start,
                                    second.baseAddress! + start, gradients.baseAddress! + start, Float(gradientScale),
                                    Float(learningRate), options.beta1, options.beta2, Float(options.eps),
                                    Float(options.weightDecay), Float(correction1), Float(correction2), length)
                            }
                        }
                    }
                }
            }
            gradient.fillZero()
        }
    }

    /// Forgets the gradients of a step that is not taken.
    public func discardGradients() {
        for weight in weights { weight.gradient!.fillZero() }
    }
}
