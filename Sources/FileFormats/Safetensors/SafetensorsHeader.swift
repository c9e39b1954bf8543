/// A tensor of a safetensors file.
public struct TensorEntry: Sendable {
    public var name: String
    public var type: ElementType
    public var shape: [Int]
    /// Where its bytes lie, counted from the start of the file's data section.
    public var byteRange: Range<Int>

    public init(name: String, type: ElementType, shape: [Int], byteRange: Range<Int>) {
        self.name = name
        self.type = type
        self.shape = shape
        self.byteRange = byteRange
    }

    public var elementCount: Int { FileFormats.elementCount(of: shape) ?? 0 }
}

/// The header of a safetensors file, checked on its own and against the size of the data.
///
/// It is parsed straight into entries, so that a hostile header costs memory in proportion to its size.
struct SafetensorsHeader {
    static let sizeLimit = 100_000_000
    static let tensorLimit = 200_000
    static let dimensionLimit = 64

    var metadata: [(String, String)] = []
    /// In the order of their data.
    var entries: [TensorEntry] = []

    /// - Parameter dataSize: bytes after the header.
    init(_ bytes: UnsafeBufferPointer<UInt8>, dataSize: Int) throws(SafetensorsFault) {
        guard bytes.first == UInt8(ascii: "{") else { throw .headerStart(found: bytes.first ?? 0) }
        do {
            var parser = JSONParser(bytes: bytes, maximumDepth: 4, duplicateKeys: .refuse)
            try parse(&parser)
        } catch let error as SafetensorsFault {
            throw error
        } catch let error as JSONError {
            throw error.kind == .encoding ? .headerNotUTF8(offset: error.offset) : .headerNotJSON(error)
        } catch {
            preconditionFailure("unexpected error \(error)")
        }
        try checkLayout(dataSize: dataSize)
    }

    private mutating func parse(_ parser: inout JSONParser) throws {
        var names: Set<ByteString> = []
        try parser.parseMembers { key, parser in
            guard names.insert(ByteString(key)).inserted else { throw SafetensorsFault.duplicateName(key) }
            if key.hasSameBytes(as: "__metadata__") {
                metadata = try Self.metadata(&parser)
                return
            }
            guard entries.count < Self.tensorLimit else {
                throw SafetensorsFault.tooManyTensors(limit: Self.tensorLimit)
            }
            entries.append(try Self.entry(key, &parser))
        }
        parser.skipSpace()
        guard parser.position == parser.bytes.count else { throw parser.error("text after the end of the header") }
    }

    private static func metadata(_ parser: inout JSONParser) throws -> [(String, String)] {
        var result: [(String, String)] = []
        var names: Set<ByteString> = []
        guard parser.nextByte == UInt8(ascii: "{") else { throw SafetensorsFault.metadataNotText(key: nil) }
        try parser.parseMembers { key, parser in
            guard names.insert(ByteString(key)).inserted else { throw SafetensorsFault.duplicateName(key) }
            guard parser.nextByte == UInt8(ascii: "\"") else { throw SafetensorsFault.metadataNotText(key: key) }
            result.append((key, try parser.parseString()))
        }
        return result
    }

    private static func entry(_ name: String, _ parser: inout JSONParser) throws -> TensorEntry {
        var typeName: String?
        var shape: [Int]?
        var offsets: [Int]?
        func malformed(_ reason: String) -> SafetensorsFault { .malformedEntry(tensor: name, reason: reason) }
        guard parser.nextByte == UInt8(ascii: "{") else { throw malformed("its entry is not an object") }
        try parser.parseMembers { key, parser in
            switch ByteString(key) {
            case "dtype":
                guard typeName == nil else { throw malformed("\"dtype\" occurs twice") }
                guard parser.nextByte == UInt8(ascii: "\"") else { throw malformed("\"dtype\" is not a string") }
                typeName = try parser.parseString()
            case "shape":
                guard shape == nil else { throw malformed("\"shape\" occurs twice") }
                shape = try parser.parseSizes(atMost: dimensionLimit) { malformed("\"shape\" \($0)") }
            case "data_offsets":
                guard offsets == nil else { throw malformed("\"data_offsets\" occurs twice") }
                offsets = try parser.parseSizes(atMost: 2) { malformed("\"data_offsets\" \($0)") }
            default: throw malformed("unknown field \(quoted(key))")
            }
        }
        guard let typeName else { throw malformed("\"dtype\" is missing") }
        guard let shape else { throw malformed("\"shape\" is missing") }
        guard let offsets else { throw malformed("\"data_offsets\" is missing") }
        guard offsets.count == 2 else { throw malformed("\"data_offsets\" has not two numbers") }
        guard let type = ElementType(rawValue: typeName), type.rawValue.hasSameBytes(as: typeName) else {
            throw SafetensorsFault.unknownType(tensor: name, type: typeName)
        }
        guard offsets[0] <= offsets[1] else {
            throw SafetensorsFault.offsetsReversed(tensor: name, begin: offsets[0], end: offsets[1])
        }
        return TensorEntry(name: name, type: type, shape: shape, byteRange: offsets[0]..<offsets[1])
    }

