import TensorCore
import TextData

/// What a recipe may call an objective; SimPO is CPO with other defaults.
private enum ObjectiveName: String, CaseIterable { case sft, dpo, orpo, simpo, cpo, kto, distill }

/// `objective: {name: dpo, beta: 0.1}`, or the name alone.
func readObjective(
    _ value: RecipeValue?, _ problems: RecipeProblems, _ resolve: (String) -> String
) -> Objective {
    if let value, let word = value.word, let name = ObjectiveName(rawValue: word), name != .distill {
        return defaults(name)
    }
    var value = value
    if let scalar = value, scalar.word != nil {
        // The name alone, and no name: the mistake is told as that of the key.
        value?.content = .mapping([("name", scalar.location, scalar)])
    }
    var section = RecipeSection(value, name: "objective", problems: problems)
    let name: ObjectiveName? = section.choice("name")
    if name == nil, !section.has("name"), case .mapping? = value?.content {
        section.missing("name", ObjectiveName.allCases.map(\.rawValue).joined(separator: " | "))
    }
    guard let name else { return .sft }
    let objective = readOptions(of: name, &section, resolve)
    section.finish()
    return objective
}

private func readOptions(
    of name: ObjectiveName, _ section: inout RecipeSection, _ resolve: (String) -> String
) -> Objective {
    var objective = defaults(name)
    func positive(_ key: String) -> Double? { section.number(key, "above 0") { $0 > 0 } }
    switch objective {
    case .sft: break
    case .dpo(var dpo):
        dpo.beta = positive("beta") ?? dpo.beta
        dpo.lossType = section.choice("loss_type") ?? dpo.lossType
        dpo.labelSmoothing = readSmoothing(&section) ?? dpo.labelSmoothing
        checkSmoothing(dpo, section)
        objective = .dpo(dpo)
    case .orpo(var orpo):
        orpo.beta = positive("beta") ?? orpo.beta
        objective = .orpo(orpo)
    case .cpo(var cpo):
        cpo.beta = positive("beta") ?? cpo.beta
        if name == .cpo { cpo.lossType = section.choice("loss_type") ?? cpo.lossType }
        cpo.labelSmoothing = readSmoothing(&section) ?? cpo.labelSmoothing
        cpo.cpoAlpha = section.number("cpo_alpha", "of at least 0") { $0 >= 0 } ?? cpo.cpoAlpha
        if cpo.lossType == .simpo {
            cpo.simpoGamma = section.number("simpo_gamma", "of at least 0") { $0 >= 0 } ?? cpo.simpoGamma
        }
        if cpo.labelSmoothing > 0, [.hinge, .ipo].contains(cpo.lossType) {
            section.conflict(
                section.location, "objective.label_smoothing has no part in loss_type \(cpo.lossType.rawValue)")
        }
        objective = .cpo(cpo)
    case .kto(var kto):
        kto.beta = positive("beta") ?? kto.beta
        kto.lossType = section.choice("loss_type") ?? kto.lossType
        kto.desirableWeight = section.number("desirable_weight", "of at least 0") { $0 >= 0 } ?? kto.desirableWeight
        kto.undesirableWeight =
            section.number("undesirable_weight", "of at least 0") { $0 >= 0 } ?? kto.undesirableWeight
        objective = .kto(kto)
    case .distill(var distillation):
        if let teacher = section.text("teacher", expected: "a model folder") {
            distillation.teacher = resolve(teacher)
        } else if !section.has("teacher") {
            section.missing("teacher", "the folder of the model to learn from")
        }
        distillation.divergence.beta =
            section.number("beta", "from 0 to 1") { $0 >= 0 && $0 <= 1 } ?? distillation.divergence.beta
        distillation.divergence.temperature = positive("temperature") ?? distillation.divergence.temperature
        objective = .distill(distillation)
    }
    return objective
}

