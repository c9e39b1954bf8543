public import FileFormats
public import FineTuning
import Foundation
public import TensorCore

/// An adapter folder as an object of its own, without its base: its low-rank pairs in the layout of its file.
public struct AdapterObject {
    /// The pair of one module: the file's A `[r, x]` and B `[y, r]`; the update is scale B A, of an embedding its
    /// transpose.
    public struct Pair: Sendable {
        public var module: String
        public var keyA: String
        public var keyB: String
        public var rank: Int
        public var inner: (x: Int, y: Int)
        public var alpha: Double
        public var scale: Double
        public var hasMagnitude: Bool
    }

    public let file: AdapterFile
    public let pairs: [Pair]
    /// Tensors that are part of no pair: modules, biases and rows that the adapter brings whole.
    public let others: [TensorEntry]

    public var folder: String { file.folder }
    public var config: AdapterConfig { file.config }

    /// - Parameter refusesNonFinite: as `AdapterFile` has it
    /// - Throws: `FileError`, `FineTuningError.badAdapter`, `.adapterMismatch` with all pairs that are not whole.
    public init(folder: String, refusesNonFinite: Bool = true) throws {
        let file = try AdapterFile(folder: folder, refusesNonFinite: refusesNonFinite)
        self.file = file
        var pairs: [Pair] = []
        var problems: [String] = []
        var used: Set<ByteString> = []
        for module in file.modules {
            let start = "base_model.model." + module
            let keys = [(".lora_A.weight", ".lora_B.weight"), (".lora_embedding_A", ".lora_embedding_B")]
                .map { (start + $0.0, start + $0.1) }
            guard let (a, b) = keys.first(where: { file.tensors.entry(named: $0.0) != nil }),
                let shapeA = file.tensors.entry(named: a)?.shape, let shapeB = file.tensors.entry(named: b)?.shape,
                shapeA.count == 2, shapeB.count == 2, shapeA[0] == shapeB[1], shapeA[0] > 0
            else {
                problems.append("\(module): expected A [r, in] and B [out, r]")
                continue
            }
            let (rank, alpha) = file.config.rankAndAlpha(of: module)
            let magnitude = start + ".lora_magnitude_vector"
            if rank != shapeA[0] {
                problems.append(
                    "\(module): adapter_config.json gives rank \(rank), A has \(shapeA[0]) rows"
                        + (shapeA[0] % rank == 0 ? " (updates of stacked experts go through 'graft merge')" : ""))
            }
            used.formUnion([a, b, magnitude].map { ByteString($0) })
            pairs.append(
                Pair(
                    module: module, keyA: a, keyB: b, rank: rank, inner: (shapeA[1], shapeB[0]), alpha: alpha,
                    scale: file.config.scale(rank: rank, alpha: alpha),
                    hasMagnitude: file.tensors.entry(named: magnitude) != nil))
        }
        // PEFT puts the base's own tables beside updates of embedding and head.
        let copies = ["model.embed_tokens", "lm_head"].map { ByteString("base_model.model.\($0).base_layer.weight") }
        let rest = file.tensors.entries.filter {
            !used.contains(ByteString($0.name)) && !copies.contains(ByteString($0.name))
        }
        if pairs.isEmpty, rest.isEmpty { problems.append("the file holds no tensors of an adapter") }
        guard problems.isEmpty else { throw FineTuningError.adapterMismatch(path: folder, problems: problems) }
        others = rest
        self.pairs = pairs.sorted { ByteString($0.module) < ByteString($1.module) }
    }

    public func a(_ pair: Pair) -> Tensor { file.tensor(pair.keyA) }
    public func b(_ pair: Pair) -> Tensor { file.tensor(pair.keyB) }

    func pair(_ module: String) -> Pair? { pairs.first { $0.module.hasSameBytes(as: module) } }

    /// What keeps its updates from being added to or compared with others'.
    func requirePlain(_ what: String) throws {
        var problems: [String] = []
        if pairs.contains(where: \.hasMagnitude) {
            problems.append("\(what) needs plain LoRA, this is DoRA; 'graft adapter convert --to lora' makes it plain")
        }
        if config.hasUpdateBias { problems.append("\(what) needs plain LoRA, this has lora_bias") }
        if config.initialization.takesOutOfBase {
            problems.append(
                "\(what) needs plain LoRA, this is \(config.initialization) on a changed base; "
                    + "'graft adapter convert --to lora' makes it plain")
        }
        guard problems.isEmpty else { throw FineTuningError.adapterMismatch(path: folder, problems: problems) }
    }

    /// The Frobenius norm of scale B A, from matrices of r by r alone.
    public func norm(_ pair: Pair) -> Double {
        let square = dot(pair, self, pair)
        // A maximum would take 0 in NaN's place.
        return square < 0 ? 0 : square.squareRoot()
    }

