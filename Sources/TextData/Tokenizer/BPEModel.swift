/// Byte-pair encoding: a word's symbols are merged pair by pair, lowest rank first (arXiv:1508.07909).
struct BPEModel: Sendable {
    /// Tokens by id; holes between the ids are refused when the file is read.
    var vocabulary: ByteTable
    /// The two halves of each merge as token ids, in order of rank.
    var merges: [(left: Int32, right: Int32)]
    var mergeTable: MergeTable
    var unknownID: UInt32?
    var fusesUnknown: Bool
    var fallsBackToBytes: Bool
    var ignoresMerges: Bool
    var continuingPrefix: [UInt8]
    var endOfWordSuffix: [UInt8]
    /// Set when the pre-tokenizer's last step is ByteLevel, whose mapping is then done here.
    private(set) var isByteLevel: Bool

    /// Ids of the bytes `<0x00>` to `<0xFF>`, or -1; used with byte fallback.
    private var fallbackIDs: [Int32]
    /// Ids of each byte's stand-in; used with `isByteLevel`.
    private var byteIDs: [Int32] = []
    /// Tokens as the bytes they stand for, to their ids; used with `isByteLevel` and `ignoresMerges`.
    private var wholeWords = ByteTable()
    private var wholeWordIDs: [UInt32] = []
    /// Whether no merge reaches over the border before a U+2581 that follows another scalar, so that a text may be cut
    /// there and its parts remembered; true of vocabularies that split at white space.
    private var cutsAtMetaspace = false

    init(
        vocabulary: ByteTable, merges: [(left: Int32, right: Int32)], mergeTable: MergeTable, unknownID: UInt32?,
        fusesUnknown: Bool, fallsBackToBytes: Bool, ignoresMerges: Bool, continuingPrefix: [UInt8],
        endOfWordSuffix: [UInt8], isByteLevel: Bool
    ) {
        self.vocabulary = vocabulary
        self.merges = merges
        self.mergeTable = mergeTable
        self.unknownID = unknownID
        self.fusesUnknown = fusesUnknown
        self.fallsBackToBytes = fallsBackToBytes
        self.ignoresMerges = ignoresMerges
        self.continuingPrefix = continuingPrefix
        self.endOfWordSuffix = endOfWordSuffix
        fallbackIDs = (0..<256).map { byte in
            let digits = String(byte, radix: 16, uppercase: true)
            let token = "<0x" + (digits.utf8.count < 2 ? "0" : "") + digits + ">"
            return vocabulary.find(Array(token.utf8)).map { Int32($0) } ?? -1
        }
        byteIDs = ByteAlphabet.scalars.map { scalar in
            var token: [UInt8] = []
            appendScalar(scalar, to: &token)
            return vocabulary.find(token).map { Int32($0) } ?? -1
        }
        // Without a prefix or suffix a byte's token does not depend on where it stands; a byte without a token vanishes.
        self.isByteLevel =
            isByteLevel && continuingPrefix.isEmpty && endOfWordSuffix.isEmpty
            && (byteIDs.allSatisfy { $0 >= 0 } || (unknownID == nil && !fallsBackToBytes))
        if self.isByteLevel, ignoresMerges { indexWholeWords() }
        cutsAtMetaspace =
            !isByteLevel && !ignoresMerges && continuingPrefix.isEmpty && endOfWordSuffix.isEmpty
            && vocabulary.find(Self.metaspace) != nil && noMergeCrossesMetaspace()
    }

    static let metaspace: [UInt8] = [0xE2, 0x96, 0x81]

    private mutating func indexWholeWords() {
        wholeWords = ByteTable(capacity: vocabulary.count, bytes: vocabulary.storage.count)
        for id in 0..<vocabulary.count {
            guard let bytes = ByteAlphabet.decode(vocabulary.storage.span.extracting(vocabulary.range(id))),
                wholeWords.insert(bytes).isNew
            else { continue }
            wholeWordIDs.append(UInt32(id))
        }
    }

    private func noMergeCrossesMetaspace() -> Bool {
        for merge in merges {
            let right = vocabulary[Int(merge.right)]
            guard right.starts(with: Self.metaspace) else { continue }
            let left = vocabulary[Int(merge.left)]
            if !left.suffix(3).elementsEqual(Self.metaspace) { return false }
        }
        return true
    }

