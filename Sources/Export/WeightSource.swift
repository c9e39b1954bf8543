import FileFormats
import FineTuning
import TensorCore

/// The weights of a model folder with an adapter's updates added as they are read: W + scale B A in f32.
final class WeightSource {
    /// A tensor to be written, and where its values come from.
    struct Output {
        var name: String
        var entry: TensorEntry
        /// What is added to its rows.
        var updates: [RowUpdate] = []
        /// The heads whose rows change places for llama.cpp; nil leaves rows as they are.
        var permutedHeads: Int?
        /// Added to every value.
        var offset: Float = 0

        var shape: [Int] { entry.shape }
    }

    /// An update of some rows of a tensor; its last dimension is a row's.
    struct RowUpdate {
        var rows: Range<Int>
        var update: AdapterFile.Update
        /// The expert that the rows are of, where the update is one of all experts.
        var expert: (index: Int, count: Int, outputs: Range<Int>, isTransposed: Bool)?

        /// A and B for these rows, without the scale.
        func matrices(_ file: AdapterFile) throws -> (a: Tensor, b: Tensor) {
            guard let expert else { return try file.matrices(of: update) }
            let (a, b) = try file.matrices(of: update, expert: expert.index, of: expert.count, outputs: expert.outputs)
            // (B A)^T = A^T B^T
            return expert.isTransposed ? (b.transposed(), a.transposed()) : (a, b)
        }
    }

    let path: String
    let config: ModelConfig
    let files: SafetensorsFolder
    let adapter: AdapterFile?
    let table: ParameterTable
    private let sites: [AdapterSite]
    private let updates: [ByteString: [RowUpdate]]

    /// Reads the headers and checks that weights and adapter fit config.json.
    ///
    /// - Throws: `FileError`, `FineTuningError.weightMismatch`, `.adapterMismatch` with all that does not fit.
    init(model path: String, adapter adapterPath: String?) throws {
        self.path = path
        files = try SafetensorsFolder(path: path)
        config = try ModelConfig(path: path, files: files)
        table = ParameterTable(config)
        let problems = table.mismatches(files)
        guard problems.isEmpty else { throw FineTuningError.weightMismatch(path: path, problems: problems) }
        adapter = try adapterPath.map { [table] in try table.adapter(folder: $0) }
        sites = if let adapter { table.adapterSites(adapter.config) } else { [] }
        updates = if let adapter { Self.rowUpdates(adapter, sites, table, config) } else { [:] }
    }

    func updates(of parameter: String) -> [RowUpdate] { updates[ByteString(parameter)] ?? [] }

    /// The adapter's updates and the sites that they are for.
    var siteUpdates: [(site: AdapterSite, update: AdapterFile.Update)] {
        guard let adapter else { return [] }
        let byModule = Dictionary(sites.map { (ByteString($0.module), $0) }, uniquingKeysWith: { a, _ in a })
        return adapter.updates(sites).map { (byModule[ByteString($0.module)]!, $0) }
    }

    /// Whether the adapter changes the head of a model whose head is the embedding: the two part on merging.
    var untiesHead: Bool { config.tiesEmbeddings && !updates(of: ParameterTable.head).isEmpty }

    /// The head of a model that is untied by merging: the embedding's values with the head's update.
    var untiedHead: Output? {
        guard untiesHead, let entry = files.entry(named: ParameterTable.embedding) else { return nil }
        return Output(name: ParameterTable.head, entry: entry, updates: updates(of: ParameterTable.head))
    }
}

extension ParameterTable {
    /// An adapter that fits this model.
    ///
    /// - Throws: `FineTuningError.adapterMismatch` with all that does not fit.
    func adapter(folder: String) throws -> AdapterFile {
        let adapter = try AdapterFile(folder: folder)
        let problems = adapter.mismatches(sites: adapterSites(adapter.config))
        guard problems.isEmpty else { throw FineTuningError.adapterMismatch(path: folder, problems: problems) }
        return adapter
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
}
