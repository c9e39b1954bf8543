import FileFormats
import FineTuning
import Foundation
public import TensorCore
import TextData

/// How a GGUF file is written.
public struct GGUFExportOptions: Sendable {
    /// Nil keeps each tensor's type, for a source that is a GGUF file.
    public var type: GGUFOutputType?
    /// `general.name`; nil takes the model folder's name, or what a GGUF file has there.
    public var name: String?
    /// The path of an importance matrix.
    public var importance: String?
    /// The tensors' bytes that a part may have; nil writes one file.
    public var maximumPartSize: Int?

    public init(type: GGUFOutputType?, name: String? = nil, importance: String? = nil, maximumPartSize: Int? = nil) {
        self.type = type
        self.name = name
        self.importance = importance
        self.maximumPartSize = maximumPartSize
    }
}

/// Writes a model, with an adapter's updates added on the way when one is given, as a GGUF file that llama.cpp,
/// Ollama, LM Studio, Jan and GPT4All run: weights, tokenizer and chat template inside.
///
/// Tensors pass through in pieces, so memory stays at some tens of megabytes beyond the adapter's file.
/// - Parameters:
///   - model: a Hugging Face folder, or a GGUF file, whose metadata the new file gets.
///   - progress: called with the bytes written so far and in all; what it throws ends the export.
/// - Throws: `FileError` (`.outputExists` when something stands at `output`), `FineTuningError`, `ExportError`,
///   `TokenizerError`.
public func exportGGUF(
    model: String, adapters: [(path: String, weight: Double)], output: String, options: GGUFExportOptions,
    pool: WorkerPool,
    replacing: Bool = false, progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
) throws -> ExportReport {
    var plan =
        TextResources.isGGUF(model)
        ? try GGUFPlan(gguf: model, adapters: adapters, options: options)
        : try GGUFPlan(folder: model, adapters: adapters, options: options)
    try plan.chooseTypes(options)
    return try plan.write(to: output, options: options, pool: pool, replacing: replacing, progress: progress)
}

/// The same with one adapter, or none.
public func exportGGUF(
    model: String, adapter: String? = nil, output: String, options: GGUFExportOptions, pool: WorkerPool,
    replacing: Bool = false, progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
) throws -> ExportReport {
    try exportGGUF(
        model: model, adapters: adapter.map { [($0, 1)] } ?? [], output: output, options: options, pool: pool,
        replacing: replacing, progress: progress)
}

/// The same with a type alone.
public func exportGGUF(
    model: String, adapter: String? = nil, output: String, type: GGUFOutputType, name: String? = nil,
    pool: WorkerPool, replacing: Bool = false,
    progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
) throws -> ExportReport {
    try exportGGUF(
        model: model, adapter: adapter, output: output, options: GGUFExportOptions(type: type, name: name), pool: pool,
        replacing: replacing, progress: progress)
}

/// What a GGUF file is to hold.
struct GGUFPlan {
    var metadata: [(key: String, value: GGUFValue)]
    /// By GGUF name.
    var tensors: [(name: String, tensor: StreamedTensor)]
    /// Tensors that no file has.
    var extras: [(name: String, values: [Float])] = []
    var changes: AdapterChanges?
    var warnings: [String] = []
    /// Throws when a source was changed since it was opened.
    var checkSources: () throws -> Void

    /// Of a Hugging Face folder.
    init(folder: String, adapters: [(path: String, weight: Double)], options: GGUFExportOptions) throws {
        let source = try WeightSource(model: folder, adapters: adapters), adapterPath = adapters.first?.path
        var architecture = GGUFArchitecture(source.config), isPhi3: Bool?
        metadata = [
            ("general.architecture", .string(architecture.name)), ("general.type", .string("model")),
            ("general.name", .string(options.name ?? HubCache.name(ofFolder: folder))),
            ("general.file_type", .uint32((options.type ?? .f16).fileType)),
            ("general.quantization_version", .uint32(2)),
        ]
        metadata += try architecture.metadata(path: folder)
        warnings += architecture.warnings + source.config.notes
        let text = TextSources(model: folder, adapter: adapterPath)
        if TextSources.hasVocabulary(text.vocabulary) {
            var tokenizer = try GGUFTokenizer(path: text.vocabulary, settings: text.settings, config: source.config)
            let templates = try ModelFiles.chatTemplates(model: folder, adapter: adapterPath)
            metadata += try tokenizer.metadata(templates: templates)
            warnings += tokenizer.warnings
            warnings += tokenizer.chatNotes(
                try ChatTemplate.loadIfPresent(folder: text.template, settings: text.settings))
            isPhi3 = tokenizer.stripsAfterSpecial
        } else {
            metadata.append(("tokenizer.ggml.model", .string("none")))
            warnings.append("the model folder has no tokenizer: the file takes and gives token ids only")
        }
        tensors = source.ggufTensors()
        extras = architecture.frequencyDivisors
        changes = source.changes
        checkSources = { for file in source.files.files { try file.checkUnchanged() } }
        if let isPhi3 { name(asPhi3: isPhi3) }
    }

