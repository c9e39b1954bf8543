import Foundation

/// A tensor of a GGUF file.
public struct GGUFTensorInfo: Sendable {
    public var name: String
    public var type: GGMLType
    /// Row-major: the reverse of the order in the file, where the row's length comes first.
    public var shape: [Int]
    /// Where its bytes lie, counted from the start of the data section.
    public var byteRange: Range<Int>
    /// The part that holds it, of a file that was split.
    public var part = 0

    public var elementCount: Int { shape.reduce(1, *) }
}

/// A GGUF file, version 2 or 3: metadata and tensor list read and checked, data mapped.
///
/// The first part of a file that was split (`name-00001-of-00003.gguf`) brings the others, which stand beside it.
public final class GGUFFile: Sendable {
    static let dimensionLimit = 4
    static let defaultAlignment = 32

    /// One file on the disk.
    private struct Part {
        var file: MappedFile
        var dataStart: Int
    }

    public let path: String
    public let version: UInt32
    public let alignment: Int
    /// In file order.
    public let metadata: [(key: String, value: GGUFValue)]
    /// In file order, part by part.
    public let tensors: [GGUFTensorInfo]
    private let metadataIndices: [ByteString: Int]
    private let tensorIndices: [ByteString: Int]
    private let parts: [Part]

    /// Of each part, in order.
    public var paths: [String] { parts.map(\.file.path) }

    /// - Throws: `FileError.missing`, `.notAFile`, `.io`; `.gguf` for anything that the format does not allow.
    public init(path: String) throws {
        let (first, part) = try Self.open(path)
        version = first.version
        alignment = first.alignment
        metadata = first.metadata
        metadataIndices = first.keys
        var parts = [part], tensors = first.tensors, names = first.names
        for (index, path) in try GGUFSplit.siblings(path, first.value(of:)).enumerated() {
            let (reader, part) = try Self.open(path)
            for var tensor in reader.tensors {
                tensor.part = index + 1
                guard names.updateValue(tensors.count, forKey: ByteString(tensor.name)) == nil else {
                    throw FileError.gguf(path: path, .duplicateTensor(tensor.name))
                }
                tensors.append(tensor)
            }
            parts.append(part)
        }
        if parts.count > 1, let expected = first.value(of: GGUFSplit.tensorCountKey)?.intValue,
            expected != tensors.count
        {
            throw FileError.gguf(path: path, .split("its parts hold \(tensors.count) tensors, expected \(expected)"))
        }
        self.tensors = tensors
        tensorIndices = names
        self.parts = parts
        self.path = path
    }

    private static func open(_ path: String) throws -> (GGUFReader, Part) {
        let descriptor = try Descriptor.reading(path, what: "GGUF file")
        try Substitute.refuse(descriptor.read(Substitute.headSize, at: 0), path: path)
        do {
            var reader = try GGUFReader(descriptor)
            try reader.readHeader()
            let file = try MappedFile(descriptor)
            guard file.bytes.count == reader.fileSize else {
                throw FileError.changed(path: path, expected: reader.fileSize, found: file.bytes.count)
            }
            return (reader, Part(file: file, dataStart: reader.dataStart))
        } catch let fault as GGUFFault {
            throw FileError.gguf(path: path, fault)
        }
    }

    public subscript(key: String) -> GGUFValue? { metadataIndices[ByteString(key)].map { metadata[$0].value } }

    public func tensor(named name: String) -> GGUFTensorInfo? { tensorIndices[ByteString(name)].map { tensors[$0] } }

    /// The bytes of one of this file's tensors, valid while this object lives.
    public func withBytes(of tensor: GGUFTensorInfo) -> UnsafeRawBufferPointer {
        let range = tensor.byteRange, part = parts[tensor.part]
        guard !range.isEmpty else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        precondition(range.upperBound <= part.file.bytes.count - part.dataStart, "the tensor is of another file")
        return UnsafeRawBufferPointer(
            rebasing: part.file.bytes[part.dataStart + range.lowerBound..<part.dataStart + range.upperBound])
    }

