public import FileFormats
import Foundation
public import TensorCore
public import TextData

/// A recipe made ready: everything is checked that can be checked before the first step, and nothing is written.
public struct PreparedRun {
    public let recipe: Recipe
    public let config: ModelConfig
    public let dtype: DType
    /// Tokenizer and chat template; nil for a model folder without, which serves pre-tokenised rows.
    public let text: TextResources?
    public let train: ExampleSet
    public let eval: ExampleSet
    /// Nil for `method: full`.
    public let adapter: AdapterConfig?
    /// Modules with an adapter, and parameters that learn.
    public let moduleCount: Int
    public let trainableCount: Int
    public let memory: MemoryPlan
    public let stepsPerEpoch: Int
    public let totalSteps: Int

    /// - Parameters:
    ///   - threads: threads that will compute; only the memory estimate depends on it.
    ///   - precision: takes the place of the recipe's.
    ///   - progress: told about each file before it is read.
    /// - Throws: what reading the model's configuration, the tokenizer or the rows throws;
    ///   `FineTuningError.badRecipe` for a recipe that the model or the data cannot serve.
    public init(
        _ recipe: Recipe, threads: Int, precision: DType? = nil, progress: (String) -> Void = { _ in }
    ) throws {
        self.recipe = recipe
        switch recipe.model {
        case .folder(let folder):
            guard FileManager.default.fileExists(atPath: folder) else {
                throw FileError.missing(path: folder, what: "model folder")
            }
            config = try ModelConfig(path: folder)
            text = try TextResources(ifPresentAt: folder)
        case .initial(let path, let tokenizer):
            config = try ModelConfig(path: path)
            text = try tokenizer.map { try TextResources(path: $0) }
        }
        dtype = precision ?? Self.precision(recipe.training.precision, config)
        adapter = try Self.adapter(recipe)

        let modules = ParameterTable(config).linearModules.map { ($0.name, $0.outputWidth, $0.inputWidth) }
            + [(ParameterTable.headModule, config.vocabularySize, config.hiddenSize)]
        if let adapter {
            let targeted = modules.filter { adapter.targets($0.0) }
            moduleCount = targeted.count
            trainableCount = targeted.reduce(0) { $0 + adapter.rankAndAlpha(of: $1.0).rank * ($1.1 + $1.2) }
        } else {
            moduleCount = 0
            trainableCount = config.parameterCount
        }

        let loader = ExampleLoader(recipe: recipe, config: config, text: text)
        train = try loader.load(recipe.data.train, weighted: true, progress: progress)
        eval = try loader.load(recipe.data.eval, weighted: false, progress: progress)
        guard !train.examples.isEmpty else {
            throw FineTuningError.badInput(["data.train gives no examples: every row was dropped or had weight 0"])
        }
        stepsPerEpoch = Trainer.stepsPerEpoch(rows: train.examples.count, batchSize: recipe.training.batchSize)
        switch recipe.training.length {
        case .steps(let steps): totalSteps = steps
        case .epochs(let epochs): totalSteps = max(1, Int((Double(stepsPerEpoch) * epochs).rounded(.up)))
        }
        let rowsPerStep = min(recipe.training.batchSize, train.examples.count)
        memory = MemoryPlan(
            .init(
                config: config, dtype: dtype, threads: threads, trainableCount: trainableCount,
                trainsBase: adapter == nil, longestRow: max(train.longest, eval.longest),
                stepTokens: train.tokens / train.examples.count * rowsPerStep,
                limitBytes: ProcessMemory.limitBytes),
            microbatch: recipe.training.microbatchTokens, checkpointing: recipe.training.activationCheckpointing)
    }

    /// bf16 where the processor multiplies it fast and the model is large enough to gain from it.
    private static func precision(_ choice: Recipe.Training.Precision, _ config: ModelConfig) -> DType {
        switch choice {
        case .f32: .f32
        case .bf16: .bf16
        case .auto: hasFastBF16 && config.parameterCount >= smallModel ? .bf16 : .f32
        }
    }

