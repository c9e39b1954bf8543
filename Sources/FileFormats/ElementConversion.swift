/// Conversions between f32 and the two 16-bit floating-point types, on buffers of equal element counts.
///
/// Narrowing rounds to nearest, ties to even, and keeps infinities and NaN (IEEE 754-2019, 4.3.1). The loops are free
/// of branches so that the compiler can vectorise them. Sources and destinations may be unaligned.
public enum ElementConversion {
    /// - Parameters: `source` [n] of f16, bf16, f32 or f64; `destination` [n] of f32.
    public static func widen(
        _ source: UnsafeRawBufferPointer, as type: ElementType, into destination: UnsafeMutableBufferPointer<Float>
    ) {
        precondition(source.count == destination.count * type.size, "the counts of elements differ")
        guard let from = source.baseAddress, let to = destination.baseAddress else { return }
        let count = destination.count
        switch type {
        case .f32: UnsafeMutableRawPointer(to).copyMemory(from: from, byteCount: count * 4)
        case .f16:
            for i in 0..<count { to[i] = float(f16: from.loadUnaligned(fromByteOffset: i &* 2, as: UInt16.self)) }
        case .bf16:
            for i in 0..<count {
                to[i] = Float(bitPattern: UInt32(from.loadUnaligned(fromByteOffset: i &* 2, as: UInt16.self)) << 16)
            }
        case .f64:
            for i in 0..<count { to[i] = Float(from.loadUnaligned(fromByteOffset: i &* 8, as: Double.self)) }
        default: preconditionFailure("\(type) is no floating-point type")
        }
    }

    /// - Parameters: `source` [n] of f32; `destination` [n] of f16, bf16, f32 or f64.
    public static func narrow(
        _ source: UnsafeBufferPointer<Float>, to type: ElementType, into destination: UnsafeMutableRawBufferPointer
    ) {
        precondition(destination.count == source.count * type.size, "the counts of elements differ")
        guard let from = source.baseAddress, let to = destination.baseAddress else { return }
        let count = source.count
        switch type {
        case .f32: to.copyMemory(from: UnsafeRawPointer(from), byteCount: count * 4)
        case .f16:
            for i in 0..<count { to.storeBytes(of: f16Bits(from[i]), toByteOffset: i &* 2, as: UInt16.self) }
        case .bf16:
            for i in 0..<count { to.storeBytes(of: bf16Bits(from[i]), toByteOffset: i &* 2, as: UInt16.self) }
        case .f64:
            for i in 0..<count { to.storeBytes(of: Double(from[i]), toByteOffset: i &* 8, as: Double.self) }
        default: preconditionFailure("\(type) is no floating-point type")
        }
    }

    /// The place of the first element that is infinite or NaN; nil when there is none, or when the type has neither.
    public static func firstNonFinite(_ bytes: UnsafeRawBufferPointer, as type: ElementType) -> Int? {
        func first<Bits: FixedWidthInteger>(_ exponent: Bits) -> Int? {
            let size = Bits.bitWidth / 8, count = bytes.count / size
            guard let start = bytes.baseAddress else { return nil }
            func bits(_ i: Int) -> Bits { start.loadUnaligned(fromByteOffset: i &* size, as: Bits.self) & exponent }
            // Without a branch, so that the compiler can vectorise it.
            var largest: Bits = 0
            for i in 0..<count { largest = max(largest, bits(i)) }
            return largest == exponent ? (0..<count).first { bits($0) == exponent } : nil
        }
        switch type {
        case .f64: return first(0x7FF0_0000_0000_0000 as UInt64)
        case .f32: return first(0x7F80_0000 as UInt32)
        case .f16: return first(0x7C00 as UInt16)
        case .bf16: return first(0x7F80 as UInt16)
        default: return nil
        }
    }

    @inline(__always)
    public static func float(bf16 bits: UInt16) -> Float { Float(bitPattern: UInt32(bits) << 16) }

    @inline(__always)
    public static func float(f16 bits: UInt16) -> Float {
        let magnitude = UInt32(bits & 0x7FFF) << 13
        // Multiplying by 2^112 moves the exponent's bias from 15 to 127 and makes subnormals normal, exactly.
        let scaled = (Float(bitPattern: magnitude) * Float(bitPattern: (112 + 127) << 23)).bitPattern
        let special: UInt32 = bits & 0x7C00 == 0x7C00 ? 0x7F80_0000 : 0
        return Float(bitPattern: scaled | special | UInt32(bits & 0x8000) << 16)
    }

    @inline(__always)
    public static func bf16Bits(_ value: Float) -> UInt16 {
        let bits = value.bitPattern
        let rounded = (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16
        let quiet = bits >> 16 | 0x40
        return UInt16(truncatingIfNeeded: bits & 0x7FFF_FFFF > 0x7F80_0000 ? quiet : rounded)
    }

    @inline(__always)
    public static func f16Bits(_ value: Float) -> UInt16 {
        let bits = value.bitPattern
        let magnitude = bits & 0x7FFF_FFFF
        // From 2^-14 on: shift the bias, add just under half a unit (a whole half for odd results), cut 13 bits.
        let normal = (magnitude &- (112 << 23) &+ 0xFFF &+ (magnitude >> 13 & 1)) >> 13
        // Below: adding 0.5 makes the unit in the last place 2^-24, f16's smallest step; the FPU rounds.
        let subnormal = (Float(bitPattern: magnitude) + 0.5).bitPattern &- Float(0.5).bitPattern
        let finite = magnitude < 0x3880_0000 ? subnormal : normal
        let special: UInt32 = magnitude > 0x7F80_0000 ? 0x7E00 | (magnitude >> 13 & 0x3FF) : 0x7C00
        let result = magnitude >= 0x4780_0000 ? special : finite
        return UInt16(truncatingIfNeeded: result | bits >> 16 & 0x8000)
    }
}
