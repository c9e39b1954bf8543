import FileFormats
import Foundation
import Host
public import TensorCore
internal import TextData

/// A recipe turned into a run directory.
public final class TrainingRun {
    /// What a run tells while it goes.
    public enum Event {
        case prepared(Summary)
        case trainer(TrainerEvent)
        /// `metrics.jsonl` cannot be written; the run goes on without it. Told once.
        case logFailed(reason: String)
        /// After the last step, when a profile was asked for.
        case profiled(TrainingProfile)
    }

    /// What is known before the first step.
    public struct Summary: Sendable {
        public var parameters: Int
        public var trainableParameters: Int
        public var trainRows: Int
        public var evalRows: Int
        public var trainTokens: Int
        public var trainedTokens: Int
        public var steps: Int
        public var precision: String
        public var microbatchTokens: Int
        /// Blocks whose activations are computed again in the backward pass.
        public var recomputedBlocks: Int
        /// The estimate of the peak, in bytes.
        public var memoryBytes: Int
        /// Of these, experts of a mapped file that the system can drop and read again.
        public var idleExpertBytes: Int
        /// What the recipe or the machine allows, in bytes.
        public var memoryLimit: Int?
        public var statistics: [String]
        /// What the run takes on the disk, what of it is there already, and what is free there; in bytes.
        public var disk: DiskPlan
        public var presentDiskBytes: Int
        public var freeDiskBytes: Int?
        /// What is right but worth knowing of the rows, each with what they are for, and of the model.
        public var warnings: [String]
        /// Of these, what is not of the rows' reading.
        public var modelNotes: [String]

        /// Whether experts have to be dropped and read again while the run goes.
        public var readsExpertsAgain: Bool { idleExpertBytes > 0 && memoryBytes > memoryLimit ?? .max }
    }

    public let recipe: Recipe
    public let pool: WorkerPool

    let reader: ModelReader

    public init(recipe: Recipe, pool: WorkerPool, reader: ModelReader = .folders) {
        self.recipe = recipe
        self.pool = pool
        self.reader = reader
    }

    /// Everything between the recipe and the first step.
    public struct Prepared {
        public let model: DecoderModel
        public let adapter: AdapterConfig?
        /// Whose distribution is learned.
        public let teacher: DecoderModel?
        public let data: TrainingData
        public internal(set) var settings: TrainerSettings
        public let summary: Summary
    }

    /// Trains and writes the run directory.
    ///
    /// - Parameter profiling: measure the steps by operation and write `profile.json`.
    /// - Throws: as `prepare`, and `FineTuningError.stopped` when `shouldStop` said so.
    public func execute(
        resume: Bool, profiling: Bool = false, shouldStop: () -> Bool = { false }, report: (Event) -> Void = { _ in }
    ) throws {
        var manifest = RunManifest(recipe: recipe)
        // Before the rows are read, which may be wrong because they have changed.
        let earlier = resume ? RunInputs(recordedAt: RunDirectory.inputsPath(recipe.output)) : nil
        var inputs = try earlier.map { try self.inputs(&manifest, equalTo: $0) }
        var prepared = try prepare(day: earlier?.day)
        let directory = try RunDirectory(path: recipe.output, resume: resume)
        try directory.settle(recipe, movable: inputs != nil)
        if inputs == nil {
            inputs = try RunInputs(recipe, manifest: &manifest)
            inputs?.day = prepared.data.day
            try inputs?.write(to: directory.inputsPath)
        }
        prepared.settings.fingerprint += inputs?.weightHash ?? ""
        report(.prepared(prepared.summary))
        do {
            try train(prepared, &manifest, directory, resume: resume, profiling: profiling, shouldStop, report)
        } catch is StopRequest.Stopped {
            throw FineTuningError.interrupted(command: "'graft train ... --resume'")
        }
    }

