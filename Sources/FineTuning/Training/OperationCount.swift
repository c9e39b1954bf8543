internal import TensorCore
public import TextData

/// Floating-point operations that a training step cannot do without, for measuring speed against the machine's limit.
///
/// Multiplications and additions counted apart: for each token 4 x the frozen weights it is multiplied with (forward,
/// and the gradient of activations) and 6 x those that learn; the head's only for tokens with a target; attention 12 x
/// query width for each pair of a token and one that it sees (scores and values, forward and twice backward). What is
/// computed again counts once; element-wise work not at all.
public struct OperationCount: Sendable {
    private let perToken: Double
    private let perTarget: Double
    private let perPair: Double
    private let windows: [Int?]

    public init(_ model: DecoderModel) {
        func weights(_ projection: Projection) -> Double {
            let base = Double(projection.inputWidth * projection.outputWidth)
            let learned = projection.adapter.map {
                6 * Double($0.rank * (projection.inputWidth + projection.outputWidth))
            }
            return (projection.weight.isTrainable ? 6 : 4) * base + (learned ?? 0)
        }
        perToken =
            model.table.linearModules.reduce(0) { $0 + weights(model.layers[$1.layer].linear($1.role)) }
            + model.layers.reduce(0) { $0 + Self.active($1.experts, model.config.mixture) }
        perTarget = weights(model.head)
        perPair = 6 * Double(model.config.headCount * (model.config.headDim + model.config.valueDim))
        windows = model.config.windows
    }

    /// Those of the experts that a token goes to.
    private static func active(_ experts: Experts?, _ mixture: Mixture?) -> Double {
        guard let experts, let mixture else { return 0 }
        let projections = experts.gateUp + [experts.down]
        let base = projections.reduce(0) { sum, projection in
            sum + (projection.isTrainable ? 6 : 4) * Double(projection.inputWidth * projection.outputWidth)
        }
        let learned = (experts.gateUpAdapters + experts.downAdapters).reduce(0) { sum, adapter in
            let parts = adapter.parts.compactMap { $0 }
            let all = parts.reduce(0) { $0 + $1.rank * ($1.inputWidth + $1.outputWidth) }
            return sum + 6 * Double(all) / Double(experts.count)
        }
        return Double(mixture.router.active) * (base + learned)
    }

    public func operations(of batch: PackedBatch) -> Double {
        let targets = batch.targets.reduce(0) { $0 + ($1 == ignoredTarget ? 0 : 1) }
        var pairs = 0.0
        for (start, end) in zip(batch.segmentStarts, batch.segmentStarts.dropFirst()) {
            let length = end - start
            for window in windows {
                let seen = min(window ?? length, length)
                pairs += Double(seen * (seen + 1) / 2 + (length - seen) * seen)
            }
        }
        return Double(batch.count) * perToken + Double(targets) * perTarget + pairs * perPair
    }
}
