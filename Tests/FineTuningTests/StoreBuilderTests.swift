import FileFormats
import Foundation
import Testing
import TextData

@testable import FineTuning

/// Stores made with the tokenizer and template of the shipped base.
@Suite struct StoreBuilderTests {
    static let model = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("recipes/sapling").path
    let folder: String
    let loader: RowLoader

    init() throws {
        folder = NSTemporaryDirectory() + "/graft-store-\(UInt64.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        var options = ExampleOptions()
        options.maxLength = 512
        loader = RowLoader(
            text: try TextResources(path: Self.model), config: try ModelConfig(path: Self.model), options: options)
    }

    func path(_ name: String) -> String { folder + "/" + name }
    func clean() { try? FileManager.default.removeItem(atPath: folder) }

    /// Rows from `first` on; each says its number.
    func write(_ name: String, _ rows: Range<Int>, word: String = "farm") throws {
        let lines = rows.map { i -> String in
            let long = String(repeating: " \(word)\(i % 13)", count: 3 + i % 40)
            return #"{"messages": [{"role": "user", "content": "गाँव \#(i)\#(long)?"}, "#
                + #"{"role": "assistant", "content": "answer \#(i) \#(word)"}]}"#
        }
        try Data((lines.joined(separator: "\n") + "\n").utf8).write(to: URL(fileURLWithPath: path(name)))
    }
    func request(_ names: String...) -> StoreBuilder.Request { StoreBuilder.Request(sources: names.map(path)) }
    @discardableResult func build(
        _ request: StoreBuilder.Request, _ out: String, _ loader: RowLoader? = nil,
        shouldStop: @escaping () -> Bool = { false }
    ) throws -> StoreBuilder.Result {
        try StoreBuilder(loader ?? self.loader, request, output: path(out), shouldStop: shouldStop).run()
    }
    func bytes(_ name: String) throws -> [UInt8] { try readFile(path(name), limit: 1 << 26) }
    func rows(_ name: String) throws -> [[Int32]] {
        let store = try TokenStore(path: path(name))
        return try (0..<store.rowCount).map { try store.row($0).ids }
    }

