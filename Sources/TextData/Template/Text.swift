import Foundation

/// A Python `str` as UTF-8: positions and lengths count code points, equality is of bytes.
struct Text: Hashable, Sendable, ExpressibleByStringLiteral, CustomStringConvertible {
    var bytes: [UInt8]
    /// Set by `escape` and `safe`: a `Markup`, which escapes plain text that is added to it.
    var isMarkup = false

    init(_ bytes: [UInt8], isMarkup: Bool = false) {
        self.bytes = bytes
        self.isMarkup = isMarkup
    }
    init(_ slice: ArraySlice<UInt8>) { bytes = Array(slice) }
    init(_ text: String) { bytes = Array(text.utf8) }
    init(stringLiteral value: String) { bytes = Array(value.utf8) }
    init(_ scalars: some Sequence<Unicode.Scalar>) {
        bytes = []
        for scalar in scalars { append(scalar) }
    }

    static func == (a: Text, b: Text) -> Bool { a.bytes == b.bytes }
    /// For `switch`: compares with a literal without making a text of it.
    static func ~= (literal: StaticString, text: Text) -> Bool { text.isSame(as: literal) }
    /// The length and the first bytes; the same for texts that are equal.
    var mark: UInt64 {
        var mark = UInt64(truncatingIfNeeded: bytes.count)
        for i in 0..<min(bytes.count, 7) { mark = mark << 8 | UInt64(bytes[i]) }
        return mark
    }
    func isSame(as literal: StaticString) -> Bool {
        bytes.count == literal.utf8CodeUnitCount
            && bytes.withUnsafeBytes { $0.baseAddress.map { memcmp($0, literal.utf8Start, bytes.count) == 0 } ?? true }
    }
    func hash(into hasher: inout Hasher) { hasher.combine(bytes) }

    var description: String { String(decoding: bytes, as: UTF8.self) }
    var isEmpty: Bool { bytes.isEmpty }
    /// The number of code points.
    var count: Int { bytes.count { $0 & 0xC0 != 0x80 } }
    var scalars: [Unicode.Scalar] { Array(String(decoding: bytes, as: UTF8.self).unicodeScalars) }

    mutating func append(_ scalar: Unicode.Scalar) {
        if scalar.value < 0x80 {
            bytes.append(UInt8(scalar.value))
        } else {
            bytes.append(contentsOf: Unicode.UTF8.encode(scalar) ?? Unicode.UTF8.encodedReplacementCharacter)
        }
    }

    /// The byte offset of the code point `index`; the end when there are fewer.
    func byteOffset(of index: Int) -> Int {
        var remaining = index
        for (offset, byte) in bytes.enumerated() where byte & 0xC0 != 0x80 {
            if remaining == 0 { return offset }
            remaining -= 1
        }
        return bytes.count
    }
    /// The number of code points before a byte offset.
    func scalarIndex(ofByte offset: Int) -> Int { bytes[..<offset].count { $0 & 0xC0 != 0x80 } }

    /// The scalar that starts at a byte offset, and its length in bytes.
    func scalar(at offset: Int) -> (Unicode.Scalar, Int) { Text.scalar(in: bytes, at: offset) }
    private func scalar(before end: Int) -> (Unicode.Scalar, Int) {
        var start = end - 1
        while start > 0, bytes[start] & 0xC0 == 0x80 { start -= 1 }
        return (scalar(at: start).0, end - start)
    }

