import Foundation

/// The four forms of Unicode Standard Annex #15, with the origin of every byte carried along.
///
/// Swift's library normalises whole strings only, which loses where a scalar came from; this works scalar by scalar
/// on tables made from that library once.
enum NormalizationForm: String, Sendable {
    case nfc = "NFC"
    case nfd = "NFD"
    case nfkc = "NFKC"
    case nfkd = "NFKD"

    private var composes: Bool { self == .nfc || self == .nfkc }
    private var isCompatible: Bool { self == .nfkc || self == .nfkd }

    /// Whether every scalar is below the first that the form could change; a text that is not may still be normal.
    func isQuicklyNormal(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Bool {
        if self == .nfc {
            // U+0300 and on begin with 0xCC; below it NFC changes nothing. The quick check of UAX #15, section 9: no scalar
            // may change or join the one before it, and marks stand in order.
            let tables = NormalizationTables.shared
            var lastClass: UInt8 = 0
            var i = range.lowerBound
            while i < range.upperBound {
                let first = bytes[i]
                if first < 0xCC {
                    i += utf8Length(first)
                    lastClass = 0
                    continue
                }
                let scalar = decodeScalar(bytes, at: i)
                if tables.mayChangeInNFC(scalar.value) { return false }
                let combiningClass = tables.combiningClass(scalar.value)
                if combiningClass != 0, combiningClass < lastClass { return false }
                lastClass = combiningClass
                i += scalar.length
            }
            return true
        }
        for i in range where bytes[i] >= 0x80 { return false }
        return true
    }

    /// Whether the text has characters that other forms spell differently, in the spelling of NFC: composed ones, and
    /// letters with a nukta, which NFC never composes.
    static func hasComposed(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        let tables = NormalizationTables.shared
        let span = bytes.span
        var i = 0
        while i < span.count {
            guard span[i] >= 0xC3 else {
                i += utf8Length(span[i])
                continue
            }
            let scalar = decodeScalar(span, at: i)
            if tables.isComposed(scalar.value) { return true }
            i += scalar.length
        }
        return false
    }

    func apply(to text: inout NormalizedText) {
        if isQuicklyNormal(text.bytes.span, 0..<text.bytes.count) { return }
        let tables = NormalizationTables.shared
        var changed = NormalizedText()
        changed.bytes.reserveCapacity(text.bytes.count)
        var segment: [Part] = []
        func flush() {
            Self.reorder(&segment)
            if composes { Self.compose(&segment, tables) }
            for part in segment { changed.append(scalar: part.scalar, from: part.origin) }
            segment.removeAll(keepingCapacity: true)
        }
        text.forEachScalar { scalar, range in
            let origin = text.origins.range(of: range)
            tables.decompose(scalar, compatible: isCompatible) { decomposed, combiningClass in
                if combiningClass == 0, !tables.mayJoinPrevious(decomposed) || !composes { flush() }
                segment.append(Part(scalar: decomposed, combiningClass: combiningClass, origin: origin))
            }
        }
        flush()
        text = changed
    }

    private struct Part {
        var scalar: UInt32
        var combiningClass: UInt8
        var origin: Range<Int>
    }

    /// Canonical ordering: runs of marks are sorted by combining class, stably.
    private static func reorder(_ parts: inout [Part]) {
        var i = 0
        while i < parts.count {
            guard parts[i].combiningClass != 0 else {
                i += 1
                continue
            }
            var end = i
            while end < parts.count, parts[end].combiningClass != 0 { end += 1 }
            if (i + 1..<end).contains(where: { parts[$0].combiningClass < parts[$0 - 1].combiningClass }) {
                // Swift's sort is stable, which UAX #15 asks for.
                parts[i..<end].sort { $0.combiningClass < $1.combiningClass }
                // What changed places stands for the whole run, so that ranges stay in order.
                let starts = parts[i..<end].map(\.origin.lowerBound)
                let ends = parts[i..<end].map(\.origin.upperBound)
                let whole = (starts.min() ?? 0)..<(ends.max() ?? 0)
                for k in i..<end { parts[k].origin = whole }
            }
            i = end
        }
    }

    /// Canonical composition (UAX #15, D117): each scalar joins the last starter unless one between them blocks it.
    private static func compose(_ parts: inout [Part], _ tables: NormalizationTables) {
        var composed: [Part] = []
        composed.reserveCapacity(parts.count)
        var starter: Int?
        var lastClass: Int = -1
        for part in parts {
            if let at = starter, lastClass < Int(part.combiningClass) || lastClass == -1,
                let joined = tables.compose(composed[at].scalar, part.scalar)
            {
                composed[at].scalar = joined
                composed[at].origin =
                    min(
                        composed[at].origin.lowerBound, part.origin.lowerBound)..<max(
                        composed[at].origin.upperBound, part.origin.upperBound)
                continue
            }
            if part.combiningClass == 0 {
                starter = composed.count
                lastClass = -1
            } else {
                lastClass = Int(part.combiningClass)
            }
            composed.append(part)
        }
        parts = composed
    }
}

/// Decompositions, combining classes and compositions, made once from the standard library and Foundation.
private struct NormalizationTables: Sendable {
    static let shared = NormalizationTables()

