import Foundation
import Testing

@testable import FileFormats

/// Files of other projects, which are not part of this repository.
enum Conformance {
    static let root = ProcessInfo.processInfo.environment["GRAFT_CONFORMANCE"] ?? "../shared/conformance"
    static let isThere = FileManager.default.fileExists(atPath: root)
}

@Suite(.enabled(if: Conformance.isThere, "the conformance data are not there")) struct ConformanceTests {
    @Test(arguments: ["gguf_vocab", "models/gguf"]) func realGGUFFilesAreRead(folder: String) throws {
        let path = Conformance.root + "/" + folder
        let names = try namesInFolder(path).filter { $0.hasSuffix(".gguf") }
        #expect(!names.isEmpty)
        for name in names {
            let file = try GGUFFile(path: path + "/" + name)
            // The file of all quantised types carries tensors alone.
            #expect(name == "quant-types.gguf" || file["tokenizer.ggml.tokens"]?.stringsValue?.isEmpty == false)
            for tensor in file.tensors {
                #expect(file.withBytes(of: tensor).count == tensor.type.byteCount(of: tensor.shape))
            }
        }
    }
    @Test func realSafetensorsFileIsRead() throws {
        let folder = try SafetensorsFolder(path: Conformance.root + "/models/stories260K")
        #expect(folder.entry(named: "model.embed_tokens.weight")?.shape.count == 2)
    }
}
