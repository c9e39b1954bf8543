import FileFormats
import FineTuning
import Foundation
public import TensorCore

/// Writes an adapter with DoRA, PiSSA or OLoRA as a plain LoRA of the same base.
///
/// That of PiSSA and OLoRA is exact, of twice the rank;
/// DoRA's change of a weight, m / |V| V - W, has full rank and is cut to `rank`.
/// - Parameters:
///   - model: the base's folder
///   - rank: of DoRA's updates; nil takes twice the adapter's
/// - Returns: the errors of cut modules
/// - Throws: `FileError`, `FineTuningError.adapterMismatch`
public func convertToPlainLoRA(
    _ folder: String, model: String, rank: Int?, to output: String, pool: WorkerPool
) throws -> [RankError] {
    let source = try WeightSource(model: model, adapter: folder)
    let member = source.changes.adapters.members[0]
    var errors: [RankError] = []
    let updates = member.plan.updates.sorted { ByteString($0.module) < ByteString($1.module) }
    let items = try updates.map { update -> AdapterFolderWriter.Item in
        guard !update.isEmbedding, !update.isOfExperts else {
            throw FineTuningError.adapterMismatch(
                path: folder, problems: ["\(update.module): only updates of linear layers can be converted"])
        }
        let (output, input) = (update.site.outputWidth, update.site.inputWidth)
        let changesBase = member.file.config.initialization.takesOutOfBase
        let newRank =
            update.hasMagnitude
            ? min(rank ?? 2 * update.rank, output, input) : changesBase ? 2 * update.rank : update.rank
        let key = "base_model.model." + update.module
        return .init(
            keyA: key + ".lora_A.weight", keyB: key + ".lora_B.weight", shapeA: [newRank, input],
            shapeB: [output, newRank]
        ) {
            let plain = plainMatrices(of: update, member, source, rank: newRank, pool)
            if let error = plain.error { errors.append(error) }
            return (plain.a, plain.b)
        }
    }
    let ranks = zip(updates, items).map { (module: $0.module, rank: $1.shapeA[0]) }
    let used = Set(
        updates.flatMap { update in
            [".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"].map {
                ByteString("base_model.model." + update.module + $0)
            }
        })
    let others = member.file.tensors.entries.filter { !used.contains(ByteString($0.name)) }
    try AdapterFolderWriter.write(
        to: output, config: member.file.config.plain(ranks: ranks), items: items,
        others: others.map { (member.file.tensors, $0) }, filesFrom: folder)
    return errors
}

/// An update's matrices at scale 1: A `[r, I]` and B `[O, r]`, r being `rank`; with the error where they had to be cut.
private func plainMatrices(
    of update: AdapterPlan.Update, _ member: AdapterStack.Member, _ source: WeightSource, rank: Int, _ pool: WorkerPool
) -> (a: Tensor, b: Tensor, error: RankError?) {
    let (output, input) = (update.site.outputWidth, update.site.inputWidth)
    let parameter = update.isHead && source.config.tiesEmbeddings ? ParameterTable.embedding : update.parameter
    let weight = {
        Tensor([output, input], values: source.files.floats(of: source.files.entry(named: parameter)!))
    }
    let (a, b, scale) = AdapterStack.joined([.init(member: member, update: update)], weight: weight)
    guard let magnitude = member.file.magnitude(of: update) else { return (a, b.scaledBy(scale), nil) }
    let whole = weight()
    let change = whole.copied()
    let adapter = LowRankAdapter(
        a: Weight(frozen: a, name: update.module), b: Weight(frozen: b, name: update.module), scale: scale,
        magnitude: Weight(frozen: magnitude, name: update.module))
    pool.parallelFor((output + 63) / 64) { item, worker in
        let rows = item * 64..<min(output, item * 64 + 64)
        change.withFloats {
            _ = adapter.add(
                rows: rows, to: .init(rebasing: $0[rows.lowerBound * input..<rows.upperBound * input]), worker: worker)
        }
    }
    change.withFloats { change in
        whole.withFloats { whole in for i in change.indices { change[i] -= whole[i] } }
    }
    let cut = RankCut(change, rank: rank)
    return (cut.a, cut.b, RankError(module: update.module, rank: rank, relative: cut.error, norm: cut.norm))
}

