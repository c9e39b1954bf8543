import FileFormats
import TensorCore

/// A tensor where it is stored, read in pieces.
enum TensorSource {
    case safetensors(SafetensorsFile, TensorEntry)
    case gguf(GGUFFile, GGUFTensorInfo)

    var name: String {
        switch self {
        case .safetensors(_, let entry): entry.name
        case .gguf(_, let tensor): tensor.name
        }
    }
    var shape: [Int] {
        switch self {
        case .safetensors(_, let entry): entry.shape
        case .gguf(_, let tensor): tensor.shape
        }
    }
    var elementCount: Int { shape.reduce(1, *) }
    var byteCount: Int {
        switch self {
        case .safetensors(_, let entry): entry.byteRange.count
        case .gguf(_, let tensor): tensor.byteRange.count
        }
    }

    /// The bytes of `width` elements, a whole number of blocks.
    func size(of width: Int) -> Int {
        switch self {
        case .safetensors(_, let entry): width * entry.type.size
        case .gguf(_, let tensor): width / tensor.type.blockLength * tensor.type.blockSize
        }
    }

    func read(_ range: Range<Int>, into buffer: UnsafeMutableRawBufferPointer) throws {
        switch self {
        case .safetensors(let file, let entry): try file.read(range, of: entry, into: buffer)
        case .gguf(let file, let tensor): try file.read(range, of: tensor, into: buffer)
        }
    }

    /// All values in f32.
    func floats() -> Tensor {
        let result = Tensor(shape)
        switch self {
        case .safetensors(let file, let entry):
            result.withFloats { ElementConversion.widen(file.withBytes(of: entry), as: entry.type, into: $0) }
        case .gguf(let file, let tensor):
            result.withFloats { RowEncoding.decode(file.withBytes(of: tensor), as: tensor.type, into: $0) }
        }
        return result
    }

    func widen(_ bytes: UnsafeRawBufferPointer, into values: UnsafeMutableBufferPointer<Float>) {
        switch self {
        case .safetensors(_, let entry): ElementConversion.widen(bytes, as: entry.type, into: values)
        case .gguf(_, let tensor): RowEncoding.decode(bytes, as: tensor.type, into: values)
        }
    }
}
