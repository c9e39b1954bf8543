internal import FileFormats

/// What one row gave.
struct RowOutcome: Sendable {
    enum Result: Sendable {
        case made(MadeExample)
        case faults([RowFault])
        /// Left out, because what is wrong with it was accepted.
        case leftOut
    }
    var result: Result
    var file: String?
    var row = 0
    var place = RowPlace()
    var fingerprint: RowFingerprint?
    var shape: RowShape?
    /// What is wrong with the row, and accepted.
    var accepted: [Lint] = []
    var spelling = RowLinter.Spelling()
    /// Keys that nothing was made of.
    var unread: [UnreadKey] = []
}

/// An example, and what should be said about it.
struct MadeExample: Sendable {
    var example: TokenizedExample
    /// Why nothing is trained, when nothing is.
    var reasonWithoutLabels: String?
    /// Each with what it was found in, where there is something to name.
    var notes: [ExampleNote: String] = [:]
    /// No turn's end is trained.
    var lacksEnd = false
    /// The text the tokens stand for and the bytes of it that each does; empty for rows that came as tokens. A token
    /// that was added behind the text has no range.
    var text = ""
    var byteRanges: [Range<Int>] = []
}

/// Gathers outcomes in the order of rows, and applies what is to happen to long ones.
struct ExampleCollector {
    var report = DataReport()
    private(set) var faultCount = 0
    private let options: ExampleOptions
    private var faults: [RowFault] = []
    private var lintFaults: [Lint: Int] = [:]
    /// How many rows have each of the reasons that an error names.
    private var plainFaults: [ByteString: Int] = [:]
    /// Rows that are not in NFC, up to as many as an error names; an error once other rows are.
    private var decomposed: [RowFault] = []
    private var decomposedCount = 0
    private var hasComposed = false
    private var notes: [ExampleNote: NotedRows] = [:]
    /// How many rows have each key that nothing is made of.
    private var unread: [UnreadKey: Int] = [:]
    /// Columns of files that are not even read, with their rows.
    var skippedColumns: [String: Int] = [:]
    private var examples: [TokenizedExample] = []
    private var origins: [RowOrigin] = []

    init(options: ExampleOptions) { self.options = options }

    /// What is known of the rows so far, to go on with in another process; examples and faults are not in it.
    struct Snapshot: Codable {
        var report: DataReport
        var decomposed: [RowFault]
        var decomposedCount: Int
        var hasComposed: Bool
        var noted: [ExampleNote: NotedRows]
        var unreadKeys: [String: Int]
        var unreadMessageKeys: [String: Int]
        var skippedColumns: [String: Int]
    }

    var snapshot: Snapshot {
        func names(ofMessages: Bool) -> [String: Int] {
            let counts = unread.filter { $0.key.isOfMessage == ofMessages }
            return [String: Int](counts.map { ($0.key.name.description, $0.value) }, uniquingKeysWith: +)
        }
        return Snapshot(
            report: report, decomposed: decomposed, decomposedCount: decomposedCount, hasComposed: hasComposed,
            noted: notes, unreadKeys: names(ofMessages: false), unreadMessageKeys: names(ofMessages: true),
            skippedColumns: skippedColumns)
    }

    /// Adds what is known of other rows of the same files.
    mutating func merge(_ other: Snapshot) {
        report.add(other.report)
        decomposed = Array((decomposed + other.decomposed).prefix(Self.lintFaultLimit))
        decomposedCount += other.decomposedCount
        hasComposed = hasComposed || other.hasComposed
        notes.merge(other.noted) { $0.merging($1) }
        for (keys, isOfMessage) in [(other.unreadKeys, false), (other.unreadMessageKeys, true)] {
            for (name, count) in keys {
                unread[UnreadKey(name: ByteString(name), isOfMessage: isOfMessage), default: 0] += count
            }
        }
        // Each shard has read all files.
        skippedColumns = other.skippedColumns
    }

    /// Rows that one lint, or one reason, names; a planted defect should be found wherever it is.
    static let lintFaultLimit = 1_000

