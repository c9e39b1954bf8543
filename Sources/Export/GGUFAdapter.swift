import FileFormats
import FineTuning
import TensorCore

/// What a GGUF adapter holds for one tensor of the base: `<name>.lora_a` and `<name>.lora_b`, of experts a pair of
/// matrices for each, `[experts, r, in]` and `[experts, out, r]`.
struct GGUFAdapterPair {
    /// Of one of the tensor's matrices.
    struct Part {
        var update: AdapterPlan.Update
        var matrix = 0
        /// The rows of the update's B that are the matrix's; nil for all.
        var outputs: [Int]?
    }

    /// Such as `blk.0.attn_q.weight`.
    let name: String
    let outputWidth: Int
    let inputWidth: Int
    /// Nil for a tensor that is one matrix.
    let expertCount: Int?
    let permutedHeads: Int?
    var parts: [Part]

    /// Of all its matrices: those of a lower one have rows of zeros.
    var rank: Int { parts.reduce(0) { max($0, $1.update.rank) } }
    var matrixCount: Int { expertCount ?? 1 }
    var nameA: String { name + ".lora_a" }
    var nameB: String { name + ".lora_b" }
    var shapeA: [Int] { (expertCount.map { [$0] } ?? []) + [rank, inputWidth] }
    var shapeB: [Int] { (expertCount.map { [$0] } ?? []) + [outputWidth, rank] }

    /// The pairs of a plan's updates; those of embeddings have none.
    static func pairs(_ plan: AdapterPlan, _ config: ModelConfig) -> [GGUFAdapterPair] {
        let table = ParameterTable(config)
        let parameters = Dictionary(
            table.parameters.map { (ByteString($0.name), $0) }, uniquingKeysWith: { a, _ in a })
        var pairs: [GGUFAdapterPair] = [], places: [ByteString: Int] = [:]
        func addExpert(_ layer: Int, _ part: ExpertPart, _ piece: Part) {
            let name = ParameterTable.expertGGUFName(layer, part)
            if let place = places[ByteString(name)] { return pairs[place].parts.append(piece) }
            places[ByteString(name)] = pairs.count
            let (hidden, inner) = (config.hiddenSize, config.mixture?.innerWidth ?? 0)
            pairs.append(
                GGUFAdapterPair(
                    name: name, outputWidth: part == .down ? hidden : inner,
                    inputWidth: part == .down ? inner : hidden, expertCount: config.mixture?.router.experts,
                    permutedHeads: nil, parts: [piece]))
        }
        for update in plan.updates {
            switch update.site.place {
            case .embedding: continue
            case .linear, .head:
                guard let parameter = parameters[ByteString(update.parameter)] else { continue }
                pairs.append(
                    GGUFAdapterPair(
                        name: parameter.ggufName, outputWidth: parameter.shape[0], inputWidth: parameter.shape[1],
                        expertCount: nil, permutedHeads: parameter.permutedHeads, parts: [Part(update: update)]))
            case .expert(let layer, let part, let expert):
                addExpert(layer, part, Part(update: update, matrix: expert))
            case .experts(let layer, let part):
                for (piece, outputs) in config.expertOutputs(part) {
                    for expert in 0..<update.site.expertCount {
                        addExpert(layer, piece, Part(update: update, matrix: expert, outputs: outputs))
                    }
                }
            }
        }
        return pairs
    }

