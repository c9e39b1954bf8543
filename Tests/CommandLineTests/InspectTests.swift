import FileFormats
import Foundation
import Testing

/// What `inspect` says of model folders.
@Suite struct InspectTests {
    /// A fixture with the experts of each layer in one tensor, named as Transformers names its parameters.
    private func writeStacked(_ fixture: String, to folder: String) throws {
        let files = try SafetensorsFolder(path: fixture)
        var tensors: [(name: String, shape: [Int], values: [Float])] = []
        for entry in files.entries where !entry.name.contains(".experts.") {
            let name = entry.name.replacingOccurrences(of: ".block_sparse_moe.", with: ".mlp.")
            tensors.append((name, entry.shape, files.floats(of: entry)))
        }
        for layer in 0..<2 {
            for (name, parts) in [("gate_up_proj", ["w1", "w3"]), ("down_proj", ["w2"])] {
                let entries = try (0..<4).flatMap { expert in
                    try parts.map {
                        try #require(
                            files.entry(named: "model.layers.\(layer).block_sparse_moe.experts.\(expert).\($0).weight"))
                    }
                }
                let shape = [4, parts.count * entries[0].shape[0], entries[0].shape[1]]
                tensors.append(
                    ("model.layers.\(layer).mlp.experts.\(name)", shape, entries.flatMap { files.floats(of: $0) }))
            }
        }
        let writer = try SafetensorsWriter(
            path: folder + "/model.safetensors",
            tensors: tensors.map { .init(name: $0.name, type: .f32, shape: $0.shape) })
        for tensor in tensors { try writer.append(tensor.values, to: tensor.name) }
        try writer.finish()
        try FileManager.default.copyItem(atPath: fixture + "/config.json", toPath: folder + "/config.json")
    }

    @Test func expertsInOneTensorAreNoLimit() throws {
        try withFolder { folder in
            try writeStacked(Fixture.root + "/mixtral", to: folder)
            let found = try Program.run("inspect \(folder) --json").json()
            let limits = try #require(found["limits"]?.arrayValue).compactMap { $0["cannot"]?.stringValue }
            #expect(limits.contains("read text") && !limits.contains { $0.hasPrefix("run") }, "\(limits)")
            #expect(found["family"]?.stringValue == "mixtral")
        }
    }

    @Test func theContentTellsWhatAFileIs() throws {
        try withFolder { folder in
            let row = #"{"text": "a"}"#
            let files = [
                "lines": row + "\n" + row + "\n", "pretty": "{\n\"text\":\n\"a\"}\n" + row, "array": "[\(row), \(row)]",
                "wrapped": "{\"rows\": [\(row), \(row)]}", "table": "prompt,completion\na,b\nc,d\n",
                "lines.json": row + "\n" + row, "recipe": "model: base\ndata: {train: rows.jsonl}\noutput: run\n",
                "other": "{\"a\": [{\"b\": 1}], \"c\": 2}",
            ]
            for (name, text) in files {
                try text.write(toFile: folder + "/" + name, atomically: true, encoding: .utf8)
                let found = try Program.run("inspect \(folder)/\(name) --json").json()
                let kind = name == "recipe" ? "recipe" : name == "other" ? "JSON" : "data rows"
                #expect(found["kind"]?.stringValue == kind, "\(name)")
                if kind == "data rows" { #expect(found["rows"]?.intValue == 2, "\(name)") }
            }
        }
    }
}
