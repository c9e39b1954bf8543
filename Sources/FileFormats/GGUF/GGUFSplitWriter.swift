/// Writes a GGUF file, or several parts of one that readers put together again: the first has the metadata.
///
/// Parts are named and numbered as llama.cpp's gguf-split does. They are written in a hidden folder, and all appear when
/// all are complete, the first one last.
public final class GGUFSplitWriter {
    /// Of each part, in order.
    public let paths: [String]
    private let writers: [GGUFWriter]
    /// Of several parts.
    private let stage: AtomicFolder?
    private let parts: [ByteString: Int]

    /// - Parameter maximumSize: of a part's tensors in bytes; a tensor that is larger gets a part of its own. Nil
    ///   writes one file.
    /// - Throws: `FileError.outputExists`, `.io`; as `GGUFWriter`.
    public init(
        path: String, metadata: [(key: String, value: GGUFValue)], tensors: [GGUFWriter.Declaration],
        maximumSize: Int? = nil, replacing: Bool = false
    ) throws {
        let groups = Self.groups(tensors, maximumSize)
        paths = groups.indices.map { GGUFSplit.path(path, part: $0, of: groups.count) }
        // What killed writers left is out of the way once there is the folder.
        stage = groups.count > 1 ? try AtomicFolder(publishingBeside: path, replacing: replacing) : nil
        if !replacing, let path = paths.first(where: somethingExists) { throw FileError.outputExists(path: path) }
        var parts: [ByteString: Int] = [:]
        var writers: [GGUFWriter] = []
        for (index, group) in groups.enumerated() {
            var pairs = index == 0 ? metadata : []
            if groups.count > 1 {
                pairs += [
                    (GGUFSplit.indexKey, .uint16(UInt16(index))), (GGUFSplit.countKey, .uint16(UInt16(groups.count))),
                    (GGUFSplit.tensorCountKey, .int32(Int32(clamping: tensors.count))),
                ]
            }
            let path = stage?.path(of: splitPath(paths[index]).name) ?? paths[index]
            writers.append(try GGUFWriter(path: path, metadata: pairs, tensors: group, replacing: replacing))
            for tensor in group { parts[ByteString(tensor.name)] = index }
        }
        self.writers = writers
        self.parts = parts
    }

    private static func groups(_ tensors: [GGUFWriter.Declaration], _ maximumSize: Int?) -> [[GGUFWriter.Declaration]] {
        guard let maximumSize else { return [tensors] }
        var groups: [[GGUFWriter.Declaration]] = [[]]
        var size = 0
        for tensor in tensors {
            let alignment = GGUFFile.defaultAlignment
            let bytes = ((tensor.type.byteCount(of: tensor.shape) ?? 0) + alignment - 1) / alignment * alignment
            // Readers refuse more parts; the last takes the rest.
            if size + bytes > maximumSize, !groups[groups.count - 1].isEmpty, groups.count < GGUFSplit.partLimit {
                groups.append([])
                size = 0
            }
            groups[groups.count - 1].append(tensor)
            size += bytes
        }
        return groups
    }

    /// Appends a piece of a tensor's data; tensors follow each other in the order of their declaration.
    public func append(_ bytes: UnsafeRawBufferPointer, to name: String) throws {
        guard let part = parts[ByteString(name)] else { preconditionFailure("\(name) is not declared") }
        try writers[part].append(bytes, to: name)
    }

    public func append<Element: BitwiseCopyable>(_ elements: [Element], to name: String) throws {
        try elements.withUnsafeBytes { try append($0, to: name) }
    }

    /// Makes the files appear under their names.
    ///
    /// - Throws: `FileError.io`, `.outputExists`.
    public func finish() throws {
        for writer in writers { try writer.finish() }
        try stage?.publishContents()
    }
}
