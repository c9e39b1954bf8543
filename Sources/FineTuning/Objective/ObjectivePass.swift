import TensorCore
import TextData

/// What an objective made of some rows.
struct ObjectiveResult {
    /// The mean over the rows, or over their trained tokens.
    var loss = 0.0
    /// What gradients are multiplied with.
    var gradientScale = 1.0
    /// The rows, or the weights of the trained tokens, that the means are over.
    var weight = 0.0
    var tokens = 0
    var trainedTokens = 0
    var operations = 0.0
    var metrics: [Metric] = []
}

/// The log-probabilities of an example's answers under the reference, in nats.
struct ReferenceScore: Equatable {
    /// Of the example itself.
    var answer = 0.0
    var rejected = 0.0
}

/// Computes an objective on rows: micro-batch by micro-batch, and every normaliser over all rows, so that the cut into
/// micro-batches changes nothing beyond rounding.
final class ObjectivePass {
    let model: DecoderModel
    let objective: Objective
    let teacher: DecoderModel?
    let pool: WorkerPool
    /// Tokens that pass the model at once.
    let microbatchTokens: Int
    /// Tokens of the longest sequence that is put together here.
    let maxLength: Int
    var recomputedBlocks = 0
    private let operationCount: OperationCount
    /// What learns, as it was before the first step; only for objectives that need it at every step.
    private let initialWeights: [[Float]]

    init(
        model: DecoderModel, objective: Objective, teacher: DecoderModel?, microbatchTokens: Int, maxLength: Int,
        pool: WorkerPool
    ) {
        self.model = model
        self.objective = objective
        self.teacher = teacher
        self.microbatchTokens = microbatchTokens
        self.maxLength = maxLength
        self.pool = pool
        operationCount = OperationCount(model)
        initialWeights = objective.usesMismatchedAnswers ? model.trainableWeights.map { $0.master!.floats() } : []
    }

    /// How the passes of a step drop: nil drops nothing.
    typealias Dropout = (probability: Double, key: UInt64)

    /// - Parameters:
    ///   - references: of each example, where the objective uses a reference
    ///   - learns: whether gradients are wanted
    ///   - check: called before each micro-batch; what it throws ends the pass
    func run(
        _ examples: [TokenizedExample], references: [ReferenceScore], learns: Bool, dropout: Dropout? = nil,
        check: () throws -> Void
    ) rethrows -> ObjectiveResult {
        switch objective {
        case .sft, .distill: try tokenLosses(examples, learns, dropout, check)
        case .dpo, .orpo, .cpo: try pairs(examples, references, learns, dropout, check)
        case .kto(let kto): try judged(kto, examples, references, learns, dropout, check)
        }
    }

    /// The means over all examples; KTO's divergence is of `batchSize` of them at a time, as in training.
    ///
    /// - Parameter check: called before each micro-batch; what it throws ends the evaluation
    func evaluate(
        _ examples: [TokenizedExample], references: [ReferenceScore], batchSize: Int, check: () throws -> Void
    ) rethrows -> ObjectiveResult {
        var result = ObjectiveResult()
        var metrics: [(name: String, sum: Double, weight: Double)] = []
        let size = objective.usesMismatchedAnswers ? batchSize : max(1, examples.count)
        for start in stride(from: 0, to: examples.count, by: size) {
            let range = start..<min(start + size, examples.count)
            let part = try run(
                Array(examples[range]), references: references.isEmpty ? [] : Array(references[range]), learns: false,
                check: check)
            result.loss += part.loss * part.weight
            result.weight += part.weight
            result.tokens += part.tokens
            result.trainedTokens += part.trainedTokens
            for metric in part.metrics {
                let i = metrics.firstIndex { $0.name == metric.name } ?? metrics.count
                if i == metrics.count { metrics.append((metric.name, 0, 0)) }
                metrics[i].sum += metric.value * part.weight
                metrics[i].weight += part.weight
            }
        }
        result.loss /= max(result.weight, .leastNormalMagnitude)
        result.metrics = metrics.map { Metric($0.name, $0.sum / $0.weight) }
        return result
    }

