internal import CKernels
internal import COpenBLAS
import Foundation

#if canImport(COneDNN)
    internal import COneDNN
#endif

/// A matrix somewhere in memory; one of the two strides is 1.
struct Matrix {
    var pointer: UnsafeMutableRawPointer
    var rows: Int
    var columns: Int
    var rowStride: Int
    var columnStride = 1
    var dtype: DType
    /// Whether the memory is laid out as `PackedWeight` has it; the strides do not count then.
    var isPacked = false

    /// Rows of `width` elements, `stride` apart.
    init(_ pointer: UnsafeMutableRawPointer, rows: Int, columns: Int, stride: Int? = nil, _ dtype: DType) {
        self.pointer = pointer
        self.rows = rows
        self.columns = columns
        rowStride = stride ?? columns
        self.dtype = dtype
    }

    init(_ tensor: Tensor) {
        self.init(tensor.raw, rows: tensor.rows, columns: tensor.width, tensor.dtype)
    }

    var transposed: Matrix {
        var result = self
        (result.rows, result.columns) = (columns, rows)
        (result.rowStride, result.columnStride) = (columnStride, rowStride)
        return result
    }

    /// Writes zero to every element; the rows' elements are adjacent.
    func fillZero() {
        precondition(columnStride == 1)
        for row in 0..<rows {
            (pointer + row * rowStride * dtype.size).initializeMemory(
                as: UInt8.self, repeating: 0, count: columns * dtype.size)
        }
    }

    /// Multiplies each row by its factor; f32 only.
    func scaleRows(_ factors: UnsafePointer<Float>) {
        precondition(dtype == .f32 && columnStride == 1)
        let values = pointer.assumingMemoryBound(to: Float.self)
        for r in 0..<rows where factors[r] != 1 {
            for i in r * rowStride..<r * rowStride + columns { values[i] *= factors[r] }
        }
    }

    /// `count` rows from `first`.
    func rows(_ first: Int, _ count: Int) -> Matrix {
        var result = self
        result.pointer += first * rowStride * dtype.size
        result.rows = count
        return result
    }

    /// `count` columns from `first`.
    func columns(_ first: Int, _ count: Int) -> Matrix {
        var result = self
        result.pointer += first * columnStride * dtype.size
        result.columns = count
        return result
    }
}

/// The shapes, layouts and types of a product C (+)= A B.
struct ProductKey: Hashable {
    var m, n, k, aStride, bStride, cStride: Int32
    /// Bits: A transposed, B transposed, A bf16, B bf16, C bf16, accumulate, B packed.
    var flags: UInt8

    init(_ a: Matrix, _ b: Matrix, _ c: Matrix, accumulate: Bool) {
        precondition(a.columns == b.rows && a.rows == c.rows && b.columns == c.columns && c.columnStride == 1)
        m = Int32(a.rows)
        n = Int32(b.columns)
        k = Int32(a.columns)
        let aTransposed = a.columnStride != 1, bTransposed = b.columnStride != 1
        aStride = Int32(aTransposed ? a.columnStride : a.rowStride)
        bStride = Int32(bTransposed ? b.columnStride : b.rowStride)
        cStride = Int32(c.rowStride)
        var bits: UInt8 = aTransposed ? 1 : 0
        if bTransposed { bits |= 2 }
        if a.dtype == .bf16 { bits |= 4 }
        if b.dtype == .bf16 { bits |= 8 }
        if c.dtype == .bf16 { bits |= 16 }
        if accumulate { bits |= 32 }
        if b.isPacked { bits |= 64 }
        flags = bits
    }
}