    private var canonical: [UInt32: [UInt32]] = [:]
    private var compatible: [UInt32: [UInt32]] = [:]
    /// By scalar, below U+30000.
    private var combiningClasses = [UInt8](repeating: 0, count: 0x30000)
    private var compositions: [UInt64: UInt32] = [:]
    /// Scalars that may compose with one before them.
    private var seconds: Set<UInt32> = []
    /// A bit for each scalar below U+30000 that NFC may change or that may join the scalar before it.
    private var active: [UInt64]

    private static let hangulBase: UInt32 = 0xAC00
    private static let hangulCount: UInt32 = 11172

    private init() {
        active = [UInt64](repeating: 0, count: 0x30000 / 64)
        var primary: [(scalar: UInt32, parts: [UInt32])] = []
        // Nothing normalises beyond the Supplementary Ideographic Plane, which ends with compatibility ideographs.
        for value in 0xA0..<0x30000 as Range<UInt32> {
            guard let unicode = Unicode.Scalar(value), !Self.isHangul(value) else { continue }
            let properties = unicode.properties
            // The reference normalises by tables of Unicode 9: what came later stays as it is, without reordering.
            guard let age = properties.age, age.major <= 9, !properties.isUnifiedIdeograph else { continue }
            let combiningClass = properties.canonicalCombiningClass.rawValue
            combiningClasses[Int(value)] = combiningClass
            let text = String(unicode)
            let full = text.decomposedStringWithCompatibilityMapping.unicodeScalars.map(\.value)
            guard full != [value] else { continue }
            compatible[value] = full
            let parts = text.decomposedStringWithCanonicalMapping.unicodeScalars.map(\.value)
            guard parts != [value] else { continue }
            canonical[value] = parts
            if parts.count > 1, !properties.isFullCompositionExclusion {
                primary.append((value, parts))
            } else {
                mark(value)
            }
        }
        // The first of a pair is itself composed as far as it goes, so shorter decompositions come first.
        primary.sort { ($0.parts.count, $0.scalar) < ($1.parts.count, $1.scalar) }
        for (scalar, parts) in primary {
            var first = parts[0]
            for part in parts[1..<parts.count - 1] { first = compositions[Self.key(first, part)] ?? first }
            compositions[Self.key(first, parts[parts.count - 1])] = scalar
            seconds.insert(parts[parts.count - 1])
            mark(parts[parts.count - 1])
        }
        // Vowels and final consonants of Hangul.
        for value in 0x1161...0x1175 as ClosedRange<UInt32> {
            seconds.insert(value)
            mark(value)
        }
        for value in 0x11A8...0x11C2 as ClosedRange<UInt32> {
            seconds.insert(value)
            mark(value)
        }
    }

    private mutating func mark(_ scalar: UInt32) { active[Int(scalar >> 6)] |= 1 << UInt64(scalar & 63) }
    private static func key(_ a: UInt32, _ b: UInt32) -> UInt64 { UInt64(a) << 32 | UInt64(b) }
    private static func isHangul(_ value: UInt32) -> Bool { value >= hangulBase && value < hangulBase + hangulCount }

    func mayChangeInNFC(_ scalar: UInt32) -> Bool {
        scalar < 0x30000 && active[Int(scalar >> 6)] & (1 << UInt64(scalar & 63)) != 0
    }

    /// Whether NFC keeps a scalar that NFD takes apart, or the scalar is a nukta.
    func isComposed(_ scalar: UInt32) -> Bool {
        if Self.isHangul(scalar) { return true }
        if combiningClass(scalar) == Self.nuktaClass { return true }
        return canonical[scalar] != nil && !mayChangeInNFC(scalar)
    }
    private static let nuktaClass: UInt8 = 7

    @inline(__always)
    func combiningClass(_ scalar: UInt32) -> UInt8 { scalar < 0x30000 ? combiningClasses[Int(scalar)] : 0 }

    func mayJoinPrevious(_ scalar: UInt32) -> Bool { scalar >= 0x300 && seconds.contains(scalar) }

    func decompose(_ scalar: UInt32, compatible isCompatible: Bool, _ body: (UInt32, UInt8) -> Void) {
        if scalar < 0xA0 {
            body(scalar, 0)
            return
        }
        if Self.isHangul(scalar) {
            // The Unicode Standard, section 3.12.
            let index = scalar - Self.hangulBase
            body(0x1100 + index / 588, 0)
            body(0x1161 + index % 588 / 28, 0)
            if index % 28 != 0 { body(0x11A7 + index % 28, 0) }
            return
        }
        guard let parts = (isCompatible ? compatible : canonical)[scalar] else {
            body(scalar, combiningClass(scalar))
            return
        }
        for part in parts { body(part, combiningClass(part)) }
    }

    func compose(_ first: UInt32, _ second: UInt32) -> UInt32? {
        if first >= 0x1100, first < 0x1113, second >= 0x1161, second < 0x1176 {
            return Self.hangulBase + ((first - 0x1100) * 21 + second - 0x1161) * 28
        }
        if Self.isHangul(first), (first - Self.hangulBase) % 28 == 0, second > 0x11A7, second < 0x11C3 {
            return first + second - 0x11A7
        }
        return compositions[Self.key(first, second)]
    }
}
