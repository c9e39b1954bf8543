/// Every mistake found so far; a recipe is read to its end before they are reported.
final class RecipeProblems {
    private(set) var all: [RecipeProblem] = []
    /// In the order of the file; those of overrides come last.
    var sorted: [RecipeProblem] {
        func line(_ problem: RecipeProblem) -> Int { Int(problem.location.dropFirst("line ".count)) ?? .max }
        return all.enumerated().sorted { (line($0.element), $0.offset) < (line($1.element), $1.offset) }.map(\.element)
    }
    func add(_ location: String, _ reason: String) { all.append(RecipeProblem(location: location, reason: reason)) }
}

/// One mapping of a recipe, read key by key; what has not been read when it is finished is an unknown key.
struct RecipeSection {
    /// The dotted name of the mapping, empty for the document itself.
    let name: String
    let location: String
    private let entries: [(key: String, keyLocation: String, value: RecipeValue)]
    private var known: [String] = []
    private let problems: RecipeProblems

    /// - Parameter value: nil and null stand for an empty mapping.
    init(_ value: RecipeValue?, name: String, problems: RecipeProblems) {
        self.name = name
        self.problems = problems
        location = value?.location ?? "the recipe"
        switch value?.content {
        case nil, .null: entries = []
        case .mapping(let found): entries = found
        default:
            entries = []
            problems.add(
                location,
                "\(name.isEmpty ? "the recipe" : name) must be a mapping of keys, not "
                    + (value?.kindName ?? "nothing"))
        }
    }

    func path(_ key: String) -> String { name.isEmpty ? key : "\(name).\(key)" }

    /// The value of `key`; nil when the key is absent.
    mutating func value(_ key: String) -> RecipeValue? {
        if !known.contains(where: { $0.utf8.elementsEqual(key.utf8) }) { known.append(key) }
        return entries.last { $0.key.utf8.elementsEqual(key.utf8) }?.value
    }

    func wrong(_ key: String, _ value: RecipeValue, expected: String) {
        problems.add(value.location, "\(path(key)) must be \(expected), not \(value.kindName)")
    }

    func missing(_ key: String, _ what: String) {
        problems.add(location, "the key \(path(key)) is missing: \(what)")
    }

    func conflict(_ location: String, _ reason: String) { problems.add(location, reason) }

    mutating func text(_ key: String, expected: String = "text") -> String? {
        guard let value = value(key) else { return nil }
        guard case .scalar(let text, _) = value.content, !text.isEmpty, !text.utf8.contains(0) else {
            wrong(key, value, expected: expected)
            return nil
        }
        return text
    }

    mutating func optionalText(_ key: String, expected: String = "text or null") -> String? {
        guard let found = value(key), case .null = found.content else { return text(key, expected: expected) }
        return nil
    }

    mutating func integer(_ key: String, in range: ClosedRange<Int>, or alternatives: String = "") -> Int? {
        guard let value = value(key) else { return nil }
        if let number = value.integer, range.contains(number) { return number }
        let limits =
            range.upperBound == .max
            ? "of at least \(range.lowerBound)"
            : "from \(range.lowerBound) to \(range.upperBound)"
        wrong(key, value, expected: "a whole number \(limits)\(alternatives)")
        return nil
    }

    mutating func number(_ key: String, _ limits: String, where isAllowed: (Double) -> Bool) -> Double? {
        guard let value = value(key) else { return nil }
        if let number = value.number, isAllowed(number) { return number }
        wrong(key, value, expected: "a number \(limits)")
        return nil
    }

    mutating func optionalNumber(_ key: String, _ limits: String, where isAllowed: (Double) -> Bool) -> Double? {
        guard let found = value(key), case .null = found.content else {
            return number(key, limits, where: isAllowed)
        }
        return nil
    }

    mutating func flag(_ key: String) -> Bool? {
        guard let value = value(key) else { return nil }
        if let flag = value.flag { return flag }
        wrong(key, value, expected: "true or false")
        return nil
    }

    mutating func choice<Choice: RawRepresentable & CaseIterable>(_ key: String) -> Choice?
    where Choice.RawValue == String {
        guard let value = value(key) else { return nil }
        let words = Choice.allCases.map(\.rawValue)
        guard case .scalar(let word, _) = value.content, let choice = Choice(rawValue: word) else {
            let near = value.word.flatMap { nearest(to: $0, among: words) }
            let hint = near.map { "; did you mean '\($0)'?" } ?? ""
            problems.add(
                value.location,
                "\(path(key)) must be \(words.joined(separator: " | ")), not \(value.kindName)\(hint)")
            return nil
        }
        return choice
    }

    private static let suggestionLimit = 100

    /// Reports the keys that nothing asked for, with what may have been meant.
    func finish() {
        for entry in entries where !known.contains(where: { $0.utf8.elementsEqual(entry.key.utf8) }) {
            // To look for what was meant takes time: a file with thousands of such keys is no recipe.
            let hint = problems.all.count < Self.suggestionLimit ? suggestion(for: entry.key) : ""
            problems.add(entry.keyLocation, "unknown key '\(path(entry.key))'\(hint)")
        }
    }

