public import FileFormats

/// One thing that is wrong with one row of a data file.
public struct RowFault: Sendable, Codable {
    /// The file, or nil when the rows were given in memory.
    public var file: String?
    /// Counted from 1: the line of a JSONL file, the element of a JSON array.
    public var row: Int
    public var reason: String
    /// Set for damage that can be accepted by name.
    public var lint: Lint?

    public init(file: String?, row: Int, reason: String, lint: Lint? = nil) {
        self.lint = lint
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
        func place(_ fault: RowFault) -> String { (fault.file.map { "\($0), " } ?? "") + "row \(fault.row): " }
        let plain = faults.filter { $0.lint == nil }
        var lines = plain.map { place($0) + $0.reason }
        for lint in Lint.allCases {
            let found = faults.filter { $0.lint == lint }
            guard let first = found.first else { continue }
            lines.append("\(lint.rawValue): \(lint.title)")
            lines += rowLists(found)
            lines.append("  such as \(place(first))\(first.reason)")
            lines.append("  \(lint.fix)")
        }
        if total > faults.count { lines.append("... and \(total - faults.count) more bad rows") }
        lines.append("\(total) bad row\(total == 1 ? "" : "s"). Correct or remove \(total == 1 ? "it" : "them").")
        return lines.joined(separator: "\n")
    }

    private static func sameName(_ a: String?, _ b: String?) -> Bool {
        guard let a, let b else { return a == nil && b == nil }
        return a.hasSameBytes(as: b)
    }

    /// A line for each file with the numbers of its rows.
    private static func rowLists(_ faults: [RowFault]) -> [String] {
        var files: [(name: String?, rows: [Int])] = []
        for fault in faults {
            if let last = files.indices.last, sameName(files[last].name, fault.file) {
                files[last].rows.append(fault.row)
            } else {
                files.append((fault.file, [fault.row]))
            }
        }
        return files.map { file in
            let count = file.rows.count
            return "  \(file.name.map { "\($0), " } ?? "")row\(count == 1 ? "" : "s") "
                + file.rows.map(String.init).joined(separator: ", ")
        }
    }
}
