public import TensorCore

/// The routed experts of a block, and the shared one beside them.
public struct Mixture: Sendable {
    /// How a checkpoint holds the experts' matrices.
    public enum Storage: Sendable {
        /// `[out, in]` each, gate, up and down.
        case separate
        /// Those of all experts in one, gate over up: `[E, 2 F, C]` and `[E, C, F]`.
        case stacked
        /// The same as `[E, C, 2 F]` and `[E, F, C]`, gates and ups alternating, with biases.
        case inputMajor
    }

    public var router: RouterShape
    /// Values between a routed expert's layers.
    public var innerWidth: Int
    public var storage = Storage.separate
    public var activation = Experts.Activation.swiGLU
    public var hasRouterBias = false
    /// Whether a correction is added to the scores for the choice.
    public var hasCorrection = false
    /// Values between the shared expert's layers; nil without one.
    public var sharedWidth: Int?
    /// Whether the shared expert is multiplied with a gate of its own.
    public var gatesShared = false
}

/// Multi-head latent attention (arXiv:2405.04434, section 2.1): keys and values are made from a narrow latent, and the
/// part of a key that turns is shared by all heads.
public struct LatentAttention: Sendable {
    /// Width of the queries' latent; nil where queries are projected at once.
    public var queryRank: Int?
    public var keyValueRank: Int
    /// Elements of a head's query and key that do not turn, and that do.
    public var plainDim: Int
    public var rotaryDim: Int
    public var valueDim: Int
    /// `mscale_all_dim` of YaRN, by which the scores grow with the context; 0 leaves them.
    public var yarnMagnitude = 0.0
    /// The latents' norms take Transformers' default.
    public let eps: Float = 1e-6
}

/// The names by which a family's mixture goes, after `model.layers.N.`.
struct MixtureNames: Sendable {
    var block = "mlp"
    var router = "gate"
    var gate = "gate_proj", up = "up_proj", down = "down_proj"
    var shared = "shared_expert"
    /// Whether PEFT takes the names of experts' layers for those of the stacked parameters that Transformers has.
    var renamedByPEFT = true
}

/// A layer of the routed experts.
public enum ExpertPart: Hashable, Sendable {
    case gate, up, down
    /// gate over up
    case gateUp
}