    /// Below this many parameters a model trains in f32 by default: it costs little, and rounding matters more.
    private static let smallModel = 32_000_000

    private static func adapter(_ recipe: Recipe) throws -> AdapterConfig? {
        guard recipe.adapter.method == .lora else { return nil }
        if let folder = recipe.adapter.initFrom {
            guard FileManager.default.fileExists(atPath: folder) else {
                throw FileError.missing(path: folder, what: "adapter folder")
            }
            var config = try AdapterConfig(folder: folder)
            config.dropout = recipe.adapter.dropout
            return config
        }
        let targets: AdapterTargets =
            switch recipe.adapter.targets {
            case .allLinear: .allLinear
            case .names(let names): .names(names)
            case .pattern(let pattern): .pattern(pattern)
            }
        let base: String =
            switch recipe.model {
            case .folder(let path): path
            case .initial(let path, _): path
            }
        return AdapterConfig(
            rank: recipe.adapter.rank, alpha: recipe.adapter.alpha, dropout: recipe.adapter.dropout, targets: targets,
            baseModel: base)
    }

    /// The settings of the trainer.
    ///
    /// - Parameter microbatchTokens: of the checkpoint to be resumed, so that sums keep their order.
    func trainerSettings(run: RunDirectory, microbatchTokens: Int?) -> TrainerSettings {
        let training = recipe.training
        let warmup = Int((Double(totalSteps) * training.warmupRatio).rounded(.up))
        let shape: LearningRateSchedule.Shape =
            switch training.schedule {
            case .constant: .constant
            case .linear: .linear
            case .cosine: .cosine
            }
        var settings = TrainerSettings(
            totalSteps: totalSteps, batchSize: training.batchSize,
            microbatchTokens: microbatchTokens ?? memory.microbatchTokens,
            schedule: LearningRateSchedule(
                shape: shape, peak: training.learningRate, warmupSteps: warmup, totalSteps: totalSteps))
        settings.optimizer.beta1 = training.optimizer.beta1
        settings.optimizer.beta2 = training.optimizer.beta2
        settings.optimizer.eps = training.optimizer.epsilon
        settings.optimizer.weightDecay = training.optimizer.weightDecay
        settings.maxGradNorm = training.maxGradNorm
        settings.checkpointsActivations = memory.checkpointsActivations
        settings.dropout = adapter == nil ? 0 : recipe.adapter.dropout
        settings.shuffles = recipe.data.shuffle
        settings.seed = training.seed
        settings.evalEvery = training.evalEvery.stride(ofRun: totalSteps)
        settings.saveEvery = training.saveEvery.stride(ofRun: totalSteps)
        settings.checkpointFolder = run.checkpointsPath
        settings.fingerprint = fingerprint
        return settings
    }

    /// What a checkpoint has to agree with: everything that decides the result, but where it goes and who is told.
    private var fingerprint: String {
        var essential = recipe
        essential.output = ""
        essential.path = ""
        essential.training.logEvery = 1
        essential.training.evalEvery = .never
        essential.training.saveEvery = .never
        let parts = [essential.resolvedYAML, train.hash, "\(dtype)", "\(totalSteps)"]
        return sha256(Array(parts.joined(separator: "\n").utf8))
    }

    /// The model with random or read weights, and the adapters on it.
    func makeModel() throws -> DecoderModel {
        let training: BaseTraining = adapter == nil ? .all : .frozen
        let model: DecoderModel
        switch recipe.model {
        case .folder(let folder): model = try DecoderModel(folder: folder, dtype: dtype, training: training)
        case .initial: model = DecoderModel(
            initialising: config, dtype: dtype, seed: recipe.training.seed, training: training)
        }
        if let adapter {
            if let folder = recipe.adapter.initFrom {
                try model.attachAdapter(folder: folder)
            } else {
                try model.attachNewAdapters(adapter, seed: recipe.training.seed)
            }
        }
        return model
    }
}
