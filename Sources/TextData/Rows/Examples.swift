public import FileFormats
import Foundation

/// How rows become examples; the names are those of the recipe.
public struct ExampleOptions: Sendable {
    public enum TrainOn: String, Sendable, CaseIterable { case assistant, last, all }
    public enum Overlong: String, Sendable, CaseIterable { case error, drop, truncate, split }
    /// What an objective learns from.
    public enum Kind: Sendable {
        /// Texts to predict.
        case supervised
        /// Pairs of answers.
        case preference
        /// Answers that are good or bad; a pair has one of each.
        case judged

        /// What rows have to be, and how to learn from others.
        var demand: String {
            switch self {
            case .supervised:
                "the rows are trained on as they are: objective: {name: dpo} (or orpo, simpo, cpo, kto) in a recipe "
                    + "learns from preferences; to train on good answers alone, give them as "
                    + RowShape.completion.form
            case .preference:
                "the objective learns from pairs, \(RowShape.preference.form); kto learns from "
                    + "\(RowShape.kto.form), sft from all others"
            case .judged:
                "the objective learns from \(RowShape.kto.form) or \(RowShape.preference.form); sft learns from all "
                    + "others"
            }
        }
    }

    /// What the rows are for; others are errors.
    public var kind = Kind.supervised
    public var trainOn = TrainOn.assistant
    /// Tokens; nil does not limit the length.
    public var maxLength: Int?
    public var overlong = Overlong.error
    /// How many rows are worked on at a time; 0 takes all processors. Does not change the result.
    public var threads = 0
    /// What `strftime_now` says; one time for all rows.
    public var now = CivilTime.now()
    /// How many reasons for bad rows an error names.
    public var faultLimit = 20

    /// What all rows have to be; nil leaves it to the keys of each.
    public var format: RowShape?
    /// Other names of columns.
    public var columns: [ColumnName] = []
    /// Damage that is taken as it is.
    public var accepts: Set<Lint> = []
    /// What is computed of each row to find it again among others.
    public var fingerprints = Fingerprints.none
    public enum Fingerprints: Sendable { case none, exact, near }

    public init() {}
}

/// What became of the rows.
public struct DataReport: Sendable, Equatable, Codable {
    public var files = 0
    public var rows = 0
    public var examples = 0
    public var tokens = 0
    /// Predictions that are trained: the first token of an example is never one.
    public var trainedTokens = 0
    public var longest = 0
    /// Rows longer than `max_length` that were left out, cut short, or cut in pieces.
    public var dropped = 0
    public var truncated = 0
    public var split = 0
    /// Pieces left out because nothing in them is trained.
    public var emptied = 0
    public var warnings: [String] = []
    /// Rows by what they were taken for, and files by what they were read as.
    public var shapes: [RowShape: Int] = [:]
    public var kinds: [String: Int] = [:]
    /// Rows with damage that was accepted.
    public var accepted: [Lint: Int] = [:]

    public init() {}

    public mutating func add(_ other: DataReport) {
        files += other.files
        rows += other.rows
        examples += other.examples
        tokens += other.tokens
        trainedTokens += other.trainedTokens
        longest = max(longest, other.longest)
        dropped += other.dropped
        truncated += other.truncated
        split += other.split
        emptied += other.emptied
        warnings += other.warnings
        shapes.merge(other.shapes, uniquingKeysWith: +)
        kinds.merge(other.kinds, uniquingKeysWith: +)
        accepted.merge(other.accepted, uniquingKeysWith: +)
    }
}

/// The row that an example comes from.
public struct RowOrigin: Sendable {
    /// Nil for rows in memory.
    public var file: String?
    /// Counted from 1 in the file.
    public var number: Int
    public var place: RowPlace
    /// When the options ask for it.
    public var fingerprint: RowFingerprint?
}

public struct ExampleSet: Sendable {
    public var examples: [TokenizedExample]
    /// The row of each example.
    public var origins: [RowOrigin] = []
    public var report: DataReport

    /// The row of each example, counted from 0 over all files.
    public var rows: [Int] { origins.map(\.place.ordinal) }
    /// Where each example comes from: the file, nil for rows in memory, and the row in it.
    public var places: [(file: String?, row: Int)] { origins.map { ($0.file, $0.number) } }
}

/// Makes examples of rows, for one model.
public struct ExampleBuilder: Sendable {
    /// Nil serves for rows that are tokenised already.
    public var tokenizer: Tokenizer?
    public var template: ChatTemplate?
    /// All ids must be below this.
    public var vocabularySize: Int
    /// The token that ends a text; of the tokenizer, unless set (config.json names it where the tokenizer does not).
    public var endID: Int32?
    /// Further tokens that end a turn by the model's files.
    public var stopIDs: Set<Int32> = []
    public var options: ExampleOptions

    /// - Parameter vocabularySize: of the model; by default that of the tokenizer.
    public init(
        tokenizer: Tokenizer?, template: ChatTemplate?, vocabularySize: Int? = nil,
        options: ExampleOptions = ExampleOptions()
    ) {
        self.tokenizer = tokenizer
        self.template = template
        self.vocabularySize = vocabularySize ?? tokenizer?.vocabularySize ?? Int(Int32.max)
        endID = tokenizer?.eosID
        self.options = options
    }

