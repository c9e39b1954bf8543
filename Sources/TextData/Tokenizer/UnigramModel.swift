/// A unigram language model: of all ways to cut a text into pieces, the one with the best sum of scores, found by
/// Viterbi's algorithm (arXiv:1804.10959).
struct UnigramModel: Sendable {
    /// How scores are added up: ties between cuts are common, and the rounding decides them.
    enum Arithmetic: Sendable {
        /// As Hugging Face `tokenizers` and llama.cpp do.
        case double
        /// As SentencePiece does: sums are kept in 32 bits.
        case single
    }

    var vocabulary: ByteTable
    /// By id; pieces that are never chosen are not in the trie.
    private let scores: [Double]
    /// Pieces of ordinary length.
    private let trie: PieceTrie
    private let long: LongStrings?
    private let unknownID: UInt32?
    private let unknownScore: Double
    private let arithmetic: Arithmetic
    /// Ids of the bytes `<0x00>` to `<0xFF>`; empty without byte fallback.
    private var fallbackIDs: [Int32] = []
    /// Whether what no piece covers is looked up once more as a whole, as Hugging Face does.
    private let looksUpUnknown: Bool

    /// What an unknown scalar scores below the worst piece.
    private static let unknownPenalty = 10.0

    /// - Parameters:
    ///   - scores: by id.
    ///   - isPiece: whether the id may be chosen for text.
    ///   - lowestScore: the worst score that counts for unknown scalars.
    init(
        vocabulary: ByteTable, scores: [Double], unknownID: UInt32?, fallsBackToBytes: Bool,
        arithmetic: Arithmetic, lowestScore: Double, looksUpUnknown: Bool, isPiece: (Int) -> Bool = { _ in true }
    ) {
        self.vocabulary = vocabulary
        self.scores = scores
        self.unknownID = unknownID
        self.arithmetic = arithmetic
        self.looksUpUnknown = looksUpUnknown
        // A string that two ids share belongs to the later one.
        func isIncluded(_ id: Int) -> Bool { isPiece(id) && vocabulary.find(Array(vocabulary[id])) == id }
        let shortLength = StringMatcher.shortLength
        trie = PieceTrie(vocabulary) { vocabulary.range($0).count <= shortLength && isIncluded($0) }
        long = LongStrings(vocabulary) { vocabulary.range($0).count > shortLength && isIncluded($0) }
        unknownScore =
            arithmetic == .single
            ? Double(Float(lowestScore) - Float(Self.unknownPenalty)) : lowestScore - Self.unknownPenalty
        if fallsBackToBytes {
            fallbackIDs = byteFallbackTokens.map { token in vocabulary.find(token).map { Int32($0) } ?? -1 }
        }
    }

    /// Encodes a piece of text, appending its tokens; `end` of each is an offset into the whole of `bytes`.
    ///
    /// - Returns: the position of a scalar that nothing covers in a model without an unknown token, else nil.
    func encode(
        _ bytes: Span<UInt8>, _ range: Range<Int>, _ scratch: EncodingScratch, into tokens: inout [ModelToken]
    ) -> Int? {
        guard !range.isEmpty else { return nil }
        if scratch.appendRemembered(bytes, range, to: &tokens) { return nil }
        let first = tokens.count
        if let gap = findBestPath(bytes, range, scratch) { return gap }
        // From the end backwards; runs of unknown scalars are one.
        var cuts: [(start: Int, end: Int, id: Int32)] = []
        var end = range.count
        while end > 0 {
            let node = scratch.path[end]
            let isUnknown = unknownID.map { node.id == Int32(bitPattern: $0) } ?? false
            if isUnknown, let last = cuts.last, last.id == node.id {
                cuts[cuts.count - 1].start = Int(node.start)
            } else {
                cuts.append((Int(node.start), end, node.id))
            }
            end = Int(node.start)
        }
        for cut in cuts.reversed() {
            let piece = range.lowerBound + cut.start..<range.lowerBound + cut.end
            guard unknownID.map({ cut.id == Int32(bitPattern: $0) }) ?? false else {
                tokens.append(ModelToken(id: UInt32(bitPattern: cut.id), end: piece.upperBound))
                continue
            }
            appendUnknown(bytes, piece, UInt32(bitPattern: cut.id), into: &tokens)
        }
        scratch.remember(bytes, range, tokens, from: first)
        return nil
    }

