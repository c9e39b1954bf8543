import Foundation

/// The answers of a pair, scored: log-probabilities are sums over an answer's tokens, in nats.
struct ScoredPair {
    var chosen: Double
    var rejected: Double
    /// Of the reference; 0 where the objective has none.
    var chosenReference = 0.0
    var rejectedReference = 0.0
    /// Tokens that were predicted.
    var chosenCount: Int
    var rejectedCount: Int
}

/// What a pair adds to the loss, apart from the chosen answer's own loss.
struct PairLoss {
    /// With its derivatives by the sums of log-probabilities.
    var loss: Dual
    var chosenReward: Double
    var rejectedReward: Double
    /// As they are logged: sums, or means over the tokens.
    var chosenLogp: Double
    var rejectedLogp: Double
    /// ORPO's log odds of the chosen over the rejected answer, and log sigmoid of it.
    var logOdds: (chosen: Double, ratio: Double)?
}

extension Objective {
    func pairLoss(_ pair: ScoredPair) -> PairLoss {
        switch self {
        case .dpo(let dpo): dpo.loss(pair)
        case .orpo(let orpo): orpo.loss(pair)
        case .cpo(let cpo): cpo.loss(pair)
        case .sft, .kto, .distill: preconditionFailure("an objective of pairs")
        }
    }

    /// The weight of the chosen answers' own loss, and whether their prompts belong to it.
    var chosenLoss: (weight: Double, withPrompt: Bool) {
        switch self {
        case .orpo: (1, true)
        case .cpo(let cpo): (cpo.cpoAlpha, false)
        case .sft, .dpo, .kto, .distill: (0, false)
        }
    }
}

extension Objective.DPO {
    /// TRL's DPOTrainer, with the formulas' sources there; `sigmoid` with label smoothing is conservative DPO
    /// (arXiv:2305.18290's authors), `robust` is arXiv:2403.00409.
    func loss(_ pair: ScoredPair) -> PairLoss {
        let chosen = Dual(pair.chosen - pair.chosenReference, chosen: 1)
        let rejected = Dual(pair.rejected - pair.rejectedReference, rejected: 1)
        let reward = (chosen: beta * chosen, rejected: beta * rejected)
        let margin = reward.chosen - reward.rejected
        let mean = (
            chosen: 1 / Double(max(1, pair.chosenCount)) * chosen,
            rejected: 1 / Double(max(1, pair.rejectedCount)) * rejected
        )
        let epsilon = labelSmoothing
        let loss: Dual
        switch lossType {
        case .sigmoid: loss = -(1 - epsilon) * margin.logSigmoid - epsilon * (-margin).logSigmoid
        case .hinge: loss = (1 - margin).positivePart
        case .ipo: loss = (mean.chosen - mean.rejected - 1 / (2 * beta)).squared
        case .robust:
            loss = 1 / (1 - 2 * epsilon) * (epsilon * (-margin).logSigmoid - (1 - epsilon) * margin.logSigmoid)
        case .exoPair:
            loss =
                margin.sigmoid * (margin.logSigmoid - log1p(-epsilon))
                + (-margin).sigmoid * ((-margin).logSigmoid - log(epsilon))
        case .ncaPair:
            loss = -reward.chosen.logSigmoid - 0.5 * (-reward.chosen).logSigmoid - 0.5 * (-reward.rejected).logSigmoid
        case .bcoPair: loss = -reward.chosen.logSigmoid - (-reward.rejected).logSigmoid
        case .sppoHard: loss = (chosen - 0.5 / beta).squared + (rejected + 0.5 / beta).squared
        case .apoZero: loss = 1 - reward.chosen.sigmoid + reward.rejected.sigmoid
        case .apoDown: loss = reward.chosen.sigmoid + (1 - margin.sigmoid)
        case .sigmoidNorm: loss = -(beta * (mean.chosen - mean.rejected)).logSigmoid
        }
        return PairLoss(
            loss: loss, chosenReward: reward.chosen.value, rejectedReward: reward.rejected.value,
            chosenLogp: pair.chosen, rejectedLogp: pair.rejected)
    }
}

extension ScoredPair {
    /// Means over the answers' tokens.
    var means: (chosen: Dual, rejected: Dual) {
        let (m, n) = (Double(max(1, chosenCount)), Double(max(1, rejectedCount)))
        return (Dual(chosen / m, chosen: 1 / m), Dual(rejected / n, rejected: 1 / n))
    }
    var sums: (chosen: Dual, rejected: Dual) { (Dual(chosen, chosen: 1), Dual(rejected, rejected: 1)) }
}

extension Objective.ORPO {
    /// Equations 4 and 7 of arXiv:2403.07691.
    func loss(_ pair: ScoredPair) -> PairLoss {
        let (chosen, rejected) = pair.means
        let logOdds = chosen - rejected - (chosen.log1mexp - rejected.log1mexp)
        let ratio = logOdds.logSigmoid
        return PairLoss(
            loss: -beta * ratio, chosenReward: beta * chosen.value, rejectedReward: beta * rejected.value,
            chosenLogp: chosen.value, rejectedLogp: rejected.value, logOdds: (logOdds.value, ratio.value))
    }
}

extension Objective.CPO {
    /// Equation 3 of arXiv:2401.08417; with `simpo`, equation 6 of arXiv:2405.14734 in which gamma is `simpo_gamma`.
    func loss(_ pair: ScoredPair) -> PairLoss {
        let (chosen, rejected) = averages ? pair.means : pair.sums
        var difference = chosen - rejected
        if lossType == .simpo { difference = difference - simpoGamma / beta }
        let margin = beta * difference
        let loss: Dual =
            switch lossType {
            case .sigmoid, .simpo: -(1 - labelSmoothing) * margin.logSigmoid - labelSmoothing * (-margin).logSigmoid
            case .hinge: (1 - margin).positivePart
            case .ipo: (difference - 1 / (2 * beta)).squared
            }
        return PairLoss(
            loss: loss, chosenReward: beta * chosen.value, rejectedReward: beta * rejected.value,
            chosenLogp: chosen.value, rejectedLogp: rejected.value)
    }
}

extension Objective.KTO {
    /// The loss of an answer and its derivative by the answer's log-probability: equation 7 of arXiv:2402.01306, or of
    /// arXiv:2408.06266 without a pair.
    ///
    /// - Parameters:
    ///   - ratio: log-probability less the reference's
    ///   - divergence: the estimate of KL(model | reference)
    func loss(ratio: Double, isGood: Bool, divergence: Double) -> (value: Double, slope: Double) {
        let weight = isGood ? desirableWeight : undesirableWeight
        let sign = isGood ? 1.0 : -1
        let offset = lossType == .kto ? divergence : 0
        // 1 - sigmoid(x) is sigmoid(-x).
        let value = logistic(-beta * sign * (ratio - offset))
        return (weight * value, -weight * beta * sign * value * (1 - value))
    }
}
