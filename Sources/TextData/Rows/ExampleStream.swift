internal import FileFormats
import Foundation

/// The examples of files, batch by batch, in bounded memory; another process can go on where one was stopped.
public struct ExampleStream {
    private static let batchSize = 512

    private let builder: ExampleBuilder
    private let linter: RowLinter
    private var source: RowSource
    private var collector: ExampleCollector
    private var start = 0
    private let isShard: Bool
    private let files: [String]

    /// - Parameter state: `state` of a stream over the same rows with the same options; its rows are passed over.
    /// - Throws: `TextError.badOption` when there is no file.
    public init(
        _ builder: ExampleBuilder, files: [DataFile], shard: Shard = .whole, from state: String? = nil
    ) throws {
        guard !files.isEmpty else { throw TextError.badOption(name: "data", reason: "no file is given") }
        self.builder = builder
        linter = RowLinter(builder)
        source = RowSource(files: files, columns: builder.options.columns, shard: shard)
        collector = ExampleCollector(options: builder.options)
        isShard = shard.count > 1
        self.files = files.map(\.path)
        if let state {
            let state = try JSONDecoder().decode(State.self, from: Data(state.utf8))
            collector.merge(state.collector)
            start = state.rows
        } else {
            collector.report.files = files.count
        }
    }

    private struct State: Codable {
        var rows: Int
        var collector: ExampleCollector.Snapshot
    }

    /// Rows read so far, those passed over among them.
    public var rowCount: Int { source.rowCount }

    /// Whether a row was bad.
    public var hasFaults: Bool { collector.faultCount > 0 }

    /// How far the stream has come, for another one to go on from.
    public var state: String {
        get throws {
            let state = State(rows: source.rowCount, collector: collector.snapshot)
            return String(decoding: try JSONEncoder().encode(state), as: UTF8.self)
        }
    }

    /// The next examples; nil at the end. The report is of all rows so far. Once a row is bad there are no more
    /// examples, only the origins of what would be some, and more bad rows to be found.
    public mutating func next() throws -> ExampleSet? {
        let rows = try source.next(Self.batchSize, from: start)
        collector.report.kinds = source.kinds
        collector.skippedColumns = source.skippedColumns
        if rows.isEmpty { return nil }
        collector.add(builder.outcomes(rows, linter))
        let set = collector.take()
        return hasFaults ? ExampleSet(examples: [], origins: set.origins, report: set.report) : set
    }

    /// To be called at the end. A shard may be empty, and leaves to the merge what concerns all rows.
    ///
    /// - Throws: `TextError.badRows` naming all bad rows up to the limit.
    public mutating func finish() throws -> DataReport {
        if isShard, collector.faultCount == 0 { return collector.report }
        try collector.finish(files: files, mayBeEmpty: isShard)
        return collector.report
    }

    /// The report of all rows of shards, from the states that their streams ended in.
    ///
    /// - Throws: `TextError.badRows` for what only shows over all of them.
    public static func report(ofShards states: [String], options: ExampleOptions) throws -> DataReport {
        var collector = ExampleCollector(options: options)
        for state in states {
            collector.merge(try JSONDecoder().decode(State.self, from: Data(state.utf8)).collector)
        }
        if let first = states.first {
            // Each shard has read all files.
            let report = try JSONDecoder().decode(State.self, from: Data(first.utf8)).collector.report
            (collector.report.files, collector.report.kinds) = (report.files, report.kinds)
        }
        collector.report.warnings = []
        try collector.finish()
        return collector.report
    }
}