#if canImport(COneDNN)
    enum Matmul {
        /// Whether the library multiplies bf16 on this processor at all; it needs AVX512.
        static let supportsBF16: Bool = {
            var matrix = graft_matrix(rows: 32, columns: 32, row_stride: 32, column_stride: 1, is_bf16: 1, is_packed: 0)
            var (a, b) = (matrix, matrix)
            guard let product = graft_product_create(engine, &a, &b, &matrix, 0) else { return false }
            graft_product_free(product)
            return true
        }()
        static func makeThreadSequential() { omp_set_num_threads(1) }
        static var libraryName: String {
            var buffer = [CChar](repeating: 0, count: 32)
            return "oneDNN " + String(cString: graft_onednn_version(&buffer, 32))
        }
        // oneDNN's engine may be used from any thread; it lives as long as the process.
        nonisolated(unsafe) static let engine: dnnl_engine_t = {
            guard let engine = graft_onednn_engine(graft_processor_level()) else {
                preconditionFailure("oneDNN has no CPU engine")
            }
            return engine
        }()
    }

    /// The products one worker has run, ready to run again: creating one compiles code and takes about 0.3 ms.
    ///
    /// Those not run since a generation of others came are freed: rows of differing lengths make thousands of shapes,
    /// each with some 50 KB of code.
    struct ProductCache {
        private var products: [ProductKey: UnsafeMutablePointer<graft_product>] = [:]
        private var older: [ProductKey: UnsafeMutablePointer<graft_product>] = [:]
        private static let generation = 1024

        mutating func product(_ a: Matrix, _ b: Matrix, _ c: Matrix, accumulate: Bool) -> UnsafeMutablePointer<
            graft_product
        > {
            let key = ProductKey(a, b, c, accumulate: accumulate)
            if let known = products[key] { return known }
            if products.count >= Self.generation {
                for product in older.values { graft_product_free(product) }
                (older, products) = (products, [:])
            }
            let product = older.removeValue(forKey: key) ?? Self.make(a, b, c, accumulate)
            products[key] = product
            return product
        }

        private static func make(
            _ a: Matrix, _ b: Matrix, _ c: Matrix, _ accumulate: Bool
        ) -> UnsafeMutablePointer<graft_product> {
            func describe(_ m: Matrix) -> graft_matrix {
                graft_matrix(
                    rows: Int64(m.rows), columns: Int64(m.columns), row_stride: Int64(m.rowStride),
                    column_stride: Int64(m.columnStride), is_bf16: m.dtype == .bf16 ? 1 : 0,
                    is_packed: m.isPacked ? 1 : 0)
            }
            var (da, db, dc) = (describe(a), describe(b), describe(c))
            guard let made = graft_product_create(Matmul.engine, &da, &db, &dc, accumulate ? 1 : 0) else {
                preconditionFailure("oneDNN refuses the product \(ProductKey(a, b, c, accumulate: accumulate))")
            }
            return made
        }

        mutating func removeAll() {
            for product in products.values { graft_product_free(product) }
            for product in older.values { graft_product_free(product) }
            (products, older) = ([:], [:])
        }
    }

    extension WorkerPool.Worker {
        /// C = A B, or C += A B, on the calling worker alone. A sum is never split between workers.
        func multiply(_ a: Matrix, _ b: Matrix, into c: Matrix, accumulate: Bool = false) {
            guard c.rows > 0, c.columns > 0 else { return }
            guard a.columns > 0 else {
                if !accumulate { c.fillZero() }
                return
            }
            let product = products.product(a, b, c, accumulate: accumulate)
            let memory = scratch(0, byteCount: product.pointee.scratch_bytes)
            let began = ledger == nil ? 0 : Ledger.now
            let status = graft_product_run(product, a.pointer, b.pointer, c.pointer, memory)
            precondition(status == 0, "a oneDNN product failed with status \(status)")
            ledger?.addProduct(a, b, c, accumulate, since: began)
        }
    }
