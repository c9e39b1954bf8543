/// Reads code points one after the other.
struct ScalarCursor {
    private let scalars: [Unicode.Scalar]
    private var position = 0

    init(_ scalars: [Unicode.Scalar]) { self.scalars = scalars }

    var peek: Unicode.Scalar? { peek(0) }
    func peek(_ ahead: Int) -> Unicode.Scalar? {
        position + ahead < scalars.count ? scalars[position + ahead] : nil
    }
    mutating func next() -> Unicode.Scalar? {
        guard position < scalars.count else { return nil }
        position += 1
        return scalars[position - 1]
    }
    mutating func accept(_ scalar: Unicode.Scalar) -> Bool {
        guard peek == scalar else { return false }
        position += 1
        return true
    }
    mutating func upTo(_ end: Unicode.Scalar) -> [Unicode.Scalar] {
        var result: [Unicode.Scalar] = []
        while let scalar = peek, scalar != end {
            result.append(scalar)
            position += 1
        }
        return result
    }
    mutating func rest() -> [Unicode.Scalar] {
        defer { position = scalars.count }
        return Array(scalars[position...])
    }
    mutating func number() -> Int? {
        var digits = ""
        while let scalar = peek, ("0"..."9").contains(scalar) {
            digits.unicodeScalars.append(scalar)
            position += 1
        }
        return digits.isEmpty ? nil : Int(digits) ?? Int.max
    }
    /// What stands up to the brace that closes a replacement field.
    mutating func field() throws -> [Unicode.Scalar] {
        var depth = 0
        var result: [Unicode.Scalar] = []
        while let scalar = next() {
            if scalar == "{" { depth += 1 }
            if scalar == "}" {
                if depth == 0 { return result }
                depth -= 1
            }
            result.append(scalar)
        }
        throw TemplateFault("a format does not close '{'")
    }
}