    /// The inner product of the updates of one module in two adapters: the sum over all entries of their products.
    func dot(_ pair: Pair, _ other: AdapterObject, _ second: Pair) -> Double {
        let left = Tensor.product(b(pair), transposed: true, other.b(second))
        let right = Tensor.product(a(pair), transposed: false, other.a(second), transposed: true)
        let sum = zip(left.floats(), right.floats()).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
        return sum * pair.scale * second.scale
    }
}

/// Writes an adapter folder pair by pair.
struct AdapterFolderWriter {
    /// A pair to be written: `make` gives A and B in the layout of the file.
    struct Item {
        var keyA: String
        var keyB: String
        var shapeA: [Int]
        var shapeB: [Int]
        var make: () throws -> (a: Tensor, b: Tensor)
    }

    /// Writes configuration, tensors and the tokenizer's files that lie beside `source`; memory is that of one pair.
    ///
    /// - Parameter others: whole tensors passed on
    static func write(
        to path: String, config: AdapterConfig, items: [Item],
        others: [(file: SafetensorsFile, entry: TensorEntry)] = [],
        filesFrom source: String?, replacing: Bool = false
    ) throws {
        let folder = try AtomicFolder(path: path, replacing: replacing)
        let text = config.jsonText(sites: [], renamesExperts: false)
        try AtomicFile.write(Array(text.utf8), to: folder.path(of: "adapter_config.json"))
        // Safetensors readers take any order; pairs stay together so that each is made once.
        let declarations =
            items.flatMap {
                [
                    SafetensorsWriter.Declaration(name: $0.keyA, type: .f32, shape: $0.shapeA),
                    SafetensorsWriter.Declaration(name: $0.keyB, type: .f32, shape: $0.shapeB),
                ]
            } + others.map { .init(name: $0.entry.name, type: $0.entry.type, shape: $0.entry.shape) }
        let writer = try SafetensorsWriter(path: folder.path(of: AdapterFile.tensorsName), tensors: declarations)
        for item in items {
            let (a, b) = try item.make()
            precondition(a.shape == item.shapeA && b.shape == item.shapeB, "\(item.keyA): \(a.shape), \(b.shape)")
            try checkFinite(a, item.keyA)
            try checkFinite(b, item.keyB)
            try a.withBytes { try writer.append(UnsafeRawBufferPointer($0), to: item.keyA) }
            try b.withBytes { try writer.append(UnsafeRawBufferPointer($0), to: item.keyB) }
        }
        for (file, entry) in others { try writer.append(file.withBytes(of: entry), to: entry.name) }
        try writer.finish()
        if let source { try copyTokenizerFiles(from: source, to: folder.temporaryPath) }
        try folder.commit()
    }

    /// - Throws: `ExportError.value` for a number that f32 cannot hold, or that comes from one.
    private static func checkFinite(_ tensor: Tensor, _ key: String) throws {
        let place = tensor.withBytes {
            ElementConversion.firstNonFinite(UnsafeRawBufferPointer($0), as: .f32)
        }
        guard let place else { return }
        throw ExportError.value(
            tensor: key, row: place / max(1, tensor.width), found: tensor.floats()[place], type: "f32")
    }
}

extension AdapterConfig {
    /// The same as a plain LoRA with these ranks and scale 1 (alpha = r) everywhere.
    func plain(ranks: [(module: String, rank: Int)]) -> AdapterConfig {
        var result = self
        let most = Dictionary(ranks.map { ($0.rank, 1) }, uniquingKeysWith: +).max {
            ($0.value, $0.key) < ($1.value, $1.key)
        }
        result.rank = most?.key ?? 1
        result.alpha = Double(result.rank)
        let differing = ranks.filter { $0.rank != result.rank }
        result.rankPattern = differing.map { ($0.module, $0.rank) }
        result.alphaPattern = differing.map { ($0.module, Double($0.rank)) }
        result.usesRankStabilisedScale = false
        result.usesDoRA = false
        result.json["init_lora_weights"] = true
        result.json["eva_config"] = nil
        return result
    }

    /// The same with exactly these modules.
    func targeting(_ modules: [String]) -> AdapterConfig {
        var result = self
        if case .names(let names) = targets, modules.allSatisfy({ targets($0) }), !names.isEmpty, layers == nil,
            excluded == nil
        {
            return result
        }
        result.targets = .names(modules)
        (result.excluded, result.layers, result.layersPattern) = (nil, nil, [])
        for key in ["exclude_modules", "layers_to_transform", "layers_pattern"] { result.json[key] = nil }
        return result
    }
}
