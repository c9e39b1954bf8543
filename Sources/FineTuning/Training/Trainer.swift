import FileFormats
import Foundation
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
    public var seed: UInt64 = 42
    /// Steps from one evaluation, or saved checkpoint, to the next; nil for never.
    public var evalEvery: Int?
    public var saveEvery: Int?
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

/// What a trainer tells while it runs.
public enum TrainerEvent {
    /// One optimiser step.
    public struct Step {
        /// Counted from 1.
        public var step: Int
        /// Mean over the step's trained tokens, in nats.
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
    }

    case resumed(step: Int, path: String)
    /// A checkpoint that could not be resumed, and why.
    case rejected(path: String, reason: String)
    case step(Step)
    /// Loss or gradient was not a number; the weights were left alone. `rows` are numbers of training examples.
    case skipped(step: Int, rows: [Int], detail: String)
    case evaluated(step: Int, loss: Double, tokens: Int)
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
    private let operationCount: OperationCount
    public internal(set) var state = TrainerState()

    /// Steps in a row that may be skipped before the run stops.
    private static let skipLimit = 3

    public init(
        model: DecoderModel, train: [TokenizedExample], eval: [TokenizedExample] = [], settings: TrainerSettings,
        pool: WorkerPool
    ) {
        precondition(!train.isEmpty && settings.batchSize > 0)
        self.model = model
        self.train = train
        self.eval = eval
        self.settings = settings
        self.pool = pool
        operationCount = OperationCount(model)
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
    ///   - shouldStop: asked after each step; true saves a checkpoint and throws `.stopped`.
    /// - Throws: `FineTuningError.stopped`, `.diverged`, `.checkpoint`, `FileError`.
    public func run(
        resume: Bool = false, shouldStop: () -> Bool = { false }, report: (TrainerEvent) throws -> Void = { _ in }
    ) throws {
        if resume, let folder = settings.checkpointFolder { try resumeNewest(in: folder, report) }
        let start = Date(), earlier = state.elapsedSeconds
        var skipped = 0
        while state.step < settings.totalSteps {
            let outcome = takeStep()
            state.elapsedSeconds = earlier + Date().timeIntervalSince(start)
            switch outcome {
            case .taken(var step):
                skipped = 0
                step.elapsedSeconds = state.elapsedSeconds
                try report(.step(step))
            case .skipped(let rows, let detail):
                skipped += 1
                try report(.skipped(step: state.step, rows: rows, detail: detail))
                if skipped >= Self.skipLimit { throw FineTuningError.diverged(step: state.step, detail: detail) }
            }
            let isLast = state.step == settings.totalSteps
            if !eval.isEmpty, isLast || isDue(settings.evalEvery) { try evaluate(report) }
            let stops = !isLast && shouldStop()
            if let folder = settings.checkpointFolder, isLast || stops || isDue(settings.saveEvery) {
                try report(.saved(step: state.step, path: try saveCheckpoint(in: folder)))
            }
            if stops {
                throw FineTuningError.stopped(step: state.step, runDirectory: settings.checkpointFolder ?? "")
            }
        }
    }

    private func isDue(_ interval: Int?) -> Bool {
        guard let interval, interval > 0 else { return false }
        return state.step % interval == 0
    }

    private func evaluate(_ report: (TrainerEvent) throws -> Void) throws {
        let result = meanLoss(model, eval, microbatchTokens: settings.microbatchTokens, pool: pool)
        if result.loss.isFinite, result.loss < state.bestEvalLoss ?? .infinity {
            state.bestEvalLoss = result.loss
            state.bestEvalStep = state.step
        }
        try report(.evaluated(step: state.step, loss: result.loss, tokens: result.tokens))
    }

    // MARK: one step

    private enum Outcome {
        case taken(TrainerEvent.Step)
        case skipped(rows: [Int], detail: String)
    }

    /// The numbers of the examples of step `step`, counted from 0.
    func rows(ofStep step: Int) -> [Int] {
        let perEpoch = Self.stepsPerEpoch(rows: train.count, batchSize: settings.batchSize)
        let (epoch, index) = (step / perEpoch, step % perEpoch)
        let first = index * settings.batchSize, last = min(first + settings.batchSize, train.count)
        guard settings.shuffles else { return Array(first..<last) }
        let order = Permutation(count: train.count, seed: settings.seed, epoch: epoch)
        return (first..<last).map { order[$0] }
    }

    /// Loss and gradients are sums over the step's trained tokens and are divided once, so that the cut into
    /// micro-batches does not change what is computed.
    private func takeStep() -> Outcome {
        let began = Date()
        let rows = rows(ofStep: state.step)
        let batches = microbatches(rows.map { train[$0] }, tokens: settings.microbatchTokens)
        let key = CounterRNG(settings.seed, 0x6472_6F70, UInt64(state.step)).key
        var loss = 0.0, tokens = 0, trained = 0, operations = 0.0
        for batch in batches {
            let tape = Tape(pool: pool, recording: true)
            var options = DecoderModel.PassOptions()
            options.recomputedBlocks = settings.recomputedBlocks
            if settings.dropout > 0 {
                options.dropout = AdapterDropout(probability: Float(settings.dropout), key: key, firstRow: tokens)
            }
            let losses = model.losses(tape, batch, options: options)
            tape.backward()
            for value in losses { loss += value }
            trained += losses.count
            tokens += batch.count
            operations += operationCount.operations(of: batch)
        }
        let rate = settings.schedule.rate(at: state.step)
        state.step += 1
        let norm = optimizer.gradientNorm(scale: 1 / Double(max(1, trained)), pool: pool)
        guard loss.isFinite, norm.isFinite, trained > 0 else {
            optimizer.discardGradients()
            return .skipped(rows: rows, detail: "the loss is \(loss / Double(trained)) and the gradient norm \(norm)")
        }
        var scale = 1 / Double(trained)
        // PyTorch's clip_grad_norm_.
        if let limit = settings.maxGradNorm { scale *= min(1, limit / (norm + 1e-6)) }
        optimizer.apply(learningRate: rate, gradientScale: scale, pool: pool)
        model.refreshWeights(pool)
        state.tokens += tokens
        state.trainedTokens += trained
        return .taken(
            TrainerEvent.Step(
                step: state.step, loss: loss / Double(trained), learningRate: rate, gradientNorm: norm, tokens: tokens,
                trainedTokens: trained, operations: operations, seconds: Date().timeIntervalSince(began), elapsedSeconds: 0,
                peakResidentBytes: ProcessMemory.peakResidentBytes))
    }
}

/// Cuts examples, in order, into batches of at most `tokens` tokens, as few as go and then as even as go; a longer
/// example makes a batch of its own.
public func microbatches(_ examples: [TokenizedExample], tokens limit: Int) -> [PackedBatch] {
    let lengths = examples.map(\.ids.count)
    func batchCount(_ limit: Int) -> Int {
        var (batches, filled) = (0, 0)
        for length in lengths {
            if batches == 0 || filled + length > limit { (batches, filled) = (batches + 1, 0) }
            filled += length
        }
        return batches
    }
    let fewest = batchCount(limit)
    var (low, high) = (0, limit)
    while low < high {
        let middle = (low + high) / 2
        if batchCount(middle) > fewest { low = middle + 1 } else { high = middle }
    }
    var batches: [PackedBatch] = [], current = PackedBatch()
    for example in examples {
        if current.count > 0, current.count + example.ids.count > high {
            batches.append(current)
            current = PackedBatch()
        }
        current.append(example)
    }
    if current.count > 0 { batches.append(current) }
    return batches
}

/// The mean loss over all trained tokens of the examples, in nats, and their number.
public func meanLoss(
    _ model: DecoderModel, _ examples: [TokenizedExample], microbatchTokens: Int, pool: WorkerPool
) -> (loss: Double, tokens: Int) {
    var sum = 0.0, count = 0
    for batch in microbatches(examples, tokens: microbatchTokens) {
        let losses = model.losses(Tape(pool: pool, recording: false), batch)
        for loss in losses { sum += loss }
        count += losses.count
    }
    return (count == 0 ? 0 : sum / Double(count), count)
}