    /// Gives the model a name by which llama.cpp drops the white space after special tokens, or keeps it.
    private mutating func name(asPhi3: Bool) {
        guard let index = metadata.firstIndex(where: { $0.key.hasSameBytes(as: "general.name") }),
            let name = metadata[index].value.stringValue,
            ["phi-3", "phi3"].contains(where: name.lowercased().contains) != asPhi3
        else { return }
        let new =
            asPhi3
            ? name + " phi-3"
            : name.replacingOccurrences(of: "(phi)-?3", with: "$1_3", options: [.regularExpression, .caseInsensitive])
        metadata[index].value = .string(new)
        warnings.append(
            "the name inside the file is \(quoted(new)): by \"phi-3\" in it llama.cpp knows that special tokens take the "
                + "space after them along, which they do \(asPhi3 ? "" : "not ")here")
    }

    /// Settles the type of each tensor, and what its columns weigh.
    mutating func chooseTypes(_ options: GGUFExportOptions) throws {
        guard let type = options.type else {
            for index in tensors.indices { tensors[index].tensor.type = tensors[index].tensor.kept }
            return
        }
        let shapes = tensors.map { (name: $0.name, shape: $0.tensor.source.shape) }
        var mix = QuantizationMix(type, metadata: metadata, hasImportance: options.importance != nil)
        let types = mix.types(of: shapes)
        for (index, type) in types.enumerated() { tensors[index].tensor.type = type }
        warnings += QuantizationMix.warnings(shapes, types, type)
        guard let path = options.importance else { return }
        let weights = try ImportanceMatrix(path: path).weights(of: shapes, path: path)
        var missing: [String] = []
        for index in tensors.indices where types[index].blockLength > 1 {
            tensors[index].tensor.importance = weights[index]
            // llama.cpp's own matrices leave out the embedding and the head.
            if weights[index] == nil, shapes[index].name.utf8.starts(with: "blk.".utf8) {
                missing.append(shapes[index].name)
            }
        }
        if let first = missing.first {
            warnings.append("\(missing.count) tensors have no entry in \(path): \(first)...")
        }
    }

    func write(
        to output: String, options: GGUFExportOptions, pool: WorkerPool, replacing: Bool,
        progress: (Int, Int) throws -> Void
    ) throws -> ExportReport {
        var report = ExportReport(path: output)
        report.warnings = warnings
        var declarations = tensors.map {
            GGUFWriter.Declaration(name: $0.name, type: $0.tensor.type!, shape: $0.tensor.source.shape)
        }
        declarations += extras.map { .init(name: $0.name, type: .f32, shape: [$0.values.count]) }
        let total = declarations.reduce(0) { $0 + ($1.type.byteCount(of: $1.shape) ?? 0) }
        let writer = try GGUFSplitWriter(
            path: output, metadata: metadata, tensors: declarations, maximumSize: options.maximumPartSize,
            replacing: replacing)
        report.largestChange = try tensors.map { $0.tensor.passingEqualBytes }.write(pool: pool) {
            tensor, bytes in
            try writer.append(bytes, to: declarations[tensor].name)
            report.byteCount += bytes.count
            try progress(report.byteCount, total)
        }
        for (name, values) in extras {
            try writer.append(values, to: name)
            report.byteCount += values.count * 4
        }
        try checkSources()
        if let warning = report.idleAdapter(changes?.adapter) { report.warnings.append(warning) }
        try writer.finish()
        if writer.paths.count > 1 { report.parts = writer.paths }
        report.tensorCount = declarations.count
        report.mergedModules = changes?.count ?? 0
        return report
    }
}
