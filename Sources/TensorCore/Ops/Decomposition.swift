internal import COpenBLAS
import Host

/// f32 products on the calling thread, outside a pool.
enum DenseProduct {
    private static let isSequential: Void = openblas_set_num_threads(1)
    private static let isLimited = AddressSpace.isLimited

    /// OpenBLAS takes 128 MiB of address space for each thread that calls it, and waits for ever where it gets none.
    static func makeReady() {
        _ = isSequential
        if isLimited, !AddressSpace.canReserve(128 << 20) { endOutOfMemory(128 << 20) }
    }

    /// C (+)= A B for f32 matrices whose rows' elements are adjacent, or their transposes.
    static func run(_ a: Matrix, _ b: Matrix, into c: Matrix, accumulate: Bool = false) {
        makeReady()
        precondition(a.columns == b.rows && a.rows == c.rows && b.columns == c.columns && c.columnStride == 1)
        precondition(a.dtype == .f32 && b.dtype == .f32 && c.dtype == .f32)
        guard c.rows > 0, c.columns > 0 else { return }
        func layout(_ m: Matrix) -> (CBLAS_TRANSPOSE, Int32) {
            m.columnStride == 1
                ? (CblasNoTrans, Int32(max(m.rowStride, m.columns, 1)))
                : (CblasTrans, Int32(max(m.columnStride, m.rows, 1)))
        }
        let (transA, strideA) = layout(a)
        let (transB, strideB) = layout(b)
        cblas_sgemm(
            CblasRowMajor, transA, transB, Int32(a.rows), Int32(b.columns), Int32(a.columns), 1,
            a.pointer.assumingMemoryBound(to: Float.self), strideA, b.pointer.assumingMemoryBound(to: Float.self),
            strideB, accumulate ? 1 : 0, c.pointer.assumingMemoryBound(to: Float.self),
            Int32(max(c.rowStride, c.columns)))
    }

    /// Sequential products and decompositions in the libraries: results do not depend on the number of processors.
    static func makeSequential() { makeReady() }
}

extension Tensor {
    /// A B for f32 matrices, on the calling thread; either may be taken transposed.
    public static func product(_ a: Tensor, transposed ta: Bool = false, _ b: Tensor, transposed tb: Bool = false)
        -> Tensor
    {
        let (left, right) = (ta ? Matrix(a).transposed : Matrix(a), tb ? Matrix(b).transposed : Matrix(b))
        let result = Tensor([left.rows, right.columns])
        DenseProduct.run(left, right, into: Matrix(result))
        return result
    }
}

/// The leading part of a singular value decomposition M = U S V^T.
public struct TruncatedSVD {
    /// `[m, k]`, columns of length 1
    public var u: Tensor
    /// k values, falling
    public var s: [Float]
    /// `[k, n]`, rows of length 1
    public var vt: Tensor
    /// The sum of the squares of the singular values, in double precision.
    public let energy: Double

    /// The `rank` largest singular values and their vectors, or as many as M has, from the eigenvectors of the smaller
    /// of M M^T and M^T M in double precision: values below 1e-7 of the largest are lost in rounding, which lies under
    /// the resolution of f32.
    ///
    /// Runs on the calling thread and gives the same bits each time. A matrix that holds infinity or NaN has no
    /// decomposition: all parts are NaN then.
    /// - Parameter matrix: f32 `[m, n]`
    public init(_ matrix: Tensor, rank: Int) {
        let (m, n) = (matrix.rows, matrix.width)
        let isWide = m <= n
        let size = min(m, n)
        let k = min(rank, size)
        var values = [Double](repeating: 0, count: matrix.count)
        for i in 0..<matrix.count { values[i] = Double(matrix.f32[i]) }
        guard values.allSatisfy(\.isFinite),
            let (eigenvalues, vectors) = Self.leadingEigenvectors(Self.gram(values, m, n, isWide), size, k)
        else {
            u = Tensor([m, k], values: [Float](repeating: .nan, count: m * k))
            vt = Tensor([k, n], values: [Float](repeating: .nan, count: k * n))
            (s, energy) = ([Float](repeating: .nan, count: k), .nan)
            return
        }
        energy = eigenvalues.reduce(0) { $0 + max(0, $1) }
        s = eigenvalues.map { Float(max(0, $0).squareRoot()) }
        // The vectors lie row by row: [k, size]. The other side's are M^T u / s.
        var other = [Double](repeating: 0, count: k * max(m, n))
        let wide = Int32(max(m, n))
        cblas_dgemm(
            CblasRowMajor, CblasNoTrans, isWide ? CblasNoTrans : CblasTrans, Int32(k), wide, Int32(size), 1, vectors,
            Int32(size), values, Int32(n), 0, &other, wide)
        let length = max(m, n)
        for i in 0..<k {
            let norm = other[i * length..<(i + 1) * length].reduce(0) { $0 + $1 * $1 }.squareRoot()
            if norm > 0 { for j in i * length..<(i + 1) * length { other[j] /= norm } }
        }
        let near = Tensor([k, size], values: vectors.map(Float.init))
        let far = Tensor([k, length], values: other.map(Float.init))
        u = (isWide ? near : far).transposed()
        vt = isWide ? far : near
    }

    /// M M^T or M^T M.
    private static func gram(_ values: [Double], _ m: Int, _ n: Int, _ isWide: Bool) -> [Double] {
        let size = isWide ? m : n
        var result = [Double](repeating: 0, count: size * size)
        DenseProduct.makeSequential()
        guard size > 0 else { return result }
        cblas_dsyrk(
            CblasRowMajor, CblasUpper, isWide ? CblasNoTrans : CblasTrans, Int32(size), Int32(isWide ? n : m), 1,
            values, Int32(n), 0, &result, Int32(size))
        return result
    }

    /// The largest eigenvalues of a symmetric matrix, whose upper half is given, falling, and their vectors as rows;
    /// nil where they are not found.
    private static func leadingEigenvectors(_ matrix: [Double], _ size: Int, _ count: Int) -> ([Double], [Double])? {
        guard count > 0 else { return ([], []) }
        var a = matrix
        var n = Int32(size)
        var found: Int32 = 0
        var info: Int32 = 0
        var lower = 0.0
        var upper = 0.0
        var first = Int32(size - count + 1)
        var last = Int32(size)
        var tolerance = 0.0
        var w = [Double](repeating: 0, count: size)
        var z = [Double](repeating: 0, count: size * count)
        var support = [Int32](repeating: 0, count: 2 * max(1, count))
        var work = [0.0]
        var integers: [Int32] = [0]
        var workSize: Int32 = -1
        var integerSize: Int32 = -1
        for _ in 0..<2 {
            // Row by row the upper half is what LAPACK, column by column, takes for the lower.
            dsyevr_(
                "V", "I", "L", &n, &a, &n, &lower, &upper, &first, &last, &tolerance, &found, &w, &z, &n, &support,
                &work, &workSize, &integers, &integerSize, &info, 1, 1, 1)
            if workSize == -1 {
                (workSize, integerSize) = (Int32(work[0]), integers[0])
                work = [Double](repeating: 0, count: Int(workSize))
                integers = [Int32](repeating: 0, count: Int(integerSize))
            }
        }
        guard info == 0, Int(found) == count else { return nil }
        var values: [Double] = []
        var vectors: [Double] = []
        for i in (0..<count).reversed() {
            values.append(w[i])
            vectors += z[i * size..<(i + 1) * size]
        }
        return (values, vectors)
    }
}
