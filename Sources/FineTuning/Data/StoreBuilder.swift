import FileFormats
import Foundation
import Host
import TensorCore
public import TextData

/// Makes a token store of rows, in bounded memory and in two steps.
///
/// 1. Rows are tokenised, in order and on all processors, into parts of a hidden folder beside the output. A part
///    appears whole or not at all, so that a run that was killed goes on behind the last one.
/// 2. Duplicates are found in the parts' tables of rows, copies are counted, and the examples are written bucket by
///    bucket in the order that the plan gives them (`StoreAssembly`).
///
/// The place of an example depends on its row's number and on the seed alone, not on parts, shards or threads: the
/// bytes of the store are the same however the work was cut up.
public struct StoreBuilder {
    /// What is asked for besides what the loader's options say.
    public struct Request: Sendable {
        /// Files, globs and token stores.
        public var sources: [String]
        /// Of the sources; nil counts each once.
        public var weights: [Double]?
        public var temperature = 1.0
        public var maxRepeats: Double?
        public var shuffle = false
        public var seed: UInt64 = 42
        public var dedupe = Deduplication.none
        /// Rows that must not be among the data.
        public var eval: [String] = []
        public var shard = Shard.whole
        /// Bytes of examples that make a part: what a kill may cost. Does not change the store.
        var partSize = 48 << 20

        public init(sources: [String]) { self.sources = sources }
    }

    public struct Result {
        public var report = DataReport()
        public var duplicates: DuplicateSummary?
        /// How often the rows of each source were taken; nil when all were taken once.
        public var repeats: [Double]?
        /// Of the store: examples and tokens, copies among them.
        public var rowCount = 0
        public var tokenCount = 0
        public var trainedCount = 0
        /// The output stood already, and is what was asked for.
        public var isUpToDate = false
    }

    private let loader: RowLoader
    private let request: Request
    private let output: String
    private let progress: (String) -> Void
    private let shouldStop: () -> Bool

    public init(
        _ loader: RowLoader, _ request: Request, output: String, progress: @escaping (String) -> Void = { _ in },
        shouldStop: @escaping () -> Bool = { false }
    ) {
        var loader = loader
        loader.options.fingerprints = request.dedupe == .near || !request.eval.isEmpty ? .near : .exact
        if loader.text?.usesClock == true {
            // The day is part of the plan; the time of day should not make two stores of it.
            let now = loader.options.now
            loader.options.now = CivilTime(year: now.year, month: now.month, day: now.day)
        }
        self.loader = loader
        self.request = request
        self.output = output
        self.progress = progress
        self.shouldStop = shouldStop
    }

    /// The folder of the parts of an output under way.
    static func partsFolder(of output: String) -> String { ResumableParts.folder(of: output) }

    /// - Throws: `TextError` with the rows at fault, `FileError`, `FineTuningError.interrupted`, `.outputDiffers`.
    public func run() throws -> Result {
        let files = try loader.files(request.sources)
        let plan = try plan(files)
        let folder = Self.partsFolder(of: output)
        if let result = try Self.existing(output, plan) {
            // A kill may have come between the store and the end of its parts.
            if somethingExists(at: folder), let lock = try? ResumableParts.lock(output) {
                withExtendedLifetime(lock) { removeTree(folder) }
            }
            return result
        }
        let lock = try ResumableParts.lock(output)
        defer { withExtendedLifetime(lock) {} }
        do {
            try prepare(folder, plan)
            try tokenize(files, plan, into: folder)
            let overlap = try checkOverlap(folder, plan)
            guard plan.shard.count == 1 else {
                try publishFolder(folder, as: output)
                var result = Result(report: try Done(output).report)
                result.report.warnings += overlap
                return result
            }
            var result = try Self.assemble([folder], plan, output, loader.options, progress, shouldStop)
            result.report.warnings += overlap
            removeTree(folder)
            return result
        } catch FineTuningError.interrupted(let command) {
            throw FineTuningError.interrupted(command: command)
        } catch is StopRequest.Stopped {
            throw FineTuningError.interrupted(command: "the same command")
        } catch {
            removeTree(folder)
            throw error
        }
    }

    // MARK: The plan

