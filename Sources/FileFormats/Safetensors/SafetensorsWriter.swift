/// Writes a safetensors file in pieces: the tensors are declared first, then their bytes follow in that order.
public final class SafetensorsWriter {
    /// The name, type and shape of a tensor to be written.
    public struct Declaration: Sendable {
        public var name: String
        public var type: ElementType
        public var shape: [Int]

        public init(name: String, type: ElementType, shape: [Int]) {
            self.name = name
            self.type = type
            self.shape = shape
        }
    }

    /// The declared tensors with the place of their data.
    public let entries: [TensorEntry]
    private let file: AtomicFile
    private let dataStart: Int
    private var current = 0

    /// Opens the output and writes the header.
    ///
    /// - Parameter metadata: `__metadata__`; other tools expect `("format", "pt")` in files of weights.
    /// - Throws: `FileError.outputExists`, `.io`.
    public init(
        path: String, tensors: [Declaration], metadata: [(String, String)] = [("format", "pt")],
        replacing: Bool = false
    ) throws {
        var entries: [TensorEntry] = []
        var members: [(key: String, value: JSONValue)] = []
        if !metadata.isEmpty {
            let pairs = metadata.map { (key: $0.0, value: JSONValue.string($0.1)) }
            members.append(("__metadata__", .object(JSONObject(pairs))))
        }
        var end = 0
        var names: Set<ByteString> = []
        for tensor in tensors {
            guard let size = tensor.type.byteCount(of: tensor.shape) else {
                preconditionFailure("the shape \(tensor.shape) of \(tensor.name) overflows")
            }
            precondition(names.insert(ByteString(tensor.name)).inserted, "\(tensor.name) is declared twice")
            entries.append(
                TensorEntry(name: tensor.name, type: tensor.type, shape: tensor.shape, byteRange: end..<end + size))
            let value: JSONValue = [
                "dtype": .string(tensor.type.rawValue), "shape": .array(tensor.shape.map { .integer($0) }),
                "data_offsets": [.integer(end), .integer(end + size)],
            ]
            members.append((tensor.name, value))
            end += size
        }
        var header = JSONWriter.bytes(.object(JSONObject(members)), .compact)
        // Padding with spaces keeps the data section aligned for readers that map it.
        header += [UInt8](repeating: UInt8(ascii: " "), count: (8 - header.count % 8) % 8)
        self.entries = entries
        dataStart = 8 + header.count
        file = try AtomicFile(path: path, replacing: replacing)
        try file.reserve(dataStart + end)
        try withUnsafeBytes(of: UInt64(header.count).littleEndian) { try file.write($0) }
        try file.write(header)
    }

    /// Appends a piece of the data of `name`, which has to be the first declared tensor that is not complete.
    public func append(_ bytes: UnsafeRawBufferPointer, to name: String) throws {
        guard !bytes.isEmpty else { return }
        while current < entries.count, entries[current].byteRange.upperBound <= file.position - dataStart {
            current += 1
        }
        precondition(
            current < entries.count && entries[current].name.hasSameBytes(as: name), "\(name) is written out of order")
        precondition(
            file.position - dataStart + bytes.count <= entries[current].byteRange.upperBound,
            "too many bytes for \(name)")
        try file.write(bytes)
    }

    public func append<Element: BitwiseCopyable>(_ elements: [Element], to name: String) throws {
        try elements.withUnsafeBytes { try append($0, to: name) }
    }

    /// Makes the file appear under its name.
    ///
    /// - Throws: `FileError.io`, `.outputExists`.
    public func finish() throws {
        precondition(file.position - dataStart == entries.last?.byteRange.upperBound ?? 0, "tensors are incomplete")
        try file.commit()
    }
}
