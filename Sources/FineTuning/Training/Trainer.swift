import FileFormats
import Foundation
import Host
public import TensorCore
public import TextData

/// How a training run goes, apart from its model and its data.
public struct TrainerSettings: Sendable {
    public var totalSteps: Int
    /// Sequences per optimiser step.
    public var batchSize: Int
    /// At most this many tokens pass the model at once; a longer sequence goes alone.
    public var microbatchTokens: Int
    public var schedule: LearningRateSchedule
    public var optimizer = AdamW.Options()
    public var loraPlus: LoRAPlus?
    /// The largest global gradient norm; nil does not clip.
    public var maxGradNorm: Double?
    /// Blocks, from the first on, whose activations are computed again in the backward pass.
    public var recomputedBlocks = 0
    /// Dropout of the adapters' inputs.
    public var dropout: Double = 0
    public var shuffles = true
    public var objective = Objective.sft
    /// Tokens of the longest sequence.
    public var maxLength = Int.max
    public var seed: UInt64 = 42
    /// Steps from one evaluation, or saved checkpoint, to the next; nil for never.
    public var evalEvery: Int?
    public var saveEvery: Int?
    /// Rows of the evaluations during the run, and of the one after the last step; nil takes all.
    public var evalRows: Int?
    public var lastEvalRows: Int?
    /// Where checkpoints go; nil keeps none.
    public var checkpointFolder: String?
    /// What a checkpoint has to agree with to be resumed: the recipe and the data, hashed.
    public var fingerprint = ""

    public init(totalSteps: Int, batchSize: Int, microbatchTokens: Int, schedule: LearningRateSchedule) {
        self.totalSteps = totalSteps
        self.batchSize = batchSize
        self.microbatchTokens = microbatchTokens
        self.schedule = schedule
    }
}

extension TrainerSettings {
    /// The numbers of the examples of step `step`, counted from 0, of `count`.
    func rows(ofStep step: Int, of count: Int) -> [Int] {
        let perEpoch = Trainer.stepsPerEpoch(rows: count, batchSize: batchSize)
        let (epoch, index) = (step / perEpoch, step % perEpoch)
        let first = index * batchSize, last = min(first + batchSize, count)
        guard shuffles else { return Array(first..<last) }
        let order = Permutation(count: count, seed: seed, epoch: epoch)
        return (first..<last).map { order[$0] }
    }

    /// As many evaluated rows as take under a hundredth of the run, or less than a second, be the run as short as it
    /// may: a token that only passes forward costs about half of what one of a LoRA step does, two operations a
    /// parameter, of which a processor does 200 thousand million a second.
    ///
    /// - Parameters:
    ///   - trainTokens: mean tokens of a training row, and `evalTokens` of an evaluated one
    ///   - batchRows: rows of a step
    func affordableEvalRows(trainTokens: Double, evalTokens: Double, batchRows: Int, parameters: Int) -> Int {
        let share = 2 * 0.0075 * Double(totalSteps) * Double(batchRows) * trainTokens
        return Int(min(1e9, max(share, 1e11 / Double(max(1, parameters))) / evalTokens))
    }

    /// The tokens of the smallest and the largest micro-batch of the first epoch, for examples of these lengths.
    func microbatchSizes(_ lengths: [Int]) -> (smallest: Int, largest: Int) {
        let steps = min(totalSteps, Trainer.stepsPerEpoch(rows: lengths.count, batchSize: batchSize))
        let sizes = (0..<steps).flatMap { step in
            let own = rows(ofStep: step, of: lengths.count).map { lengths[$0] }
            return evenRanges(of: own, limit: microbatchTokens).map { own[$0].reduce(0, +) }
        }
        return (sizes.min() ?? 0, sizes.max() ?? 0)
    }
}

/// What a trainer tells while it runs.
public enum TrainerEvent {
    /// One optimiser step.
    public struct Step {
        /// Counted from 1.
        public var step: Int
        /// Mean over the step's trained tokens, or over the answers that are compared, in nats.
        public var loss: Double
        public var learningRate: Double
        /// Before clipping.
        public var gradientNorm: Double
        public var tokens: Int
        public var trainedTokens: Int
        /// Floating-point operations, as `OperationCount` counts them.
        public var operations: Double
        public var seconds: Double
        /// Of the whole run, time before a resume included.
        public var elapsedSeconds: Double
        public var peakResidentBytes: Int
        /// What the objective has to say beside the loss.
        public var metrics: [Metric] = []
    }

