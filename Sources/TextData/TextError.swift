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
    case missingFiles([String])
    case emptyData(path: String)
    case unreadable(path: String, reason: String)
    /// The file can be read, but is nothing that rows are read from.
    case notRows(path: String, reason: String)
    /// The first faults of a data set and the number of all of them.
    case badRows(faults: [RowFault], total: Int)
    case badOption(name: String, reason: String)
    /// All rows of the files were left out; each reason with how many.
    case noExamples(files: [String], reasons: [String])

    public var exitStatus: ExitStatus {
        switch self {
        case .missingFiles, .noTemplate: .missingInput
        case .unreadable: .io
        case .badOption: .badUsage
        default: .badInput
        }
    }

    public var problems: [String] {
        switch self {
        case .missingFiles(let paths): paths.map { "\($0): no such file" }
        case .badRows(let faults, let total):
            faults.map { Self.place($0) + $0.reason }
                + (total > faults.count ? ["... and \(total - faults.count) more bad rows"] : [])
        default: []
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
        case .missingFiles(let paths):
            paths.map { "\($0): no such file\n" }.joined()
                + (paths.first.map(nextStep(forMissing:)) ?? "check the path")
                + "; globs must match at least one file"
        case .emptyData(let path): "\(path): no rows\nGive a file with at least one row."
        case .unreadable(let path, let reason):
            "\(path): cannot be read: \(reason)\nCheck the file and its permissions."
        case .notRows(let path, let reason): "\(path): \(reason)"
        case .badRows(let faults, let total): Self.rowText(faults, total: total)
        case .badOption(let name, let reason): "\(name): \(reason)"
        case .noExamples(let files, let reasons):
            files.prefix(5).joined(separator: ", ") + (files.count > 5 ? " and \(files.count - 5) more files" : "")
                + ": no example is left: " + reasons.joined(separator: "; ")
        }
    }

    private static func place(_ fault: RowFault) -> String {
        (fault.file.map { "\($0), " } ?? "") + "row \(fault.row): "
    }

    private static func rowText(_ faults: [RowFault], total: Int) -> String {
        var lines: [String] = []
        for group in alike(faults.filter { $0.lint == nil }) {
            // A file that is wrong throughout is one mistake, told once.
            lines +=
                group.count > 9
                ? rowLists(group, indent: "").map { "\($0): \(group[0].reason)" }
                : group.map { Self.place($0) + $0.reason }
        }
        for lint in Lint.allCases {
            let found = faults.filter { $0.lint == lint }
            guard let first = found.first else { continue }
            lines.append("\(lint.rawValue): \(lint.title)")
            lines += rowLists(found, indent: "  ")
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

    /// Faults with the same reason together, in the order in which reasons appear.
    private static func alike(_ faults: [RowFault]) -> [[RowFault]] {
        var groups: [[RowFault]] = []
        var indices: [ByteString: Int] = [:]
        for fault in faults {
            let key = ByteString(fault.reason)
            if let index = indices[key] {
                groups[index].append(fault)
            } else {
                indices[key] = groups.count
                groups.append([fault])
            }
        }
        return groups
    }

    /// A line for each file with the numbers of its rows.
    private static func rowLists(_ faults: [RowFault], indent: String) -> [String] {
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
            return "\(indent)\(file.name.map { "\($0), " } ?? "")row\(count == 1 ? "" : "s") \(numberList(file.rows))"
        }
    }

    /// Rising numbers, a long run of neighbours by its ends: `3, 7, 20-319`.
    private static func numberList(_ numbers: [Int]) -> String {
        var parts: [String] = []
        var start = 0
        while start < numbers.count {
            var end = start
            while end + 1 < numbers.count, numbers[end + 1] == numbers[end] + 1 { end += 1 }
            if end - start < 9 { end = start }
            parts.append(end == start ? "\(numbers[start])" : "\(numbers[start])-\(numbers[end])")
            start = end + 1
        }
        return parts.joined(separator: ", ")
    }
}
