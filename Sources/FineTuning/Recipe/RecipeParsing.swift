import FileFormats
import Foundation
import TextData

extension Recipe {
    /// Every key that a recipe may hold, by its dotted name.
    static let allKeys = [
        "model", "model.init", "model.tokenizer", "output",
        "adapter", "adapter.method", "adapter.rank", "adapter.alpha", "adapter.dropout", "adapter.targets",
        "adapter.init_from", "adapter.loraplus_lr_ratio", "adapter.loraplus_lr_embedding",
        "objective", "objective.name", "objective.beta", "objective.loss_type", "objective.label_smoothing",
        "objective.simpo_gamma", "objective.cpo_alpha", "objective.desirable_weight", "objective.undesirable_weight",
        "objective.teacher", "objective.temperature",
        "data", "data.train", "data.eval", "data.train_on", "data.max_length", "data.overlong", "data.shuffle",
        "data.mix_temperature", "data.max_repeats", "data.dedupe", "data.format", "data.columns", "data.accept",
        "training", "training.epochs", "training.steps", "training.batch_size", "training.microbatch_tokens",
        "training.learning_rate", "training.schedule", "training.warmup_ratio", "training.optimizer",
        "training.optimizer.name", "training.optimizer.betas", "training.optimizer.eps",
        "training.optimizer.weight_decay", "training.max_grad_norm", "training.precision",
        "training.quantization",
        "training.activation_checkpointing", "training.seed", "training.log_every", "training.eval_every",
        "training.eval_rows",
        "training.save_every",
    ] + AdapterOptions.keys.map { "adapter." + $0 }

