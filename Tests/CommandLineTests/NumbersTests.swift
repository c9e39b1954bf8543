import FileFormats
import Foundation
import Testing

/// Numbers that are none, ids that the model has no row for: named, and nothing is published.
@Suite struct NumbersTests {
    /// The fixture's model with NaN in a norm of its last layer.
    private func damagedModel(_ folder: String) throws -> String {
        let path = folder + "/bad"
        try FileManager.default.copyItem(atPath: Fixture.model, toPath: path)
        try damage(path + "/model.safetensors", "model.layers.1.input_layernorm.weight")
        return path
    }

    private func damagedAdapter(_ folder: String) throws -> String {
        let path = folder + "/a"
        try FileManager.default.copyItem(atPath: Fixture.adapter, toPath: path)
        let file = try SafetensorsFile(path: path + "/adapter_model.safetensors")
        try damage(path + "/adapter_model.safetensors", try #require(file.entries.last).name)
        return path
    }

    private func damage(_ path: String, _ tensor: String) throws {
        let file = try SafetensorsFile(path: path)
        let entry = try #require(file.entry(named: tensor))
        var bytes = try readFile(path, limit: 16 << 20)
        let start = bytes.count - file.entries.reduce(0) { max($0, $1.byteRange.upperBound) }
        let range = start + entry.byteRange.upperBound - entry.type.size..<start + entry.byteRange.upperBound
        for i in range { bytes[i] = 0xFF }
        try AtomicFile.write(bytes, to: path, replacing: true)
    }

    private static let rows = "{\"input_ids\": [1, 2, 3], \"labels\": [1, 2, 3]}\n"

    @Test func aRunThatLearnsNothingPublishesNothing() throws {
        try withFolder { folder in
            try write(Self.rows, to: folder + "/rows.jsonl")
            try write(
                """
                model: \(try damagedModel(folder))
                output: out
                data: {train: [rows.jsonl]}
                training: {steps: 2, precision: f32}
                """, to: folder + "/r.yaml")
            let result = try Program.run(["train", "r.yaml"], in: folder)
            #expect(result.status == 70 && result.errors.contains("every step was skipped"), "\(result.errors)")
            #expect(!FileManager.default.fileExists(atPath: folder + "/out/adapter"))
            let again = try Program.run(["train", "r.yaml", "--resume"], in: folder)
            #expect(again.status == 70 && !FileManager.default.fileExists(atPath: folder + "/out/adapter"))
        }
    }

    @Test func weightsThatGrowBeyondF32AreNotPublished() throws {
        try withFolder { folder in
            try write(Self.rows, to: folder + "/rows.jsonl")
            try write(
                """
                model: \(Fixture.model)
                output: out
                data: {train: [rows.jsonl]}
                training: {steps: 1, precision: f32, learning_rate: 1.0e+39, schedule: constant}
                """, to: folder + "/r.yaml")
            let result = try Program.run(["train", "r.yaml"], in: folder)
            #expect(result.status == 70 && result.errors.contains("infinite or NaN"), "\(result.errors)")
            #expect(!FileManager.default.fileExists(atPath: folder + "/out/adapter"))
        }
    }

    @Test func lossesThatAreNoNumbers() throws {
        try withFolder { folder in
            try write(Self.rows, to: folder + "/rows.jsonl")
            let model = try damagedModel(folder)
            let eval = try Program.run(["eval", "--model", model, "--data", "rows.jsonl"], in: folder)
            #expect(eval.status == 65 && eval.errors.contains("rows.jsonl, row 1"), "\(eval.errors)")
            let imatrix = try Program.run(
                ["imatrix", "--model", model, "--data", "rows.jsonl", "--out", "i"], in: folder)
            #expect(imatrix.status == 65 && imatrix.errors.contains("are not numbers"), "\(imatrix.errors)")
            #expect(!FileManager.default.fileExists(atPath: folder + "/i"))
        }
    }

    @Test(arguments: ["--for", "--no-verify"]) func damagedAdaptersAreNotPublished(flag: String) throws {
        try withFolder { folder in
            let adapter = try damagedAdapter(folder)
            let target = flag == "--for" ? ["export", flag, "vllm"] : ["merge", flag]
            let result = try Program.run(
                target + ["--model", Fixture.model, "--adapter", adapter, "--out", "o"], in: folder)
            #expect(result.status == 65 && result.errors.contains("infinite or NaN"), "\(result.errors)")
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["a"])
            let info = try Program.run(["adapter", "info", adapter], in: folder)
            #expect(
                info.status == 0 && info.output.contains("NaN") && info.errors.contains("warning"), "\(info.errors)")
        }
    }

    @Test(arguments: ["160", "-1", "2147483647", "99999999999"]) func idsWithoutARow(id: String) throws {
        try withFolder { folder in
            try write(
                Self.rows + "{\"input_ids\": [1, \(id)], \"labels\": [1, \(id)]}\n", to: folder + "/rows.jsonl")
            try write("model: \(Fixture.model)\noutput: out\ndata: {train: [rows.jsonl]}\n", to: folder + "/r.yaml")
            let model = ["--model", Fixture.model], data = ["--data", "rows.jsonl"]
            for arguments in [
                ["train", "r.yaml"], ["plan", "r.yaml"], ["eval"] + model + data,
                ["imatrix"] + model + data + ["--out", "i"],
                ["merge"] + model + ["--adapter", Fixture.adapter, "--out", "m", "--verify-data", "rows.jsonl"],
                ["export"] + model + ["--out", "m.gguf", "--verify-data", "rows.jsonl"],
            ] {
                let result = try Program.run(arguments, in: folder)
                #expect(result.status == 65, "\(arguments): \(result.errors)")
                #expect(
                    result.errors.contains("row 2") && (id.count > 10 || result.errors.contains(id)),
                    "\(arguments): \(result.errors)")
            }
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == ["r.yaml", "rows.jsonl"])
        }
    }
}