    @Test func theStoreHoldsWhatTrainingWouldSee() throws {
        defer { clean() }
        try write("a.jsonl", 0..<700)
        let result = try build(request("a.jsonl"), "a.h5")
        let loaded = try loader.load([path("a.jsonl")])
        #expect(try rows("a.h5") == loaded.examples.map(\.ids))
        let store = try TokenStore(path: path("a.h5"))
        #expect(try store.row(650).isTrained == loaded.examples[650].isTrained)
        #expect(result.report == loaded.report && result.rowCount == 700 && result.duplicates?.exact == 0)
        #expect(try loader.load([path("a.h5")]).examples.map(\.ids) == loaded.examples.map(\.ids))
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == ["a.h5", "a.jsonl"])
    }

    @Test func shufflingKeepsTheRowsAndFollowsTheSeed() throws {
        defer { clean() }
        try write("a.jsonl", 0..<900)
        try build(request("a.jsonl"), "plain.h5")
        var shuffled = request("a.jsonl")
        shuffled.shuffle = true
        try build(shuffled, "one.h5")
        try build(shuffled, "two.h5")
        shuffled.seed = 43
        try build(shuffled, "other.h5")
        let (plain, one, other) = (try rows("plain.h5"), try rows("one.h5"), try rows("other.h5"))
        #expect(one != plain && other != one && Set(one) == Set(plain) && one.count == plain.count)
        #expect(try bytes("one.h5") == bytes("two.h5"))
        // Far from where they were: the mean distance of a random permutation is a third of the length.
        let places = Dictionary(uniqueKeysWithValues: plain.enumerated().map { ($1, $0) })
        let distance = one.enumerated().reduce(0) { $0 + abs($1.offset - (places[$1.element] ?? 0)) } / one.count
        #expect((200...400).contains(distance))
    }

    /// Stopped after any batch, any number of times, and in several shards: the bytes of one run.
    @Test(arguments: [false, true]) func interruptedAndShardedRunsGiveTheSameBytes(shuffle: Bool) throws {
        defer { clean() }
        try write("a.jsonl", 0..<2_600)
        try write("b.jsonl", 2_500..<3_000, word: "नदी")
        var whole = request("a.jsonl", "b.jsonl")
        whole.shuffle = shuffle
        whole.dedupe = .near
        whole.weights = [1, 2.5]
        let expected = try build(whole, "whole.h5")
        #expect(expected.repeats == [1, 2.5] && expected.report.rows == 3_100)

        var stopped = whole
        stopped.partSize = 1
        var calls = 0
        var stops = 0
        while true {
            do {
                let limit = calls + 3
                try build(stopped, "stopped.h5") {
                    calls += 1
                    return calls >= limit && stops < 4
                }
                break
            } catch FineTuningError.interrupted { stops += 1 }
        }
        #expect(stops == 4)
        #expect(try bytes("stopped.h5") == bytes("whole.h5"))

        for i in 0..<3 {
            var shard = whole
            shard.partSize = 40_000
            shard.shard = Shard(index: i, count: 3)
            try build(shard, "shard\(i)")
            #expect(try build(shard, "shard\(i)").isUpToDate)
        }
        let missing = #expect(throws: FineTuningError.self) {
            try StoreBuilder.merge(shards: [path("shard2"), path("shard0")], output: path("merged.h5"))
        }
        #expect(missing?.description.contains("shard 2/3 is missing") == true)
        let merged = try StoreBuilder.merge(
            shards: [path("shard2"), path("shard0"), path("shard1")], output: path("merged.h5"))
        #expect(try bytes("merged.h5") == bytes("whole.h5"))
        #expect(merged.report == expected.report && merged.duplicates?.exact == expected.duplicates?.exact)
    }

    @Test func mixingTakesEachSourceAsOftenAsAsked() throws {
        defer { clean() }
        try write("big.jsonl", 0..<800)
        try write("small.jsonl", 5_000..<5_050, word: "गाँव")
        var mixed = request("big.jsonl", "small.jsonl")
        mixed.temperature = 2
        mixed.shuffle = true
        #expect(try build(mixed, "mixed.h5").rowCount == 800 + 200)
        let counts = Dictionary(grouping: try rows("mixed.h5")) { $0 }.mapValues(\.count)
        #expect(counts.count == 850 && counts.values.filter { $0 == 4 }.count == 50)
        mixed.maxRepeats = 1.5
        let capped = try build(mixed, "capped.h5")
        #expect(capped.repeats == [1, 1.5] && capped.rowCount == 875)
        mixed.weights = [0.5, 2]
        mixed.maxRepeats = nil
        mixed.temperature = .infinity
        mixed.shuffle = false
        let even = try build(mixed, "even.h5")
        #expect(even.repeats == [0.5, 32] && even.rowCount == 400 + 1_600)
        // Without shuffling, source by source, and a source again and again.
        let found = try rows("even.h5")
        #expect(found[400] == found[450] && found[401] == found[1_951] && Set(found[400...]).count == 50)
    }

    /// A recipe and a store of the same sources hold the same rows in the same order.
    @Test func recipesMixAndLeaveOutAsStoresDo() throws {
        defer { clean() }
        try write("a.jsonl", 0..<300)
        try write("b.jsonl", 280..<400, word: "नदी")
        try write("c.jsonl", 290..<310)
        var mixed = request("a.jsonl", "b.jsonl", "c.jsonl")
        mixed.weights = [0.7, 1.5, 1]
        mixed.temperature = 1.5
        mixed.maxRepeats = 3
        mixed.dedupe = .exact
        try build(mixed, "mixed.h5")
        let recipe = try Recipe(
            yaml: """
                model: \(Self.model)
                output: run
                data:
                  train: [{path: a.jsonl, weight: 0.7}, {path: b.jsonl, weight: 1.5}, c.jsonl]
                  max_length: 512
                  mix_temperature: 1.5
                  max_repeats: 3
                  dedupe: exact
                """, path: path("r.yaml"))
        let data = try TrainingData.load(recipe, config: loader.config)
        #expect(try data.train.map(\.ids) == rows("mixed.h5"))
        #expect(data.statistics.contains { $0.name == "training exact duplicates" && $0.value.contains("10 rows") })
    }

    @Test func duplicatesAreCountedAndLeftOutOnRequest() throws {
        defer { clean() }
        try write("a.jsonl", 0..<300)
        try write("b.jsonl", 290..<320)
        var twice = request("a.jsonl", "b.jsonl")
        let counted = try build(twice, "all.h5")
        #expect(counted.rowCount == 330 && counted.duplicates?.exact == 10)
        let pair = try #require(counted.duplicates?.exactPairs.first)
        #expect(pair.row == 1 && pair.file == path("b.jsonl") && pair.earlierRow == 291)
        #expect(pair.earlierFile == path("a.jsonl"))
        twice.dedupe = .exact
        #expect(try build(twice, "exact.h5").rowCount == 320)
        #expect(try rows("exact.h5") == Array(rows("all.h5")[..<300]) + Array(rows("all.h5")[310...]))
    }

    @Test func evaluationRowsAmongTheDataAreRefused() throws {
        defer { clean() }
        try write("a.jsonl", 0..<200)
        try write("eval.jsonl", 195..<230)
        var checked = request("a.jsonl")
        checked.eval = [path("eval.jsonl")]
        let error = #expect(throws: TextError.self) { try build(checked, "a.h5") }
        #expect(error?.description.contains("duplicate_rows") == true)
        #expect(error?.description.contains("rows 1, 2, 3, 4, 5") == true, "\(String(describing: error))")
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == ["a.jsonl", "eval.jsonl"])
        // Other defects, before and behind, do not keep it from being told.
        let unanswered = Data(#"{"messages": [{"role": "user", "content": "x"}]}"#.utf8)
        try unanswered.write(to: URL(fileURLWithPath: path("b.jsonl")))
        try write("c.jsonl", 200..<210)
        for partSize in [256, 1 << 20] {
            var several = request("a.jsonl", "b.jsonl", "c.jsonl")
            (several.eval, several.partSize) = ([path("eval.jsonl")], partSize)
            let all = #expect(throws: TextError.self) { try build(several, "a.h5") }
            guard case .badRows(let faults, 16)? = all else {
                Issue.record("\(String(describing: all))")
                continue
            }
            #expect(faults.filter { $0.lint == .noTrainedToken }.map(\.row) == [1])
            #expect(faults.filter { $0.lint == .duplicateRows }.map(\.row) == Array(1...15))
            #expect(!FileManager.default.fileExists(atPath: StoreBuilder.partsFolder(of: path("a.h5"))))
        }
        var accepting = loader
        accepting.options.accepts = [.duplicateRows]
        let result = try build(checked, "a.h5", accepting)
        #expect(result.report.warnings.contains { $0.contains("5 evaluation rows are in the training rows") })
    }

    @Test func anotherOutputIsLeftAndTheSameIsUpToDate() throws {
        defer { clean() }
        try write("a.jsonl", 0..<50)
        try build(request("a.jsonl"), "a.h5")
        let before = try bytes("a.h5")
        let again = try build(request("a.jsonl"), "a.h5")
        #expect(again.isUpToDate && again.rowCount == 50)
        var shorter = loader
        shorter.options.maxLength = 300
        shorter.options.overlong = .drop
        let other = #expect(throws: FineTuningError.self) { try build(request("a.jsonl"), "a.h5", shorter) }
        #expect(other?.exitStatus == .outputExists)
        #expect(other?.description.contains("max_length was 512 and is 300") == true)
        try write("a.jsonl", 0..<51)
        let changed = #expect(throws: FineTuningError.self) { try build(request("a.jsonl"), "a.h5") }
        #expect(changed?.description.contains("other data") == true)
        #expect(try bytes("a.h5") == before)
        // Training on it would train on the old rows.
        let stale = #expect(throws: FineTuningError.self) { try loader.load([path("a.h5")]) }
        #expect(stale?.description.contains("a.jsonl has changed") == true)
        try FileManager.default.removeItem(atPath: path("a.jsonl"))
        #expect(try loader.load([path("a.h5")]).examples.count == 50)
        shorter.checksOptions = true
        #expect(try shorter.load([path("a.h5")]).examples.count == 50)
        shorter.options.trainOn = .all
        let trainOn = #expect(throws: FineTuningError.self) { try shorter.load([path("a.h5")]) }
        #expect(trainOn?.description.contains("train_on: assistant") == true)
    }

    @Test func damagedPartsAreMadeAgain() throws {
        defer { clean() }
        try write("a.jsonl", 0..<2_000)
        try build(request("a.jsonl"), "whole.h5")
        var small = request("a.jsonl")
        small.partSize = 1
        var calls = 0
        #expect(throws: FineTuningError.self) {
            try build(small, "a.h5") {
                calls += 1
                return calls > 3
            }
        }
        let part = StoreBuilder.partsFolder(of: path("a.h5")) + "/part-000001"
        var damaged = try readFile(part, limit: 1 << 24)
        damaged[damaged.count - 120] ^= 1
        try Data(damaged).write(to: URL(fileURLWithPath: part))
        #expect(throws: FileError.self) { try TokenPart(path: part) }
        try build(small, "a.h5")
        #expect(try bytes("a.h5") == bytes("whole.h5"))
    }
}
