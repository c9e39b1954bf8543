/// A value of Thrift's compact protocol (apache/thrift, thrift-compact-protocol.md).
enum ThriftValue: Sendable {
    case bool(Bool)
    case integer(Int)
    case double(Double)
    case bytes(ArraySlice<UInt8>)
    case list([ThriftValue])
    case structure([(id: Int, value: ThriftValue)])

    subscript(id: Int) -> ThriftValue? {
        guard case .structure(let fields) = self else { return nil }
        return fields.first { $0.id == id }?.value
    }
    var int: Int? { if case .integer(let value) = self { value } else { nil } }
    var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
    var list: [ThriftValue]? { if case .list(let value) = self { value } else { nil } }
    var text: String? {
        guard case .bytes(let bytes) = self else { return nil }
        return String(validating: bytes, as: UTF8.self)
    }
}

/// Reads structures from untrusted bytes: bounded depth, bounded number of values.
struct ThriftReader {
    static let maximumDepth = 24
    /// Values of one footer; those of a file with ten thousand column chunks are about half as many.
    static let maximumValues = 1 << 20

    struct Fault: Error { var reason: String }

    private let bytes: [UInt8]
    private(set) var position: Int
    private var values = 0

    init(_ bytes: [UInt8], at position: Int = 0) {
        self.bytes = bytes
        self.position = position
    }

    private mutating func byte() throws -> UInt8 {
        guard position < bytes.count else { throw Fault(reason: "it ends inside of a value") }
        position += 1
        return bytes[position - 1]
    }

    private mutating func varint() throws -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            let byte = try byte()
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return value }
        }
        throw Fault(reason: "a number is longer than 64 bits")
    }

    private mutating func zigzag() throws -> Int {
        let value = try varint()
        return Int(bitPattern: UInt(value >> 1)) ^ -Int(value & 1)
    }

    private mutating func count(_ value: UInt64) throws -> Int {
        guard value <= UInt64(bytes.count - position) else { throw Fault(reason: "a length runs past the end") }
        return Int(value)
    }

    /// A structure at the current place.
    mutating func structure(depth: Int = 0) throws -> ThriftValue {
        guard depth < Self.maximumDepth else { throw Fault(reason: "nested deeper than \(Self.maximumDepth) levels") }
        var fields: [(id: Int, value: ThriftValue)] = []
        var last = 0
        while true {
            let header = try byte()
            if header == 0 { return .structure(fields) }
            let id = header >> 4 == 0 ? try zigzag() : last + Int(header >> 4)
            guard (Int(Int16.min)...Int(Int16.max)).contains(id) else {
                throw Fault(reason: "a field has a wild number")
            }
            last = id
            let type = header & 15
            // In a field, the type itself says which of the two a boolean is.
            let value: ThriftValue = type <= 2 ? .bool(type == 1) : try self.value(type, depth: depth + 1)
            values += 1
            guard values <= Self.maximumValues else { throw Fault(reason: "more than \(Self.maximumValues) values") }
            fields.append((id, value))
        }
    }

    private mutating func value(_ type: UInt8, depth: Int) throws -> ThriftValue {
        switch type {
        case 1, 2: return .bool(try byte() == 1)
        case 3: return .integer(Int(Int8(bitPattern: try byte())))
        case 4, 5, 6: return .integer(try zigzag())
        case 7:
            var bits: UInt64 = 0
            for shift in stride(from: UInt64(0), to: 64, by: 8) { bits |= UInt64(try byte()) << shift }
            return .double(Double(bitPattern: bits))
        case 8:
            let length = try count(try varint())
            defer { position += length }
            return .bytes(bytes[position..<position + length])
        case 9, 10: return try list(depth: depth)
        case 11: return try map(depth: depth)
        case 12: return try structure(depth: depth)
        default: throw Fault(reason: "a value has the unknown type \(type)")
        }
    }

    private mutating func charge(_ count: Int, depth: Int) throws {
        values += count
        guard values <= Self.maximumValues else { throw Fault(reason: "more than \(Self.maximumValues) values") }
        guard depth < Self.maximumDepth else { throw Fault(reason: "nested deeper than \(Self.maximumDepth) levels") }
    }

    private mutating func list(depth: Int) throws -> ThriftValue {
        let header = try byte()
        let size = header >> 4 == 15 ? try varint() : UInt64(header >> 4)
        // Every element takes a byte at least.
        let count = try count(size)
        try charge(count, depth: depth)
        var elements: [ThriftValue] = []
        for _ in 0..<count { elements.append(try value(header & 15, depth: depth + 1)) }
        return .list(elements)
    }

    private mutating func map(depth: Int) throws -> ThriftValue {
        let count = try count(try varint())
        guard count > 0 else { return .list([]) }
        try charge(2 * count, depth: depth)
        let types = try byte()
        var elements: [ThriftValue] = []
        for _ in 0..<count {
            elements.append(try value(types >> 4, depth: depth + 1))
            elements.append(try value(types & 15, depth: depth + 1))
        }
        return .list(elements)
    }
}
