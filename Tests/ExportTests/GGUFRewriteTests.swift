import FileFormats
import FineTuning
import Foundation
import TensorCore
import Testing
import TextData

@testable import Export

@Suite struct GGUFRewriteTests {
    let scratch = Scratch()
    let pool = WorkerPool(threads: 2)
    let model = TinyModel(vocabulary: 40, hidden: 256, inner: 512, layers: 3)

    private func tensorBytes(_ path: String) throws -> [String: [UInt8]] {
        let file = try GGUFFile(path: path)
        return Dictionary(uniqueKeysWithValues: file.tensors.map { ($0.name, Array(file.withBytes(of: $0))) })
    }

    @Test(arguments: [GGUFOutputType.q8_0, .q4_k_m, .q2_k, .iq4_nl]) func aFileGivesWhatItsFolderGives(
        type: GGUFOutputType
    ) throws {
        try model.write(to: scratch("m"))
        try model.writeAdapter(
            to: scratch("a"), modules: [("model.layers.0.self_attn.q_proj", 6), ("model.layers.1.mlp.down_proj", 6)])
        _ = try exportGGUF(model: scratch("m"), output: scratch("f32.gguf"), type: .f32, name: "x", pool: pool)
        for adapter in [nil, scratch("a")] {
            _ = try exportGGUF(
                model: scratch("m"), adapter: adapter, output: scratch("1"), type: type, name: "x", pool: pool,
                replacing: true)
            let report = try exportGGUF(
                model: scratch("f32.gguf"), adapter: adapter, output: scratch("2"), type: type, pool: pool,
                replacing: true)
            #expect(report.mergedModules == (adapter == nil ? 0 : 2) && (report.largestChange > 0) == (adapter != nil))
            #expect(try sha256(ofFile: scratch("1")) == sha256(ofFile: scratch("2")))
        }
    }

    @Test func mergingKeepsTheTypes() throws {
        try model.write(to: scratch("m"))
        try model.writeAdapter(to: scratch("a"), modules: [("model.layers.0.self_attn.k_proj", 4)])
        _ = try exportGGUF(model: scratch("m"), output: scratch("q"), type: .q4_k_m, pool: pool)
        _ = try mergeModel(model: scratch("q"), adapter: scratch("a"), output: scratch("merged"), pool: pool)
        let (before, after) = (try GGUFFile(path: scratch("q")), try GGUFFile(path: scratch("merged")))
        #expect(after.tensors.map(\.type) == before.tensors.map(\.type))
        for (old, new) in zip(before.tensors, after.tensors) {
            let isSame = before.withBytes(of: old).elementsEqual(after.withBytes(of: new))
            #expect(isSame == (new.name != "blk.0.attn_k.weight"), "\(new.name)")
        }
    }

    @Test func aQuantisedBaseTrains() throws {
        try model.write(to: scratch("m"))
        _ = try exportGGUF(model: scratch("m"), output: scratch("q"), type: .q4_k_m, pool: pool)
        let config = try ModelReader.any.config(scratch("q"))
        let base = try ModelReader.any.model(scratch("q"), .f32, .frozen, .none, pool)
        let read = try GGUFModel(path: scratch("q"))
        for parameter in ParameterTable(config).parameters {
            let weight = try #require(base.weights.first { $0.name == parameter.name })
            let values = weight.quantized?.decoded(pool: pool) ?? weight.value
            #expect(values.floats() == read.tensor(parameter).floats())
        }
        #expect(base.weights.contains { $0.quantized != nil })
        try base.attachNewAdapters(
            AdapterConfig(rank: 4, alpha: 8, dropout: 0, targets: .allLinear, baseModel: nil), seed: 1)
        let example = TokenizedExample(ids: [1, 5, 9, 3], isTrained: [true, true, true, true])
        let tape = Tape(pool: pool, recording: true)
        #expect(base.losses(tape, PackedBatch([example])).allSatisfy { $0.isFinite && $0 > 0 })
        tape.backward()
        #expect(base.trainableWeights.contains { $0.gradient!.floats().contains { $0 != 0 } })
    }

    // MARK: split files

