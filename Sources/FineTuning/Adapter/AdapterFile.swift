public import FileFormats
import Foundation
public import TensorCore

extension DecoderModel {
    /// Puts fresh low-rank updates on the targeted modules: A uniform in ±1/sqrt(in) (PEFT's default), B zero.
    ///
    /// - Throws: `FineTuningError.badRecipe` when nothing, or a name that no module has, is targeted.
    public func attachNewAdapters(_ config: AdapterConfig, seed: UInt64) throws {
        var config = config
        let all = table.adapterSites(nil)
        config.adoptParameters(all)
        let modules = table.adapterSites(config).filter { config.targets($0) }
        var problems: [String] = []
        if case .names(let names) = config.targets {
            for name in names where !config.targets(parameter: name) {
                let single = AdapterConfig(rank: 1, alpha: 1, dropout: 0, targets: .names([name]), baseModel: nil)
                if !all.contains(where: single.targets) {
                    problems.append(
                        "adapter.targets: no module is called '\(name)'; there are \(Self.suffixes(all.map(\.target)))")
                }
            }
        } else if modules.isEmpty {
            problems.append("adapter.targets matches no module; there are \(Self.suffixes(all.map(\.target)))")
        }
        guard problems.isEmpty else { throw FineTuningError.badRecipe(problems) }
        for (index, module) in modules.enumerated() {
            let (rank, alpha) = config.rankAndAlpha(of: module.target)
            let a = Tensor([rank * module.expertCount, module.inputWidth])
            let random = CounterRNG(seed, 0x6C6F_7261, UInt64(index)), bound = 1 / Double(module.inputWidth).squareRoot()
            a.withFloats { values in
                for i in values.indices { values[i] = Float((2 * random.uniform(UInt64(i)) - 1) * bound) }
            }
            attach(
                a, .zeros([module.outputWidth, rank * module.expertCount]), to: module,
                config.scale(rank: rank, alpha: alpha))
        }
        stackAdapters()
    }

    /// Lays the matrices A that read the same input next to each other.
    private func stackAdapters() {
        for layer in layers {
            for roles in LinearRole.sharingInput {
                Weight.stack(roles.compactMap { layer[$0]?.adapter?.a })
            }
        }
    }

    private static func suffixes(_ modules: [String]) -> String {
        var seen: [String] = []
        for module in modules {
            let suffix = String(decoding: module.utf8.split(separator: UInt8(ascii: ".")).last ?? [], as: UTF8.self)
            if !seen.contains(where: suffix.hasSameBytes) { seen.append(suffix) }
        }
        return seen.joined(separator: ", ")
    }

    private func attach(_ a: Tensor, _ b: Tensor, to site: AdapterSite, _ scale: Double) {
        let module = site.module
        let adapter = LowRankAdapter(
            a: Weight(trainable: a, name: AdapterFile.key(module, "lora_A"), dtype: dtype),
            // Operations read B through its scaled copy alone.
            b: Weight(trainable: b, name: AdapterFile.key(module, "lora_B"), dtype: .f32), scale: Float(scale), expertCount: site.expertCount)
        switch site.place {
        case .head: head.adapter = adapter
        case .linear(let layer, let role): layers[layer][role]?.adapter = adapter
        case .expert(let layer, let part, let expert): layers[layer].experts?.attach(adapter, part, expert: expert)
        case .experts(let layer, let part): layers[layer].experts?.attach(adapter, part, expert: nil)
        }
    }

    /// Puts the updates of a PEFT folder on the model.
    ///
    /// - Returns: the folder's configuration.
    /// - Throws: `FineTuningError.adapterMismatch` with every key that is unknown, missing or misshapen.
    @discardableResult
    public func attachAdapter(folder: String) throws -> AdapterConfig {
        let file = try AdapterFile(folder: folder)
        let sites = table.adapterSites(file.config)
        let problems = file.mismatches(sites: sites)
        guard problems.isEmpty else { throw FineTuningError.adapterMismatch(path: folder, problems: problems) }
        let byModule = Dictionary(sites.map { (ByteString($0.module), $0) }, uniquingKeysWith: { a, _ in a })
        for update in file.updates(sites) {
            let (a, b) = try file.matrices(of: update)
            attach(a, b, to: byModule[ByteString(update.module)]!, update.scale)
        }
        stackAdapters()
        return file.config
    }

    /// Takes all updates off: the base's own output again.
    public func detachAdapters() {
        for module in table.linearModules { layers[module.layer][module.role]?.adapter = nil }
        for layer in layers.indices {
            layers[layer].experts?.gateUpAdapters = []
            layers[layer].experts?.downAdapters = []
        }
        head.adapter = nil
    }
}

/// A PEFT adapter folder: `adapter_config.json` and `adapter_model.safetensors`.
public struct AdapterFile {
    /// The low-rank update of one site.
    public struct Update: Sendable {
        public var module: String
        public var rank: Int
        /// alpha / r, or alpha / sqrt(r).
        public var scale: Double
        public var alpha: Double
    }

    public let folder: String
    public let config: AdapterConfig
    public let tensors: SafetensorsFile
    /// Modules with matrices, in the order of the file.
    public let modules: [String]
    private let strays: [String]

    private static let prefix = "base_model.model."

    static func key(_ module: String, _ part: String) -> String { "\(prefix)\(module).\(part).weight" }

