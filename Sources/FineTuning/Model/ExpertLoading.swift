public import FileFormats
import TensorCore

extension ModelConfig {
    /// Reads `config.json` of a folder with these weights: whether experts are stacked shows in the files alone.
    public init(path: String, files: SafetensorsFolder) throws {
        try self.init(path: path)
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