    @Test func partsGoTogether() throws {
        try model.write(to: scratch("m"))
        _ = try exportGGUF(model: scratch("m"), output: scratch("whole.gguf"), type: .q8_0, pool: pool)
        let options = GGUFExportOptions(type: .q8_0, name: "m", maximumPartSize: 400_000)
        let report = try exportGGUF(model: scratch("m"), output: scratch("s.gguf"), options: options, pool: pool)
        let count = report.parts.count
        #expect(count > 2 && report.parts[0].hasSuffix("/s-00001-of-0000\(count).gguf"))
        let read = try GGUFFile(path: report.parts[0])
        #expect(read.paths == report.parts && read[GGUFSplit.countKey] == .uint16(UInt16(count)))
        #expect(try tensorBytes(report.parts[0]) == tensorBytes(scratch("whole.gguf")))
        for (index, path) in report.parts.enumerated() {
            let size = try GGUFFile.partSize(path)
            #expect(size <= 400_000, "part \(index)")
        }
        // A whole file comes of it again.
        _ = try exportGGUF(model: report.parts[0], output: scratch("joined.gguf"), type: .q8_0, pool: pool)
        #expect(try tensorBytes(scratch("joined.gguf")) == tensorBytes(scratch("whole.gguf")))
        #expect(try GGUFFile(path: scratch("joined.gguf"))[GGUFSplit.countKey] == nil)
        #expect(throws: FileError.self) { try GGUFFile(path: report.parts[1]) }
        try FileManager.default.moveItem(atPath: report.parts[2], toPath: scratch("elsewhere"))
        #expect(throws: FileError.self) { try GGUFFile(path: report.parts[0]) }
        try FileManager.default.copyItem(atPath: report.parts[1], toPath: report.parts[2])
        #expect(throws: FileError.self) { try GGUFFile(path: report.parts[0]) }
        try FileManager.default.moveItem(atPath: report.parts[0], toPath: scratch("renamed.gguf"))
        #expect(throws: FileError.self) { try GGUFFile(path: scratch("renamed.gguf")) }
    }

    @Test func whatFitsStaysOneFile() throws {
        try TinyModel().write(to: scratch("m"))
        let options = GGUFExportOptions(type: .f32, maximumPartSize: 1 << 30)
        let report = try exportGGUF(model: scratch("m"), output: scratch("o.gguf"), options: options, pool: pool)
        #expect(report.parts.isEmpty && scratch.names == ["m", "o.gguf"])
    }

    // MARK: importance

