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

@Suite(
    "Tokenizers against the libraries of their formats",
    .enabled(if: conformanceFolder != nil, "no conformance data here"))
struct TokenizerConformanceTests {
    /// Every vector file, by name.
    static let names: [String] = {
        guard let root = conformanceFolder else { return [] }
        let files = (try? FileManager.default.contentsOfDirectory(atPath: root + "/tokenizer_vectors")) ?? []
        return files.filter { $0.hasSuffix(".json") && $0 != "strings.json" }.map { String($0.dropLast(5)) }.sorted()
    }()
    static let vocabularies: [String] = {
        guard let root = conformanceFolder else { return [] }
        let files = (try? FileManager.default.contentsOfDirectory(atPath: root + "/gguf_vocab")) ?? []
        return files.filter { $0.hasSuffix(".inp") }.map { String($0.dropLast(4)) }.sorted()
    }()

    @Test("ids and texts are equal", arguments: names)
    func vectors(name: String) throws {
        let root = try #require(conformanceFolder)
        let vectors = try JSONParser.parse(readFile("\(root)/tokenizer_vectors/\(name).json"))
        let file = try #require(vectors["files"]?.objectValue?.keys.first)
        let tokenizer = try Tokenizer(path: "\(root)/\(file)")
        let kind = try #require(vectors["kind"]?.stringValue)
        // What `fields` of the file says of each library.
        let parsesInIDs = kind != "tiktoken" && kind != "gguf-vocab"
        for entry in try #require(vectors["cases"]?.arrayValue) {
            let text = try #require(entry["text"]?.stringValue)
            func ids(_ key: String) -> [Int32] { (entry[key]?.arrayValue ?? []).map { Int32($0.intValue ?? -1) } }
            func isEqual(_ text: String, _ key: String) -> Bool {
                Array(text.utf8) == Array((entry[key]?.stringValue ?? "missing").utf8)
            }
            let plain = try tokenizer.encoding(of: text, addSpecialTokens: false, parseSpecialTokens: parsesInIDs)
            #expect(plain.ids == ids("ids"), "\(text.debugDescription)")
            let special = try tokenizer.encoding(of: text, addSpecialTokens: true)
            #expect(special.ids == ids("ids_special"), "\(text.debugDescription)")
            #expect(
                isEqual(tokenizer.decode(ids("ids"), skipSpecialTokens: false), "decoded"), "\(text.debugDescription)")
            let decoded = tokenizer.decode(ids("ids_special"), skipSpecialTokens: true)
            #expect(isEqual(decoded, "decoded_skip_special"), "\(text.debugDescription)")
            // Falcon has no token for some bytes, and SentencePiece drops spaces; both vanish from the ids too.
            if kind == "hf-tokenizer.json", name != "falcon" { expectCovers(plain, text) }
        }
    }

    @Test("llama.cpp's own texts", arguments: vocabularies)
    func llamaTexts(name: String) throws {
        let root = try #require(conformanceFolder)
        let tokenizer = try Tokenizer(path: "\(root)/gguf_vocab/\(name)")
        func read(_ suffix: String) throws -> String {
            String(decoding: try readFile("\(root)/gguf_vocab/\(name)\(suffix)"), as: UTF8.self)
        }
        let texts = try read(".inp").components(separatedBy: "\n__ggml_vocab_test__\n")
        let lines = try read(".out").components(separatedBy: "\n")
        #expect(texts.count > 40 && lines.count >= texts.count)
        for (text, line) in zip(texts, lines) {
            let ids = try tokenizer.encoding(of: text, addSpecialTokens: false).ids
            #expect(ids == line.split(separator: " ").compactMap { Int32($0) }, "\(text.debugDescription)")
        }
    }

    @Test("vocab.json with merges.txt gives the ids of the tokenizer.json beside it", arguments: ["gpt2", "qwen2.5"])
    func vocabularyAndMerges(name: String) throws {
        let root = try #require(conformanceFolder)
        let strings = try JSONParser.parse(readFile("\(root)/tokenizer_vectors/\(name).json"))["cases"]?.arrayValue
        let tokenizer = try Tokenizer(path: "\(root)/tokenizers/\(name)/vocab.json")
        for entry in try #require(strings) {
            let ids = try tokenizer.encoding(of: try #require(entry["text"]?.stringValue), addSpecialTokens: true).ids
            #expect(ids == (entry["ids_special"]?.arrayValue ?? []).map { Int32($0.intValue ?? -1) })
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