    private mutating func checkLayout(dataSize: Int) throws(SafetensorsFault) {
        for entry in entries {
            guard let expected = entry.type.byteCount(of: entry.shape) else {
                throw checkedProduct(elementCount(of: entry.shape) ?? .max, entry.type.bits) == nil
                    ? .shapeOverflow(tensor: entry.name, shape: entry.shape)
                    : .partialByte(tensor: entry.name, type: entry.type, shape: entry.shape)
            }
            guard expected == entry.byteRange.count else {
                throw .sizeMismatch(
                    tensor: entry.name, type: entry.type, shape: entry.shape, expected: expected,
                    found: entry.byteRange.count)
            }
        }
        // By end too, so that an empty tensor stands before the one that begins where it lies.
        entries.sort {
            let (a, b) = ($0.byteRange, $1.byteRange)
            return (a.lowerBound, a.upperBound) < (b.lowerBound, b.upperBound)
        }
        var end = 0
        for (index, entry) in entries.enumerated() {
            guard entry.byteRange.upperBound <= dataSize else {
                throw .offsetsPastEnd(tensor: entry.name, end: entry.byteRange.upperBound, dataSize: dataSize)
            }
            let begin = entry.byteRange.lowerBound
            guard begin <= end else { throw .hole(before: entry.name, begin: end, end: begin) }
            guard begin == end else {
                throw .overlap(tensor: entry.name, other: entries[index - 1].name, offset: begin)
            }
            end = entry.byteRange.upperBound
        }
        guard end == dataSize else { throw .bytesAfterLastTensor(count: dataSize - end) }
    }
}

extension JSONParser {
    /// The next byte that is no white space; nil at the end.
    var nextByte: UInt8? {
        mutating get {
            skipSpace()
            return position < bytes.count ? bytes[position] : nil
        }
    }

    /// Parses an object, calling `member` with the parser in front of each value.
    mutating func parseMembers(_ member: (String, inout JSONParser) throws -> Void) throws {
        guard nextByte == UInt8(ascii: "{") else { throw error("expected an object") }
        position += 1
        if nextByte == UInt8(ascii: "}") {
            position += 1
            return
        }
        while true {
            guard nextByte == UInt8(ascii: "\"") else { throw error("expected a key") }
            let key = try parseString()
            guard nextByte == UInt8(ascii: ":") else { throw error("expected ':'") }
            position += 1
            try member(key, &self)
            let byte = nextByte
            if byte != nil { position += 1 }
            if byte == UInt8(ascii: "}") { return }
            guard byte == UInt8(ascii: ",") else { throw error("expected ',' or '}'") }
        }
    }

    /// Parses an array of at most `limit` integers from 0 on.
    mutating func parseSizes(atMost limit: Int, _ malformed: (String) -> SafetensorsFault) throws -> [Int] {
        guard nextByte == UInt8(ascii: "[") else { throw malformed("is not an array") }
        position += 1
        var sizes: [Int] = []
        if nextByte == UInt8(ascii: "]") {
            position += 1
            return []
        }
        while true {
            guard let byte = nextByte, byte == UInt8(ascii: "-") || (0x30...0x39).contains(byte) else {
                throw malformed("holds something that is no number")
            }
            guard case .integer(let size) = try parseNumber(), size >= 0 else {
                throw malformed("holds a number that is negative, broken or too large")
            }
            guard sizes.count < limit else { throw malformed("has more than \(limit) numbers") }
            sizes.append(size)
            let next = nextByte
            if next != nil { position += 1 }
            if next == UInt8(ascii: "]") { return sizes }
            guard next == UInt8(ascii: ",") else { throw error("expected ',' or ']'") }
        }
    }
}
