/// Each way in which bytes fail to be a safetensors file (https://huggingface.co/docs/safetensors, "Format").
public enum SafetensorsFault: Error, CustomStringConvertible, Sendable {
    /// Fewer bytes than the length of the header takes.
    case noHeader(fileSize: Int)
    /// A file of weights in another format, under a name of this one.
    case otherFormat(String)
    case headerTooLarge(size: UInt64, limit: Int)
    /// The header ends after the file does.
    case headerCutShort(size: Int, fileSize: Int)
    /// The header's first byte is not `{`.
    case headerStart(found: UInt8)
    case headerNotUTF8(offset: Int)
    case headerNotJSON(JSONError)
    case duplicateName(String)
    case metadataNotText(key: String?)
    case tooManyTensors(limit: Int)
    /// An entry lacks a field, has it twice, or has something else there.
    case malformedEntry(tensor: String, reason: String)
    case unknownType(tensor: String, type: String)
    case shapeOverflow(tensor: String, shape: [Int])
    /// Elements of fewer than 8 bits that end inside a byte.
    case partialByte(tensor: String, type: ElementType, shape: [Int])
    /// The bytes that offsets give are not those that type and shape take.
    case sizeMismatch(tensor: String, type: ElementType, shape: [Int], expected: Int, found: Int)
    case offsetsReversed(tensor: String, begin: Int, end: Int)
    case offsetsPastEnd(tensor: String, end: Int, dataSize: Int)
    case hole(before: String, begin: Int, end: Int)
    case overlap(tensor: String, other: String, offset: Int)
    case bytesAfterLastTensor(count: Int)

    public var description: String {
        switch self {
        case .otherFormat(let format): "\(format), not a safetensors file"
        case .noHeader(let size): "\(size) bytes are too few for a safetensors file: its header's length takes 8"
        case .headerTooLarge(let size, let limit): "the header claims \(size) bytes; at most \(limit) are allowed"
        case .headerCutShort(let size, let fileSize):
            "cut short: the header takes \(size) bytes from byte 8 on, the file has \(fileSize) in all"
        case .headerStart(let byte): "the header begins with byte \(byte), expected 123, an opening brace"
        case .headerNotUTF8(let offset): "the header is not valid UTF-8 at byte \(offset)"
        case .headerNotJSON(let error): "the header is \(error)"
        case .duplicateName(let name): "the name \(quoted(name)) occurs twice in the header"
        case .metadataNotText(nil): "__metadata__ is not an object of strings"
        case .metadataNotText(let key?): "__metadata__ holds something that is no string under \(quoted(key))"
        case .tooManyTensors(let limit): "the header lists more than \(limit) tensors"
        case .malformedEntry(let tensor, let reason): "tensor \(quoted(tensor)): \(reason)"
        case .unknownType(let tensor, let type):
            "tensor \(quoted(tensor)): unknown type \(quoted(type)); expected one of "
                + ElementType.allCases.map(\.rawValue).joined(separator: ", ")
        case .shapeOverflow(let tensor, let shape):
            "tensor \(quoted(tensor)): the shape \(shape) has more elements than can be counted"
        case .partialByte(let tensor, let type, let shape):
            "tensor \(quoted(tensor)): \(type.rawValue) \(shape), of \(type.bits) bits an element, fills no whole number "
                + "of bytes"
        case .sizeMismatch(let tensor, let type, let shape, let expected, let found):
            "tensor \(quoted(tensor)): \(type.rawValue) \(shape) takes \(expected) bytes, its offsets give \(found)"
        case .offsetsReversed(let tensor, let begin, let end):
            "tensor \(quoted(tensor)): its offsets begin at \(begin) and end before that, at \(end)"
        case .offsetsPastEnd(let tensor, let end, let size):
            "tensor \(quoted(tensor)): its data ends at offset \(end), the file's at \(size); is the file cut short?"
        case .hole(let tensor, let begin, let end):
            "bytes \(begin) to \(end) of the data, before tensor \(quoted(tensor)), belong to no tensor"
        case .overlap(let tensor, let other, let offset):
            "tensors \(quoted(other)) and \(quoted(tensor)) overlap at offset \(offset)"
        case .bytesAfterLastTensor(let count): "\(count) bytes after the last tensor belong to no tensor"
        }
    }

    /// The format that the first bytes of other files of weights show.
    static func otherFormat(_ head: [UInt8]) -> String? {
        let known: [(start: [UInt8], name: String)] = [
            (Array("GGUF".utf8), "a GGUF file"), ([0x50, 0x4B, 3, 4], "a zip archive, as PyTorch writes checkpoints"),
            ([0x80, 2], "a pickle of Python's"), ([0x1F, 0x8B], "a gzip file"),
            ([0x89, 0x48, 0x44, 0x46], "an HDF5 file"),
        ]
        // After the length of its header, a safetensors file goes on with a brace.
        return head.dropFirst(8).first == UInt8(ascii: "{") ? nil : known.first { head.starts(with: $0.start) }?.name
    }

    /// What to do about it.
    var nextStep: String {
        switch self {
        case .otherFormat: "give it its own name, or fetch the weights as safetensors"
        case .unknownType:
            "the file is damaged, or of a newer version of the format than graft reads; fetch or write it again"
        default: "the file is damaged or no safetensors file; fetch or write it again"
        }
    }
}