private func defaults(_ name: ObjectiveName) -> Objective {
    switch name {
    case .sft: return .sft
    case .dpo: return .dpo(.init())
    case .orpo: return .orpo(.init())
    case .cpo: return .cpo(.init())
    case .simpo:
        var cpo = Objective.CPO()
        (cpo.lossType, cpo.cpoAlpha) = (.simpo, 0)
        return .cpo(cpo)
    case .kto: return .kto(.init())
    case .distill: return .distill(.init(teacher: ""))
    }
}

private func readSmoothing(_ section: inout RecipeSection) -> Double? {
    section.number("label_smoothing", "from 0 to below 0.5") { $0 >= 0 && $0 < 0.5 }
}

private func checkSmoothing(_ dpo: Objective.DPO, _ section: RecipeSection) {
    if dpo.labelSmoothing > 0, !dpo.lossType.smoothsLabels {
        section.conflict(
            section.location, "objective.label_smoothing has no part in loss_type \(dpo.lossType.rawValue)")
    }
    if dpo.labelSmoothing == 0, dpo.lossType == .exoPair {
        section.conflict(
            section.location, "objective.loss_type exo_pair needs a label_smoothing above 0, such as 1.0e-3")
    }
}

/// What of the rest of a recipe an objective cannot do with.
func checkObjective(
    _ objective: Objective, data: RecipeValue?, adapter: Recipe.Adapter, _ problems: RecipeProblems
) {
    guard objective.rowKind != .supervised else { return }
    // Read apart from the recipe, whose own reading reports what is wrong with these keys themselves.
    var section = RecipeSection(data, name: "data", problems: RecipeProblems())
    if let value = section.value("train_on"), value.word != Recipe.Data.TrainOn.assistant.rawValue {
        problems.add(value.location, "data.train_on: an objective of preferences scores whole answers; leave it out")
    }
    if let value = section.value("overlong"), value.word == Recipe.Data.Overlong.split.rawValue {
        problems.add(
            value.location, "data.overlong: answers that are judged cannot be split; take error, drop or truncate")
    }
    if objective.usesMismatchedAnswers, adapter.method == .full {
        problems.add(
            data?.location ?? "the recipe",
            "objective kto compares with the model before training at every step, which takes adapter.method: lora; "
                + "with full, loss_type: apo_zero_unpaired does without")
    }
}

extension Objective {
    /// The lines of `recipe.resolved.yaml`; `number` and `text` write scalars.
    func recipeLines(number: (Double) -> String, text: (String) -> String) -> [String] {
        let options: [(String, String)] =
            switch self {
            case .sft: [("name", "sft")]
            case .dpo(let dpo):
                [
                    ("name", "dpo"), ("beta", number(dpo.beta)), ("loss_type", dpo.lossType.rawValue),
                    ("label_smoothing", number(dpo.labelSmoothing)),
                ]
            case .orpo(let orpo): [("name", "orpo"), ("beta", number(orpo.beta))]
            case .cpo(let cpo):
                [
                    ("name", "cpo"), ("beta", number(cpo.beta)), ("loss_type", cpo.lossType.rawValue),
                    ("label_smoothing", number(cpo.labelSmoothing)), ("cpo_alpha", number(cpo.cpoAlpha)),
                ] + (cpo.lossType == .simpo ? [("simpo_gamma", number(cpo.simpoGamma))] : [])
            case .kto(let kto):
                [
                    ("name", "kto"), ("beta", number(kto.beta)), ("loss_type", kto.lossType.rawValue),
                    ("desirable_weight", number(kto.desirableWeight)),
                    ("undesirable_weight", number(kto.undesirableWeight)),
                ]
            case .distill(let distillation):
                [
                    ("name", "distill"), ("teacher", text(distillation.teacher)),
                    ("beta", number(distillation.divergence.beta)),
                    ("temperature", number(distillation.divergence.temperature)),
                ]
            }
        return ["objective:"] + options.map { "  \($0): \($1)" }
    }
}