    private func plan(_ files: [DataFile]) throws -> StorePlan {
        guard let text = loader.text else {
            throw FineTuningError.badInput(["the model has no tokenizer; add tokenizer.json to its folder"])
        }
        let data = try TokenStoreHeader.dataFiles(files, storeAt: output) { progress("hashing \($0)") }
        let options = loader.options
        let mixture = SourceMixture(
            weights: request.weights ?? request.sources.map { _ in 1 }, temperature: request.temperature,
            maxRepeats: request.maxRepeats)
        var object = JSONObject([
            ("train_on", .string(options.trainOn.rawValue)), ("max_length", .integer(options.maxLength ?? 0)),
            ("overlong", .string(options.overlong.rawValue)), ("format", .string(options.format?.rawValue ?? "auto")),
            ("columns", .object(JSONObject(options.columns.map { (key: $0.key, value: .string($0.column)) }))),
            ("accept", .array(options.accepts.map(\.rawValue).sorted().map { .string($0) })),
            ("weights", .array(mixture.weights.map { .double($0) })),
            ("mix_temperature", mixture.temperature.isFinite ? .double(mixture.temperature) : "inf"),
            ("max_repeats", mixture.maxRepeats.map { .double($0) } ?? .null),
            ("shuffle", .bool(request.shuffle)), ("seed", .integer(Int(truncatingIfNeeded: request.seed))),
            ("dedupe", .string(request.dedupe.rawValue)),
        ])
        if !request.eval.isEmpty {
            object["eval_sha256"] = .string(
                try TokenStoreHeader.dataFiles(try loader.files(request.eval), storeAt: output).hash)
        }
        if text.usesClock {
            let now = options.now
            object["date"] = .string("\(now.year)-\(now.month)-\(now.day)")
        }
        object["graft"] = .string(graftVersion)
        let optionText = JSONWriter.text(.object(object))
        guard optionText.utf8.count <= 30 << 10 else {
            throw FineTuningError.badInput(["the options are longer than 30 KiB; name fewer sources, or use globs"])
        }
        return StorePlan(
            header: TokenStoreHeader(
                vocabularySize: text.tokenizer.vocabularySize, tokenizerHash: try text.tokenizerHash(),
                templateHash: text.templateHash, dataHash: data.hash, options: optionText, files: data.list),
            mixture: mixture, shuffle: request.shuffle, seed: request.seed, dedupe: request.dedupe,
            accepts: options.accepts.sorted { $0.rawValue < $1.rawValue }, shard: request.shard,
            files: files.map(\.path))
    }

    /// What stands at the output: nil for nothing.
    ///
    /// - Throws: `FineTuningError.outputDiffers`, `FileError.outputExists` for anything that the plan would not give.
    private static func existing(_ output: String, _ plan: StorePlan) throws -> Result? {
        guard somethingExists(at: output) else { return nil }
        let header: TokenStoreHeader
        var result = Result(isUpToDate: true)
        if plan.shard.count > 1 {
            guard let other = try? StorePlan.read(output) else { throw FileError.outputExists(path: output) }
            header = other.header
            guard other.shard == plan.shard else {
                throw FineTuningError.outputDiffers(
                    path: output, reasons: ["it is shard \(other.shard.index + 1)/\(other.shard.count)"])
            }
            result.report = try Done(output).report
        } else {
            guard TokenStore.isStore(output) else { throw FileError.outputExists(path: output) }
            let store = try TokenStore(path: output)
            header = store.header
            (result.rowCount, result.tokenCount, result.trainedCount) =
                (store.rowCount, store.tokenCount, store.trainedCount)
        }
        guard header.key.hasSameBytes(as: plan.header.key), !plan.header.dataHash.isEmpty else {
            throw FineTuningError.outputDiffers(path: output, reasons: header.differences(from: plan.header))
        }
        return result
    }

    // MARK: Parts

    /// What stands in the folder once all rows are in its parts.
    fileprivate struct Done: Codable {
        static let fileName = "done.json"
        var state: String
        var report: DataReport
    }

    private static func partPath(_ folder: String, _ number: Int) -> String {
        let digits = String(number)
        return "\(folder)/part-" + String(repeating: "0", count: max(0, 6 - digits.utf8.count)) + digits
    }

