import FileFormats
import FineTuning
import Foundation
public import TensorCore

/// The element type of a merged folder's floating-point tensors.
public enum MergedType: String, CaseIterable, Sendable {
    case keep, f32, f16, bf16

    var elementType: ElementType? {
        switch self {
        case .keep: nil
        case .f32: .f32
        case .f16: .f16
        case .bf16: .bf16
        }
    }

    var outputType: GGUFOutputType? {
        switch self {
        case .keep: nil
        case .f32: .f32
        case .f16: .f16
        case .bf16: .bf16
        }
    }
}

/// Writes a model folder with adapters' updates added to its weights: W + sum w scale B A, computed in f32. Tokenizer
/// and template are those of the first adapter, where it brings them. A GGUF file becomes a GGUF file; there, to keep the type means to quantise the changed tensors again.
///
/// Tensors pass through in pieces, so memory stays at some tens of megabytes beyond the adapter's file. The base's
/// division into shards is kept.
/// - Parameters:
///   - progress: called with the bytes written so far and in all; what it throws ends the merge.
/// - Throws: `FileError` (`.outputExists` when something stands at `output`), `FineTuningError`, `ExportError`.
public func mergeModel(
    model: String, adapters: [(path: String, weight: Double)], output: String, type: MergedType = .keep,
    pool: WorkerPool, replacing: Bool = false, progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
) throws -> ExportReport {
    guard !TextResources.isGGUF(model) else {
        let options = GGUFExportOptions(type: type.outputType)
        return try exportGGUF(
            model: model, adapters: adapters, output: output, options: options, pool: pool, replacing: replacing,
            progress: progress)
    }
    let folder = try AtomicFolder(path: output, replacing: replacing)
    let source = try WeightSource(model: model, adapters: adapters), adapter = adapters.first?.path
    var report = ExportReport(path: output)
    try MergedWeights(source: source, type: type).write(into: folder, pool: pool, report: &report, progress: progress)
    try ModelFiles.copy(try ModelFiles.sources(model: model, adapter: adapter), into: folder.temporaryPath)
    try AtomicFile.write(try mergedConfig(model, source, type), to: folder.path(of: "config.json"))
    report.mergedModules = source.changes.count
    report.warnings += source.config.notes
    if let warning = report.idleAdapter(source.adapter) { report.warnings.append(warning) }
    try folder.commit()
    return report
}

/// The same with one adapter, or none.
public func mergeModel(
    model: String, adapter: String?, output: String, type: MergedType = .keep, pool: WorkerPool,
    replacing: Bool = false, progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
) throws -> ExportReport {
    try mergeModel(
        model: model, adapters: adapter.map { [($0, 1)] } ?? [], output: output, type: type, pool: pool,
        replacing: replacing, progress: progress)
}

/// config.json, byte for byte where nothing in it changes.
private func mergedConfig(_ model: String, _ source: WeightSource, _ type: MergedType) throws -> [UInt8] {
    var json = source.config.json
    var isChanged = false
    if let element = type.elementType {
        let name: JSONValue =
            switch element {
            case .f16: "float16"
            case .bf16: "bfloat16"
            default: "float32"
            }
        // Old files say torch_dtype, new ones dtype; readers of either accept the key that is there.
        let key = json["torch_dtype"] != nil && json["dtype"] == nil ? "torch_dtype" : "dtype"
        json[key] = name
        isChanged = true
    }
    if source.untiesHead {
        json["tie_word_embeddings"] = false
        isChanged = true
    }
    // What the weights are not is not written on.
    isChanged = isChanged || source.config.hasStaleQuantization
    guard isChanged else { return try readFile(model + "/config.json", limit: 16 << 20) }
    return JSONWriter.bytes(.object(json), .pretty) + [UInt8(ascii: "\n")]
}

/// The tensors of a merged folder, file by file.
private struct MergedWeights {
    let source: WeightSource
    let type: MergedType

    private func declaration(_ output: WeightSource.Output) -> SafetensorsWriter.Declaration {
        let stored = output.entry.type
        let wanted = stored.isFloatingPoint ? type.elementType ?? stored : stored
        return .init(name: output.name, type: wanted, shape: output.shape)
    }

    /// The outputs of each of the base's files; an untied head joins the file of the embedding.
    private func outputs() -> [[WeightSource.Output]] {
        let untied = source.untiedHead
        return source.files.files.map { file in
            var outputs: [WeightSource.Output] = []
            for entry in file.entries where source.files.file(of: entry.name) === file {
                // Some checkpoints hold a copy of the tied head, which is no longer the head.
                if untied != nil, entry.name.hasSameBytes(as: ParameterTable.head) { continue }
                outputs.append(.init(name: entry.name, entry: entry, updates: source.updates(of: entry.name)))
                if let untied, entry.name.hasSameBytes(as: ParameterTable.embedding) { outputs.append(untied) }
            }
            return outputs
        }
    }

    func write(
        into folder: AtomicFolder, pool: WorkerPool, report: inout ExportReport, progress: (Int, Int) throws -> Void
    ) throws {
        let outputs = outputs()
        let declarations = outputs.map { $0.map(declaration) }
        let total = declarations.joined().reduce(0) { $0 + ($1.type.byteCount(of: $1.shape) ?? 0) }
        var map: [(key: String, value: JSONValue)] = []
        for (index, (outputs, declarations)) in zip(outputs, declarations).enumerated() {
            let name = fileName(index, of: source.files.files.count)
            let writer = try SafetensorsWriter(
                path: folder.path(of: name), tensors: declarations, metadata: [("format", "pt")])
            let tensors = zip(outputs, declarations).map { (output: $0, type: rowType($0, $1.type)) }
            let change = try source.stream(tensors, pool: pool) { tensor, bytes in
                try writer.append(bytes, to: outputs[tensor].name)
                report.byteCount += bytes.count
                try progress(report.byteCount, total)
            }
            report.largestChange = max(report.largestChange, change)
            report.tensorCount += outputs.count
            map += outputs.map { ($0.name, .string(name)) }
            try source.files.files[index].checkUnchanged()
            try writer.finish()
        }
        if outputs.count > 1 {
            map.sort { ByteString($0.key) < ByteString($1.key) }
            let index: JSONValue = [
                "metadata": ["total_size": .integer(total)], "weight_map": .object(JSONObject(map)),
            ]
            try AtomicFile.write(
                JSONWriter.bytes(index, .pretty) + [UInt8(ascii: "\n")],
                to: folder.path(of: "model.safetensors.index.json"))
        }
    }

    /// What rows are encoded as; nil where the file's bytes can stay as they are.
    private func rowType(_ output: WeightSource.Output, _ wanted: ElementType) -> GGMLType? {
        if output.updates.isEmpty, output.entry.type == wanted { return nil }
        switch wanted {
        case .f16: return .f16
        case .bf16: return .bf16
        case .f32: return .f32
        default: preconditionFailure("a merged weight of type \(wanted)")
        }
    }

    private func fileName(_ index: Int, of count: Int) -> String {
        guard count > 1 else { return "model.safetensors" }
        func padded(_ number: Int) -> String {
            let digits = String(number)
            return String(repeating: "0", count: max(0, 5 - digits.utf8.count)) + digits
        }
        return "model-\(padded(index + 1))-of-\(padded(count)).safetensors"
    }
}
