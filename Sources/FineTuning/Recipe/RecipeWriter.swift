import FileFormats
import TextData

extension Recipe {
    /// The recipe with every default filled in and every path absolute: `recipe.resolved.yaml`. It reads back equal.
    public var resolvedYAML: String {
        var lines: [String] = []
        switch model {
        case .folder(let path): lines.append("model: \(yamlText(path))")
        case .initial(let config, let tokenizer):
            lines.append("model:")
            lines.append("  init: \(yamlText(config))")
            if let tokenizer { lines.append("  tokenizer: \(yamlText(tokenizer))") }
        }
        lines.append("output: \(yamlText(output))")
        lines += adapterLines + objective.recipeLines(number: number, text: yamlText) + dataLines + trainingLines
        return lines.joined(separator: "\n") + "\n"
    }

    /// The recipe with nothing in it that says where files are, only how many there are.
    var withoutPaths: Recipe {
        var result = self
        switch model {
        case .folder: result.model = .folder("")
        case .initial(_, let tokenizer): result.model = .initial(config: "", tokenizer: tokenizer.map { _ in "" })
        }
        result.output = ""
        result.adapter.initFrom = adapter.initFrom.map { _ in "" }
        result.objective = objective.withoutPaths
        for index in data.train.indices { result.data.train[index].path = "" }
        for index in data.eval.indices { result.data.eval[index].path = "" }
        return result
    }

    private var adapterLines: [String] {
        let targets =
            switch adapter.targets {
            case .allLinear: "all-linear"
            case .names(let names): "[" + names.map(yamlText).joined(separator: ", ") + "]"
            case .pattern(let pattern): yamlText(pattern)
            }
        return [
            "adapter:",
            "  method: \(adapter.method.rawValue)",
            "  rank: \(adapter.rank)",
            "  alpha: \(number(adapter.alpha))",
            "  dropout: \(number(adapter.dropout))",
            "  targets: \(targets)",
            "  init_from: \(adapter.initFrom.map(yamlText) ?? "null")",
            "  loraplus_lr_ratio: \(adapter.loraPlusRatio.map(number) ?? "null")",
            "  loraplus_lr_embedding: \(number(adapter.loraPlusEmbeddingRate))",
        ] + adapter.options.json.entries.map { "  \($0.key): \(yamlFlow($0.value))" }
    }

    private var dataLines: [String] {
        func sources(_ sources: [Source]) -> [String] {
            sources.map { "    - {path: \(yamlText($0.path)), weight: \(number($0.weight))}" }
        }
        return ["data:", "  train:"] + sources(data.train) + (data.eval.isEmpty ? ["  eval: []"] : ["  eval:"])
            + sources(data.eval) + [
                "  train_on: \(data.trainOn.rawValue)",
                "  max_length: \(data.maxLength)",
                "  overlong: \(data.overlong.rawValue)",
                "  shuffle: \(data.shuffle)",
                "  mix_temperature: \(data.mixTemperature.isFinite ? number(data.mixTemperature) : ".inf")",
                "  max_repeats: \(data.maxRepeats.map(number) ?? "null")",
                "  dedupe: \(data.dedupe.rawValue)",
                "  format: \(data.format?.rawValue ?? "auto")",
                "  columns: {" + data.columns.map { "\($0.key): \(yamlText($0.column))" }.joined(separator: ", ") + "}",
                "  accept: [" + data.accept.map(\.rawValue).joined(separator: ", ") + "]",
            ]
    }

    private var trainingLines: [String] {
        let length =
            switch training.length {
            case .epochs(let epochs): "epochs: \(number(epochs))"
            case .steps(let steps): "steps: \(steps)"
            }
        let microbatch =
            switch training.microbatchTokens {
            case .auto: "auto"
            case .tokens(let count): "\(count)"
            }
        let evalRows =
            switch training.evalRows {
            case .auto: "auto"
            case .all: "all"
            case .count(let count): "\(count)"
            }
        let checkpointing =
            switch training.activationCheckpointing {
            case .auto: "auto"
            case .on: "true"
            case .off: "false"
            }
        let optimizer = training.optimizer
        return [
            "training:",
            "  \(length)",
            "  batch_size: \(training.batchSize)",
            "  microbatch_tokens: \(microbatch)",
            "  learning_rate: \(number(training.learningRate))",
            "  schedule: \(training.schedule.rawValue)",
            "  warmup_ratio: \(number(training.warmupRatio))",
            "  optimizer:",
            "    name: \(optimizer.name.rawValue)",
            "    betas: [\(number(optimizer.beta1)), \(number(optimizer.beta2))]",
            "    eps: \(number(optimizer.epsilon))",
            "    weight_decay: \(number(optimizer.weightDecay))",
            "  max_grad_norm: \(training.maxGradNorm.map(number) ?? "null")",
            "  precision: \(training.precision.rawValue)",
            "  quantization: \(training.quantization.rawValue)",
            "  activation_checkpointing: \(checkpointing)",
            "  memory: \(training.memoryBytes.map(String.init) ?? "auto")",
            "  seed: \(training.seed)",
            "  log_every: \(training.logEvery)",
            "  eval_every: \(interval(training.evalEvery))",
            "  eval_rows: \(evalRows)",
            "  save_every: \(interval(training.saveEvery))",
        ]
    }

    private func interval(_ interval: Interval) -> String {
        switch interval {
        case .never: "0"
        case .fraction(let part): number(part)
        case .steps(let steps): "\(steps)"
        }
    }
}

/// A value on one line.
private func yamlFlow(_ value: JSONValue) -> String {
    switch value {
    case .array(let values): "[" + values.map(yamlFlow).joined(separator: ", ") + "]"
    case .object(let object):
        "{" + object.entries.map { "\(yamlText($0.key)): \(yamlFlow($0.value))" }.joined(separator: ", ") + "}"
    case .string(let text): yamlText(text)
    case .double(let value): number(value)
    default: JSONWriter.text(value)
    }
}

/// A JSON string is a YAML double-quoted scalar.
private func yamlText(_ text: String) -> String { JSONWriter.text(.string(text), .init(asciiOnly: true)) }

/// YAML 1.1 readers take an exponent for a number only after a point.
private func number(_ value: Double) -> String {
    if let whole = Int(exactly: value) { return "\(whole)" }
    let text = "\(value)"
    guard let mark = text.firstIndex(of: "e"), !text.contains(".") else { return text }
    return text[..<mark] + ".0" + text[mark...]
}
