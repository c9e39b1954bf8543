import FileFormats
import FineTuning

/// The weights of a model folder with adapters' updates added as they are read: W + sum w scale B A in f32.
final class WeightSource {
    /// A tensor to be written, and where its values come from.
    struct Output {
        var name: String
        /// In the base; of an untied head that of the embedding.
        var entry: TensorEntry
        /// What adapters do to it.
        var updates = AdapterChanges.Changes()
        /// The heads whose rows change places for llama.cpp; nil leaves rows as they are.
        var permutedHeads: Int?
        /// Added to every value.
        var offset: Float = 0

        var shape: [Int] { entry.shape }
    }

    let path: String
    let config: ModelConfig
    let files: SafetensorsFolder
    let table: ParameterTable
    let changes: AdapterChanges

    var adapter: AdapterFile? { changes.adapter }

    /// Reads the headers and checks that weights and adapters fit config.json.
    ///
    /// - Throws: `FileError`, `FineTuningError.weightMismatch`, `.adapterMismatch` with all that does not fit.
    init(model path: String, adapters: [(path: String, weight: Double)]) throws {
        self.path = path
        files = try SafetensorsFolder(path: path)
        config = try ModelConfig(path: path, files: files)
        table = ParameterTable(config)
        let problems = table.mismatches(files)
        guard problems.isEmpty else { throw FineTuningError.weightMismatch(path: path, problems: problems) }
        changes = try AdapterChanges(adapters, table: table, config: config)
    }

    convenience init(model path: String, adapter: String?) throws {
        try self.init(model: path, adapters: adapter.map { [($0, 1)] } ?? [])
    }

    func updates(of parameter: String) -> AdapterChanges.Changes { changes.updates(of: parameter) }

    var untiesHead: Bool { changes.untiesHead }

    /// The head of a model that is untied by merging: what the embedding was, with the head's changes.
    var untiedHead: Output? {
        guard untiesHead, let entry = files.entry(named: ParameterTable.embedding) else { return nil }
        return Output(name: ParameterTable.head, entry: entry, updates: updates(of: ParameterTable.head))
    }

    /// The head that a GGUF file holds beside the model's own tensors: an untied one, or where llama.cpp needs it the
    /// embedding once more.
    var ggufHead: Output? {
        guard !untiesHead, config.tiesEmbeddings, config.family.gguf.needsHead else { return untiedHead }
        return files.entry(named: ParameterTable.embedding).map {
            Output(name: ParameterTable.head, entry: $0, updates: updates(of: ParameterTable.embedding))
        }
    }
}

/// Where the rows of a tensor come from when each head's two halves are interleaved, as llama.cpp's rotary embedding
/// wants them: (heads, 2, d/2) becomes (heads, d/2, 2).
struct RowOrder {
    private let headRows: Int?

    init(heads: Int?, rows: Int) { headRows = heads.map { rows / $0 } }

    /// Whether any row changes its place.
    var moves: Bool { headRows != nil }

    func source(of row: Int) -> Int {
        guard let headRows else { return row }
        let (head, inside) = row.quotientAndRemainder(dividingBy: headRows)
        return head * headRows + inside % 2 * (headRows / 2) + inside / 2
    }

    /// The row of the result that `source(of:)` takes from `row`.
    func place(ofSource row: Int) -> Int {
        guard let headRows else { return row }
        let (head, inside) = row.quotientAndRemainder(dividingBy: headRows)
        return head * headRows + inside % (headRows / 2) * 2 + inside / (headRows / 2)
    }
}