/// Reads a GGUF adapter back as a PEFT folder.
///
/// - Parameter model: the base, a Hugging Face folder or a GGUF file, which tells the modules' names
public func convertGGUFAdapter(_ path: String, model: String, to output: String) throws {
    let file = try GGUFFile(path: path)
    // Names and shapes alone: the folder needs no weights.
    let config = try TextResources.isGGUF(model) ? ModelReader.any.config(model) : ModelConfig(path: model)
    let table = ParameterTable(config)
    var problems: [String] = []
    if file["general.type"]?.stringValue?.hasSameBytes(as: "adapter") != true {
        problems.append("general.type is not \"adapter\"")
    }
    let alpha = file["adapter.lora.alpha"]?.doubleValue ?? 0
    if !(alpha > 0 && alpha.isFinite) { problems.append("adapter.lora.alpha: expected a positive number") }
    var items: [AdapterFolderWriter.Item] = []
    var ranks: [(module: String, rank: Int)] = []
    var used: Set<ByteString> = []
    for parameter in table.parameters where parameter.shape.count == 2 && parameter.expert == nil {
        guard let a = file.tensor(named: parameter.ggufName + ".lora_a"),
            let b = file.tensor(named: parameter.ggufName + ".lora_b")
        else { continue }
        used.formUnion([ByteString(a.name), ByteString(b.name)])
        let module = String(parameter.name.dropLast(".weight".count))
        let rank = a.shape.first ?? 0
        guard (1...65_536).contains(rank), a.shape == [rank, parameter.shape[1]], b.shape == [parameter.shape[0], rank]
        else {
            problems.append("\(a.name): \(a.shape) and \(b.shape) do not fit \(parameter.shape)")
            continue
        }
        guard RowEncoding.canDecode(a.type), RowEncoding.canDecode(b.type) else {
            problems.append("\(a.name) is \(a.type.name)")
            continue
        }
        ranks.append((module, rank))
        let key = "base_model.model." + module
        let order = RowOrder(heads: parameter.permutedHeads, rows: b.shape[0])
        items.append(
            .init(
                keyA: key + ".lora_A.weight", keyB: key + ".lora_B.weight", shapeA: [rank, parameter.shape[1]],
                shapeB: [parameter.shape[0], rank]
            ) {
                let permuted = TensorSource.gguf(file, b).floats()
                let back = Tensor(permuted.shape)
                permuted.withFloats { from in
                    back.withFloats { to in
                        for row in 0..<b.shape[0] {
                            for i in 0..<rank { to[order.source(of: row) * rank + i] = from[row * rank + i] }
                        }
                    }
                }
                // llama.cpp scales by alpha / rank.
                return (TensorSource.gguf(file, a).floats(), back.scaledBy(Float(alpha / Double(rank))))
            })
    }
    problems += file.tensors.filter { !used.contains(ByteString($0.name)) }.map {
        $0.shape.count == 3
            ? "\($0.name): updates of experts are not read back from GGUF adapters"
            : "\($0.name) belongs to no module of the base"
    }
    if items.isEmpty { problems.append("it holds no updates of this base") }
    guard problems.isEmpty else { throw FineTuningError.adapterMismatch(path: path, problems: problems) }
    var written = AdapterConfig(rank: 1, alpha: 1, dropout: 0, targets: .names(ranks.map(\.module)), baseModel: model)
        .plain(ranks: ranks)
    written.targets = .names(ranks.map(\.module))
    let sorted = items.sorted { ByteString($0.keyA) < ByteString($1.keyA) }
    try AdapterFolderWriter.write(to: output, config: written, items: sorted, filesFrom: nil)
}

/// mlx-lm's adapter folders: `adapters.safetensors` with `lora_a` `[in, r]` and `lora_b` `[r, out]`, and an
/// `adapter_config.json` of its own, whose scale multiplies the product.
public enum MLXAdapter {
    static let tensorsName = AdapterFile.mlxTensorsName

    public static func isOne(_ folder: String) -> Bool {
        isPresent(folder + "/" + tensorsName)
    }

