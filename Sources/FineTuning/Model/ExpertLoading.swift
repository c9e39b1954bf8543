public import FileFormats
public import TensorCore

extension ModelConfig {
    /// Reads `config.json` of a folder with these weights: whether experts are stacked, and whether weights are
    /// quantised, shows in the files alone.
    ///
    /// - Throws: as `init(path:)`; `FineTuningError.quantizedCheckpoint`.
    public init(path: String, files: SafetensorsFolder) throws {
        try self.init(path: path)
        try settleQuantization(path: path, files)
        notes += files.notes
        guard mixture?.storage == .separate, let layer = layers.firstIndex(where: \.mixes) else { return }
        var stacked = self
        stacked.mixture?.storage = .stacked
        let name = ParameterTable(stacked).stackedExpertModules[0].name
        precondition(ParameterTable(stacked).stackedExpertModules[0].layer == layer)
        if files.entry(named: name) != nil { self = stacked }
    }

    /// Whether a tensor belongs to layers beyond the model's own, which predict further tokens in training.
    func leavesOut(_ name: String) -> Bool {
        (0..<extraLayers).contains { name.hasPrefix("model.layers.\(layerCount + $0).") }
    }
}

extension DecoderModel {
    /// Puts matrices of another file in the place of an update of experts; they do not learn.
    ///
    /// - Parameters: a: f32 `[r, in]`, of all experts `[experts * r, in]`; b: f32 `[out, r]` or `[out, r * experts]`;
    ///   scale: of B A
    public func attachFrozenExperts(_ update: AdapterPlan.Update, a: Tensor, b: Tensor, scale: Double) {
        let count = update.site.expertCount
        let adapters = (0..<count).map { expert in
            LowRankAdapter(
                a: Weight(frozen: StackedExperts.a(a, expert: expert, of: count), name: update.module),
                b: Weight(frozen: StackedExperts.b(b, expert: expert, of: count), name: update.module),
                scale: Float(scale))
        }
        switch update.site.place {
        case .expert(let layer, let part, let expert): layers[layer].experts?.attach(adapters[0], part, expert: expert)
        case .experts(let layer, let part): layers[layer].experts?.attach(adapters, part)
        default: preconditionFailure("an update of \(update.module) is of no experts")
        }
    }
}

extension ParameterTable {
    /// The experts of a layer, from its weights by name.
    func experts(_ config: ModelConfig, layer: Int, _ weight: (String) -> Weight) -> Experts? {
        guard config.layers[layer].mixes, let mixture = config.mixture else { return nil }
        func stacked(_ part: ExpertPart) -> ExpertProjection {
            let name = stackedExpertModules.first { $0.layer == layer && $0.part == part }!.name
            let isInputMajor = mixture.storage == .inputMajor
            return ExpertProjection(
                .stacked(weight(name), isInputMajor: isInputMajor), biases: isInputMajor ? weight(name + "_bias") : nil)
        }
        func separate(_ part: ExpertPart) -> ExpertProjection {
            let modules = expertModules.filter { $0.layer == layer && $0.part == part }
            return ExpertProjection(.separate(modules.map { weight($0.name + ".weight") }))
        }
        return mixture.storage == .separate
            ? Experts(
                count: mixture.router.experts, gateUp: [separate(.gate), separate(.up)], down: separate(.down),
                activation: mixture.activation)
            : Experts(
                count: mixture.router.experts, gateUp: [stacked(.gateUp)], down: stacked(.down),
                activation: mixture.activation)
    }
}
