/// Snappy's block format (google/snappy, format_description.txt), as Parquet pages use it.
enum Snappy {
    enum Fault: Error { case malformed }

    /// - Throws: `Fault` for anything that does not unpack to exactly `size` bytes.
    static func unpack(_ bytes: [UInt8], size: Int) throws -> [UInt8] {
        var reader = SnappyReader(bytes: bytes)
        guard try reader.length() == size else { throw Fault.malformed }
        var output: [UInt8] = []
        // Grown as the data come: the size is only a claim.
        output.reserveCapacity(min(size, bytes.count * 4))
        while reader.position < bytes.count {
            let tag = try reader.byte()
            let (length, offset): (Int, Int)
            switch tag & 3 {
            case 0:
                try reader.copyLiteral(tag: tag, into: &output, limit: size)
                continue
            case 1: (length, offset) = (Int(tag >> 2 & 7) + 4, Int(tag >> 5) << 8 | Int(try reader.byte()))
            case 2: (length, offset) = (Int(tag >> 2) + 1, try reader.little(2))
            default: (length, offset) = (Int(tag >> 2) + 1, try reader.little(4))
            }
            guard offset > 0, offset <= output.count, length <= size - output.count else { throw Fault.malformed }
            let start = output.count - offset
            // The copy may overlap what it writes.
            for i in 0..<length { output.append(output[start + i]) }
        }
        guard output.count == size else { throw Fault.malformed }
        return output
    }
}

private struct SnappyReader {
    let bytes: [UInt8]
    var position = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    mutating func byte() throws -> UInt8 {
        guard position < bytes.count else { throw Snappy.Fault.malformed }
        position += 1
        return bytes[position - 1]
    }
    mutating func little(_ count: Int) throws -> Int {
        var value = 0
        for i in 0..<count { value |= Int(try byte()) << (8 * i) }
        return value
    }
    mutating func length() throws -> Int {
        var value = 0
        for shift in stride(from: 0, to: 35, by: 7) {
            let byte = try byte()
            value |= Int(byte & 0x7F) << shift
            if byte < 0x80 { return value }
        }
        throw Snappy.Fault.malformed
    }
    mutating func copyLiteral(tag: UInt8, into output: inout [UInt8], limit: Int) throws {
        let short = Int(tag >> 2)
        let length = short < 60 ? short + 1 : try little(short - 59) + 1
        guard length <= bytes.count - position, length <= limit - output.count else { throw Snappy.Fault.malformed }
        output += bytes[position..<position + length]
        position += length
    }
}
