func readTraining(_ value: RecipeValue?, _ problems: RecipeProblems) -> Recipe.Training {
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
    guard let number = Double(String(decoding: digits, as: UTF8.self)), let unit, (1...1e18).contains(number * unit)
    else {
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
