import COniguruma

/// General categories of Unicode 16 for Oniguruma, under names of our own.
///
/// The library's tables are of the Unicode version of its release: 14 in Debian 12, 16 in what Hugging Face builds in.
/// With these the same pattern splits the same way on every machine.
struct OnigurumaProperties {
    private static let version = 16
    /// Oniguruma takes at most 20 properties of its user.
    private static let limit = 20
    private var defined: Set<String> = []

    /// The pattern with `\p{L}`, `\p{Lu}`, `\P{N}` and so on naming properties defined here.
    ///
    /// Long names, scripts and other properties stay as they are.
    mutating func rewrite(_ pattern: String) -> String {
        let scalars = Array(pattern.unicodeScalars)
        var rewritten = String.UnicodeScalarView()
        var i = 0
        while i < scalars.count {
            guard scalars[i] == "\\", i + 1 < scalars.count else {
                rewritten.append(scalars[i])
                i += 1
                continue
            }
            rewritten.append(scalars[i])
            rewritten.append(scalars[i + 1])
            let isProperty = scalars[i + 1] == "p" || scalars[i + 1] == "P"
            i += 2
            guard isProperty, i < scalars.count, scalars[i] == "{", let close = scalars[i...].firstIndex(of: "}") else {
                continue
            }
            var name = scalars[(i + 1)..<close]
            rewritten.append("{")
            if name.first == "^" {
                rewritten.append("^")
                name = name.dropFirst()
            }
            let text = String(String.UnicodeScalarView(name))
            rewritten.append(contentsOf: (define(text) ?? text).unicodeScalars)
            rewritten.append("}")
            i = close + 1
        }
        return String(rewritten)
    }

    /// Our name of a general category, which is defined at first use; nil when it is none.
    private mutating func define(_ category: String) -> String? {
        let name = "graft" + category
        if defined.contains(name) { return name }
        guard defined.count < Self.limit, category.utf8.count <= 2, let ranges = Self.ranges(of: category) else {
            return nil
        }
        // Oniguruma keeps the address, for as long as the program runs.
        let table = UnsafeMutablePointer<OnigCodePoint>.allocate(capacity: 1 + ranges.count * 2)
        table[0] = OnigCodePoint(ranges.count)
        for (k, range) in ranges.enumerated() {
            table[1 + k * 2] = range.lowerBound
            table[2 + k * 2] = range.upperBound
        }
        guard onig_unicode_define_user_property(name, table) == ONIG_NORMAL else { return nil }
        defined.insert(name)
        return name
    }

    /// The scalars of a category such as "L" or "Lu".
    private static func ranges(of category: String) -> [ClosedRange<UInt32>]? {
        let wanted = categories.filter { $0.key.utf8.starts(with: category.utf8) }.flatMap(\.value)
        guard !wanted.isEmpty else { return nil }
        var merged: [ClosedRange<UInt32>] = []
        for range in wanted.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = merged.last, last.upperBound + 1 == range.lowerBound {
                merged[merged.count - 1] = last.lowerBound...range.upperBound
            } else {
                merged.append(range)
            }
        }
        return merged
    }

    /// Letters, marks, numbers, punctuation, symbols and separators by their two-letter categories. The others (C) are
    /// left to the library: unassigned code points are most of them.
    private static let categories: [String: [ClosedRange<UInt32>]] = {
        var ranges: [String: [ClosedRange<UInt32>]] = [:]
        // The planes beyond hold nothing but tags and private use.
        for value in (0..<0x3_4000 as Range<UInt32>) {
            add(value, to: &ranges)
        }
        for value in (0xE_0000..<0xE_0200 as Range<UInt32>) {
            add(value, to: &ranges)
        }
        return ranges
    }()

    private static func add(_ value: UInt32, to ranges: inout [String: [ClosedRange<UInt32>]]) {
        guard let properties = Unicode.Scalar(value)?.properties, let age = properties.age, age.major <= version,
            let name = abbreviation(properties.generalCategory)
        else { return }
        var known = ranges.removeValue(forKey: name) ?? []
        if let last = known.last, last.upperBound + 1 == value {
            known[known.count - 1] = last.lowerBound...value
        } else {
            known.append(value...value)
        }
        ranges[name] = known
    }

    private static func abbreviation(_ category: Unicode.GeneralCategory) -> String? {
        switch category {
        case .uppercaseLetter: "Lu"
        case .lowercaseLetter: "Ll"
        case .titlecaseLetter: "Lt"
        case .modifierLetter: "Lm"
        case .otherLetter: "Lo"
        case .nonspacingMark: "Mn"
        case .spacingMark: "Mc"
        case .enclosingMark: "Me"
        case .decimalNumber: "Nd"
        case .letterNumber: "Nl"
        case .otherNumber: "No"
        case .connectorPunctuation: "Pc"
        case .dashPunctuation: "Pd"
        case .openPunctuation: "Ps"
        case .closePunctuation: "Pe"
        case .initialPunctuation: "Pi"
        case .finalPunctuation: "Pf"
        case .otherPunctuation: "Po"
        case .mathSymbol: "Sm"
        case .currencySymbol: "Sc"
        case .modifierSymbol: "Sk"
        case .otherSymbol: "So"
        case .spaceSeparator: "Zs"
        case .lineSeparator: "Zl"
        case .paragraphSeparator: "Zp"
        default: nil
        }
    }
}
