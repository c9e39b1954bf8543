/// Text as bytes: equal when the bytes are equal.
///
/// Swift's `String ==` is canonical equivalence, which takes distinct tokens and names of Indic vocabularies for one;
/// every table of names, tokens or merges is keyed by this type instead.
public struct ByteString: Hashable, Comparable, Sendable, ExpressibleByStringLiteral, CustomStringConvertible {
    public var bytes: [UInt8]

    public init(_ bytes: [UInt8]) { self.bytes = bytes }
    public init(_ bytes: some Sequence<UInt8>) { self.bytes = Array(bytes) }
    public init(_ text: String) { bytes = Array(text.utf8) }
    public init(stringLiteral value: String) { bytes = Array(value.utf8) }

    /// The bytes as text; invalid UTF-8 becomes U+FFFD.
    public var description: String { String(decoding: bytes, as: UTF8.self) }

    public static func < (a: ByteString, b: ByteString) -> Bool { a.bytes.lexicographicallyPrecedes(b.bytes) }
}

extension String {
    /// Equality of the UTF-8 bytes, which is what names in files mean; `==` is canonical equivalence.
    public func hasSameBytes(as other: String) -> Bool { utf8.elementsEqual(other.utf8) }
}

/// Text from a file, fit to be shown: in quotes, control characters escaped, cut when long.
public func quoted(_ text: String) -> String {
    var result = "\""
    for (count, scalar) in text.unicodeScalars.enumerated() {
        if count == 200 { return result + "…\"" }
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate:
            // Joiners are letters' business in Indic scripts and harmless; the rest could disturb a terminal.
            if scalar == "\u{200C}" || scalar == "\u{200D}" {
                result.unicodeScalars.append(scalar)
            } else {
                result += "\\u{" + String(scalar.value, radix: 16) + "}"
            }
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}

/// The first of some names for a message, and how many more there are.
public func shortList(_ names: [String], _ limit: Int = 3) -> String {
    guard names.count > limit else {
        return names.count < 2
            ? names.first ?? "" : names.dropLast().joined(separator: ", ") + " and \(names[names.count - 1])"
    }
    return names.prefix(limit).joined(separator: ", ") + " and \(names.count - limit) more"
}

/// Text fit for a terminal: control characters, and those that turn the direction of writing over, as escapes, so that
/// text from a file cannot steer what shows it. Line breaks and tabs stay.
public func printable(_ text: String) -> String {
    func isSuspect(_ byte: UInt8) -> Bool {
        byte < 0x20 && byte != 0x0A && byte != 0x09 || byte == 0x7F || byte == 0xC2 || byte == 0xE2
    }
    guard text.utf8.contains(where: isSuspect) else { return text }
    var result = ""
    for scalar in text.unicodeScalars {
        switch scalar.value {
        case 0x0A, 0x09: result.unicodeScalars.append(scalar)
        case 0..<0x20, 0x7F..<0xA0:
            result += "\\x" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
        // Embeddings, overrides and isolates (UAX #9); marks are letters' business in Arabic and Hebrew.
        case 0x202A...0x202E, 0x2066...0x2069: result += "\\u{" + String(scalar.value, radix: 16) + "}"
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result
}
