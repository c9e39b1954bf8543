import Testing

@testable import TensorCore

/// A product C (+)= A B: which operands are transposed, bf16, or windows of wider matrices.
struct ProductCase: Sendable, CustomTestStringConvertible {
    var m, n, k: Int
    var aTransposed = false, bTransposed = false, accumulate = false
    var types: [DType] = [.f32, .f32, .f32]
    /// Elements that each row of memory is longer than the matrix.
    var margin = 0

    var testDescription: String {
        "[\(m), \(k)]\(aTransposed ? "T" : "") x [\(k), \(n)]\(bTransposed ? "T" : "")"
            + (accumulate ? " accumulated" : "") + " \(types)" + (margin > 0 ? ", margin \(margin)" : "")
    }

    static let sizes = [
        (1, 1, 1), (1, 24, 37), (16, 1, 5), (40, 17, 1), (23, 1, 1), (1, 9, 1), (33, 70, 20), (64, 64, 64),
    ]
    /// Forward, gradients of activations, gradients of weights: what operations ask for in bf16.
    static let types: [[DType]] =
        [[.f32, .f32, .f32]]
        + (Matmul.supportsBF16 ? [[.bf16, .bf16, .bf16], [.bf16, .bf16, .f32]] : [])

    static let all: [ProductCase] = sizes.flatMap { m, n, k in
        types.flatMap { types in
            (0..<16).map { bits in
                ProductCase(
                    m: m, n: n, k: k, aTransposed: bits & 1 > 0, bTransposed: bits & 2 > 0, accumulate: bits & 4 > 0,
                    types: types, margin: bits & 8 > 0 ? 3 : 0)
            }
        }
    }
}

@Suite struct ProductTests {
    /// A matrix of `rows` x `columns` in memory of its own (transposed in memory if so told) and its entries.
    private func make(
        _ rows: Int, _ columns: Int, transposed: Bool, _ dtype: DType, margin: Int, _ seed: UInt64
    ) -> (memory: Tensor, matrix: Matrix, entry: (Int, Int) -> Double) {
        let (height, width) = transposed ? (columns, rows) : (rows, columns)
        let stride = width + margin
        let memory = Tensor([height, stride], values: normals(height * stride, seed)).converted(to: dtype)
        let values = memory.floats()
        let whole = Matrix(memory).columns(margin / 2, width)
        return (
            memory, transposed ? whole.transposed : whole,
            { r, c in
                Double(transposed ? values[c * stride + margin / 2 + r] : values[r * stride + margin / 2 + c])
            }
        )
    }

    @Test("a product against loops, and nothing else written", arguments: ProductCase.all)
    func product(_ test: ProductCase) {
        let a = make(test.m, test.k, transposed: test.aTransposed, test.types[0], margin: test.margin, 1)
        let b = make(test.k, test.n, transposed: test.bTransposed, test.types[1], margin: test.margin, 2)
        let c = make(test.m, test.n, transposed: false, test.types[2], margin: test.margin, 3)
        let before = c.memory.floats()
        let worker = WorkerPool.Worker(index: 0)
        Matmul.makeThreadSequential()
        worker.multiply(a.matrix, b.matrix, into: c.matrix, accumulate: test.accumulate)
        let stride = test.n + test.margin, after = c.memory.floats()
        var (actual, expected, outside): ([Float], [Double], [Int]) = ([], [], [])
        for i in after.indices {
            let (row, column) = (i / stride, i % stride - test.margin / 2)
            guard 0..<test.n ~= column else {
                if after[i].bitPattern != before[i].bitPattern { outside.append(i) }
                continue
            }
            let sum = (0..<test.k).reduce(0.0) { $0 + a.entry(row, $1) * b.entry($1, column) }
            actual.append(after[i])
            expected.append(sum + (test.accumulate ? Double(before[i]) : 0))
        }
        #expect(outside.isEmpty)
        #expect(relativeError(actual, expected, floor: 1) < (test.types[2] == .f32 ? 1e-5 : 0.01))
    }

