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
        let tensors = tensors(of: model, plan).sorted { ByteString($0.key) < ByteString($1.key) }
        let text = written(config).jsonText(
            sites: plan.updates.map(\.site), renamesExperts: model.table.renamesExperts)
        try AtomicFile.write(Array(text.utf8), to: folder + "/" + AdapterConfig.fileName, replacing: true)
        let writer = try SafetensorsWriter(
            path: folder + "/" + tensorsName,
            tensors: tensors.map { .init(name: $0.key, type: .f32, shape: $0.shape) }, replacing: true)
        for tensor in tensors {
            try tensor.values().withBytes {
                try writer.appendFinite(UnsafeRawBufferPointer($0), of: .f32, to: tensor.key)
            }
        }
        try writer.finish()
    }

    /// A tensor of the file, f32.
    struct Content {
        var key: String
        var shape: [Int]
        /// Put together on demand, so that no two need exist at once.
        var values: () -> Tensor
    }

    /// What the model learnt beyond its base, as the file has it.
    ///
    /// - Parameter value: gives of each weight what is wanted, f32 and of its shape
    static func tensors(
        of model: DecoderModel, _ plan: AdapterPlan, _ value: @escaping (Weight) -> Tensor = \.stored
    ) -> [Content] {
        var result: [Content] = []
        func add(_ key: String, _ shape: [Int], _ values: @escaping () -> Tensor) {
            result.append(Content(key: key, shape: shape, values: values))
        }
        func add(_ key: String, _ weight: Weight) { add(key, weight.shape) { value(weight) } }
        for update in plan.updates {
            let adapters = model.adapters(of: update)
            guard let adapter = adapters.first else { continue }
            let keys = (
                a: AdapterKeys.a(update.module, isEmbedding: update.isEmbedding),
                b: AdapterKeys.b(update.module, isEmbedding: update.isEmbedding)
            )
            let (rank, output, input) = (adapter.rank * adapters.count, adapter.outputWidth, adapter.inputWidth)
            if let start = model.attached?.parts.first(where: { $0.module.hasSameBytes(as: update.module) })?.part {
                add(keys.a, [2 * rank, input]) { .stackedRows([value(adapter.a), start.a]) }
                add(keys.b, [output, 2 * rank]) { .stackedColumns([value(adapter.b), start.b.scaledBy(-1)]) }
            } else if update.isEmbedding {
                add(keys.a, [rank, output]) { value(adapter.b).transposed() }
                add(keys.b, [input, rank]) { value(adapter.a).transposed() }
            } else {
                add(keys.a, [rank, input]) { StackedExperts.a(adapters.map { value($0.a) }) }
                add(keys.b, [output, rank]) { StackedExperts.b(adapters.map { value($0.b) }) }
            }
            if let magnitude = adapter.magnitude {
                add(AdapterKeys.prefix + update.module + AdapterKeys.magnitude, magnitude)
            }
            if let bias = adapter.bias { add(AdapterKeys.prefix + update.module + AdapterKeys.updateBias, bias) }
        }
        let weights = Dictionary(
            (model.weights + [model.head.weight]).map { (ByteString($0.name), $0) },
            uniquingKeysWith: { first, _ in first })
        for replacement in plan.replacements {
            let weight = weights[ByteString(replacement.parameter)] ?? model.head.weight
            if weight.isTrainable { add(replacement.key, weight) }
        }
        for rows in plan.rows {
            let isHead = rows.module.hasSameBytes(as: ParameterTable.headModule)
            let table = isHead ? model.head.weight : model.embedding
            if let content = table.rows?.content, content.isTrainable { add(rows.key, content) }
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
