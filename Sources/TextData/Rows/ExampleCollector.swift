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
}

/// An example, and what should be said about it.
struct MadeExample: Sendable {
    var example: TokenizedExample
    /// Why nothing is trained, when nothing is.
    var reasonWithoutLabels: String?
    var notes: Set<ExampleNote> = []
    /// No turn's end is trained.
    var lacksEnd = false
    /// What of the row's tools the template did not write.
    var dropped: [String] = []
    /// The text the tokens stand for and the bytes of it that each does; empty for rows that came as tokens. A token
    /// that was added behind the text has no range.
    var text = ""
    var byteRanges: [Range<Int>] = []
}

/// Things that are right but worth knowing, counted over the data.
enum ExampleNote: String, Hashable, Sendable, CaseIterable, Codable {
    /// The template writes earlier turns differently once the conversation goes on.
    case rewrittenTurns
    /// What the template's own marks train does not end with the end of the turn.
    case noStopToken
    case noTemplate
    /// Prompts that come as texts, for a model with a chat template.
    case plainPrompt

    func warning(rows: Int) -> String {
        let count = "\(rows) row\(rows == 1 ? "" : "s")"
        return switch self {
        case .rewrittenTurns:
            "\(count): the chat template writes earlier turns differently once the conversation goes on (it may drop "
                + "their reasoning); they are trained as they stand in the whole conversation"
        case .noStopToken:
            "\(count): no special token ends what is trained; the model may not learn where to stop"
        case .noTemplate:
            "\(count): instruction rows are trained as plain text, because the model has no chat template"
        case .plainPrompt:
            "\(count): prompt and answer are trained as plain text, without the chat template that chat programs use; "
                + "to train with it, name the prompt's key instruction (see columns; the answer's is output, or chosen and "
                + "rejected), or give lists of messages"
        }
    }
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
    private var notes: [ExampleNote: Int] = [:]
    /// Rows whose tools the template leaves out, as many as a warning names.
    private var dropped: [String] = []
    private var droppedCount = 0
    private var examples: [TokenizedExample] = []
    private var origins: [RowOrigin] = []

    init(options: ExampleOptions) { self.options = options }

    /// What is known of the rows so far, to go on with in another process; examples and faults are not in it.
    struct Snapshot: Codable {
        var report: DataReport
        var decomposed: [RowFault]
        var decomposedCount: Int
        var hasComposed: Bool
        var notes: [ExampleNote: Int]
        var dropped: [String]
        var droppedCount: Int
    }

    var snapshot: Snapshot {
        Snapshot(
            report: report, decomposed: decomposed, decomposedCount: decomposedCount, hasComposed: hasComposed,
            notes: notes, dropped: dropped, droppedCount: droppedCount)
    }

    /// Adds what is known of other rows of the same files.
    mutating func merge(_ other: Snapshot) {
        report.add(other.report)
        decomposed = Array((decomposed + other.decomposed).prefix(Self.lintFaultLimit))
        decomposedCount += other.decomposedCount
        hasComposed = hasComposed || other.hasComposed
        notes.merge(other.notes, uniquingKeysWith: +)
        dropped = Array((dropped + other.dropped).prefix(Self.droppedLimit))
        droppedCount += other.droppedCount
    }

    /// Rows that one lint, or one reason, names; a planted defect should be found wherever it is.
    static let lintFaultLimit = 1_000
    private static let droppedLimit = 10

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
                for note in made.notes { notes[note, default: 0] += 1 }
                if !made.dropped.isEmpty { addDropped(made.dropped, outcome) }
                add(made.example, outcome)
            }
        }
    }

    private mutating func addDropped(_ parts: [String], _ outcome: RowOutcome) {
        droppedCount += 1
        guard dropped.count < Self.droppedLimit else { return }
        let rest = parts.count > 2 ? " and \(parts.count - 2) more" : ""
        let place = outcome.file.map { "\($0) row" } ?? "row"
        dropped.append("\(place) \(outcome.row) (\(parts.prefix(2).joined(separator: ", "))\(rest))")
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
        var texts = ExampleNote.allCases.compactMap { note in notes[note].map { note.warning(rows: $0) } }
        func row(_ count: Int) -> String { "\(count) row\(count == 1 ? "" : "s")" }
        if droppedCount > 0 {
            texts.append(
                "\(row(droppedCount)): the chat template leaves out tools, calls of them or their results, and the model "
                    + "would train on conversations with a gap: \(dropped.joined(separator: "; "))"
                    + (droppedCount > dropped.count ? "; and more" : "")
                    + "; use a chat template that writes them, or take them out of the rows")
        }
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

    /// - Parameter mayBeEmpty: whether it is no error that no example is left.
    mutating func finish(mayBeEmpty: Bool = false) throws {
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
            throw TextError.badOption(
                name: "data", reason: "no example is left of \(report.rows) rows; see max_length and overlong")
        }
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