    /// Leaves a folder with this very plan, and the parts that an earlier run finished for it.
    private func prepare(_ folder: String, _ plan: StorePlan) throws {
        let text = try plan.encoded()
        let earlier = try? readFile(folder + "/" + StorePlan.fileName, limit: 256 << 20)
        // What came from standard input cannot be known to come again.
        if let earlier, earlier == text, !plan.header.dataHash.isEmpty { return }
        removeTree(folder)
        guard mkdir(folder, 0o777) == 0 || errno == EEXIST else {
            throw FileError.io(operation: "create", path: folder, code: errno)
        }
        try AtomicFile.write(text, to: folder + "/" + StorePlan.fileName)
    }

    /// The finished parts of a folder, in order.
    static func parts(_ folder: String) throws -> [TokenPart] {
        var parts: [TokenPart] = []
        while somethingExists(at: partPath(folder, parts.count)) {
            parts.append(try TokenPart(path: partPath(folder, parts.count)))
        }
        return parts
    }

    private func tokenize(_ files: [DataFile], _ plan: StorePlan, into folder: String) throws {
        if somethingExists(at: folder + "/" + Done.fileName) { return }
        var number = 0
        var state: String?
        // A part that was damaged since is made again, and those behind it.
        while somethingExists(at: Self.partPath(folder, number)) {
            guard let part = try? TokenPart(path: Self.partPath(folder, number)) else {
                for later in number... {
                    guard somethingExists(at: Self.partPath(folder, later)) else { break }
                    removeTree(Self.partPath(folder, later))
                }
                break
            }
            state = part.state
            number += 1
        }
        var stream = try ExampleStream(loader.builder, files: files, shard: plan.shard, from: state)
        var pending = PendingPart(plan: plan)
        // Of the rows behind a bad one, for what else is wrong; no store comes of them.
        var faulty = PendingPart(plan: plan)
        removeTree(Self.faultyFolder(folder))
        while let set = try stream.next() {
            if shouldStop() { throw FineTuningError.interrupted(command: "the same command") }
            progress("tokenising row \(countLabel(stream.rowCount)), \(countLabel(set.report.tokens)) tokens")
            if let row = set.examples.firstIndex(where: { $0.weights != nil }) {
                let origin = set.origins[row]
                throw FineTuningError.badInput([
                    "\(origin.file ?? "the data"), row \(origin.number): a message has a weight other than 0 and 1, "
                        + "which a token store cannot hold; name the file itself in the recipe"
                ])
            }
            if stream.hasFaults {
                faulty.add(rows: set.origins)
                guard faulty.size >= request.partSize else { continue }
                try addFaulty(&faulty, plan, folder)
                continue
            }
            pending.add(set)
            guard pending.size >= request.partSize else { continue }
            try pending.write(to: Self.partPath(folder, number), state: try stream.state)
            pending = PendingPart(plan: plan)
            number += 1
        }
        let report: DataReport
        do { report = try stream.finish() } catch TextError.badRows(let faults, let total) {
            // No part of the store: it would be gone on from without what was bad.
            if !pending.isEmpty { try addFaulty(&pending, plan, folder) }
            if !faulty.isEmpty { try addFaulty(&faulty, plan, folder) }
            do { _ = try checkOverlap(folder, plan) } catch TextError.badRows(let others, let count) {
                throw TextError.badRows(faults: faults + others, total: total + count)
            }
            throw TextError.badRows(faults: faults, total: total)
        }
        if !pending.isEmpty { try pending.write(to: Self.partPath(folder, number), state: try stream.state) }
        let done = try JSONEncoder().encode(Done(state: try stream.state, report: report))
        try AtomicFile.write(Array(done), to: folder + "/" + Done.fileName)
    }

    private static func faultyFolder(_ folder: String) -> String { folder + "/faulty" }

    private func addFaulty(_ part: inout PendingPart, _ plan: StorePlan, _ folder: String) throws {
        let faulty = Self.faultyFolder(folder)
        guard mkdir(faulty, 0o777) == 0 || errno == EEXIST else {
            throw FileError.io(operation: "create", path: faulty, code: errno)
        }
        try part.write(to: Self.partPath(faulty, try Self.parts(faulty).count), state: "")
        part = PendingPart(plan: plan)
    }

    private func countLabel(_ count: Int) -> String { count < 10_000 ? "\(count)" : "\(count / 1000) k" }