    /// Reads a range of a tensor's bytes: for one pass over large tensors, since mapped pages that were touched count
    /// as the process's memory. May be called on many threads at once.
    ///
    /// - Precondition: `buffer` has as many bytes as `range`.
    /// - Throws: `FileError.io`; `.changed` when the file ends earlier than it did.
    public func read(
        _ range: Range<Int>, of tensor: GGUFTensorInfo, into buffer: UnsafeMutableRawBufferPointer
    ) throws {
        precondition(range.count == buffer.count && range.upperBound <= tensor.byteRange.count && range.lowerBound >= 0)
        let part = parts[tensor.part]
        let start = part.dataStart + tensor.byteRange.lowerBound + range.lowerBound
        let count = try part.file.descriptor.read(into: buffer, at: start)
        if count < buffer.count {
            try checkUnchanged()
            throw FileError.io(operation: "read", path: part.file.path, code: EIO)
        }
    }

    /// - Throws: `FileError.changed` when the file was cut or grew since it was opened.
    public func checkUnchanged() throws { for part in parts { try part.file.checkUnchanged() } }
}

/// The names and keys of a GGUF file that is split into parts, as llama.cpp's gguf-split writes them.
public enum GGUFSplit {
    public static let indexKey = "split.no", countKey = "split.count", tensorCountKey = "split.tensors.count"
    static let partLimit = 1000

    /// Part `index`, from 0, of `count`: `path` itself when there is but one.
    public static func path(_ path: String, part index: Int, of count: Int) -> String {
        guard count > 1 else { return path }
        let isNamed = path.utf8.suffix(5).elementsEqual(".gguf".utf8)
        let stem = isNamed ? String(decoding: path.utf8.dropLast(5), as: UTF8.self) : path
        return "\(stem)-\(padded(index + 1))-of-\(padded(count)).gguf"
    }

    private static func padded(_ number: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, 5 - digits.utf8.count)) + digits
    }

    /// The other parts of the file whose first part stands at `path`.
    fileprivate static func siblings(_ path: String, _ value: (String) -> GGUFValue?) throws -> [String] {
        guard let count = value(countKey)?.intValue, count != 1 else { return [] }
        func fault(_ reason: String) -> FileError { .gguf(path: path, .split(reason)) }
        guard (2...partLimit).contains(count) else {
            throw fault("\(countKey) is \(count), expected 1 to \(partLimit)")
        }
        let suffix = "-\(padded(1))-of-\(padded(count)).gguf"
        guard value(indexKey)?.intValue == 0 else {
            let index = value(indexKey)?.intValue.map { "\($0 + 1)" } ?? "some part"
            throw fault("it is part \(index) of \(count); give the first part, whose name ends in '\(suffix)'")
        }
        guard path.utf8.count > suffix.utf8.count, path.utf8.suffix(suffix.utf8.count).elementsEqual(suffix.utf8) else {
            throw fault("it is the first of \(count) parts, but its name does not end in '\(suffix)'; rename it back")
        }
        let stem = String(decoding: path.utf8.dropLast(suffix.utf8.count), as: UTF8.self)
        return (1..<count).map { Self.path(stem, part: $0, of: count) }
    }
}

/// Reads the part of a GGUF file before its data, piece by piece: a file cut short is an error at every byte.
private struct GGUFReader {
    private static let keyLimit = 65_535
    private static let keyCountLimit = 65_536
    private static let tensorCountLimit = 200_000
    private static let nameLimit = 1024
    private static let alignmentLimit = 1 << 20

    private let descriptor: Descriptor
    let fileSize: Int
    private var buffer: [UInt8] = []
    private var bufferStart = 0
    private var position = 0

    var version: UInt32 = 0
    var alignment = GGUFFile.defaultAlignment
    var metadata: [(key: String, value: GGUFValue)] = []
    var keys: [ByteString: Int] = [:]
    var tensors: [GGUFTensorInfo] = []
    var names: [ByteString: Int] = [:]
    var dataStart = 0

    init(_ descriptor: Descriptor) throws {
        self.descriptor = descriptor
        fileSize = try descriptor.size()
    }

    // MARK: Bytes

    private mutating func bytes(_ count: Int, _ part: @autoclosure () -> String) throws -> ArraySlice<UInt8> {
        guard count <= fileSize - position else { throw GGUFFault.cutShort(offset: position, part: part()) }
        if position < bufferStart || position + count > bufferStart + buffer.count {
            buffer = try descriptor.read(min(max(count, 1 << 16), fileSize - position), at: position)
            bufferStart = position
            guard buffer.count >= count else { throw GGUFFault.cutShort(offset: position, part: part()) }
        }
        let start = position - bufferStart
        position += count
        return buffer[start..<start + count]
    }

