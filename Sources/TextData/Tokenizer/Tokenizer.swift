public import FileFormats
import Foundation
import Synchronization

/// Token ids with, for each, the range of UTF-8 bytes of the input it stands for.
///
/// The ranges are in order and cover the text; tokens that share a scalar which normalisation changed share its range.
/// What the post-processor adds has an empty range at the text's start or end.
public struct Encoding: Sendable {
    public var ids: [Int32]
    public var byteRanges: [Range<Int>]

    public init(ids: [Int32] = [], byteRanges: [Range<Int>] = []) {
        self.ids = ids
        self.byteRanges = byteRanges
    }
}

/// What sort of vocabulary a tokenizer has, which is what export to other formats turns on.
public enum TokenizerKind: String, Sendable {
    /// Merges over bytes written in GPT-2's printable alphabet.
    case byteLevelBPE
    /// Merges over scalars, spaces as U+2581, unknown scalars as `<0xHH>` bytes.
    case sentencePieceBPE
    /// Merges over scalars without any fallback.
    case plainBPE
    /// Pieces with scores, the best sum wins.
    case unigram
    /// The longest token first, then the longest that continues the word.
    case wordPiece
    /// A token for each word.
    case wordLevel
}

/// The model that turns a word into tokens.
enum TokenModel: Sendable {
    case bpe(BPEModel)
    case unigram(UnigramModel)
    case wordPiece(WordPieceModel)
    case wordLevel(WordLevelModel)

    var vocabulary: ByteTable {
        switch self {
        case .bpe(let model): model.vocabulary
        case .unigram(let model): model.vocabulary
        case .wordPiece(let model): model.vocabulary
        case .wordLevel(let model): model.vocabulary
        }
    }
    /// - Returns: the position of text that cannot be encoded, else nil.
    func encode(
        _ bytes: Span<UInt8>, _ range: Range<Int>, _ scratch: EncodingScratch, into tokens: inout [ModelToken]
    ) -> Int? {
        switch self {
        case .bpe(let model):
            model.encode(bytes, range, scratch, into: &tokens)
            return nil
        case .unigram(let model): return model.encode(bytes, range, scratch, into: &tokens)
        case .wordPiece(let model): return model.encode(bytes, range, scratch, into: &tokens)
        case .wordLevel(let model): return model.encode(bytes, range, into: &tokens)
        }
    }
}

/// How ids become text in formats that decode by the kind of a token, not by its text alone.
enum IDDecoder: Sendable {
    case sentencePiece(SentencePieceDecoder)
    case llama(LlamaDecoder)
}

/// A tokenizer as its files describe it: text to ids and back.
///
/// Immutable, so threads may share one. What is already encoded is remembered per thread, within bounds.
public final class Tokenizer: Sendable {
    /// The definitions of a tokenizer.json as they stand there; `.null` where there is none.
    public struct Definitions: Sendable {
        public var normalizer: JSONValue = .null
        public var preTokenizer: JSONValue = .null
        public var postProcessor: JSONValue = .null
        public var decoder: JSONValue = .null
    }

    public let kind: TokenizerKind
    public let definitions: Definitions
    /// Added tokens in order of id, one for each id.
    public let addedTokens: [AddedToken]
    let addedIDs: Set<Int32>
    /// One more than the largest id.
    public let vocabularySize: Int
    /// Tokens of the model itself, without those that were only added: their ids are `0..<modelVocabularySize`.
    public let modelVocabularySize: Int
    public let bosID: Int32?
    public let eosID: Int32?
    public let padID: Int32?
    public let unkID: Int32?

    private let parts: TokenizerParts
    private let added: AddedVocabulary
    private let addedByID: [Int32: AddedToken]
    private let addedByContent: [ByteString: Int32]
    private let scratches = Mutex<[EncodingScratch]>([])

    /// Reads a model folder, a single tokenizer.json or a GGUF file.
    ///
    /// - Parameter settings: the folder of tokenizer_config.json and special_tokens_map.json; nil for the tokenizer's own
    /// - Throws: `TokenizerError`, and the errors of `GGUFFile`. Files other than tokenizer.json may be missing from the folder.
    public convenience init(path: String, settings: String? = nil) throws {
        let (parts, config) = try TokenizerFiles(path: path, settings: settings).read()
        try self.init(parts, config)
    }

    /// Reads a tokenizer.json that is in memory; `name` stands for it in errors.
    public convenience init(
        json: JSONValue, config: JSONValue = .null, name: String = "tokenizer.json"
    ) throws {
        let parts = try TokenizerJSONReader(path: name).read(json)
        try self.init(parts, TokenizerConfig(config, path: name))
    }

