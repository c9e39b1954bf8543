import FileFormats
import Foundation
import Testing

@testable import TextData

/// A small SentencePiece model, written field by field.
struct SentencePieceBytes {
    var bytes: [UInt8] = []

    mutating func varint(_ value: Int) {
        var rest = UInt64(bitPattern: Int64(value))
        while rest >= 0x80 {
            bytes.append(UInt8(rest & 0x7F) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }
    mutating func field(_ number: Int, _ value: Int) {
        varint(number << 3)
        varint(value)
    }
    mutating func field(_ number: Int, _ content: [UInt8]) {
        varint(number << 3 | 2)
        varint(content.count)
        bytes += content
    }
    mutating func piece(_ text: String, _ score: Float, _ type: Int) {
        var message = SentencePieceBytes()
        message.field(1, Array(text.utf8))
        message.varint(2 << 3 | 5)
        for k in 0..<4 { message.bytes.append(UInt8(truncatingIfNeeded: score.bitPattern >> (8 * k))) }
        message.field(3, type)
        field(1, message.bytes)
    }

    /// Pieces of every type: "XY" is user-defined, "bc" unused, "q" only part of a piece.
    static func model(algorithm: Int, variant: String) -> [UInt8] {
        var model = SentencePieceBytes()
        model.piece("<unk>", 0, 2)
        model.piece("<s>", 0, 3)
        model.piece("</s>", 0, 3)
        if variant == "bytes" {
            for token in byteFallbackTokens { model.piece(String(decoding: token, as: UTF8.self), 0, 6) }
        }
        let pieces: [(String, Float, Int)] = [
            ("▁", -2, 1), ("a", -3, 1), ("b", -3.5, 1), ("c", -4, 1), ("ab", -1.5, 1), ("▁a", -2.5, 1), ("abc", -6, 1),
            ("▁ab", -2.2, 1), ("XY", 0, 4), ("bc", -1, 5), ("qz", -1.25, 1),
        ]
        for piece in pieces { model.piece(piece.0, piece.1, piece.2) }
        var trainer = SentencePieceBytes()
        trainer.field(3, algorithm)
        trainer.field(24, variant == "suffix" ? 1 : 0)
        trainer.field(35, variant == "bytes" ? 1 : 0)
        model.field(2, trainer.bytes)
        var normalizer = SentencePieceBytes()
        if variant == "map" { normalizer.field(2, Array(Data(base64Encoded: sampleCharsmap)!)) }
        normalizer.field(3, variant == "bare" ? 0 : 1)
        normalizer.field(4, variant == "bare" || variant == "keeps" ? 0 : 1)
        normalizer.field(5, variant == "bare" ? 0 : 1)
        model.field(3, normalizer.bytes)
        return model.bytes
    }
}

/// Replaces A by a, e and e + U+0301 with an acute by e and e!, the ligature fi by its letters, the ideographic space by a
/// space, U+093F after a Devanagari na by U+0915, and drops the soft hyphen; compiled by SentencePiece's own trainer.
let sampleCharsmap = """
    AAQAAAAAAQBBDQAAAwAAgMwYAgCBBQAABwAAgK0FAAAAAACAqQUAAAUAAICkxAIAsJwDAOCUAgCk8AIAvwUAAA0AAICABAIAgA0A\
    AAEAAICsGAIAgQUAAAoAAIAXAAAAFgAAABkAAAAYAAAAGwAAABoAAAAdAAAAHAAAAB8AAAAeAAAAIQAAACAAAAAjAAAAIgAAACUA\
    AABlqAMAJwAAACYAAAApAAAAKAAAACsAAAAqAAAALQAAACwAAAAvAAAALgAAADEAAAAwAAAAMwAAADIAAAA1AAAANAAAADcAAAA2\
    AAAAOQAAADgAAAA7AAAAOgAAAD0AAAA8AAAAPwAAAD4AAABBAAAAQAAAAEMAAABCAAAARQAAAEQAAABHAAAARgAAAEkAAABIAAAA\
    SwAAAEoAAABNAAAATAAAAE8AAABOAAAAUQAAAFAAAABTAAAAUgAAAFUAAABUAAAAVwAAAFYAAABZAAAAWAAAAFsAAABaAAAAXQAA\
    AFwAAABfAAAAXgAAAGEAAABgAAAAYwAAAGIAAABlAAAAZAAAAGcAAABmAAAAaQAAAGgAAABrAAAAagAAAG0AAABsAAAAbwAAAG4A\
    AABxAAAAcAAAAHMAAAByAAAAdQAAAHQAAAB3AAAAdgAAAHkAAAB4AAAAewAAAHoAAAB9AAAAfAAAAH8AAAB+AAAAgQAAAIAAAADC\
    pAAAw4gAAIUAAACEAAAAhwAAAIYAAACJAAAAiAAAAIsAAACKAAAAjQAAAIwAAACPAAAAjgAAAJEAAACQAAAAkwAAAJIAAACVAAAA\
    lAAAAJcAAACWAAAAmQAAAJgAAACbAAAAmgAAAJ0AAACcAAAAnwAAAJ4AAADgOAAAoAAAAKMAAADjzAAApQAAAKQAAACnAAAApgAA\
    AKkAAACoAAAAqwAAAKoAAACtAAAArAAAAK8AAADvQAAAsQAAALAAAACzAAAAsgAAALUAAAC0AAAAtwAAALYAAAC5AAAAuAAAALsA\
    AAC6AAAAvQAAALwAAAC/AAAAvgAAAMEAAADAAAAAwwAAAMIAAADFAAAAxAAAAMcAAADGAAAAyQAAAMgAAADLAAAAygAAAM0AAADM\
    AAAAzwAAAM4AAADRAAAA0AAAANMAAADSAAAA1QAAANQAAADXAAAA1gAAANkAAADYAAAA2wAAANoAAADdAAAA3AAAAN8AAADeAAAA\
    4QAAAOAAAADjAAAA4gAAAOUAAADkAAAA5wAAAOYAAADpAAAA6AAAAOsAAADqAAAA7QAAAOwAAADvAAAA7gAAAPEAAADwAAAA8wAA\
    APIAAAD1AAAA9AAAAPcAAAD2AAAA+QAAAPgAAAD7AAAA+gAAAP0AAAD8AAAA/wAAAP4AAAAAIABhAGUAZSEAZmkA4KSVAA==
    """

@Suite("SentencePiece models")
struct SentencePieceTests {
    /// Texts, ids and what those decode to, by SentencePiece 0.2.3.
    static let expected: [(algorithm: Int, variant: String, cases: String)] = [
        (
            1, "plain",
            #"""
            [
            ["ab  c", [10, 3, 6], "ab c"],
            [" abc XYa ", [10, 6, 3, 11, 4], "abc XYa"],
            ["qz q dd", [3, 13, 3, 0, 3, 0], "qz  ⁇   ⁇ "],
            ["bcbc<s>", [3, 5, 6, 5, 6, 0], "bcbc ⁇ "],
            ["Aé", [3, 0], " ⁇ "],
            ["aXYXYb", [8, 11, 11, 5], "aXYXYb"]
            ]
            """#
        ),
        (
            1, "keeps",
            #"""
            [
            ["ab  c", [10, 3, 3, 6], "ab  c"],
            [" abc XYa ", [3, 10, 6, 3, 11, 4, 3], " abc XYa "],
            ["qz q dd", [3, 13, 3, 0, 3, 0], "qz  ⁇   ⁇ "],
            ["bcbc<s>", [3, 5, 6, 5, 6, 0], "bcbc ⁇ "],
            ["Aé", [3, 0], " ⁇ "],
            ["aXYXYb", [8, 11, 11, 5], "aXYXYb"]
            ]
            """#
        ),
        (
            1, "suffix",
            #"""
            [
            ["ab  c", [7, 3, 6, 3], "ab c "],
            [" abc XYa ", [7, 6, 3, 11, 4, 3], "abc XYa "],
            ["qz q dd", [13, 3, 0, 3, 0, 3], "qz  ⁇   ⁇  "],
            ["bcbc<s>", [5, 6, 5, 6, 0, 3], "bcbc ⁇  "],
            ["Aé", [0, 3], " ⁇  "],
            ["aXYXYb", [4, 11, 11, 5, 3], "aXYXYb "]
            ]
            """#
        ),
        (
            1, "bare",
            #"""
            [
            ["ab  c", [7, 0, 6], "ab ⁇ c"],
            [" abc XYa ", [0, 7, 6, 0, 11, 4, 0], " ⁇ abc ⁇ XYa ⁇ "],
            ["qz q dd", [13, 0], "qz ⁇ "],
            ["bcbc<s>", [5, 6, 5, 6, 0], "bcbc ⁇ "],
            ["Aé", [0], " ⁇ "],
            ["aXYXYb", [4, 11, 11, 5], "aXYXYb"]
            ]
            """#
        ),
        (
            1, "bytes",
            #"""
            [
            ["ab  c", [266, 259, 262], "ab c"],
            [" abc XYa ", [266, 262, 259, 267, 260], "abc XYa"],
            ["qz q dd", [259, 269, 259, 116, 259, 103, 103], "qz q dd"],
            ["bcbc<s>", [259, 261, 262, 261, 262, 63, 118, 65], "bcbc<s>"],
            ["Aé", [259, 68, 198, 172], "Aé"],
            ["aXYXYb", [264, 267, 267, 261], "aXYXYb"]
            ]
            """#
        ),
        (
            1, "map",
            #"""
            [
            ["ab  c", [10, 3, 6], "ab c"],
            [" abc XYa ", [10, 6, 3, 11, 4], "abc XYa"],
            ["qz q dd", [3, 13, 3, 0, 3, 0], "qz  ⁇   ⁇ "],
            ["bcbc<s>", [3, 5, 6, 5, 6, 0], "bcbc ⁇ "],
            ["Aé", [8, 0], "a ⁇ "],
            ["aXYXYb", [8, 11, 11, 5], "aXYXYb"]
            ]
            """#
        ),
        (
            2, "plain",
            #"""
            [
            ["ab  c", [10, 3, 6], "ab c"],
            [" abc XYa ", [8, 5, 6, 3, 11, 4], "abc XYa"],
            ["qz q dd", [3, 13, 3, 0, 3, 0], "qz  ⁇   ⁇ "],
            ["bcbc<s>", [3, 5, 6, 5, 6, 0], "bcbc ⁇ "],
            ["Aé", [3, 0], " ⁇ "],
            ["aXYXYb", [8, 11, 11, 5], "aXYXYb"]
            ]
            """#
        ),
        (
            2, "keeps",
            #"""
            [
            ["ab  c", [10, 3, 3, 6], "ab  c"],
            [" abc XYa ", [3, 8, 5, 6, 3, 11, 4, 3], " abc XYa "],
            ["qz q dd", [3, 13, 3, 0, 3, 0], "qz  ⁇   ⁇ "],
            ["bcbc<s>", [3, 5, 6, 5, 6, 0], "bcbc ⁇ "],
            ["Aé", [3, 0], " ⁇ "],
            ["aXYXYb", [8, 11, 11, 5], "aXYXYb"]
            ]
            """#
        ),
        (
            2, "suffix",
            #"""
            [
            ["ab  c", [7, 3, 6, 3], "ab c "],
            [" abc XYa ", [9, 3, 11, 4, 3], "abc XYa "],
            ["qz q dd", [13, 3, 0, 3, 0, 3], "qz  ⁇   ⁇  "],
            ["bcbc<s>", [5, 6, 5, 6, 0, 3], "bcbc ⁇  "],
            ["Aé", [0, 3], " ⁇  "],
            ["aXYXYb", [4, 11, 11, 5, 3], "aXYXYb "]
            ]
            """#
        ),
        (
            2, "bare",
            #"""
            [
            ["ab  c", [7, 0, 6], "ab ⁇ c"],
            [" abc XYa ", [0, 9, 0, 11, 4, 0], " ⁇ abc ⁇ XYa ⁇ "],
            ["qz q dd", [13, 0], "qz ⁇ "],
            ["bcbc<s>", [5, 6, 5, 6, 0], "bcbc ⁇ "],
            ["Aé", [0], " ⁇ "],
            ["aXYXYb", [4, 11, 11, 5], "aXYXYb"]
            ]
            """#
        ),
        (
            2, "bytes",
            #"""
            [
            ["ab  c", [266, 259, 262], "ab c"],
            [" abc XYa ", [264, 261, 262, 259, 267, 260], "abc XYa"],
            ["qz q dd", [259, 269, 259, 116, 259, 103, 103], "qz q dd"],
            ["bcbc<s>", [259, 261, 262, 261, 262, 63, 118, 65], "bcbc<s>"],
            ["Aé", [259, 68, 198, 172], "Aé"],
            ["aXYXYb", [264, 267, 267, 261], "aXYXYb"]
            ]
            """#
        ),
        (
            2, "map",
            #"""
            [
            ["ab  c", [10, 3, 6], "ab c"],
            [" abc XYa ", [8, 5, 6, 3, 11, 4], "abc XYa"],
            ["qz q dd", [3, 13, 3, 0, 3, 0], "qz  ⁇   ⁇ "],
            ["bcbc<s>", [3, 5, 6, 5, 6, 0], "bcbc ⁇ "],
            ["Aé", [8, 0], "a ⁇ "],
            ["aXYXYb", [8, 11, 11, 5], "aXYXYb"]
            ]
            """#
        ),
    ]

    private func tokenizer(_ bytes: [UInt8], name: String = "small.model") throws -> Tokenizer {
        let (parts, config) = try SentencePieceFile(bytes, path: name).read()
        return try Tokenizer(parts, config)
    }

    @Test("ids and texts are SentencePiece's", arguments: expected.indices)
    func vectors(index: Int) throws {
        let (algorithm, variant, cases) = Self.expected[index]
        let tokenizer = try tokenizer(SentencePieceBytes.model(algorithm: algorithm, variant: variant))
        #expect(tokenizer.kind == (algorithm == 1 ? .unigram : .sentencePieceBPE))
        for entry in try #require(try JSONParser.parse(cases).arrayValue) {
            let text = try #require(entry[0]?.stringValue)
            let ids = (entry[1]?.arrayValue ?? []).map { Int32($0.intValue ?? -1) }
            #expect(try tokenizer.encoding(of: text, addSpecialTokens: false).ids == ids, "\(variant): \(text)")
            let decoded = tokenizer.decode(ids, skipSpecialTokens: false)
            #expect(decoded.hasSameBytes(as: entry[2]?.stringValue ?? "missing"), "\(variant): \(text)")
        }
    }

    @Test("models of Llama's family begin with BOS, others do not")
    func bos() throws {
        let plain = SentencePieceBytes.model(algorithm: 2, variant: "plain")
        #expect(try tokenizer(plain).encoding(of: "ab", addSpecialTokens: true).ids == [10])
        let named = try tokenizer(plain, name: "folder/tokenizer.model")
        #expect(try named.encoding(of: "ab", addSpecialTokens: true).ids == [1, 10])
        let bytes = try tokenizer(SentencePieceBytes.model(algorithm: 2, variant: "bytes"))
        #expect(try bytes.encoding(of: "ab", addSpecialTokens: true).ids == [1, 266])
    }

    @Test("in a model's folder the tokens that its configuration names are found in text")
    func folder() throws {
        let folder = URL(filePath: NSTemporaryDirectory()).appending(path: "spm-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appending(path: "tokenizer.model")
        try Data(SentencePieceBytes.model(algorithm: 2, variant: "plain")).write(to: file)
        let config = #"{"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": false, "add_eos_token": true}"#
        try Data(config.utf8).write(to: folder.appending(path: "tokenizer_config.json"))
        #expect(try Tokenizer(path: folder.path).encoding(of: "ab</s>", addSpecialTokens: true).ids == [10, 2, 2])
        #expect(try Tokenizer(path: file.path).encoding(of: "</s>", addSpecialTokens: false).ids == [3, 0])
    }

    @Test("a template beside a model that stands alone takes special tokens from it")
    func templateConstants() throws {
        let folder = URL(filePath: NSTemporaryDirectory()).appending(path: "spm-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let model = Data(SentencePieceBytes.model(algorithm: 2, variant: "plain"))
        try model.write(to: folder.appending(path: "tokenizer.model"))
        try Data("{{ bos_token }}|{{ eos_token }}".utf8).write(to: folder.appending(path: "chat_template.jinja"))
        #expect(try ChatTemplate.load(folder: folder.path).render(variables: JSONObject()).text == "<s>|</s>")
        let config = #"{"bos_token": "<a>", "eos_token": null}"#
        try Data(config.utf8).write(to: folder.appending(path: "tokenizer_config.json"))
        #expect(try ChatTemplate.load(folder: folder.path).constants["bos_token"]?.stringValue == "<a>")
        #expect(try ChatTemplate.load(folder: folder.path).constants["eos_token"] == nil)
    }

    @Test("the table of replacements, as Hugging Face applies it")
    func precompiled() throws {
        let document = byteFallbackDocument(
            normalizer: ["type": "Precompiled", "precompiled_charsmap": .string(sampleCharsmap)])
        let tokenizer = try Tokenizer(json: document)
        for (text, expected) in [
            ("A\u{E9}e\u{301}x", "aee!x"), ("e\u{301}e", "e!e"), ("\u{FB01}\u{3000}A\u{AD}", "fi a"),
            ("e\u{301}\u{302}", "e!"), ("Ae", "ae"),
        ] {
            let ids = try tokenizer.encoding(of: text, addSpecialTokens: false).ids
            #expect(fallbackBytes(ids) == Array(expected.utf8), "\(text.debugDescription)")
        }
    }

    @Test("damaged models are errors or tokenizers, never a crash", arguments: 0..<4 as Range<UInt64>)
    func damaged(seed: UInt64) throws {
        var generator = SeededGenerator(seed)
        for variant in ["map", "bytes"] {
            let whole = SentencePieceBytes.model(algorithm: Int(seed % 2) + 1, variant: variant)
            for _ in 0..<60 {
                var bytes = whole
                if Bool.random(using: &generator) {
                    bytes.removeLast(Int.random(in: 1..<bytes.count, using: &generator))
                }
                for _ in 0..<Int.random(in: 0...4, using: &generator) {
                    bytes[Int.random(in: bytes.indices, using: &generator)] ^=
                        1 << UInt8.random(in: 0..<8, using: &generator)
                }
                guard let damaged = try? tokenizer(bytes) else { continue }
                let ids = try? damaged.encoding(of: awkwardText(&generator, pieces: 5), addSpecialTokens: true).ids
                _ = damaged.decode(ids ?? [], skipSpecialTokens: false)
            }
        }
    }
}
