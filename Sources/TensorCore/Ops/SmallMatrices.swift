internal import CKernels

/// Work on whole matrices outside the training loop.
extension Tensor {
    /// A copy.
    public func copied() -> Tensor { converted(to: dtype) }

    /// The rows with these numbers, in f32.
    public func selectedRows(_ indices: [Int]) -> Tensor {
        let result = Tensor([indices.count, width])
        for (place, index) in indices.enumerated() {
            precondition((0..<rows).contains(index))
            kernels(dtype).pointee.to_f32(result.f32 + place * width, row(index), width)
        }
        return result
    }

    /// A copy of an f32 tensor, all of it multiplied.
    public func scaledBy(_ factor: Float) -> Tensor {
        let result = copied()
        for i in 0..<count { result.f32[i] *= factor }
        return result
    }

    /// A copy of an f32 matrix with each row multiplied by its factor.
    public func scaledRows(_ factors: [Float]) -> Tensor {
        precondition(factors.count == rows)
        let result = copied()
        for r in 0..<rows { for i in r * width..<(r + 1) * width { result.f32[i] *= factors[r] } }
        return result
    }

    /// A copy of an f32 matrix with each column multiplied by its factor.
    public func scaledColumns(_ factors: [Float]) -> Tensor {
        precondition(factors.count == width)
        let result = copied()
        for r in 0..<rows { for c in 0..<width { result.f32[r * width + c] *= factors[c] } }
        return result
    }

    /// Matrices of one width under each other.
    public static func stackedRows(_ parts: [Tensor]) -> Tensor {
        let width = parts[0].width
        precondition(parts.allSatisfy { $0.width == width && $0.dtype == .f32 })
        let result = Tensor([parts.reduce(0) { $0 + $1.rows }, width])
        var row = 0
        for part in parts {
            result.row(row).copyMemory(from: part.raw, byteCount: part.byteCount)
            row += part.rows
        }
        return result
    }

    /// Matrices of one height side by side.
    public static func stackedColumns(_ parts: [Tensor]) -> Tensor {
        stackedRows(parts.map { $0.transposed() }).transposed()
    }

    /// The rows made orthonormal one after the other (Gram and Schmidt, twice, in double precision).
    public func orthonormalRows() -> Tensor {
        var done: [[Double]] = []
        for r in 0..<rows {
            var v = (0..<width).map { Double(f32[r * width + $0]) }
            for _ in 0..<2 {
                for other in done {
                    let dot = zip(v, other).reduce(0) { $0 + $1.0 * $1.1 }
                    for i in v.indices { v[i] -= dot * other[i] }
                }
            }
            let length = v.reduce(0) { $0 + $1 * $1 }.squareRoot()
            done.append(length > 0 ? v.map { $0 / length } : v)
        }
        return Tensor(shape, values: done.flatMap { $0.map(Float.init) })
    }
}
