internal import FileFormats

/// What one row gave.
struct RowOutcome: Sendable {
    var result: Result<MadeExample, RowFault>
    var file: String?
    var row = 0
    var shape: RowShape?

    init(result: Result<MadeExample, RowFault>, file: String? = nil, row: Int = 0, shape: RowShape? = nil) {
        self.shape = shape
        self.result = result
        self.file = file
        self.row = row
    }
}

extension RowFault: Error {}

/// An example, and what should be said about it.
struct MadeExample: Sendable {
    var example: TokenizedExample
    /// Why nothing is trained, when nothing is.
    var reasonWithoutLabels: String?
    var notes: Set<ExampleNote> = []
}

/// Things that are right but worth knowing, counted over the data.
enum ExampleNote: Hashable, Sendable, CaseIterable {
    /// The template writes earlier turns differently once the conversation goes on.
    case rewrittenTurns
    /// What the template's own marks train does not end with the end of the turn.
    case noStopToken
    case noTemplate

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
        }
    }
}

/// Gathers outcomes in the order of rows, and applies what is to happen to long ones.
struct ExampleCollector {
    var report = DataReport()
    private(set) var faultCount = 0
    private let options: ExampleOptions
    private var faults: [RowFault] = []
    private var notes: [ExampleNote: Int] = [:]
    private var examples: [TokenizedExample] = []
    private var rows: [Int] = []

    init(options: ExampleOptions) { self.options = options }

    private mutating func add(_ fault: RowFault) {
        faultCount += 1
        if faults.count < options.faultLimit { faults.append(fault) }
    }

    mutating func add(_ outcomes: [RowOutcome]) {
        for outcome in outcomes {
            report.rows += 1
            switch outcome.result {
            case .failure(let fault): add(fault)
            case .success(let made):
                if let shape = outcome.shape { report.shapes[shape, default: 0] += 1 }
                for note in made.notes { notes[note, default: 0] += 1 }
                add(made.example, outcome)
            }
        }
    }

    private mutating func add(_ example: TokenizedExample, _ outcome: RowOutcome) {
        let length = example.ids.count
        guard let limit = options.maxLength, length > limit else { return keep(example) }
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
            keep(example.prefix(limit))
        case .split:
            report.split += 1
            for start in stride(from: 0, to: length, by: limit) {
                keep(example.part(start..<min(start + limit, length)))
            }
        }
    }

    private mutating func keep(_ example: TokenizedExample) {
        let trained = example.trainedCount
        guard trained > 0 else {
            report.emptied += 1
            return
        }
        examples.append(example)
        rows.append(report.rows - 1)
        report.examples += 1
        report.tokens += example.ids.count
        report.trainedTokens += trained
        report.longest = max(report.longest, example.ids.count)
    }

    /// What has been gathered since the last call; the report is of everything.
    mutating func take() -> ExampleSet {
        report.warnings = warnings
        defer { (examples, rows) = ([], []) }
        return ExampleSet(examples: examples, rows: rows, report: report)
    }

    private var warnings: [String] {
        var texts = ExampleNote.allCases.compactMap { note in notes[note].map { note.warning(rows: $0) } }
        func row(_ count: Int) -> String { "\(count) row\(count == 1 ? "" : "s")" }
        if report.dropped > 0 { texts.append("\(row(report.dropped)) longer than max_length left out") }
        if report.truncated > 0 { texts.append("\(row(report.truncated)) cut short at max_length") }
        if report.split > 0 { texts.append("\(row(report.split)) cut in pieces of max_length") }
        if report.emptied > 0 {
            texts.append("\(report.emptied) example(s) left out because cutting removed all that is trained")
        }
        return texts
    }

    func finish() throws {
        if faultCount > 0 { throw TextError.badRows(faults: faults, total: faultCount) }
        guard report.examples > 0 else {
            throw TextError.badOption(
                name: "data", reason: "no example is left of \(report.rows) rows; see max_length and overlong")
        }
    }
}

extension TokenizedExample {
    func prefix(_ count: Int) -> TokenizedExample { part(0..<Swift.min(count, ids.count)) }
    func part(_ range: Range<Int>) -> TokenizedExample {
        TokenizedExample(ids: Array(ids[range]), isTrained: Array(isTrained[range]))
    }
}