    /// A and B as the file has them, for a scale of `alpha` / `rank`: what the updates' differ by is folded into B.
    ///
    /// - Parameter ordered: whether B's rows are in llama.cpp's order
    func values(_ file: AdapterFile, alpha: Float, ordered: Bool = true) -> (a: [Float], b: [Float]) {
        var a = [Float](repeating: 0, count: matrixCount * rank * inputWidth)
        var b = [Float](repeating: 0, count: matrixCount * outputWidth * rank)
        let order = RowOrder(heads: ordered ? permutedHeads : nil, rows: outputWidth)
        var source: (module: String, a: [Float], b: [Float])?
        for part in parts {
            let update = part.update, count = update.site.expertCount
            if source?.module.hasSameBytes(as: update.module) != true {
                let (a, b) = file.matrices(of: update)
                source = (update.module, a.floats(), b.floats())
            }
            guard let source else { continue }
            let factor = Float(update.scale * Double(rank) / Double(alpha))
            // Of an update of all experts, A is [experts * r, in] and B [out, r * experts].
            let expert = count > 1 ? part.matrix : 0, first = part.matrix * rank * inputWidth
            for i in 0..<update.rank * inputWidth { a[first + i] = source.a[expert * update.rank * inputWidth + i] }
            for row in 0..<outputWidth {
                let output = order.source(of: row), from = part.outputs?[output] ?? output
                for k in 0..<update.rank {
                    b[(part.matrix * outputWidth + row) * rank + k] =
                        source.b[(from * update.rank + k) * count + expert] * factor
                }
            }
        }
        return (a, b)
    }

    /// The matrices of a plan's updates from those of its pairs, B's rows in Hugging Face's order: what `values` makes
    /// of them, undone but for the scale.
    static func updates(_ pairs: [(pair: GGUFAdapterPair, a: Tensor, b: Tensor)])
        -> [(plan: AdapterPlan.Update, a: Tensor, b: Tensor, rank: Int)]
    {
        var updates: [(plan: AdapterPlan.Update, a: Tensor, b: Tensor, rank: Int)] = [], places: [ByteString: Int] = [:]
        for (pair, a, b) in pairs {
            let rank = b.width
            for part in pair.parts {
                let count = part.update.site.expertCount, module = ByteString(part.update.module)
                if places[module] == nil {
                    places[module] = updates.count
                    let rows = part.matrix * rank..<(part.matrix + 1) * rank
                    // The gates' A is the ups', too.
                    let first = count > 1 || pair.expertCount == nil ? a : a.selectedRows(Array(rows))
                    updates.append((part.update, first, .zeros([part.update.site.outputWidth, rank * count]), rank))
                }
                guard let place = places[module] else { continue }
                let expert = count > 1 ? part.matrix : 0
                b.withFloats { from in
                    updates[place].b.withFloats { to in
                        for row in 0..<pair.outputWidth {
                            let output = part.outputs?[row] ?? row
                            for k in 0..<rank {
                                to[(output * rank + k) * count + expert] =
                                    from[(part.matrix * pair.outputWidth + row) * rank + k]
                            }
                        }
                    }
                }
            }
        }
        return updates
    }
}

extension ModelConfig {
    /// The outputs of an update of all experts that are the gates', the ups' or the downs'; nil for all.
    fileprivate func expertOutputs(_ part: ExpertPart) -> [(part: ExpertPart, outputs: [Int]?)] {
        guard part != .down, let mixture else { return [(.down, nil)] }
        let (inner, alternates) = (mixture.innerWidth, mixture.storage == .inputMajor)
        let gates = alternates ? Array(stride(from: 0, to: 2 * inner, by: 2)) : Array(0..<inner)
        return [(.gate, gates), (.up, gates.map { $0 + (alternates ? 1 : inner) })]
    }
}

