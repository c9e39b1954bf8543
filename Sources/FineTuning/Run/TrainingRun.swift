public import FileFormats
import Foundation
public import TensorCore
import TextData

/// What a run tells while it goes on, beside the trainer's events.
public enum RunEvent {
    case stage(String)
    case trainer(TrainerEvent, totalSteps: Int)
}

/// What a finished run came to.
public struct RunSummary: Sendable {
    public var path: String
    /// The adapter folder, or the model folder of a full fine-tuning.
    public var artefactPath: String
    public var steps: Int
    public var firstLoss: Double?
    public var lastLoss: Double?
    public var evalLossBefore: Double?
    public var evalLossAfter: Double?
    public var tokens: Int
    public var trainedTokens: Int
    public var seconds: Double
    public var tokensPerSecond: Double
    public var peakResidentBytes: Int

    public var json: JSONValue {
        func number(_ value: Double?) -> JSONValue { value.flatMap { $0.isFinite ? .double($0) : nil } ?? .null }
        return .object(
            JSONObject([
                ("run", .string(path)), ("artefact", .string(artefactPath)), ("steps", .integer(steps)),
                ("first_loss", number(firstLoss)), ("last_loss", number(lastLoss)),
                ("eval_loss_before", number(evalLossBefore)), ("eval_loss_after", number(evalLossAfter)),
                ("tokens", .integer(tokens)), ("trained_tokens", .integer(trainedTokens)),
                ("seconds", number(seconds)), ("tokens_per_second", number(tokensPerSecond)),
                ("peak_rss_bytes", .integer(peakResidentBytes)),
            ]))
    }
}

extension PreparedRun {
    /// Trains, and fills the run directory.
    ///
    /// - Parameters:
    ///   - resume: go on with the run that stands in the recipe's output.
    ///   - shouldStop: asked after each step; true saves a checkpoint and ends with `FineTuningError.stopped`.
    /// - Throws: `FineTuningError`, `RunError`, `FileError`.
    public func execute(
        resume: Bool, pool: WorkerPool, shouldStop: () -> Bool = { false }, report: (RunEvent) -> Void = { _ in }
    ) throws -> RunSummary {
        guard memory.fits else { throw RunError.notEnoughMemory(memory.refusal()) }
        report(.stage("loading the model"))
        // Before the folder is made: a base that cannot be read leaves no trace.
        let model = try makeModel()
        let run = try RunDirectory(path: recipe.output, resume: resume)
        try run.settle(recipe)

        let samples = text.map {
            SampleAnswers(eval.examples.isEmpty ? train : eval, text: $0, config: config, dtype: dtype)
        }
        report(.stage("sampling answers before the training"))
        let before = samples?.answers(model, pool: pool) ?? []

        let saved = run.isResumed ? Trainer.savedMicrobatchTokens(in: run.checkpointsPath) : nil
        let settings = trainerSettings(run: run, microbatchTokens: saved)
        let trainer = Trainer(model: model, train: train.examples, eval: eval.examples, settings: settings, pool: pool)
        let recorder = RunRecorder(run: run, logEvery: recipe.training.logEvery, totalSteps: totalSteps)
        if saved == nil, settings.evalEvery != nil, !eval.examples.isEmpty {
            // The trainer evaluates after steps; this is where the run begins.
            report(.stage("evaluating before the training"))
            let start = meanLoss(model, eval.examples, microbatchTokens: settings.microbatchTokens, pool: pool)
            try recorder.record(.evaluated(step: 0, loss: start.loss, tokens: start.tokens))
        }
        report(.stage("training"))
        try trainer.run(resume: run.isResumed, shouldStop: shouldStop) { event in
            try recorder.record(event)
            report(.trainer(event, totalSteps: totalSteps))
        }
        try recorder.close()

        report(.stage("sampling answers after the training"))
        let after = samples?.answers(model, pool: pool) ?? []
        report(.stage("writing \(adapter == nil ? "the model" : "the adapter"), the report and the manifest"))
        let artefact = try writeArtefact(model, run)
        let summary = try recorder.summary(artefact: artefact, state: trainer.state)
        try writeReport(summary, run: run, samples: samples?.samples(before: before, after: after) ?? [])
        try writeManifest(run: run, artefact: artefact)
        return summary
    }

    // MARK: what a run leaves

    private func writeArtefact(_ model: DecoderModel, _ run: RunDirectory) throws -> String {
        let path = adapter == nil ? run.modelPath : run.adapterPath
        let folder = try AtomicFolder(path: path, replacing: true)
        if let adapter {
            try AdapterFile.write(model, config: adapter, into: folder.temporaryPath)
            try text?.copy(into: folder.temporaryPath, except: ["generation_config.json"])
        } else {
            try ModelFolder.write(model, into: folder.temporaryPath)
            try text?.copy(into: folder.temporaryPath)
        }
        try folder.commit()
        return path
    }