    @Test("products of different layouts on one worker do not mix")
    func cache() {
        let worker = WorkerPool.Worker(index: 0)
        Matmul.makeThreadSequential()
        let a = make(6, 6, transposed: false, .f32, margin: 0, 1), b = make(6, 6, transposed: false, .f32, margin: 0, 2)
        func multiply(_ a: Matrix, _ b: Matrix, _ accumulate: Bool) -> [Float] {
            let c = Tensor.zeros([6, 6])
            worker.multiply(a, b, into: Matrix(c), accumulate: accumulate)
            return c.floats()
        }
        for _ in 0..<2 {
            let plain = multiply(a.matrix, b.matrix, false)
            #expect(relativeError(multiply(a.matrix, b.matrix, true), plain) < 1e-6)
            #expect(relativeError(multiply(a.matrix.transposed, b.matrix, false), plain) > 0.1)
            #expect(relativeError(multiply(a.matrix, b.matrix.transposed, false), plain) > 0.1)
            let turned = multiply(b.matrix.transposed, a.matrix.transposed, false)
            #expect(relativeError((0..<36).map { turned[$0 % 6 * 6 + $0 / 6] }, plain) < 1e-6)
        }
    }

    @Test("many shapes on one worker")
    func manyShapes() {
        let worker = WorkerPool.Worker(index: 0), x = Tensor([80, 80], values: normals(6400, 1)), y = Tensor([80, 80])
        Matmul.makeThreadSequential()
        for n in 1...80 {
            worker.multiply(
                Matrix(x).rows(0, n), Matrix(x).columns(0, n), into: Matrix(y).rows(0, n).columns(0, n))
        }
        let expected = Reference.product(
            doubles(x.floats()), (0..<6400).map { Double(x.floats()[$0 % 80 * 80 + $0 / 80]) }, k: 80)
        #expect(relativeError(y.floats(), expected) < 1e-5)
    }

    @Test("a product without inner elements is zero, and adds nothing", arguments: [false, true])
    func emptyInner(accumulate: Bool) {
        let worker = WorkerPool.Worker(index: 0), c = Tensor([3, 4], values: [Float](repeating: 2, count: 12))
        Matmul.makeThreadSequential()
        let (a, b) = (Tensor([3, 0]), Tensor([0, 4]))
        worker.multiply(Matrix(a), Matrix(b), into: Matrix(c), accumulate: accumulate)
        #expect(c.floats() == [Float](repeating: accumulate ? 2 : 0, count: 12))
    }

    @Test func updateOfSomeRowsIsAdded() {
        let (rank, width, height) = (3, 37, 50)
        func random(_ shape: [Int], _ seed: UInt64) -> Tensor {
            let generator = CounterRNG(seed)
            return Tensor(shape, values: (0..<shape[0] * shape[1]).map { Float(generator.uniform(UInt64($0)) - 0.5) })
        }
        let a = random([rank, width], 1), b = random([height, rank], 2)
        let adapter = LowRankAdapter(a: Weight(frozen: a, name: "a"), b: Weight(frozen: b, name: "b"), scale: 2)
        var weights = [Float](repeating: 1, count: 20 * width)
        var largest: Float = 0
        WorkerPool(threads: 1).parallelFor(1) { _, worker in
            weights.withUnsafeMutableBufferPointer { largest = adapter.add(rows: 7..<27, to: $0, worker: worker) }
        }
        let (av, bv) = (a.floats(), b.floats())
        var expectedLargest: Float = 0
        for row in 0..<20 {
            for column in 0..<width {
                let change = (0..<rank).reduce(Float(0)) {
                    $0 + 2 * bv[(row + 7) * rank + $1] * av[$1 * width + column]
                }
                expectedLargest = max(expectedLargest, abs(change))
                #expect(abs(weights[row * width + column] - 1 - change) < 1e-6)
            }
        }
        #expect(abs(largest - expectedLargest) < 1e-6)
    }
}
