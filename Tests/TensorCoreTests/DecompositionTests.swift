import Testing

@testable import TensorCore

@Suite struct DecompositionTests {
    private func difference(_ matrix: Tensor, _ svd: TruncatedSVD) -> Float {
        let made = Tensor.product(svd.u.scaledColumns(svd.s), svd.vt).floats()
        return zip(made, matrix.floats()).reduce(0) { max($0, abs($1.0 - $1.1)) }
    }

    /// Whatever the numbers, there is a result; where they are none, it is none.
    @Test(arguments: [
        Float.nan, .infinity, -.infinity, 0, .leastNonzeroMagnitude, 1e-38, -1e-20, 1, 1e20, 3e38,
        Float.greatestFiniteMagnitude,
    ]) func everyMatrixHasAResult(value: Float) {
        for (rows, columns) in [(1, 1), (1, 7), (7, 1), (3, 5), (5, 3)] {
            var values = (0..<rows * columns).map { value * (Float($0 % 3) / 2) }
            values[0] = value
            let matrix = Tensor([rows, columns], values: values)
            for rank in [1, 2, 9] {
                let svd = TruncatedSVD(matrix, rank: rank)
                let k = min(rank, rows, columns)
                #expect(svd.u.shape == [rows, k] && svd.vt.shape == [k, columns] && svd.s.count == k)
                guard value.isFinite else {
                    #expect(svd.s.allSatisfy { $0.isNaN })
                    continue
                }
                #expect((svd.u.floats() + svd.vt.floats()).allSatisfy { $0.isFinite })
                if rank == 9, abs(value) < 1e30 {
                    #expect(difference(matrix, svd) <= max(abs(value) * 1e-5, 8 * .leastNonzeroMagnitude))
                }
            }
            let q = matrix.orthonormalRows()
            #expect(q.shape == matrix.shape)
        }
    }

    @Test(arguments: [Float.nan, .infinity, -.infinity]) func quantisersRefuseWhatIsNoNumber(value: Float) {
        let pool = WorkerPool(threads: 2)
        func fill(_ rows: Range<Int>, _ target: UnsafeMutablePointer<Float>) {
            for i in 0..<rows.count * 64 { target[i] = 1 }
            if rows.contains(70) { target[(70 - rows.lowerBound) * 64 + 63] = value }
        }
        #expect(NormalFloat.quantize(rows: 80, columns: 64, doubly: true, pool: pool, source: fill) == nil)
        #expect(EightBit.quantize(rows: 80, columns: 64, pool: pool, source: fill) == nil)
    }
}
