import FileFormats
import Foundation

extension Recipe {
    /// Every key that a recipe may hold, by its dotted name.
    static let allKeys =
        [
            "model", "model.init", "model.tokenizer", "output",
            "adapter", "adapter.method", "adapter.rank", "adapter.alpha", "adapter.dropout", "adapter.targets",
            "adapter.init_from", "adapter.loraplus_lr_ratio", "adapter.loraplus_lr_embedding",
            "objective", "objective.name", "objective.beta", "objective.loss_type", "objective.label_smoothing",
            "objective.simpo_gamma", "objective.cpo_alpha", "objective.desirable_weight",
            "objective.undesirable_weight", "objective.teacher", "objective.temperature",
            "data", "data.train", "data.eval", "data.train_on", "data.max_length", "data.overlong", "data.shuffle",
            "data.mix_temperature", "data.max_repeats", "data.dedupe", "data.format", "data.columns", "data.accept",
            "training", "training.epochs", "training.steps", "training.batch_size", "training.microbatch_tokens",
            "training.learning_rate", "training.schedule", "training.warmup_ratio", "training.optimizer",
            "training.optimizer.name", "training.optimizer.betas", "training.optimizer.eps",
            "training.optimizer.weight_decay", "training.max_grad_norm", "training.precision",
            "training.quantization", "training.activation_checkpointing", "training.seed", "training.log_every",
            "training.eval_every", "training.eval_rows", "training.save_every",
        ] + AdapterOptions.keys.map { "adapter." + $0 }

    /// Reads the recipe at `path`.
    ///
    /// - Parameter overrides: `key=value` with a dotted key and a YAML value, as in `training.epochs=5`.
    /// - Throws: `RecipeError` that lists every mistake; a relative path whose file is absent is not one.
    public init(path: String, overrides: [String] = []) throws {
        let bytes: [UInt8]
        do {
            let read = try readHead(path, count: RecipeDocument.maximumBytes + 1)
            // Editors on Windows put a byte order mark in front.
            bytes = read.starts(with: [0xEF, 0xBB, 0xBF]) ? Array(read.dropFirst(3)) : read
        } catch FileError.missing {
            throw RecipeError.unreadable(path: path, reason: "there is no such recipe")
        } catch FileError.notAFile where isFolder(path) {
            throw RecipeError.unreadable(path: path, reason: "a folder")
        }
        guard let yaml = String(validating: bytes, as: UTF8.self) else {
            throw RecipeError.malformed(path: path, line: nil, reason: "the text is not UTF-8")
        }
        try self.init(yaml: yaml, path: path, overrides: overrides)
    }

    /// Reads a recipe from its text; `path` is named in errors and its folder is where relative paths start.
    public init(yaml: String, path: String, overrides: [String] = []) throws {
        let problems = RecipeProblems()
        var root = try RecipeDocument.parse(yaml, path: path)
        if case .null = root.content { root.content = .mapping([]) }
        for override in overrides { try root.apply(override: override, path: path, problems: problems) }

        let folder = splitPath(absolutePath(path)).folder
        func resolve(_ path: String) -> String { absolutePath(path, relativeTo: folder) }

        var top = RecipeSection(root, name: "", problems: problems)
        let model = readModel(&top, problems, resolve)
        let output = top.text("output", expected: "the path of the run directory")
        if output == nil, !top.has("output") { top.missing("output", "the path of the run directory to write") }
        let adapter = readAdapter(top.value("adapter"), problems, resolve)
        let data = readData(top.value("data"), problems, resolve)
        let objective = readObjective(top.value("objective"), problems, resolve)
        checkObjective(objective, data: top.value("data"), adapter: adapter, problems)
        let training = readTraining(top.value("training"), problems)
        top.finish()
        guard problems.all.isEmpty, let model, let output, let data else {
            throw RecipeError.invalid(path: path, problems: problems.sorted)
        }
        self.init(model: model, output: resolve(output), data: data, path: path)
        self.adapter = adapter
        self.objective = objective
        self.training = training
    }
}

extension RecipeSection {
    func has(_ key: String) -> Bool {
        var copy = self
        return copy.value(key) != nil
    }
}

typealias Resolve = (String) -> String

private func readModel(_ top: inout RecipeSection, _ problems: RecipeProblems, _ resolve: Resolve) -> Recipe.Model? {
    guard let value = top.value("model") else {
        top.missing("model", "a model folder, or {init: config.json} for random weights")
        return nil
    }
    guard case .mapping = value.content else {
        let path = top.text("model", expected: "a model folder, or {init: config.json}").map(resolve)
        do { return try path.map { .folder(try HubCache.snapshot($0)) } } catch {
            problems.add(value.location, "model: \(error)")
            return nil
        }
    }
    var section = RecipeSection(value, name: "model", problems: problems)
    let config = section.text("init", expected: "the path of a config.json")
    let tokenizer = section.optionalText("tokenizer", expected: "a folder or a tokenizer file")
    if !section.has("init") { section.missing("init", "the path of a config.json") }
    section.finish()
    return config.map { .initial(config: resolve($0), tokenizer: tokenizer.map(resolve)) }
}

private func readAdapter(_ value: RecipeValue?, _ problems: RecipeProblems, _ resolve: Resolve) -> Recipe.Adapter {
    var section = RecipeSection(value, name: "adapter", problems: problems)
    var adapter = Recipe.Adapter()
    adapter.method = section.choice("method") ?? adapter.method
    adapter.rank = section.integer("rank", in: 1...65536) ?? adapter.rank
    adapter.alpha = section.number("alpha", "above 0 that f32 can hold", where: AdapterConfig.isAlpha) ?? adapter.alpha
    adapter.dropout = section.number("dropout", "from 0 to below 1") { $0 >= 0 && $0 < 1 } ?? adapter.dropout
    adapter.initFrom = section.optionalText("init_from", expected: "an adapter folder or null").map(resolve)
    if let value = section.value("targets") {
        switch value.content {
        case .scalar("all-linear", _): adapter.targets = .allLinear
        case .scalar(let pattern, _) where !pattern.isEmpty: adapter.targets = .pattern(pattern)
        case .sequence(let items) where !items.isEmpty && items.allSatisfy { $0.word?.isEmpty == false }:
            adapter.targets = .names(items.compactMap(\.word))
        default:
            section.wrong(
                "targets", value, expected: "all-linear, a list of module names or a regular expression")
        }
    }
    adapter.loraPlusRatio = section.optionalNumber("loraplus_lr_ratio", "above 0, or null") { $0 > 0 }
    adapter.loraPlusEmbeddingRate =
        section.number("loraplus_lr_embedding", "of at least 0") { $0 >= 0 } ?? adapter.loraPlusEmbeddingRate
    adapter.options = AdapterOptions(&section)
    if problems.all.isEmpty { adapter.check(&section, value?.location ?? section.location) }
    section.finish()
    return adapter
}
