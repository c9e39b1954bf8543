import Foundation

/// How a router turns its logits into the experts of a token and their weights.
public struct RouterShape: Sendable {
    public enum Score: Sendable { case softmax, sigmoid }
    /// What the best groups are chosen by: their best expert (arXiv:2405.04434), or the sum of their best two
    /// (arXiv:2412.19437).
    public enum GroupScore: Sendable { case best, bestTwo }

    public var experts: Int
    /// Experts a token.
    public var active: Int
    public var score: Score
    /// Whether the chosen experts' scores are divided by their sum. With softmax scores that is the softmax of the
    /// chosen logits.
    public var normalizes: Bool
    /// Multiplies the weights.
    public var scale: Float
    /// Experts are chosen from the best `activeGroups` of `groups` groups of neighbours.
    public var groups: Int
    public var activeGroups: Int
    public var groupScore: GroupScore

    public init(
        experts: Int, active: Int, score: Score = .softmax, normalizes: Bool = false, scale: Float = 1,
        groups: Int = 1, activeGroups: Int = 1, groupScore: GroupScore = .best
    ) {
        precondition(active >= 1 && groups >= 1 && experts % groups == 0)
        precondition(activeGroups >= 1 && activeGroups <= groups && active <= experts / groups * activeGroups)
        self.experts = experts
        self.active = active
        self.score = score
        self.normalizes = normalizes
        self.scale = scale
        self.groups = groups
        self.activeGroups = activeGroups
        self.groupScore = groupScore
    }
}

/// The experts of each token.
public struct Routing {
    /// Experts a token.
    public let active: Int
    /// Token t goes to experts `indices[t * active..<(t + 1) * active]`.
    public let indices: [Int32]
    /// `[T, active]`, f32: what each of these experts' results is multiplied with.
    public let weights: Tensor
}

extension Tape {
    /// Chooses the experts of each token.
    ///
    /// The choice has no gradient; the weights of the chosen have.
    /// - Parameters:
    ///   - logits: `[T, experts]`, f32
    ///   - correction: `[experts]`, f32, added to the scores for the choice alone (arXiv:2408.15664)
    public func route(_ logits: Tensor, _ shape: RouterShape, correction: Weight? = nil) -> Routing {
        precondition(logits.width == shape.experts && logits.dtype == .f32)
        precondition(correction == nil || correction!.value.count == shape.experts)
        let (rows, experts, active) = (logits.rows, shape.experts, shape.active)
        let scores = Tensor([max(1, rows), experts]), weights = Tensor([rows, active])
        var indices = [Int32](repeating: 0, count: rows * active)
        let tiles = RowTiles(rows, width: executor.pool.width)
        executor.flush()
        indices.withUnsafeMutableBufferPointer { indices in
            let base = indices.baseAddress
            executor.loop(tiles.count, .routing) { tile, worker in
                let choice = worker.floats(1, count: experts)
                for row in tiles.first(tile)..<tiles.first(tile) + tiles.rows(tile) {
                    let score = scores.f32 + row * experts
                    shape.scores(logits.f32 + row * experts, into: score)
                    for e in 0..<experts { choice[e] = score[e] + (correction?.value.f32[e] ?? 0) }
                    shape.choose(choice, base! + row * active)
                    shape.weigh(score, base! + row * active, weights.f32 + row * active)
                }
            }
        }
        let routing = Routing(active: active, indices: indices, weights: weights)
        guard logits.requiresGradient else { return routing }
        record([weights]) { [executor] in
            guard let d = weights.takeGradient() else { return }
            let dLogits = Tensor.zeros([rows, experts])
            executor.loop(tiles.count, .routingBackward) { tile, worker in
                let dScores = worker.floats(1, count: active)
                for row in tiles.first(tile)..<tiles.first(tile) + tiles.rows(tile) {
                    routing.indices.withUnsafeBufferPointer { indices in
                        shape.backward(
                            d.f32 + row * active, scores.f32 + row * experts, indices.baseAddress! + row * active,
                            dScores, into: dLogits.f32 + row * experts)
                    }
                }
            }
            logits.addGradient(dLogits, executor)
        }
        return routing
    }
}

