import FileFormats

/// Rows of f32 in the types of GGUF files.
enum RowEncoding {
    /// Writes a row; `row.count` is a whole number of the type's blocks.
    ///
    /// - Returns: false when a value cannot be represented: infinite, NaN, or too large for f16.
    static func encode(
        _ row: UnsafeBufferPointer<Float>, as type: GGMLType, into output: UnsafeMutableRawBufferPointer
    ) -> Bool {
        var magnitude: UInt32 = 0
        // The bits of finite magnitudes order as integers do, with infinity and NaN above all.
        for value in row { magnitude = max(magnitude, value.bitPattern & 0x7FFF_FFFF) }
        guard magnitude < Float.infinity.bitPattern else { return false }
        switch type {
        case .f32: ElementConversion.narrow(row, to: .f32, into: output)
        case .bf16:
            ElementConversion.narrow(row, to: .bf16, into: output)
            return magnitude < 0x7F7F_8000
        case .f16:
            ElementConversion.narrow(row, to: .f16, into: output)
            // From half a step above f16's largest number on, values round to infinity.
            return Float(bitPattern: magnitude) < 65520
        case .q8_0:
            encodeQ8_0(row, into: output)
            return Float(bitPattern: magnitude) / 127 < 65520
        default: preconditionFailure("\(type) is not written")
        }
        return true
    }

    /// ggml's q8_0: blocks of 32 as an f16 step d = max|x| / 127 and 32 signed bytes round(x / d).
    ///
    /// The bytes are those of llama.cpp: the quotient is a product with 1 / d, d before its rounding to f16, and
    /// halves are rounded away from zero.
    static func encodeQ8_0(_ row: UnsafeBufferPointer<Float>, into output: UnsafeMutableRawBufferPointer) {
        let length = GGMLType.q8_0.blockLength
        let size = GGMLType.q8_0.blockSize
        precondition(row.count % length == 0 && output.count == row.count / length * size)
        guard let source = row.baseAddress, let target = output.baseAddress else { return }
        for block in 0..<row.count / length {
            let x = source + block * length
            let bytes = target + block * size
            var magnitude: Float = 0
            for i in 0..<length { magnitude = max(magnitude, abs(x[i])) }
            let step = magnitude / 127
            let inverse = step == 0 ? 0 : 1 / step
            bytes.storeBytes(of: ElementConversion.f16Bits(step), as: UInt16.self)
            // A step so small that its inverse overflows is zero as f16, and so are its multiples.
            let factor = inverse.isFinite ? inverse : 0
            for i in 0..<length {
                bytes.storeBytes(of: roundedHalfAway(x[i] * factor), toByteOffset: 2 + i, as: Int8.self)
            }
        }
    }

    /// C's roundf for |x| up to 127, without branches.
    @inline(__always)
    private static func roundedHalfAway(_ x: Float) -> Int8 {
        let magnitude = abs(x)
        let unit: Float = 8_388_608
        // Adding 2^23 leaves no bits for a fraction: the sum is rounded to nearest, ties to even.
        let even = (magnitude + unit) - unit
        let rounded = even + (magnitude - even == 0.5 ? 1 : 0)
        let integer = Int32(bitPattern: (rounded + unit).bitPattern & 0xFF)
        return Int8(truncatingIfNeeded: x < 0 ? -integer : integer)
    }
}
