public import TensorCore

/// The parameters of one block, by what they are for.
public struct DecoderLayer {
    private var projections: [LinearRole: Projection] = [:]
    private var norms: [NormRole: Weight] = [:]
    /// The routed experts of a mixture.
    public internal(set) var experts: Experts?
    /// `[experts]`, added to the router's scores for the choice.
    public internal(set) var correction: Weight?
    /// `[heads]`: the sinks of attention.
    public internal(set) var sinks: Weight?

    /// The projection of a role; adapters are attached through it. Nil where the block has none.
    public subscript(role: LinearRole) -> Projection? {
        get { projections[role] }
        set { projections[role] = newValue }
    }

    public subscript(role: NormRole) -> Weight? {
        get { norms[role] }
        set { norms[role] = newValue }
    }

    /// The projection of a role that the block is known to have.
    func linear(_ role: LinearRole) -> Projection {
        guard let projection = projections[role] else { preconditionFailure("the block has no \(role)") }
        return projection
    }

    var isTrainable: Bool {
        norms.values.contains(where: \.isTrainable) || projections.values.contains(where: \.isTrainable)
            || experts?.isTrainable == true || sinks?.isTrainable == true
    }
}
