@testable import FileFormats

/// Builds GGUF bytes literally, wrong ones too.
struct GGUFBytes {
    var bytes: [UInt8] = []
    init(magic: String = "GGUF", version: UInt32 = 3, tensors: UInt64 = 0, keys: UInt64 = 0) {
        bytes += magic.utf8
        add(version)
        add(tensors)
        add(keys)
    }
    mutating func add(_ value: some BitwiseCopyable) { withUnsafeBytes(of: value) { bytes.append(contentsOf: $0) } }
    mutating func add(text: String, length: UInt64? = nil) {
        add(length ?? UInt64(text.utf8.count))
        bytes += text.utf8
    }
    mutating func pair(_ key: String, _ value: UInt32) {
        add(text: key)
        add(UInt32(4))
        add(value)
    }
    mutating func tensor(_ name: String, _ shape: [UInt64] = [1], type: UInt32 = 0, offset: UInt64 = 0) {
        add(text: name)
        add(UInt32(shape.count))
        for dimension in shape { add(dimension) }
        add(type)
        add(offset)
    }
    mutating func data(_ count: Int, alignment: Int = 32) {
        while bytes.count % alignment != 0 { bytes.append(0) }
        bytes += [UInt8](repeating: 0, count: count)
    }
}

extension Scratch {
    /// What is wrong with a GGUF file of these bytes; nil for nothing.
    func fault(_ bytes: [UInt8]) throws -> GGUFFault? {
        do {
            _ = try GGUFFile(path: write("x.gguf", bytes))
            return nil
        } catch FileError.gguf(_, let fault) {
            return fault
        }
    }
    func fault(version: UInt32 = 3, tensors: UInt64 = 0, keys: UInt64 = 0, _ body: (inout GGUFBytes) -> Void) throws
        -> GGUFFault?
    {
        var file = GGUFBytes(version: version, tensors: tensors, keys: keys)
        body(&file)
        return try fault(file.bytes)
    }
}
