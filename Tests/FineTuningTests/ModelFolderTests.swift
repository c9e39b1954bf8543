import FileFormats
import Foundation
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
}
