import FileFormats

/// The split patterns that most byte-level tokenizers use, as hand-written scanners.
///
/// Each matches at every position, so a text is cut into matches without gaps. They agree with the regular expressions
/// run by Oniguruma, which the tests check; they are some ten times faster.
enum SplitScanner: Sendable, Equatable {
    /// GPT-2: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    case gpt2
    /// Llama 3 and cl100k (3 digits), Qwen 2 (1 digit): contractions of any case, one leading character of any sort
    /// before letters, limited runs of digits, line ends kept with what stands before them.
    case cl100k(maximumDigits: Int)

    static let gpt2Pattern = #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#
    static let llama3Pattern =
        #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
    static let qwen2Pattern =
        #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#

    /// The scanner of a regular expression, or nil when it is none of these.
    init?(pattern: String) {
        if pattern.hasSameBytes(as: Self.gpt2Pattern) {
            self = .gpt2
        } else if pattern.hasSameBytes(as: Self.llama3Pattern) {
            self = .cl100k(maximumDigits: 3)
        } else if pattern.hasSameBytes(as: Self.qwen2Pattern) {
            self = .cl100k(maximumDigits: 1)
        } else {
            return nil
        }
    }

    /// The end of the match that begins at `start`; the text ends at `end`.
    @inline(__always)
    func matchEnd(_ bytes: Span<UInt8>, _ start: Int, _ end: Int, _ table: ScalarClassTable) -> Int {
        switch self {
        case .gpt2: gpt2End(bytes, start, end, table)
        case .cl100k(let digits): cl100kEnd(bytes, start, end, digits, table)
        }
    }
}

@inline(__always)
private func classAt(_ bytes: Span<UInt8>, _ position: Int, _ table: ScalarClassTable) -> (ScalarClass, Int) {
    let scalar = decodeScalar(bytes, at: position)
    return (table[scalar.value].intersection(.split), scalar.length)
}

/// The end of the run of scalars of exactly this class (letter, number, space, or none of them) from `start` on.
@inline(__always)
private func runEnd(
    _ bytes: Span<UInt8>, _ start: Int, _ end: Int, _ wanted: ScalarClass, _ table: ScalarClassTable
) -> Int {
    var i = start
    while i < end {
        let (found, length) = classAt(bytes, i, table)
        if found != wanted { break }
        i += length
    }
    return i
}

/// What `\s+(?!\S)|\s+` takes: a run of white space, without its last scalar when text follows and more than one stands.
@inline(__always)
private func spaceEnd(_ bytes: Span<UInt8>, _ start: Int, _ end: Int, _ table: ScalarClassTable) -> Int {
    let stop = runEnd(bytes, start, end, .space, table)
    if stop == end { return stop }
    let last = scalarStart(bytes, before: stop)
    return last > start ? last : stop
}

/// Length of a contraction at an apostrophe ('s, 't, 'm, 'd, 're, 've, 'll), or 0.
@inline(__always)
private func contractionLength(_ bytes: Span<UInt8>, _ start: Int, _ end: Int, ignoringCase: Bool) -> Int {
    guard start + 1 < end else { return 0 }
    let bit: UInt8 = ignoringCase ? 0x20 : 0
    let first = bytes[start + 1]
    // U+017F, the long s, folds to s.
    if ignoringCase, first == 0xC5, bytes[start + 2] == 0xBF { return 3 }
    guard first < 0x80 else { return 0 }
    switch first | bit {
    case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"): return 2
    case UInt8(ascii: "r"), UInt8(ascii: "v"):
        return start + 2 < end && bytes[start + 2] | bit == UInt8(ascii: "e") ? 3 : 0
    case UInt8(ascii: "l"): return start + 2 < end && bytes[start + 2] | bit == UInt8(ascii: "l") ? 3 : 0
    default: return 0
    }
}

private func gpt2End(_ bytes: Span<UInt8>, _ start: Int, _ end: Int, _ table: ScalarClassTable) -> Int {
    let first = bytes[start]
    if first == UInt8(ascii: "'") {
        let length = contractionLength(bytes, start, end, ignoringCase: false)
        if length > 0 { return start + length }
    }
    var i = start
    if first == 0x20 {
        i += 1
        if i == end { return end }
    }
    let (kind, length) = classAt(bytes, i, table)
    if kind != .space { return runEnd(bytes, i + length, end, kind, table) }
    return spaceEnd(bytes, start, end, table)
}

private func cl100kEnd(
    _ bytes: Span<UInt8>, _ start: Int, _ end: Int, _ maximumDigits: Int, _ table: ScalarClassTable
) -> Int {
    let first = bytes[start]
    if first == UInt8(ascii: "'") {
        let length = contractionLength(bytes, start, end, ignoringCase: true)
        if length > 0 { return start + length }
    }
    let (kind, length) = classAt(bytes, start, table)
    let next = start + length
    if kind == .letter { return runEnd(bytes, next, end, .letter, table) }
    if kind == .number {
        var i = next
        var digits = 1
        while digits < maximumDigits, i < end {
            let (kind, length) = classAt(bytes, i, table)
            guard kind == .number else { break }
            i += length
            digits += 1
        }
        return i
    }
    let isLineEnd = first == 0x0D || first == 0x0A
    if !isLineEnd, next < end {
        let (following, followingLength) = classAt(bytes, next, table)
        if following == .letter { return runEnd(bytes, next + followingLength, end, .letter, table) }
        if first == 0x20, following.isEmpty { return otherEnd(bytes, next, end, table) }
    }
    if kind.isEmpty { return otherEnd(bytes, start, end, table) }

    let stop = runEnd(bytes, start, end, .space, table)
    var lineEnd = stop
    while lineEnd > start, bytes[lineEnd - 1] != 0x0D, bytes[lineEnd - 1] != 0x0A { lineEnd -= 1 }
    if lineEnd > start { return lineEnd }
    if stop == end { return stop }
    let last = scalarStart(bytes, before: stop)
    return last > start ? last : stop
}

/// `[^\s\p{L}\p{N}]+[\r\n]*`
@inline(__always)
private func otherEnd(_ bytes: Span<UInt8>, _ start: Int, _ end: Int, _ table: ScalarClassTable) -> Int {
    var i = runEnd(bytes, start, end, [], table)
    while i < end, bytes[i] == 0x0D || bytes[i] == 0x0A { i += 1 }
    return i
}