    /// Encodes a piece of text, appending its tokens; `end` of each is an offset into the whole of `bytes`.
    func encode(_ bytes: Span<UInt8>, _ range: Range<Int>, _ scratch: BPEScratch, into tokens: inout [ModelToken]) {
        guard !range.isEmpty else { return }
        guard cutsAtMetaspace else {
            encodeWord(bytes, range, scratch, into: &tokens)
            return
        }
        var start = range.lowerBound
        var i = start
        var previousIsMetaspace = true
        while i < range.upperBound {
            let isMetaspace = bytes[i] == 0xE2 && bytes[i + 1] == 0x96 && bytes[i + 2] == 0x81
            if isMetaspace, !previousIsMetaspace {
                encodeWord(bytes, start..<i, scratch, into: &tokens)
                start = i
            }
            previousIsMetaspace = isMetaspace
            i += utf8Length(bytes[i])
        }
        encodeWord(bytes, start..<range.upperBound, scratch, into: &tokens)
    }

    private func encodeWord(
        _ bytes: Span<UInt8>, _ range: Range<Int>, _ scratch: BPEScratch, into tokens: inout [ModelToken]
    ) {
        if scratch.appendRemembered(bytes, range, to: &tokens) { return }
        let first = tokens.count
        if ignoresMerges, let id = wholeWord(bytes, range) {
            tokens.append(ModelToken(id: id, end: range.upperBound))
        } else {
            scratch.symbols.removeAll(keepingCapacity: true)
            appendSymbols(bytes, range, to: &scratch.symbols)
            scratch.merge(mergeTable)
            var end = range.lowerBound
            for symbol in scratch.symbols where symbol.length > 0 {
                end += Int(symbol.length)
                tokens.append(ModelToken(id: symbol.id, end: end))
            }
        }
        scratch.remember(bytes, range, tokens, from: first)
    }

    private func wholeWord(_ bytes: Span<UInt8>, _ range: Range<Int>) -> UInt32? {
        if isByteLevel { return wholeWords.find(bytes, range).map { wholeWordIDs[$0] } }
        return vocabulary.find(bytes, range).map { UInt32($0) }
    }

    private func appendSymbols(_ bytes: Span<UInt8>, _ range: Range<Int>, to symbols: inout [BPESymbol]) {
        // Bytes of scalars that have no token and no stand-in; they count to the token that follows.
        var dropped: Int32 = 0
        if isByteLevel {
            for i in range {
                let id = byteIDs[Int(bytes[i])]
                if id < 0 {
                    dropped += 1
                    continue
                }
                symbols.append(BPESymbol(id: UInt32(id), length: 1 + dropped))
                dropped = 0
            }
            return
        }
        var unknown: BPESymbol?
        var i = range.lowerBound
        while i < range.upperBound {
            let length = utf8Length(bytes[i])
            let scalar = i..<i + length
            i += length
            if let id = symbolID(
                bytes, scalar, isFirst: scalar.lowerBound == range.lowerBound, isLast: i == range.upperBound)
            {
                if let pending = unknown {
                    symbols.append(pending)
                    unknown = nil
                }
                symbols.append(BPESymbol(id: id, length: Int32(length) + dropped))
                dropped = 0
            } else if fallsBackToBytes, appendFallback(bytes, scalar, &dropped, to: &symbols) {
                continue
            } else if let unknownID {
                if let pending = unknown, fusesUnknown {
                    unknown = BPESymbol(id: unknownID, length: pending.length + Int32(length))
                } else {
                    if let pending = unknown { symbols.append(pending) }
                    unknown = BPESymbol(id: unknownID, length: Int32(length) + dropped)
                    dropped = 0
                }
            } else {
                dropped += Int32(length)
            }
        }
        if let pending = unknown { symbols.append(pending) }
    }

    private func symbolID(_ bytes: Span<UInt8>, _ scalar: Range<Int>, isFirst: Bool, isLast: Bool) -> UInt32? {
        let prefix = isFirst ? [] : continuingPrefix
        let suffix = isLast ? endOfWordSuffix : []
        if prefix.isEmpty, suffix.isEmpty { return vocabulary.find(bytes, scalar).map { UInt32($0) } }
        var symbol = prefix
        for i in scalar { symbol.append(bytes[i]) }
        return vocabulary.find(symbol + suffix).map { UInt32($0) }
    }

    private func appendFallback(
        _ bytes: Span<UInt8>, _ scalar: Range<Int>, _ dropped: inout Int32, to symbols: inout [BPESymbol]
    ) -> Bool {
        for i in scalar where fallbackIDs[Int(bytes[i])] < 0 { return false }
        for i in scalar {
            symbols.append(BPESymbol(id: UInt32(fallbackIDs[Int(bytes[i])]), length: 1 + dropped))
            dropped = 0
        }
        return true
    }
}
