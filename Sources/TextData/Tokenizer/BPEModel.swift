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
    /// Scalars without a token that merges lead through; their ids follow the vocabulary's.
    private var stepping = ByteTable()
    /// Strings that become their token before anything is merged.
    var frozen = StringMatcher()
    /// What stands for a token that must not be used, in parts: id and bytes.
    private var replacements: [UInt32: [(id: UInt32, length: Int)]] = [:]
    /// A run of line ends is looked up as a whole before it is merged.
    var takesLineEndsWhole = false

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
        fallbackIDs = byteFallbackTokens.map { token in vocabulary.find(token).map { Int32($0) } ?? -1 }
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

    /// Lets merges lead through scalars that are no tokens themselves.
    mutating func lead(through merges: ScoredMerges) {
        stepping = merges.stepping
        if merges.steppingCrossesMetaspace { cutsAtMetaspace = false }
    }

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
    func encode(
        _ bytes: Span<UInt8>, _ range: Range<Int>, _ scratch: EncodingScratch, into tokens: inout [ModelToken]
    ) {
        guard !range.isEmpty else { return }
        guard !frozen.isEmpty else {
            encodeUnfrozen(bytes, range, scratch, into: &tokens)
            return
        }
        let prepared = frozen.prepare(bytes, range)
        var start = range.lowerBound
        var i = start
        while i < range.upperBound {
            guard let match = frozen.longestMatch(bytes, at: i, to: range.upperBound, prepared) else {
                i += utf8Length(bytes[i])
                continue
            }
            encodeUnfrozen(bytes, start..<i, scratch, into: &tokens)
            tokens.append(ModelToken(id: UInt32(match.value), end: match.end))
            i = match.end
            start = i
        }
        encodeUnfrozen(bytes, start..<range.upperBound, scratch, into: &tokens)
    }

    private func encodeUnfrozen(
        _ bytes: Span<UInt8>, _ range: Range<Int>, _ scratch: EncodingScratch, into tokens: inout [ModelToken]
    ) {
        guard cutsAtMetaspace else {
            encodeWord(bytes, range, scratch, into: &tokens)
            return
        }
        var start = range.lowerBound
        var i = start
        var previousIsMetaspace = true
        while i < range.upperBound {
            let first = bytes[i]
            let isMetaspace = first == 0xE2 && bytes[i + 1] == 0x96 && bytes[i + 2] == 0x81
            if isMetaspace, !previousIsMetaspace {
                encodeWord(bytes, start..<i, scratch, into: &tokens)
                start = i
            }
            previousIsMetaspace = isMetaspace
            i += utf8Length(first)
        }
        encodeWord(bytes, start..<range.upperBound, scratch, into: &tokens)
    }

    private func encodeWord(
        _ bytes: Span<UInt8>, _ range: Range<Int>, _ scratch: EncodingScratch, into tokens: inout [ModelToken]
    ) {
        guard !range.isEmpty else { return }
        if scratch.appendRemembered(bytes, range, to: &tokens) { return }
        let first = tokens.count
        if ignoresMerges || (takesLineEndsWhole && bytes[range.lowerBound] == 0x0A), let id = wholeWord(bytes, range) {
            tokens.append(ModelToken(id: id, end: range.upperBound))
        } else {
            scratch.symbols.removeAll(keepingCapacity: true)
            appendSymbols(bytes, range, to: &scratch.symbols)
            scratch.merge(mergeTable)
            var end = range.lowerBound
            for symbol in scratch.symbols where symbol.length >= 0 {
                end += Int(symbol.length)
                if Int(symbol.id) >= vocabulary.count {
                    appendStepping(bytes, symbol, end: end, after: first, into: &tokens)
                } else if stepping.count > 0, symbol.id == unknownID {
                    appendUnknown(symbol.id, end: end, after: first, into: &tokens)
                } else if !replacements.isEmpty, let parts = replacements[symbol.id] {
                    var at = end - Int(symbol.length)
                    for part in parts {
                        at += part.length
                        tokens.append(ModelToken(id: part.id, end: at))
                    }
                } else {
                    tokens.append(ModelToken(id: symbol.id, end: end))
                }
            }
        }
        scratch.remember(bytes, range, tokens, from: first)
    }

    /// A scalar that merges could have led through, but did not, is unknown after all.
    private func appendStepping(
        _ bytes: Span<UInt8>, _ symbol: BPESymbol, end: Int, after first: Int, into tokens: inout [ModelToken]
    ) {
        let scalar = end - Int(symbol.length)..<end
        if fallsBackToBytes, scalar.allSatisfy({ fallbackIDs[Int(bytes[$0])] >= 0 }) {
            for i in scalar { tokens.append(ModelToken(id: UInt32(fallbackIDs[Int(bytes[i])]), end: i + 1)) }
        } else if let unknownID {
            appendUnknown(unknownID, end: end, after: first, into: &tokens)
        }
    }

    private func appendUnknown(_ id: UInt32, end: Int, after first: Int, into tokens: inout [ModelToken]) {
        if fusesUnknown, tokens.count > first, tokens[tokens.count - 1].id == id { tokens.removeLast() }
        tokens.append(ModelToken(id: id, end: end))
    }

    /// Finds the parts that stand for tokens which merging makes but text must not become: the two that were merged last,
    /// and theirs in turn.
    mutating func resegment(_ unused: [UInt32]) {
        let forbidden = Set(unused)
        // Shorter tokens first: they may be parts of longer ones.
        for id in unused.sorted(by: { vocabulary.range(Int($0)).count < vocabulary.range(Int($1)).count }) {
            let token = Array(vocabulary[Int(id)])
            guard token.count <= 256 else { continue }
            var symbols: [BPESymbol] = []
            appendSymbols(token.span, 0..<token.count, to: &symbols)
            while true {
                var best = (index: -1, found: UInt64.max)
                for k in symbols.indices.dropLast() {
                    let found = mergeTable.lookup(symbols[k].id, symbols[k + 1].id)
                    guard found != .max, UInt32(truncatingIfNeeded: found) != id else { continue }
                    if found >> 32 < best.found >> 32 { best = (k, found) }
                }
                guard best.index >= 0 else { break }
                symbols[best.index].id = UInt32(truncatingIfNeeded: best.found)
                symbols[best.index].length += symbols.remove(at: best.index + 1).length
            }
            let parts = symbols.flatMap { symbol in
                forbidden.contains(symbol.id)
                    ? replacements[symbol.id] ?? [(symbol.id, Int(symbol.length))] : [(symbol.id, Int(symbol.length))]
            }
            if parts.count > 1, parts.allSatisfy({ Int($0.id) < vocabulary.count }) { replacements[id] = parts }
        }
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
            let (isFirst, isLast) = (scalar.lowerBound == range.lowerBound, i == range.upperBound)
            if let id = symbolID(bytes, scalar, isFirst: isFirst, isLast: isLast) {
                if let pending = unknown {
                    symbols.append(pending)
                    unknown = nil
                }
                symbols.append(BPESymbol(id: id, length: Int32(length) + dropped))
                dropped = 0
            } else if fallsBackToBytes,
                appendFallback(bytes, scalar, isFirst: isFirst, isLast: isLast, &dropped, to: &symbols)
            {
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
        if prefix.isEmpty, suffix.isEmpty {
            if let id = vocabulary.find(bytes, scalar) { return UInt32(id) }
            guard stepping.count > 0 else { return nil }
            return stepping.find(bytes, scalar).map { UInt32(vocabulary.count + $0) }
        }
        var symbol = prefix
        for i in scalar { symbol.append(bytes[i]) }
        return vocabulary.find(symbol + suffix).map { UInt32($0) }
    }

    /// The bytes of a scalar as tokens, with those of the prefix and the suffix it would bear.
    private func appendFallback(
        _ bytes: Span<UInt8>, _ scalar: Range<Int>, isFirst: Bool, isLast: Bool, _ dropped: inout Int32,
        to symbols: inout [BPESymbol]
    ) -> Bool {
        let prefix = isFirst ? [] : continuingPrefix
        let suffix = isLast ? endOfWordSuffix : []
        for i in scalar where fallbackIDs[Int(bytes[i])] < 0 { return false }
        for byte in prefix + suffix where fallbackIDs[Int(byte)] < 0 { return false }
        for byte in prefix { symbols.append(BPESymbol(id: UInt32(fallbackIDs[Int(byte)]), length: 0)) }
        for i in scalar {
            symbols.append(BPESymbol(id: UInt32(fallbackIDs[Int(bytes[i])]), length: 1 + dropped))
            dropped = 0
        }
        for byte in suffix { symbols.append(BPESymbol(id: UInt32(fallbackIDs[Int(byte)]), length: 0)) }
        return true
    }
}