    @Test func importanceIsTheMeanSquareOfInputs() throws {
        let tiny = TinyModel()
        try tiny.write(to: scratch("m"))
        let loaded = try DecoderModel(folder: scratch("m"), dtype: .f32)
        let examples = [[1, 5, 9, 3], [7, 2]].map {
            TokenizedExample(ids: $0.map { Int32($0) }, isTrained: [Bool](repeating: false, count: $0.count))
        }
        let matrix = ImportanceMatrix(loaded, examples: examples, dataSets: ["rows.jsonl"], pool: pool)
        #expect(matrix.entries.count == 14 && matrix.chunkCount == 1)
        let query = try #require(matrix.entries.first { $0.name == "blk.0.attn_q.weight" })
        #expect(query.entry.counts == [6])
        // The first block's input is the normed embedding.
        let embedding = try values(scratch("m"), "model.embed_tokens.weight")
        let norm = try values(scratch("m"), "model.layers.0.input_layernorm.weight")
        var expected = [Double](repeating: 0, count: 16)
        for id in examples.flatMap(\.ids) {
            let row = embedding[Int(id) * 16..<Int(id) * 16 + 16].map { Double($0) }
            let scale = 1 / (row.reduce(0) { $0 + $1 * $1 } / 16 + 1e-5).squareRoot()
            for i in 0..<16 { expected[i] += pow(row[i] * scale * Double(norm[i]), 2) }
        }
        for (a, b) in zip(query.entry.sums, expected) { #expect(abs(Double(a) - b) <= 1e-5 * b) }

        try matrix.writeGGUF(to: scratch("i.gguf"))
        try matrix.writeLegacy(to: scratch("i.dat"))
        let tensors = [(name: "blk.1.ffn_down.weight", shape: [16, 24]), (name: "output.weight", shape: [20, 16])]
        let fromGGUF = try ImportanceMatrix(path: scratch("i.gguf")),
            fromLegacy = try ImportanceMatrix(path: scratch("i.dat"))
        #expect(fromGGUF.dataSets == ["rows.jsonl"] && fromLegacy.dataSets == ["rows.jsonl"])
        let a = try fromGGUF.weights(of: tensors, path: "i"), b = try fromLegacy.weights(of: tensors, path: "i")
        #expect(a[1] == nil && b[1] == nil)
        for (x, y) in zip(try #require(a[0]), try #require(b[0])) { #expect(abs(x - y) <= 1e-5 * abs(x)) }
        #expect(throws: ExportError.self) { try fromGGUF.weights(of: [("blk.0.attn_q.weight", [16, 32])], path: "i") }

        let options = GGUFExportOptions(type: .q4_0, importance: scratch("i.gguf"))
        _ = try exportGGUF(model: scratch("m"), output: scratch("o"), options: options, pool: pool)
    }

    /// Each token's normed stream goes into the router once and into `active` experts; a run of many tokens, whose
    /// experts get filled tiles, gathers what runs of one token each do.
    @Test(arguments: ["qwen3-moe", "mixtral", "gpt-oss", "deepseek-v3"])
    func importanceOfExperts(fixture: String) throws {
        let model = try DecoderModel(folder: fixturesFolder + "/" + fixture, dtype: .f32)
        let experts = try #require(model.config.mixture).router
        let examples = (0..<40).map { TokenizedExample(ids: [Int32($0 * 3 % 64)], isTrained: [false]) }
        func matrix(_ examples: [TokenizedExample]) -> ImportanceMatrix {
            ImportanceMatrix(model, examples: examples, dataSets: [], pool: pool)
        }
        let all = matrix(examples)
        var sums: [String: [Float]] = [:], counts: [String: [Float]] = [:]
        for entry in examples.flatMap({ matrix([$0]).entries }) {
            func add(_ a: [Float]?, _ b: [Float]) -> [Float] { a.map { zip($0, b).map { $0 + $1 } } ?? b }
            sums[entry.name] = add(sums[entry.name], entry.entry.sums)
            counts[entry.name] = add(counts[entry.name], entry.entry.counts)
        }
        func expectEqual(_ a: [Float], _ b: [Float], _ what: String) {
            #expect(a.count == b.count && zip(a, b).allSatisfy { abs($0 - $1) <= 1e-4 * abs($1) + 1e-9 }, "\(what)")
        }
        for (name, entry) in all.entries {
            #expect(counts[name] == entry.counts, "\(name)")
            expectEqual(entry.sums, sums[name] ?? [], name)
        }
        let layer = model.config.layers.firstIndex { $0.mixes } ?? 0
        let router = try #require(all.entries.first { $0.name == "blk.\(layer).ffn_gate_inp.weight" }).entry
        for part in ["gate", "up", "down"] {
            let entry = try #require(all.entries.first { $0.name == "blk.\(layer).ffn_\(part)_exps.weight" }).entry
            #expect(entry.counts.count == experts.experts)
            #expect(entry.counts.reduce(0, +) == Float(experts.active * examples.count))
            guard part != "down" else { continue }
            let width = router.sums.count
            let total = (0..<width).map { column in
                stride(from: column, to: entry.sums.count, by: width).reduce(0) { $0 + entry.sums[$1] }
            }
            expectEqual(total, router.sums.map { $0 * Float(experts.active) }, part)
        }
    }

    @Test func damagedMatricesAreRefused() throws {
        let matrix = ImportanceMatrix(
            entries: [("blk.0.attn_q.weight", .init(sums: [1, 2, 3, 4], counts: [2]))], dataSets: [], chunkCount: 1,
            chunkSize: 512)
        try matrix.writeLegacy(to: scratch("i.dat"))
        let bytes = try readFile(scratch("i.dat"), limit: 1 << 20)
        // Whole without the lines after its entries, as old files are.
        for length in 0..<bytes.count - 8 {
            try AtomicFile.write(Array(bytes[..<length]), to: scratch("cut"), replacing: true)
            #expect(throws: ExportError.self, "\(length)") { try ImportanceMatrix(path: scratch("cut")) }
        }
        for position in [0, 4, 31] {
            var damaged = bytes
            damaged.replaceSubrange(position..<position + 4, with: [0xFF, 0xFF, 0xFF, 0x7F])
            try AtomicFile.write(damaged, to: scratch("bad"), replacing: true)
            #expect(throws: ExportError.self, "\(position)") { try ImportanceMatrix(path: scratch("bad")) }
        }
    }
}

extension GGUFFile {
    /// The bytes of the tensors in one part.
    fileprivate static func partSize(_ path: String) throws -> Int {
        let attributes = try FileManager.default.attributesOfItem(atPath: path)
        let total = (attributes[.size] as? NSNumber)?.intValue ?? 0
        // Metadata of these small files stays below this.
        return total - 3_000
    }
}
