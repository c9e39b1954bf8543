/// Bytes of one page, read with every access checked.
struct PageBytes {
    let bytes: [UInt8]
    var position: Int
    let end: Int

    init(_ bytes: [UInt8], from position: Int = 0, to end: Int? = nil) {
        self.bytes = bytes
        self.position = position
        self.end = end ?? bytes.count
    }

    struct Fault: Error { var reason: String }
    static let short = Fault(reason: "a page ends inside of a value")

    mutating func byte() throws -> UInt8 {
        guard position < end else { throw Self.short }
        position += 1
        return bytes[position - 1]
    }
    /// A little-endian number of `count` bytes, at most 8.
    mutating func little(_ count: Int) throws -> UInt64 {
        guard count <= end - position else { throw Self.short }
        var value: UInt64 = 0
        for i in 0..<count { value |= UInt64(bytes[position + i]) << UInt64(8 * i) }
        position += count
        return value
    }
    mutating func slice(_ count: Int) throws -> ArraySlice<UInt8> {
        guard count >= 0, count <= end - position else { throw Self.short }
        defer { position += count }
        return bytes[position..<position + count]
    }
    mutating func varint() throws -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            let byte = try byte()
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return value }
        }
        throw Fault(reason: "a number is longer than 64 bits")
    }
    mutating func zigzag() throws -> Int {
        let value = try varint()
        return Int(bitPattern: UInt(value >> 1)) ^ -Int(value & 1)
    }
}

/// Runs of equal and of bit-packed numbers (parquet-format, Encodings.md: RLE), decoded one at a time, so that a run of
/// any length takes no memory.
struct RunLengthDecoder {
    private var source: PageBytes
    private let width: Int
    private var left: UInt64 = 0
    private var repeated: UInt64?
    private var bit = 0

    init(_ source: PageBytes, width: Int) throws {
        guard (0...32).contains(width) else { throw PageBytes.Fault(reason: "numbers of \(width) bits") }
        self.source = source
        self.width = width
    }

    mutating func next() throws -> Int {
        if width == 0 { return 0 }
        while left == 0 {
            if repeated == nil, bit > 0 { source.position += (bit + 7) / 8 }
            bit = 0
            let header = try source.varint()
            if header & 1 == 1 {
                guard header >> 1 <= UInt64(source.end) else { throw PageBytes.short }
                left = (header >> 1) * 8
                repeated = nil
            } else {
                left = header >> 1
                repeated = try source.little((width + 7) / 8)
            }
        }
        left -= 1
        if let repeated { return Int(repeated) }
        var value: UInt64 = 0
        var taken = 0
        while taken < width {
            let index = source.position + (bit >> 3)
            // The last group may be cut short after its last value.
            guard index < source.end else { throw PageBytes.short }
            let free = 8 - (bit & 7)
            let some = min(free, width - taken)
            let part = UInt64(source.bytes[index]) >> UInt64(bit & 7) & ((1 << UInt64(some)) - 1)
            value |= part << UInt64(taken)
            taken += some
            bit += some
        }
        if left == 0 {
            source.position += (bit + 7) / 8
            bit = 0
        }
        return Int(value)
    }
}

/// DELTA_BINARY_PACKED (parquet-format, Encodings.md).
enum DeltaNumbers {
    /// Values of a page that is held in memory as numbers.
    static let maximumCount = 1 << 22

    static func read(_ source: inout PageBytes, limit: Int) throws -> [Int] {
        let block = try source.varint()
        let parts = try source.varint()
        let total = try source.varint()
        var value = try source.zigzag()
        guard block > 0, block <= 1 << 20, block % 128 == 0, parts > 0, parts <= block / 8, block % parts == 0,
            (block / parts) % 8 == 0
        else { throw PageBytes.Fault(reason: "delta blocks of \(block) values in \(parts) parts") }
        guard total <= UInt64(min(limit, maximumCount)) else {
            throw PageBytes.Fault(reason: "\(total) delta values where at most \(min(limit, maximumCount)) can be")
        }
        let count = Int(total)
        let perPart = Int(block / parts)
        var result: [Int] = []
        if count > 0 { result.append(value) }
        while result.count < count {
            let least = try source.zigzag()
            let widths = Array(try source.slice(Int(parts)))
            for width in widths where result.count < count {
                guard width <= 64 else { throw PageBytes.Fault(reason: "delta values of \(width) bits") }
                // The last part may be cut short after its last value.
                let needed = min(perPart * Int(width) / 8, source.end - source.position)
                let start = source.position
                var bit = 0
                for _ in 0..<min(perPart, count - result.count) {
                    guard bit + Int(width) <= needed * 8 else { throw PageBytes.short }
                    var delta: UInt64 = 0
                    var taken = 0
                    while taken < Int(width) {
                        let some = min(8 - (bit & 7), Int(width) - taken)
                        let mask: UInt64 = (1 << UInt64(some)) - 1
                        delta |= (UInt64(source.bytes[start + (bit >> 3)]) >> UInt64(bit & 7) & mask) << UInt64(taken)
                        taken += some
                        bit += some
                    }
                    value = value &+ least &+ Int(bitPattern: UInt(delta))
                    result.append(value)
                }
                source.position = start + needed
            }
        }
        return result
    }
}
