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

    /// What ends the name of a tensor that is part of a low-rank update.
    static let ends = [
        ".lora_A.weight", ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B", AdapterKeys.magnitude,
        AdapterKeys.updateBias,
    ]

    /// - Parameter refusesNonFinite: false also takes infinite numbers and NaN, for who only looks at the adapter
    /// - Throws: `FileError`, `FineTuningError.badAdapter` for what is no adapter that graft reads,
    ///   and for one in a run directory that is not as the run wrote it.
    public init(folder: String, refusesNonFinite: Bool = true) throws {
        self.folder = folder
        try Self.checkForm(folder)
        try PublishedAdapter.check(folder)
        config = try AdapterConfig(folder: folder)
        tensors = try SafetensorsFile(path: folder + "/" + Self.tensorsName)
        try AdapterTensorCheck(config: config, file: tensors, folder: folder).run(refusesNonFinite: refusesNonFinite)
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

    /// The names of tensors with numbers that are infinite or NaN.
    public func nonFiniteTensors() throws -> [String] {
        try tensors.entries.filter { try tensors.firstNonFinite(of: $0) != nil }.map(\.name)
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
        var missing: [String] = [], misshapen: [String] = []
        var known: Set<ByteString> = []
        func check(_ key: String, _ shape: [Int]) {
            guard known.insert(ByteString(key)).inserted else { return }
            guard let entry = tensors.entry(named: key) else { return missing.append(key) }
            if entry.shape != shape { misshapen.append("\(key): expected shape \(shape), found \(entry.shape)") }
        }
        for update in plan.updates { for (key, shape) in Self.expected(update) { check(key, shape) } }
        for replacement in plan.replacements { check(replacement.key, replacement.shape) }
        for rows in plan.rows { check(rows.key, [rows.indices.count, rows.width]) }
        for copy in baseCopies(plan) { check(copy.key, copy.shape) }
        let surplus = tensors.entries.map(\.name).filter { !known.contains(ByteString($0)) }
        return plan.problems + resizedTables(plan) + Self.told(misshapen) { "and \($0) more of other shapes" }
            + Self.told(missing.map { $0 + " is missing" }) { "and \($0) more are missing" }
            + Self.told(surplus.map { $0 + " is nothing that adapter_config.json asks for on this base" }) {
                "and \($0) more that it does not ask for"
            }
    }

    /// The first few of many lines, and how many there are beside them.
    static func told(_ lines: [String], rest: (Int) -> String) -> [String] {
        lines.count <= 4 ? lines : lines.prefix(3) + [rest(lines.count - 3)]
    }

    /// A table of another vocabulary than the base's: the base has to be resized first, in PEFT as well.
    private func resizedTables(_ plan: AdapterPlan) -> [String] {
        let names = [ParameterTable.embeddingModule, ParameterTable.headModule].map { AdapterKeys.prefix + $0 }
        let table = plan.table.shape
        let resized = tensors.entries.first { entry in
            names.contains(where: { entry.name.hasBytes(atStart: $0 + ".") }) && entry.shape.count == 2
                && entry.shape[1] == table[1] && entry.shape[0] != table[0] && entry.name.hasBytes(atEnd: ".weight")
                && !Self.ends.contains(where: entry.name.hasBytes(atEnd:))
        }
        guard let resized else { return [] }
        return [
            "\(resized.name) has \(resized.shape[0]) rows, the base's vocabulary \(table[0]): the vocabulary was "
                + "resized for training; resize the base to \(resized.shape[0]) tokens, too "
                + "(resize_token_embeddings in Transformers), and use that"
        ]
    }

    /// Tables of the base that PEFT puts beside the updates of embedding and head (`save_embedding_layers`). They take
    /// the place of the base's; of a tied model both, unless the head comes on its own.
    public func baseCopies(_ plan: AdapterPlan) -> [AdapterPlan.Replacement] {
        func copy(_ module: String, _ parameter: String) -> AdapterPlan.Replacement? {
            guard !plan.replacements.contains(where: { $0.parameter.hasSameBytes(as: parameter) }) else { return nil }
            let hasUpdate = plan.updates.contains { $0.module.hasSameBytes(as: module) }
            let key = AdapterKeys.prefix + module + (hasUpdate ? ".base_layer.weight" : ".weight")
            guard tensors.entry(named: key) != nil else { return nil }
            return AdapterPlan.Replacement(parameter: parameter, key: key, shape: plan.table.shape)
        }
        let embedding = copy(ParameterTable.embeddingModule, ParameterTable.embedding)
        var head = copy(ParameterTable.headModule, ParameterTable.head)
        let isHeadBrought = plan.replacements.contains { $0.parameter.hasSameBytes(as: ParameterTable.head) }
        if head == nil, !isHeadBrought, plan.table.isTied, let embedding {
            head = AdapterPlan.Replacement(
                parameter: ParameterTable.head, key: embedding.key, shape: embedding.shape)
        }
        return [embedding, head].compactMap(\.self)
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
