/// Each way in which bytes fail to be a GGUF file.
public enum GGUFFault: Error, CustomStringConvertible, Sendable {
    case magic(found: [UInt8])
    case bigEndian
    case version(UInt32)
    /// The file ends inside `part`, which begins at `offset`.
    case cutShort(offset: Int, part: String)
    /// A count or length larger than what follows it could hold.
    case count(of: String, offset: Int, found: UInt64, limit: Int)
    case malformedKey(offset: Int, reason: String)
    case duplicateKey(String)
    case valueType(key: String, found: UInt32)
    case nestedArray(key: String)
    case boolean(key: String, found: UInt8)
    case alignment(String)
    case duplicateTensor(String)
    case dimensionCount(tensor: String, found: UInt32)
    case dimension(tensor: String, found: UInt64)
    case shapeOverflow(tensor: String, shape: [Int])
    case tensorType(tensor: String, found: UInt32)
    case unevenRows(tensor: String, row: Int, type: GGMLType)
    case misaligned(tensor: String, offset: UInt64, alignment: Int)
    case pastEnd(tensor: String, end: Int?, dataSize: Int)
    case overlap(tensor: String, other: String)
    /// The file is one part of several, and they do not go together.
    case split(String)

    public var description: String {
        switch self {
        case .magic(let found): "the first bytes are \(found), expected those of 'GGUF'"
        case .bigEndian: "a big-endian GGUF file; only little-endian ones are read"
        case .version(let found): "GGUF version \(found); versions 2 and 3 are read"
        case .cutShort(let offset, let part): "cut short: the file ends inside \(part) at byte \(offset)"
        case .count(let what, let offset, let found, let limit):
            "\(what) at byte \(offset) is \(found); at most \(limit) is possible there"
        case .malformedKey(let offset, let reason): "the key at byte \(offset) \(reason)"
        case .duplicateKey(let key): "the key \(quoted(key)) occurs twice"
        case .valueType(let key, let found): "key \(quoted(key)): unknown value type \(found); expected 0 to 12"
        case .nestedArray(let key): "key \(quoted(key)): an array of arrays"
        case .boolean(let key, let found): "key \(quoted(key)): a boolean is \(found), expected 0 or 1"
        case .alignment(let reason): "general.alignment \(reason)"
        case .duplicateTensor(let name): "the tensor \(quoted(name)) occurs twice"
        case .dimensionCount(let tensor, let found):
            "tensor \(quoted(tensor)): \(found) dimensions, expected 1 to \(GGUFFile.dimensionLimit)"
        case .dimension(let tensor, let found): "tensor \(quoted(tensor)): a dimension is \(found)"
        case .shapeOverflow(let tensor, let shape):
            "tensor \(quoted(tensor)): the shape \(shape) has more elements than can be counted"
        case .tensorType(let tensor, let found): "tensor \(quoted(tensor)): unknown type number \(found)"
        case .unevenRows(let tensor, let row, let type):
            "tensor \(quoted(tensor)): its rows of \(row) are no whole number of \(type.name) blocks of "
                + "\(type.blockLength)"
        case .misaligned(let tensor, let offset, let alignment):
            "tensor \(quoted(tensor)): its offset \(offset) is no multiple of the alignment \(alignment)"
        case .pastEnd(let tensor, let end, let dataSize):
            "tensor \(quoted(tensor)): its data ends at offset \(end.map(String.init) ?? "beyond 2^63"), the file's at "
                + "\(dataSize); is the file cut short?"
        case .split(let reason): "a split file: \(reason)"
        case .overlap(let tensor, let other): "tensors \(quoted(other)) and \(quoted(tensor)) overlap"
        }
    }
}
