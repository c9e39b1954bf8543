import CKernels
import Testing

@testable import TensorCore

@Suite struct QuantizedTests {
    private func quantized(_ values: [Float], _ rows: Int, _ columns: Int, doubly: Bool, threads: Int = 2)
        -> QuantizedMatrix
    {
        let matrix = NormalFloat.quantize(
            rows: rows, columns: columns, doubly: doubly, pool: WorkerPool(threads: threads)
        ) { range, target in
            for (i, place) in (range.lowerBound * columns..<range.upperBound * columns).enumerated() {
                target[i] = values[place]
            }
        }
        guard let matrix else { preconditionFailure("the values are finite") }
        return matrix
    }

    /// The nearest of the 16 values times the block's largest magnitude, by the definition.
    private func reference(_ values: [Float]) -> [Float] {
        let book = withUnsafeBytes(of: graft_nf4_codebook) { Array($0.bindMemory(to: Float.self)) }
        return stride(from: 0, to: values.count, by: 64).flatMap { start -> [Float] in
            let block = values[start..<min(values.count, start + 64)]
            let scale = block.reduce(0) { max($0, abs($1)) }
            return block.map { value in
                scale == 0 ? 0 : scale * book.min { abs($0 - value / scale) < abs($1 - value / scale) }!
            }
        }
    }

    @Test(
        "numbers become the nearest of their block's sixteen",
        arguments: [(1, 64), (7, 80), (33, 5), (64, 192), (3, 1)])
    func nearest(rows: Int, columns: Int) {
        var values = normals(rows * columns, 3)
        if rows > 6 { for i in 0..<64 { values[64 + i] = 0 } }
        let decoded = quantized(values, rows, columns, doubly: false).decoded(pool: WorkerPool(threads: 2)).floats()
        for (found, expected) in zip(decoded, reference(values)) { #expect(abs(found - expected) <= 1e-6) }
    }

    @Test("scales of 8 bits stay near, and the pieces do not show", arguments: [(40, 80), (129, 64)])
    func doubleQuantization(rows: Int, columns: Int) {
        let values = normals(rows * columns, 4), pool = WorkerPool(threads: 2)
        let plain = quantized(values, rows, columns, doubly: false).decoded(pool: pool).floats()
        let matrix = quantized(values, rows, columns, doubly: true)
        let double = matrix.decoded(pool: pool).floats()
        for (a, b) in zip(plain, double) { #expect(abs(a - b) <= 0.04) }
        #expect(double == quantized(values, rows, columns, doubly: true, threads: 1).decoded(pool: pool).floats())
        #expect(Double(matrix.byteCount) * 8 / Double(values.count) < 4.3)
    }

    @Test("bytes are within half a step, and what is no number is refused")
    func eightBit() {
        let (rows, columns) = (37, 96), pool = WorkerPool(threads: 2)
        var values = normals(rows * columns, 11)
        func quantized() -> QuantizedMatrix? {
            EightBit.quantize(rows: rows, columns: columns, pool: pool) { range, target in
                for (i, place) in (range.lowerBound * columns..<range.upperBound * columns).enumerated() {
                    target[i] = values[place]
                }
            }
        }
        let decoded = quantized()!.decoded(pool: pool).floats()
        for start in stride(from: 0, to: values.count, by: 32) {
            let step = values[start..<start + 32].reduce(0) { max($0, abs($1)) } / 127
            // The step itself is rounded to f16, which counts up to 127 times.
            for i in start..<start + 32 { #expect(abs(decoded[i] - values[i]) <= (0.5 + 127 / 2048) * step) }
        }
        values[1_000] = .nan
        #expect(quantized() == nil)
    }

    @Test("the 8-bit codes are 256, from nearly -1 to 1, with a zero")
    func dynamicCodes() {
        let codes = NormalFloat.dynamicCodes
        #expect(codes.count == 256 && Set(codes).count == 256 && codes.contains(0) && codes.last == 1)
        #expect(codes == codes.sorted() && abs(codes[0] + 0.9929688) < 1e-6)
    }

    /// The kernel table of the processor against the portable loop.
    @Test("the processor's decoder and the portable one agree")
    func decoders() {
        let codes = (0..<96).map { UInt8(truncatingIfNeeded: $0 * 37 + 11) }, scales: [Float] = [0.5, 2, 1.25]
        var whole = [Float](repeating: 0, count: 192), part = [Float](repeating: 0, count: 190)
        graft_nf4_decode(&whole, codes, scales, 192)
        // Blocks that are not whole go through the portable loop.
        for block in 0..<3 {
            part.withUnsafeMutableBufferPointer { part in
                codes.withUnsafeBufferPointer { codes in
                    let scale = [scales[block]], count = min(63, 190 - block * 64)
                    graft_nf4_decode(part.baseAddress! + block * 64, codes.baseAddress! + block * 32, scale, count)
                }
            }
        }
        for i in 0..<190 where i % 64 != 63 { #expect(whole[i] == part[i]) }
    }

    /// Rows of one token, of a few, of a tile, and enough for packed weights.
    @Test("a layer computes what it does with the decoded matrix", arguments: [1, 5, 40, 600], [DType.f32, .bf16])
    func linear(rows: Int, dtype: DType) {
        guard dtype == .f32 || supportsBF16Products else { return }
        let (inputs, outputs) = (96, 200), pool = WorkerPool(threads: 2)
        let matrix = quantized(normals(inputs * outputs, scale: 0.2, 5), outputs, inputs, doubly: true)
        func run(_ weight: Weight) -> ([Float], [Float]) {
            let tape = Tape(pool: pool, recording: true)
            let x = Tensor([rows, inputs], values: normals(rows * inputs, 6)).converted(to: dtype)
            x.requiresGradient = true
            let adapter = LowRankAdapter(
                a: Weight(
                    trainable: Tensor([4, inputs], values: normals(4 * inputs, 7)), name: "a",
                    dtype: dtype),
                b: Weight(
                    trainable: Tensor([outputs, 4], values: normals(4 * outputs, 8)), name: "b",
                    dtype: .f32), scale: 0.5)
            let y = tape.fusing { tape.linear(x, [Projection(weight: weight, adapter: adapter)])[0] }
            y.gradient = Tensor(y.shape, values: normals(y.count, 9)).converted(to: dtype)
            tape.backward()
            return (y.floats(), x.gradient!.floats())
        }
        let (y, dx) = run(Weight(quantized: matrix, name: "w", dtype: dtype))
        let (expectedY, expectedDx) = run(
            Weight(frozen: matrix.decoded(pool: pool).converted(to: dtype), name: "w"))
        // Few rows are multiplied in other pieces, which may round another way.
        let tolerance: Float = rows > 16 ? 0 : dtype == .f32 ? 1e-4 : 0.1
        for (a, b) in zip(y + dx, expectedY + expectedDx) { #expect(abs(a - b) <= tolerance) }
    }
}
