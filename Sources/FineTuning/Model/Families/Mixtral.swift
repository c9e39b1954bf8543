import FileFormats
import TensorCore

extension FamilyDefinition {
    static let mixtral = FamilyDefinition(
        className: "MixtralForCausalLM",
        gguf: GGUFTraits(
            architecture: "llama", permutesRotaryRows: true, gaps: [.windows],
            differences: { $0.mixtureDifferences(normalizes: true) },
            complete: { $0["moe_intermediate_size"] = nil }),
        defaults: Defaults(rmsNormEps: 1e-5, theta: 1_000_000),
        mixtureNames: MixtureNames(block: "block_sparse_moe", gate: "w1", up: "w3", down: "w2"),
        inertKeys: MixtureReading.inertKeys,
        read: { config, reader in
            reader.requireActivation(["silu"])
            config.setWindows(Array(repeating: reader.optionalSize("sliding_window"), count: config.layerCount))
            let router = reader.router(experts: ["num_local_experts", "num_experts"], default: (8, 2)) { router, _ in
                router.normalizes = true
            }
            config.mixture = Mixture(router: router, innerWidth: config.intermediateSize)
            config.mixLayers { _ in true }
        })
}

/// What the families with mixtures read alike.
enum MixtureReading {
    /// Losses and noise of pre-training, which fine-tuning leaves off, and how it was run.
    static let inertKeys = [
        "router_aux_loss_coef", "router_jitter_noise", "aux_loss_alpha", "seq_aux", "ep_size", "num_experts_per_token",
    ]
}

extension ModelConfig {
    /// Where llama.cpp fixes what config.json leaves open.
    func mixtureDifferences(normalizes: Bool) -> [String] {
        var problems: [String] = []
        if mixture?.router.normalizes == !normalizes {
            problems.append("norm_topk_prob is \(!normalizes): llama.cpp computes this family with \(normalizes)")
        }
        if !layers.allSatisfy(\.mixes) {
            problems.append("some layers have no experts: llama.cpp runs this family with experts in every layer")
        }
        return problems
    }

    mutating func mixLayers(_ mixes: (Int) -> Bool) {
        for layer in layers.indices { layers[layer].mixes = mixes(layer) }
    }
}

extension ConfigReader {
    /// The router: the numbers of experts, and then what `options` sets, if that fits them.
    ///
    /// - Parameters:
    ///   - keys: spellings of the number of experts
    ///   - fallback: experts and experts a token where the file says nothing
    mutating func router(
        experts keys: [String], default fallback: (experts: Int, active: Int),
        _ options: (inout RouterOptions, inout ConfigReader) -> Void
    ) -> RouterShape {
        var present: [String] = []
        for key in keys where isPresent(key) { present.append(key) }
        let experts = present.first.map { size($0, limit: 4096) } ?? fallback.experts
        for key in present.dropFirst() where size(key, limit: 4096) != experts {
            report("\(key) differs from \(present[0])")
        }
        var router = RouterOptions(active: size("num_experts_per_tok", limit: 4096, default: fallback.active))
        options(&router, &self)
        let available = router.groups > 0 ? experts / router.groups * router.activeGroups : 0
        guard router.groups > 0, experts % router.groups == 0, router.activeGroups <= router.groups else {
            report(
                "n_group and topk_group (\(router.groups), \(router.activeGroups)) do not fit \(experts) experts")
            return RouterShape(experts: 1, active: 1)
        }
        guard router.active <= available else {
            report(
                "num_experts_per_tok (\(router.active)) is more than the \(available) experts to choose from")
            return RouterShape(experts: 1, active: 1)
        }
        return RouterShape(
            experts: experts, active: router.active, score: router.score, normalizes: router.normalizes,
            scale: Float(router.scale), groups: router.groups, activeGroups: router.activeGroups,
            groupScore: router.groupScore)
    }
}

/// The options of a `RouterShape` before they are checked.
struct RouterOptions {
    var active: Int
    var score = RouterShape.Score.softmax
    var normalizes = false
    var scale = 1.0
    var groups = 1
    var activeGroups = 1
    var groupScore = RouterShape.GroupScore.best
}
