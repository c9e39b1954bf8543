import FileFormats
import Foundation
import Testing

@testable import TextData

@Suite("Tokenizer files that are wrong")
struct TokenizerHostileTests {
    private static func model(_ vocab: [(String, JSONValue)], _ merges: JSONValue = []) -> JSONValue {
        [
            "model": [
                "type": "BPE", "vocab": .object(JSONObject(vocab.map { (key: $0.0, value: $0.1) })), "merges": merges,
            ]
        ]
    }

    @Test(
        "ids and merges that contradict each other are named",
        arguments: [
            ("negative", model([("a", 0), ("b", -1)]), "\"b\" has the id -1"),
            ("huge", model([("a", 0), ("b", 9_000_000_000)]), "\"b\" has the id 9000000000"),
            ("fraction", model([("a", 0), ("b", 0.5)]), "\"b\" has a number"),
            ("text", model([("a", 0), ("b", "1")]), "\"b\" has a string"),
            ("duplicate", model([("a", 0), ("b", 0)]), "id 0 belongs to both \"a\" and \"b\""),
            ("hole", model([("a", 0), ("b", 2_000_000_000)]), "no token has the ids 1..<2000000000"),
            ("hole at the start", model([("a", 50_000)]), "no token has the ids 0..<50000"),
            ("unknown left", model([("a", 0)], ["x a"]), "merge 0 names \"x\""),
            ("unknown right", model([("a", 0)], [["a", "y"]]), "merge 0 names \"y\""),
            ("unknown result", model([("a", 0)], ["a a"]), "merge 0 names \"aa\""),
        ] as [(String, JSONValue, String)])
    func inconsistent(name: String, document: JSONValue, text: String) throws {
        let error = try #require(throws: TokenizerError.self) { try Tokenizer(json: document, name: "file.json") }
        guard case .inconsistent(let path, let problems) = error else {
            Issue.record("\(error)")
            return
        }
        #expect(path == "file.json")
        #expect(problems.contains { $0.contains(text) }, "\(problems)")
        #expect(error.exitStatus == .badInput)
    }

