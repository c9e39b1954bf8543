import FileFormats
import Foundation
import Testing
import TextData

/// The folder of reference data, or nil when this machine has none.
let conformanceFolder: String? = {
    let fallback = URL(filePath: #filePath).appending(path: "../../../../shared/conformance").standardized.path
    let path = ProcessInfo.processInfo.environment["GRAFT_CONFORMANCE"] ?? fallback
    return FileManager.default.fileExists(atPath: path + "/tokenizer_vectors") ? path : nil
}()

func readFile(_ path: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(filePath: path))) }

@Suite("Tokenizers against Hugging Face's", .enabled(if: conformanceFolder != nil, "no conformance data here"))
struct TokenizerConformanceTests {
    static let names = [
        "smollm2", "gpt2", "stories260K-hf", "tinyllama-chat", "mistral-7b-v0.3", "qwen2.5", "llama3",
        "deepseek-coder", "falcon", "phi-2", "phi-3-mini",
    ]

    @Test("ids and texts are equal", arguments: names)
    func vectors(name: String) throws {
        let root = try #require(conformanceFolder)
        let vectors = try JSONParser.parse(readFile("\(root)/tokenizer_vectors/\(name).json"))
        let file = try #require(vectors["files"]?.objectValue?.keys.first)
        let tokenizer = try Tokenizer(path: "\(root)/\(file)")
        for entry in try #require(vectors["cases"]?.arrayValue) {
            let text = try #require(entry["text"]?.stringValue)
            func ids(_ key: String) -> [Int32] { (entry[key]?.arrayValue ?? []).map { Int32($0.intValue ?? -1) } }
            func isEqual(_ text: String, _ key: String) -> Bool {
                Array(text.utf8) == Array((entry[key]?.stringValue ?? "missing").utf8)
            }
            let plain = try tokenizer.encoding(of: text, addSpecialTokens: false)
            #expect(plain.ids == ids("ids"), "\(text.debugDescription)")
            let special = try tokenizer.encoding(of: text, addSpecialTokens: true)
            #expect(special.ids == ids("ids_special"), "\(text.debugDescription)")
            #expect(
                isEqual(tokenizer.decode(ids("ids"), skipSpecialTokens: false), "decoded"), "\(text.debugDescription)")
            let decoded = tokenizer.decode(ids("ids_special"), skipSpecialTokens: true)
            #expect(isEqual(decoded, "decoded_skip_special"), "\(text.debugDescription)")
            // Falcon has no token for some bytes; they vanish from the ids too.
            if name != "falcon" { expectCovers(plain, text) }
        }
    }

    @Test("ids of GGUF vocabularies are llama.cpp's", arguments: ["gpt-2", "llama-spm", "falcon", "deepseek-coder"])
    func gguf(name: String) throws {
        let root = try #require(conformanceFolder)
        let vectors = try JSONParser.parse(readFile("\(root)/tokenizer_vectors/gguf-\(name).json"))
        let file = try #require(vectors["files"]?.objectValue?.keys.first)
        let tokenizer = try Tokenizer(path: "\(root)/\(file)")
        for entry in try #require(vectors["cases"]?.arrayValue) {
            let text = try #require(entry["text"]?.stringValue)
            func ids(_ key: String) -> [Int32] { (entry[key]?.arrayValue ?? []).map { Int32($0.intValue ?? -1) } }
            let plain = try tokenizer.encoding(of: text, addSpecialTokens: false, parseSpecialTokens: false)
            #expect(plain.ids == ids("ids"), "\(text.debugDescription)")
            let special = try tokenizer.encoding(of: text, addSpecialTokens: true)
            #expect(special.ids == ids("ids_special"), "\(text.debugDescription)")
        }
    }

    /// The ranges lie in the text, begin at its start, leave no gap and reach its end.
    private func expectCovers(_ encoding: TextData.Encoding, _ text: String) {
        guard !encoding.ids.isEmpty else { return }
        var reached = 0
        for range in encoding.byteRanges {
            #expect(range.lowerBound <= reached, "a gap before byte \(range.lowerBound) of \(text.debugDescription)")
            reached = max(reached, range.upperBound)
        }
        #expect(reached == text.utf8.count, "\(text.debugDescription)")
    }
}
