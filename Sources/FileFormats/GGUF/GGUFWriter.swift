/// Writes a GGUF file, version 3, in pieces: metadata and tensors are declared first, then the tensors' bytes follow
/// in that order.
public final class GGUFWriter {
    /// The name, type and row-major shape of a tensor to be written.
    public struct Declaration: Sendable {
        public var name: String
        public var type: GGMLType
        public var shape: [Int]

        public init(name: String, type: GGMLType, shape: [Int]) {
            self.name = name
            self.type = type
            self.shape = shape
        }
    }

    public let tensors: [GGUFTensorInfo]
    private let file: AtomicFile
    private let alignment: Int
    private let dataStart: Int
    private var current = 0

    /// Opens the output and writes all that comes before the data.
    ///
    /// - Parameter alignment: of each tensor's data in bytes, a power of two; other than 32 is put in the metadata.
    /// - Precondition: rows are whole numbers of blocks; keys and names are given once.
    /// - Throws: `FileError.outputExists`, `.io`.
    public init(
        path: String, metadata: [(key: String, value: GGUFValue)], tensors: [Declaration], alignment: Int = 32,
        replacing: Bool = false
    ) throws {
        precondition(alignment > 0 && alignment.nonzeroBitCount == 1, "the alignment is no power of two")
        var metadata = metadata
        if alignment != GGUFFile.defaultAlignment, !metadata.contains(where: { $0.key == "general.alignment" }) {
            metadata.append(("general.alignment", .uint32(UInt32(alignment))))
        }
        precondition(Set(metadata.map { ByteString($0.key) }).count == metadata.count, "a key is given twice")
        precondition(Set(tensors.map { ByteString($0.name) }).count == tensors.count, "a tensor is given twice")
        var header = Array("GGUF".utf8)
        func append(_ value: some BitwiseCopyable) { withUnsafeBytes(of: value) { header.append(contentsOf: $0) } }
        func append(text: String) {
            append(UInt64(text.utf8.count))
            header.append(contentsOf: text.utf8)
        }
        append(UInt32(3))
        append(UInt64(tensors.count))
        append(UInt64(metadata.count))
        for (key, value) in metadata {
            append(text: key)
            if let count = value.elementCount {
                append(GGUFValue.arrayTypeNumber)
                append(value.typeNumber)
                append(UInt64(count))
            } else {
                append(value.typeNumber)
            }
            value.appendBody(to: &header)
        }
        var infos: [GGUFTensorInfo] = []
        var offset = 0
        for tensor in tensors {
            guard let size = tensor.type.byteCount(of: tensor.shape) else {
                preconditionFailure("\(tensor.name) \(tensor.shape) cannot be \(tensor.type.name)")
            }
            append(text: tensor.name)
            append(UInt32(tensor.shape.count))
            for dimension in tensor.shape.reversed() { append(UInt64(dimension)) }
            append(tensor.type.rawValue)
            append(UInt64(offset))
            infos.append(
                GGUFTensorInfo(
                    name: tensor.name, type: tensor.type, shape: tensor.shape, byteRange: offset..<offset + size))
            offset = Self.aligned(offset + size, alignment)
        }
        header += [UInt8](repeating: 0, count: Self.aligned(header.count, alignment) - header.count)
        self.tensors = infos
        self.alignment = alignment
        dataStart = header.count
        file = try AtomicFile(path: path, replacing: replacing)
        try file.reserve(dataStart + offset)
        try file.write(header)
    }

    private static func aligned(_ offset: Int, _ alignment: Int) -> Int { (offset + alignment - 1) & ~(alignment - 1) }

    /// Appends a piece of the data of `name`, which has to be the first declared tensor that is not complete.
    public func append(_ bytes: UnsafeRawBufferPointer, to name: String) throws {
        guard !bytes.isEmpty else { return }
        precondition(
            current < tensors.count && tensors[current].name.hasSameBytes(as: name), "\(name) is written out of order")
        let end = tensors[current].byteRange.upperBound
        precondition(file.position - dataStart + bytes.count <= end, "too many bytes for \(name)")
        try file.write(bytes)
        if file.position - dataStart == end {
            try file.write([UInt8](repeating: 0, count: Self.aligned(end, alignment) - end))
            current += 1
        }
    }

    public func append<Element: BitwiseCopyable>(_ elements: [Element], to name: String) throws {
        try elements.withUnsafeBytes { try append($0, to: name) }
    }

    /// Makes the file appear under its name.
    ///
    /// - Throws: `FileError.io`, `.outputExists`.
    public func finish() throws {
        precondition(current == tensors.count, "tensors are incomplete")
        try file.commit()
    }
}