    // MARK: The store

    private static func assemble(
        _ folders: [String], _ plan: StorePlan, _ output: String, _ options: ExampleOptions,
        _ progress: (String) -> Void, _ shouldStop: () -> Bool
    ) throws -> Result {
        var assembly = try StoreAssembly(plan, parts: folders.map { try parts($0) })
        let done = try folders.map { try Done($0) }
        var result = Result()
        result.report =
            done.count == 1
            ? done[0].report : try ExampleStream.report(ofShards: done.map(\.state), options: options)
        progress("looking for duplicates")
        result.duplicates = try assembly.findDuplicates()
        result.repeats = try assembly.countCopies()
        let writer = try TokenStoreWriter(path: output, header: plan.header)
        try assembly.write(to: writer) { done, total in
            if shouldStop() { throw FineTuningError.interrupted(command: "the same command") }
            progress("writing bucket \(done) of \(total)")
        }
        try writer.finish()
        (result.rowCount, result.tokenCount, result.trainedCount) =
            (writer.rowCount, writer.tokenCount, writer.trainedCount)
        return result
    }

    /// Looks for the evaluation rows among those of a folder.
    private func checkOverlap(_ folder: String, _ plan: StorePlan) throws -> [String] {
        guard !request.eval.isEmpty else { return [] }
        progress("looking for the evaluation rows")
        return try StoreAssembly(plan, parts: [try Self.parts(folder) + Self.parts(Self.faultyFolder(folder))])
            .checkOverlap(try evalTable())
    }

    /// Fingerprints of the evaluation rows; they are looked at when they are evaluated, not here.
    private func evalTable() throws -> RowTable {
        var builder = loader.builder
        builder.options.maxLength = nil
        builder.options.accepts = Set(Lint.allCases)
        var stream = try ExampleStream(builder, files: try loader.files(request.eval))
        var origins: [RowOrigin] = []
        while let set = try stream.next() { origins += set.origins }
        _ = try stream.finish()
        return RowTable(origins)
    }

    /// Puts the shards of a store together: the bytes are those of one run over all rows.
    ///
    /// - Throws: `FileError`, `FineTuningError.badInput` for shards that do not belong together, `.outputDiffers`.
    public static func merge(
        shards: [String], output: String, progress: @escaping (String) -> Void = { _ in },
        shouldStop: @escaping () -> Bool = { false }
    ) throws -> Result {
        let folders = try expandedPaths(shards)
        guard let first = folders.first else { throw FineTuningError.badInput(["no shard is given"]) }
        let plans = try folders.map { try StorePlan.read($0) }
        let count = plans[0].shard.count
        var problems: [String] = []
        for (folder, plan) in zip(folders, plans).dropFirst()
        where try plan.common.encoded() != plans[0].common.encoded() || plan.shard.count != count {
            problems.append("\(folder) was made of other data or with other options than \(first)")
        }
        for index in 0..<count {
            let found = zip(folders, plans).filter { $0.1.shard.index == index }.map(\.0)
            if found.isEmpty { problems.append("shard \(index + 1)/\(count) is missing") }
            if found.count > 1 { problems.append("shard \(index + 1)/\(count) is there twice: \(found)") }
        }
        for folder in folders where !somethingExists(at: folder + "/" + Done.fileName) {
            problems.append("\(folder) is not finished")
        }
        guard problems.isEmpty else { throw FineTuningError.badInput(problems) }
        var plan = plans[0]
        plan.shard = .whole
        if let result = try existing(output, plan) { return result }
        let lock = try ResumableParts.lock(output)
        defer { withExtendedLifetime(lock) {} }
        var options = ExampleOptions()
        options.accepts = Set(plan.accepts)
        let order = zip(folders, plans).sorted { $0.1.shard.index < $1.1.shard.index }.map(\.0)
        return try assemble(order, plan, output, options, progress, shouldStop)
    }
}

extension StoreBuilder.Done {
    fileprivate init(_ folder: String) throws {
        let bytes = try readFile(folder + "/" + Self.fileName, limit: 256 << 20)
        guard let done = try? JSONDecoder().decode(Self.self, from: Data(bytes)) else {
            throw FileError.tokenStore(path: folder, reason: "its file \(Self.fileName) is damaged")
        }
        self = done
    }
}