    /// Python's `str.isspace` for one code point.
    static func isSpace(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x09...0x0D, 0x1C...0x20, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000:
            true
        default: false
        }
    }

    /// `str.strip` and kin; nil strips white space, otherwise any of the characters of `set`.
    func stripped(_ set: Text? = nil, left: Bool = true, right: Bool = true) -> Text {
        let members = set.map { Set($0.scalars) }
        func drops(_ scalar: Unicode.Scalar) -> Bool { members?.contains(scalar) ?? Text.isSpace(scalar) }
        var start = 0
        var end = bytes.count
        if left {
            while start < end {
                let (scalar, length) = scalar(at: start)
                guard drops(scalar) else { break }
                start += length
            }
        }
        if right {
            while start < end {
                let (scalar, length) = scalar(before: end)
                guard drops(scalar) else { break }
                end -= length
            }
        }
        return start == 0 && end == bytes.count ? self : Text(Array(bytes[start..<end]), isMarkup: isMarkup)
    }

    func hasPrefix(_ prefix: Text) -> Bool { prefix.stands(at: 0, in: self) }
    func hasSuffix(_ suffix: Text) -> Bool { suffix.stands(at: bytes.count - suffix.bytes.count, in: self) }
    private func stands(at offset: Int, in text: Text) -> Bool {
        guard offset >= 0, offset + bytes.count <= text.bytes.count else { return false }
        return bytes.withUnsafeBytes { own in
            text.bytes.withUnsafeBytes { other in
                guard let start = own.baseAddress, let place = other.baseAddress else { return true }
                return memcmp(start, place + offset, own.count) == 0
            }
        }
    }

    /// How many bytes at the start, or at the end, are the same in both.
    func commonLength(_ other: Text, atEnd: Bool = false) -> Int {
        bytes.withUnsafeBytes { own in
            other.bytes.withUnsafeBytes { other in
                let count = min(own.count, other.count)
                guard let a = own.baseAddress, let b = other.baseAddress else { return 0 }
                let (first, second) = atEnd ? (a + own.count - count, b + other.count - count) : (a, b)
                var length = 0
                // Whole stretches as long as they are the same, then byte by byte.
                while count - length >= 64 {
                    let start = atEnd ? count - length - 64 : length
                    guard memcmp(first + start, second + start, 64) == 0 else { break }
                    length += 64
                }
                func place(_ i: Int) -> Int { atEnd ? count - 1 - i : i }
                while length < count,
                    first.load(fromByteOffset: place(length), as: UInt8.self)
                        == second.load(fromByteOffset: place(length), as: UInt8.self)
                { length += 1 }
                return length
            }
        }
    }
    func contains(_ needle: Text) -> Bool { firstOffset(of: needle) != nil }

    /// The byte offset of the first occurrence in `range`, in time linear in both lengths.
    func firstOffset(of needle: Text, in range: Range<Int>? = nil) -> Int? {
        let range = range ?? 0..<bytes.count
        if needle.isEmpty { return range.lowerBound }
        guard range.count >= needle.bytes.count else { return nil }
        return needle.bytes.count > 24
            ? KnuthMorrisPratt(needle.bytes).firstOffset(in: bytes[range])
            : shortOffset(of: needle.bytes, in: range)
    }

    /// Tries every place where the first byte stands; only for needles short enough to make that linear.
    private func shortOffset(of needle: [UInt8], in range: Range<Int>) -> Int? {
        bytes.withUnsafeBytes { haystack in
            needle.withUnsafeBytes { wanted in
                guard let base = haystack.baseAddress, let pattern = wanted.baseAddress else { return nil }
                let last = range.upperBound - wanted.count
                var start = range.lowerBound
                while start <= last, let hit = memchr(base + start, Int32(wanted[0]), last - start + 1) {
                    if memcmp(hit, pattern, wanted.count) == 0 { return UnsafeRawPointer(hit) - base }
                    start = UnsafeRawPointer(hit) - base + 1
                }
                return nil
            }
        }
    }

    /// The byte offset of the last occurrence in `range`.
    func lastOffset(of needle: Text, in range: Range<Int>? = nil) -> Int? {
        let range = range ?? 0..<bytes.count
        if needle.isEmpty { return range.upperBound }
        guard range.count >= needle.bytes.count else { return nil }
        let reversed = Text(bytes[range].reversed())
        guard let offset = reversed.firstOffset(of: Text(needle.bytes.reversed())) else { return nil }
        return range.upperBound - offset - needle.bytes.count
    }

    /// `str.replace`; a negative count replaces all.
    func replacing(_ old: Text, with new: Text, limit: Int = -1) -> Text {
        guard limit != 0 else { return self }
        var result: [UInt8] = []
        var done = 0
        if old.isEmpty {
            var offset = 0
            while limit < 0 || done < limit {
                result += new.bytes
                done += 1
                guard offset < bytes.count else { break }
                let length = scalar(at: offset).1
                result += bytes[offset..<offset + length]
                offset += length
            }
            return Text(result + bytes[min(offset, bytes.count)...])
        }
        var start = 0
        while limit < 0 || done < limit, let offset = firstOffset(of: old, in: start..<bytes.count) {
            result += bytes[start..<offset]
            result += new.bytes
            start = offset + old.bytes.count
            done += 1
        }
        if start == 0 { return self }
        return Text(result + bytes[start...])
    }

    /// The code points `range` describes: Python's slice of a string.
    func slice(_ slice: PythonSlice) -> Text {
        let indices = slice.resolved(count: count)
        if indices.step == 1 {
            guard indices.count > 0 else { return Text([]) }
            let start = byteOffset(of: indices.start)
            var end = start
            for _ in 0..<indices.count { end += scalar(at: end).1 }
            return Text(Array(bytes[start..<end]))
        }
        let all = scalars
        return Text(indices.map { all[$0] })
    }
}

/// `[start:stop:step]` as written; nil is left out.
struct PythonSlice {
    var start: Int?
    var stop: Int?
    var step: Int

    /// The positions a slice selects of a sequence, as Python's `slice.indices` has them.
    struct Resolved: Sequence {
        var start: Int
        var count: Int
        var step: Int

        func makeIterator() -> some IteratorProtocol<Int> {
            (0..<count).lazy.map { start + $0 * step }.makeIterator()
        }
    }

    func resolved(count: Int) -> Resolved {
        func clamped(_ value: Int, _ low: Int, _ high: Int) -> Int {
            Swift.min(Swift.max(value < 0 ? value + count : value, low), high)
        }
        if step > 0 {
            let from = clamped(start ?? 0, 0, count)
            let to = clamped(stop ?? count, 0, count)
            return Resolved(start: from, count: to > from ? (to - from - 1) / step + 1 : 0, step: step)
        }
        let from = start.map { clamped($0, -1, count - 1) } ?? count - 1
        let to = stop.map { clamped($0, -1, count - 1) } ?? -1
        guard from > to, step != Int.min else { return Resolved(start: from, count: from > to ? 1 : 0, step: -1) }
        return Resolved(start: from, count: (from - to - 1) / -step + 1, step: step)
    }
}

/// Knuth, Morris and Pratt's search (doi:10.1137/0206024): linear however the needle repeats itself.
private struct KnuthMorrisPratt {
    private let needle: [UInt8]
    private var failure: [Int]

    init(_ needle: [UInt8]) {
        self.needle = needle
        failure = Array(repeating: 0, count: needle.count)
        var length = 0
        for i in needle.indices.dropFirst() {
            while length > 0, needle[i] != needle[length] { length = failure[length - 1] }
            if needle[i] == needle[length] { length += 1 }
            failure[i] = length
        }
    }

    func firstOffset(in haystack: ArraySlice<UInt8>) -> Int? {
        var length = 0
        for i in haystack.indices {
            while length > 0, haystack[i] != needle[length] { length = failure[length - 1] }
            if haystack[i] == needle[length] { length += 1 }
            if length == needle.count { return i - length + 1 }
        }
        return nil
    }
}
