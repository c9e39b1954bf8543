import CKernels
import FileFormats

/// Rows of f32 to and from the types of GGUF files.
enum RowEncoding {
    static func canDecode(_ type: GGMLType) -> Bool {
        [.f32, .f16, .bf16].contains(type) || graft_can_decode(Int32(type.rawValue)) != 0
    }

    static func canEncode(_ type: GGMLType) -> Bool {
        [.f32, .f16, .bf16].contains(type) || graft_can_encode(Int32(type.rawValue)) != 0
    }

    /// Writes rows of `width` elements, which is a whole number of the type's blocks.
    ///
    /// - Parameter importance: `[width]`, how much the square of each column's error counts; nil counts all alike.
    /// - Returns: false when a value cannot be represented: infinite, NaN, or too large for the type's scales.
    static func encode(
        _ rows: UnsafeBufferPointer<Float>, width: Int, as type: GGMLType, importance: [Float]? = nil,
        into output: UnsafeMutableRawBufferPointer
    ) -> Bool {
        precondition(width > 0 && rows.count % width == 0 && width % type.blockLength == 0)
        precondition(output.count == rows.count / type.blockLength * type.blockSize)
        precondition(importance.map { $0.count == width } ?? true)
        guard let source = rows.baseAddress, let target = output.baseAddress else { return true }
        var magnitude: UInt32 = 0
        // The bits of finite magnitudes order as integers do, with infinity and NaN above all.
        for value in rows { magnitude = max(magnitude, value.bitPattern & 0x7FFF_FFFF) }
        guard magnitude < Float.infinity.bitPattern else { return false }
        switch type {
        case .f32:
            ElementConversion.narrow(rows, to: .f32, into: output)
            return true
        case .bf16:
            ElementConversion.narrow(rows, to: .bf16, into: output)
            return magnitude < 0x7F7F_8000
        case .f16:
            graft_f32_to_f16(target.assumingMemoryBound(to: UInt16.self), source, rows.count)
            // From half a step above f16's largest number on, values round to infinity.
            return Float(bitPattern: magnitude) < 65520
        default:
            let result = graft_codecs().pointee.encode(
                Int32(type.rawValue), target, source, importance, rows.count / width, width)
            precondition(result >= 0, "\(type) is not written")
            return result == 1
        }
    }

    /// Reads whole blocks; the values are llama.cpp's to the bit.
    static func decode(
        _ bytes: UnsafeRawBufferPointer, as type: GGMLType, into rows: UnsafeMutableBufferPointer<Float>
    ) {
        precondition(bytes.count == rows.count / type.blockLength * type.blockSize)
        guard let source = bytes.baseAddress, let target = rows.baseAddress else { return }
        switch type {
        case .f32: ElementConversion.widen(bytes, as: .f32, into: rows)
        case .f16: ElementConversion.widen(bytes, as: .f16, into: rows)
        case .bf16: ElementConversion.widen(bytes, as: .bf16, into: rows)
        default:
            let isRead = graft_codecs().pointee.decode(Int32(type.rawValue), target, source, rows.count)
            precondition(isRead != 0, "\(type) is not read")
        }
    }
}
