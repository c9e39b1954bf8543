/// Reads the fields of a Protocol Buffers message (`https://protobuf.dev/programming-guides/encoding`), as far as
/// SentencePiece models need it: varints, 32-bit and 64-bit numbers and byte strings.
struct ProtobufReader {
    enum Value {
        case varint(UInt64)
        case fixed32(UInt32)
        case fixed64(UInt64)
        /// A string, bytes or a message: a range of the reader's bytes.
        case bytes(Range<Int>)

        var range: Range<Int>? { if case .bytes(let range) = self { range } else { nil } }
        var isTrue: Bool { if case .varint(let value) = self { value != 0 } else { false } }
        /// Field numbers and enums are small; larger values mean nothing to us.
        var integer: Int? { if case .varint(let value) = self { Int(exactly: value) } else { nil } }
        var float: Float? { if case .fixed32(let bits) = self { Float(bitPattern: bits) } else { nil } }
    }

    let bytes: [UInt8]
    private var position: Int
    private let end: Int

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        position = 0
        end = bytes.count
    }
    private init(_ bytes: [UInt8], _ range: Range<Int>) {
        self.bytes = bytes
        position = range.lowerBound
        end = range.upperBound
    }

    /// A reader of the message in `range`.
    func message(_ range: Range<Int>) -> ProtobufReader { ProtobufReader(bytes, range) }

    /// The next field, or nil at the end.
    ///
    /// - Throws: `ProtobufFault` when the bytes are no message.
    mutating func next() throws(ProtobufFault) -> (field: Int, value: Value)? {
        guard position < end else { return nil }
        let start = position
        let key = try varint()
        guard let field = Int(exactly: key >> 3), field > 0, field < 1 << 29 else {
            throw ProtobufFault(offset: start, reason: "a field number that cannot be")
        }
        switch key & 7 {
        case 0: return (field, .varint(try varint()))
        case 1: return (field, .fixed64(try fixed(8)))
        case 2:
            let length = try varint()
            guard length <= UInt64(end - position) else {
                throw ProtobufFault(offset: start, reason: "\(length) bytes are announced, \(end - position) are left")
            }
            defer { position += Int(length) }
            return (field, .bytes(position..<position + Int(length)))
        case 5: return (field, .fixed32(UInt32(truncatingIfNeeded: try fixed(4))))
        default: throw ProtobufFault(offset: start, reason: "a wire type that cannot be")
        }
    }

    private mutating func varint() throws(ProtobufFault) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while position < end, shift < 64 {
            let byte = bytes[position]
            position += 1
            value |= UInt64(byte & 0x7F) << shift
            if byte & 0x80 == 0 { return value }
            shift += 7
        }
        throw ProtobufFault(offset: position, reason: "a number that does not end")
    }

    private mutating func fixed(_ count: Int) throws(ProtobufFault) -> UInt64 {
        guard end - position >= count else { throw ProtobufFault(offset: position, reason: "a number is cut off") }
        var value: UInt64 = 0
        for k in 0..<count { value |= UInt64(bytes[position + k]) << UInt64(8 * k) }
        position += count
        return value
    }
}

struct ProtobufFault: Error {
    var offset: Int
    var reason: String
}
