/// The classes of Unicode scalars that split patterns and normalisers ask for.
struct ScalarClass: OptionSet, Sendable {
    var rawValue: UInt8
    /// `\p{L}`
    static let letter = ScalarClass(rawValue: 1)
    /// `\p{N}`
    static let number = ScalarClass(rawValue: 2)
    /// `\s`: White_Space
    static let space = ScalarClass(rawValue: 4)
    /// `\p{M}`
    static let mark = ScalarClass(rawValue: 8)
    /// `\p{Mn}`
    static let nonspacingMark = ScalarClass(rawValue: 16)
    /// `\p{P}`
    static let punctuation = ScalarClass(rawValue: 32)
    /// `\w` of UTS #18: alphabetic, marks, decimal digits, connector punctuation, join controls.
    static let word = ScalarClass(rawValue: 64)
    /// `\p{C}`: control, format, private use, unassigned (Cc, Cf, Co, Cn).
    static let other = ScalarClass(rawValue: 128)

    /// A scalar outside of letters, numbers and white space, which split patterns take as punctuation.
    static let split: ScalarClass = [.letter, .number, .space]
}

/// The class of every scalar, in pages of 256 that are shared where equal.
struct ScalarClassTable: Sendable {
    /// The Unicode version whose assignments count. The reference tokenizers were built with 16: a letter that came
    /// later is no letter to them, and its text would be split differently.
    static let unicodeVersion = 16

    static let shared = ScalarClassTable()

    private let pages: [UInt16]
    private let classes: [UInt8]

    private init() {
        var pages: [UInt16] = []
        var classes: [UInt8] = []
        var known: [[UInt8]: UInt16] = [:]
        pages.reserveCapacity(0x1100)
        for page in 0..<0x1100 as Range<UInt32> {
            let flags = (0..<256 as Range<UInt32>).map { Self.classify(page << 8 | $0).rawValue }
            if let earlier = known[flags] {
                pages.append(earlier)
            } else {
                let index = UInt16(classes.count >> 8)
                known[flags] = index
                pages.append(index)
                classes += flags
            }
        }
        self.pages = pages
        self.classes = classes
    }

    private static func classify(_ value: UInt32) -> ScalarClass {
        guard let properties = Unicode.Scalar(value)?.properties else { return .other }
        guard let age = properties.age, age.major <= unicodeVersion else { return .other }
        var flags: ScalarClass = []
        switch properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: flags = .letter
        case .decimalNumber: flags = [.number, .word]
        case .letterNumber, .otherNumber: flags = .number
        case .nonspacingMark: flags = [.mark, .nonspacingMark, .word]
        case .spacingMark, .enclosingMark: flags = [.mark, .word]
        case .connectorPunctuation: flags = [.punctuation, .word]
        case .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation, .finalPunctuation,
            .otherPunctuation:
            flags = .punctuation
        case .control, .format, .privateUse, .unassigned, .surrogate: flags = .other
        default: break
        }
        if properties.isWhitespace { flags.insert(.space) }
        if properties.isAlphabetic || properties.isJoinControl { flags.insert(.word) }
        return flags
    }

    @inline(__always)
    subscript(scalar: UInt32) -> ScalarClass {
        ScalarClass(rawValue: classes[Int(pages[Int(scalar >> 8)]) << 8 | Int(scalar & 0xFF)])
    }
}

/// A scalar read from UTF-8 and the bytes it takes.
struct DecodedScalar {
    var value: UInt32
    var length: Int
}

/// Reads the scalar at `position` of valid UTF-8, which is what every Swift string is.
@inline(__always)
func decodeScalar(_ bytes: Span<UInt8>, at position: Int) -> DecodedScalar {
    let first = UInt32(bytes[position])
    if first < 0x80 { return DecodedScalar(value: first, length: 1) }
    let second = UInt32(bytes[position + 1] & 0x3F)
    if first < 0xE0 { return DecodedScalar(value: (first & 0x1F) << 6 | second, length: 2) }
    let third = UInt32(bytes[position + 2] & 0x3F)
    if first < 0xF0 { return DecodedScalar(value: (first & 0x0F) << 12 | second << 6 | third, length: 3) }
    let fourth = UInt32(bytes[position + 3] & 0x3F)
    return DecodedScalar(value: (first & 0x07) << 18 | second << 12 | third << 6 | fourth, length: 4)
}

/// Bytes of the UTF-8 sequence that `first` begins.
@inline(__always)
func utf8Length(_ first: UInt8) -> Int { first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4 }

/// The start of the scalar that ends before `position`.
@inline(__always)
func scalarStart(_ bytes: Span<UInt8>, before position: Int) -> Int {
    var start = position - 1
    while start > 0, bytes[start] & 0xC0 == 0x80 { start -= 1 }
    return start
}

/// Appends the UTF-8 of a scalar value; surrogates, which no caller has, become U+FFFD.
@inline(__always)
func appendScalar(_ value: UInt32, to bytes: inout [UInt8]) {
    if value < 0x80 { bytes.append(UInt8(value)); return }
    bytes.append(contentsOf: UTF8.encode(Unicode.Scalar(value) ?? "\u{FFFD}")!)
}
