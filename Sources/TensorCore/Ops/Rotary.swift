internal import CKernels

/// Cosines and sines of the rotary embedding for positions 0..<P, `[P, half]` each, f32.
public struct RotaryTable {
    public let cosine: Tensor
    public let sine: Tensor
    /// Whether element 2i turns with 2i + 1, rather than i with i + half.
    public let isInterleaved: Bool
    /// Rotated pairs a head, of its first 2 x half elements.
    public var half: Int { cosine.width }
    public var positions: Int { cosine.shape[0] }

    public init(cosine: Tensor, sine: Tensor, isInterleaved: Bool = false) {
        precondition(cosine.shape == sine.shape)
        self.cosine = cosine
        self.sine = sine
        self.isInterleaved = isInterleaved
    }
}

extension Tape {
    /// Rotary position embedding (arXiv:2104.09864), in place.
    ///
    /// - Parameters:
    ///   - x: `[T, heads * headDim]`; holders of the same memory see the change.
    ///   - positions: the table's row for each row of x
    ///   - start: the first element of a head that turns
    public func rotateInPlace(
        _ x: Tensor, heads: Int, positions: [Int32], table: RotaryTable, from start: Int = 0
    ) {
        precondition(start + 2 * table.half <= x.width / heads)
        precondition(x.rows == positions.count && positions.allSatisfy { 0..<table.positions ~= Int($0) })
        func turn(_ tensor: Tensor, _ sign: Float, _ operation: Operation) {
            let (width, headDim) = (tensor.width, tensor.width / heads)
            let bytes = 2 * width * tensor.dtype.size
            executor.rows(tensor.rows, operation, bytesPerRow: bytes) { first, count, _ in
                positions.withUnsafeBufferPointer { positions in
                    let loops = kernels(tensor.dtype).pointee
                    (table.isInterleaved ? loops.rotary_interleaved : loops.rotary)!(
                        tensor.row(first) + start * tensor.dtype.size, width, positions.baseAddress! + first,
                        table.cosine.f32, table.sine.f32,
                        sign, count, heads, headDim, table.half)
                }
            }
        }
        turn(x, 1, .rotary)
        guard x.requiresGradient else { return }
        record([]) {
            if let d = x.gradient { turn(d, -1, .rotaryBackward) }
        }
    }
}