extension RouterShape {
    fileprivate func scores(_ logits: UnsafePointer<Float>, into scores: UnsafeMutablePointer<Float>) {
        guard score == .softmax else {
            for e in 0..<experts { scores[e] = 1 / (1 + exp(-logits[e])) }
            return
        }
        var top = logits[0], sum: Float = 0
        for e in 1..<max(1, experts) { top = max(top, logits[e]) }
        for e in 0..<experts {
            scores[e] = exp(logits[e] - top)
            sum += scores[e]
        }
        for e in 0..<experts { scores[e] /= sum }
    }

    /// Writes the `active` best of `choice`, best first, the lower number first among equals; `choice` is used up.
    fileprivate func choose(_ choice: UnsafeMutablePointer<Float>, _ chosen: UnsafeMutablePointer<Int32>) {
        let size = experts / groups
        if activeGroups < groups {
            var open = [Float](repeating: 0, count: groups)
            for g in 0..<groups {
                var first = -Float.infinity, second = -Float.infinity
                for e in g * size..<(g + 1) * size {
                    (first, second) = (max(first, choice[e]), max(second, min(first, choice[e])))
                }
                open[g] = groupScore == .best || size == 1 ? first : first + second
            }
            var kept = [Bool](repeating: false, count: groups)
            for _ in 0..<activeGroups {
                let best = Self.best(groups) { kept[$0] ? -.infinity : open[$0] }
                kept[best] = true
            }
            for e in 0..<experts where !kept[e / size] { choice[e] = -.infinity }
        }
        for j in 0..<active {
            let best = Self.best(experts) { choice[$0] }
            chosen[j] = Int32(best)
            // A NaN anywhere ends as any other choice: the loss says it.
            choice[best] = -.infinity
        }
    }

    /// The lowest number with the largest value.
    private static func best(_ count: Int, _ value: (Int) -> Float) -> Int {
        var best = 0
        for i in 1..<max(1, count) where value(i) > value(best) { best = i }
        return best
    }

    fileprivate func weigh(
        _ scores: UnsafePointer<Float>, _ chosen: UnsafePointer<Int32>, _ weights: UnsafeMutablePointer<Float>
    ) {
        let factor = normalizes ? scale / sum(scores, chosen) : scale
        for j in 0..<active { weights[j] = scores[Int(chosen[j])] * factor }
    }

    private func sum(_ scores: UnsafePointer<Float>, _ chosen: UnsafePointer<Int32>) -> Float {
        var sum: Float = 0
        for j in 0..<active { sum += scores[Int(chosen[j])] }
        return sum + 1e-20
    }

    /// dLogits of one row; zero where it was. With s the scores and w = scale s / sum(s) of the chosen:
    /// ds_j = (dw_j scale - sum_i dw_i w_i) / sum(s).
    fileprivate func backward(
        _ d: UnsafePointer<Float>, _ scores: UnsafePointer<Float>, _ chosen: UnsafePointer<Int32>,
        _ dScores: UnsafeMutablePointer<Float>, into dLogits: UnsafeMutablePointer<Float>
    ) {
        for j in 0..<active { dScores[j] = d[j] * scale }
        if normalizes {
            let total = sum(scores, chosen)
            var mean: Float = 0
            for j in 0..<active { mean += dScores[j] * scores[Int(chosen[j])] / total }
            for j in 0..<active { dScores[j] = (dScores[j] - mean) / total }
        }
        switch score {
        case .sigmoid:
            for j in 0..<active {
                let e = Int(chosen[j])
                dLogits[e] = dScores[j] * scores[e] * (1 - scores[e])
            }
        case .softmax:
            var mean: Float = 0
            for j in 0..<active { mean += dScores[j] * scores[Int(chosen[j])] }
            for e in 0..<experts { dLogits[e] = -scores[e] * mean }
            for j in 0..<active { dLogits[Int(chosen[j])] += scores[Int(chosen[j])] * dScores[j] }
        }
    }
}
