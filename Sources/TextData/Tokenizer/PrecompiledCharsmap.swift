/// SentencePiece's table of text replacements: a double array that maps byte strings to offsets of NUL-terminated texts.
///
/// The array's units are 32 bits, little-endian (Aoe 1989; the layout of Darts-clone): label in bits 0-7 and 31, a flag
/// for a value in bit 8, the offset to the children in bits 10-30, times 256 where bit 9 is set.
struct PrecompiledCharsmap: Sendable {
    private var units: [UInt32] = []
    private var texts: [UInt8] = []
    /// The longest string in bytes that is looked for: real ones have a few characters, and a walk of any length from each
    /// place would take quadratic time.
    private static let longestString = 256

    /// - Throws: a reason when the sizes do not fit. Whatever the units say, searches stay inside the array.
    init(_ bytes: [UInt8]) throws(CharsmapFault) {
        if bytes.isEmpty { return }
        func word(_ at: Int) -> UInt32 {
            UInt32(bytes[at]) | UInt32(bytes[at + 1]) << 8 | UInt32(bytes[at + 2]) << 16 | UInt32(bytes[at + 3]) << 24
        }
        guard bytes.count >= 4 else { throw CharsmapFault(reason: "it is cut off") }
        let size = Int(word(0))
        guard size % 4 == 0, size <= bytes.count - 4 else {
            throw CharsmapFault(reason: "its array of \(size) bytes does not fit into \(bytes.count)")
        }
        units = (0..<size / 4).map { word(4 + $0 * 4) }
        texts = Array(bytes[(4 + size)...])
        guard texts.isEmpty || texts.last == 0 else { throw CharsmapFault(reason: "its last text does not end") }
    }

    var isEmpty: Bool { units.isEmpty }

    /// The text that replaces the longest known string at `start`, and that string's end.
    func longestMatch(_ bytes: Span<UInt8>, at start: Int, to end: Int) -> (text: Range<Int>, end: Int)? {
        var found: (text: Range<Int>, end: Int)?
        search(bytes, start, end) { offset, position in
            found = (offset, position)
            return true
        }
        return found
    }

    /// The text of the shortest known string at `start`: Hugging Face's reading of the same table.
    func shortestMatch(_ bytes: Span<UInt8>, at start: Int, to end: Int) -> Range<Int>? {
        var found: Range<Int>?
        search(bytes, start, end) { offset, _ in
            found = offset
            return false
        }
        return found
    }

    subscript(range: Range<Int>) -> ArraySlice<UInt8> { texts[range] }

    private func search(_ bytes: Span<UInt8>, _ start: Int, _ end: Int, _ body: (Range<Int>, Int) -> Bool) {
        guard !units.isEmpty else { return }
        var node = Self.offset(units[0])
        let end = min(end, start + Self.longestString)
        var i = start
        while i < end, bytes[i] != 0 {
            node ^= UInt32(bytes[i])
            guard node < units.count, units[Int(node)] & 0x8000_00FF == UInt32(bytes[i]) else { return }
            let unit = units[Int(node)]
            node ^= Self.offset(unit)
            i += 1
            guard unit & 0x100 != 0 else { continue }
            guard node < units.count, let text = text(at: Int(units[Int(node)] & 0x7FFF_FFFF)) else { return }
            guard body(text, i) else { return }
        }
    }

    private static func offset(_ unit: UInt32) -> UInt32 { (unit >> 10) << ((unit & 0x200) >> 6) }

    private func text(at start: Int) -> Range<Int>? {
        guard start < texts.count, let end = texts[start...].firstIndex(of: 0) else { return nil }
        return start..<end
    }
}

struct CharsmapFault: Error {
    var reason: String
}

extension PrecompiledCharsmap {
    /// Replaces as Hugging Face's `Precompiled` does: by whole grapheme clusters of fewer than six bytes, else by scalars,
    /// and each by what the shortest known string at its start becomes.
    func applyToClusters(_ text: inout NormalizedText) {
        var changed = NormalizedText()
        changed.bytes.reserveCapacity(text.bytes.count)
        let source = text
        let span = source.bytes.span
        var recognizer = Unicode._CharacterRecognizer()
        var cluster = 0
        var i = 0
        while i < span.count {
            let scalar = decodeScalar(span, at: i)
            if recognizer.hasBreak(before: Unicode.Scalar(scalar.value) ?? "\u{FFFD}") {
                append(cluster: cluster..<i, span, source, to: &changed)
                cluster = i
            }
            i += scalar.length
        }
        append(cluster: cluster..<i, span, source, to: &changed)
        text = changed
    }

    private func append(
        cluster: Range<Int>, _ span: Span<UInt8>, _ text: NormalizedText, to changed: inout NormalizedText
    ) {
        if cluster.count < 6, append(span, cluster, text, to: &changed) { return }
        var position = cluster.lowerBound
        while position < cluster.upperBound {
            let next = position + utf8Length(span[position])
            if !append(span, position..<next, text, to: &changed) { changed.append(text, position..<next) }
            position = next
        }
    }

    private func append(
        _ span: Span<UInt8>, _ range: Range<Int>, _ text: NormalizedText, to changed: inout NormalizedText
    ) -> Bool {
        guard let found = shortestMatch(span, at: range.lowerBound, to: range.upperBound),
            String(validating: texts[found], as: UTF8.self) != nil
        else { return false }
        changed.append(texts[found], from: text.origins.range(of: range))
        return true
    }
}