    init(_ parts: TokenizerParts, _ config: TokenizerConfig) throws {
        var parts = parts
        parts.markSpecial([config.bos, config.eos, config.pad, config.unk])
        self.parts = parts
        kind = parts.kind
        definitions = parts.definitions
        added = try AddedVocabulary(parts.added, normalizer: parts.normalizer, unmatched: parts.unmatchedTokens)
        addedByID = Dictionary(parts.added.map { ($0.id, $0) }, uniquingKeysWith: { _, last in last })
        addedByContent = Dictionary(
            parts.added.map { ($0.content, $0.id) }, uniquingKeysWith: { _, last in last })
        addedTokens = addedByID.values.sorted { $0.id < $1.id }
        addedIDs = Set(addedTokens.map(\.id))
        let vocabulary = parts.model.vocabulary
        modelVocabularySize = vocabulary.count
        vocabularySize = max(vocabulary.count, addedTokens.last.map { Int($0.id) + 1 } ?? 0)

        let addedByContent = addedByContent
        func find(_ token: ByteString?) -> Int32? {
            guard let token else { return nil }
            return addedByContent[token] ?? vocabulary.find(token.bytes).map { Int32($0) }
        }
        let prefix = parts.postProcessor.prefix
        bosID = find(config.bos) ?? (config.isPresent || prefix.count != 1 ? nil : prefix[0])
        eosID = find(config.eos)
        padID = find(config.pad)
        unkID = find(config.unk) ?? find(parts.unknownToken)
    }

    // MARK: Ids and tokens

    /// The id of a token as the vocabulary writes it (byte-level tokens in the printable alphabet).
    public func id(of token: ByteString) -> Int32? {
        addedByContent[token] ?? parts.model.vocabulary.find(token.bytes).map { Int32($0) }
    }
    /// The token as the vocabulary writes it; nil for an id that does not exist.
    public func token(for id: Int32) -> ByteString? {
        if let token = addedByID[id] { return token.content }
        guard id >= 0, Int(id) < modelVocabularySize, !parts.model.vocabulary.range(Int(id)).isEmpty else { return nil }
        return ByteString(parts.model.vocabulary[Int(id)])
    }
    /// Whether the id is of an added token that is marked special.
    public func isSpecial(_ id: Int32) -> Bool { addedByID[id]?.isSpecial ?? false }

    /// By id, whether a token is a single byte of a character of several: a fallback, or a byte of a byte-level
    /// vocabulary. Empty where the vocabulary has no such tokens.
    var byteTokens: [Bool] {
        var ids = (0x80..<256).compactMap { byte in
            id(of: ByteString("<0x" + String(byte, radix: 16, uppercase: true) + ">"))
        }
        if ids.count < 128 {
            ids = (UInt8(0x80)...0xFF).compactMap { id(of: ByteString(ByteAlphabet.encode(CollectionOfOne($0)))) }
        }
        var isByte = [Bool](repeating: false, count: ids.max().map { Int($0) + 1 } ?? 0)
        for id in ids where id >= 0 { isByte[Int(id)] = true }
        return isByte
    }

    /// Ids that the post-processor puts before and after a text.
    public var addedPrefix: [Int32] { parts.postProcessor.prefix }
    public var addedSuffix: [Int32] { parts.postProcessor.suffix }
    /// Whether encoding with special tokens begins with BOS, or ends with EOS.
    public var addsBOS: Bool { bosID.map { addedPrefix.first == $0 } ?? false }
    public var addsEOS: Bool { eosID.map { addedSuffix.last == $0 } ?? false }

    /// The merges in order of rank, as ids of their halves; empty for models without.
    public var merges: [(left: Int32, right: Int32)] {
        switch parts.model {
        case .bpe(let model): model.merges
        case .unigram, .wordPiece, .wordLevel: []
        }
    }
    /// Whether a word that is a token as a whole is not merged.
    /// Whether a prefix marks tokens that go on with a word, or a suffix those that end one.
    public var marksWordParts: Bool {
        guard case .bpe(let model) = parts.model else { return false }
        return !model.continuingPrefix.isEmpty || !model.endOfWordSuffix.isEmpty
    }
    public var ignoresMerges: Bool { if case .bpe(let model) = parts.model { model.ignoresMerges } else { false } }
    /// A score for each of the model's tokens, for files that have them; a tokenizer.json has ranks of merges instead.
    public var scores: [Float]? { parts.scores }

    // MARK: Encoding

