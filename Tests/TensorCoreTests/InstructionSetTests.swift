import CKernels
import Testing

@testable import TensorCore

/// A buffer in the storage type of a kernel set.
private func stored(_ values: [Float], _ dtype: DType) -> Tensor {
    Tensor([values.count], values: values).converted(to: dtype)
}

/// Every loop of the table, on shapes that end inside a vector: each returns what it wrote, in f32.
private let loops: [(name: String, run: @Sendable (KernelSet) -> [[Float]])] = [
    (
        "accumulate_f32",
        { set in
            let (sum, addend) = (Tensor([77], values: normals(77, 1)), stored(normals(77, 2), set.dtype))
            set.table.accumulate_f32(sum.f32, addend.raw, 77)
            return [sum.floats()]
        }
    ),
    (
        "add_bias",
        { set in
            let out = stored(normals(5 * 40, 1), set.dtype)
            set.table.add_bias(out.raw, 40, normals(37, 2), 5, 37)
            return [out.floats()]
        }
    ),
    (
        "rms_norm",
        { set in
            let (rows, n) = (3, 53)
            let (x, weight) = (normals(rows * n, 1), normals(n, 2))
            let (out, unit) = (Tensor([rows * n], set.dtype), Tensor([rows * n], set.dtype))
            let dout = stored(normals(rows * n, 3), set.dtype)
            var (rstd, dx, dweight) = ([Float](repeating: 0, count: rows), normals(rows * n, 4), normals(n, 5))
            set.table.rms_norm(out.raw, unit.raw, &rstd, x, weight, 1e-5, rows, n)
            set.table.rms_norm_backward(&dx, dout.raw, unit.raw, rstd, weight, rows, n)
            set.table.rms_norm_weight_backward(&dweight, dout.raw, unit.raw, rows, n, 7, 41)
            return [out.floats(), unit.floats(), rstd, dx, dweight]
        }
    ),
    (
        "sum_rows",
        { set in
            var sum = normals(45, 1)
            let rows = stored(normals(9 * 45, 2), set.dtype)
            set.table.sum_rows(&sum, rows.raw, 9, 45, 3, 44)
            return [sum]
        }
    ),
    (
        "rotary",
        { set in
            let x = stored(normals(4 * 70, 1), set.dtype), table = rotaryTable(positions: 9, half: 13)
            set.table.rotary(x.raw, 70, [8, 0, 3, 3], table.cosine.f32, table.sine.f32, -1, 4, 2, 30, 13)
            return [x.floats()]
        }
    ),
    (
        "swiglu",
        { set in
            let n = 83, gate = stored(normals(n, scale: 10, 1), set.dtype), up = stored(normals(n, 2), set.dtype)
            let (out, dGate, dUp) = (Tensor([n], set.dtype), Tensor([n], set.dtype), Tensor([n], set.dtype))
            set.table.swiglu(out.raw, gate.raw, up.raw, n)
            set.table.swiglu_backward(dGate.raw, dUp.raw, up.raw, gate.raw, up.raw, n)
            return [out.floats(), dGate.floats(), dUp.floats()]
        }
    ),
    (
        "copy_rows, store_rows",
        { set in
            let (copied, kept) = (stored(normals(3 * 50, 1), set.dtype), stored(normals(3 * 50, 1), set.dtype))
            let source = stored(normals(3 * 41, 2), set.dtype)
            set.table.copy_rows(copied.raw, 50, source.raw, 41, 3, 37)
            set.table.store_rows(kept.raw, 50, normals(3 * 41, 2), 41, normals(3, 3), 3, 37)
            return [copied.floats(), kept.floats()]
        }
    ),
    (
        "attention_softmax",
        { set in
            // Eight rows of two heads: queries 60..<64 of 62 over keys 40..<(40 + 37), 19 of them in the window.
            let (rows, columns) = (8, 37)
            let scores = normals(rows * columns, scale: 5, 1)
            let (p, ds) = (Tensor([rows * columns], set.dtype), Tensor([rows * columns], set.dtype))
            let again = Tensor([rows * columns], set.dtype)
            var (top, sum) = (normals(rows, 4), [Float](repeating: 2, count: rows)), rescale = sum
            let logSums = normals(rows, 5).map { $0 + 8 }
            set.table.attention_softmax(p.raw, &top, &sum, &rescale, scores, 0.7, rows, columns, 4, 60, 40, 62, 19)
            set.table.attention_softmax_backward(
                again.raw, ds.raw, scores, normals(rows * columns, 2), logSums, normals(rows, 3), 0.7, rows, columns, 4,
                60,
                40, 62, 19)
            return [p.floats(), top, sum, rescale, again.floats(), ds.floats()]
        }
    ),
    (
        "row_dots",
        { set in
            var dots = [Float](repeating: 0, count: 3)
            let (a, b) = (stored(normals(3 * 60, 1), set.dtype), stored(normals(3 * 53, 2), set.dtype))
            set.table.row_dots(&dots, a.raw, 60, b.raw, 53, 3, 51)
            return [dots]
        }
    ),
    (
        "cross_entropy",
        { set in
            let n = 133, logits = normals(n, scale: 4, 1), d = Tensor([n], set.dtype)
            let loss = set.table.cross_entropy(d.raw, logits, n, 130, 0.75)
            let lossAlone = set.table.cross_entropy(nil, logits, n, 130, 1)
            return [[Float(loss)], [Float(lossAlone)], d.floats()]
        }
    ),
    (
        "divergence",
        { set in
            let n = 133, d = Tensor([n], set.dtype)
            return [0, 0.3, 1].flatMap { (beta: Float) -> [[Float]] in
                let student = normals(n, scale: 4, 1)
                var teacher = normals(n, scale: 4, 2)
                let loss = set.table.divergence(d.raw, student, &teacher, n, beta, 1.7, 0.75)
                return [[Float(loss)], d.floats()]
            }
        }
    ),
    (
        "matrix_vector",
        { set in
            var y = [Float](repeating: 0, count: 5)
            let (w, x) = (stored(normals(5 * 151, 1), set.dtype), stored(normals(151, 2), set.dtype))
            set.table.matrix_vector(&y, w.raw, x.raw, 5, 151)
            return [y]
        }
    ),
]

