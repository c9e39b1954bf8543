import Foundation

/// A safetensors file: its header read and checked, its data mapped.
public final class SafetensorsFile: Sendable {
    public let path: String
    /// The tensors in the order of their data.
    public let entries: [TensorEntry]
    /// `__metadata__` in file order.
    public let metadata: [(String, String)]
    private let indices: [ByteString: Int]
    private let file: MappedFile
    private let dataStart: Int

    /// - Throws: `FileError.missing`, `.notAFile`, `.io`; `.safetensors` for anything that the format does not allow.
    public init(path: String) throws {
        let descriptor = try Descriptor.reading(path, what: "safetensors file")
        let fileSize = try descriptor.size()
        func fault(_ fault: SafetensorsFault) -> FileError { .safetensors(path: path, fault) }
        let head = try descriptor.read(Substitute.headSize, at: 0)
        try Substitute.refuse(head, path: path)
        if let format = SafetensorsFault.otherFormat(head) { throw fault(.otherFormat(format)) }
        let lengthBytes = try descriptor.read(8, at: 0)
        guard lengthBytes.count == 8 else { throw fault(.noHeader(fileSize: fileSize)) }
        let length = lengthBytes.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard length <= SafetensorsHeader.sizeLimit else {
            throw fault(.headerTooLarge(size: length, limit: SafetensorsHeader.sizeLimit))
        }
        let headerSize = Int(length)
        // The header is read, not mapped: a file cut short meanwhile is then an error, not a signal.
        guard headerSize <= fileSize - 8 else { throw fault(.headerCutShort(size: headerSize, fileSize: fileSize)) }
        let headerBytes = try descriptor.read(headerSize, at: 8)
        guard headerBytes.count == headerSize else {
            throw fault(.headerCutShort(size: headerSize, fileSize: headerBytes.count + 8))
        }
        let header: SafetensorsHeader
        do {
            header = try headerBytes.withUnsafeBufferPointer {
                try SafetensorsHeader($0, dataSize: fileSize - 8 - headerSize)
            }
        } catch let error as SafetensorsFault {
            throw fault(error)
        }
        file = try MappedFile(descriptor)
        guard file.bytes.count == fileSize else {
            throw FileError.changed(path: path, expected: fileSize, found: file.bytes.count)
        }
        self.path = path
        dataStart = 8 + headerSize
        entries = header.entries
        metadata = header.metadata
        var indices: [ByteString: Int] = [:]
        for (index, entry) in header.entries.enumerated() { indices[ByteString(entry.name)] = index }
        self.indices = indices
    }

    public func entry(named name: String) -> TensorEntry? { indices[ByteString(name)].map { entries[$0] } }

    /// The bytes of one of this file's tensors, little-endian, valid while this object lives. They need not be
    /// aligned to the element's size: the format aligns only the data section, and old files not even that.
    public func withBytes(of entry: TensorEntry) -> UnsafeRawBufferPointer {
        let range = entry.byteRange
        precondition(range.upperBound <= file.bytes.count - dataStart, "the entry is of another file")
        return UnsafeRawBufferPointer(rebasing: file.bytes[dataStart + range.lowerBound..<dataStart + range.upperBound])
    }

    /// Reads a range of a tensor's bytes: for one pass over large tensors, since mapped pages that were touched count
    /// as the process's memory. May be called on many threads at once.
    ///
    /// - Precondition: `buffer` has as many bytes as `range`.
    /// - Throws: `FileError.io`; `.changed` when the file ends earlier than it did.
    public func read(_ range: Range<Int>, of entry: TensorEntry, into buffer: UnsafeMutableRawBufferPointer) throws {
        precondition(range.count == buffer.count && range.upperBound <= entry.byteRange.count && range.lowerBound >= 0)
        let start = dataStart + entry.byteRange.lowerBound + range.lowerBound
        let count = try file.descriptor.read(into: buffer, at: start)
        if count < buffer.count {
            try checkUnchanged()
            throw FileError.io(operation: "read", path: path, code: EIO)
        }
    }

    /// The tensor's elements as f32, in row-major order.
    ///
    /// - Precondition: its type is f16, bf16, f32 or f64.
    public func floats(of entry: TensorEntry) -> [Float] { floats(of: entry, in: 0..<entry.elementCount) }

    /// The elements of a range in f32.
    public func floats(of entry: TensorEntry, in range: Range<Int>) -> [Float] {
        let size = entry.type.size
        return [Float](unsafeUninitializedCapacity: range.count) { buffer, count in
            count = range.count
            ElementConversion.widen(
                UnsafeRawBufferPointer(
                    rebasing: withBytes(of: entry)[range.lowerBound * size..<range.upperBound * size]),
                as: entry.type, into: UnsafeMutableBufferPointer(rebasing: buffer[..<count]))
        }
    }

    /// Some elements in f32.
    ///
    /// - Parameter index: the place in the tensor of each of the `count` elements.
    public func floats(of entry: TensorEntry, count: Int, at index: (Int) -> Int) -> [Float] {
        let source = withBytes(of: entry), size = entry.type.size
        let elements = [UInt8](unsafeUninitializedCapacity: count * size) { buffer, initialised in
            for i in 0..<count {
                let start = index(i) * size
                UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[(i * size)...])
                    .copyMemory(from: UnsafeRawBufferPointer(rebasing: source[start..<start + size]))
            }
            initialised = count * size
        }
        return [Float](unsafeUninitializedCapacity: count) { buffer, initialised in
            elements.withUnsafeBytes {
                ElementConversion.widen(
                    $0, as: entry.type, into: UnsafeMutableBufferPointer(rebasing: buffer[..<count]))
            }
            initialised = count
        }
    }

    /// The place of a tensor's first element that is infinite or NaN; nil when there is none. Read in pieces, not mapped.
    ///
    /// - Throws: as `read`.
    public func firstNonFinite(of entry: TensorEntry) throws -> Int? {
        guard entry.type.isFloatingPoint else { return nil }
        let size = entry.byteRange.count
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: min(size, 1 << 20), alignment: 64)
        defer { memory.deallocate() }
        for start in stride(from: 0, to: size, by: 1 << 20) {
            let piece = UnsafeMutableRawBufferPointer(rebasing: memory[..<min(1 << 20, size - start)])
            try read(start..<start + piece.count, of: entry, into: piece)
            if let place = ElementConversion.firstNonFinite(UnsafeRawBufferPointer(piece), as: entry.type) {
                return start / entry.type.size + place
            }
        }
        return nil
    }

    /// - Throws: `FileError.changed` when the file was cut or grew since it was opened.
    public func checkUnchanged() throws { try file.checkUnchanged() }
}
