/// A metadata value of a GGUF file (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
public enum GGUFValue: Sendable, Equatable {
    case uint8(UInt8)
    case int8(Int8)
    case uint16(UInt16)
    case int16(Int16)
    case uint32(UInt32)
    case int32(Int32)
    case uint64(UInt64)
    case int64(Int64)
    case float32(Float)
    case float64(Double)
    case bool(Bool)
    case string(ByteString)
    case uint8s([UInt8])
    case int8s([Int8])
    case uint16s([UInt16])
    case int16s([Int16])
    case uint32s([UInt32])
    case int32s([Int32])
    case uint64s([UInt64])
    case int64s([Int64])
    case float32s([Float])
    case float64s([Double])
    case bools([Bool])
    case strings(ByteStrings)

    public static func string(_ text: String) -> GGUFValue { .string(ByteString(text)) }

    /// The value of any integer type.
    public var intValue: Int? {
        switch self {
        case .uint8(let value): Int(value)
        case .int8(let value): Int(value)
        case .uint16(let value): Int(value)
        case .int16(let value): Int(value)
        case .uint32(let value): Int(value)
        case .int32(let value): Int(value)
        case .uint64(let value): Int(exactly: value)
        case .int64(let value): Int(value)
        default: nil
        }
    }
    /// The value of any number type.
    public var doubleValue: Double? {
        switch self {
        case .float32(let value): Double(value)
        case .float64(let value): value
        default: intValue.map(Double.init)
        }
    }
    public var boolValue: Bool? { if case .bool(let value) = self { value } else { nil } }
    public var bytesValue: ByteString? { if case .string(let value) = self { value } else { nil } }
    /// The text of a string that is UTF-8.
    public var stringValue: String? { bytesValue.flatMap { String(validating: $0.bytes, as: UTF8.self) } }
    public var stringsValue: ByteStrings? { if case .strings(let value) = self { value } else { nil } }
    public var floatsValue: [Float]? { if case .float32s(let value) = self { value } else { nil } }
    /// The elements of an array of any integer type.
    public var intsValue: [Int]? {
        switch self {
        case .uint8s(let values): values.map { Int($0) }
        case .int8s(let values): values.map { Int($0) }
        case .uint16s(let values): values.map { Int($0) }
        case .int16s(let values): values.map { Int($0) }
        case .uint32s(let values): values.map { Int($0) }
        case .int32s(let values): values.map { Int($0) }
        case .int64s(let values): values.map { Int($0) }
        case .uint64s(let values): values.allSatisfy { Int(exactly: $0) != nil } ? values.map { Int($0) } : nil
        default: nil
        }
    }

    /// The type's number in files; that of the elements for arrays.
    var typeNumber: UInt32 {
        switch self {
        case .uint8, .uint8s: 0
        case .int8, .int8s: 1
        case .uint16, .uint16s: 2
        case .int16, .int16s: 3
        case .uint32, .uint32s: 4
        case .int32, .int32s: 5
        case .float32, .float32s: 6
        case .bool, .bools: 7
        case .string, .strings: 8
        case .uint64, .uint64s: 10
        case .int64, .int64s: 11
        case .float64, .float64s: 12
        }
    }
    static let arrayTypeNumber: UInt32 = 9

    /// The number of elements of an array; nil for single values.
    public var elementCount: Int? {
        switch self {
        case .uint8s(let values): values.count
        case .int8s(let values): values.count
        case .uint16s(let values): values.count
        case .int16s(let values): values.count
        case .uint32s(let values): values.count
        case .int32s(let values): values.count
        case .uint64s(let values): values.count
        case .int64s(let values): values.count
        case .float32s(let values): values.count
        case .float64s(let values): values.count
        case .bools(let values): values.count
        case .strings(let values): values.count
        default: nil
        }
    }

    /// Appends the bytes of the value without its type, as files have them.
    public func appendBody(to output: inout [UInt8]) {
        func array<T: BitwiseCopyable>(_ values: [T]) { values.withUnsafeBytes { output.append(contentsOf: $0) } }
        func one<T: BitwiseCopyable>(_ value: T) { withUnsafeBytes(of: value) { output.append(contentsOf: $0) } }
        switch self {
        case .uint8(let value): one(value)
        case .int8(let value): one(value)
        case .uint16(let value): one(value)
        case .int16(let value): one(value)
        case .uint32(let value): one(value)
        case .int32(let value): one(value)
        case .uint64(let value): one(value)
        case .int64(let value): one(value)
        case .float32(let value): one(value)
        case .float64(let value): one(value)
        case .bool(let value): output.append(value ? 1 : 0)
        case .string(let value):
            one(UInt64(value.bytes.count))
            output += value.bytes
        case .uint8s(let values): array(values)
        case .int8s(let values): array(values)
        case .uint16s(let values): array(values)
        case .int16s(let values): array(values)
        case .uint32s(let values): array(values)
        case .int32s(let values): array(values)
        case .uint64s(let values): array(values)
        case .int64s(let values): array(values)
        case .float32s(let values): array(values)
        case .float64s(let values): array(values)
        case .bools(let values): output += values.map { $0 ? 1 : 0 }
        case .strings(let values):
            for value in values {
                one(UInt64(value.bytes.count))
                output += value.bytes
            }
        }
    }
}

/// Many byte strings in one piece of memory: a vocabulary costs little more than its bytes.
public struct ByteStrings: RandomAccessCollection, Sendable, Equatable {
    private var bytes: [UInt8] = []
    private var ends: [Int] = []

    public init() {}
    public init(_ elements: some Sequence<ByteString>) { for element in elements { append(element.bytes) } }

    public mutating func append(_ element: some Sequence<UInt8>) {
        bytes.append(contentsOf: element)
        ends.append(bytes.count)
    }

    public var startIndex: Int { 0 }
    public var endIndex: Int { ends.count }
    public subscript(position: Int) -> ByteString {
        ByteString(bytes[(position == 0 ? 0 : ends[position - 1])..<ends[position]])
    }
}