    private mutating func add(_ fault: RowFault) {
        faultCount += 1
        if let lint = fault.lint {
            lintFaults[lint, default: 0] += 1
            if lintFaults[lint, default: 0] <= Self.lintFaultLimit { faults.append(fault) }
        } else if let count = plainFaults[ByteString(fault.reason)] {
            plainFaults[ByteString(fault.reason)] = count + 1
            if count < Self.lintFaultLimit { faults.append(fault) }
        } else if plainFaults.count < options.faultLimit {
            plainFaults[ByteString(fault.reason)] = 1
            faults.append(fault)
        }
    }

    mutating func add(_ outcomes: [RowOutcome]) {
        for outcome in outcomes {
            report.rows += 1
            for lint in outcome.accepted { report.accepted[lint, default: 0] += 1 }
            look(at: outcome)
            switch outcome.result {
            case .faults(let found): for fault in found { add(fault) }
            case .leftOut: break
            case .made(let made):
                if let shape = outcome.shape { report.shapes[shape, default: 0] += 1 }
                for key in outcome.unread { unread[key, default: 0] += 1 }
                for (note, detail) in made.notes {
                    notes[note, default: NotedRows()].add(file: outcome.file, row: outcome.row, detail)
                }
                add(made.example, outcome)
            }
        }
    }

    private mutating func look(at outcome: RowOutcome) {
        if outcome.spelling.isComposed { hasComposed = true }
        guard outcome.spelling.isDecomposed else { return }
        decomposedCount += 1
        guard decomposed.count < Self.lintFaultLimit else { return }
        decomposed.append(
            RowFault(
                file: outcome.file, row: outcome.row, reason: "it differs from its NFC form", lint: .mixedNormalization)
        )
    }

    private mutating func add(_ example: TokenizedExample, _ outcome: RowOutcome) {
        let length = example.longest
        guard let limit = options.maxLength, length > limit else { return keep(example, outcome) }
        switch options.overlong {
        case .error:
            add(
                RowFault(
                    file: outcome.file, row: outcome.row,
                    reason: "\(length) tokens are more than max_length \(limit); raise max_length, or set overlong to "
                        + "drop, truncate or split"))
        case .drop: report.dropped += 1
        case .truncate:
            report.truncated += 1
            let part = example.prefix(limit)
            if !part.isTrainable, example.isTrainable {
                guard options.accepts.contains(.truncatedLabels) else {
                    return add(
                        RowFault(
                            file: outcome.file, row: outcome.row,
                            reason: "\(length) tokens, the first trained one is behind max_length \(limit)",
                            lint: .truncatedLabels))
                }
                report.accepted[.truncatedLabels, default: 0] += 1
            }
            keep(part, outcome)
        case .split where example.judgement != nil:
            add(
                RowFault(
                    file: outcome.file, row: outcome.row,
                    reason: "\(length) tokens are more than max_length \(limit), and answers that are judged cannot be "
                        + "split; set overlong to drop or truncate"))
        case .split:
            report.split += 1
            // A piece begins with the token that ends the one before it, so that each token is predicted once.
            for start in stride(from: 0, to: length - 1, by: limit - 1) {
                keep(example.part(start..<min(start + limit, length)), outcome)
            }
        }
    }

    private mutating func keep(_ example: TokenizedExample, _ outcome: RowOutcome) {
        guard example.isTrainable else {
            report.emptied += 1
            return
        }
        examples.append(example)
        origins.append(
            RowOrigin(
                file: outcome.file, number: outcome.row, place: outcome.place, fingerprint: outcome.fingerprint))
        report.examples += 1
        report.tokens += example.tokenCount
        report.trainedTokens += example.trainedCount + (example.rejected?.trainedCount ?? 0)
        report.longest = max(report.longest, example.longest)
    }

    /// What has been gathered since the last call; the report is of everything.
    mutating func take() -> ExampleSet {
        report.warnings = warnings
        defer { (examples, origins) = ([], []) }
        return ExampleSet(examples: examples, origins: origins, report: report)
    }