@Suite struct InstructionSetTests {
    @Test("all instruction sets agree", arguments: KernelSet.all.filter { $0.level > 0 }, loops.indices)
    func agree(_ set: KernelSet, loop: Int) {
        let expected = loops[loop].run(KernelSet(level: 0, dtype: set.dtype)), actual = loops[loop].run(set)
        #expect(expected.count == actual.count)
        for (a, e) in zip(actual, expected) {
            // Fused multiply-adds round less; in bf16 that may turn a last bit.
            #expect(relativeError(a, e) < (set.dtype == .f32 ? 2e-6 : 0.008), "\(loops[loop].name)")
            #expect(zip(a, e).allSatisfy { ($0 == 0) == ($1 == 0) }, "\(loops[loop].name)")
        }
    }

    @Test("bf16 loops compute what f32 loops do", arguments: KernelSet.bf16, loops.indices)
    func storageTypes(_ set: KernelSet, loop: Int) {
        let expected = loops[loop].run(KernelSet(level: set.level, dtype: .f32)), actual = loops[loop].run(set)
        for (a, e) in zip(actual, expected) { #expect(relativeError(a, e) < 0.03, "\(loops[loop].name)") }
    }

    @Test("the best set is the one in use, and sets beyond the processor are refused")
    func selection() {
        let best = KernelSet.f32.last!
        #expect(graft_kernels_at(best.level, 0) == graft_kernels_f32())
        #expect(graft_kernels_at(best.level, 1) == graft_kernels_bf16())
        #expect(graft_kernels_at(3, 0) == nil && graft_kernels_at(-1, 0) == nil)
        #expect(instructionSet.hasPrefix(["baseline", "avx2", "avx512"][Int(best.level)]))
    }

    @Test(
        "the products of one row that this processor is given equal the table's", arguments: [1, 4, 7],
        [1, 31, 64, 151])
    func matrixVector(rows: Int, n: Int) {
        for dtype in [DType.f32, .bf16] {
            let w = stored(normals(rows * n, 1), dtype), x = stored(normals(n, 2), dtype)
            var (y, expected) = ([Float](repeating: 9, count: rows), [Float](repeating: 0, count: rows))
            graft_matrix_vector_for(dtype == .bf16 ? 1 : 0)(&y, w.raw, x.raw, rows, n)
            graft_kernels_at(0, dtype == .bf16 ? 1 : 0).pointee.matrix_vector(&expected, w.raw, x.raw, rows, n)
            for (a, b) in zip(y, expected) { #expect(abs(a - b) <= 1e-5 * Float(n).squareRoot() * 4) }
        }
    }

    @Test("softmax of an attention tile sees the window, the causal past and no padding", arguments: KernelSet.f32)
    func attentionMask(_ set: KernelSet) {
        let (columns, queryRows, rows) = (40, 4, 8)
        var (p, top) = ([Float](repeating: 9, count: rows * columns), [Float](repeating: -.infinity, count: rows))
        var (sum, rescale) = ([Float](repeating: 0, count: rows), [Float](repeating: 9, count: rows))
        set.table.attention_softmax(
            &p, &top, &sum, &rescale, [Float](repeating: 1, count: rows * columns), 1, rows, columns, queryRows, 18, 0,
            21,
            10)
        for r in 0..<rows {
            let query = 18 + r % queryRows
            let seen = query < 21 ? query - 9...query : nil
            for c in 0..<columns {
                let expected: Float = seen?.contains(c) == true ? 1 : 0
                #expect(abs(p[r * columns + c] - expected) < 1e-6)
            }
        }
    }

    @Test("cross-entropy of extreme logits stays finite", arguments: KernelSet.f32)
    func extremeLogits(_ set: KernelSet) {
        var d = [Float](repeating: 0, count: 20)
        let logits = (0..<20).map { Float($0 == 3 ? 3e4 : -3e4) }
        #expect(set.table.cross_entropy(&d, logits, 20, 3, 1) == 0 && d.allSatisfy { $0 == 0 })
        #expect(set.table.cross_entropy(&d, logits, 20, 4, 1) == 6e4 && d[3] == 1 && d[4] == -1)
        let loss = set.table.cross_entropy(&d, [Float](repeating: .nan, count: 20), 20, 4, 1)
        #expect(loss.isNaN)
        #expect(set.table.cross_entropy(&d, [5], 1, 0, 1) == 0 && d[0] == 0)
    }

    @Test("the divergence of extreme logits stays finite", arguments: KernelSet.f32, [0, 0.5, 1] as [Float])
    func extremeDivergence(_ set: KernelSet, beta: Float) {
        var d = [Float](repeating: 0, count: 20)
        let student = (0..<20).map { Float($0 == 3 ? 3e4 : -3e4) }
        var teacher = (0..<20).map { Float($0 == 4 ? 3e4 : -3e4) }
        let loss = set.table.divergence(&d, student, &teacher, 20, beta, 1, 1)
        // Disjoint distributions: the mean of both is ln 2 away from each.
        #expect(beta == 0.5 ? abs(loss - 0.693147) < 1e-5 : loss == 6e4)
        #expect(d.allSatisfy { $0.isFinite })
        teacher = [-5]
        #expect(set.table.divergence(&d, [5], &teacher, 1, beta, 1, 1) == 0 && d[0] == 0)
    }
}
