/// The classes of Unicode scalars that split patterns and normalisers ask for.
///
/// Each part of Hugging Face `tokenizers` (0.23) was built with tables of another Unicode version; ids are only equal
/// when a scalar that came later is left out as it is there. The version stands with each class.
struct ScalarClass: OptionSet, Sendable {
    var rawValue: UInt16
    /// `\p{L}` in regular expressions, Unicode 16.
    static let letter = ScalarClass(rawValue: 1)
    /// `\p{N}` in regular expressions, Unicode 16.
    static let number = ScalarClass(rawValue: 2)
    /// White_Space.
    static let space = ScalarClass(rawValue: 4)
    /// Marks to the StripAccents normaliser, Unicode 9.
    static let mark = ScalarClass(rawValue: 8)
    /// Nonspacing marks to the BERT normaliser, Unicode 8.
    static let nonspacingMark = ScalarClass(rawValue: 16)
    /// Punctuation to the Punctuation and BERT pre-tokenizers, Unicode 8, ASCII symbols included.
    static let punctuation = ScalarClass(rawValue: 32)
    /// `\w` of the Whitespace pre-tokenizer and around added tokens (UTS #18), Unicode 16.
    static let word = ScalarClass(rawValue: 64)
    /// Control, format and private use (Cc, Cf, Co) to the BERT normaliser, Unicode 8.
    static let other = ScalarClass(rawValue: 128)
    /// Numbers to the Digits pre-tokenizer, Unicode 17.
    static let numeric = ScalarClass(rawValue: 256)

    /// What split patterns tell apart; a scalar of none of these is punctuation to them.
    static let split: ScalarClass = [.letter, .number, .space]
}

/// The class of every scalar, in pages of 256 that are shared where equal.
struct ScalarClassTable: Sendable {
    static let shared = ScalarClassTable()

    private let pages: [UInt16]
    private let classes: [UInt16]

    private init() {
        var pages: [UInt16] = []
        var classes: [UInt16] = []
        var known: [[UInt16]: UInt16] = [:]
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
        // Asking the library takes most of the time; these planes hold nothing as of Unicode 17, or only private use.
        if value >= 0x3_4000, value < 0xE_0000 || value >= 0xE_0200 {
            return value >= 0xF_0000 && value & 0xFFFE != 0xFFFE ? .other : []
        }
        guard let properties = Unicode.Scalar(value)?.properties, let age = properties.age, age.major <= 17 else {
            return []
        }
        var flags: ScalarClass = []
        switch properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: flags = .letter
        case .decimalNumber: flags = [.number, .numeric, .word]
        case .letterNumber, .otherNumber: flags = [.number, .numeric]
        case .nonspacingMark: flags = [.mark, .nonspacingMark, .word]
        case .spacingMark, .enclosingMark: flags = [.mark, .word]
        case .connectorPunctuation: flags = [.punctuation, .word]
        case .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation, .finalPunctuation,
            .otherPunctuation:
            flags = .punctuation
        case .control, .format, .privateUse: flags = .other
        default: break
        }
        if properties.isWhitespace { flags.insert(.space) }
        if properties.isAlphabetic || properties.isJoinControl { flags.insert(.word) }
        if age.major > 16 { flags.subtract([.letter, .number, .word]) }
        if age.major > 9 { flags.remove(.mark) }
        if age.major > 8 { flags.subtract([.nonspacingMark, .punctuation, .other]) }
        correct(value, &flags)
        return flags
    }

    /// Scalars whose general category was another one in those versions, and ASCII symbols.
    private static func correct(_ value: UInt32, _ flags: inout ScalarClass) {
        switch value {
        case 0x24, 0x2B, 0x3C...0x3E, 0x5E, 0x60, 0x7C, 0x7E: flags.insert(.punctuation)
        case 0x166D: flags.insert(.punctuation)
        case 0x1734, 0x1171E: flags.insert(.nonspacingMark)
        case 0x1885, 0x1886, 0xA9BD: flags.remove(.nonspacingMark)
        case 0x1CF2, 0x1CF3: flags.insert(.mark)
        case 0x111C9:
            flags.insert(.punctuation)
            flags.subtract([.mark, .nonspacingMark])
        default: break
        }
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
    if value < 0x80 {
        bytes.append(UInt8(value))
        return
    }
    bytes.append(contentsOf: UTF8.encode(Unicode.Scalar(value) ?? "\u{FFFD}")!)
}
