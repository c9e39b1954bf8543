import FileFormats
import Foundation
import TextData

extension TrainingRun {
    func makeSettings(
        _ data: TrainingData, _ plan: MemoryPlan, _ adapter: AdapterConfig?, parameters: Int
    ) -> TrainerSettings {
        let training = recipe.training, total = totalSteps(rows: data.train.count)
        let checkpoints = recipe.output + "/checkpoints"
        let choice = memoryChoice(data.train, plan, checkpoints: checkpoints)
        let warmup = training.schedule == .constant ? 0 : Int((training.warmupRatio * Double(total)).rounded(.up))
        var settings = TrainerSettings(
            totalSteps: total, batchSize: training.batchSize, microbatchTokens: choice.microbatchTokens,
            schedule: LearningRateSchedule(
                shape: LearningRateSchedule.Shape(rawValue: training.schedule.rawValue)!, peak: training.learningRate,
                warmupSteps: warmup, totalSteps: total))
        settings.optimizer.beta1 = training.optimizer.beta1
        settings.optimizer.beta2 = training.optimizer.beta2
        settings.optimizer.eps = training.optimizer.epsilon
        settings.optimizer.weightDecay = training.optimizer.weightDecay
        settings.loraPlus = recipe.adapter.loraPlusRatio.map {
            LoRAPlus(
                ratio: $0,
                embeddingFactor: recipe.adapter.loraPlusEmbeddingRate
                    / max(training.learningRate, .leastNormalMagnitude))
        }
        settings.maxGradNorm = training.maxGradNorm
        settings.recomputedBlocks = choice.recomputedBlocks
        settings.dropout = recipe.objective.dropsInputs ? adapter?.dropout ?? 0 : 0
        settings.shuffles = recipe.data.shuffle
        settings.objective = recipe.objective
        settings.maxLength = recipe.data.maxLength
        settings.seed = training.seed
        settings.evalEvery = training.evalEvery.stride(ofRun: total)
        settings.saveEvery = training.saveEvery.stride(ofRun: total)
        (settings.evalRows, settings.lastEvalRows) = evalRows(data, settings, parameters: parameters)
        settings.checkpointFolder = checkpoints
        settings.fingerprint = fingerprint(data, settings)
        return settings
    }

    private func totalSteps(rows: Int) -> Int {
        switch recipe.training.length {
        case .steps(let steps): return steps
        case .epochs(let epochs):
            let perEpoch = Trainer.stepsPerEpoch(rows: rows, batchSize: recipe.training.batchSize)
            return max(1, Int((epochs * Double(perEpoch)).rounded(.up)))
        }
    }

    /// The micro-batch and the blocks to recompute: the recipe's, else those of the run that is gone on with, else the
    /// plan's.
    private func memoryChoice(
        _ rows: [TokenizedExample], _ plan: MemoryPlan, checkpoints: String
    ) -> MemoryPlan.Choice {
        let training = recipe.training
        let recomputed: Int? =
            switch training.activationCheckpointing {
            case .on: plan.layerCount
            case .off: 0
            case .auto: nil
            }
        var tokens = Trainer.savedMicrobatchTokens(in: checkpoints)
        if case .tokens(let count) = training.microbatchTokens { tokens = count }
        // Left to graft, half of the memory: the rest of the machine needs some, and the estimate is one.
        let budget = training.memoryBytes ?? (ProcessMemory.limitBytes ?? 8 << 30) / 2
        return plan.choice(
            budget: budget, longest: rows.reduce(1) { max($0, $1.tokenCount) }, tokens: tokens, recomputed: recomputed)
    }

    /// Rows of the evaluations during the run and of the last one; nil for all.
    private func evalRows(
        _ data: TrainingData, _ settings: TrainerSettings, parameters: Int
    ) -> (during: Int?, last: Int?) {
        switch recipe.training.evalRows {
        case .all: return (nil, nil)
        case .count(let count): return (count, nil)
        case .auto:
            guard !data.eval.isEmpty else { return (nil, nil) }
            func mean(_ rows: [TokenizedExample]) -> Double {
                max(1, Double(rows.reduce(0) { $0 + $1.tokenCount }) / Double(rows.count))
            }
            let last = settings.affordableEvalRows(
                trainTokens: mean(data.train), evalTokens: mean(data.eval),
                batchRows: min(settings.batchSize, data.train.count), parameters: parameters)
            let times = max(1, settings.totalSteps / (settings.evalEvery ?? settings.totalSteps))
            // Fewer than a handful would make no curve.
            let during = max(4, last / times)
            return (during, max(4 * during, last))
        }
    }

    /// What decides the steps: the settings and every token of the data.
    private func fingerprint(_ data: TrainingData, _ settings: TrainerSettings) -> String {
        var hash = SHA256Stream()
        let optimizer = settings.optimizer
        // Where files stand does not matter, and what they hold is compared by itself.
        let recipe = recipe.withoutPaths
        let text = [
            "\(settings.totalSteps) \(settings.batchSize) \(settings.schedule) \(settings.maxGradNorm ?? 0)",
            "\(optimizer.beta1) \(optimizer.beta2) \(optimizer.eps) \(optimizer.weightDecay)",
            "\(settings.dropout) \(settings.shuffles) \(settings.seed) \(recipe.adapter) \(recipe.training.precision)",
            "\(recipe.training.quantization)",
            "\(recipe.objective)",
        ]
        hash.update(Array(text.joined(separator: "\n").utf8))
        for example in data.train {
            example.ids.withUnsafeBytes { hash.update($0) }
            hash.update(example.isTrained.map { $0 ? 1 : 0 })
            example.weights?.withUnsafeBytes { hash.update($0) }
            switch example.judgement {
            case .chosen(let ids, let isTrained)?:
                ids.withUnsafeBytes { hash.update($0) }
                hash.update(isTrained.map { $0 ? 1 : 0 })
            case .label(let isGood)?: hash.update([isGood ? 3 : 2])
            case nil: break
            }
        }
        return hash.hexDigest()
    }
}
