public import FileFormats
import Foundation
public import TensorCore

extension DecoderModel {
    /// The linear layers that an adapter may sit on, the head included.
    public var linearModules: [(name: String, outputWidth: Int, inputWidth: Int)] {
        ParameterTable(config).linearModules.map { ($0.name, $0.outputWidth, $0.inputWidth) }
            + [(ParameterTable.headModule, config.vocabularySize, config.hiddenSize)]
    }

    /// Puts fresh low-rank updates on the targeted modules: A uniform in ±1/sqrt(in) (PEFT's default), B zero.
    ///
    /// - Throws: `FineTuningError.badRecipe` when nothing, or a name that no module has, is targeted.
    public func attachNewAdapters(_ config: AdapterConfig, seed: UInt64) throws {
        let modules = linearModules.filter { config.targets($0.name) }
        var problems: [String] = []
        if case .names(let names) = config.targets {
            let all = linearModules.map(\.name)
            for name in names {
                let single = AdapterConfig(rank: 1, alpha: 1, dropout: 0, targets: .names([name]), baseModel: nil)
                if !all.contains(where: single.targets) {
                    problems.append("adapter.targets: no module is called '\(name)'; there are \(Self.suffixes(all))")
                }
            }
        } else if modules.isEmpty {
            problems.append("adapter.targets matches no module; there are \(Self.suffixes(linearModules.map(\.name)))")
        }
        guard problems.isEmpty else { throw FineTuningError.badRecipe(problems) }
        for (index, module) in modules.enumerated() {
            let (rank, alpha) = config.rankAndAlpha(of: module.name)
            let a = Tensor([rank, module.inputWidth])
            let random = CounterRNG(seed, 0x6C6F_7261, UInt64(index)), bound = 1 / Double(module.inputWidth).squareRoot()
            a.withFloats { values in
                for i in values.indices { values[i] = Float((2 * random.uniform(UInt64(i)) - 1) * bound) }
            }
            attach(a, .zeros([module.outputWidth, rank]), to: module.name, config.scale(rank: rank, alpha: alpha))
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

    private func attach(_ a: Tensor, _ b: Tensor, to module: String, _ scale: Double) {
        let adapter = LowRankAdapter(
            a: Weight(trainable: a, name: AdapterFile.key(module, "lora_A"), dtype: dtype),
            // Operations read B through its scaled copy alone.
            b: Weight(trainable: b, name: AdapterFile.key(module, "lora_B"), dtype: .f32), scale: Float(scale))
        if module.hasSameBytes(as: ParameterTable.headModule) {
            head.adapter = adapter
            return
        }
        let place = ParameterTable(config).linearModules.first { $0.name.hasSameBytes(as: module) }!
        layers[place.layer][place.role]?.adapter = adapter
    }

    /// Puts the updates of a PEFT folder on the model.
    ///
    /// - Returns: the folder's configuration.
    /// - Throws: `FineTuningError.adapterMismatch` with every key that is unknown, missing or misshapen.
    @discardableResult
    public func attachAdapter(folder: String) throws -> AdapterConfig {
        let file = try AdapterFile(folder: folder)
        let problems = file.mismatches(modules: linearModules)
        guard problems.isEmpty else { throw FineTuningError.adapterMismatch(path: folder, problems: problems) }
        for update in file.updates {
            let (a, b) = try file.matrices(of: update)
            attach(a, b, to: update.module, update.scale)
        }
        stackAdapters()
        return file.config
    }

    /// Takes all updates off: the base's own output again.
    public func detachAdapters() {
        for module in ParameterTable(config).linearModules { layers[module.layer][module.role]?.adapter = nil }
        head.adapter = nil
    }
}

/// A PEFT adapter folder: `adapter_config.json` and `adapter_model.safetensors`.
public struct AdapterFile {
    /// The low-rank update of one module.
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
    /// Modules in the order of the file.
    public let updates: [Update]
    private let strays: [String]

    private static let prefix = "base_model.model."

    static func key(_ module: String, _ part: String) -> String { "\(prefix)\(module).\(part).weight" }

    public init(folder: String) throws {
        self.folder = folder
        config = try AdapterConfig(folder: folder)
        tensors = try SafetensorsFile(path: folder + "/adapter_model.safetensors")
        var updates: [Update] = [], strays: [String] = [], seen: Set<ByteString> = []
        for entry in tensors.entries {
            let suffixes = [".lora_A.weight", ".lora_B.weight"]
            guard entry.name.hasPrefix(Self.prefix), let suffix = suffixes.first(where: entry.name.hasSuffix) else {
                strays.append(entry.name)
                continue
            }
            let module = String(
                decoding: entry.name.utf8.dropFirst(Self.prefix.utf8.count).dropLast(suffix.utf8.count), as: UTF8.self)
            guard seen.insert(ByteString(module)).inserted else { continue }
            let (rank, alpha) = config.rankAndAlpha(of: module)
            updates.append(
                Update(module: module, rank: rank, scale: config.scale(rank: rank, alpha: alpha), alpha: alpha))
        }
        self.updates = updates
        self.strays = strays
    }

    /// What keeps the folder from fitting a base with these modules; PEFT's strict loading.
    public func mismatches(modules: [(name: String, outputWidth: Int, inputWidth: Int)]) -> [String] {
        var problems = strays.map { "\($0) is not a LoRA matrix that graft knows" }
        let byName = Dictionary(uniqueKeysWithValues: modules.map { (ByteString($0.name), $0) })
        for update in updates {
            guard let module = byName[ByteString(update.module)] else {
                problems.append("the base has no module \(update.module)")
                continue
            }
            for (part, shape) in [
                ("lora_A", [update.rank, module.inputWidth]), ("lora_B", [module.outputWidth, update.rank]),
            ] {
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
        let present = Set(updates.map { ByteString($0.module) })
        for module in modules where config.targets(module.name) && !present.contains(ByteString(module.name)) {
            problems.append("\(module.name) is targeted by adapter_config.json but has no matrices")
        }
        if updates.isEmpty { problems.append("the file holds no LoRA matrices") }
        return problems
    }

    /// A `[r, in]` and B `[out, r]` in f32, without the scale.
    public func matrices(of update: Update) throws -> (a: Tensor, b: Tensor) {
        func load(_ part: String) -> Tensor {
            let entry = tensors.entry(named: Self.key(update.module, part))!
            return Tensor(entry.shape, values: tensors.floats(of: entry))
        }
        return (load("lora_A"), load("lora_B"))
    }

    /// Writes the model's adapters into an existing folder, in f32.
    public static func write(_ model: DecoderModel, config: AdapterConfig, into folder: String) throws {
        let adapters = model.adapters
        let text = config.jsonText(modules: adapters.map(\.module))
        try AtomicFile.write(Array(text.utf8), to: folder + "/adapter_config.json", replacing: true)
        var weights = adapters.flatMap { [$0.adapter.a, $0.adapter.b] }
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
