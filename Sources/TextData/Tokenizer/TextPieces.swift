/// For each byte of a changed text, the range of bytes of the input that it stands for.
///
/// 32 bits hold any offset: longer texts are refused before they get here.
struct Origins: Sendable {
    private struct Entry: Sendable {
        var start: UInt32
        var end: UInt32
    }
    private var entries: [Entry] = []

    init() {}
    /// Each byte of `range` stands for itself.
    init(identity range: Range<Int>) {
        entries = range.map { Entry(start: UInt32(truncatingIfNeeded: $0), end: UInt32(truncatingIfNeeded: $0 + 1)) }
    }

    var count: Int { entries.count }
    mutating func reserveCapacity(_ count: Int) { entries.reserveCapacity(count) }

    @inline(__always)
    subscript(index: Int) -> Range<Int> { Int(entries[index].start)..<Int(entries[index].end) }
    subscript(range: Range<Int>) -> Origins {
        var part = Origins()
        part.entries = Array(entries[range])
        return part
    }

    @inline(__always)
    mutating func append(_ range: Range<Int>, count: Int) {
        let entry = Entry(
            start: UInt32(truncatingIfNeeded: range.lowerBound), end: UInt32(truncatingIfNeeded: range.upperBound))
        for _ in 0..<count { entries.append(entry) }
    }
    mutating func append(_ other: Origins, _ range: Range<Int>) { entries.append(contentsOf: other.entries[range]) }

    /// What a run of bytes stands for; origins ascend, so its first and last byte tell.
    @inline(__always)
    func range(of bytes: Range<Int>) -> Range<Int> {
        if bytes.isEmpty {
            let at = bytes.lowerBound < count ? entries[bytes.lowerBound].start : entries.last?.end ?? 0
            return Int(at)..<Int(at)
        }
        let first = entries[bytes.lowerBound]
        let last = entries[bytes.upperBound - 1]
        return Int(min(first.start, last.start))..<Int(max(first.end, last.end))
    }
}

/// A stretch of text on its way through a normaliser: UTF-8 and where each byte came from.
struct NormalizedText: Sendable {
    var bytes: [UInt8] = []
    var origins = Origins()

    @inline(__always)
    mutating func append(_ byte: UInt8, from origin: Range<Int>) {
        bytes.append(byte)
        origins.append(origin, count: 1)
    }
    mutating func append(_ text: some Collection<UInt8>, from origin: Range<Int>) {
        bytes.append(contentsOf: text)
        origins.append(origin, count: text.count)
    }
    mutating func append(scalar: UInt32, from origin: Range<Int>) {
        let before = bytes.count
        appendScalar(scalar, to: &bytes)
        origins.append(origin, count: bytes.count - before)
    }
    mutating func append(_ other: NormalizedText, _ range: Range<Int>) {
        bytes.append(contentsOf: other.bytes[range])
        origins.append(other.origins, range)
    }
    /// Calls `body` with each scalar and its bytes' range here.
    func forEachScalar(_ body: (UInt32, Range<Int>) -> Void) {
        let span = bytes.span
        var i = 0
        while i < span.count {
            let scalar = decodeScalar(span, at: i)
            body(scalar.value, i..<i + scalar.length)
            i += scalar.length
        }
    }
}

/// A part of a text: still to be split and encoded, or an added token already.
struct Piece: Sendable {
    var start: Int
    var end: Int
    /// The added token's id, or -1.
    var token: Int32 = -1

    var range: Range<Int> { start..<end }
    var isText: Bool { token < 0 }
}

/// A text cut into pieces, over one buffer. Splitting makes no copies; only normalising does.
struct TextPieces {
    var bytes: [UInt8]
    /// nil while the buffer is the input itself.
    var origins: Origins?
    var pieces: [Piece]

    init(_ text: String) {
        bytes = Array(text.utf8)
        pieces = bytes.isEmpty ? [] : [Piece(start: 0, end: bytes.count)]
    }

    func origin(of range: Range<Int>) -> Range<Int> { origins?.range(of: range) ?? range }

    /// Rebuilds the buffer with every text piece passed through `transform`; pieces that become empty are dropped.
    mutating func transformText(_ transform: (inout NormalizedText) throws -> Void) rethrows {
        if pieces.count == 1, pieces[0].isText {
            var text = text(of: pieces[0].range)
            try transform(&text)
            pieces = text.bytes.isEmpty ? [] : [Piece(start: 0, end: text.bytes.count)]
            bytes = text.bytes
            origins = text.origins
            return
        }
        var changed = NormalizedText()
        var newPieces: [Piece] = []
        newPieces.reserveCapacity(pieces.count)
        for piece in pieces {
            var text = text(of: piece.range)
            if piece.isText { try transform(&text) }
            let start = changed.bytes.count
            changed.append(text, 0..<text.bytes.count)
            if !text.bytes.isEmpty || !piece.isText {
                newPieces.append(Piece(start: start, end: changed.bytes.count, token: piece.token))
            }
        }
        bytes = changed.bytes
        origins = changed.origins
        pieces = newPieces
    }

    private func text(of range: Range<Int>) -> NormalizedText {
        NormalizedText(bytes: Array(bytes[range]), origins: origins?[range] ?? Origins(identity: range))
    }

    /// Passes every text piece through `normalizer`, or leaves the buffer alone when that would change nothing.
    mutating func normalize(_ normalizer: Normalizer) throws {
        let buffer = bytes
        let span = buffer.span
        for piece in pieces where piece.isText && !normalizer.isIdentity(span, piece.range) {
            try transformText { try normalizer.apply(to: &$0) }
            return
        }
    }

    /// Replaces every text piece by those that `split` appends; empty ones are dropped.
    mutating func splitText(_ split: (Span<UInt8>, Piece, inout [Piece]) throws -> Void) rethrows {
        var newPieces: [Piece] = []
        newPieces.reserveCapacity(pieces.count)
        // A second reference, not a copy: `self` is not read while it is changed.
        let buffer = bytes
        let span = buffer.span
        for piece in pieces {
            if piece.isText { try split(span, piece, &newPieces) } else { newPieces.append(piece) }
        }
        pieces = newPieces
    }
}
