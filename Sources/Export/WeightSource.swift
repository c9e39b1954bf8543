import FileFormats
import FineTuning

/// The weights of a model folder with an adapter's updates added as they are read: W + scale B A in f32.
final class WeightSource {
    /// A tensor to be written, and where its values come from.
    struct Output {
        var name: String
        var entry: TensorEntry
        var update: AdapterFile.Update?
        /// The heads whose rows change places for llama.cpp; nil leaves rows as they are.
        var permutedHeads: Int?
        /// Added to every value.
        var offset: Float = 0

        var shape: [Int] { entry.shape }
    }

    let path: String
    let config: ModelConfig
    let files: SafetensorsFolder
    let adapter: AdapterFile?
    let table: ParameterTable
    private let updates: [ByteString: AdapterFile.Update]

    /// Reads the headers and checks that weights and adapter fit config.json.
    ///
    /// - Throws: `FileError`, `FineTuningError.weightMismatch`, `.adapterMismatch` with all that does not fit.
    init(model path: String, adapter adapterPath: String?) throws {
        self.path = path
        config = try ModelConfig(path: path)
        files = try SafetensorsFolder(path: path)
        table = ParameterTable(config)
        let problems = table.mismatches(files)
        guard problems.isEmpty else { throw FineTuningError.weightMismatch(path: path, problems: problems) }
        adapter = try adapterPath.map { try AdapterFile(folder: $0) }
        if let adapter, let adapterPath {
            var modules = table.linearModules.map {
                (name: $0.name, outputWidth: $0.outputWidth, inputWidth: $0.inputWidth)
            }
            modules.append((ParameterTable.headModule, config.vocabularySize, config.hiddenSize))
            let problems = adapter.mismatches(modules: modules)
            guard problems.isEmpty else { throw FineTuningError.adapterMismatch(path: adapterPath, problems: problems) }
        }
        updates = Dictionary(
            (adapter?.updates ?? []).map { (ByteString($0.module + ".weight"), $0) }, uniquingKeysWith: { a, _ in a })
    }

    func update(of parameter: String) -> AdapterFile.Update? { updates[ByteString(parameter)] }

    /// Whether the adapter changes the head of a model whose head is the embedding: the two part on merging.
    var untiesHead: Bool { config.tiesEmbeddings && update(of: ParameterTable.head) != nil }

    /// The head of a model that is untied by merging: the embedding's values with the head's update.
    var untiedHead: Output? {
        guard untiesHead, let entry = files.entry(named: ParameterTable.embedding) else { return nil }
        return Output(name: ParameterTable.head, entry: entry, update: update(of: ParameterTable.head))
    }
}

/// Where the rows of a tensor come from when each head's two halves are interleaved, as llama.cpp's rotary embedding
/// wants them: (heads, 2, d/2) becomes (heads, d/2, 2).
struct RowOrder {
    private let headRows: Int?

    init(heads: Int?, rows: Int) { headRows = heads.map { rows / $0 } }

    func source(of row: Int) -> Int {
        guard let headRows else { return row }
        let (head, inside) = row.quotientAndRemainder(dividingBy: headRows)
        return head * headRows + inside % 2 * (headRows / 2) + inside / 2
    }
}
