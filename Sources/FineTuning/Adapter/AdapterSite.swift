import FileFormats
import TensorCore

/// A place where a low-rank update may sit.
public struct AdapterSite: Sendable {
    public enum Place: Sendable {
        case linear(layer: Int, LinearRole)
        /// A layer of one expert; of all experts.
        case expert(layer: Int, ExpertPart, expert: Int)
        case experts(layer: Int, ExpertPart)
        case embedding, head
    }

    public var place: Place
    /// What precedes `.lora_A.weight` in an adapter's keys, after `base_model.model.`.
    public var module: String
    /// The module or the parameter that a configuration names.
    public var target: String
    /// Whether the target is a parameter, which `target_parameters` names, rather than a linear module.
    public var isParameter: Bool
    public var outputWidth: Int
    public var inputWidth: Int
    /// Experts whose matrices are stacked: A is `[experts * r, in]`, B `[out, r * experts]`.
    public var expertCount = 1

    /// Whether a layer goes by the name of an expert's: gate, up and down of dense blocks and shared experts do too.
    var hasExpertsName: Bool {
        switch place {
        case .expert, .experts: true
        case .embedding, .head: false
        case .linear(_, let role):
            [.feedForwardGate, .feedForwardUp, .feedForwardDown, .sharedGate, .sharedUp, .sharedDown].contains(role)
        }
    }

    /// The experts' layers that it changes: pairs of a layer and 0 for gate and up, 1 for down.
    var expertLayers: Set<[Int]> {
        switch place {
        case .expert(let layer, let part, _), .experts(let layer, let part): [[layer, part == .down ? 1 : 0]]
        case .linear, .embedding, .head: []
        }
    }

    /// The target as a parameter, below the layer.
    var parameterName: String {
        if case .expert(let layer, let part, _) = place {
            let block = AdapterSite(
                place: .head, module: "", target: ParameterTable.expertsModule(layer), isParameter: true,
                outputWidth: 0, inputWidth: 0
            ).suffix
            return block + (part == .down ? ".down_proj" : ".gate_up_proj")
        }
        return isParameter ? suffix : suffix + ".weight"
    }

    /// The last part of the target's name, such as `gate_proj`.
    var lastName: String {
        String(decoding: target.utf8.split(separator: UInt8(ascii: ".")).last ?? [], as: UTF8.self)
    }

    /// What a recipe may call it. Of a parameter the last part alone says little: every router is a weight.
    var shortName: String {
        let parts = target.utf8.split(separator: UInt8(ascii: ".")).suffix(isParameter ? 2 : 1)
        return String(decoding: Array(parts.joined(separator: [UInt8(ascii: ".")])), as: UTF8.self)
    }

    /// The name below the layer, such as `mlp.experts.gate_up_proj`.
    var suffix: String {
        let parts = target.utf8.split(separator: UInt8(ascii: "."))
        let start = parts.count > 3 && parts[1].elementsEqual("layers".utf8) ? 3 : 0
        return String(decoding: Array(parts[start...].joined(separator: [UInt8(ascii: ".")])), as: UTF8.self)
    }
}

extension ParameterTable {
    /// Every place for an update, in the model's order; the stacked experts last.
    ///
    /// PEFT wraps a module once for each of its parameters that has an update: the first one's keys then name the
    /// inner `base_layer`. Where the gate and up layers are alone, they have the module's own name, and the down layer
    /// is no place.
    func adapterSites(_ adapter: AdapterConfig?) -> [AdapterSite] {
        let table = parameters[0].shape
        var sites = [
            AdapterSite(
                place: .embedding, module: Self.embeddingModule, target: Self.embeddingModule, isParameter: false,
                outputWidth: table[0], inputWidth: table[1])
        ]
        sites += linearModules.map { module in
            let isRouter = module.role == .router
            return AdapterSite(
                place: .linear(layer: module.layer, module.role),
                module: isRouter ? routerModule(module.layer) : module.name,
                target: isRouter ? module.name + ".weight" : module.name, isParameter: isRouter,
                outputWidth: module.outputWidth, inputWidth: module.inputWidth)
        }
        sites += expertModules.map {
            AdapterSite(
                place: .expert(layer: $0.layer, $0.part, expert: $0.expert ?? 0), module: $0.name, target: $0.name,
                isParameter: false, outputWidth: $0.outputWidth, inputWidth: $0.inputWidth)
        }
        for module in stackedExpertModules {
            let isDown = module.part == .down
            var site = AdapterSite(
                place: .experts(layer: module.layer, module.part), module: Self.expertsModule(module.layer),
                target: module.name, isParameter: true, outputWidth: module.outputWidth,
                inputWidth: module.inputWidth, expertCount: expertCount)
            let hasDown = stackedExpertModules.contains {
                $0.layer == module.layer && $0.part == .down && adapter?.targets(parameter: $0.name) != false
            }
            if isDown, !hasDown { continue }
            if !isDown, hasDown { site.module += ".base_layer" }
            sites.append(site)
        }
        sites.append(
            AdapterSite(
                place: .head, module: Self.headModule, target: Self.headModule, isParameter: false,
                outputWidth: table[0], inputWidth: table[1]))
        return sites
    }
}

extension AdapterConfig {
    /// Takes names that no linear module has, but a parameter of stacked experts, for that parameter.
    mutating func adoptParameters(_ sites: [AdapterSite]) {
        guard case .names(let names) = targets else { return }
        for name in names {
            let single = AdapterConfig(rank: 1, alpha: 1, dropout: 0, targets: .names([name]), baseModel: nil)
            var parameter = single
            parameter.targetParameters = [name]
            if !sites.contains(where: single.targets), sites.contains(where: parameter.targets) {
                targetParameters.append(name)
            }
        }
    }
}

extension Experts {
    private static func list(_ part: ExpertPart) -> WritableKeyPath<Experts, [ExpertAdapter]> {
        part == .down ? \.downAdapters : \.gateUpAdapters
    }

    private func column(_ part: ExpertPart) -> Int { part == .up ? innerWidth : 0 }

    /// Puts updates on the layers of all experts.
    mutating func attach(_ adapters: [LowRankAdapter], _ part: ExpertPart) {
        self[keyPath: Self.list(part)].append(ExpertAdapter(parts: adapters, isStacked: true))
    }

    /// Puts an update on a layer of one expert.
    mutating func attach(_ adapter: LowRankAdapter, _ part: ExpertPart, expert: Int) {
        let path = Self.list(part), column = column(part)
        func isPlace(_ other: ExpertAdapter) -> Bool { other.column == column && !other.isStacked }
        if !self[keyPath: path].contains(where: isPlace) {
            self[keyPath: path].append(ExpertAdapter(column: column, parts: Array(repeating: nil, count: count)))
        }
        let place = self[keyPath: path].lastIndex(where: isPlace)!
        self[keyPath: path][place].parts[expert] = adapter
    }

    /// The updates on a part's layers, by expert: those of single experts, or one of all.
    func adapters(_ part: ExpertPart, isStacked: Bool) -> [LowRankAdapter?] {
        let column = column(part)
        return self[keyPath: Self.list(part)].last { $0.column == column && $0.isStacked == isStacked }?.parts
            ?? Array(repeating: nil, count: count)
    }
}
