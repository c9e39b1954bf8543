import FileFormats
import FineTuning
import TensorCore

/// What adapters do to the tensors of a model.
struct AdapterChanges {
    /// What they do to one of them.
    struct Changes {
        /// Low-rank updates, DoRA's gain among them.
        var parts: [RowUpdate] = []
        /// The tensor that takes the base's place.
        var replacement: (file: SafetensorsFile, entry: TensorEntry)?
        /// Rows that take the place of the base's.
        var rows: (indices: [Int], file: AdapterFile, key: String)?

        var isEmpty: Bool { parts.isEmpty && replacement == nil && rows == nil }
    }

    /// An update of some rows of a tensor; its last dimension is a row's.
    struct RowUpdate {
        var rows: Range<Int>
        var part: AdapterStack.Part
        /// Where the rows are not B A as it stands: of B the rows `outputs`, or A and B turned around, and of an update of
        /// all experts the one that is meant.
        var piece: (expert: Int?, outputs: [Int], isTransposed: Bool)?

        /// A, B and the scale for these rows.
        ///
        /// - Parameter weight: gives the base's tensor in f32
        func matrices(_ weight: () -> Tensor) -> (a: Tensor, b: Tensor, scale: Float) {
            guard let piece else { return AdapterStack.joined([part], weight: weight) }
            var (a, b, scale): (Tensor, Tensor, Float)
            if let expert = piece.expert {
                (a, b) = part.member.file.matrices(of: part.update, expert: expert, outputs: piece.outputs)
                scale = Float(part.update.scale * part.member.weight)
            } else {
                (a, b, scale) = AdapterStack.joined([part], weight: weight)
                let (rank, all) = (b.shape[1], b.floats())
                b = Tensor(
                    [piece.outputs.count, rank], values: piece.outputs.flatMap { all[$0 * rank..<($0 + 1) * rank] })
            }
            // (B A)^T = A^T B^T
            return piece.isTransposed ? (b.transposed(), a.transposed(), scale) : (a, b, scale)
        }
    }

    let adapters: AdapterStack
    private let config: ModelConfig
    private let changes: [ByteString: Changes]

    /// - Throws: `FileError`, `FineTuningError.adapterMismatch` with all that does not fit.
    init(_ folders: [(path: String, weight: Double)], table: ParameterTable, config: ModelConfig) throws {
        adapters = try AdapterStack(folders, base: config)
        for member in adapters.members where member.plan.updates.contains(where: \.hasBias) {
            throw FineTuningError.adapterMismatch(
                path: member.file.folder,
                problems: ["lora_bias: a bias of B has no place in merged weights; graft runs and trains it unmerged"])
        }
        self.config = config
        var changes: [ByteString: Changes] = [:]
        for member in adapters.members {
            Self.rowUpdates(member, table, config) { name, update in
                changes[ByteString(name), default: Changes()].parts.append(update)
            }
            for item in member.plan.replacements + member.file.baseCopies(member.plan) {
                guard let entry = member.file.tensors.entry(named: item.key) else { continue }
                changes[ByteString(item.parameter), default: Changes()].replacement = (member.file.tensors, entry)
            }
            for rows in member.plan.rows {
                changes[ByteString(rows.module + ".weight"), default: Changes()].rows =
                    (rows.indices, member.file, rows.key)
            }
        }
        self.changes = changes
    }

    /// The adapter, or the first.
    var adapter: AdapterFile? { adapters.members.first?.file }

    func updates(of parameter: String) -> Changes { changes[ByteString(parameter)] ?? Changes() }

    /// Updates, modules and rows that adapters bring.
    var count: Int {
        adapters.members.reduce(0) { $0 + $1.plan.updates.count + $1.plan.replacements.count + $1.plan.rows.count }
    }

    /// Whether adapters part the head of a model from the embedding that it is: the two are written on their own.
    var untiesHead: Bool {
        guard config.tiesEmbeddings else { return false }
        let embedding = updates(of: ParameterTable.embedding)
        let head = updates(of: ParameterTable.head)
        if let rows = embedding.rows, embedding.parts.isEmpty, embedding.replacement == nil {
            // New rows of the embedding are the head's as well.
            return !head.isEmpty
                && (!head.parts.isEmpty || head.replacement != nil || head.rows?.indices != rows.indices)
        }
        return !(embedding.isEmpty && head.isEmpty) && !adapters.keepsTie
    }
}