    @Test("added tokens must fit the vocabulary")
    func addedTokens() throws {
        for (added, text) in [
            ([addedToken(257, "a"), addedToken(99_999, "b")], "no token has the ids 258..<99999"),
            ([addedToken(257, "a"), addedToken(257, "b")], "id 257 belongs to both added tokens"),
            ([addedToken(5, "a")], "id 5 belongs to both \"<0x04>\" and the added token \"a\""),
            ([addedToken(257, "<0x04>")], "has the id 257, but 5 in the vocabulary"),
            ([addedToken(-3, "a")], "has the id -3"),
            ([addedToken(1 << 40, "a")], "has the id 1099511627776"),
        ] as [([JSONValue], String)] {
            let error = try #require(throws: TokenizerError.self) {
                try Tokenizer(json: byteFallbackDocument(added: added))
            }
            #expect(error.description.contains(text), "\(error)")
        }
    }

    @Test("many problems are reported at once, but not all of them")
    func manyProblems() throws {
        let vocab = (0..<100).map { ("t\($0)", JSONValue.integer(-$0 - 1)) }
        let error = try #require(throws: TokenizerError.self) { try Tokenizer(json: Self.model(vocab)) }
        #expect(error.description.contains("and 95 more"))
    }

    @Test func idsWithHolesTakeMemoryInProportionToTheFile() throws {
        func document(_ count: Int, gap: Int, added: [JSONValue] = []) -> JSONValue {
            let vocab = (0..<count).map { (key: "t\($0)", value: JSONValue.integer($0 * gap)) }
            return [
                "added_tokens": .array(added),
                "model": ["type": "WordLevel", "unk_token": "t0", "vocab": .object(JSONObject(vocab))],
            ]
        }
        #expect(try Tokenizer(json: document(10, gap: 400)).vocabularySize == 3601)
        #expect(throws: TokenizerError.self) { try Tokenizer(json: document(1000, gap: 400)) }
        let far = (1...100).map { addedToken($0 * 4000, "<\($0)>") }
        #expect(throws: TokenizerError.self) { try Tokenizer(json: document(2, gap: 1, added: far)) }
        let tekken: JSONValue = [
            "config": ["pattern": "a", "default_vocab_size": 16_777_216, "default_num_special_tokens": 16_777_216],
            "vocab": [],
        ]
        let error = try #require(throws: TokenizerError.self) {
            try TekkenFile(path: "tekken.json").read(tekken, TokenizerConfig())
        }
        #expect(error.description.contains("default_num_special_tokens"))
    }

    @Test(
        "what is not understood is refused",
        arguments: [
            ([:], "model"), (["model": ["type": "Rubbish"]], "model.type"), (["model": ["type": "BPE"]], "model.vocab"),
            (["model": ["type": "BPE", "vocab": [:]]], "model.merges"),
            (["model": ["type": "BPE", "vocab": [:], "merges": ["a"]]], "model.merges[0]"),
            (["model": ["type": "BPE", "vocab": [:], "merges": [["a", "b", "c"]]]], "model.merges[0]"),
            (["model": ["type": "BPE", "vocab": [:], "merges": [], "dropout": 0.1]], "model.dropout"),
            (["model": ["type": "BPE", "vocab": [:], "merges": []], "added_tokens": [["id": 0]]], "added_tokens[0]"),
            (["model": ["type": "BPE", "vocab": [:], "merges": []], "normalizer": ["type": "X"]], "normalizer.type"),
            (["model": ["type": "BPE", "vocab": [:], "merges": []], "decoder": ["type": "X"]], "decoder.type"),
            (
                [
                    "model": ["type": "BPE", "vocab": [:], "merges": []],
                    "pre_tokenizer": ["type": "Sequence", "pretokenizers": [["type": "X"]]],
                ], "pre_tokenizer.pretokenizers[0].type"
            ),
            (
                ["model": ["type": "BPE", "vocab": [:], "merges": []], "post_processor": ["type": "BertProcessing"]],
                "post_processor"
            ),
            (
                [
                    "model": ["type": "BPE", "vocab": ["a": 0], "merges": []],
                    "post_processor": ["type": "BertProcessing", "cls": ["x", 9], "sep": ["y", -1]],
                ], "adds the id 9"
            ),
        ] as [(JSONValue, String)])
    func refused(document: JSONValue, place: String) throws {
        let error = try #require(throws: TokenizerError.self) { try Tokenizer(json: document, name: "file.json") }
        #expect(error.description.contains(place), "\(error)")
    }

    private static func split(_ pattern: String) -> JSONValue {
        ["type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated", "invert": false]
    }

    @Test("a regular expression that is not one", arguments: ["(", "[a", "a{2", "\\p{Nonsense}", "(?<n", "*"])
    func invalidPattern(pattern: String) throws {
        do {
            _ = try Tokenizer(json: byteFallbackDocument(preTokenizer: Self.split(pattern)))
            #expect(pattern == "a{2", "only that one is valid")
        } catch let error as TokenizerError {
            guard case .invalidPattern = error else {
                Issue.record("\(error)")
                return
            }
        }
    }

    @Test(
        "a regular expression that backtracks for ever is refused in a second",
        arguments: ["(a+)+$", "(a|aa)+$", "([a-zA-Z]+)*$", "^(\\w+\\s?)*$"])
    func endlessPattern(pattern: String) throws {
        let start = ContinuousClock.now
        let text = String(repeating: "a", count: 40) + "!"
        let error = try #require(throws: TokenizerError.self) {
            let tokenizer = try Tokenizer(json: byteFallbackDocument(preTokenizer: Self.split(pattern)))
            _ = try tokenizer.encoding(of: text, addSpecialTokens: false)
        }
        guard case .patternTooSlow = error else {
            Issue.record("\(error)")
            return
        }
        #expect(ContinuousClock.now - start < .seconds(5))
    }

    @Test("a pattern that is only slow on its own text fails when it meets it")
    func endlessOnText() throws {
        let tokenizer = try Tokenizer(json: byteFallbackDocument(preTokenizer: Self.split("(ж+)+$")))
        let text = String(repeating: "ж", count: 40) + "!"
        #expect(throws: TokenizerError.self) { try tokenizer.encoding(of: text, addSpecialTokens: false) }
        #expect(try tokenizer.encoding(of: "жж", addSpecialTokens: false).ids.count == 4)
    }

    @Test("files that are cut off, empty, or not JSON")
    func brokenFiles() throws {
        let path = NSTemporaryDirectory() + "tokenizer-\(UUID().uuidString).json"
        defer { try? FileManager.default.removeItem(atPath: path) }
        #expect(throws: TokenizerError.self) { try Tokenizer(path: path) }
        let whole = JSONWriter.bytes(byteFallbackDocument())
        for length in [0, 1, 10, whole.count / 2, whole.count - 1] {
            try Data(whole.prefix(length)).write(to: URL(filePath: path))
            let error = try #require(throws: TokenizerError.self) { try Tokenizer(path: path) }
            #expect(error.exitStatus == .badInput)
        }
        try Data(whole).write(to: URL(filePath: path))
        _ = try Tokenizer(path: path)
    }
}