    private mutating func number<T: BitwiseCopyable>(_ part: @autoclosure () -> String) throws -> T {
        try bytes(MemoryLayout<T>.size, part()).withUnsafeBytes { $0.loadUnaligned(as: T.self) }
    }

    /// A count whose elements take at least `unit` bytes each.
    private mutating func count(_ what: String, unit: Int, limit: Int = .max) throws -> Int {
        let start = position
        let found: UInt64 = try number(what)
        let possible = min(limit, (fileSize - position) / unit)
        guard found <= UInt64(possible) else {
            throw GGUFFault.count(of: what, offset: start, found: found, limit: possible)
        }
        return Int(found)
    }

    private mutating func name(_ what: String, limit: Int) throws -> String {
        let start = position
        let length = try count("the length of \(what)", unit: 1, limit: limit)
        guard let text = String(validating: try bytes(length, what), as: UTF8.self) else {
            throw GGUFFault.malformedKey(offset: start, reason: "is not UTF-8")
        }
        guard !text.isEmpty else { throw GGUFFault.malformedKey(offset: start, reason: "is empty") }
        return text
    }

    func value(of key: String) -> GGUFValue? { keys[ByteString(key)].map { metadata[$0].value } }

    // MARK: Parts

    mutating func readHeader() throws {
        let magic = try bytes(4, "the magic number")
        guard magic.elementsEqual("GGUF".utf8) else { throw GGUFFault.magic(found: Array(magic)) }
        version = try number("the version")
        guard version == 2 || version == 3 else {
            throw version.byteSwapped == 2 || version.byteSwapped == 3 ? GGUFFault.bigEndian : .version(version)
        }
        let tensorCount = try count("the number of tensors", unit: 25, limit: Self.tensorCountLimit)
        let keyCount = try count("the number of keys", unit: 14, limit: Self.keyCountLimit)
        for _ in 0..<keyCount { try readPair() }
        if let index = keys["general.alignment"] {
            guard case .uint32(let value) = metadata[index].value else {
                throw GGUFFault.alignment("is not of type uint32")
            }
            guard value.nonzeroBitCount == 1, value <= Self.alignmentLimit else {
                throw GGUFFault.alignment("is \(value), expected a power of two up to \(Self.alignmentLimit)")
            }
            alignment = Int(value)
        }
        var offsets: [UInt64] = []
        for _ in 0..<tensorCount { offsets.append(try readTensor()) }
        dataStart = (position + alignment - 1) / alignment * alignment
        try place(offsets)
    }

    private mutating func readPair() throws {
        let key = try name("a key", limit: Self.keyLimit)
        guard keys.updateValue(metadata.count, forKey: ByteString(key)) == nil else {
            throw GGUFFault.duplicateKey(key)
        }
        metadata.append((key, try value(of: key)))
    }

    private mutating func value(of key: String) throws -> GGUFValue {
        let part = "the value of \(quoted(key))"
        let type: UInt32 = try number(part)
        switch type {
        case 0: return .uint8(try number(part))
        case 1: return .int8(try number(part))
        case 2: return .uint16(try number(part))
        case 3: return .int16(try number(part))
        case 4: return .uint32(try number(part))
        case 5: return .int32(try number(part))
        case 6: return .float32(try number(part))
        case 7: return .bool(try booleans(1, key)[0])
        case 8:
            let length = try count("the length of \(part)", unit: 1)
            return .string(ByteString(try bytes(length, part)))
        case GGUFValue.arrayTypeNumber: return try array(of: key)
        case 10: return .uint64(try number(part))
        case 11: return .int64(try number(part))
        case 12: return .float64(try number(part))
        default: throw GGUFFault.valueType(key: key, found: type)
        }
    }

    private mutating func booleans(_ count: Int, _ key: String) throws -> [Bool] {
        try bytes(count, "the value of \(quoted(key))").map { byte in
            guard byte <= 1 else { throw GGUFFault.boolean(key: key, found: byte) }
            return byte == 1
        }
    }

