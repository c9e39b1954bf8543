public import FileFormats
import Foundation
public import TensorCore

/// A PEFT adapter folder: `adapter_config.json` and `adapter_model.safetensors`.
public struct AdapterFile {
    public static let tensorsName = "adapter_model.safetensors"

    public let folder: String
    public let config: AdapterConfig
    public let tensors: SafetensorsFile
    /// Modules with matrices, in the order of the file.
    public let modules: [String]

    private static let ends = [
        ".lora_A.weight", ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B", AdapterKeys.magnitude,
        AdapterKeys.updateBias,
    ]

    public init(folder: String) throws {
        self.folder = folder
        config = try AdapterConfig(folder: folder)
        tensors = try SafetensorsFile(path: folder + "/" + Self.tensorsName)
        var modules: [String] = []
        var seen: Set<ByteString> = []
        for entry in tensors.entries {
            guard entry.name.hasPrefix(AdapterKeys.prefix),
                let end = Self.ends.first(where: entry.name.hasBytes(atEnd:))
            else { continue }
            let module = String(
                decoding: entry.name.utf8.dropFirst(AdapterKeys.prefix.utf8.count).dropLast(end.utf8.count),
                as: UTF8.self)
            if seen.insert(ByteString(module)).inserted { modules.append(module) }
        }
        self.modules = modules
    }

    /// What the folder does to a base.
    public func plan(_ base: ModelConfig) -> AdapterPlan { AdapterPlan(config, base: base, modules: modules) }

    /// The tensors of an update by the shapes they must have.
    static func expected(_ update: AdapterPlan.Update) -> [(key: String, shape: [Int])] {
        let (output, input) = (update.site.outputWidth, update.site.inputWidth)
        let rank = update.rank * update.site.expertCount
        let a = AdapterKeys.a(update.module, isEmbedding: update.isEmbedding)
        let b = AdapterKeys.b(update.module, isEmbedding: update.isEmbedding)
        var result =
            update.isEmbedding
            ? [(key: a, shape: [rank, output]), (key: b, shape: [input, rank])]
            : [(key: a, shape: [rank, input]), (key: b, shape: [output, rank])]
        if update.hasMagnitude {
            result.append(
                (AdapterKeys.prefix + update.module + AdapterKeys.magnitude, [update.isEmbedding ? input : output]))
        }
        if update.hasBias { result.append((AdapterKeys.prefix + update.module + AdapterKeys.updateBias, [output])) }
        return result
    }

    /// What keeps the folder from fitting a base; PEFT's strict loading.
    public func mismatches(_ plan: AdapterPlan) -> [String] {
        var problems = plan.problems
        var known: Set<ByteString> = []
        func check(_ key: String, _ shape: [Int]) {
            guard known.insert(ByteString(key)).inserted else { return }
            guard let entry = tensors.entry(named: key) else { return problems.append("\(key) is missing") }
            if entry.shape != shape { problems.append("\(key): expected shape \(shape), found \(entry.shape)") }
            if ![.f32, .f16, .bf16].contains(entry.type) {
                problems.append("\(key): expected F32, F16 or BF16, found \(entry.type.rawValue)")
            }
        }
        for update in plan.updates { for (key, shape) in Self.expected(update) { check(key, shape) } }
        for replacement in plan.replacements { check(replacement.key, replacement.shape) }
        for rows in plan.rows { check(rows.key, [rows.indices.count, rows.width]) }
        for copy in baseCopies(plan) { check(copy.key, copy.shape) }
        for entry in tensors.entries where !known.contains(ByteString(entry.name)) {
            problems.append("\(entry.name) is nothing that adapter_config.json asks for on this base")
        }
        return problems
    }

    /// Tables of the base that PEFT puts beside the updates of embedding and head, in case they were resized.
    public func baseCopies(_ plan: AdapterPlan) -> [AdapterPlan.Replacement] {
        [(ParameterTable.embeddingModule, ParameterTable.embedding), (ParameterTable.headModule, ParameterTable.head)]
            .compactMap { module, parameter in
                let key = AdapterKeys.prefix + module + ".base_layer.weight"
                guard tensors.entry(named: key) != nil,
                    let update = plan.updates.first(where: { $0.module.hasSameBytes(as: module) })
                else { return nil }
                return AdapterPlan.Replacement(
                    parameter: parameter, key: key, shape: [update.site.outputWidth, update.site.inputWidth])
            }
    }

    /// A tensor of the file in f32.
    public func tensor(_ key: String) -> Tensor {
        guard let entry = tensors.entry(named: key) else { preconditionFailure("\(key) was not checked") }
        return Tensor(entry.shape, values: tensors.floats(of: entry))
    }

    /// A `[r, in]` and B `[out, r]` in f32, without the scale; of an embedding `[r, hidden]` and `[vocabulary, r]`.
    public func matrices(of update: AdapterPlan.Update) -> (a: Tensor, b: Tensor) {
        let a = tensor(AdapterKeys.a(update.module, isEmbedding: update.isEmbedding))
        let b = tensor(AdapterKeys.b(update.module, isEmbedding: update.isEmbedding))
        return update.isEmbedding ? (b.transposed(), a.transposed()) : (a, b)
    }

    /// The matrices of one expert from those of all, without the scale: A `[r, in]`, and of B `[out, r]` the rows
    /// `outputs`.
    public func matrices(of update: AdapterPlan.Update, expert: Int, outputs: [Int]) -> (a: Tensor, b: Tensor) {
        let (rank, width) = (update.rank, update.site.inputWidth), count = update.site.expertCount
        func entry(_ key: String) -> TensorEntry {
            guard let entry = tensors.entry(named: key) else { preconditionFailure("\(key) was not checked") }
            return entry
        }
        // Only the expert's own elements are read: those of all would be for each of them.
        let a = tensors.floats(
            of: entry(AdapterKeys.a(update.module, isEmbedding: false)),
            in: expert * rank * width..<(expert + 1) * rank * width)
        let b = tensors.floats(
            of: entry(AdapterKeys.b(update.module, isEmbedding: false)), count: outputs.count * rank
        ) { (outputs[$0 / rank] * rank + $0 % rank) * count + expert }
        return (Tensor([rank, width], values: a), Tensor([outputs.count, rank], values: b))
    }

    /// The bias `[out]` of an update's B, f32.
    public func bias(of update: AdapterPlan.Update) -> Tensor? {
        update.hasBias ? tensor(AdapterKeys.prefix + update.module + AdapterKeys.updateBias) : nil
    }

    /// The lengths of the rows `[out]` of an update with DoRA, of an embedding those of its columns `[hidden]`, f32.
    public func magnitude(of update: AdapterPlan.Update) -> Tensor? {
        update.hasMagnitude ? tensor(AdapterKeys.prefix + update.module + AdapterKeys.magnitude) : nil
    }
}