    private var warnings: [String] {
        var texts = ExampleNote.allCases.compactMap { note in notes[note].map(note.warning) }
        func row(_ count: Int) -> String { "\(count) row\(count == 1 ? "" : "s")" }
        if let text = unreadText { texts.append(text) }
        if report.dropped > 0 { texts.append("\(row(report.dropped)) longer than max_length left out") }
        if report.truncated > 0 { texts.append("\(row(report.truncated)) cut short at max_length") }
        if report.split > 0 { texts.append("\(row(report.split)) cut in pieces of max_length") }
        for lint in Lint.allCases {
            guard let count = report.accepted[lint] else { continue }
            texts.append("\(row(count)), accepted\(lint.leavesOut ? " and left out" : ""): \(lint.title)")
        }
        if report.emptied > 0 {
            texts.append("\(report.emptied) example(s) left out because cutting removed all that is trained")
        }
        return texts
    }

    private static let unreadLimit = 20

    /// What of the rows is not read.
    private var unreadText: String? {
        func list(_ counts: [(name: ByteString, count: Int)]) -> String {
            let sorted = counts.sorted { ($1.count, $0.name) < ($0.count, $1.name) }
            let named = sorted.prefix(Self.unreadLimit).map { key, count in
                "\(quoted(key.description)) (\(count) row\(count == 1 ? "" : "s"))"
            }
            return named.joined(separator: ", ")
                + (sorted.count > named.count ? " and \(sorted.count - named.count) more" : "")
        }
        var ofRows = unread.filter { !$0.key.isOfMessage }.map { (name: $0.key.name, count: $0.value) }
        for (name, count) in skippedColumns {
            let name = ByteString(name)
            if !ofRows.contains(where: { $0.name == name }) { ofRows.append((name, count)) }
        }
        let ofMessages = unread.filter(\.key.isOfMessage).map { (name: $0.key.name, count: $0.value) }
        if ofRows.isEmpty, ofMessages.isEmpty { return nil }
        if ofRows.isEmpty { return "keys of messages that are not read: " + list(ofMessages) }
        return "keys that are not read: " + list(ofRows)
            + (ofMessages.isEmpty ? "" : "; of messages: " + list(ofMessages))
    }

    /// - Parameters:
    ///   - files: where the rows are from
    ///   - mayBeEmpty: whether it is no error that no example is left.
    mutating func finish(files: [String] = [], mayBeEmpty: Bool = false) throws {
        if hasComposed, decomposedCount > 0 {
            if options.accepts.contains(.mixedNormalization) {
                report.accepted[.mixedNormalization] = decomposedCount
            } else {
                faultCount += decomposedCount
                faults += decomposed
            }
        }
        report.warnings = warnings
        if faultCount > 0 { throw TextError.badRows(faults: faults, total: faultCount) }
        guard report.examples > 0 || mayBeEmpty else {
            throw TextError.noExamples(files: files.isEmpty ? ["data"] : files, reasons: reasonsForNone)
        }
    }

    /// Why no example is left, each reason with how many rows it took.
    private var reasonsForNone: [String] {
        func rows(_ count: Int) -> String {
            count == report.rows
                ? count == 1 ? "the only row is" : "all \(count) rows are"
                : "\(count) of \(report.rows) rows \(count == 1 ? "is" : "are")"
        }
        var reasons: [String] = []
        if report.dropped > 0, let limit = options.maxLength {
            reasons.append(
                "\(rows(report.dropped)) longer than max_length \(limit); raise max_length, or set overlong to truncate "
                    + "or split")
        }
        for lint in Lint.allCases where lint.leavesOut {
            guard let count = report.accepted[lint] else { continue }
            reasons.append("\(rows(count)) left out, as accepted: \(lint.title)")
        }
        if report.emptied > 0, let limit = options.maxLength {
            reasons.append("cutting at max_length \(limit) removed all that is trained; raise max_length")
        }
        return reasons.isEmpty ? ["of \(report.rows) rows none can be trained on"] : reasons
    }
}

extension TokenizedExample {
    /// The first tokens of each of its sequences.
    func prefix(_ count: Int) -> TokenizedExample {
        var result = part(0..<Swift.min(count, ids.count))
        result.judgement = judgement
        if case .chosen(let ids, let isTrained)? = judgement {
            result.judgement = .chosen(ids: Array(ids.prefix(count)), isTrained: Array(isTrained.prefix(count)))
        }
        return result
    }
    func part(_ range: Range<Int>) -> TokenizedExample {
        TokenizedExample(
            ids: Array(ids[range]), isTrained: Array(isTrained[range]), weights: weights.map { Array($0[range]) })
    }
}
