import FileFormats
import Foundation
internal import TensorCore

extension AdapterFile {
    /// Writes what the model learnt beyond its base into an existing folder as PEFT does, in f32.
    ///
    /// An adapter that started as a part of its base (PiSSA, OLoRA) is written
    /// as the plain LoRA of twice the rank that does the same to the
    /// unchanged base: B A - B0 A0 (PEFT's `path_initial_model_for_weight_conversion`).
    public static func write(_ model: DecoderModel, config: AdapterConfig, into folder: String) throws {
        let plan = model.attached?.plan ?? model.plan(config)
        let tensors = tensors(model, plan)
        let text = written(config).jsonText(
            sites: plan.updates.map(\.site), renamesExperts: model.table.renamesExperts)
        try AtomicFile.write(Array(text.utf8), to: folder + "/" + AdapterConfig.fileName, replacing: true)
        try write(tensors, into: folder)
    }

    /// Writes tensors, f32, by their names.
    static func write(_ tensors: [(key: String, tensor: Tensor)], into folder: String) throws {
        let sorted = tensors.sorted { ByteString($0.key) < ByteString($1.key) }
        let writer = try SafetensorsWriter(
            path: folder + "/" + tensorsName,
            tensors: sorted.map { .init(name: $0.key, type: .f32, shape: $0.tensor.shape) }, replacing: true)
        for (key, tensor) in sorted { try tensor.withBytes { try writer.append(UnsafeRawBufferPointer($0), to: key) } }
        try writer.finish()
    }

    private static func tensors(_ model: DecoderModel, _ plan: AdapterPlan) -> [(key: String, tensor: Tensor)] {
        let adapters = Dictionary(
            model.adapters.map { (ByteString($0.a.name), $0) }, uniquingKeysWith: { first, _ in first })
        var result: [(key: String, tensor: Tensor)] = []
        for update in plan.updates {
            let key =
                update.isEmbedding
                ? AdapterKeys.b(update.module, isEmbedding: true) : AdapterKeys.a(update.module, isEmbedding: false)
            // A head that stays tied has the embedding's update.
            let tied = update.isHead && plan.keepsTie ? model.head.adapter : nil
            guard let adapter = tied ?? adapters[ByteString(key)] else { continue }
            var (a, b) = (adapter.a.master!, adapter.b.master!)
            if let start = model.attached?.parts.first(where: { $0.module.hasSameBytes(as: update.module) })?.part {
                (a, b) = (.stackedRows([a, start.a]), .stackedColumns([b, start.b.scaledBy(-1)]))
            }
            if update.isEmbedding { (a, b) = (b.transposed(), a.transposed()) }
            result.append((AdapterKeys.a(update.module, isEmbedding: update.isEmbedding), a))
            result.append((AdapterKeys.b(update.module, isEmbedding: update.isEmbedding), b))
            if let magnitude = adapter.magnitude?.master {
                result.append((AdapterKeys.prefix + update.module + AdapterKeys.magnitude, magnitude))
            }
            if let bias = adapter.bias?.master {
                result.append((AdapterKeys.prefix + update.module + AdapterKeys.updateBias, bias))
            }
        }
        let weights = Dictionary(
            (model.weights + [model.head.weight]).map { (ByteString($0.name), $0) },
            uniquingKeysWith: { first, _ in first })
        for replacement in plan.replacements {
            let weight = weights[ByteString(replacement.parameter)] ?? model.head.weight
            if let master = weight.master { result.append((replacement.key, master)) }
        }
        for rows in plan.rows {
            let isHead = rows.module.hasSameBytes(as: ParameterTable.headModule)
            let table = isHead ? model.head.weight : model.embedding
            if let content = table.rows?.content.master { result.append((rows.key, content)) }
        }
        return result
    }

    /// The configuration of the file: that of PiSSA and OLoRA has twice the rank, with alpha to match, as a plain LoRA.
    private static func written(_ config: AdapterConfig) -> AdapterConfig {
        guard config.initialization.takesOutOfBase else { return config }
        var result = config
        result.rank *= 2
        result.rankPattern = result.rankPattern.map { ($0.0, 2 * $0.1) }
        let factor = config.usesRankStabilisedScale ? 2.0.squareRoot() : 2
        result.alpha *= factor
        result.alphaPattern = result.alphaPattern.map { ($0.0, factor * $0.1) }
        result.json["init_lora_weights"] = true
        return result
    }
}