    /// Writes such a folder as a PEFT one.
    public static func convert(_ folder: String, model: String?, to output: String) throws {
        let path = folder + "/adapter_config.json"
        let json = try JSONParser.parse(try readFile(path, limit: 16 << 20))
        let parameters = json["lora_parameters"]
        let file = try SafetensorsFile(path: folder + "/" + tensorsName)
        var problems: [String] = []
        let type = json["fine_tune_type"]?.stringValue ?? "lora"
        if !["lora", "dora"].contains(where: type.hasSameBytes) {
            problems.append("fine_tune_type is \(quoted(type))")
        }
        let scale = parameters?["scale"]?.doubleValue ?? 0
        if !(scale > 0 && Float(scale).isFinite) {
            problems.append("lora_parameters.scale: expected a positive number")
        }
        var items: [AdapterFolderWriter.Item] = []
        var ranks: [(module: String, rank: Int)] = []
        var used: Set<ByteString> = []
        for entry in file.entries where entry.name.hasSuffix(".lora_a") {
            let module = String(entry.name.dropLast(".lora_a".count))
            guard let b = file.entry(named: module + ".lora_b"), entry.shape.count == 2, b.shape.count == 2,
                entry.shape[1] == b.shape[0], (1...65_536).contains(entry.shape[1])
            else {
                problems.append("\(entry.name): expected lora_a [in, r] and lora_b [r, out]")
                continue
            }
            used.formUnion([ByteString(entry.name), ByteString(b.name)])
            let isEmbedding = module.hasSuffix("embed_tokens")
            let rank = entry.shape[1]
            let key = "base_model.model." + module
            ranks.append((module, rank))
            items.append(
                .init(
                    keyA: key + (isEmbedding ? ".lora_embedding_A" : ".lora_A.weight"),
                    keyB: key + (isEmbedding ? ".lora_embedding_B" : ".lora_B.weight"), shapeA: [rank, entry.shape[0]],
                    shapeB: [b.shape[1], rank]
                ) {
                    let first = Tensor(entry.shape, values: file.floats(of: entry))
                    return (first.transposed(), Tensor(b.shape, values: file.floats(of: b)).transposed())
                })
        }
        let magnitudes = file.entries.filter { $0.name.hasSuffix(".m") }
        if !magnitudes.isEmpty { problems.append("DoRA of mlx-lm (\(magnitudes[0].name)) is not converted") }
        problems += file.entries.filter { !used.contains(ByteString($0.name)) && !$0.name.hasSuffix(".m") }
            .map { "\($0.name) is no part of a LoRA pair" }
        if items.isEmpty { problems.append("it holds no LoRA pairs") }
        problems += file.entries.filter { ![.f32, .f16, .bf16].contains($0.type) }.prefix(3).map {
            "\($0.name): expected F32, F16 or BF16, found \($0.type.rawValue)"
        }
        let dropout = parameters?["dropout"]?.doubleValue ?? 0
        if !(0..<1).contains(dropout) {
            problems.append("lora_parameters.dropout: expected a number from 0 to below 1")
        }
        guard problems.isEmpty else { throw FineTuningError.adapterMismatch(path: folder, problems: problems) }
        var config = AdapterConfig(
            rank: 1, alpha: 1, dropout: dropout, targets: .names(ranks.map(\.module)),
            baseModel: model ?? json["model"]?.stringValue
        ).plain(ranks: ranks)
        config.alpha = scale * Double(config.rank)
        config.alphaPattern = config.rankPattern.map { ($0.0, scale * Double($0.1)) }
        config.targets = .names(ranks.map(\.module))
        let sorted = items.sorted { ByteString($0.keyA) < ByteString($1.keyA) }
        try AdapterFolderWriter.write(to: output, config: config, items: sorted, filesFrom: folder)
    }

    /// Writes a plain PEFT adapter as such a folder. mlx-lm knows one scale: what differs is folded into B.
    public static func write(_ folder: String, to output: String) throws {
        let adapter = try AdapterObject(folder: folder)
        try adapter.requirePlain("mlx-lm's format")
        guard adapter.others.isEmpty else {
            throw FineTuningError.adapterMismatch(
                path: folder, problems: ["\(adapter.others[0].name): mlx-lm's adapters hold LoRA pairs alone"])
        }
        let scale = adapter.pairs[0].scale
        let target = try AtomicFolder(path: output)
        let declarations = adapter.pairs.flatMap { pair in
            [
                SafetensorsWriter.Declaration(
                    name: pair.module + ".lora_a", type: .f32, shape: [pair.inner.x, pair.rank]),
                SafetensorsWriter.Declaration(
                    name: pair.module + ".lora_b", type: .f32, shape: [pair.rank, pair.inner.y]),
            ]
        }
        let writer = try SafetensorsWriter(path: target.path(of: tensorsName), tensors: declarations)
        for pair in adapter.pairs {
            let b = adapter.b(pair).scaledBy(Float(pair.scale / scale))
            try adapter.a(pair).transposed().withBytes {
                try writer.append(UnsafeRawBufferPointer($0), to: pair.module + ".lora_a")
            }
            try b.transposed().withBytes { try writer.append(UnsafeRawBufferPointer($0), to: pair.module + ".lora_b") }
        }
        try writer.finish()
        let parts = adapter.pairs.map { $0.module.split(separator: ".").map(String.init) }
        let layers = parts.compactMap { $0.count > 3 ? Int($0[2]) : nil }.filter { (0..<1 << 20).contains($0) }
        let keys = Set(parts.map { $0.count > 3 ? $0[3...].joined(separator: ".") : $0.joined(separator: ".") })
            .sorted()
        let json: JSONValue = [
            "fine_tune_type": "lora", "model": adapter.config.baseModel.map { .string($0) } ?? .null,
            "num_layers": .integer((layers.max() ?? -1) - (layers.min() ?? 0) + 1),
            "lora_parameters": [
                "rank": .integer(adapter.pairs.map(\.rank).max() ?? 0), "scale": .double(scale),
                "dropout": .double(adapter.config.dropout), "keys": .array(keys.map { .string($0) }),
            ],
        ]
        let text = JSONWriter.text(json, .init(indent: 4, sortsKeys: true)) + "\n"
        try AtomicFile.write(Array(text.utf8), to: target.path(of: "adapter_config.json"))
        try copyTokenizerFiles(from: folder, to: target.temporaryPath)
        try target.commit()
    }
}
