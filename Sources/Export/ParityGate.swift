import FileFormats
import FineTuning
import Foundation
public import TensorCore
import TextData

/// Reads back what was written and compares it with base and adapters.
///
/// Weights are compared with W + scale B A in f32, elements of types that only round within half a step, others by
/// their error's size; logits of a sample with those of base and adapters in f32, which never were merged; the sample's
/// ids and the rendered conversations with the model's own. Memory is that of the largest tensor in f32, and of the
/// sample's logits, at most 192 tokens, twice.
public struct ParityGate {
    private let data: [String]
    private let pool: WorkerPool

    /// - Parameter data: files of rows that the sample is taken from; none takes a built-in multilingual one.
    public init(data: [String] = [], pool: WorkerPool) {
        self.data = data
        self.pool = pool
    }

    /// Has `write` write an output next to its place, compares it, and publishes it only then.
    ///
    /// - Parameter write: gets the path to write to and gives what it did; a folder, or one or more files.
    /// - Throws: `ParityError.diverged`, what `write` throws, `FileError`; nothing is published then.
    public func passing(
        output: String, model: String, adapters: [(path: String, weight: Double)], replacing: Bool = false,
        write: (String) throws -> ExportReport
    ) throws -> ExportReport {
        let stage = try AtomicFolder(path: output, replacing: replacing)
        let name = splitPath(output).name
        var report = try write(stage.path(of: name))
        let path = report.parts.first ?? stage.path(of: name)
        do {
            report.parity = try compare(path, model: model, adapters: adapters, isOwn: true)
        } catch ParityError.diverged(_, let problems, let advice) {
            throw ParityError.diverged(path: output, problems: problems, advice: advice)
        }
        try stage.publishContents()
        report.path = output
        report.parts = report.parts.map { siblingPath(of: output, name: splitPath($0).name) }
        return report
    }

    /// Compares a merged folder, a GGUF model or a GGUF adapter with the base and the adapters that it comes from.
    ///
    /// - Parameter isOwn: whether graft wrote it, so that its metadata have to be those that graft writes; others may
    ///   say the same otherwise
    /// - Throws: `ParityError.diverged` with all that differs; what keeps base or adapters from being read.
    public func compare(
        _ path: String, model: String, adapters: [(path: String, weight: Double)], isOwn: Bool = false
    ) throws -> ParityReport {
        let base = try ParityBase(model: model, adapters: adapters)
        let text = try TextResources(model: model, adapter: adapters.first?.path)
        let sample = try ParitySample(text: text, vocabulary: base.vocabularySize, config: base.config, data: data)
        var comparison = ModelComparison(base: base, text: text, sample: sample, pool: pool)
        do { try comparison.compare(path, isOwn: isOwn) } catch let error as any GraftError
            where [.badInput, .missingInput].contains(error.exitStatus)
        {
            // A disk that fails, or a request to stop, says nothing about what was written.
            comparison.problems.append("it cannot be read back: \(error)")
            comparison.cause = .weights
        }
        guard comparison.problems.isEmpty else {
            throw ParityError.diverged(
                path: path, problems: comparison.problems, advice: (comparison.cause ?? .weights).advice)
        }
        return comparison.report
    }
}

/// What a written model is to equal: a base, and adapters on it.
struct ParityBase {
    let path: String
    let adapters: [(path: String, weight: Double)]
    /// Nil for a GGUF file that graft does not run.
    let config: ModelConfig?
    /// Why graft does not run it.
    let reason: String?
    let vocabularySize: Int
    let changes: AdapterChanges?
    private let gguf: GGUFModel?

    /// - Throws: what keeps them from being read; what graft does not run, but can rewrite, is none of that.
    init(model path: String, adapters: [(path: String, weight: Double)]) throws {
        self.path = path
        self.adapters = adapters
        if TextResources.isGGUF(path) {
            (gguf, reason) = try GGUFModel.ifRun(path: path)
            config = gguf?.config
            let file = try gguf?.file ?? GGUFFile(path: path)
            vocabularySize = file.tensor(named: "token_embd.weight")?.shape.first ?? 1
            changes = try config.map { try AdapterChanges(adapters, table: ParameterTable($0), config: $0) }
        } else {
            (gguf, reason) = (nil, nil)
            let source = try WeightSource(model: path, adapters: adapters)
            (config, vocabularySize, changes) = (source.config, source.config.vocabularySize, source.changes)
        }
    }

    /// Whether the written model's head is a tensor of its own where the base's is the embedding.
    var untiesHead: Bool { changes?.untiesHead ?? false }

    /// A stream that keeps in memory what adapters change beyond low-rank updates of linear layers.
    func stream() -> WeightStream {
        guard let changes else { return WeightStream() }
        let tables = [ParameterTable.embedding, ParameterTable.head].map(changes.updates)
        let isPlain = tables[0].isEmpty && tables[1].replacement == nil && tables[1].rows == nil && !untiesHead
        return WeightStream(keeping: isPlain ? [] : [ParameterTable.embedding, ParameterTable.head])
    }

    /// Base and adapters, never merged.
    func model(_ stream: WeightStream) throws -> DecoderModel {
        let model: DecoderModel
        if let gguf {
            model = DecoderModel(config: gguf.config, dtype: .f32, stream: stream, read: gguf.read)
        } else {
            model = try DecoderModel(folder: path, dtype: .f32, stream: stream)
        }
        try model.attachAdapters(adapters)
        return model
    }
}
