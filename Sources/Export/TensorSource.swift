import FileFormats
import TensorCore

/// A tensor where it is stored, read in pieces.
enum TensorSource {
    case safetensors(SafetensorsFile, TensorEntry)
    case gguf(GGUFFile, GGUFTensorInfo)
    /// Tensors of one shape and type, stacked.
    indirect case stack([TensorSource])
    /// `[experts, count, rows]` from a tensor `[experts, rows, columns]`: every `step`-th column from `first` on.
    indirect case columns(TensorSource, first: Int, step: Int)

    /// Of each matrix of `[experts, rows, columns]` these rows.
    indirect case rows(TensorSource, Range<Int>)

    var name: String {
        switch self {
        case .safetensors(_, let entry): entry.name
        case .gguf(_, let tensor): tensor.name
        case .stack(let parts): parts[0].name
        case .columns(let source, _, _), .rows(let source, _): source.name
        }
    }
    var shape: [Int] {
        switch self {
        case .safetensors(_, let entry): entry.shape
        case .gguf(_, let tensor): tensor.shape
        case .stack(let parts): [parts.count] + parts[0].shape
        case .columns(let source, _, let step):
            source.shape.count == 2
                ? [source.shape[0], source.shape[1] / step]
                : [source.shape[0], source.shape[2] / step, source.shape[1]]
        case .rows(let source, let rows): [source.shape[0], rows.count, source.shape[2]]
        }
    }
    var elementCount: Int { shape.reduce(1, *) }
    var byteCount: Int {
        switch self {
        case .safetensors(_, let entry): entry.byteRange.count
        case .gguf(_, let tensor): tensor.byteRange.count
        case .stack(let parts): parts.reduce(0) { $0 + $1.byteCount }
        case .columns, .rows: size(of: elementCount)
        }
    }

    /// The type of GGUF files that says what the values are stored as.
    var type: GGMLType {
        switch self {
        case .gguf(_, let tensor): tensor.type
        case .safetensors(_, let entry):
            switch entry.type {
            case .f16: .f16
            case .bf16: .bf16
            default: .f32
            }
        case .stack(let parts): parts[0].type
        case .columns(let source, _, _), .rows(let source, _): source.type
        }
    }

    /// The bytes of `width` elements, a whole number of blocks.
    func size(of width: Int) -> Int {
        switch self {
        case .safetensors(_, let entry): width * entry.type.size
        case .gguf(_, let tensor): width / tensor.type.blockLength * tensor.type.blockSize
        case .stack(let parts): parts[0].size(of: width)
        case .columns(let source, _, _), .rows(let source, _): source.size(of: width)
        }
    }

    func read(_ range: Range<Int>, into buffer: UnsafeMutableRawBufferPointer) throws {
        switch self {
        case .safetensors(let file, let entry): try file.read(range, of: entry, into: buffer)
        case .gguf(let file, let tensor): try file.read(range, of: tensor, into: buffer)
        case .stack(let parts):
            let size = parts[0].byteCount
            for (i, part) in parts.enumerated() {
                let piece = range.clamped(to: i * size..<(i + 1) * size)
                guard !piece.isEmpty else { continue }
                let target = buffer[piece.lowerBound - range.lowerBound..<piece.upperBound - range.lowerBound]
                try part.read(
                    piece.lowerBound - i * size..<piece.upperBound - i * size,
                    into: UnsafeMutableRawBufferPointer(rebasing: target))
            }
        case .columns(let source, let first, let step):
            try readColumns(range, of: source, first, step, into: buffer)
        case .rows(let source, let rows):
            let rowSize = source.size(of: source.shape[2]), matrix = source.shape[1] * rowSize,
                own = rows.count * rowSize
            guard own > 0 else { return }
            for i in range.lowerBound / own..<(range.upperBound + own - 1) / own {
                let piece = range.clamped(to: i * own..<(i + 1) * own)
                let target = buffer[piece.lowerBound - range.lowerBound..<piece.upperBound - range.lowerBound]
                let start = i * matrix + rows.lowerBound * rowSize - i * own
                try source.read(
                    piece.lowerBound + start..<piece.upperBound + start,
                    into: UnsafeMutableRawBufferPointer(rebasing: target))
            }
        }
    }

