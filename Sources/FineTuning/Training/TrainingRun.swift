import FileFormats
import Foundation
public import TensorCore
internal import TextData

/// A recipe turned into a run directory.
public final class TrainingRun {
    /// What a run tells while it goes.
    public enum Event {
        case prepared(Summary)
        case trainer(TrainerEvent)
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
        /// What is right but worth knowing of the rows, each with what they are for.
        public var warnings: [String]

        /// Whether experts have to be dropped and read again while the run goes.
        public var readsExpertsAgain: Bool { idleExpertBytes > 0 && memoryBytes > memoryLimit ?? .max }
    }

    public let recipe: Recipe
    public let pool: WorkerPool

    private let reader: ModelReader

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
        public let settings: TrainerSettings
        public let summary: Summary
    }

    /// Reads model, adapter and data and settles what the recipe leaves to graft; trains nothing, writes nothing.
    ///
    /// - Throws: every module's errors; `FineTuningError.badRecipe` for settings that do not go together.
    public func prepare() throws -> Prepared {
        let config = try modelConfig()
        let data = try TrainingData.load(recipe, config: config)
        guard !data.train.isEmpty else { throw FineTuningError.badInput(["data.train has no rows"]) }
        let dtype = try precision()
        let longest = (data.train + data.eval).reduce(1) { max($0, $1.tokenCount) }
        let teacherConfig = try teacherConfig()
        try checkMemory(config, teacher: teacherConfig, dtype: dtype, longest: longest)
        let model = try makeModel(config, dtype)
        let adapter = try attachAdapter(model, data.train)
        let teacher = try makeTeacher(for: model, dtype)
        var plan = MemoryPlan(
            config, dtype: dtype, trainableCount: model.trainableWeights.reduce(0) { $0 + $1.shape.reduce(1, *) },
            threads: pool.count, quantization: recipe.training.quantization)
        if let frozen = try frozenBytes(dtype) { (plan.weightBytes, plan.idleExpertBytes) = (frozen, 0) }
        if let updates = model.attached?.plan.updates { plan.add(magnitudesOf: updates, dtype: dtype) }
        if let teacherConfig { plan.add(teacher: teacherConfig, dtype: dtype) }
        let tokens = data.train.reduce(0) { $0 + $1.tokenCount }
        try checkMemory(plan, config, dtype: dtype, longest: longest, tokens: tokens)
        let settings = makeSettings(data, plan, adapter, parameters: config.parameterCount)
        let sizes = settings.microbatchSizes(data.train.map(\.tokenCount))
        plan.variesInLength = sizes.smallest < sizes.largest / 5 * 4
        let trainable = model.trainableWeights.reduce(0) { $0 + $1.shape.reduce(1, *) }
        let summary = Summary(
            parameters: config.parameterCount, trainableParameters: trainable, trainRows: data.train.count,
            evalRows: data.eval.count, trainTokens: tokens,
            trainedTokens: data.train.reduce(0) { $0 + $1.trainedCount + ($1.rejected?.trainedCount ?? 0) },
            steps: settings.totalSteps,
            precision: dtype == .bf16 ? "bf16" : "f32", microbatchTokens: settings.microbatchTokens,
            recomputedBlocks: settings.recomputedBlocks,
            memoryBytes: plan.peakBytes(
                microbatchTokens: sizes.largest, recomputed: settings.recomputedBlocks),
            idleExpertBytes: plan.idleExpertBytes,
            memoryLimit: recipe.training.memoryBytes ?? ProcessMemory.limitBytes,
            statistics: data.statistics.map { "\($0.name): \($0.value)" },
            warnings: data.statistics.filter { $0.name.hasSuffix(" warning") }.map {
                "\($0.name.dropLast(" warning".count)) rows: \($0.value)"
            })
        return Prepared(
            model: model, adapter: adapter, teacher: teacher, data: data, settings: settings, summary: summary)
    }

    /// Trains and writes the run directory.
    ///
    /// - Parameter profiling: measure the steps by operation and write `profile.json`.
    /// - Throws: as `prepare`, and `FineTuningError.stopped` when `shouldStop` said so.
    public func execute(
        resume: Bool, profiling: Bool = false, shouldStop: () -> Bool = { false }, report: (Event) -> Void = { _ in }
    ) throws {
        var profile = profiling ? TrainingProfile() : nil
        let prepared = try prepare()
        let directory = try RunDirectory(path: recipe.output, resume: resume)
        try directory.settle(recipe)
        let (model, settings) = (prepared.model, prepared.settings)
        report(.prepared(prepared.summary))
        let samples = Array(prepared.data.samples.prefix(4))
        let before = answers(model, samples, prepared.data)
        let trainer = Trainer(
            model: model, teacher: prepared.teacher, train: prepared.data.train, eval: prepared.data.eval,
            settings: settings, pool: pool)
        var log: MetricsLog?
        try trainer.run(resume: resume, shouldStop: shouldStop) { event in
            // What comes before a resume must not begin the log anew.
            if case .scoring = event { return report(.trainer(event)) }
            if case .resumed(let step, _) = event {
                log = try MetricsLog(path: directory.metricsPath, keepingThrough: step)
            } else if log == nil {
                log = try MetricsLog(path: directory.metricsPath)
            }
            try self.write(event, to: log!, totalSteps: settings.totalSteps)
            report(.trainer(event))
            if case .step(let step) = event { profile?.add(step, self.pool) }
        }
        try log?.synchronize()
        if var profile {
            profile.finish(model.dtype, pool)
            let text = JSONWriter.text(.object(profile.json), .pretty) + "\n"
            try AtomicFile.write(Array(text.utf8), to: directory.profilePath)
            report(.profiled(profile))
        }
        try writeResult(prepared, directory)
        let after = answers(model, samples, prepared.data)
        try writeReport(prepared, directory, zip(samples, zip(before, after)).map { ($0, $1.0, $1.1) }, trainer.state)
        try writeManifest(prepared, directory)
    }

    // MARK: before the first step

    private func modelConfig() throws -> ModelConfig {
        switch recipe.model {
        case .folder(let path): try reader.config(path)
        case .initial(let config, _): try ModelConfig(path: config)
        }
    }

    /// What the frozen base takes in memory, where its reader knows better than its configuration.
    func frozenBytes(_ dtype: DType) throws -> Int? {
        guard case .folder(let path) = recipe.model, recipe.adapter.method == .lora else { return nil }
        return try reader.frozenBytes(path, dtype)
    }

    private func precision() throws -> DType {
        switch recipe.training.precision {
        case .f32: return .f32
        case .auto: return hasFastBF16 ? .bf16 : .f32
        case .bf16:
            guard supportsBF16Products else {
                throw FineTuningError.badRecipe(["training.precision: bf16 needs oneDNN and a processor with AVX512; here \(matmulLibrary) has f32 only"])
            }
            return .bf16
        }
    }

    private func makeModel(_ config: ModelConfig, _ dtype: DType) throws -> DecoderModel {
        let training: BaseTraining = recipe.adapter.method == .full ? .all : .frozen
        let quantization = recipe.training.quantization
        if quantization != .none, training == .all || !recipe.startsFromFolder {
            throw FineTuningError.badRecipe([
                "training.quantization: \(quantization.rawValue) is for the frozen base of adapter.method: lora, and for a "
                    + "model folder"
            ])
        }
        switch recipe.model {
        case .folder(let path): return try reader.model(path, dtype, training, quantization, pool)
        case .initial:
            return DecoderModel(initialising: config, dtype: dtype, seed: recipe.training.seed, training: training, pool: pool)
        }
    }

    private func attachAdapter(_ model: DecoderModel, _ data: [TokenizedExample]) throws -> AdapterConfig? {
        guard recipe.adapter.method == .lora else { return nil }
        var base: String?
        if case .folder(let path) = recipe.model { base = HubCache.repository(ofFolder: path) ?? path }
        if let folder = recipe.adapter.initFrom {
            var config = try model.attachAdapter(folder: folder)
            config.baseModel = config.baseModel ?? base
            config.dropout = recipe.adapter.dropout
            return config
        }
        var problems: [String] = []
        var config = recipe.adapter.config(baseModel: base, problems: &problems)
        guard problems.isEmpty else { throw FineTuningError.badRecipe(problems.map { "adapter." + $0 }) }
        let directions = config.initialization == .eva
            ? try EVA(model: model, config: config, pool: pool).directions(data, seed: recipe.training.seed, &config)
            : []
        try model.attachNewAdapters(config, seed: recipe.training.seed, pool: pool, directions: directions)
        return config
    }

    private func makeSettings(
        _ data: TrainingData, _ plan: MemoryPlan, _ adapter: AdapterConfig?, parameters: Int
    ) -> TrainerSettings {
        let training = recipe.training
        let perEpoch = Trainer.stepsPerEpoch(rows: data.train.count, batchSize: training.batchSize)
        let total =
            switch training.length {
            case .steps(let steps): steps
            case .epochs(let epochs): max(1, Int((epochs * Double(perEpoch)).rounded(.up)))
            }
        let longest = data.train.reduce(1) { max($0, $1.tokenCount) }
        let recomputed: Int? =
            switch training.activationCheckpointing {
            case .on: plan.layerCount
            case .off: 0
            case .auto: nil
            }
        let checkpoints = recipe.output + "/checkpoints"
        var tokens = Trainer.savedMicrobatchTokens(in: checkpoints)
        if case .tokens(let count) = training.microbatchTokens { tokens = count }
        // Left to graft, half of the memory: the rest of the machine needs some, and the estimate is one.
        let budget = training.memoryBytes ?? (ProcessMemory.limitBytes ?? 8 << 30) / 2
        let choice = plan.choice(budget: budget, longest: longest, tokens: tokens, recomputed: recomputed)
        var settings = TrainerSettings(
            totalSteps: total, batchSize: training.batchSize, microbatchTokens: choice.microbatchTokens,
            schedule: LearningRateSchedule(
                shape: LearningRateSchedule.Shape(rawValue: training.schedule.rawValue)!, peak: training.learningRate,
                warmupSteps: training.schedule == .constant ? 0 : Int((training.warmupRatio * Double(total)).rounded(.up)),
                totalSteps: total))
        settings.optimizer.beta1 = training.optimizer.beta1
        settings.optimizer.beta2 = training.optimizer.beta2
        settings.optimizer.eps = training.optimizer.epsilon
        settings.optimizer.weightDecay = training.optimizer.weightDecay
        settings.loraPlus = recipe.adapter.loraPlusRatio.map {
            LoRAPlus(
                ratio: $0,
                embeddingFactor: recipe.adapter.loraPlusEmbeddingRate / max(training.learningRate, .leastNormalMagnitude))
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

    // MARK: during the run

    private func write(_ event: TrainerEvent, to log: MetricsLog, totalSteps: Int) throws {
        switch event {
        case .step(let step):
            guard step.step % max(1, recipe.training.logEvery) == 0 || step.step == totalSteps else { return }
            try log.append(
                StepMetrics(
                    step: step.step, loss: step.loss, learningRate: step.learningRate, gradNorm: step.gradientNorm,
                    tokens: step.tokens, trainedTokens: step.trainedTokens,
                    tokensPerSecond: Double(step.tokens) / max(step.seconds, 1e-9), peakRSSBytes: step.peakResidentBytes,
                    elapsedSeconds: step.elapsedSeconds, metrics: step.metrics))
        case .evaluated(let metrics): try log.append(metrics)
        case .skipped(let step, let rows, let detail):
            try log.append(
                JSONObject([
                    ("step", .integer(step)), ("skipped", .bool(true)), ("reason", .string(detail)),
                    ("rows", .array(rows.map { .integer($0 + 1) })),
                ]))
        case .saved: try log.synchronize()
        case .resumed, .rejected, .scoring: break
        }
    }

    /// What the model makes of the samples' prompts.
    private func answers(_ model: DecoderModel, _ samples: [TrainingData.Sample], _ data: TrainingData) -> [String] {
        guard !samples.isEmpty, let decode = data.decode else { return [] }
        var options = GenerationOptions()
        options.maxTokens = TrainingData.Sample.affordableTokens(model, samples: samples.count)
        options.stopTokens = data.stopTokens
        return model.generate(prompts: samples.map(\.prompt), options: options, pool: pool).map { decode($0.tokens) }
    }

    // MARK: after the last step

    private func writeResult(_ prepared: Prepared, _ directory: RunDirectory) throws {
        let isAdapter = prepared.adapter != nil
        let folder = try AtomicFolder(
            path: isAdapter ? directory.adapterPath : directory.modelPath, replacing: true)
        if let adapter = prepared.adapter {
            try AdapterFile.write(prepared.model, config: adapter, into: folder.temporaryPath)
        } else {
            try prepared.model.writeFolder(folder.temporaryPath, dtype: prepared.model.dtype)
        }
        if let source = recipe.tokenizerFolder { try copyTokenizerFiles(from: source, to: folder.temporaryPath) }
        try folder.commit()
    }

    private func writeReport(
        _ prepared: Prepared, _ directory: RunDirectory, _ samples: [(TrainingData.Sample, String, String)],
        _ state: TrainerState
    ) throws {
        let name = URL(fileURLWithPath: recipe.output).lastPathComponent
        var report = RunReport(title: name, recipe: recipe.resolvedYAML)
        let summary = prepared.summary
        func number(_ value: Double, _ digits: Int) -> String { String(format: "%.\(digits)f", value) }
        report.facts = [
            ("Parameters", "\(summary.parameters)"), ("Trained parameters", "\(summary.trainableParameters)"),
            ("Steps", "\(state.step)"), ("Tokens", "\(state.tokens)"), ("Trained tokens", "\(state.trainedTokens)"),
            ("Precision", summary.precision), ("Time", number(state.elapsedSeconds, 1) + " s"),
            ("Tokens a second", number(Double(state.tokens) / max(state.elapsedSeconds, 1e-9), 0)),
        ]
        if let best = state.bestEvalLoss { report.facts.append(("Best evaluation loss", number(best, 4))) }
        try report.addCurves(fromLog: directory.metricsPath)
        report.tables = [
            .init(title: "Data", rows: [["what", "value"]] + prepared.data.statistics.map { [$0.name, $0.value] })
        ]
        report.samples = samples.map {
            RunReport.Sample(prompt: $0.0.promptText, expected: $0.0.expected, before: $0.1, after: $0.2)
        }
        try report.write(to: directory.reportPath)
    }

    private func writeManifest(_ prepared: Prepared, _ directory: RunDirectory) throws {
        var manifest = RunManifest(recipe: recipe, precision: prepared.summary.precision)
        manifest.versions += [("products", matmulLibrary), ("instruction set", instructionSet)]
        if case .folder(let path) = recipe.model { try manifest.hashBase(folder: path) }
        manifest.templateHash = prepared.data.template.map { sha256(Array($0.utf8)) }
        manifest.data = try prepared.data.trainFiles.map { try .init(path: $0) }
        manifest.evalData = try prepared.data.evalFiles.map { try .init(path: $0) }
        manifest.steps = prepared.settings.totalSteps
        let result = prepared.adapter == nil ? "model" : "adapter"
        for name in try FileManager.default.contentsOfDirectory(atPath: recipe.output + "/" + result).sorted() {
            manifest.outputs.append(
                try .init(path: recipe.output + "/" + result + "/" + name, name: result + "/" + name))
        }
        try manifest.write(to: directory.manifestPath)
    }
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