    /// The examples of all rows of the files, in order. Globs are expanded.
    ///
    /// - Throws: `TextError.badRows` naming all bad rows up to the limit, or what is wrong with a file.
    public func examples(fromFiles patterns: [String]) throws -> ExampleSet {
        var set = ExampleSet(examples: [], report: DataReport())
        set.report = try forEachBatch(fromFiles: patterns) { batch in
            set.examples += batch.examples
            set.origins += batch.origins
        }
        return set
    }

    /// Makes examples batch by batch, for data that should not be held in memory. The report that comes with each
    /// batch is of all rows so far; bad rows are collected over all files and thrown at the end.
    ///
    /// - Returns: the report of all rows.
    @discardableResult
    public func forEachBatch(
        fromFiles patterns: [String], _ body: (ExampleSet) throws -> Void
    ) throws -> DataReport {
        var stream = try ExampleStream(self, files: try expandedPaths(patterns).map { DataFile(path: $0) })
        while let batch = try stream.next() { try body(batch) }
        return try stream.finish()
    }

    /// The examples of rows in memory; faults name no file.
    public func examples(from rows: [JSONValue]) throws -> ExampleSet {
        let linter = RowLinter(self)
        let results = concurrentMap(rows.count, threads: options.threads) { i in
            var place = RowPlace()
            place.ordinal = i
            return outcome(file: nil, number: i + 1, place, linter) { rows[i] }
        }
        var collector = ExampleCollector(options: options)
        collector.add(results)
        try collector.finish()
        return collector.take()
    }

    func outcomes(_ rows: [RawRow], _ linter: RowLinter) -> [RowOutcome] {
        concurrentMap(rows.count, threads: options.threads) { i in
            let row = rows[i]
            if case .example(let example) = row.content { return outcome(of: example, row) }
            return outcome(file: row.file, number: row.number, row.place, linter) { try row.value() }
        }
    }

    /// A row of a token store, which was looked at when the store was written.
    private func outcome(of example: TokenizedExample, _ row: RawRow) -> RowOutcome {
        var outcome = RowOutcome(result: .leftOut, file: row.file, row: row.number, place: row.place)
        do { try checkIDs(example) } catch {
            let reason = (error as? RowError)?.reason ?? "\(error)"
            outcome.result = .faults([RowFault(file: row.file, row: row.number, reason: reason)])
            return outcome
        }
        outcome.fingerprint = fingerprint(example, texts: [])
        outcome.result = .made(MadeExample(example: example))
        return outcome
    }

    private func fingerprint(_ example: TokenizedExample, texts: [String]) -> RowFingerprint? {
        switch options.fingerprints {
        case .none: nil
        case .exact: RowFingerprint(ids: example.comparedIDs)
        case .near: RowFingerprint(ids: example.comparedIDs, texts: texts)
        }
    }

    private func outcome(
        file: String?, number: Int, _ place: RowPlace, _ linter: RowLinter, _ value: () throws -> JSONValue
    ) -> RowOutcome {
        var outcome = RowOutcome(result: .leftOut, file: file, row: number, place: place)
        func refuse(_ findings: [LintFinding]) {
            let refused = findings.filter { !options.accepts.contains($0.lint) }
            outcome.accepted = findings.map(\.lint).filter(options.accepts.contains)
            if !refused.isEmpty {
                outcome.result = .faults(
                    refused.map { RowFault(file: file, row: number, reason: $0.detail, lint: $0.lint) })
            }
        }
        var ofTexts: [LintFinding] = []
        func fault(_ reason: String) { outcome.result = .faults([RowFault(file: file, row: number, reason: reason)]) }
        do {
            let value = try ColumnName.renamed(try value(), options.columns)
            let read = try Row.read(value, as: options.format)
            let row = read.row
            outcome.shape = read.shape
            outcome.spelling = RowLinter.spelling(row)
            outcome.unread = read.unread + linter.unreadKeys(of: row)
            let answers = row.answers(options.trainOn)
            ofTexts = linter.findings(row, answers: answers)
            if let reason = RowLinter.emptyAnswer(among: answers) { throw RowError(reason, lint: .noTrainedToken) }
            var made = try example(of: row, linter.ends)
            made.notes.merge(read.notes) { $1 }
            made.notes.merge(linter.notes(row, answers: answers)) { $1 }
            guard made.example.isTrainable else {
                let reason = made.reasonWithoutLabels ?? "nothing in this row is trained (every label is ignored)"
                refuse([LintFinding(lint: .noTrainedToken, detail: reason)] + ofTexts)
                return outcome
            }
            outcome.fingerprint = fingerprint(made.example, texts: row.comparedTexts)
            outcome.result = .made(made)
            refuse(linter.findings(row, made) + ofTexts)
        } catch let error as RowError {
            if let lint = error.lint {
                refuse([LintFinding(lint: lint, detail: error.reason)])
            } else {
                fault(error.reason)
            }
        } catch TextError.templateRaised(_, let line, let message) {
            refuse([LintFinding(lint: .roleOrder, detail: "line \(line) of the template says: \(message)")] + ofTexts)
        } catch let error as any GraftError {
            fault(error.description.split(separator: "\n").first.map(String.init) ?? error.description)
        } catch {
            fault("\(error)")
        }
        return outcome
    }
}