    /// All values in f32.
    func floats() -> Tensor {
        let result = Tensor(shape)
        switch self {
        case .stack, .columns, .rows: preconditionFailure("values of stacked experts come in rows")
        case .safetensors(let file, let entry):
            result.withFloats { ElementConversion.widen(file.withBytes(of: entry), as: entry.type, into: $0) }
        case .gguf(let file, let tensor):
            result.withFloats { RowEncoding.decode(file.withBytes(of: tensor), as: tensor.type, into: $0) }
        }
        return result
    }

    /// Reads whole rows of what are columns of `source`: of each of its rows, the run that holds them.
    private func readColumns(
        _ range: Range<Int>, of source: TensorSource, _ first: Int, _ step: Int,
        into buffer: UnsafeMutableRawBufferPointer
    ) throws {
        let size = source.size(of: 1), isVector = source.shape.count == 2
        let rows = isVector ? 1 : source.shape[1], columns = source.shape[source.shape.count - 1]
        let count = columns / step, rowSize = rows * size
        precondition(range.lowerBound % rowSize == 0 && range.upperBound % rowSize == 0)
        var row = range.lowerBound / rowSize
        let end = range.upperBound / rowSize
        var run = [UInt8](repeating: 0, count: columns * size)
        while row < end {
            let (expert, column) = row.quotientAndRemainder(dividingBy: count)
            let used = min(count - column, end - row)
            let target = buffer.baseAddress! + (row * rowSize - range.lowerBound)
            for r in 0..<rows {
                let start = ((expert * rows + r) * columns + first + column * step) * size
                let length = ((used - 1) * step + 1) * size
                try run.withUnsafeMutableBytes { run in
                    try source.read(
                        start..<start + length, into: UnsafeMutableRawBufferPointer(rebasing: run[..<length]))
                    for i in 0..<used {
                        (target + (i * rows + r) * size).copyMemory(
                            from: run.baseAddress! + i * step * size, byteCount: size)
                    }
                }
            }
            row += used
        }
    }

    /// The elements that are stored together, and the bytes they take.
    var blockLength: Int {
        switch self {
        case .safetensors: 1
        case .gguf(_, let tensor): tensor.type.blockLength
        case .stack(let parts): parts[0].blockLength
        case .columns(let source, _, _), .rows(let source, _): source.blockLength
        }
    }
    var blockSize: Int { size(of: blockLength) }

    /// The first of the elements in whole blocks that is infinite or NaN.
    func firstNonFinite(_ bytes: UnsafeRawBufferPointer, _ memory: GrowingBuffer) -> (place: Int, value: Float)? {
        func found(_ type: ElementType, _ bytes: UnsafeRawBufferPointer) -> (place: Int, value: Float)? {
            guard let place = ElementConversion.firstNonFinite(bytes, as: type) else { return nil }
            var value: Float = 0
            withUnsafeMutablePointer(to: &value) {
                ElementConversion.widen(
                    UnsafeRawBufferPointer(rebasing: bytes[place * type.size..<(place + 1) * type.size]), as: type,
                    into: UnsafeMutableBufferPointer(start: $0, count: 1))
            }
            return (place, value)
        }
        switch self {
        case .safetensors(_, let entry): return entry.type.isFloatingPoint ? found(entry.type, bytes) : nil
        case .gguf(_, let tensor):
            guard RowEncoding.canDecode(tensor.type) else { return nil }
            let count = bytes.count / tensor.type.blockSize * tensor.type.blockLength
            let values = memory.bytes(count * 4)
            RowEncoding.decode(bytes, as: tensor.type, into: values.bindMemory(to: Float.self))
            return found(.f32, UnsafeRawBufferPointer(values))
        case .stack(let parts): return parts[0].firstNonFinite(bytes, memory)
        case .columns(let source, _, _), .rows(let source, _): return source.firstNonFinite(bytes, memory)
        }
    }

    /// Whether few rows at a time cost as much to read as many.
    var prefersManyRows: Bool {
        if case .columns = self { true } else { false }
    }

    func widen(_ bytes: UnsafeRawBufferPointer, into values: UnsafeMutableBufferPointer<Float>) {
        switch self {
        case .safetensors(_, let entry): ElementConversion.widen(bytes, as: entry.type, into: values)
        case .gguf(_, let tensor): RowEncoding.decode(bytes, as: tensor.type, into: values)
        case .stack(let parts): parts[0].widen(bytes, into: values)
        case .columns(let source, _, _), .rows(let source, _): source.widen(bytes, into: values)
        }
    }
}
