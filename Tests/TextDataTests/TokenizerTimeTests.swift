import FileFormats
import Foundation
import Testing

@testable import TextData

/// Encoding and decoding take time that is linear in the text, whatever the tokenizer holds.
@Suite("Time of tokenizers", .serialized)
struct TokenizerTimeTests {
    private static let long = 100_000

    /// A small BPE with added tokens.
    private func merging(_ added: [JSONValue], normalizer: JSONValue = .null) throws -> Tokenizer {
        return try Tokenizer(json: [
            "model": [
                "type": "BPE", "unk_token": "x", "vocab": ["a": 0, "b": 1, "c": 2, "ab": 3, " ": 4, "x": 5],
                "merges": [["a", "b"]],
            ],
            "added_tokens": .array(added), "normalizer": normalizer,
        ])
    }

    /// Seconds for `text`, the least of three times.
    private func seconds(_ tokenizer: Tokenizer, _ text: String) throws -> Double {
        var best = Double.infinity
        for _ in 0..<3 {
            let start = ContinuousClock.now
            let encoding = try tokenizer.encoding(of: text, addSpecialTokens: false)
            #expect(encoding.byteRanges.last?.upperBound == text.utf8.count)
            _ = tokenizer.decode(encoding.ids, skipSpecialTokens: false)
            let took = ContinuousClock.now - start
            best = min(best, Double(took.components.attoseconds) * 1e-18 + Double(took.components.seconds))
        }
        return best
    }

    /// Eight times the text takes about eight times as long; quadratic time would be 64 times, and the bound is far from
    /// both, so that a busy machine does not matter.
    private func expectLinear(_ name: String, _ tokenizer: Tokenizer, _ text: (Int) -> String) throws {
        let short = try seconds(tokenizer, text(8_000))
        let long = try seconds(tokenizer, text(64_000))
        #expect(long < 30 * short, "\(name): \(short) s, \(long) s")
    }

    private func letters(_ count: Int) -> String { String(repeating: "a", count: count) }

    @Test func longAddedTokens() throws {
        for isNormalized in [false, true] {
            let tokens = [
                addedToken(6, letters(Self.long) + "x", normalized: isNormalized),
                addedToken(7, letters(300) + "b", normalized: isNormalized),
            ]
            try expectLinear("added", merging(tokens), letters)
        }
        let spaces = try merging([addedToken(4, " ", lstrip: true, rstrip: true)])
        try expectLinear("stripped", spaces) { String(repeating: " ", count: $0) }
    }

    @Test func longPieces() throws {
        let pieces: JSONValue = [["<unk>", 0], ["a", -1], ["b", -1], [.string(letters(Self.long) + "x"), -2]]
        try expectLinear(
            "unigram", Tokenizer(json: ["model": ["type": "Unigram", "unk_id": 0, "vocab": pieces]]), letters)
        let words = JSONObject([
            ("<unk>", 0), ("a", 1), ("##a", 2), ("##" + letters(Self.long) + "x", 3), (letters(Self.long) + "x", 4),
        ])
        try expectLinear(
            "WordPiece",
            Tokenizer(json: [
                "model": [
                    "type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": "##",
                    "max_input_chars_per_word": 1_000_000, "vocab": .object(words),
                ]
            ]), letters)
    }

    @Test func longReplacements() throws {
        let replace: JSONValue = [
            "type": "Replace", "pattern": ["String": .string(letters(Self.long / 4) + "x")], "content": "b",
        ]
        try expectLinear("replaced", merging([], normalizer: replace), letters)
        try expectLinear("merged", merging([])) { String(repeating: "ab", count: $0 / 2) }
        // A letter with marks without end, out of their order.
        try expectLinear("marks", merging([], normalizer: ["type": "NFC"])) {
            "a" + String(repeating: "\u{301}\u{323}", count: $0 / 4)
        }
    }

    // MARK: The same matches as ever

    /// Every string at every place, the slow way.
    private func greedy(_ strings: [[UInt8]], _ text: [UInt8]) -> [Range<Int>] {
        var found: [Range<Int>] = []
        var i = 0
        while i < text.count {
            let best = strings.filter { text[i...].starts(with: $0) }.max { $0.count < $1.count }
            if let best { found.append(i..<i + best.count) }
            i += best?.count ?? 1
        }
        return found
    }

    @Test func matchesAreLeftmostAndLongest() throws {
        var generator = SeededGenerator(7)
        for _ in 0..<60 {
            func string(_ length: Int) -> [UInt8] {
                (0..<length).map { _ in UInt8.random(in: 97...98, using: &generator) }
            }
            var table = ByteTable()
            var strings: [[UInt8]] = []
            // Beginnings and ends of each other, on both sides of what is an ordinary length.
            let whole = string(600)
            for _ in 0..<8 {
                let start = Int.random(in: 0..<300, using: &generator)
                let length = [1, 2, 3, 255, 256, 257, 300].randomElement(using: &generator) ?? 1
                let part = Array(whole[start..<start + length])
                if table.insert(part).isNew { strings.append(part) }
            }
            var text: [UInt8] = []
            for _ in 0..<6 {
                text += Array(whole[Int.random(in: 0..<200, using: &generator)..<600]) + string(3)
            }
            let matcher = StringMatcher(table)
            let prepared = matcher.prepare(text.span, 0..<text.count)
            var found: [Range<Int>] = []
            var i = 0
            while let match = matcher.next(text.span, from: i, to: text.count, prepared) {
                #expect(strings[match.value].count == match.end - match.start)
                found.append(match.start..<match.end)
                i = match.end
            }
            #expect(found == greedy(strings, text))
            for needle in strings {
                var places: [Int] = []
                SplitPattern.forEachOccurrence(of: needle, text.span, 0..<text.count) { places.append($0) }
                #expect(places == greedy([needle], text).map(\.lowerBound))
            }
        }
    }

    /// A long piece wins or loses by its score as a short one does.
    @Test func longPiecesCompeteByScore() throws {
        for (score, count) in [(-1.0, 1), (-1000.0, 301)] {
            let pieces: JSONValue = [
                ["<unk>", 0], ["a", -1], ["b", -1], [.string(letters(300) + "b"), .double(score)],
            ]
            let tokenizer = try Tokenizer(json: ["model": ["type": "Unigram", "unk_id": 0, "vocab": pieces]])
            let ids = try tokenizer.encoding(of: letters(300) + "b", addSpecialTokens: false).ids
            #expect(ids.count == count)
        }
    }
}