    /// Reads the recipe at `path`.
    ///
    /// - Parameter overrides: `key=value` with a dotted key and a YAML value, as in `training.epochs=5`.
    /// - Throws: `RecipeError` that lists every mistake; a relative path whose file is absent is not one.
    public init(path: String, overrides: [String] = []) throws {
        let bytes: [UInt8]
        do {
            let handle = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
            defer { try? handle.close() }
            let read = Array(try handle.read(upToCount: RecipeDocument.maximumBytes + 1) ?? Foundation.Data())
            // Editors on Windows put a byte order mark in front.
            bytes = read.starts(with: [0xEF, 0xBB, 0xBF]) ? Array(read.dropFirst(3)) : read
        } catch {
            var isFolder: ObjCBool = false
            let exists = FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
            throw RecipeError.unreadable(
                path: path,
                reason: isFolder.boolValue
                    ? "a folder" : exists ? "the recipe cannot be read" : "there is no such recipe")
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

        let folder = absolutePath(path, relativeTo: FileManager.default.currentDirectoryPath)
            .split(separator: "/", omittingEmptySubsequences: true).dropLast().reduce("") { "\($0)/\($1)" }
        func resolve(_ path: String) -> String { absolutePath(path, relativeTo: folder.isEmpty ? "/" : folder) }

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

/// `path` itself when it is absolute, else below `folder`; `~` is the shell's business. Dots are folded away.
private func absolutePath(_ path: String, relativeTo folder: String) -> String {
    var parts: [Substring] = []
    for part in (path.hasPrefix("/") ? path : folder + "/" + path).split(separator: "/") {
        switch part {
        case ".": break
        case "..": _ = parts.popLast()
        default: parts.append(part)
        }
    }
    return "/" + parts.joined(separator: "/")
}

private typealias Resolve = (String) -> String

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
    adapter.alpha = section.number("alpha", "above 0") { $0 > 0 } ?? adapter.alpha
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

private func readData(_ value: RecipeValue?, _ problems: RecipeProblems, _ resolve: Resolve) -> Recipe.Data? {
    var section = RecipeSection(value, name: "data", problems: problems)
    let train = readSources(&section, "train", problems, resolve)
    var data = Recipe.Data(train: train ?? [])
    data.eval = readSources(&section, "eval", problems, resolve) ?? []
    data.trainOn = section.choice("train_on") ?? data.trainOn
    data.maxLength = section.integer("max_length", in: 2...1 << 24) ?? data.maxLength
    data.overlong = section.choice("overlong") ?? data.overlong
    data.shuffle = section.flag("shuffle") ?? data.shuffle
    data.dedupe = section.choice("dedupe") ?? data.dedupe
    if let value = section.value("max_repeats") {
        if case .null = value.content {
            data.maxRepeats = nil
        } else {
            data.maxRepeats = section.number("max_repeats", "above 0, or null") { $0 > 0 }
        }
    }
    if let value = section.value("mix_temperature"), ["inf", ".inf"].contains(value.word) {
        data.mixTemperature = .infinity
    } else {
        data.mixTemperature =
            section.number("mix_temperature", "of at least 1, or .inf") { $0 >= 1 } ?? data.mixTemperature
    }
    if let value = section.value("format"), value.word != "auto" { data.format = section.choice("format") }
    data.columns = readColumns(&section)
    data.accept = readAccepted(&section)
    section.finish()
    if train == nil { section.missing("train", "the files of the training rows, as in [{path: data/train.jsonl}]") }
    if train?.isEmpty == true, let value = section.value("train"), case .sequence(let items) = value.content,
        items.isEmpty
    {
        section.wrong("train", value, expected: "a list of at least one file")
    }
    return train == nil ? nil : data
}

/// Names of damage to rows that is taken as it is; one of them may stand without the list.
private func readAccepted(_ section: inout RecipeSection) -> [Lint] {
    guard let value = section.value("accept") else { return [] }
    let items: [RecipeValue]
    switch value.content {
    case .null: return []
    case .sequence(let found): items = found
    default: items = [value]
    }
    let names = Lint.allCases.map(\.rawValue)
    return items.compactMap { item in
        if let lint = item.word.flatMap(Lint.init) { return lint }
        let near = item.word.flatMap { nearest(to: $0, among: names) }.map { "; did you mean '\($0)'?" } ?? ""
        section.conflict(
            item.location,
            "data.accept takes names of lints (\(names.joined(separator: ", "))), not \(item.kindName)\(near)")
        return nil
    }
}

/// A mapping of keys of rows to the names that files have for them.
private func readColumns(_ section: inout RecipeSection) -> [ColumnName] {
    guard let value = section.value("columns") else { return [] }
    if case .null = value.content { return [] }
    guard case .mapping(let entries) = value.content else {
        section.wrong("columns", value, expected: "a mapping such as {prompt: question, completion: answer}")
        return []
    }
    return entries.compactMap { entry in
        guard Row.knownKeys.contains(where: { $0.hasSameBytes(as: entry.key) }) else {
            let near = nearest(to: entry.key, among: Row.knownKeys).map { "; did you mean '\($0)'?" }
            section.conflict(
                entry.keyLocation,
                "data.columns: '\(entry.key)' is no key of a row\(near ?? "; keys are " + Row.knownKeys.joined(separator: ", "))"
            )
            return nil
        }
        guard let column = entry.value.word, !column.isEmpty else {
            section.wrong("columns.\(entry.key)", entry.value, expected: "the name of a column")
            return nil
        }
        return ColumnName(key: entry.key, column: column)
    }
}

/// A list of `{path, weight}` or plain paths; one of them may stand without the list.
private func readSources(
    _ section: inout RecipeSection, _ key: String, _ problems: RecipeProblems, _ resolve: Resolve
) -> [Recipe.Source]? {
    guard let value = section.value(key) else { return nil }
    let items: [RecipeValue]
    switch value.content {
    case .null: return key == "train" ? nil : []
    case .sequence(let found): items = found
    default: items = [value]
    }
    var sources: [Recipe.Source] = []
    for (i, item) in items.enumerated() {
        switch item.content {
        case .scalar(let path, _) where !path.isEmpty && !path.utf8.contains(0):
            sources.append(Recipe.Source(path: resolve(path)))
        case .mapping:
            var entry = RecipeSection(item, name: "\(section.path(key))[\(i)]", problems: problems)
            let path = entry.text("path", expected: "a file, a glob or a token store")
            if !entry.has("path") { entry.missing("path", "a file, a glob or a token store") }
            let weight = entry.number("weight", "above 0, up to 10000") { $0 > 0 && $0 <= 10_000 } ?? 1
            entry.finish()
            if let path { sources.append(Recipe.Source(path: resolve(path), weight: weight)) }
        default:
            section.wrong("\(key)[\(i)]", item, expected: "a path or a mapping {path, weight}")
        }
    }
    return sources
}

private func readTraining(_ value: RecipeValue?, _ problems: RecipeProblems) -> Recipe.Training {
    var section = RecipeSection(value, name: "training", problems: problems)
    var training = Recipe.Training()
    let epochs = section.number("epochs", "above 0") { $0 > 0 && $0 <= 1e6 }
    let steps = section.integer("steps", in: 1...1 << 40)
    if let value = section.value("steps"), section.has("epochs") {
        section.conflict(value.location, "training.epochs and training.steps are both given; keep one of them")
    }
    training.length = steps.map { .steps($0) } ?? epochs.map { .epochs($0) } ?? training.length
    training.batchSize = section.integer("batch_size", in: 1...1 << 24) ?? training.batchSize
    training.microbatchTokens = readMicrobatch(&section)
    training.memoryBytes = readMemory(&section)
    training.learningRate = section.number("learning_rate", "of at least 0") { $0 >= 0 } ?? training.learningRate
    training.schedule = section.choice("schedule") ?? training.schedule
    training.warmupRatio =
        section.number("warmup_ratio", "from 0 to 1") { $0 >= 0 && $0 <= 1 } ?? training.warmupRatio
    training.optimizer = readOptimizer(section.value("optimizer"), problems)
    if let value = section.value("max_grad_norm") {
        if case .null = value.content {
            training.maxGradNorm = nil
        } else {
            training.maxGradNorm = section.number("max_grad_norm", "above 0, or null") { $0 > 0 }
        }
    }
    training.precision = section.choice("precision") ?? training.precision
    training.quantization = section.choice("quantization") ?? training.quantization
    if let value = section.value("activation_checkpointing"), value.word != "auto" {
        if let flag = value.flag {
            training.activationCheckpointing = flag ? .on : .off
        } else {
            section.wrong("activation_checkpointing", value, expected: "auto, true or false")
        }
    }
    training.seed = UInt64(section.integer("seed", in: 0...Int.max) ?? Int(training.seed))
    training.logEvery = section.integer("log_every", in: 1...Int.max) ?? training.logEvery
    training.evalEvery = readInterval(&section, "eval_every") ?? training.evalEvery
    training.evalRows = readEvalRows(&section)
    training.saveEvery = readInterval(&section, "save_every") ?? training.saveEvery
    section.finish()
    return training
}

private func readMicrobatch(_ section: inout RecipeSection) -> Recipe.Training.MicrobatchTokens {
    guard let value = section.value("microbatch_tokens"), value.word != "auto" else { return .auto }
    return section.integer("microbatch_tokens", in: 1...1 << 30, or: ", or auto").map { .tokens($0) } ?? .auto
}

private func readEvalRows(_ section: inout RecipeSection) -> Recipe.Training.EvalRows {
    guard let value = section.value("eval_rows"), value.word != "auto" else { return .auto }
    if value.word == "all" { return .all }
    return section.integer("eval_rows", in: 1...1 << 40, or: ", auto or all").map { .count($0) } ?? .auto
}

/// `auto`, or an amount such as 8GiB, 800 MB or 6000000000.
private func readMemory(_ section: inout RecipeSection) -> Int? {
    guard let value = section.value("memory"), value.word != "auto" else { return nil }
    let units = ["": 1.0, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1024, "MiB": 1_048_576, "GiB": 1_073_741_824]
    let text = Array((value.word ?? "").utf8)
    let digits = text.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || $0 == UInt8(ascii: ".") }
    let rest = text.dropFirst(digits.count).drop { $0 == UInt8(ascii: " ") }
    let unit = units.first { $0.key.utf8.elementsEqual(rest) }?.value
    guard let number = Double(String(decoding: digits, as: UTF8.self)), let unit, (1...1e18).contains(number * unit) else {
        section.wrong("memory", value, expected: "auto, or an amount of memory such as 8GiB")
        return nil
    }
    return Int(number * unit)
}

private func readInterval(_ section: inout RecipeSection, _ key: String) -> Recipe.Interval? {
    let number = section.number(key, "of at least 0: a part of the run below 1, else whole steps; 0 is never") {
        $0 == 0 || ($0 > 0 && $0 < 1) || ($0 >= 1 && $0 <= 1e15 && $0 == $0.rounded())
    }
    guard let number else { return nil }
    return number == 0 ? .never : number < 1 ? .fraction(number) : .steps(Int(number))
}

private func readOptimizer(_ value: RecipeValue?, _ problems: RecipeProblems) -> Recipe.Optimizer {
    var optimizer = Recipe.Optimizer()
    if let word = value?.word, word == optimizer.name.rawValue { return optimizer }
    var section = RecipeSection(value, name: "training.optimizer", problems: problems)
    optimizer.name = section.choice("name") ?? optimizer.name
    if let betas = section.value("betas") {
        if case .sequence(let items) = betas.content, items.count == 2, let beta1 = items[0].number,
            let beta2 = items[1].number, (0..<1).contains(beta1), (0..<1).contains(beta2)
        {
            (optimizer.beta1, optimizer.beta2) = (beta1, beta2)
        } else {
            section.wrong("betas", betas, expected: "a list of two numbers from 0 to below 1, as in [0.9, 0.999]")
        }
    }
    optimizer.epsilon = section.number("eps", "above 0") { $0 > 0 } ?? optimizer.epsilon
    optimizer.weightDecay = section.number("weight_decay", "of at least 0") { $0 >= 0 } ?? optimizer.weightDecay
    section.finish()
    return optimizer
}

extension RecipeValue {
    /// Sets the value of a dotted key, creating the mappings above it.
    fileprivate mutating func apply(override: String, path: String, problems: RecipeProblems) throws {
        guard let equals = override.firstIndex(of: "="), equals != override.startIndex else {
            problems.add("--set \(override)", "an override is written key=value, as in training.epochs=5")
            return
        }
        let key = String(override[..<equals])
        let location = "--set \(key)"
        let value = try RecipeDocument.parse(
            String(override[override.index(after: equals)...]), path: location, location: location)
        let parts = key.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
        guard parts.count <= 8, !parts.contains("") else {
            problems.add(location, "'\(key)' is not a dotted key")
            return
        }
        set(parts[...], to: value, location: location)
        // A run has one length: the override of one key takes the place of the other.
        if key == "training.epochs" { remove(["training", "steps"]) }
        if key == "training.steps" { remove(["training", "epochs"]) }
    }

    private mutating func set(_ parts: ArraySlice<String>, to value: RecipeValue, location: String) {
        guard let first = parts.first else {
            self = value
            return
        }
        var entries: [(key: String, keyLocation: String, value: RecipeValue)] = []
        if case .mapping(let found) = content { entries = found }
        var inner = RecipeValue(content: .null, location: location)
        let index = entries.firstIndex { $0.key.hasSameBytes(as: first) }
        if let index { inner = entries[index].value }
        inner.set(parts.dropFirst(), to: value, location: location)
        if let index { entries[index] = (first, location, inner) } else { entries.append((first, location, inner)) }
        content = .mapping(entries)
    }

    private mutating func remove(_ parts: ArraySlice<String>) {
        guard let first = parts.first, case .mapping(var entries) = content,
            let index = entries.firstIndex(where: { $0.key.hasSameBytes(as: first) })
        else { return }
        if parts.count == 1 { entries.remove(at: index) } else { entries[index].value.remove(parts.dropFirst()) }
        content = .mapping(entries)
    }
}
