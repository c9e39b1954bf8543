import FileFormats
import TensorCore
public import TextData

extension TrainingRun {
    /// Reads model, adapter and data and settles what the recipe leaves to graft; trains nothing, writes nothing.
    ///
    /// - Parameters:
    ///   - day: what templates are told that ask for the time; nil for today.
    ///   - planning: whether it is only looked at: ids that the embedding has no row for are then a warning.
    /// - Throws: every module's errors; `FineTuningError.badRecipe` for settings that do not go together.
    public func prepare(day: CivilTime? = nil, planning: Bool = false) throws -> Prepared {
        let config = try modelConfig()
        let data = try TrainingData.load(recipe, config: config, day: day ?? .today, planning: planning)
        guard !data.train.isEmpty else { throw FineTuningError.badInput(["data.train has no rows"]) }
        let dtype = try precision()
        let longest = (data.train + data.eval).reduce(1) { max($0, $1.tokenCount) }
        let teacherConfig = try teacherConfig()
        try checkMemory(config, teacher: teacherConfig, dtype: dtype, longest: longest)
        let model = try makeModel(config, dtype)
        let adapter = try attachAdapter(model, planning ? data.train.filter(config.hasRows(for:)) : data.train)
        let teacher = try makeTeacher(for: model, dtype, data)
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
        let rows = (data.train + data.eval).lazy.map(\.longest)
        let modelNotes =
            model.config.notes
            + [config.contextNote(rows, of: "examples"), config.missingRowsNote(data.train + data.eval)].compactMap {
                $0
            }
        var summary = Summary(
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
            disk: diskPlan(model, adapter, trainable: trainable, steps: settings.totalSteps),
            presentDiskBytes: 0, freeDiskBytes: freeBytes(at: recipe.output),
            warnings: data.statistics.filter { $0.name.hasSuffix(" warning") }.map {
                "\($0.name.dropLast(" warning".count)) rows: \($0.value)"
            } + modelNotes, modelNotes: modelNotes)
        summary.presentDiskBytes = settings.checkpointFolder.map(summary.disk.presentBytes) ?? 0
        return Prepared(
            model: model, adapter: adapter, teacher: teacher, data: data, settings: settings, summary: summary)
    }

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
                throw FineTuningError.badRecipe([
                    "training.precision: bf16 needs oneDNN and a processor with AVX512; here \(matmulLibrary) has f32 "
                        + "only"
                ])
            }
            return .bf16
        }
    }

    private func makeModel(_ config: ModelConfig, _ dtype: DType) throws -> DecoderModel {
        let training: BaseTraining = recipe.adapter.method == .full ? .all : .frozen
        let quantization = recipe.training.quantization
        if quantization != .none, training == .all || !recipe.startsFromFolder {
            throw FineTuningError.badRecipe([
                "training.quantization: \(quantization.rawValue) is for the frozen base of adapter.method: lora, and "
                    + "for a model folder"
            ])
        }
        switch recipe.model {
        case .folder(let path): return try reader.model(path, dtype, training, quantization, pool)
        case .initial:
            return DecoderModel(
                initialising: config, dtype: dtype, seed: recipe.training.seed, training: training, pool: pool)
        }
    }

    private func attachAdapter(_ model: DecoderModel, _ data: [TokenizedExample]) throws -> AdapterConfig? {
        guard recipe.adapter.method == .lora else { return nil }
        var base: String?
        if case .folder(let path) = recipe.model { base = HubCache.repository(ofFolder: path) ?? path }
        if let folder = recipe.adapter.initFrom {
            let file = try AdapterFile(folder: folder), tables = file.baseCopies(file.plan(model.config))
            if let table = tables.first(where: { !$0.key.hasBytes(atEnd: ".base_layer.weight") }) {
                throw FineTuningError.badRecipe([
                    "adapter.init_from: \(folder) brings \(table.key), a table of the base that would be lost; merge it "
                        + "with 'graft merge' and train on the result"
                ])
            }
            var config = try model.attachAdapter(folder: folder)
            config.baseModel = config.baseModel ?? base
            config.dropout = recipe.adapter.dropout
            return config
        }
        var problems: [String] = []
        var config = recipe.adapter.config(baseModel: base, problems: &problems)
        guard problems.isEmpty else { throw FineTuningError.badRecipe(problems.map { "adapter." + $0 }) }
        let directions =
            config.initialization == .eva
            ? try EVA(model: model, config: config, pool: pool).directions(data, seed: recipe.training.seed, &config)
            : []
        try model.attachNewAdapters(config, seed: recipe.training.seed, pool: pool, directions: directions)
        return config
    }
}

extension ModelConfig {
    /// Whether the embedding has a row for every id of an example.
    fileprivate func hasRows(for example: TokenizedExample) -> Bool {
        example.ids.allSatisfy { Int($0) < vocabularySize }
    }

    /// What is said of examples with ids that the embedding has no row for; nil for none.
    fileprivate func missingRowsNote(_ examples: [TokenizedExample]) -> String? {
        let count = examples.count { !hasRows(for: $0) || $0.rejected.map { !hasRows(for: $0) } ?? false }
        guard count > 0 else { return nil }
        return "\(count) of \(examples.count) examples hold tokens that the model has no row for: the embedding has "
            + "\(vocabularySize) rows, the tokenizer has more tokens; training refuses these rows until the embedding is as "
            + "large"
    }
}
