public import FileFormats
import FineTuning

/// What keeps a model from being merged or written in another format.
public enum ExportError: GraftError {
    /// The tokenizer has parts that the format, or the programs that read it, cannot represent.
    case tokenizer(path: String, problems: [String])
    /// The model computes something that the programs that read the format do not.
    case model(path: String, problems: [String])
    /// The adapter holds something that an adapter file of the format cannot carry.
    case adapter(path: String, problems: [String])
    /// Something cannot be made ready for a program.
    case ready(target: String, path: String, problems: [String])
    /// A GGUF file that graft cannot run.
    case unreadable(path: String, problems: [String])
    /// A GGUF file of a family that graft runs, whose parts contradict each other.
    case damaged(path: String, problems: [String])
    /// A file that is no importance matrix, or one of another model.
    case importance(path: String, problems: [String])
    /// A value that the requested type cannot hold.
    case value(tensor: String, row: Int, found: Float, type: String)

    public var exitStatus: ExitStatus { .badInput }

    public var problems: [String] {
        switch self {
        case .tokenizer(_, let problems), .model(_, let problems), .adapter(_, let problems),
            .ready(_, _, let problems), .unreadable(_, let problems), .damaged(_, let problems),
            .importance(_, let problems):
            problems
        case .value: []
        }
    }

    public var description: String {
        func list(_ head: String, _ problems: [String], _ next: String) -> String {
            ([head] + problems.map { "  - " + $0 } + [next]).joined(separator: "\n")
        }
        switch self {
        case .tokenizer(let path, let problems):
            return list(
                "\(path): the tokenizer cannot be put into a GGUF file:", problems,
                "Merge to a Hugging Face folder instead ('graft merge'), which keeps the tokenizer as it is.")
        case .model(let path, let problems):
            return list(
                "\(path): the model cannot be written as GGUF:", problems,
                "Merge to a Hugging Face folder instead ('graft merge').")
        case .adapter(let path, let problems):
            return list(
                "\(path): the adapter cannot be written as a GGUF adapter:", problems,
                "Export the merged model instead: leave out --adapter-only.")
        case .ready(let target, let path, let problems):
            return list(
                "\(path): this cannot be made ready for \(target):", problems,
                "A merged folder has none of these limits: 'graft export --for hf' with the same model and adapter.")
        case .unreadable(let path, let problems):
            return list(
                "\(path): graft cannot run this GGUF file:", problems,
                "Use the model's Hugging Face folder, or a GGUF file of one of the families that graft runs.")
        case .damaged(let path, let problems):
            return list(
                "\(path): this GGUF file is damaged; its metadata and its tensors do not belong together:", problems,
                "Fetch or write the file again.")
        case .importance(let path, let problems):
            return list(
                "\(path): the importance matrix cannot be used:", problems,
                "Make one with 'graft imatrix', or leave --imatrix out.")
        case .value(let tensor, let row, let found, let type):
            return "tensor \(quoted(tensor)), row \(row): the value \(found) cannot be written as \(type)\n"
                + (found.isFinite
                    ? "Choose bf16 or f32, which hold larger numbers."
                    : "The weights are damaged; take an earlier checkpoint.")
        }
    }
}

/// What a merge or an export did.
public struct ExportReport: Sendable {
    public var path: String
    /// The files that were written, when the output was split.
    public var parts: [String] = []
    public var tensorCount = 0
    /// Bytes of tensor data written.
    public var byteCount = 0
    /// Modules that the adapter changed.
    public var mergedModules = 0
    /// The largest change of a weight by the adapter; 0 with an adapter means that it changes nothing.
    public var largestChange: Float = 0
    /// What the reader of the file should know: differences that the format brings.
    public var warnings: [String] = []

    /// How what was written compares with base and adapter; nil when it was not compared.
    public var parity: ParityReport?

    /// What to say when an adapter was given and changed no weight.
    func idleAdapter(_ adapter: AdapterFile?) -> String? {
        guard let adapter, largestChange == 0 else { return nil }
        return "\(adapter.folder): the adapter changes nothing: all its updates are zero; was it trained?"
    }
}
