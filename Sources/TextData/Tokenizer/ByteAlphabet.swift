/// The printable stand-ins of byte-level vocabularies: each byte is written as one scalar (GPT-2's `bytes_to_unicode`).
///
/// Bytes that are visible in Latin-1 stand for themselves; the other 68 are numbered from U+0100 on.
enum ByteAlphabet {
    /// The scalar of each byte.
    static let scalars: [UInt32] = {
        var next: UInt32 = 0x100
        return (0..<256 as Range<UInt32>).map { byte in
            if (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || (0xAE...0xFF).contains(byte) {
                return byte
            }
            defer { next += 1 }
            return next
        }
    }()

    /// The byte of each scalar below U+0144, or -1.
    private static let bytes: [Int16] = {
        var table = [Int16](repeating: -1, count: 0x144)
        for (byte, scalar) in scalars.enumerated() { table[Int(scalar)] = Int16(byte) }
        return table
    }()

    /// The byte a scalar stands for, or nil when it is not of the alphabet.
    @inline(__always)
    static func byte(of scalar: UInt32) -> UInt8? {
        guard scalar < 0x144 else { return nil }
        let byte = bytes[Int(scalar)]
        return byte < 0 ? nil : UInt8(byte)
    }

    /// The bytes that a token of a byte-level vocabulary stands for; nil when a scalar is not of the alphabet.
    static func decode(_ token: Span<UInt8>) -> [UInt8]? {
        var decoded: [UInt8] = []
        decoded.reserveCapacity(token.count)
        var i = 0
        while i < token.count {
            let scalar = decodeScalar(token, at: i)
            guard let byte = byte(of: scalar.value) else { return nil }
            decoded.append(byte)
            i += scalar.length
        }
        return decoded
    }

    /// Bytes as a token of a byte-level vocabulary.
    static func encode(_ bytes: some Sequence<UInt8>) -> [UInt8] {
        var encoded: [UInt8] = []
        for byte in bytes { appendScalar(scalars[Int(byte)], to: &encoded) }
        return encoded
    }
}
