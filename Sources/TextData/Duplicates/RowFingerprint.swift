internal import FileFormats

/// What tells a row from others without its text: 16 bytes to find equal rows, 112 more to find near ones.
public struct RowFingerprint: Sendable, Equatable {
    /// 128 bits of the SHA-256 of the token ids, before anything is cut.
    public var hash: (UInt64, UInt64)
    /// The bands of the MinHash signature; empty when not asked for, all zero for a row without words.
    public var bands: [UInt64] = []

    /// Exact alone.
    init(ids: [Int32]) { hash = hash128(ids) }

    /// - Parameter texts: what people wrote; without any, the ids stand for words.
    init(ids: [Int32], texts: [String]) {
        hash = hash128(ids)
        var signature = MinHash()
        if texts.isEmpty {
            signature.add(words: ids.map { MinHash.mixed(UInt64(UInt32(bitPattern: $0)) &+ 1) })
        } else {
            signature.add(words: Words.hashes(of: texts))
        }
        bands = signature.bands
    }

    /// All of it, a column of a table each.
    public var columns: [UInt64] { [hash.0, hash.1] + bands }

    public static func == (a: RowFingerprint, b: RowFingerprint) -> Bool { a.hash == b.hash && a.bands == b.bands }
}

extension Row {
    /// What is compared with other rows: system prompts, which whole data sets share, are left out.
    var comparedTexts: [String] {
        switch self {
        case .conversation(let conversation):
            var rest = conversation
            rest.messages.removeAll { ["system", "developer"].contains($0["role"]?.stringValue) }
            return Row.conversation(rest).texts
        case .instruction(_, let history, let prompt, let output):
            return history.flatMap { [$0.0, $0.1] } + [prompt, output]
        case .completion, .text, .tokens: return texts
        case .preference(let chosen, let rejected): return chosen.comparedTexts + rejected.comparedTexts
        case .judged(let row, _): return row.comparedTexts
        }
    }
}

/// Cuts text into words: runs of letters, marks and digits, ASCII letters in lower case; symbols that carry meaning
/// (`+ = < $` and the like) are words too, punctuation is not. Of scripts that write no spaces, every letter is one.
enum Words {
    /// A hash of each word, in order over all texts.
    static func hashes(of texts: [String]) -> [UInt64] {
        var result: [UInt64] = []
        for text in texts {
            var text = text
            text.withUTF8 { buffer in addHashes(of: buffer.span, to: &result) }
        }
        return result
    }

    private static let offset: UInt64 = 0xCBF2_9CE4_8422_2325
    private static let prime: UInt64 = 0x0000_0100_0000_01B3

    private static func addHashes(of bytes: Span<UInt8>, to result: inout [UInt64]) {
        let table = ScalarClassTable.shared
        // FNV-1a over the word's bytes (draft-eastlake-fnv), mixed at its end.
        var hash = offset
        var isOpen = false
        func close() {
            if isOpen { result.append(MinHash.mixed(hash)) }
            hash = offset
            isOpen = false
        }
        var position = 0
        while position < bytes.count {
            let scalar = decodeScalar(bytes, at: position)
            let isAlone = standsAlone(scalar.value)
            if !isAlone, table[scalar.value].isDisjoint(with: [.word, .letter, .number, .mark]) {
                close()
                if !isSymbol(scalar.value) {
                    position += scalar.length
                    continue
                }
                isOpen = true
            }
            if isAlone { close() }
            for i in position..<position + scalar.length {
                var byte = bytes[i]
                if byte >= 0x41, byte <= 0x5A { byte |= 0x20 }
                hash = (hash ^ UInt64(byte)) &* prime
            }
            let endsWord = isAlone || isOpen && isSymbol(scalar.value)
            isOpen = true
            if endsWord { close() }
            position += scalar.length
        }
        close()
    }

    /// ASCII symbols and everything from U+2190 on that is neither letter nor punctuation: arrows, mathematics, emoji.
    private static func isSymbol(_ value: UInt32) -> Bool {
        switch value {
        case 0x23...0x26, 0x2A, 0x2B, 0x2F, 0x3C...0x3E, 0x40, 0x5C, 0x5E, 0x7C, 0x7E: true
        case 0x20A0...0x20CF, 0x2190...0x2BFF, 0x1_F000...0x1_FAFF: true
        default: false
        }
    }

    /// Thai, Lao, Myanmar, Khmer, kana and Han ideographs.
    private static func standsAlone(_ value: UInt32) -> Bool {
        switch value {
        case 0x0E01...0x0EFF, 0x1000...0x109F, 0x1780...0x17FF, 0x3041...0x30FF, 0x3400...0x4DBF, 0x4E00...0x9FFF,
            0xF900...0xFAFF, 0x2_0000...0x3_FFFF:
            true
        default: false
        }
    }
}
