public import FileFormats

/// What a written model was compared in with the base and adapter it comes from, and how far it is from them.
public struct ParityReport: Sendable {
    /// The written weights against W + scale B A in f32.
    public struct Weights: Sendable {
        public var tensors = 0
        /// The root of the mean squared error over that of the squared weights, of the worst tensor.
        public var largestError = 0.0
        public var worstTensor = ""
        /// The part of the adapter's change that the written weights hold, by least squares: 1 is all of it. Nil
        /// without an adapter. Rounding takes away what is smaller than the type's steps.
        public var adapterShare: Double?
    }

    /// The logits of the sample against those of base and adapter, computed in f32.
    public struct Logits: Sendable {
        public var sequences = 0
        public var tokens = 0
        public var largestDifference = 0.0
        /// The root of the mean squared difference over that of the logits' squared distance from their row's mean.
        public var relativeError = 0.0
        /// Mean over the positions of KL(base + adapter || written), in nats.
        public var klDivergence = 0.0
        /// The share of positions at which both put the same token first.
        public var agreement = 1.0
    }

    /// Texts that both tokenizers encode, and conversations that both templates render.
    public struct Text: Sendable {
        public var texts = 0
        public var tokens = 0
        public var conversations = 0
        /// Texts and conversations that were left out because the format cannot say what the tokenizer does with them.
        public var leftOut = 0
    }

    /// The coarsest type of the written matrices, which decides what is allowed.
    public var type = ""
    public var weights = Weights()
    public var logits = Logits()
    public var text = Text()
    /// What was not compared, and what the reader should know.
    public var notes: [String] = []

    public var json: JSONValue {
        [
            "type": .string(type),
            "weights": [
                "tensors": .integer(weights.tensors), "largest_relative_error": .double(weights.largestError),
                "worst_tensor": .string(weights.worstTensor),
                "adapter_share": weights.adapterShare.map { .double($0) } ?? .null,
            ],
            "logits": logits.tokens == 0
                ? .null
                : [
                    "sequences": .integer(logits.sequences), "tokens": .integer(logits.tokens),
                    "largest_difference": .double(logits.largestDifference),
                    "relative_error": .double(logits.relativeError), "kl_divergence": .double(logits.klDivergence),
                    "best_token_agreement": .double(logits.agreement),
                ],
            "text": [
                "texts": .integer(text.texts), "tokens": .integer(text.tokens),
                "conversations": .integer(text.conversations), "left_out": .integer(text.leftOut),
            ],
            "notes": .array(notes.map { .string($0) }),
        ]
    }
}

/// What makes a written model another than base and adapter: it decides what to do about it.
enum ParityCause {
    /// Weights that are not what was to be written, or cannot be read.
    case weights
    /// The type's steps are larger than the adapter's change. `onLattice`: of a base that lay on such steps before.
    case rounding(type: String, onLattice: Bool)
    /// Other ids, or another chat template.
    case text
    /// Weights and text agree, and the numbers that come out do not.
    case logits

    var advice: String {
        switch self {
        case .weights:
            "Check the disk and the inputs and run again; with --no-verify they do not compare."
        case .rounding(let type, let onLattice):
            (onLattice
                ? "The base's weights lie on the steps of \(type) already, and most of the adapter's change is smaller than "
                    + "half a step: rounding puts the weights back to where they were. The disk and the inputs are fine. "
                : "Most of the adapter's change is smaller than the steps of \(type). ")
                + "What keeps it: the adapter beside the base ('graft export --adapter-only'), a finer type (--type q8_0), "
                + "or an export of the model's original Hugging Face folder"
                + (onLattice ? ", whose weights rounding treats evenly." : ".")
        case .text:
            "The format says something else of the text than the tokenizer does, which is no matter of the disk: 'graft "
                + "merge' keeps tokenizer and template as they are; with --no-verify the file is written all the same."
        case .logits:
            "The weights and the tokenizer agree with the model's, so that neither the disk nor the inputs are at fault: "
                + "the steps of the type add up in this model, or the format computes something else. Choose a finer type; "
                + "with --no-verify the file is written all the same."
        }
    }
}

/// A written model that is not the one it should be.
public enum ParityError: GraftError {
    /// Everything that differs, and what may be done about it; nothing was published when the gate of an export threw it.
    case diverged(path: String, problems: [String], advice: String)

    public var exitStatus: ExitStatus { .gateFailed }
    public var problems: [String] {
        switch self {
        case .diverged(_, let problems, _): problems
        }
    }

    public var description: String {
        switch self {
        case .diverged(let path, let problems, let advice):
            ([
                "\(path): what was written is not the base with the adapter:"
            ] + problems.map { "  - " + $0 } + [
                "Merge and export publish nothing then. \(advice)"
            ]).joined(separator: "\n")
        }
    }
}

/// How far a written model may be from base and adapter, by the type of its matrices.
///
/// The bounds tell a wrong file from a coarse one: they are some times what right files of real models show.
struct ParityBounds {
    /// Of each tensor: the root of the mean squared error over that of the squared weights. Types that only round are
    /// held to half a step of each element instead.
    var weightError: Double
    /// Of the sample's logits, see `ParityReport.Logits`.
    var logitError: Double
    var klDivergence: Double

    init(_ type: GGMLType) {
        (weightError, logitError, klDivergence) =
            switch type {
            case .f32: (1e-5, 1e-3, 1e-5)
            case .f16: (1e-3, 0.02, 1e-3)
            case .bf16: (1e-2, 0.1, 0.02)
            default:
                // By the bits that one weight takes, scales included.
                switch Double(type.blockSize * 8) / Double(type.blockLength) {
                case 8...: (0.02, 0.2, 0.05)
                case 6..<8: (0.06, 0.4, 0.15)
                case 5..<6: (0.12, 0.6, 0.3)
                case 4..<5: (0.25, 1, 0.8)
                case 3..<4: (0.4, 1.3, 2)
                default: (0.7, 1.5, 4)
                }
            }
    }

    /// Rounding may send a token to another expert: a step and no longer a small change, however fine the type.
    mutating func allowOtherExperts() {
        guard klDivergence > 1e-4 else { return }
        (logitError, klDivergence) = (max(0.3, 3 * logitError), max(0.1, 5 * klDivergence))
    }

    /// Half a step relative to the element, for types that round each element by itself, and below which absolute
    /// difference nothing is a fault.
    static func rounding(_ type: GGMLType) -> (relative: Float, absolute: Float)? {
        switch type {
        case .f32: (0x1p-21, 0)
        case .f16: (0x1.02p-11, 0x1.02p-25)
        case .bf16: (0x1.02p-8, 0)
        default: nil
        }
    }
}