    /// Encodes a text.
    ///
    /// - Parameters:
    ///   - addSpecialTokens: whether the post-processor's tokens (BOS and so on) are put around it.
    ///   - parseSpecialTokens: whether text that spells a special token becomes that token; false takes it as
    ///     ordinary text.
    /// - Throws: `TokenizerError.patternTooSlow` when the tokenizer's regular expression backtracks for ever,
    ///   `.textTooLong` from 4 GiB on, `.uncovered` for text that
    ///   a model without an unknown token has no token for.
    public func encoding(
        of text: String, addSpecialTokens: Bool, parseSpecialTokens: Bool = true
    ) throws -> Encoding {
        try finish(
            try pieces(of: text, parseSpecialTokens: parseSpecialTokens), of: text, addSpecialTokens: addSpecialTokens)
    }

    /// Encodes a text without what the post-processor adds, and tells where the pieces begin that the pre-tokenizer cut
    /// it into: no merge crosses them, so their number is the fewest tokens that a longer vocabulary could reach.
    func encodingAndPieces(of text: String) throws -> (encoding: Encoding, pieceStarts: [Int]) {
        let pieces = try pieces(of: text, parseSpecialTokens: false)
        let starts = pieces.pieces.map { pieces.origin(of: $0.range).lowerBound }
        return (try finish(pieces, of: text, addSpecialTokens: false), starts)
    }

    /// The text, normalised and cut into what the model takes one by one.
    private func pieces(of text: String, parseSpecialTokens: Bool) throws -> TextPieces {
        guard text.utf8.count < Int(UInt32.max) else { throw TokenizerError.textTooLong(bytes: text.utf8.count) }
        var pieces = TextPieces(text)
        added.splitRaw(&pieces, parseSpecial: parseSpecialTokens)
        if let normalizer = parts.normalizer { try pieces.normalize(normalizer) }
        added.splitNormalized(&pieces, parseSpecial: parseSpecialTokens)
        try parts.preTokenizer?.apply(to: &pieces)
        return pieces
    }

    /// Runs the model over the pieces.
    private func finish(_ pieces: TextPieces, of text: String, addSpecialTokens: Bool) throws -> Encoding {
        let scratch = scratches.withLock { $0.popLast() } ?? EncodingScratch()
        defer { scratches.withLock { if $0.count < 16 { $0.append(scratch) } } }

        var encoding = Encoding()
        encoding.ids.reserveCapacity(pieces.bytes.count / 3 + 2)
        encoding.byteRanges.reserveCapacity(pieces.bytes.count / 3 + 2)
        func add(_ id: Int32, _ range: Range<Int>) {
            encoding.ids.append(id)
            encoding.byteRanges.append(range)
        }
        if addSpecialTokens { for id in addedPrefix { add(id, 0..<0) } }
        let span = pieces.bytes.span
        var tokens: [ModelToken] = []
        for piece in pieces.pieces {
            guard piece.isText else {
                add(piece.token, pieces.origin(of: piece.range))
                continue
            }
            tokens.removeAll(keepingCapacity: true)
            if let gap = parts.model.encode(span, piece.range, scratch, into: &tokens) {
                throw TokenizerError.uncovered(byteOffset: pieces.origin(of: gap..<gap + 1).lowerBound)
            }
            var start = piece.start
            for token in tokens {
                add(Int32(bitPattern: token.id), pieces.origin(of: start..<token.end))
                start = token.end
            }
        }
        let end = text.utf8.count
        if addSpecialTokens { for id in addedSuffix { add(id, end..<end) } }
        return encoding
    }

    // MARK: Decoding

    /// The text of token ids. Ids that do not exist are passed over; bytes that are not UTF-8 become U+FFFD.
    public func decode(_ ids: some Sequence<Int32>, skipSpecialTokens: Bool) -> String {
        if let idDecoder = parts.idDecoder {
            let vocabulary = parts.model.vocabulary
            switch idDecoder {
            case .sentencePiece(let decoder):
                return String(decoding: decoder.decode(ids) { vocabulary[Int($0)] }, as: UTF8.self)
            case .llama(let decoder):
                let text = decoder.decode(Array(ids), skipSpecial: skipSpecialTokens) { vocabulary[Int($0)] }
                return String(decoding: text, as: UTF8.self)
            }
        }
        var tokens: [[UInt8]] = []
        for id in ids {
            guard let token = token(for: id) else { continue }
            if skipSpecialTokens, let known = addedByID[id], added.isSkipped(known) { continue }
            tokens.append(added.normalizedContents[id] ?? token.bytes)
        }
        guard let decoder = parts.decoder else {
            return String(decoding: Array(tokens.joined(separator: [0x20])), as: UTF8.self)
        }
        // Only a regular expression can fail here, and those were tried when the file was read.
        let texts = (try? decoder.apply(tokens)) ?? tokens
        return String(decoding: Array(texts.joined()), as: UTF8.self)
    }
}