    private mutating func numbers<T: BitwiseCopyable>(_ key: String) throws -> [T] {
        let size = MemoryLayout<T>.stride
        let count = try count("the length of array \(quoted(key))", unit: size)
        let slice = try bytes(count * size, "array \(quoted(key))")
        return [T](unsafeUninitializedCapacity: count) { target, initialized in
            slice.withUnsafeBytes { UnsafeMutableRawBufferPointer(target).copyMemory(from: $0) }
            initialized = count
        }
    }

    private mutating func array(of key: String) throws -> GGUFValue {
        let type: UInt32 = try number("array \(quoted(key))")
        switch type {
        case 0: return .uint8s(try numbers(key))
        case 1: return .int8s(try numbers(key))
        case 2: return .uint16s(try numbers(key))
        case 3: return .int16s(try numbers(key))
        case 4: return .uint32s(try numbers(key))
        case 5: return .int32s(try numbers(key))
        case 6: return .float32s(try numbers(key))
        case 7: return .bools(try booleans(try count("the length of array \(quoted(key))", unit: 1), key))
        case 8:
            let count = try count("the length of array \(quoted(key))", unit: 8)
            var strings = ByteStrings()
            for _ in 0..<count {
                let length = try self.count("the length of a string in array \(quoted(key))", unit: 1)
                strings.append(try bytes(length, "a string in array \(quoted(key))"))
            }
            return .strings(strings)
        case GGUFValue.arrayTypeNumber: throw GGUFFault.nestedArray(key: key)
        case 10: return .uint64s(try numbers(key))
        case 11: return .int64s(try numbers(key))
        case 12: return .float64s(try numbers(key))
        default: throw GGUFFault.valueType(key: key, found: type)
        }
    }

    /// Reads a tensor's entry and returns its offset; its place is set once all are known.
    private mutating func readTensor() throws -> UInt64 {
        let tensor = try name("a tensor's name", limit: Self.nameLimit)
        guard names.updateValue(tensors.count, forKey: ByteString(tensor)) == nil else {
            throw GGUFFault.duplicateTensor(tensor)
        }
        let part = "the entry of tensor \(quoted(tensor))"
        let dimensionCount: UInt32 = try number(part)
        guard (1...UInt32(GGUFFile.dimensionLimit)).contains(dimensionCount) else {
            throw GGUFFault.dimensionCount(tensor: tensor, found: dimensionCount)
        }
        var shape: [Int] = []
        for _ in 0..<dimensionCount {
            let dimension: UInt64 = try number(part)
            guard dimension > 0, let size = Int(exactly: dimension) else {
                throw GGUFFault.dimension(tensor: tensor, found: dimension)
            }
            shape.insert(size, at: 0)
        }
        let typeNumber: UInt32 = try number(part)
        guard let type = GGMLType(rawValue: typeNumber) else {
            throw GGUFFault.tensorType(tensor: tensor, found: typeNumber)
        }
        let row = shape[shape.count - 1]
        guard row % type.blockLength == 0 else { throw GGUFFault.unevenRows(tensor: tensor, row: row, type: type) }
        guard let size = type.byteCount(of: shape) else {
            throw GGUFFault.shapeOverflow(tensor: tensor, shape: shape)
        }
        tensors.append(GGUFTensorInfo(name: tensor, type: type, shape: shape, byteRange: 0..<size))
        return try number(part)
    }

    private mutating func place(_ offsets: [UInt64]) throws {
        // A file without tensors may end before the padding does.
        let dataSize = max(0, fileSize - dataStart)
        for (index, offset) in offsets.enumerated() {
            let tensor = tensors[index]
            let size = tensor.byteRange.count
            guard offset % UInt64(alignment) == 0 else {
                throw GGUFFault.misaligned(tensor: tensor.name, offset: offset, alignment: alignment)
            }
            let end = Int(exactly: offset).flatMap { checkedSum($0, size) }
            guard let end, end <= dataSize else {
                throw GGUFFault.pastEnd(tensor: tensor.name, end: end, dataSize: dataSize)
            }
            tensors[index].byteRange = end - size..<end
        }
        let ordered = tensors.sorted { $0.byteRange.lowerBound < $1.byteRange.lowerBound }
        for (earlier, later) in zip(ordered, ordered.dropFirst())
        where later.byteRange.lowerBound < earlier.byteRange.upperBound {
            throw GGUFFault.overlap(tensor: later.name, other: earlier.name)
        }
    }
}
