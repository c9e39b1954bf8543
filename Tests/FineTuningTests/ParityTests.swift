import FileFormats
import Foundation
import TensorCore
import TextData
import Testing

@testable import FineTuning

/// Model folders with PyTorch's numbers: those of this repository, or all that `GRAFT_FIXTURES` holds.
let fixtureFolders: [String] = {
    let root =
        ProcessInfo.processInfo.environment["GRAFT_FIXTURES"]
        ?? URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path + "/Fixtures"
    let names = (try? FileManager.default.contentsOfDirectory(atPath: root)) ?? []
    return names.sorted().map { root + "/" + $0 }.filter { folder in
        guard let config = try? JSONParser.parse(readFile(folder + "/config.json", limit: 1 << 20)) else {
            return false
        }
        return Family(rawValue: config["model_type"]?.stringValue ?? "") != nil
    }
}()

/// What PyTorch computed for one fixture.
struct Fixture {
    let folder: String
    let expected: SafetensorsFile
    let batch: PackedBatch
    /// The place of each token of the batch in the padded `[2, 48]` arrays.
    let places: [Int]

    init(_ folder: String) throws {
        self.folder = folder
        expected = try SafetensorsFile(path: folder + "/expected.safetensors")
        let ids = try Self.integers(expected, "input_ids"), mask = try Self.integers(expected, "attention_mask")
        let labels = try Self.integers(expected, "labels")
        let shape = expected.entry(named: "input_ids")!.shape
        var batch = PackedBatch(), places: [Int] = []
        for row in 0..<shape[0] {
            let range = (row * shape[1]..<(row + 1) * shape[1]).filter { mask[$0] == 1 }
            batch.append(
                TokenizedExample(ids: range.map { Int32(ids[$0]) }, isTrained: range.map { labels[$0] != -100 }))
            places += range
        }
        self.batch = batch
        self.places = places
    }

    static func integers(_ file: SafetensorsFile, _ name: String) throws -> [Int] {
        let entry = try #require(file.entry(named: name))
        return file.withBytes(of: entry).bindMemory(to: Int64.self).map { Int($0) }
    }

    func floats(_ name: String) throws -> [Float] {
        expected.floats(of: try #require(expected.entry(named: name), "\(name) is missing"))
    }

    /// The largest difference between logits `[T, V]` and the expected ones at the same places.
    func logitDifference(_ logits: Tensor, _ name: String) throws -> Float {
        let want = try floats(name), got = logits.floats(), width = logits.width
        var largest: Float = 0
        for (row, place) in places.enumerated() {
            for i in 0..<width { largest = max(largest, abs(got[row * width + i] - want[place * width + i])) }
        }
        return largest
    }
}

func largestDifference(_ a: [Float], _ b: [Float]) -> Float {
    a.count == b.count ? zip(a, b).reduce(0) { max($0, abs($1.0 - $1.1)) } : .infinity
}

@Suite struct ParityTests {
    let pool = WorkerPool(threads: 2)

