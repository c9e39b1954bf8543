/// The element types of tensors in files: all that safetensors has, named as it spells them
/// (https://docs.rs/safetensors, `Dtype`). Graft computes with four of them; the others are known by their size.
public enum ElementType: String, CaseIterable, Sendable {
    case f64 = "F64"
    case f32 = "F32"
    case f16 = "F16"
    case bf16 = "BF16"
    case i64 = "I64"
    case i32 = "I32"
    case i16 = "I16"
    case i8 = "I8"
    case u64 = "U64"
    case u32 = "U32"
    case u16 = "U16"
    case u8 = "U8"
    case bool = "BOOL"
    /// Two f32.
    case c64 = "C64"
    case f8e5m2 = "F8_E5M2"
    case f8e4m3 = "F8_E4M3"
    case f8e8m0 = "F8_E8M0"
    case f8e4m3fnuz = "F8_E4M3FNUZ"
    case f8e5m2fnuz = "F8_E5M2FNUZ"
    /// Packed: elements share bytes.
    case f6e2m3 = "F6_E2M3"
    case f6e3m2 = "F6_E3M2"
    case f4 = "F4"

    /// The size of one element in bits.
    public var bits: Int {
        switch self {
        case .f64, .i64, .u64, .c64: 64
        case .f32, .i32, .u32: 32
        case .f16, .bf16, .i16, .u16: 16
        case .i8, .u8, .bool, .f8e5m2, .f8e4m3, .f8e8m0, .f8e4m3fnuz, .f8e5m2fnuz: 8
        case .f6e2m3, .f6e3m2: 6
        case .f4: 4
        }
    }

    /// The size of one element in bytes.
    ///
    /// - Precondition: elements do not share bytes.
    public var size: Int {
        precondition(bits % 8 == 0, "elements of \(rawValue) share bytes")
        return bits / 8
    }

    /// Whether its numbers are read: `ElementConversion` widens them to f32.
    public var isFloatingPoint: Bool {
        switch self {
        case .f64, .f32, .f16, .bf16: true
        default: false
        }
    }

    /// Whether it holds weights in fewer bits than graft computes with: floating point of 8 bits and less.
    public var isNarrowFloat: Bool { bits <= 8 && rawValue.utf8.first == UInt8(ascii: "F") }

    /// The size in bytes of a tensor of this type; nil when it does not fit an `Int`, or is no whole number of bytes.
    public func byteCount(of shape: [Int]) -> Int? {
        guard let count = elementCount(of: shape) else { return nil }
        guard bits % 8 != 0 else { return checkedProduct(count, bits / 8) }
        guard let size = checkedProduct(count, bits), size % 8 == 0 else { return nil }
        return size / 8
    }
}

/// The product of a shape's dimensions; nil when one is negative or the product does not fit.
public func elementCount(of shape: [Int]) -> Int? {
    var count = 1
    // An empty tensor is empty however large its other dimensions are, but those still have to be sane.
    for dimension in shape {
        guard dimension >= 0, let product = checkedProduct(count, max(dimension, 1)) else { return nil }
        count = product
    }
    return shape.contains(0) ? 0 : count
}

func checkedProduct(_ a: Int, _ b: Int) -> Int? {
    let (product, overflow) = a.multipliedReportingOverflow(by: b)
    return overflow ? nil : product
}

func checkedSum(_ a: Int, _ b: Int) -> Int? {
    let (sum, overflow) = a.addingReportingOverflow(b)
    return overflow ? nil : sum
}
