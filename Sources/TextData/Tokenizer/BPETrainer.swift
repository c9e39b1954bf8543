public import FileFormats

/// Learns a byte-level byte-pair vocabulary (arXiv:1508.07909) and returns it as a tokenizer.json.
///
/// Ids: the special tokens in the given order, the 256 bytes in the order of their printable stand-ins, then one token
/// a merge. The most frequent pair is merged first; of equally frequent ones the pair of lower ids, so the result
/// depends on nothing but the texts and the options.
///
/// - Parameters:
///   - texts: special tokens written in them are passed over.
///   - vocabularySize: tokens in all; fewer come out when the texts have no more pairs to merge.
///   - specialTokens: become added tokens that are marked special.
///   - minimumCount: pairs that occur less often are not merged.
///   - splitsDigits: makes every digit a word of its own, as SmolLM2 does.
///   - maximumTokenBytes: longer tokens are not made.
/// - Throws: `TokenizerError.inconsistent` when the size leaves no room for the bytes and special tokens, or a special
///   token is empty or occurs twice.
public func trainByteLevelBPE(
    texts: some Sequence<String>, vocabularySize: Int, specialTokens: [String], minimumCount: Int = 2,
    splitsDigits: Bool = false, maximumTokenBytes: Int = 64
) throws -> JSONValue {
    var problems: [String] = []
    if vocabularySize < 256 + specialTokens.count || vocabularySize >= 1 << 24 {
        problems.append(
            "a vocabulary of \(vocabularySize) tokens was asked for; expected \(256 + specialTokens.count) (256 bytes "
                + "and \(specialTokens.count) special tokens) or more, below \(1 << 24)")
    }
    if specialTokens.contains(where: { $0.utf8.isEmpty }) { problems.append("a special token is empty") }
    if Set(specialTokens.map { ByteString($0) }).count < specialTokens.count {
        problems.append("a special token occurs twice")
    }
    guard problems.isEmpty else { throw TokenizerError.inconsistent(path: "training", problems: problems) }

    let digits: JSONValue = ["type": "Digits", "individual_digits": true]
    let byteLevel: JSONValue = [
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    ]
    let definition: JSONValue =
        splitsDigits ? ["type": "Sequence", "pretokenizers": [digits, byteLevel]] : byteLevel
    guard let preTokenizer = try TokenizerJSONReader(path: "training").readPreTokenizer(definition, "pre_tokenizer")
    else { throw TokenizerError.inconsistent(path: "training", problems: ["no pre-tokenizer"]) }

    var trainer = BPETrainer(specialTokens: specialTokens, maximumTokenBytes: maximumTokenBytes)
    try trainer.count(texts, specialTokens, preTokenizer.deferringByteMap())
    trainer.learn(vocabularySize: vocabularySize, minimumCount: minimumCount)
    return trainer.document(specialTokens: specialTokens, preTokenizer: definition)
}

private struct BPETrainer {
    /// Tokens by id: special tokens as text, the others in the printable alphabet.
    private var vocabulary = ByteTable()
    private var merges: [(left: Int32, right: Int32)] = []
    private let firstByte: Int32
    private let maximumTokenBytes: Int

    private var words = ByteTable()
    private var wordCounts: [Int] = []
    /// The symbols of all words end to end; a word shrinks in place as it is merged.
    private var symbols: [Int32] = []
    private var wordStarts: [Int] = []
    private var wordLengths: [Int] = []

    private var pairCounts: [UInt64: Int] = [:]
    /// Words that hold a pair, or held it once.
    private var pairWords: [UInt64: [Int32]] = [:]
    private var heap: [Candidate] = []

    private struct Candidate {
        var count: Int
        var pair: UInt64
        func comesBefore(_ other: Candidate) -> Bool {
            count != other.count ? count > other.count : pair < other.pair
        }
    }

    init(specialTokens: [String], maximumTokenBytes: Int) {
        self.maximumTokenBytes = maximumTokenBytes
        for token in specialTokens { _ = vocabulary.insert(Array(token.utf8)) }
        firstByte = Int32(vocabulary.count)
        for scalar in ByteAlphabet.scalars.sorted() {
            var token: [UInt8] = []
            appendScalar(scalar, to: &token)
            _ = vocabulary.insert(token)
        }
    }

    private static func pair(_ left: Int32, _ right: Int32) -> UInt64 {
        UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
    }

    mutating func count(_ texts: some Sequence<String>, _ specialTokens: [String], _ split: PreTokenizer) throws {
        let added = try AddedVocabulary(
            specialTokens.enumerated().map { AddedToken(id: Int32($0), content: ByteString($1)) }, normalizer: nil)
        for text in texts {
            var pieces = TextPieces(text)
            added.splitRaw(&pieces, parseSpecial: true)
            try split.apply(to: &pieces)
            let span = pieces.bytes.span
            for piece in pieces.pieces where piece.isText {
                let (index, isNew) = words.insert(span, piece.range)
                if isNew { wordCounts.append(1) } else { wordCounts[index] += 1 }
            }
        }
    }

