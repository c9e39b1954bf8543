import FileFormats
import TextData

/// SplitMix64, so that every run of a test sees the same texts.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

/// Texts of the sort that break tokenizers: Indic scripts, marks, joiners, controls, runs of spaces and line ends.
func awkwardText(_ generator: inout SeededGenerator, pieces: Int) -> String {
    let ranges: [ClosedRange<UInt32>] = [
        0x20...0x7E, 0x20...0x7E, 0x00...0x1F, 0x41...0x5A, 0x900...0x97F, 0xB80...0xBFF, 0xC80...0xCFF, 0xA0...0x24F,
        0x300...0x36F, 0x600...0x6FF, 0x1100...0x11FF, 0xAC00...0xD7A3, 0x2000...0x206F, 0x2460...0x24FF,
        0x3000...0x30FF, 0x4E00...0x9FFF, 0xFF00...0xFFEF, 0x1F300...0x1F64F, 0x1D400...0x1D7FF, 0x10FFF0...0x10FFFF,
    ]
    let words = [
        "the", " quick", "I'm", "WE'LL", "'\u{17F}", "don't ", "123", "4567", "\r\n", "\n\n", "  ", "\t", "   \n",
        "e\u{301}", "\u{212B}", "नमस्ते", "தமிழ்", "👩‍👩‍👧", "🇮🇳", "...", "'", " '", "\u{85}", "\u{A0}", "\u{3000}",
    ]
    var text = String.UnicodeScalarView()
    for _ in 0..<pieces {
        if Bool.random(using: &generator) {
            text.append(contentsOf: words.randomElement(using: &generator)!.unicodeScalars)
        } else {
            let range = ranges.randomElement(using: &generator)!
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                if let scalar = Unicode.Scalar(UInt32.random(in: range, using: &generator)) { text.append(scalar) }
            }
        }
    }
    return String(text)
}

/// A SentencePiece-like document whose vocabulary is `<unk>`, the 256 bytes and the given tokens from id 257 on, so
/// that the ids tell the bytes of the normalised text.
func byteFallbackDocument(
    tokens: [String] = [], merges: [[String]] = [], normalizer: JSONValue = .null, preTokenizer: JSONValue = .null,
    postProcessor: JSONValue = .null, decoder: JSONValue = .null, added: [JSONValue] = []
) -> JSONValue {
    var vocab: [(key: String, value: JSONValue)] = [("<unk>", 0)]
    for byte in 0..<256 {
        let digits = String(byte, radix: 16, uppercase: true)
        vocab.append(("<0x\(digits.count < 2 ? "0" : "")\(digits)>", .integer(byte + 1)))
    }
    for token in tokens { vocab.append((token, .integer(vocab.count))) }
    return [
        "version": "1.0", "truncation": ["max_length": 3], "padding": .null,
        "added_tokens": .array([addedToken(0, "<unk>")] + added), "normalizer": normalizer,
        "pre_tokenizer": preTokenizer, "post_processor": postProcessor, "decoder": decoder,
        "model": [
            "type": "BPE", "dropout": .null, "unk_token": "<unk>", "continuing_subword_prefix": .null,
            "end_of_word_suffix": .null, "fuse_unk": true, "byte_fallback": true,
            "vocab": .object(JSONObject(vocab)),
            "merges": .array(merges.map { .array($0.map { .string($0) }) }),
        ],
    ]
}

func addedToken(
    _ id: Int, _ content: String, lstrip: Bool = false, rstrip: Bool = false, singleWord: Bool = false,
    normalized: Bool = false, special: Bool = true
) -> JSONValue {
    [
        "id": .integer(id), "content": .string(content), "lstrip": .bool(lstrip), "rstrip": .bool(rstrip),
        "single_word": .bool(singleWord), "normalized": .bool(normalized), "special": .bool(special),
    ]
}

/// The bytes that ids of `byteFallbackDocument` without further tokens stand for.
func fallbackBytes(_ ids: [Int32]) -> [UInt8] { ids.map { UInt8(truncatingIfNeeded: $0 - 1) } }

let sampleTexts = [
    "The quick brown fox jumps over the lazy dog. The dog doesn't mind; it's 12345 years old!",
    "नमस्ते दुनिया, यह एक परीक्षण है। नमस्ते फिर से।", "தமிழ் மொழி மிகவும் பழமையான மொழி.",
    "def f(x):\n    return x + 1\n\n\ndef g(y):\n    return f(y) * 2\n", "Habari ya asubuhi, habari gani?",
]