    /// The reference's scores are being computed, before the first step: examples done, and all.
    case scoring(done: Int, of: Int)
    case resumed(step: Int, path: String)
    /// A checkpoint that could not be resumed, and why.
    case rejected(path: String, reason: String)
    /// None of the checkpoints could be resumed; the run begins anew.
    case restarted(folder: String)
    case step(Step)
    /// Loss or gradient was not a number; the weights were left alone. `rows` are numbers of training examples.
    case skipped(step: Int, rows: [Int], detail: String)
    case evaluated(EvalMetrics)
    case saved(step: Int, path: String)
}

/// Runs the optimiser steps of a fine-tuning, with evaluation, checkpoints and exact resume.
///
/// Everything that decides a step is a function of the seed and the step's number, so the state to be saved is small:
/// weights, moments and counters.
public final class Trainer {
    public let model: DecoderModel
    public let settings: TrainerSettings
    public let optimizer: AdamW
    let train: [TokenizedExample]
    let eval: [TokenizedExample]
    let pool: WorkerPool
    private let pass: ObjectivePass
    /// The rows of every evaluation, the same each time, so that their losses make a curve; and of one more at the end.
    private let sample: [Int]
    private let lastSample: [Int]
    /// Of the examples, by their number; only those of rows that the run comes to.
    private var references: (train: [Int: ReferenceScore], eval: [ReferenceScore]) = ([:], [])
    public internal(set) var state = TrainerState()
    /// When the run would have begun, had it never been interrupted.
    private var began = Date()

    /// Steps in a row that may be skipped before the run stops.
    private static let skipLimit = 3

    public init(
        model: DecoderModel, teacher: DecoderModel? = nil, train: [TokenizedExample], eval: [TokenizedExample] = [],
        settings: TrainerSettings, pool: WorkerPool
    ) {
        precondition(!train.isEmpty && settings.batchSize > 0)
        self.model = model
        self.train = train
        self.eval = eval
        self.settings = settings
        self.pool = pool
        pass = ObjectivePass(
            model: model, objective: settings.objective, teacher: teacher, microbatchTokens: settings.microbatchTokens,
            maxLength: settings.maxLength, pool: pool)
        pass.recomputedBlocks = settings.recomputedBlocks
        let order = Permutation(count: max(1, eval.count), seed: settings.seed, epoch: 0)
        func chosen(_ count: Int?) -> [Int] { (0..<min(eval.count, count ?? eval.count)).map { order[$0] }.sorted() }
        sample = chosen(settings.evalRows)
        lastSample = chosen(settings.lastEvalRows)
        let weights = model.trainableWeights
        optimizer = AdamW(
            weights, settings.optimizer,
            groups: settings.loraPlus.map { plus in
                weights.map { plus.group(name: $0.name, dimensions: $0.shape.count) }
            })
    }

    /// Optimiser steps in one pass over `rows` examples; the last may have fewer.
    public static func stepsPerEpoch(rows: Int, batchSize: Int) -> Int { (rows + batchSize - 1) / batchSize }