    // MARK: passes

    /// One pass over a micro-batch. `factors` gets the losses of the trained positions and gives what each is
    /// multiplied with in what is differentiated; nil differentiates their sum.
    private func pass(
        _ batch: PackedBatch, _ result: inout ObjectiveResult, _ learns: Bool, _ dropout: Dropout?,
        known: [Float]? = nil, factors: (([Double]) -> [Float])? = nil
    ) -> [Double] {
        var options = DecoderModel.PassOptions()
        if learns {
            options.recomputedBlocks = recomputedBlocks
            options.dropout = dropout.map {
                AdapterDropout(probability: Float($0.probability), key: $0.key, firstRow: result.tokens)
            }
            if known != nil || factors != nil { options.factors = LossFactors(known) }
        }
        if case .distill(let distillation) = objective, let teacher {
            options.teacher = (teacher.teacherStates(batch, pool: pool), distillation.divergence)
        }
        let tape = Tape(pool: pool, recording: learns)
        let losses = model.losses(tape, batch, options: options)
        let late = factors?(losses)
        if learns {
            if let late { options.factors?.values = late }
            tape.backward()
        }
        result.tokens += batch.count
        result.trainedTokens += losses.count
        result.operations += operationCount.operations(of: batch)
        return losses
    }

    private func tokenLosses(
        _ examples: [TokenizedExample], _ learns: Bool, _ dropout: Dropout?, _ check: () throws -> Void
    ) rethrows -> ObjectiveResult {
        var result = ObjectiveResult()
        for batch in microbatches(examples, tokens: microbatchTokens) {
            try check()
            let weights = batch.trainedWeights
            let losses = pass(batch, &result, learns, dropout, known: weights)
            if let weights {
                for (loss, weight) in zip(losses, weights) {
                    result.loss += loss * Double(weight)
                    result.weight += Double(weight)
                }
            } else {
                for loss in losses { result.loss += loss }
                result.weight += Double(losses.count)
            }
        }
        result.gradientScale = 1 / max(result.weight, .leastNormalMagnitude)
        result.loss /= max(result.weight, .leastNormalMagnitude)
        return result
    }

    // MARK: pairs

    private func pairs(
        _ examples: [TokenizedExample], _ references: [ReferenceScore], _ learns: Bool, _ dropout: Dropout?,
        _ check: () throws -> Void
    ) rethrows -> ObjectiveResult {
        let own = objective.chosenLoss
        /// The chosen answer, with its prompt trained where that belongs to its own loss.
        func chosen(_ example: TokenizedExample) -> TokenizedExample {
            own.withPrompt
                ? TokenizedExample(ids: example.ids, isTrained: example.ids.map { _ in true }) : example
        }
        let ownCount = Double(max(1, examples.reduce(0) { $0 + chosen($1).trainedCount }))
        let total = Double(examples.count)
        var result = ObjectiveResult(weight: total)
        var ownLoss = 0.0
        var losses: [PairLoss] = []
        for range in evenRanges(of: examples.map(\.tokenCount), limit: microbatchTokens) {
            try check()
            var batch = PackedBatch()
            for i in range {
                batch.append(chosen(examples[i]))
                if let rejected = examples[i].rejected { batch.append(rejected) }
            }
            _ = pass(batch, &result, learns, dropout) { values in
                var factors: [Float] = []
                var next = values[...]
                for i in range {
                    guard let rejected = examples[i].rejected else { continue }
                    // Which of the chosen sequence's losses belong to the answer.
                    let isAnswer =
                        own.withPrompt
                        ? Array(examples[i].isTrained.dropFirst())
                        : Array(repeating: true, count: examples[i].trainedCount)
                    let first = next.prefix(isAnswer.count)
                    let second = next.dropFirst(isAnswer.count).prefix(rejected.trainedCount)
                    next = next.dropFirst(first.count + second.count)
                    var pair = ScoredPair(
                        chosen: -zip(first, isAnswer).reduce(0) { $0 + ($1.1 ? $1.0 : 0) },
                        rejected: -second.reduce(0, +),
                        chosenCount: examples[i].trainedCount, rejectedCount: rejected.trainedCount)
                    if !references.isEmpty {
                        (pair.chosenReference, pair.rejectedReference) = (references[i].answer, references[i].rejected)
                    }
                    let loss = self.objective.pairLoss(pair)
                    losses.append(loss)
                    if own.weight != 0 { ownLoss += first.reduce(0, +) }
                    // Of what is summed, a loss is -log p.
                    let slopes = (-loss.loss.chosen / total, -loss.loss.rejected / total)
                    factors += isAnswer.map { Float(($0 ? slopes.0 : 0) + own.weight / ownCount) }
                    factors += second.map { _ in Float(slopes.1) }
                }
                return factors
            }
        }
        let hasOwn = own.weight != 0 || objective.hasOwnLoss
        result.loss = losses.reduce(0) { $0 + $1.loss.value } / total + own.weight * ownLoss / ownCount
        result.metrics = Self.metrics(losses, ownLoss: hasOwn ? ownLoss / ownCount : nil)
        return result
    }

