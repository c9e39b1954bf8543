import Foundation

// Python's `str` methods that do not need the evaluator.
extension Text {
    /// `str.split`: by white space when `separator` is nil, from the right when `fromRight`.
    func split(_ separator: Text?, limit: Int, fromRight: Bool = false) -> [Text] {
        guard let separator else { return splitAtSpace(limit: limit, fromRight: fromRight) }
        var parts: [Text] = []
        if fromRight {
            var end = bytes.count
            while limit < 0 || parts.count < limit, let offset = lastOffset(of: separator, in: 0..<end) {
                parts.append(Text(bytes[(offset + separator.bytes.count)..<end]))
                end = offset
            }
            parts.append(Text(bytes[..<end]))
            return parts.reversed()
        }
        var start = 0
        while limit < 0 || parts.count < limit, let offset = firstOffset(of: separator, in: start..<bytes.count) {
            parts.append(Text(bytes[start..<offset]))
            start = offset + separator.bytes.count
        }
        parts.append(Text(bytes[start...]))
        return parts
    }

    private func splitAtSpace(limit: Int, fromRight: Bool) -> [Text] {
        let all = scalars
        var words: [Text] = []
        if fromRight {
            var end = all.count
            while true {
                while end > 0, Text.isSpace(all[end - 1]) { end -= 1 }
                guard end > 0 else { break }
                if limit >= 0, words.count == limit {
                    words.append(Text(all[..<end]))
                    break
                }
                var start = end
                while start > 0, !Text.isSpace(all[start - 1]) { start -= 1 }
                words.append(Text(all[start..<end]))
                end = start
            }
            return words.reversed()
        }
        var start = 0
        while true {
            while start < all.count, Text.isSpace(all[start]) { start += 1 }
            guard start < all.count else { break }
            if limit >= 0, words.count == limit {
                words.append(Text(all[start...]))
                break
            }
            var end = start
            while end < all.count, !Text.isSpace(all[end]) { end += 1 }
            words.append(Text(all[start..<end]))
            start = end
        }
        return words
    }

    /// `str.splitlines`.
    func lines(keepingEnds: Bool) -> [Text] {
        let all = scalars
        var lines: [Text] = []
        var start = 0
        var i = 0
        while i < all.count {
            guard [0x0A, 0x0B, 0x0C, 0x0D, 0x1C, 0x1D, 0x1E, 0x85, 0x2028, 0x2029].contains(all[i].value) else {
                i += 1
                continue
            }
            var end = i + 1
            if all[i] == "\r", end < all.count, all[end] == "\n" { end += 1 }
            lines.append(Text(all[start..<(keepingEnds ? end : i)]))
            start = end
            i = end
        }
        if start < all.count { lines.append(Text(all[start...])) }
        return lines
    }

    func uppercased() -> Text {
        if bytes.allSatisfy({ $0 < 0x80 }) {
            return Text(bytes.map { $0 >= 0x61 && $0 <= 0x7A ? $0 - 32 : $0 }, isMarkup: isMarkup)
        }
        return mapped { $0.properties.uppercaseMapping }
    }

    func lowercased() -> Text {
        if bytes.allSatisfy({ $0 < 0x80 }) {
            return Text(bytes.map { $0 >= 0x41 && $0 <= 0x5A ? $0 + 32 : $0 }, isMarkup: isMarkup)
        }
        let all = scalars
        var result = Text([])
        for (i, scalar) in all.enumerated() { result.bytes += Text.lowercase(all, i, scalar).utf8 }
        return result
    }

    /// A capital sigma is lowered to its final form at the end of a word (Unicode 3.13, Final_Sigma).
    private static func lowercase(_ all: [Unicode.Scalar], _ i: Int, _ scalar: Unicode.Scalar) -> String {
        guard scalar.value == 0x3A3 else { return scalar.properties.lowercaseMapping }
        let before = all[..<i].last { !$0.properties.isCaseIgnorable }
        let after = all[(i + 1)...].first { !$0.properties.isCaseIgnorable }
        return before?.properties.isCased == true && after?.properties.isCased != true ? "\u{3C2}" : "\u{3C3}"
    }

    func mapped(_ transform: (Unicode.Scalar) -> String) -> Text {
        var result = Text([], isMarkup: isMarkup)
        result.bytes.reserveCapacity(bytes.count)
        for scalar in scalars { result.bytes += transform(scalar).utf8 }
        return result
    }

