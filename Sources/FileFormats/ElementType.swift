/// The element types of tensors in files, named as safetensors spells them.
public enum ElementType: String, CaseIterable, Sendable {
    case f64 = "F64"
    case f32 = "F32"
    case f16 = "F16"
    case bf16 = "BF16"
    case i64 = "I64"
    case i32 = "I32"
    case i16 = "I16"
    case i8 = "I8"
    case u8 = "U8"
    case bool = "BOOL"

    /// The size of one element in bytes.
    public var size: Int {
        switch self {
        case .f64, .i64: 8
        case .f32, .i32: 4
        case .f16, .bf16, .i16: 2
        case .i8, .u8, .bool: 1
        }
    }

    public var isFloatingPoint: Bool {
        switch self {
        case .f64, .f32, .f16, .bf16: true
        default: false
        }
    }

    /// The size in bytes of a tensor of this type; nil when it does not fit an `Int`.
    public func byteCount(of shape: [Int]) -> Int? {
        elementCount(of: shape).flatMap { checkedProduct($0, size) }
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