    /// Runs to the last step.
    ///
    /// - Parameters:
    ///   - resume: go on from the newest whole checkpoint, if there is one.
    ///   - shouldStop: asked after each step and each micro-batch of an evaluation; true saves a checkpoint and throws
    ///     `.stopped`. A run that goes on from it begins with the evaluation. Before the first step there is nothing to
    ///     save, and `StopRequest.Stopped` is thrown.
    /// - Throws: `FineTuningError.stopped`, `.diverged`, `.checkpoint`, `FileError`.
    public func run(
        resume: Bool = false, shouldStop: () -> Bool = { false }, report: (TrainerEvent) throws -> Void = { _ in }
    ) throws {
        // The reference is the model as it is now; a checkpoint's weights come after.
        try scoreReference(shouldStop, report)
        if resume, let folder = settings.checkpointFolder { try resumeNewest(in: folder, report) }
        began = Date().addingTimeInterval(-state.elapsedSeconds)
        var skipped = 0, lastSkip = ""
        while state.step < settings.totalSteps || state.evaluationsLeft > 0 {
            if state.evaluationsLeft == 0 {
                let outcome = takeStep()
                state.elapsedSeconds = Date().timeIntervalSince(began)
                switch outcome {
                case .taken(var step):
                    skipped = 0
                    step.elapsedSeconds = state.elapsedSeconds
                    try report(.step(step))
                case .skipped(let rows, let detail):
                    skipped += 1
                    lastSkip = detail
                    try report(.skipped(step: state.step, rows: rows, detail: detail))
                    if skipped >= Self.skipLimit { throw FineTuningError.diverged(step: state.step, detail: detail) }
                }
                state.evaluationsLeft = dueEvaluations.count
            }
            let isLast = state.step == settings.totalSteps
            let isEvaluated = try evaluateWhatIsDue(shouldStop, report)
            let stops = !isEvaluated || !isLast && shouldStop()
            if let folder = settings.checkpointFolder, isLast || stops || isDue(settings.saveEvery) {
                try report(.saved(step: state.step, path: try saveCheckpoint(in: folder)))
            }
            if stops {
                throw FineTuningError.stopped(step: state.step, runDirectory: settings.checkpointFolder ?? "")
            }
        }
        // A short run may end before the limit of skipped steps.
        if state.trainedTokens == 0 {
            throw FineTuningError.diverged(
                step: state.step,
                detail: "every step was skipped, and nothing was learned" + (lastSkip.isEmpty ? "" : ": " + lastSkip))
        }
    }

    /// The rows of each evaluation that follows the step that was taken last.
    private var dueEvaluations: [[Int]] {
        let isLast = state.step == settings.totalSteps
        let isOnCurve = isDue(settings.evalEvery) || isLast && settings.evalEvery != nil
        return (isOnCurve ? [sample] : [])
            + (isLast && (!isOnCurve || sample.count < lastSample.count) ? [lastSample] : [])
    }

    /// Makes the evaluations that are left of the last step; false when a stop was asked for in one of them.
    private func evaluateWhatIsDue(
        _ shouldStop: () -> Bool, _ report: (TrainerEvent) throws -> Void
    ) throws -> Bool {
        for rows in dueEvaluations.suffix(state.evaluationsLeft) {
            do { try evaluate(rows, shouldStop, report) } catch is StopRequest.Stopped { return false }
            state.evaluationsLeft -= 1
        }
        // A checkpoint of a run that evaluated at other steps may have had more.
        state.evaluationsLeft = 0
        return true
    }

    private func isDue(_ interval: Int?) -> Bool {
        guard let interval, interval > 0 else { return false }
        return state.step % interval == 0
    }

    /// Scores the examples that the run comes to under the model as it is before the first step, in an order and in
    /// micro-batches that are the same after a resume.
    private func scoreReference(_ shouldStop: () -> Bool, _ report: (TrainerEvent) throws -> Void) throws {
        guard settings.objective.usesReference else { return }
        let perEpoch = Self.stepsPerEpoch(rows: train.count, batchSize: settings.batchSize)
        let numbers =
            settings.totalSteps >= perEpoch
            ? Array(train.indices) : Array(Set((0..<settings.totalSteps).flatMap(rows(ofStep:)))).sorted()
        let all = numbers.count + eval.count
        func tell(_ done: Int) throws {
            if shouldStop() { throw StopRequest.Stopped() }
            try report(.scoring(done: done, of: all))
        }
        let scores = try pass.scores(numbers.map { train[$0] }, progress: tell)
        references.train = Dictionary(uniqueKeysWithValues: zip(numbers, scores))
        references.eval = try pass.scores(eval) { try tell(numbers.count + $0) }
    }

    /// Losses are compared with those of the same rows only: what is best is so on the sample.
    private func evaluate(
        _ rows: [Int], _ shouldStop: () -> Bool, _ report: (TrainerEvent) throws -> Void
    ) throws {
        guard !rows.isEmpty else { return }
        let result = try pass.evaluate(
            rows.map { eval[$0] }, references: references.eval.isEmpty ? [] : rows.map { references.eval[$0] },
            batchSize: settings.batchSize
        ) {
            if shouldStop() { throw StopRequest.Stopped() }
        }
        state.elapsedSeconds = Date().timeIntervalSince(began)
        if rows.count == sample.count, result.loss.isFinite, result.loss < state.bestEvalLoss ?? .infinity {
            state.bestEvalLoss = result.loss
            state.bestEvalStep = state.step
        }
        try report(
            .evaluated(
                EvalMetrics(
                    step: state.step, loss: result.loss, rows: rows.count, trainedTokens: result.trainedTokens,
                    elapsedSeconds: state.elapsedSeconds, metrics: result.metrics)))
    }