    public init(folder: String) throws {
        self.folder = folder
        config = try AdapterConfig(folder: folder)
        tensors = try SafetensorsFile(path: folder + "/adapter_model.safetensors")
        var modules: [String] = [], strays: [String] = [], seen: Set<ByteString> = []
        for entry in tensors.entries {
            let suffixes = [".lora_A.weight", ".lora_B.weight"]
            guard entry.name.hasPrefix(Self.prefix), let suffix = suffixes.first(where: entry.name.hasSuffix) else {
                strays.append(entry.name)
                continue
            }
            let module = String(
                decoding: entry.name.utf8.dropFirst(Self.prefix.utf8.count).dropLast(suffix.utf8.count), as: UTF8.self)
            if seen.insert(ByteString(module)).inserted { modules.append(module) }
        }
        self.modules = modules
        self.strays = strays
    }

    /// The updates of a model's sites, in the order of the file.
    public func updates(_ sites: [AdapterSite]) -> [Update] {
        let byModule = Dictionary(sites.map { (ByteString($0.module), $0) }, uniquingKeysWith: { a, _ in a })
        return modules.compactMap { byModule[ByteString($0)] }.map { site in
            let (rank, alpha) = config.rankAndAlpha(of: site.target)
            return Update(module: site.module, rank: rank, scale: config.scale(rank: rank, alpha: alpha), alpha: alpha)
        }
    }

    /// What keeps the folder from fitting a base with these sites; PEFT's strict loading.
    public func mismatches(sites: [AdapterSite]) -> [String] {
        var problems = strays.map { "\($0) is not a LoRA matrix that graft knows" }
        let byModule = Dictionary(sites.map { (ByteString($0.module), $0) }, uniquingKeysWith: { a, _ in a })
        for module in modules where byModule[ByteString(module)] == nil {
            problems.append("the base has no module \(module)")
        }
        for update in updates(sites) {
            let site = byModule[ByteString(update.module)]!, rank = update.rank * site.expertCount
            for (part, shape) in [("lora_A", [rank, site.inputWidth]), ("lora_B", [site.outputWidth, rank])] {
                let key = Self.key(update.module, part)
                guard let entry = tensors.entry(named: key) else {
                    problems.append("\(key) is missing")
                    continue
                }
                if entry.shape != shape { problems.append("\(key): expected shape \(shape), found \(entry.shape)") }
                if ![.f32, .f16, .bf16].contains(entry.type) {
                    problems.append("\(key): expected F32, F16 or BF16, found \(entry.type.rawValue)")
                }
            }
        }
        problems += absentees(sites)
        if modules.isEmpty { problems.append("the file holds no LoRA matrices") }
        return problems
    }

    /// Sites that the configuration targets and the file leaves out. Experts may be there one by one or stacked.
    private func absentees(_ sites: [AdapterSite]) -> [String] {
        let present = Set(modules.map { ByteString($0) })
        var experts: Set<[Int]> = []
        for site in sites where present.contains(ByteString(site.module)) {
            experts.formUnion(site.expertLayers)
        }
        return sites.filter { site in
            config.targets(site) && !present.contains(ByteString(site.module))
                && (site.expertLayers.isEmpty || site.expertLayers.isDisjoint(with: experts))
        }.map { "\($0.target) is targeted by adapter_config.json but has no matrices" }
    }

    /// A `[r, in]` and B `[out, r]` in f32, without the scale.
    public func matrices(of update: Update) throws -> (a: Tensor, b: Tensor) {
        func load(_ part: String) -> Tensor {
            let entry = tensors.entry(named: Self.key(update.module, part))!
            return Tensor(entry.shape, values: tensors.floats(of: entry))
        }
        return (load("lora_A"), load("lora_B"))
    }

    /// The matrices of one expert from those of all, without the scale: A `[r, in]`, and of B `[out, r]` the rows
    /// `outputs`.
    public func matrices(of update: Update, expert: Int, of count: Int, outputs: Range<Int>) throws -> (
        a: Tensor, b: Tensor
    ) {
        let (a, b) = try matrices(of: update)
        let (rank, input) = (update.rank, a.shape[1])
        let (all, stacked) = (a.floats(), b.floats())
        let ofA = Array(all[expert * rank * input..<(expert + 1) * rank * input])
        let ofB = outputs.flatMap { row in (0..<rank).map { stacked[(row * rank + $0) * count + expert] } }
        return (Tensor([rank, input], values: ofA), Tensor([outputs.count, rank], values: ofB))
    }

    /// Writes the model's adapters into an existing folder, in f32.
    public static func write(_ model: DecoderModel, config: AdapterConfig, into folder: String) throws {
        let adapters = model.adapters
        let keys = Set(adapters.map { ByteString($0.a.name) })
        let sites = model.table.adapterSites(model.hasStackedDown ? nil : config).filter {
            keys.contains(ByteString(key($0.module, "lora_A")))
        }
        let text = config.jsonText(sites: sites, renamesExperts: model.table.renamesExperts)
        try AtomicFile.write(Array(text.utf8), to: folder + "/adapter_config.json", replacing: true)
        var weights = adapters.flatMap { [$0.a, $0.b] }
        weights.sort { ByteString($0.name) < ByteString($1.name) }
        let writer = try SafetensorsWriter(
            path: folder + "/adapter_model.safetensors",
            tensors: weights.map { .init(name: $0.name, type: .f32, shape: $0.shape) }, replacing: true)
        for weight in weights {
            try weight.master!.withBytes { try writer.append(UnsafeRawBufferPointer($0), to: weight.name) }
        }
        try writer.finish()
    }
}