    /// `str.capitalize`: the first in title case, the rest in lower case.
    func capitalized() -> Text {
        let all = scalars
        guard let first = all.first else { return self }
        var result = Text(first.properties.titlecaseMapping)
        for i in 1..<all.count { result.bytes += Text.lowercase(all, i, all[i]).utf8 }
        return result
    }

    /// `str.title`: a word starts after anything that has no case.
    func titlecased() -> Text {
        let all = scalars
        var result = Text([])
        var isInside = false
        for (i, scalar) in all.enumerated() {
            let mapped = isInside ? Text.lowercase(all, i, scalar) : scalar.properties.titlecaseMapping
            result.bytes += mapped.utf8
            isInside = scalar.properties.isCased
        }
        return result
    }

    func swappedCase() -> Text {
        let all = scalars
        var result = Text([])
        for (i, scalar) in all.enumerated() {
            let swapped =
                scalar.properties.isUppercase
                ? Text.lowercase(all, i, scalar)
                : scalar.properties.isLowercase ? scalar.properties.uppercaseMapping : String(scalar)
            result.bytes += swapped.utf8
        }
        return result
    }

    /// Padded to `width` code points.
    func padded(to width: Int, left: Int, fill: Text) -> Text {
        let missing = width - count
        guard missing > 0 else { return self }
        let before = Array(repeatElement(fill.bytes, count: left).joined())
        return Text(before + bytes + Array(repeatElement(fill.bytes, count: missing - left).joined()))
    }

    /// HTML-escaped, as MarkupSafe does.
    func escaped() -> Text {
        if isMarkup { return self }
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count)
        for byte in bytes {
            switch byte {
            case UInt8(ascii: "&"): result += "&amp;".utf8
            case UInt8(ascii: "<"): result += "&lt;".utf8
            case UInt8(ascii: ">"): result += "&gt;".utf8
            case UInt8(ascii: "'"): result += "&#39;".utf8
            case UInt8(ascii: "\""): result += "&#34;".utf8
            default: result.append(byte)
            }
        }
        return Text(result, isMarkup: true)
    }

    /// The `str.is...` predicates; nil for other names.
    func predicate(_ name: Text) -> Bool? {
        let all = scalars
        func every(_ test: (Unicode.Scalar) -> Bool) -> Bool { !all.isEmpty && all.allSatisfy(test) }
        func category(_ scalar: Unicode.Scalar) -> Unicode.GeneralCategory { scalar.properties.generalCategory }
        switch name.description {
        case "isspace": return every(Text.isSpace)
        case "isalpha": return every(Text.isAlpha)
        case "isalnum": return every(Text.isAlphanumeric)
        case "isdecimal": return every { $0.properties.numericType == .decimal }
        case "isdigit": return every { [.decimal, .digit].contains($0.properties.numericType) }
        case "isnumeric": return every { $0.properties.numericType != nil }
        case "isascii": return all.allSatisfy { $0.value < 0x80 }
        case "isprintable": return all.allSatisfy(Text.isPrintable)
        case "isupper":
            return all.contains { $0.properties.isUppercase }
                && !all.contains { $0.properties.isLowercase || category($0) == .titlecaseLetter }
        case "islower":
            return all.contains { $0.properties.isLowercase }
                && !all.contains { $0.properties.isUppercase || category($0) == .titlecaseLetter }
        case "istitle": return isTitle(all)
        case "isidentifier":
            guard let first = all.first, first == "_" || first.properties.isXIDStart else { return false }
            return all.allSatisfy { $0.properties.isXIDContinue }
        default: return nil
        }
    }

    static func isAlpha(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
        default: false
        }
    }
    static func isAlphanumeric(_ scalar: Unicode.Scalar) -> Bool {
        isAlpha(scalar) || scalar.properties.numericType != nil
    }

    private func isTitle(_ all: [Unicode.Scalar]) -> Bool {
        var isInside = false
        var hasCase = false
        for scalar in all {
            let isCapital = scalar.properties.isUppercase || scalar.properties.generalCategory == .titlecaseLetter
            if isCapital ? isInside : scalar.properties.isLowercase && !isInside { return false }
            isInside = isCapital || scalar.properties.isLowercase
            hasCase = hasCase || isInside
        }
        return hasCase
    }

    /// Python's notion of what `repr` may print as it is.
    static func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator: false
        case .spaceSeparator: scalar == " "
        default: true
        }
    }
}