    private func appendUnknown(
        _ bytes: Span<UInt8>, _ piece: Range<Int>, _ id: UInt32, into tokens: inout [ModelToken]
    ) {
        if looksUpUnknown, let known = vocabulary.find(bytes, piece) {
            tokens.append(ModelToken(id: UInt32(known), end: piece.upperBound))
        } else if !fallbackIDs.isEmpty, piece.allSatisfy({ fallbackIDs[Int(bytes[$0])] >= 0 }) {
            for i in piece { tokens.append(ModelToken(id: UInt32(fallbackIDs[Int(bytes[i])]), end: i + 1)) }
        } else {
            tokens.append(ModelToken(id: id, end: piece.upperBound))
        }
    }

    /// Fills `scratch.path`: for each end, the best last piece.
    private func findBestPath(_ bytes: Span<UInt8>, _ range: Range<Int>, _ scratch: EncodingScratch) -> Int? {
        let count = range.count
        let base = range.lowerBound
        scratch.path.removeAll(keepingCapacity: true)
        scratch.path.append(contentsOf: repeatElement(PathNode(), count: count + 1))
        let isSingle = arithmetic == .single
        let longMatches = long?.matches(bytes, range) ?? LongMatches()
        return scratch.path.withUnsafeMutableBufferPointer { path -> Int? in
            var start = 0
            while start < count {
                let here = path[start].score
                let length = min(utf8Length(bytes[base + start]), count - start)
                var coversScalar = false
                var node = trie.start(bytes[base + start])
                var position = start + 1
                while node != 0 {
                    let id = trie.value(node)
                    if id >= 0 {
                        if position - start == length { coversScalar = true }
                        // The sum of two 32-bit numbers in 64 bits, rounded, is their sum in 32 bits.
                        let sum = scores[id] + here
                        let candidate = isSingle ? Double(Float(sum)) : sum
                        if path[position].start < 0 || candidate > path[position].score {
                            path[position] = PathNode(score: candidate, start: Int32(start), id: Int32(id))
                        }
                    }
                    guard position < count else { break }
                    node = trie.child(node, bytes[base + position])
                    position += 1
                }
                if !longMatches.isEmpty {
                    long?.forEach(longMatches, at: base + start) { id, end in
                        let sum = scores[id] + here
                        let candidate = isSingle ? Double(Float(sum)) : sum
                        let position = end - base
                        if path[position].start < 0 || candidate > path[position].score {
                            path[position] = PathNode(score: candidate, start: Int32(start), id: Int32(id))
                        }
                    }
                }
                if !coversScalar {
                    guard let unknownID else { return base + start }
                    let sum = unknownScore + here
                    let candidate = isSingle ? Double(Float(sum)) : sum
                    let end = start + length
                    if path[end].start < 0 || candidate > path[end].score {
                        path[end] = PathNode(score: candidate, start: Int32(start), id: Int32(bitPattern: unknownID))
                    }
                }
                start += length
            }
            return nil
        }
    }
}

/// The best way to reach an offset: the sum of scores, where its last piece begins, and that piece.
struct PathNode {
    var score = 0.0
    var start: Int32 = -1
    var id: Int32 = 0
}

/// `<0x00>` to `<0xFF>`.
let byteFallbackTokens: [[UInt8]] = (0..<256).map { byte in
    let digits = String(byte, radix: 16, uppercase: true)
    return Array("<0x\(digits.utf8.count < 2 ? "0" : "")\(digits)>".utf8)
}
