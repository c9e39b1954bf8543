public import TensorCore
public import TextData

/// What a run learns from its rows. Losses and the names of options are those of TRL.
public enum Objective: Sendable, Equatable {
    /// The cross-entropy of the trained tokens.
    case sft
    /// arXiv:2305.18290 and its kin: pairs of answers, against a reference.
    case dpo(DPO)
    /// arXiv:2403.07691: pairs of answers, no reference.
    case orpo(ORPO)
    /// arXiv:2401.08417, and SimPO (arXiv:2405.14734): pairs of answers, no reference.
    case cpo(CPO)
    /// arXiv:2402.01306: answers that are good or bad, against a reference.
    case kto(KTO)
    /// arXiv:2306.13649: the distribution of a teacher.
    case distill(Distillation)

    public struct DPO: Sendable, Equatable {
        public enum LossType: String, Sendable, CaseIterable {
            case sigmoid, hinge, ipo, robust
            case exoPair = "exo_pair"
            case ncaPair = "nca_pair"
            case bcoPair = "bco_pair"
            case sppoHard = "sppo_hard"
            case apoZero = "apo_zero"
            case apoDown = "apo_down"
            case sigmoidNorm = "sigmoid_norm"

            /// Whether `label_smoothing` means something.
            public var smoothsLabels: Bool { [.sigmoid, .robust, .exoPair].contains(self) }
        }
        public var beta = 0.1
        public var lossType = LossType.sigmoid
        public var labelSmoothing = 0.0
        public init() {}
    }

    public struct ORPO: Sendable, Equatable {
        public var beta = 0.1
        public init() {}
    }

    public struct CPO: Sendable, Equatable {
        public enum LossType: String, Sendable, CaseIterable { case sigmoid, hinge, ipo, simpo }
        public var beta = 0.1
        public var lossType = LossType.sigmoid
        public var labelSmoothing = 0.0
        /// The weight of the chosen answers' own loss.
        public var cpoAlpha = 1.0
        public var simpoGamma = 0.5
        public init() {}

        /// Whether scores are means over an answer's tokens.
        var averages: Bool { lossType == .ipo || lossType == .simpo }
    }

    public struct KTO: Sendable, Equatable {
        public enum LossType: String, Sendable, CaseIterable {
            case kto
            case apoZeroUnpaired = "apo_zero_unpaired"
        }
        public var beta = 0.1
        public var lossType = LossType.kto
        public var desirableWeight = 1.0
        public var undesirableWeight = 1.0
        public init() {}
    }

    public struct Distillation: Sendable, Equatable {
        /// A model folder.
        public var teacher: String
        public var divergence = Divergence(beta: 0.5, temperature: 1)
        public init(teacher: String) { self.teacher = teacher }
    }

    /// The same with a teacher that is somewhere.
    var withoutPaths: Objective {
        guard case .distill(var distillation) = self else { return self }
        distillation.teacher = ""
        return .distill(distillation)
    }

    /// Its name, and what its loss is called.
    public var title: String {
        switch self {
        case .sft: "sft"
        case .dpo(let dpo): "dpo, \(dpo.lossType.rawValue)"
        case .orpo: "orpo"
        case .cpo(let cpo): "cpo, \(cpo.lossType.rawValue)"
        case .kto(let kto): "kto, \(kto.lossType.rawValue)"
        case .distill(let distillation): "distill from \(distillation.teacher)"
        }
    }

    /// What its rows are.
    public var rowKind: ExampleOptions.Kind {
        switch self {
        case .sft, .distill: .supervised
        case .dpo, .orpo, .cpo: .preference
        case .kto: .judged
        }
    }

    /// Whether answers are scored against the model as it was before the first step.
    var usesReference: Bool {
        switch self {
        case .dpo, .kto: true
        case .sft, .orpo, .cpo, .distill: false
        }
    }

    /// Whether dropout has a part in it: scores of answers are those of the whole model (TRL's `disable_dropout`).
    var dropsInputs: Bool { rowKind == .supervised }

    /// Whether every step needs the model as it was, not the rows' own scores alone.
    var usesMismatchedAnswers: Bool {
        if case .kto(let kto) = self { return kto.lossType == .kto }
        return false
    }
}

/// A named number of a step or an evaluation.
public struct Metric: Sendable, Equatable {
    public var name: String
    public var value: Double
    init(_ name: String, _ value: Double) { (self.name, self.value) = (name, value) }
}