    @Test func fixturesExist() { #expect(!fixtureFolders.isEmpty) }

    @Test(arguments: fixtureFolders)
    func forwardEqualsPyTorch(folder: String) throws {
        let fixture = try Fixture(folder)
        let model = try DecoderModel(folder: folder, dtype: .f32)
        #expect(try fixture.logitDifference(model.logits(fixture.batch, pool: pool), "logits.base") < 1e-4)
        #expect(abs(meanLoss(model, fixture) - Double(try fixture.floats("loss.base")[0])) < 1e-5)
        try model.attachAdapter(folder: folder + "/adapter")
        #expect(try fixture.logitDifference(model.logits(fixture.batch, pool: pool), "logits.adapter") < 1e-4)
        #expect(abs(meanLoss(model, fixture) - Double(try fixture.floats("loss.adapter")[0])) < 1e-5)
    }

    private func meanLoss(_ model: DecoderModel, _ fixture: Fixture) -> Double {
        let losses = model.losses(Tape(pool: pool, recording: false), fixture.batch)
        return losses.reduce(0, +) / Double(losses.count)
    }

    @Test(arguments: fixtureFolders, [false, true])
    func gradientsEqualPyTorch(folder: String, checkpointing: Bool) throws {
        let fixture = try Fixture(folder)
        let model = try DecoderModel(folder: folder, dtype: .f32)
        try model.attachAdapter(folder: folder + "/adapter")
        let tape = Tape(pool: pool, recording: true)
        var options = DecoderModel.PassOptions()
        options.recomputedBlocks = checkpointing ? model.config.layerCount : 0
        let losses = model.losses(tape, fixture.batch, options: options)
        tape.backward()
        for tensor in AdapterFile.tensors(of: model, model.attached!.plan, { $0.gradient! }) {
            let want = try fixture.floats("grad." + tensor.key)
            let got = tensor.values().floats().map { $0 / Float(losses.count) }
            let largest = want.reduce(0) { max($0, abs($1)) }
            #expect(largestDifference(got, want) <= 1e-4 * largest, "\(tensor.key)")
        }
    }

    @Test(arguments: fixtureFolders)
    func tenStepsEqualPyTorch(folder: String) throws {
        let fixture = try Fixture(folder)
        let model = try DecoderModel(folder: folder, dtype: .f32)
        try model.attachAdapter(folder: folder + "/adapter")
        var options = AdamW.Options()
        options.weightDecay = 0.01
        let optimizer = AdamW(model.trainableWeights, options)
        let want = try fixture.floats("train.loss")
        for step in 0..<10 {
            let tape = Tape(pool: pool, recording: true)
            let losses = model.losses(tape, fixture.batch)
            tape.backward()
            let mean = losses.reduce(0, +) / Double(losses.count)
            #expect(abs(mean - Double(want[step])) < 1e-4, "step \(step)")
            optimizer.apply(learningRate: 1e-2, gradientScale: 1 / Double(losses.count), pool: pool)
            model.refreshWeights(pool)
        }
        for tensor in AdapterFile.tensors(of: model, model.attached!.plan) {
            let want = try fixture.floats("train." + tensor.key)
            #expect(largestDifference(tensor.values().floats(), want) < 2e-3, "\(tensor.key)")
        }
    }

    /// LongRoPE's frequencies change on the way, where the sequence outgrows the first context.
    @Test(arguments: fixtureFolders)
    func cachedLogitsEqualThoseOfTheWhole(folder: String) throws {
        let batch = try Fixture(folder).batch, tokens = Array(batch.tokens[..<batch.segmentStarts[1]])
        let model = try DecoderModel(folder: folder, dtype: .f32)
        let cache = KeyValueCache(model)
        var length = 0
        for count in [20, 1, 1, 9, 1, 1, 1, 1, 5] {
            let new = Array(tokens[length..<length + count])
            length += count
            let got = model.nextLogits(tokens: new, cache: cache, pool: pool).floats()
            let whole = model.logits(tokens: Array(tokens[..<length]), pool: pool).floats()
            #expect(largestDifference(got, Array(whole.suffix(got.count))) < 1e-4, "\(length) tokens")
            #expect(cache.length == length)
        }
    }

    @Test(arguments: fixtureFolders)
    func lossInBF16IsWithinAPercent(folder: String) throws {
        let fixture = try Fixture(folder)
        let model = try DecoderModel(folder: folder, dtype: .bf16)
        try model.attachAdapter(folder: folder + "/adapter")
        let want = Double(try fixture.floats("loss.adapter")[0])
        #expect(abs(meanLoss(model, fixture) - want) < 0.01 * want)
    }
}

@Suite struct PackingTests {
    /// Rows of random lengths give the losses in a batch that they give alone.
    @Test(arguments: fixtureFolders)
    func packedRowsEqualSingleRows(folder: String) throws {
        let model = try DecoderModel(folder: folder, dtype: .f32)
        let pool = WorkerPool(threads: 2)
        var state: UInt64 = 9
        let rows = [1, 2, 9, 31, 17].map { length -> TokenizedExample in
            func next(_ limit: Int) -> Int32 {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return Int32(state >> 33) % Int32(limit)
            }
            let ids = (0..<length).map { _ in next(model.config.vocabularySize) }
            return TokenizedExample(ids: ids, isTrained: ids.map { _ in next(2) == 0 })
        }
        let packed = model.logits(PackedBatch(rows), pool: pool).floats()
        let single = rows.flatMap { model.logits(PackedBatch([$0]), pool: pool).floats() }
        #expect(largestDifference(packed, single) < 1e-4)
        let losses = model.losses(Tape(pool: pool, recording: false), PackedBatch(rows))
        let each = rows.flatMap { model.losses(Tape(pool: pool, recording: false), PackedBatch([$0])) }
        #expect(largestDifference(losses.map(Float.init), each.map(Float.init)) < 1e-4)
    }
}