    private func writeReport(_ summary: RunSummary, run: RunDirectory, samples: [RunReport.Sample]) throws {
        var report = RunReport(
            title: "graft run \(run.path.split(separator: "/").last.map(String.init) ?? run.path)",
            recipe: recipe.resolvedYAML)
        func loss(_ value: Double?) -> String { value.map { String(format: "%.4f", $0) } ?? "–" }
        report.facts = [
            ("Model", "\(config.family.rawValue), \(config.parameterCount) parameters"),
            ("Method", adapter.map { "LoRA, rank \($0.rank), alpha \($0.alpha), \(moduleCount) modules" } ?? "full"),
            ("Parameters that learn", "\(trainableCount)"),
            ("Precision", "\(dtype)"),
            ("Steps", "\(summary.steps)"),
            ("Loss, first and last step", "\(loss(summary.firstLoss)) → \(loss(summary.lastLoss))"),
            ("Evaluation loss, first and last", "\(loss(summary.evalLossBefore)) → \(loss(summary.evalLossAfter))"),
            ("Tokens a second", String(format: "%.0f", summary.tokensPerSecond)),
            ("Time", String(format: "%.1f s", summary.seconds)),
            ("Peak memory", "\(summary.peakResidentBytes >> 20) MiB"),
        ]
        try report.addCurves(fromLog: run.metricsPath)
        report.tables = [.init(title: "Training rows", rows: train.table)]
        if !eval.sources.isEmpty { report.tables.append(.init(title: "Evaluation rows", rows: eval.table)) }
        report.samples = samples
        try report.write(to: run.reportPath)
    }

    private func writeManifest(run: RunDirectory, artefact: String) throws {
        var manifest = RunManifest(recipe: recipe, precision: "\(dtype)")
        manifest.versions += [("instruction_set", instructionSet), ("matrix_library", matmulLibrary)]
        switch recipe.model {
        case .folder(let folder): try manifest.hashBase(folder: folder)
        case .initial(let path, _):
            manifest.basePath = path
            manifest.base = [try .init(path: path, name: "config.json")]
            manifest.tokenizer = try (text?.files ?? []).map { try .init(path: $0.path, name: $0.name) }
        }
        manifest.templateHash = text?.template == nil ? nil : text?.templateHash
        manifest.data = try Set(train.sources.map(\.path)).sorted().map { try .init(path: $0) }
        manifest.evalData = try Set(eval.sources.map(\.path)).sorted().map { try .init(path: $0) }
        manifest.steps = totalSteps
        let folder = artefact.split(separator: "/").last.map(String.init) ?? ""
        for name in try FileManager.default.contentsOfDirectory(atPath: artefact).sorted() {
            manifest.outputs.append(try .init(path: artefact + "/" + name, name: folder + "/" + name))
        }
        try manifest.write(to: run.manifestPath)
    }
}

/// Writes the trainer's events into the metrics log, and remembers what the summary needs.
private final class RunRecorder {
    private let run: RunDirectory
    private let logEvery: Int
    private let totalSteps: Int
    private var log: MetricsLog?
    private var seconds = 0.0
    private var tokens = 0

    init(run: RunDirectory, logEvery: Int, totalSteps: Int) {
        self.run = run
        self.logEvery = logEvery
        self.totalSteps = totalSteps
    }

    /// Opened with the first event, which says at which step the run goes on.
    private func openLog(resumedAt step: Int) throws -> MetricsLog {
        if let log { return log }
        let opened = try MetricsLog(path: run.metricsPath, keepingThrough: step)
        log = opened
        return opened
    }

    func record(_ event: TrainerEvent) throws {
        switch event {
        case .resumed(let step, _): _ = try openLog(resumedAt: step)
        case .rejected: break
        case .step(let step):
            seconds += step.seconds
            tokens += step.tokens
            guard step.step % logEvery == 0 || step.step == totalSteps || step.step == 1 else { return }
            try openLog(resumedAt: -1).append(
                StepMetrics(
                    step: step.step, loss: step.loss, learningRate: step.learningRate, gradNorm: step.gradientNorm,
                    tokens: step.tokens, trainedTokens: step.trainedTokens,
                    tokensPerSecond: Double(step.tokens) / max(1e-9, step.seconds),
                    peakRSSBytes: step.peakResidentBytes, elapsedSeconds: step.elapsedSeconds))
        case .skipped(let step, let rows, let detail):
            try openLog(resumedAt: -1).append(
                JSONObject([
                    ("step", .integer(step)), ("skipped", .string(detail)),
                    ("rows", .array(rows.map { .integer($0 + 1) })),
                ]))
        case .evaluated(let step, let loss, let tokens):
            try openLog(resumedAt: -1).append(
                EvalMetrics(step: step, loss: loss, trainedTokens: tokens, elapsedSeconds: seconds))
        case .saved: try log?.synchronize()
        }
    }

    func close() throws {
        _ = try openLog(resumedAt: totalSteps)
        try log?.synchronize()
    }

    func summary(artefact: String, state: TrainerState) throws -> RunSummary {
        let lines = try MetricsLog.read(run.metricsPath)
        let losses = lines.compactMap { $0["loss"]?.doubleValue }
        let evals = lines.compactMap { $0["eval_loss"]?.doubleValue }
        return RunSummary(
            path: run.path, artefactPath: artefact, steps: state.step, firstLoss: losses.first, lastLoss: losses.last,
            evalLossBefore: evals.first, evalLossAfter: evals.last, tokens: state.tokens,
            trainedTokens: state.trainedTokens, seconds: state.elapsedSeconds,
            tokensPerSecond: Double(state.tokens) / max(1e-9, state.elapsedSeconds),
            peakResidentBytes: ProcessMemory.peakResidentBytes)
    }
}