    private static func metrics(_ losses: [PairLoss], ownLoss: Double?) -> [Metric] {
        func mean(_ value: (PairLoss) -> Double) -> Double {
            losses.reduce(0) { $0 + value($1) } / Double(max(1, losses.count))
        }
        var metrics = [
            Metric("rewards/chosen", mean(\.chosenReward)), Metric("rewards/rejected", mean(\.rejectedReward)),
            Metric("rewards/accuracies", mean { $0.chosenReward > $0.rejectedReward ? 1 : 0 }),
            Metric("rewards/margins", mean { $0.chosenReward - $0.rejectedReward }),
            Metric("logps/chosen", mean(\.chosenLogp)), Metric("logps/rejected", mean(\.rejectedLogp)),
        ]
        if let ownLoss { metrics.append(Metric("nll_loss", ownLoss)) }
        if losses.first?.logOdds != nil {
            metrics.append(Metric("log_odds_ratio", mean { $0.logOdds?.ratio ?? 0 }))
            metrics.append(Metric("log_odds_chosen", mean { $0.logOdds?.chosen ?? 0 }))
        }
        return metrics
    }

    // MARK: answers that are good or bad

    private func judged(
        _ kto: Objective.KTO, _ examples: [TokenizedExample], _ references: [ReferenceScore], _ learns: Bool,
        _ dropout: Dropout?, _ check: () throws -> Void
    ) rethrows -> ObjectiveResult {
        try check()
        let divergence = objective.usesMismatchedAnswers ? mismatchedDivergence(examples) : 0
        var result = ObjectiveResult(weight: Double(examples.count))
        var rewards = (good: [Double](), bad: [Double]())
        var logps = (good: [Double](), bad: [Double]())
        for range in evenRanges(of: examples.map(\.ids.count), limit: microbatchTokens) {
            try check()
            var loss = 0.0
            _ = pass(PackedBatch(examples[range]), &result, learns, dropout) { values in
                var factors: [Float] = []
                var next = values[...]
                for i in range {
                    let own = next.prefix(examples[i].trainedCount)
                    next = next.dropFirst(own.count)
                    let logp = -own.reduce(0, +)
                    let ratio = logp - references[i].answer
                    let isGood = examples[i].isGood
                    let (value, slope) = kto.loss(ratio: ratio, isGood: isGood, divergence: divergence)
                    loss += value
                    if isGood {
                        rewards.good.append(kto.beta * ratio)
                        logps.good.append(logp)
                    } else {
                        rewards.bad.append(kto.beta * ratio)
                        logps.bad.append(logp)
                    }
                    factors += own.map { _ in Float(-slope / Double(examples.count)) }
                }
                return factors
            }
            result.loss += loss / result.weight
        }
        func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }
        result.metrics = [Metric("kl", divergence)]
        if !rewards.good.isEmpty {
            result.metrics += [Metric("rewards/chosen", mean(rewards.good)), Metric("logps/chosen", mean(logps.good))]
        }
        if !rewards.bad.isEmpty {
            result.metrics += [
                Metric("rewards/rejected", mean(rewards.bad)), Metric("logps/rejected", mean(logps.bad)),
            ]
        }
        if !rewards.good.isEmpty, !rewards.bad.isEmpty {
            result.metrics.append(Metric("rewards/margins", mean(rewards.good) - mean(rewards.bad)))
        }
        return result
    }

    /// KTO's estimate of KL(model | reference), at least 0: the mean log ratio of each prompt with the answer of the
    /// row before it, around the rows of the step.
    private func mismatchedDivergence(_ examples: [TokenizedExample]) -> Double {
        let mismatched = examples.indices.map { i -> TokenizedExample in
            let (prompt, other) = (examples[i].promptCount, examples[i == 0 ? examples.count - 1 : i - 1])
            var result = TokenizedExample(
                ids: Array(examples[i].ids[..<prompt]) + other.ids[other.promptCount...],
                isTrained: Array(examples[i].isTrained[..<prompt]) + other.isTrained[other.promptCount...])
            if result.ids.count > maxLength {
                result = TokenizedExample(
                    ids: Array(result.ids.prefix(maxLength)), isTrained: Array(result.isTrained.prefix(maxLength)))
            }
            return result
        }
        let now = logProbabilities(mismatched)
        let before = asBeforeTraining { logProbabilities(mismatched) }
        return max(0, zip(now, before).reduce(0) { $0 + $1.0 - $1.1 } / Double(examples.count))
    }

    /// The log-probability of the trained tokens of each example.
    private func logProbabilities(_ examples: [TokenizedExample]) -> [Double] {
        evenRanges(of: examples.map(\.ids.count), limit: microbatchTokens).flatMap { range -> [Double] in
            let losses = model.losses(Tape(pool: pool, recording: false), PackedBatch(examples[range]))
            var next = losses[...]
            return range.map { i in
                let own = next.prefix(examples[i].trainedCount)
                next = next.dropFirst(own.count)
                return -own.reduce(0, +)
            }
        }
    }

    /// Calls `body` with the weights from before the first step in place: no second model.
    private func asBeforeTraining<R>(_ body: () -> R) -> R {
        let weights = model.trainableWeights
        let now = weights.map { $0.master!.floats() }
        func set(_ values: [[Float]]) {
            for (weight, values) in zip(weights, values) {
                weight.master!.withFloats { target in _ = target.update(fromContentsOf: values) }
            }
            model.refreshWeights(pool)
        }
        set(initialWeights)
        defer { set(now) }
        return body()
    }

    // MARK: the reference

    /// Scores of examples under the model as it is now: asked before the first step, they are the reference's.
    ///
    /// - Parameter progress: gets the number of examples that are done.
    func scores(_ examples: [TokenizedExample], progress: (Int) throws -> Void) rethrows -> [ReferenceScore] {
        var scores: [ReferenceScore] = []
        for range in evenRanges(of: examples.map(\.tokenCount), limit: microbatchTokens) {
            let sequences = range.flatMap { [examples[$0]] + (examples[$0].rejected.map { [$0] } ?? []) }
            var values = logProbabilities(sequences)[...]
            for i in range {
                var score = ReferenceScore(answer: values.removeFirst())
                if examples[i].rejected != nil { score.rejected = values.removeFirst() }
                scores.append(score)
            }
            try progress(range.upperBound)
        }
        return scores
    }
}

extension Objective {
    /// Whether the chosen answers' own loss is a part of it, if only with the weight 0.
    fileprivate var hasOwnLoss: Bool {
        switch self {
        case .orpo, .cpo: true
        case .sft, .dpo, .kto, .distill: false
        }
    }
}

extension TokenizedExample {
    fileprivate var isGood: Bool {
        if case .label(let isGood)? = judgement { return isGood }
        return true
    }
    /// Tokens before the first that is trained.
    fileprivate var promptCount: Int { isTrained.firstIndex(of: true) ?? ids.count }
}

extension PackedBatch {
    /// What the losses of the positions with a target are multiplied with; nil: 1.
    fileprivate var trainedWeights: [Float]? { weights.map { weights in trainedPositions.map { weights[$0] } } }
}
