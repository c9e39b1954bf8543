/// For each byte of a changed text, the range of bytes of the input that it stands for.
struct Origins: Sendable {
    var starts: [Int] = []
    var ends: [Int] = []

    @inline(__always)
    mutating func append(_ range: Range<Int>, count: Int) {
        for _ in 0..<count {
            starts.append(range.lowerBound)
            ends.append(range.upperBound)
        }
    }
    func range(of bytes: Range<Int>) -> Range<Int> {
        guard let first = bytes.first, let last = bytes.last else {
            let at = starts.isEmpty ? 0 : bytes.lowerBound < starts.count ? starts[bytes.lowerBound] : ends[starts.count - 1]
            return at..<at
        }
        // Reordered marks may swap places, so the ends are compared.
        return min(starts[first], starts[last])..<max(ends[first], ends[last])
    }
}

/// A stretch of text on its way through a normaliser: UTF-8 and where each byte came from.
struct NormalizedText: Sendable {
    var bytes: [UInt8] = []
    var origins = Origins()

    @inline(__always)
    mutating func append(_ byte: UInt8, from origin: Range<Int>) {
        bytes.append(byte)
        origins.starts.append(origin.lowerBound)
        origins.ends.append(origin.upperBound)
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
        origins.starts.append(contentsOf: other.origins.starts[range])
        origins.ends.append(contentsOf: other.origins.ends[range])
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
        var text = NormalizedText()
        text.bytes = Array(bytes[range])
        if let origins {
            text.origins.starts = Array(origins.starts[range])
            text.origins.ends = Array(origins.ends[range])
        } else {
            text.origins.starts = Array(range)
            text.origins.ends = Array(range.lowerBound + 1..<range.upperBound + 1)
        }
        return text
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