    private func train(
        _ prepared: Prepared, _ manifest: inout RunManifest, _ directory: RunDirectory, resume: Bool, profiling: Bool,
        _ shouldStop: () -> Bool, _ report: (Event) -> Void
    ) throws {
        var profile = profiling ? TrainingProfile() : nil
        let (model, settings) = (prepared.model, prepared.settings)
        let samples = Array(prepared.data.samples.prefix(4))
        let before = try answers(model, samples, prepared.data)
        let trainer = Trainer(
            model: model, teacher: prepared.teacher, train: prepared.data.train, eval: prepared.data.eval,
            settings: settings, pool: pool)
        var log = RunLog(path: directory.metricsPath)
        try trainer.run(resume: resume, shouldStop: shouldStop) { event in
            // What comes before a resume must not begin the log anew.
            if case .scoring = event { return report(.trainer(event)) }
            do {
                try self.write(event, to: &log, totalSteps: settings.totalSteps)
            } catch let error as FileError {
                if log.fail() { report(.logFailed(reason: "\(error)")) }
            }
            report(.trainer(event))
            if case .step(let step) = event { profile?.add(step, self.pool) }
        }
        log.close()
        if var profile {
            profile.finish(model.dtype, pool)
            let text = JSONWriter.text(.object(profile.json), .pretty) + "\n"
            try AtomicFile.write(Array(text.utf8), to: directory.profilePath)
            report(.profiled(profile))
        }
        try writeResult(prepared, directory)
        let after = try answers(model, samples, prepared.data)
        try writeReport(prepared, directory, zip(samples, zip(before, after)).map { ($0, $1.0, $1.1) }, trainer.state)
        try writeManifest(&manifest, prepared, directory)
    }

    /// What the run follows from, compared with what it began with.
    ///
    /// - Throws: `RunError.inputsChanged` with the files that differ.
    private func inputs(_ manifest: inout RunManifest, equalTo earlier: RunInputs) throws -> RunInputs {
        let inputs = try RunInputs(recipe, manifest: &manifest)
        let differences = inputs.differences(from: earlier)
        guard differences.isEmpty else {
            throw RunError.inputsChanged(path: recipe.output, differences: differences)
        }
        return inputs
    }

    // MARK: during the run

    private func write(_ event: TrainerEvent, to log: inout RunLog, totalSteps: Int) throws {
        switch event {
        case .rejected, .restarted, .scoring: return
        default: break
        }
        let log = try log.opened(for: event)
        switch event {
        case .step(let step):
            guard step.step % max(1, recipe.training.logEvery) == 0 || step.step == totalSteps else { return }
            try log.append(
                StepMetrics(
                    step: step.step, loss: step.loss, learningRate: step.learningRate, gradNorm: step.gradientNorm,
                    tokens: step.tokens, trainedTokens: step.trainedTokens,
                    tokensPerSecond: Double(step.tokens) / max(step.seconds, 1e-9),
                    peakRSSBytes: step.peakResidentBytes,
                    elapsedSeconds: step.elapsedSeconds, metrics: step.metrics))
        case .evaluated(let metrics): try log.append(metrics)
        case .skipped(let step, let rows, let detail):
            try log.append(
                JSONObject([
                    ("step", .integer(step)), ("skipped", .bool(true)), ("reason", .string(detail)),
                    ("rows", .array(rows.map { .integer($0 + 1) })),
                ]))
        case .saved: try log.synchronize()
        case .resumed, .rejected, .restarted, .scoring: break
        }
    }

    /// What the model makes of the samples' prompts.
    private func answers(
        _ model: DecoderModel, _ samples: [TrainingData.Sample], _ data: TrainingData
    ) throws -> [String] {
        guard !samples.isEmpty, let decode = data.decode else { return [] }
        var options = GenerationOptions()
        options.maxTokens = TrainingData.Sample.affordableTokens(model, samples: samples.count)
        options.stopTokens = data.stopTokens
        options.stopsOnRequest = true
        let made = model.generate(prompts: samples.map(\.prompt), options: options, pool: pool)
        try StopRequest.check()
        return made.map { decode($0.tokens) }
    }
}

/// The log of a run, which goes on without it where it cannot be written.
private struct RunLog {
    let path: String
    private var log: MetricsLog?
    /// The step that is gone on from.
    private var step = 0
    private var hasFailed = false

    init(path: String) { self.path = path }

    /// What comes before a resume must not begin the log anew.
    mutating func opened(for event: TrainerEvent) throws -> MetricsLog {
        if let log { return log }
        if case .resumed(let last, _) = event { step = last }
        let opened = try MetricsLog(path: path, keepingThrough: step)
        log = opened
        return opened
    }

    /// Notes that the log could not be written; true the first time.
    mutating func fail() -> Bool {
        defer { hasFailed = true }
        return !hasFailed
    }

    func close() { try? log?.synchronize() }
}

extension Recipe {
    /// Whether there are weights to read.
    var startsFromFolder: Bool {
        if case .folder = model { true } else { false }
    }

    /// The folder whose tokenizer turns rows into ids; nil when a model is made without one.
    public var tokenizerFolder: String? {
        switch model {
        case .folder(let path): path
        case .initial(_, let tokenizer): tokenizer
        }
    }
}
