import FileFormats
import Testing

@testable import TextData

@Suite("Training a byte-level vocabulary")
struct TokenizerTrainerTests {
    /// Counts all pairs anew before each merge: slow, and plainly right.
    private func naiveMerges(_ texts: [String], count: Int, firstByte: Int) throws -> [[Int]] {
        var order = [Int](repeating: 0, count: 256)
        for (rank, scalar) in ByteAlphabet.scalars.sorted().enumerated() {
            order[ByteAlphabet.scalars.firstIndex(of: scalar)!] = rank + firstByte
        }
        var words: [[Int]] = []
        for text in texts {
            var pieces = TextPieces(text)
            try PreTokenizer.byteLevel(prefix: false, splits: true, maps: false).apply(to: &pieces)
            words += pieces.pieces.map { pieces.bytes[$0.range].map { order[Int($0)] } }
        }
        var merges: [[Int]] = []
        while merges.count < count {
            var counts: [[Int]: Int] = [:]
            for word in words { for i in word.indices.dropLast() { counts[[word[i], word[i + 1]], default: 0] += 1 } }
            let best = counts.min {
                $0.value != $1.value ? $0.value > $1.value : $0.key.lexicographicallyPrecedes($1.key)
            }
            guard let best, best.value >= 2 else { break }
            merges.append(best.key)
            let id = firstByte + 255 + merges.count
            words = words.map { word in
                var merged: [Int] = []
                for symbol in word {
                    if symbol == best.key[1], merged.last == best.key[0], merged.last != id {
                        merged[merged.count - 1] = id
                    } else {
                        merged.append(symbol)
                    }
                }
                return merged
            }
        }
        return merges
    }

    @Test("merges are those of counting anew each time")
    func merges() throws {
        let document = try trainByteLevelBPE(texts: sampleTexts, vocabularySize: 320, specialTokens: ["<s>"])
        let tokenizer = try Tokenizer(json: document)
        let expected = try naiveMerges(sampleTexts, count: 320 - 257, firstByte: 1)
        #expect(tokenizer.merges.map { [Int($0.left), Int($0.right)] } == expected)
    }

    @Test("the same texts give the same bytes; the file reads back")
    func deterministic() throws {
        func train() throws -> [UInt8] {
            JSONWriter.bytes(
                try trainByteLevelBPE(
                    texts: sampleTexts, vocabularySize: 500, specialTokens: ["<|endoftext|>"], splitsDigits: true))
        }
        let bytes = try train()
        #expect(try train() == bytes)
        let tokenizer = try Tokenizer(json: try JSONParser.parse(bytes))
        let digits = try tokenizer.encoding(of: "12345", addSpecialTokens: true)
        #expect(digits.byteRanges == (0..<5).map { $0..<$0 + 1 })
        #expect(tokenizer.id(of: "<|endoftext|>") == 0)
    }

    @Test("special tokens in the texts are not learnt from")
    func specialTokensSkipped() throws {
        let texts = Array(repeating: "<|x|>ab", count: 50)
        let tokenizer = try Tokenizer(
            json: trainByteLevelBPE(texts: texts, vocabularySize: 300, specialTokens: ["<|x|>"]))
        #expect(tokenizer.merges.count == 1)
        #expect(try tokenizer.encoding(of: "<|x|>ab", addSpecialTokens: false).ids == [0, 257])
    }

    @Test("sizes and tokens that cannot be")
    func refused() {
        for (size, tokens) in [(255, []), (256, ["<s>"]), (1000, [""]), (1000, ["a", "a"])] as [(Int, [String])] {
            #expect(throws: TokenizerError.self) {
                try trainByteLevelBPE(texts: sampleTexts, vocabularySize: size, specialTokens: tokens)
            }
        }
    }
}
