import FileFormats
import FineTuning
import Foundation
public import TensorCore

/// Writes a model, with an adapter's updates added on the way when one is given, as one GGUF file that llama.cpp,
/// Ollama, LM Studio, Jan and GPT4All run: weights, tokenizer and chat template inside.
///
/// Tensors pass through in pieces, so memory stays at some tens of megabytes beyond the adapter's file.
/// - Parameters:
///   - name: `general.name`; nil takes the model folder's name.
///   - progress: called with the bytes written so far and in all; what it throws ends the export.
/// - Throws: `FileError` (`.outputExists` when something stands at `output`), `FineTuningError`, `ExportError`,
///   `TokenizerError`.
public func exportGGUF(
    model: String, adapter: String? = nil, output: String, type: GGUFOutputType, name: String? = nil,
    pool: WorkerPool, replacing: Bool = false,
    progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
) throws -> ExportReport {
    let source = try WeightSource(model: model, adapter: adapter)
    var report = ExportReport(path: output)
    var architecture = GGUFArchitecture(source.config)
    var metadata: [(key: String, value: GGUFValue)] = [
        ("general.architecture", .string(architecture.name)), ("general.type", .string("model")),
        ("general.name", .string(name ?? folderName(model))), ("general.file_type", .uint32(type.fileType)),
        ("general.quantization_version", .uint32(2)),
    ]
    metadata += try architecture.metadata(path: model)
    report.warnings += architecture.warnings
    if let folder = ModelFiles.tokenizerFolder(model: model, adapter: adapter) {
        var tokenizer = try GGUFTokenizer(path: folder, config: source.config)
        metadata += try tokenizer.metadata(templates: try ModelFiles.chatTemplates(model: model, adapter: adapter))
        report.warnings += tokenizer.warnings
    } else {
        metadata.append(("tokenizer.ggml.model", .string("none")))
        report.warnings.append("the model folder has no tokenizer: the file takes and gives token ids only")
    }
    let tensors = ggufTensors(source)
    let divisors = architecture.frequencyDivisors
    var declarations = tensors.map {
        GGUFWriter.Declaration(name: $0.ggufName, type: type.type(of: $0.output.shape), shape: $0.output.shape)
    }
    declarations += divisors.map { .init(name: $0.name, type: .f32, shape: [$0.values.count]) }
    let uneven = declarations.filter { $0.shape.count == 2 && $0.type != type.type }.map(\.name)
    if !uneven.isEmpty {
        report.warnings.append(
            "\(uneven.count) tensors stay f16, because their rows are no multiple of 32: \(uneven[0])...")
    }
    let total = declarations.reduce(0) { $0 + ($1.type.byteCount(of: $1.shape) ?? 0) }
    let writer = try GGUFWriter(path: output, metadata: metadata, tensors: declarations, replacing: replacing)
    report.largestChange = try source.stream(
        zip(tensors, declarations).map { (output: $0.output, type: $1.type) }, pool: pool
    ) { tensor, bytes in
        try writer.append(bytes, to: declarations[tensor].name)
        report.byteCount += bytes.count
        try progress(report.byteCount, total)
    }
    for (name, values) in divisors {
        try writer.append(values, to: name)
        report.byteCount += values.count * 4
    }
    for file in source.files.files { try file.checkUnchanged() }
    if let warning = report.idleAdapter(source) { report.warnings.append(warning) }
    try writer.finish()
    report.tensorCount = declarations.count
    report.mergedModules = source.siteUpdates.count
    return report
}

/// The model's tensors in the parameter table's order under their GGUF names.
private func ggufTensors(_ source: WeightSource) -> [(ggufName: String, output: WeightSource.Output)] {
    var tensors: [(ggufName: String, output: WeightSource.Output)] = source.table.parameters.compactMap { parameter in
        guard let entry = source.files.entry(named: parameter.name) else { return nil }
        let output = WeightSource.Output(
            name: parameter.name, entry: entry, updates: source.updates(of: parameter.name),
            permutedHeads: parameter.permutedHeads, offset: parameter.offset)
        return (parameter.ggufName, output)
    }
    if let head = source.untiedHead { tensors.append(("output.weight", head)) }
    return tensors
}

/// The name of a folder, links followed.
func folderName(_ path: String) -> String {
    URL(fileURLWithPath: path).resolvingSymlinksInPath().lastPathComponent
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
    if source.untiesHead {
        throw ExportError.adapter(
            path: adapter,
            problems: ["it changes \(ParameterTable.headModule), which this model shares with its embedding"])
    }
    let parameters = Dictionary(
        source.table.parameters.map { (ByteString($0.name), $0) }, uniquingKeysWith: { a, _ in a })
    let stacked = source.siteUpdates.filter { $0.site.expertCount > 1 || parameters[$0.site.parameterKey]?.expert != nil }
    if let first = stacked.first {
        throw ExportError.adapter(
            path: adapter, problems: ["it changes \(first.site.target): experts' updates go into a merged model alone"])
    }
    let updates = source.siteUpdates.compactMap { site, update in
        parameters[site.parameterKey].map { (update: update, parameter: $0) }
    }
    // The common value stays exact; it is the configuration's alpha unless scaling is rank-stabilised.
    let alpha = Float((updates.first?.update).map { $0.scale * Double($0.rank) } ?? 0)
    let metadata: [(key: String, value: GGUFValue)] = [
        ("general.architecture", .string(GGUFArchitecture(source.config).name)), ("general.type", .string("adapter")),
        ("general.name", .string(name ?? folderName(adapter))), ("general.file_type", .uint32(0)),
        ("general.quantization_version", .uint32(2)), ("adapter.type", .string("lora")),
        ("adapter.lora.alpha", .float32(alpha)),
    ]
    var declarations: [GGUFWriter.Declaration] = []
    for (update, parameter) in updates {
        declarations += [
            .init(name: parameter.ggufName + ".lora_a", type: .f32, shape: [update.rank, parameter.shape[1]]),
            .init(name: parameter.ggufName + ".lora_b", type: .f32, shape: [parameter.shape[0], update.rank]),
        ]
    }
    let writer = try GGUFWriter(path: output, metadata: metadata, tensors: declarations, replacing: replacing)
    var report = ExportReport(path: output)
    for (update, parameter) in updates {
        let (a, b) = try file.matrices(of: update)
        let factor = Float(update.scale * Double(update.rank) / Double(alpha))
        let order = RowOrder(heads: parameter.permutedHeads, rows: parameter.shape[0])
        let rows = b.floats()
        var folded: [Float] = []
        folded.reserveCapacity(rows.count)
        for row in 0..<parameter.shape[0] {
            let start = order.source(of: row) * update.rank
            folded += rows[start..<start + update.rank].map { $0 * factor }
        }
        try writer.append(a.floats(), to: parameter.ggufName + ".lora_a")
        try writer.append(folded, to: parameter.ggufName + ".lora_b")
        report.largestChange = max(report.largestChange, folded.reduce(0) { max($0, abs($1)) })
    }
    try writer.finish()
    report.tensorCount = declarations.count
    report.byteCount = writer.tensors.last?.byteRange.upperBound ?? 0
    report.mergedModules = updates.count
    return report
}

extension AdapterSite {
    /// The name of the parameter that it changes.
    fileprivate var parameterKey: ByteString { ByteString(isParameter ? target : target + ".weight") }
}
