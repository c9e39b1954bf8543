public import FileFormats

/// One thing that is wrong with one row of a data file.
public struct RowFault: Sendable {
    /// The file, or nil when the rows were given in memory.
    public var file: String?
    /// Counted from 1: the line of a JSONL file, the element of a JSON array.
    public var row: Int
    public var reason: String

    public init(file: String?, row: Int, reason: String) {
        self.file = file
        self.row = row
        self.reason = reason
    }
}

/// Everything that can be wrong on the way from rows to packed batches.
public enum TextError: GraftError {
    /// The template is not a template, or evaluating it failed. Lines count from 1.
    case template(name: String, line: Int, reason: String)
    /// The template called `raise_exception`.
    case templateRaised(name: String, line: Int, message: String)
    /// The template used up one of the limits it runs under.
    case templateLimit(name: String, line: Int, limit: String)
    case noTemplate(folder: String)
    case templateFile(path: String, reason: String)
    /// `continue_final_message` cannot find the message in the rendered text.
    case cannotContinue(reason: String)
    case missingFile(path: String)
    case emptyData(path: String)
    case unreadable(path: String, reason: String)
    /// The first faults of a data set and the number of all of them.
    case badRows(faults: [RowFault], total: Int)
    case badOption(name: String, reason: String)

    public var exitStatus: ExitStatus {
        switch self {
        case .missingFile, .noTemplate: .missingInput
        case .unreadable: .io
        case .badOption: .badUsage
        default: .badInput
        }
    }

    public var description: String {
        switch self {
        case .template(let name, let line, let reason):
            "\(name), line \(line): \(reason)\nCorrect the chat template; it must render as Jinja does in Transformers."
        case .templateRaised(let name, let line, let message):
            "\(name), line \(line): the chat template refused the conversation: \(message)\n"
                + "Bring the rows into the form this template accepts."
        case .templateLimit(let name, let line, let limit):
            "\(name), line \(line): the chat template needs \(limit)\nShorten the row or simplify the template."
        case .noTemplate(let folder):
            "\(folder): no chat template (looked for chat_template.jinja, tokenizer_config.json and "
                + "chat_template.json)\nAdd chat_template.jinja to the model folder, or use prompt/completion rows."
        case .templateFile(let path, let reason): "\(path): \(reason)\nCorrect or remove the file."
        case .cannotContinue(let reason):
            "continue_final_message: \(reason)\nEnd the conversation with the message that is to be continued."
        case .missingFile(let path): "\(path): no such file\nCheck the path; globs must match at least one file."
        case .emptyData(let path): "\(path): no rows\nGive a file with at least one row."
        case .unreadable(let path, let reason):
            "\(path): cannot be read: \(reason)\nCheck the file and its permissions."
        case .badRows(let faults, let total): Self.rowText(faults, total: total)
        case .badOption(let name, let reason): "\(name): \(reason)"
        }
    }

    private static func rowText(_ faults: [RowFault], total: Int) -> String {
        var lines = faults.map { fault in
            (fault.file.map { "\($0), " } ?? "") + "row \(fault.row): \(fault.reason)"
        }
        if total > faults.count { lines.append("... and \(total - faults.count) more bad rows") }
        lines.append("\(total) bad row\(total == 1 ? "" : "s"). Correct or remove \(total == 1 ? "it" : "them").")
        return lines.joined(separator: "\n")
    }
}