    mutating func learn(vocabularySize: Int, minimumCount: Int) {
        prepareWords()
        while vocabulary.count < vocabularySize, let best = pop() {
            guard best.count >= max(1, minimumCount) else { break }
            let left = Int32(truncatingIfNeeded: best.pair >> 32)
            let right = Int32(truncatingIfNeeded: best.pair)
            let joined = Array(vocabulary[Int(left)] + vocabulary[Int(right)])
            // A stand-in takes one or two bytes of UTF-8; what is limited is the bytes they stand for.
            guard joined.count(where: { $0 & 0xC0 != 0x80 }) <= maximumTokenBytes else { continue }
            let id = Int32(vocabulary.insert(joined).index)
            merges.append((left, right))
            apply(left, right, id)
        }
    }

    private mutating func prepareWords() {
        var byteIDs = [Int32](repeating: 0, count: 256)
        for byte in 0..<256 {
            byteIDs[byte] = vocabulary.find(ByteAlphabet.encode([UInt8(byte)])).map { Int32($0) } ?? firstByte
        }
        for word in 0..<words.count {
            wordStarts.append(symbols.count)
            for byte in words[word] { symbols.append(byteIDs[Int(byte)]) }
            wordLengths.append(symbols.count - wordStarts[word])
            let start = wordStarts[word]
            for i in start..<max(start, symbols.count - 1) {
                add(Self.pair(symbols[i], symbols[i + 1]), wordCounts[word], word)
            }
        }
        for (pair, count) in pairCounts { push(Candidate(count: count, pair: pair)) }
    }

    private mutating func add(_ pair: UInt64, _ count: Int, _ word: Int) {
        pairCounts[pair, default: 0] += count
        if pairWords[pair]?.last != Int32(word) { pairWords[pair, default: []].append(Int32(word)) }
    }

    /// Replaces the pair by `id` in every word that holds it, and keeps the counts of its neighbours right.
    private mutating func apply(_ left: Int32, _ right: Int32, _ id: Int32) {
        let merged = Self.pair(left, right)
        let affected = Set(pairWords.removeValue(forKey: merged) ?? []).sorted()
        pairCounts[merged] = nil
        var grown: Set<UInt64> = []
        for word in affected.map({ Int($0) }) {
            let start = wordStarts[word]
            let length = wordLengths[word]
            let count = wordCounts[word]
            var write = 0
            var read = 0
            while read < length {
                let symbol = symbols[start + read]
                guard symbol == left, read + 1 < length, symbols[start + read + 1] == right else {
                    symbols[start + write] = symbol
                    write += 1
                    read += 1
                    continue
                }
                if write > 0 {
                    let before = symbols[start + write - 1]
                    remove(Self.pair(before, left), count)
                    let new = Self.pair(before, id)
                    add(new, count, word)
                    grown.insert(new)
                }
                if read + 2 < length {
                    let after = symbols[start + read + 2]
                    remove(Self.pair(right, after), count)
                    let new = Self.pair(id, after)
                    add(new, count, word)
                    grown.insert(new)
                }
                symbols[start + write] = id
                write += 1
                read += 2
            }
            wordLengths[word] = write
        }
        pairCounts[merged] = nil
        for pair in grown {
            if let count = pairCounts[pair], count > 0 { push(Candidate(count: count, pair: pair)) }
        }
    }

    private mutating func remove(_ pair: UInt64, _ count: Int) {
        guard let known = pairCounts[pair] else { return }
        pairCounts[pair] = known > count ? known - count : nil
    }

    // MARK: The heap of candidates, whose counts are checked when they come to the top

    private mutating func push(_ candidate: Candidate) {
        heap.append(candidate)
        var child = heap.count - 1
        while child > 0, heap[child].comesBefore(heap[(child - 1) / 2]) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    /// The most frequent pair; entries whose count has changed since are put back or dropped.
    private mutating func pop() -> Candidate? {
        while let top = heap.first {
            let last = heap.removeLast()
            if !heap.isEmpty {
                heap[0] = last
                sift()
            }
            guard let count = pairCounts[top.pair], count > 0 else { continue }
            if count == top.count { return top }
            if count < top.count { push(Candidate(count: count, pair: top.pair)) }
        }
        return nil
    }

    private mutating func sift() {
        var parent = 0
        while true {
            var best = parent
            for child in [parent * 2 + 1, parent * 2 + 2] where child < heap.count {
                if heap[child].comesBefore(heap[best]) { best = child }
            }
            if best == parent { return }
            heap.swapAt(parent, best)
            parent = best
        }
    }

    // MARK: The file

    func document(specialTokens: [String], preTokenizer: JSONValue) -> JSONValue {
        func token(_ id: Int) -> String { String(decoding: vocabulary[id], as: UTF8.self) }
        let added: [JSONValue] = specialTokens.enumerated().map { id, content in
            [
                "id": .integer(id), "content": .string(content), "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            ]
        }
        let vocab = (0..<vocabulary.count).map { (key: token($0), value: JSONValue.integer($0)) }
        let merges = merges.map { JSONValue.array([.string(token(Int($0.left))), .string(token(Int($0.right)))]) }
        return [
            "version": "1.0", "truncation": .null, "padding": .null, "added_tokens": .array(added),
            "normalizer": .null, "pre_tokenizer": preTokenizer,
            "post_processor": [
                "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true,
            ],
            "decoder": ["type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true],
            "model": [
                "type": "BPE", "dropout": .null, "unk_token": .null, "continuing_subword_prefix": .null,
                "end_of_word_suffix": .null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": .object(JSONObject(vocab)), "merges": .array(merges),
            ],
        ]
    }
}
