/// The values of one page, taken one after the other.
enum ParquetValues {
    case none
    case plain(PageBytes, bit: Int)
    case indices(RunLengthDecoder)
    case booleans(RunLengthDecoder)
    case numbers([Int], at: Int)
    case lengths([Int], at: Int, PageBytes)
    case prefixes([Int], [Int], at: Int, last: [UInt8], PageBytes)
    case split(PageBytes, at: Int, count: Int)

    enum Value {
        case json(JSONValue)
        case bytes(ArraySlice<UInt8>)
    }

    mutating func next(_ leaf: ParquetLeaf, _ dictionary: [JSONValue]?) throws -> Value {
        switch self {
        case .none: throw PageBytes.short
        case .plain(var source, let bit):
            // Takes the page out while it is changed, so that it is not copied.
            self = .none
            defer { self = .plain(source, bit: leaf.type == .boolean ? bit + 1 : 0) }
            return try Self.plain(&source, bit: bit, leaf)
        case .indices(var decoder):
            self = .none
            defer { self = .indices(decoder) }
            let index = try decoder.next()
            guard let dictionary, index < dictionary.count else {
                throw PageBytes.Fault(reason: "a value is not in the dictionary")
            }
            return .json(dictionary[index])
        case .booleans(var decoder):
            self = .none
            defer { self = .booleans(decoder) }
            return .json(.bool(try decoder.next() == 1))
        case .numbers(let numbers, let index):
            guard index < numbers.count else { throw PageBytes.short }
            self = .numbers(numbers, at: index + 1)
            let number = numbers[index]
            return .json(.integer(leaf.type == .int32 ? Int(Int32(truncatingIfNeeded: number)) : number))
        case .lengths(let lengths, let index, var source):
            guard index < lengths.count else { throw PageBytes.short }
            self = .none
            defer { self = .lengths(lengths, at: index + 1, source) }
            return .bytes(try source.slice(lengths[index]))
        case .prefixes(let prefixes, let suffixes, let index, let last, var source):
            guard index < prefixes.count, prefixes[index] >= 0, prefixes[index] <= last.count else {
                throw PageBytes.short
            }
            self = .none
            let value = last[..<prefixes[index]] + (try source.slice(suffixes[index]))
            self = .prefixes(prefixes, suffixes, at: index + 1, last: Array(value), source)
            return .bytes(value)
        case .split(let source, let index, let count):
            guard index < count else { throw PageBytes.short }
            self = .split(source, at: index + 1, count: count)
            let bytes = (0..<leaf.length).map { source.bytes[source.position + $0 * count + index] }
            var one = PageBytes(bytes)
            return try Self.plain(&one, bit: 0, leaf)
        }
    }

    private static func plain(_ source: inout PageBytes, bit: Int, _ leaf: ParquetLeaf) throws -> Value {
        switch leaf.type {
        case .boolean:
            let index = source.position + (bit >> 3)
            guard index < source.end else { throw PageBytes.short }
            return .json(.bool(source.bytes[index] >> UInt8(bit & 7) & 1 == 1))
        case .int32: return .json(.integer(Int(Int32(truncatingIfNeeded: try source.little(4)))))
        case .int64: return .json(.integer(Int(truncatingIfNeeded: try source.little(8))))
        case .float: return .json(.double(Double(Float(bitPattern: UInt32(truncatingIfNeeded: try source.little(4))))))
        case .double: return .json(.double(Double(bitPattern: try source.little(8))))
        case .int96, .fixedLengthByteArray: return .bytes(try source.slice(leaf.length))
        case .byteArray:
            let length = Int(try source.little(4))
            return .bytes(try source.slice(length))
        }
    }
}