    // MARK: one step

    private enum Outcome {
        case taken(TrainerEvent.Step)
        case skipped(rows: [Int], detail: String)
    }

    /// The numbers of the examples of step `step`, counted from 0.
    func rows(ofStep step: Int) -> [Int] { settings.rows(ofStep: step, of: train.count) }

    /// Whatever is divided by a number of tokens or rows is divided by that of the whole step, so that the cut into
    /// micro-batches does not change what is computed.
    private func takeStep() -> Outcome {
        let began = Date()
        let rows = rows(ofStep: state.step)
        let key = CounterRNG(settings.seed, 0x6472_6F70, UInt64(state.step)).key
        let result = pass.run(
            rows.map { train[$0] }, references: rows.compactMap { references.train[$0] }, learns: true,
            dropout: settings.dropout > 0 ? (settings.dropout, key) : nil, check: {})
        let rate = settings.schedule.rate(at: state.step)
        state.step += 1
        let norm = optimizer.gradientNorm(scale: result.gradientScale, pool: pool)
        guard result.loss.isFinite, norm.isFinite, result.trainedTokens > 0 else {
            optimizer.discardGradients()
            return .skipped(rows: rows, detail: "the loss is \(result.loss) and the gradient norm \(norm)")
        }
        var scale = result.gradientScale
        // PyTorch's clip_grad_norm_.
        if let limit = settings.maxGradNorm { scale *= min(1, limit / (norm + 1e-6)) }
        optimizer.apply(learningRate: rate, gradientScale: scale, pool: pool)
        model.refreshWeights(pool)
        state.tokens += result.tokens
        state.trainedTokens += result.trainedTokens
        return .taken(
            TrainerEvent.Step(
                step: state.step, loss: result.loss, learningRate: rate, gradientNorm: norm, tokens: result.tokens,
                trainedTokens: result.trainedTokens, operations: result.operations,
                seconds: Date().timeIntervalSince(began), elapsedSeconds: 0,
                peakResidentBytes: ProcessMemory.peakResidentBytes, metrics: result.metrics))
    }
}

/// Cuts a row of lengths into ranges of at most `limit` together, as few as go and then as even as go; a longer one
/// makes a range of its own.
func evenRanges(of lengths: [Int], limit: Int) -> [Range<Int>] {
    func ranges(_ limit: Int) -> [Range<Int>] {
        var (result, start, filled): ([Range<Int>], Int, Int) = ([], 0, 0)
        for (i, length) in lengths.enumerated() {
            if i > start, filled + length > limit {
                result.append(start..<i)
                (start, filled) = (i, 0)
            }
            filled += length
        }
        if start < lengths.count { result.append(start..<lengths.count) }
        return result
    }
    let fewest = ranges(limit).count
    var (low, high) = (0, limit)
    while low < high {
        let middle = (low + high) / 2
        if ranges(middle).count > fewest { low = middle + 1 } else { high = middle }
    }
    return ranges(high)
}

/// The batches of examples, in order, that `evenRanges` cuts.
public func microbatches(_ examples: [TokenizedExample], tokens limit: Int) -> [PackedBatch] {
    evenRanges(of: examples.map(\.ids.count), limit: limit).map { PackedBatch(examples[$0]) }.filter { $0.count > 0 }
}

/// The mean loss over all trained tokens of the examples, in nats, and their number.
public func meanLoss(
    _ model: DecoderModel, _ examples: [TokenizedExample], microbatchTokens: Int, pool: WorkerPool
) -> (loss: Double, tokens: Int) {
    let pass = ObjectivePass(
        model: model, objective: .sft, teacher: nil, microbatchTokens: microbatchTokens, maxLength: .max, pool: pool)
    let result = pass.run(examples, references: [], learns: false, check: {})
    return (result.loss, result.trainedTokens)
}