    /// What recipes of axolotl, LLaMA-Factory, TRL and mlx-lm call things, where the names are far from graft's.
    private static let keysOfOthers: [String: String] = {
        let names = [
            "model": ["base_model", "model_name", "model_name_or_path"],
            "output": ["output_dir", "adapter_path", "save_path"],
            "adapter.method": ["finetuning_type", "fine_tune_type"],
            "adapter.rank": ["r", "lora_r", "lora_rank"], "adapter.alpha": ["lora_alpha"],
            "adapter.dropout": ["lora_dropout"],
            "adapter.targets": ["lora_target", "lora_target_modules", "target_modules"],
            "data.train": ["dataset", "datasets", "train_file", "train_files"],
            "data.eval": ["eval_dataset", "eval_file", "test_datasets", "valid", "validation"],
            "data.train_on": ["train_on_inputs", "train_on_prompt", "mask_prompt"],
            "data.max_length": ["cutoff_len", "sequence_len", "max_seq_len", "max_seq_length"],
            "training.epochs": ["num_epochs", "num_train_epochs"], "training.steps": ["iters", "max_steps"],
            "training.batch_size": [
                "gradient_accumulation_steps", "micro_batch_size", "per_device_train_batch_size",
            ],
            "training.learning_rate": ["lr"],
            "training.schedule": ["lr_scheduler", "lr_scheduler_type", "lr_schedule"],
            "training.warmup_ratio": ["warmup_steps"], "training.precision": ["bf16", "fp16", "tf32"],
            "training.quantization": ["load_in_4bit", "load_in_8bit", "quantization_bit"],
            "training.activation_checkpointing": ["gradient_checkpointing", "grad_checkpoint"],
            "training.log_every": ["logging_steps", "steps_per_report"],
            "training.eval_every": ["eval_steps", "steps_per_eval"],
            "training.save_every": ["save_steps"],
        ]
        return Dictionary(uniqueKeysWithValues: names.flatMap { key, others in others.map { ($0, key) } })
    }()

    private func suggestion(for key: String) -> String {
        if let other = Self.keysOfOthers[key] { return "; graft's key for it is '\(other)'" }
        if let near = nearest(to: key, among: known) { return "; did you mean '\(path(near))'?" }
        let elsewhere = Recipe.allKeys.filter { $0.split(separator: ".").last.map(String.init) == key }
        if let other = elsewhere.first { return "; did you mean '\(other)'?" }
        // Half of a name, as rslora for use_rslora.
        let parts = known.filter { key.utf8.count >= 4 && ($0.contains(key) || key.contains($0)) }
        if let part = parts.first { return "; did you mean '\(path(part))'?" }
        if let near = nearest(to: path(key), among: Recipe.allKeys) { return "; did you mean '\(near)'?" }
        return "; known here: \(known.joined(separator: ", "))"
    }
}

extension RecipeValue {
    var integer: Int? {
        guard case .scalar(let text, true) = content else { return nil }
        return Int(text) ?? Double(text).flatMap { Int(exactly: $0) }
    }
    var number: Double? {
        guard case .scalar(let text, true) = content, let first = text.utf8.first,
            "+-.0123456789".utf8.contains(first), let value = Double(text), value.isFinite
        else { return nil }
        return value
    }
    var flag: Bool? {
        guard case .scalar(let text, true) = content else { return nil }
        return switch text {
        case "true", "True", "TRUE": true
        case "false", "False", "FALSE": false
        default: nil
        }
    }
    /// The word of an unquoted or quoted scalar.
    var word: String? { if case .scalar(let text, _) = content { text } else { nil } }
}

/// The candidate at the smallest edit distance from `word`, if it is near enough to have been meant.
///
/// Optimal string alignment distance over UTF-8 bytes: Levenshtein's with swaps of neighbours
/// (Damerau 1964, DOI 10.1145/363958.363994).
func nearest(to word: String, among candidates: [String]) -> String? {
    let a = Array(word.utf8.prefix(64))
    var best: (distance: Int, candidate: String)?
    for candidate in candidates {
        let distance = editDistance(a, Array(candidate.utf8))
        if distance < best?.distance ?? .max { best = (distance, candidate) }
    }
    guard let best, best.distance <= max(1, min(a.count, best.candidate.utf8.count) / 3) else { return nil }
    return best.candidate
}

private func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    var rows = [Array(0...b.count)]
    for i in a.indices {
        var row = [i + 1]
        for j in b.indices {
            var cost = min(rows[i][j] + (a[i] == b[j] ? 0 : 1), rows[i][j + 1] + 1, row[j] + 1)
            if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { cost = min(cost, rows[i - 1][j - 1] + 1) }
            row.append(cost)
        }
        rows.append(row)
    }
    return rows[a.count][b.count]
}