/// What a GGUF adapter has no place for.
private func uncarried(_ source: WeightSource) -> [String] {
    guard let member = source.changes.adapters.members.first else { return [] }
    var problems: [String] = []
    func list(_ names: [String], _ what: String) {
        guard let first = names.first else { return }
        problems.append("\(what): \(first)" + (names.count > 1 ? " and \(names.count - 1) more" : ""))
    }
    list(member.plan.updates.filter(\.hasMagnitude).map(\.module), "DoRA's magnitudes")
    list(member.plan.updates.filter(\.isEmbedding).map(\.module), "an update of the embedding")
    list(member.plan.replacements.map(\.parameter), "modules that come whole (modules_to_save, bias)")
    list(member.file.baseCopies(member.plan).map(\.parameter), "tables of the base (save_embedding_layers)")
    list(member.plan.rows.map(\.module), "rows of the vocabulary (trainable_token_indices)")
    let names = Dictionary(
        source.table.parameters.map { (ByteString($0.name), $0.ggufName) }, uniquingKeysWith: { a, _ in a })
    for layer in source.config.family.gguf.layersPastAdapters {
        let updated = member.plan.updates.filter {
            guard let name = names[ByteString($0.parameter)] else { return false }
            return ("." + name).hasSuffix("." + layer + ".weight")
        }
        list(updated.map(\.module), "llama.cpp multiplies \(layer) of this architecture without its adapter")
    }
    if member.file.config.initialization.takesOutOfBase {
        problems.append(
            "\(member.file.config.initialization), which needs a changed base; "
                + "'graft adapter convert --to lora' makes it plain")
    }
    if source.untiesHead, problems.isEmpty {
        problems.append("it changes \(ParameterTable.headModule), which this model shares with its embedding")
    }
    return problems
}

/// Writes an adapter as a GGUF adapter, which llama.cpp puts on a GGUF of the base.
///
/// llama.cpp knows one alpha for the file and scales by alpha / rank of each matrix: what differs from that, by
/// rank-stabilised scaling or by patterns, is folded into B.
/// - Throws: `FileError`, `FineTuningError`; `ExportError.adapter` for what the format cannot carry.
public func exportGGUFAdapter(
    model: String, adapter: String, output: String, name: String? = nil, replacing: Bool = false
) throws -> ExportReport {
    let source = try WeightSource(model: model, adapter: adapter)
    guard let file = source.adapter else { preconditionFailure("an adapter was given") }
    let problems = uncarried(source)
    guard problems.isEmpty else { throw ExportError.adapter(path: adapter, problems: problems) }
    let plan = source.changes.adapters.members[0].plan
    let pairs = GGUFAdapterPair.pairs(plan, source.config)
    // The common value stays exact; it is the configuration's alpha unless scaling is rank-stabilised.
    let alpha = Float(plan.updates.first.map { $0.scale * Double($0.rank) } ?? 0)
    let metadata: [(key: String, value: GGUFValue)] = [
        ("general.architecture", .string(GGUFArchitecture(source.config).name)), ("general.type", .string("adapter")),
        ("general.name", .string(name ?? HubCache.name(ofFolder: adapter))), ("general.file_type", .uint32(0)),
        ("general.quantization_version", .uint32(2)), ("adapter.type", .string("lora")),
        ("adapter.lora.alpha", .float32(alpha)),
    ]
    let declarations = pairs.flatMap { pair -> [GGUFWriter.Declaration] in
        [
            .init(name: pair.nameA, type: .f32, shape: pair.shapeA),
            .init(name: pair.nameB, type: .f32, shape: pair.shapeB),
        ]
    }
    let writer = try GGUFWriter(path: output, metadata: metadata, tensors: declarations, replacing: replacing)
    var report = ExportReport(path: output)
    for pair in pairs {
        let (a, b) = pair.values(file, alpha: alpha)
        for (name, values, width) in [(pair.nameA, a, pair.inputWidth), (pair.nameB, b, pair.rank)] {
            guard let place = values.firstIndex(where: { !$0.isFinite }) else { continue }
            throw ExportError.value(tensor: name, row: place / max(1, width), found: values[place], type: "f32")
        }
        try writer.append(a, to: pair.nameA)
        try writer.append(b, to: pair.nameB)
        report.largestChange = max(report.largestChange, b.reduce(0) { max($0, abs($1)) })
    }
    try writer.finish()
    report.tensorCount = declarations.count
    report.byteCount = writer.tensors.last?.byteRange.upperBound ?? 0
    report.mergedModules = plan.updates.count
    return report
}
