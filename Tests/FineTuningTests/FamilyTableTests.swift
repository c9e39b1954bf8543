import Export
import FileFormats
import Foundation
import TensorCore
import Testing

@testable import FineTuning

/// The table of families in the README: what PyTorch's numbers for the fixtures of this repository confirm.
///
/// `GRAFT_WRITE_README=1 swift test --filter FamilyTable` writes it anew.
@Suite struct FamilyTableTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path
    private static let marks = (start: "<!-- families: made by FamilyTableTests -->\n", end: "<!-- end of families -->")
    private let pool = WorkerPool(threads: 2)

    @Test func tableIsWhatTheFixturesSay() throws {
        let names = try FileManager.default.contentsOfDirectory(atPath: Self.root + "/Tests/Fixtures").sorted()
        var fixtures: [Family: [String]] = [:]
        for folder in names.map({ Self.root + "/Tests/Fixtures/" + $0 }) {
            guard let config = try? ModelConfig(path: folder) else { continue }
            fixtures[config.family, default: []].append(folder)
        }
        var lines = [
            "| `model_type` | parameters tried | logits and loss | gradients | ten AdamW steps | merged weights "
                + "| GGUF: `general.architecture`, written, read back |",
            "|---|---|---|---|---|---|---|",
        ]
        for family in Family.allCases.sorted(by: { $0.rawValue < $1.rawValue }) {
            guard let folders = fixtures[family] else { continue }
            let sizes = Set(try folders.map { try ModelConfig(path: $0).parameterCount }).sorted()
            func tell(_ check: (String) throws -> Bool) rethrows -> String {
                try folders.allSatisfy(check) ? "as PyTorch" : "**differ**"
            }
            let range = sizes.count == 1 ? "\(sizes[0])" : "\(sizes[0]) to \(sizes[sizes.count - 1])"
            let cells = [
                "`\(family.rawValue)`", "\(range), \(folders.count == 1 ? "1 model" : "\(folders.count) models")",
                try tell(hasEqualLogits), try tell(hasEqualGradients), try tell(takesEqualSteps),
                try tell(mergesEqually),
                "`\(family.gguf.architecture)`: \(try gguf(folders))",
            ]
            lines.append("| " + cells.joined(separator: " | ") + " |")
        }
        let table = lines.joined(separator: "\n") + "\n"
        #expect(!table.contains("**differ"))
        let path = Self.root + "/README.md"
        let readme = try String(contentsOfFile: path, encoding: .utf8)
        let start = try #require(readme.range(of: Self.marks.start)).upperBound
        let end = try #require(readme.range(of: Self.marks.end)).lowerBound
        if ProcessInfo.processInfo.environment["GRAFT_WRITE_README"] != nil {
            try (readme[..<start] + table + readme[end...]).write(toFile: path, atomically: true, encoding: .utf8)
        } else {
            #expect(String(readme[start..<end]) == table, "GRAFT_WRITE_README=1 writes the table anew")
        }
    }

    private func hasEqualLogits(_ folder: String) throws -> Bool {
        let fixture = try Fixture(folder), model = try DecoderModel(folder: folder, dtype: .f32)
        for key in ["base", "adapter"] {
            if key == "adapter" { try model.attachAdapter(folder: folder + "/adapter") }
            let losses = model.losses(Tape(pool: pool, recording: false), fixture.batch)
            let loss = losses.reduce(0, +) / Double(losses.count)
            guard try fixture.logitDifference(model.logits(fixture.batch, pool: pool), "logits.\(key)") < 1e-4,
                abs(loss - Double(try fixture.floats("loss.\(key)")[0])) < 1e-5
            else { return false }
        }
        return true
    }

    private func hasEqualGradients(_ folder: String) throws -> Bool {
        let fixture = try Fixture(folder), model = try DecoderModel(folder: folder, dtype: .f32)
        try model.attachAdapter(folder: folder + "/adapter")
        let tape = Tape(pool: pool, recording: true)
        let losses = model.losses(tape, fixture.batch)
        tape.backward()
        return try AdapterFile.tensors(of: model, model.attached!.plan, { $0.gradient! }).allSatisfy { tensor in
            let want = try fixture.floats("grad." + tensor.key)
            let got = tensor.values().floats().map { $0 / Float(losses.count) }
            return largestDifference(got, want) <= 1e-4 * want.reduce(0) { max($0, abs($1)) }
        }
    }

    private func takesEqualSteps(_ folder: String) throws -> Bool {
        let fixture = try Fixture(folder), model = try DecoderModel(folder: folder, dtype: .f32)
        try model.attachAdapter(folder: folder + "/adapter")
        var options = AdamW.Options()
        options.weightDecay = 0.01
        let optimizer = AdamW(model.trainableWeights, options)
        return try fixture.floats("train.loss").allSatisfy { want in
            let tape = Tape(pool: pool, recording: true)
            let losses = model.losses(tape, fixture.batch)
            tape.backward()
            optimizer.apply(learningRate: 1e-2, gradientScale: 1 / Double(losses.count), pool: pool)
            model.refreshWeights(pool)
            return abs(losses.reduce(0, +) / Double(losses.count) - Double(want)) < 1e-4
        }
    }

    private func withScratch<R>(_ body: (String) throws -> R) throws -> R {
        let path = NSTemporaryDirectory() + "graft-families-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try body(path)
    }

    private func mergesEqually(_ folder: String) throws -> Bool {
        let expected = try SafetensorsFile(path: folder + "/expected.safetensors")
        return try withScratch { scratch in
            _ = try mergeModel(model: folder, adapter: folder + "/adapter", output: scratch + "/merged", pool: pool)
            let merged = try SafetensorsFolder(path: scratch + "/merged")
            // Transformers names what checkpoints call block_sparse_moe as other families do.
            let block = ".\(try ModelConfig(path: folder).family.definition.mixtureNames.block)."
            return expected.entries.filter { $0.name.hasPrefix("merged.") }.allSatisfy { entry in
                let name = String(entry.name.dropFirst(7)), other = name.replacingOccurrences(of: ".mlp.", with: block)
                guard let written = merged.entry(named: name) ?? merged.entry(named: other) else { return false }
                return largestDifference(merged.floats(of: written), expected.floats(of: entry)) < 1e-5
            }
        }
    }

    /// Whether the models can be written as GGUF and come back as the same model.
    private func gguf(_ folders: [String]) throws -> String {
        var isReadBack = true
        for folder in folders {
            let batch = try Fixture(folder).batch
            let isSame = try withScratch { scratch -> Bool? in
                do {
                    _ = try exportGGUF(model: folder, output: scratch + "/model.gguf", type: .f32, pool: pool)
                } catch is ExportError {
                    return nil
                }
                let file = try GGUFModel(path: scratch + "/model.gguf")
                let read = try DecoderModel(config: file.config, dtype: .f32, tensor: file.tensor)
                let want = try DecoderModel(folder: folder, dtype: .f32).logits(batch, pool: pool).floats()
                return largestDifference(read.logits(batch, pool: pool).floats(), want) < 1e-4
            }
            guard let isSame else { return "not written" }
            if !isSame {
                let config = try ModelConfig(path: folder)
                if !config.family.gguf.warnings(config).isEmpty { return "yes, without its windows" }
                isReadBack = false
            }
        }
        return isReadBack ? "yes, yes" : "yes, **differs**"
    }
}
