import FileFormats
import Foundation
import TensorCore
import Testing

@testable import FineTuning

@Suite struct ModelFolderTests {
    private static let fixtures = URL(filePath: #filePath).appending(path: "../../Fixtures").standardized.path

    /// A tied model with a head in its file: the embedding, or the embedding with one value changed.
    private func problems(changesHead: Bool) throws -> [String] {
        let source = Self.fixtures + "/llama3-tied", files = try SafetensorsFolder(path: source)
        let folder = NSTemporaryDirectory() + "/graft-folder-\(UInt64.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let embedding = try #require(files.entry(named: ParameterTable.embedding))
        var head = files.floats(of: embedding)
        if changesHead { head = head.map { $0 + 1 } }
        let writer = try SafetensorsWriter(
            path: folder + "/model.safetensors",
            tensors: files.entries.map { .init(name: $0.name, type: $0.type, shape: $0.shape) }
                + [.init(name: ParameterTable.head, type: .f32, shape: embedding.shape)])
        for entry in files.entries { try writer.append(files.withBytes(of: entry), to: entry.name) }
        try head.withUnsafeBytes { try writer.append($0, to: ParameterTable.head) }
        try writer.finish()
        return DecoderModel.mismatches(try ModelConfig(path: source), try SafetensorsFolder(path: folder))
    }

    @Test("a tied model's file may hold the embedding once more, and no other head")
    func headOfATiedModel() throws {
        #expect(try problems(changesHead: false).isEmpty)
        let found = try problems(changesHead: true)
        #expect(found.count == 1 && found[0].hasPrefix("lm_head.weight") && found[0].contains("tie_word_embeddings"))
    }

    // MARK: folders of other kinds

    /// A copy of a fixture with other names, types and keys.
    private func folder(
        from fixture: String = "llama3-tied", renaming: (String) -> String? = { $0 }, type: ElementType? = nil,
        _ changes: KeyValuePairs<String, JSONValue> = [:]
    ) throws -> String {
        let source = Self.fixtures + "/" + fixture, files = try SafetensorsFolder(path: source)
        let folder = NSTemporaryDirectory() + "/graft-folder-\(UInt64.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        var json = try #require(readJSON(source + "/config.json", limit: 1 << 20).objectValue)
        for (key, value) in changes { json[key] = value }
        try AtomicFile.write(JSONWriter.bytes(.object(json)), to: folder + "/config.json")
        let kept = files.entries.compactMap { entry in renaming(entry.name).map { (entry, $0) } }
        let writer = try SafetensorsWriter(
            path: folder + "/model.safetensors",
            tensors: kept.map { entry, name in
                .init(name: name, type: entry.shape.count > 1 ? type ?? entry.type : entry.type, shape: entry.shape)
            })
        for (_, name) in kept {
            let written = writer.entries.first { $0.name.hasSameBytes(as: name) }
            try writer.append([UInt8](repeating: 0, count: written?.byteRange.count ?? 0), to: name)
        }
        try writer.finish()
        return folder
    }

    private func found(_ folder: String) throws -> [String] {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let files = try SafetensorsFolder(path: folder)
        return DecoderModel.mismatches(try ModelConfig(path: folder, files: files), files)
    }

    @Test("names behind another prefix are one problem", arguments: ["", "model.language_model.", "_orig_mod.model."])
    func prefix(prefix: String) throws {
        let problems = try found(try folder(renaming: { prefix + $0.dropFirst("model.".count) }))
        #expect(problems.count == 1 && problems[0].contains(prefix.isEmpty ? "no 'model.' in front" : "'\(prefix)'"))
    }

    @Test("layers too many and too few, and a head that is not there, are a line each")
    func lines() throws {
        let few = try found(try folder(["num_hidden_layers": 9]))
        #expect(few.count == 1 && few[0].contains("num_hidden_layers is 9"))
        let many = try found(try folder(["num_hidden_layers": 1]))
        #expect(many.count == 1 && many[0].contains("num_hidden_layers is 1"))
        let headless = try found(try folder(["tie_word_embeddings": false]))
        #expect(headless.count == 1 && headless[0].contains("\"tie_word_embeddings\": true"))
        let shapes = try found(try folder(["hidden_size": 8, "head_dim": 4]))
        #expect(shapes.count == 1 && shapes[0].contains("parameters have other shapes"))
    }

    @Test("a quantization_config beside plain weights is left over, and told")
    func staleQuantization() throws {
        let path = try folder([
            "quantization_config": ["quant_method": "gptq", "bits": 4], "quantization": ["bits": 4],
        ])
        defer { try? FileManager.default.removeItem(atPath: path) }
        let config = try ModelConfig(path: path, files: SafetensorsFolder(path: path))
        #expect(config.notes.count == 1 && config.notes[0].contains("GPTQ in 4 bits"))
        #expect(config.hasStaleQuantization && config.json["quantization_config"] == nil)
    }

    @Test(
        "quantised checkpoints are told by their method",
        arguments: [
            (["quant_method": "fp8"], ElementType.f8e4m3, "", "fp8"), (nil, .f8e5m2, "", "FP8"),
            (nil, .u32, "scales", "MLX"), (nil, .i32, "qweight", "GPTQ"), (nil, .u8, "weight.absmax", "bitsandbytes"),
            (["quant_method": "compressed-tensors"], .i8, "", "compressed-tensors"), (nil, .f4, "", "is F4"),
        ] as [(JSONValue?, ElementType, String, String)])
    func quantised(declared: JSONValue?, type: ElementType, ending: String, expected: String) throws {
        let path = try folder(
            renaming: { name in
                guard !ending.isEmpty, name.hasSuffix("layers.0.mlp.up_proj.weight") else { return name }
                return String(name.dropLast("weight".count)) + ending
            }, type: type, ["quantization_config": declared ?? .null])
        defer { try? FileManager.default.removeItem(atPath: path) }
        let error = #expect(throws: FineTuningError.self) { try DecoderModel(folder: path, dtype: .f32) }
        #expect(error?.description.contains(expected) == true && error?.exitStatus == .badInput)
        #expect(throws: FineTuningError.self) { try ModelReader.folders.config(path) }
    }

    @Test("texts beyond the context are counted; a context that grows with the text has no end")
    func context() throws {
        let config = try ModelConfig(path: Self.fixtures + "/llama3-tied"), context = try #require(config.context)
        #expect(config.contextNote([1, context], of: "rows") == nil)
        #expect(config.contextNote([1, context + 1], of: "rows")?.hasPrefix("1 of 2 rows") == true)
        var growing = config
        growing.rotaries[0].scaling = .dynamic(factor: 2, positions: 8)
        #expect(growing.contextNote([1 << 20], of: "rows") == nil)
        let model = try DecoderModel(folder: Self.fixtures + "/llama3-tied", dtype: .f32)
        var options = GenerationOptions()
        (options.maxTokens, options.context) = (9, 5)
        let made = model.generate(prompt: [1, 2], options: options, pool: .init(threads: 1))
        #expect(made.tokens.count == 3 && made.reachedContext)
    }
}