#else
    enum Matmul {
        static let supportsBF16 = false
        /// OpenBLAS has one switch for the process; setting it again and again costs a lock.
        static func makeThreadSequential() { _ = isSequential }
        private static let isSequential: Bool = {
            openblas_set_num_threads(1)
            return true
        }()
        static var libraryName: String { String(cString: openblas_get_config()) }
    }

    struct ProductCache {
        mutating func removeAll() {}
    }

    extension WorkerPool.Worker {
        /// C = A B, or C += A B, on the calling worker alone; f32 only, since OpenBLAS has no bf16 product.
        func multiply(_ a: Matrix, _ b: Matrix, into c: Matrix, accumulate: Bool = false) {
            guard c.rows > 0, c.columns > 0 else { return }
            guard a.columns > 0 else {
                if !accumulate { c.fillZero() }
                return
            }
            precondition(a.dtype == .f32 && b.dtype == .f32 && c.dtype == .f32, "bf16 needs oneDNN")
            let (aOrder, aStride) = Self.layout(a), (bOrder, bStride) = Self.layout(b)
            let began = ledger == nil ? 0 : Ledger.now
            cblas_sgemm(
                CblasRowMajor, aOrder, bOrder, Int32(a.rows), Int32(b.columns), Int32(a.columns), 1,
                a.pointer.assumingMemoryBound(to: Float.self), aStride, b.pointer.assumingMemoryBound(to: Float.self),
                bStride, accumulate ? 1 : 0, c.pointer.assumingMemoryBound(to: Float.self),
                Int32(max(c.rowStride, c.columns)))
            ledger?.addProduct(a, b, c, accumulate, since: began)
        }

        /// Order and leading dimension. BLAS wants the latter as long as a row even where there is one row only: a
        /// transposed column has two strides of 1.
        private static func layout(_ m: Matrix) -> (CBLAS_TRANSPOSE, Int32) {
            m.columnStride == 1
                ? (CblasNoTrans, Int32(max(m.rowStride, m.columns)))
                : (CblasTrans, Int32(max(m.columnStride, m.rows)))
        }
    }
#endif

/// A copy of a matrix in bf16, in the layout in which oneDNN multiplies it without a copy of its own, as the second
/// operand. Worth its making where many tiles of rows are multiplied with it.
final class PackedWeight {
    private let source: Weight
    private let content: Tensor
    private let rows, columns: Int

    /// Whether products with it are fast here.
    static var isUseful: Bool { hasFastBF16 }

    /// - Parameter source: bf16 `[k, n]`, or quantised
    init(_ source: Weight) {
        precondition(source.value.dtype == .bf16)
        self.source = source
        (rows, columns) = (source.shape[0], source.shape[1])
        content = Tensor([(columns + 63) / 64, (rows + 31) / 32 * 32 * 64], .bf16)
    }

    /// Work that fills it, to be done in any order by any workers.
    var items: [(WorkerPool.Worker) -> Void] {
        stride(from: 0, to: rows, by: 64).map { first in
            { [self] worker in
                let count = min(64, rows - first)
                graft_pack_bf16(
                    content.raw.assumingMemoryBound(to: UInt16.self),
                    source.rows(first, count, worker).pointer.assumingMemoryBound(to: UInt16.self), rows, columns,
                    first, first + count)
                worker.count(bytes: 4 * count * columns)
            }
        }
    }

    /// `[k, n]`
    var matrix: Matrix {
        var result = Matrix(content.raw, rows: rows, columns: columns, .bf16)
        result.isPacked = true
        return result
    }
}

extension Ledger {
    /// Counts the product C (+)= A B, which began at `began`, for the operation that runs.
    func addProduct(_ a: Matrix, _ b: Matrix, _ c: Matrix, _ accumulate: Bool, since began: Double) {
        entries[current].productSeconds += Ledger.now - began
        entries[current].productOperations += 2 * Double(a.rows) * Double(a.columns) * Double(b.columns)
        let result = c.rows * c.columns * c.dtype.size
        let operands = a.rows * a.columns * a.dtype.size + b.rows * b.columns * b.dtype.size
        entries[current].bytes += Double(operands + (accumulate ? 2 * result : result))
    }
}

/// The name and version of the library that multiplies.
public var matmulLibrary: String { Matmul.libraryName }
