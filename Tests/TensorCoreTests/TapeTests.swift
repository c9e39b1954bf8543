import Testing

@testable import TensorCore

@Suite struct TapeTests {
    private let pool = WorkerPool(threads: 2)

    @Test("rows without elements pass through every operation")
    func emptyRows() {
        let tape = Tape(pool: pool, recording: true)
        let weight = Weight(trainable: Tensor([4, 4], values: normals(16, 1)), name: "w", dtype: .f32)
        let norm = Weight(trainable: Tensor([4], values: normals(4, 1)), name: "n", dtype: .f32)
        let projection = Projection(weight: weight)
        let x = tape.embedding([], table: weight)
        let y = tape.rmsNorm(x, weight: norm, eps: 1e-5, dtype: .f32)
        let outputs = tape.linear(y, [projection, projection])
        tape.rotateInPlace(outputs[0], heads: 1, positions: [], table: rotaryTable(positions: 2, half: 2))
        let attended = tape.attention(
            q: outputs[0], k: outputs[1], v: outputs[1], segmentStarts: [0],
            shape: AttentionShape(heads: 1, keyValueHeads: 1, headDim: 4))
        let z = tape.linear(tape.swiGLU(gate: attended, up: attended), projection, addedTo: x)
        #expect(tape.crossEntropy(z, head: projection, targets: []).isEmpty)
        tape.backward()
        #expect(weight.gradient?.floats() == [Float](repeating: 0, count: 16))
        #expect(norm.gradient?.floats() == [0, 0, 0, 0])
    }

    @Test("no gradient below the first thing that learns, none for what is frozen")
    func frozen() {
        let tape = Tape(pool: pool, recording: true)
        let frozen = Weight(frozen: Tensor([4, 4], values: normals(16, 1)), name: "w")
        let x = Tensor([20, 4], values: normals(80, 2))
        let y = tape.linear(x, [Projection(weight: frozen)])[0]
        #expect(!y.requiresGradient)
        let adapter = LowRankAdapter(
            a: Weight(trainable: Tensor([2, 4], values: normals(8, 3)), name: "a", dtype: .f32),
            b: Weight(trainable: Tensor([4, 2], values: normals(8, 4)), name: "b", dtype: .f32), scale: 1)
        let z = tape.linear(y, [Projection(weight: frozen, adapter: adapter)])[0]
        #expect(z.requiresGradient)
        z.gradient = Tensor([20, 4], values: normals(80, 5))
        tape.backward()
        #expect(x.gradient == nil && y.gradient == nil && frozen.gradient == nil)
        #expect(adapter.a.gradient?.floats().contains { $0 != 0 } == true)
    }

    @Test("only one factor of a low-rank update learns", arguments: [true, false])
    func oneFactor(learnsA: Bool) {
        func factor(_ shape: [Int], _ learns: Bool) -> Weight {
            let values = Tensor(shape, values: normals(8, 3))
            return learns ? Weight(trainable: values, name: "f", dtype: .f32) : Weight(frozen: values, name: "f")
        }
        func gradients(_ learnsA: Bool, _ learnsB: Bool) -> [Float] {
            let tape = Tape(pool: pool, recording: true)
            let adapter = LowRankAdapter(a: factor([2, 4], learnsA), b: factor([4, 2], learnsB), scale: 2)
            let frozen = Weight(frozen: Tensor([4, 4], values: normals(16, 1)), name: "w")
            let x = Tensor([20, 4], values: normals(80, 2))
            let y = tape.linear(x, [Projection(weight: frozen, adapter: adapter)])[0]
            y.gradient = Tensor([20, 4], values: normals(80, 5))
            tape.backward()
            return (learnsA ? adapter.a : adapter.b).gradient!.floats()
        }
        #expect(sameBits(gradients(learnsA, !learnsA), learnsA ? gradients(true, true) : gradients(false, true)))
        #expect(gradients(learnsA, !learnsA).contains { $0 != 0 })
    }

    @Test("results that nothing uses, and a second backward pass, add nothing")
    func unused() {
        let tape = Tape(pool: pool, recording: true)
        let weight = Weight(trainable: Tensor([4, 4], values: normals(16, 1)), name: "w", dtype: .f32)
        let x = Tensor([20, 4], values: normals(80, 2))
        x.requiresGradient = true
        _ = tape.linear(x, [Projection(weight: weight)])
        _ = tape.checkpoint(x, hasWeights: true) { tape, x in tape.linear(x, [Projection(weight: weight)])[0] }
        let used = tape.linear(x, [Projection(weight: weight)])[0]
        used.gradient = Tensor([20, 4], values: normals(80, 5))
        tape.backward()
        let (dw, dx) = (weight.gradient!.floats(), x.gradient!.floats())
        let (dy, w) = (doubles(normals(80, 5)), doubles(normals(16, 1)))
        let transposed = (0..<16).map { w[$0 % 4 * 4 + $0 / 4] }
        #expect(relativeError(dx, Reference.product(dy, transposed, k: 4)) < 1e-5)
        tape.backward()
        #expect(sameBits(weight.gradient!.floats(), dw) && sameBits(x.gradient!.floats(), dx))
    }

    @Test("a checkpoint's input has other consumers before and after it")
    func checkpointSharesInput() {
        func gradients(_ checkpointing: Bool) -> [[Float]] {
            let tape = Tape(pool: pool, recording: true)
            let weight = Weight(trainable: Tensor([4, 4], values: normals(16, 1)), name: "w", dtype: .f32)
            let x = Tensor([20, 4], values: normals(80, 2))
            x.requiresGradient = true
            let block = { (tape: Tape, x: Tensor) in tape.linear(x, [Projection(weight: weight)])[0] }
            let results = [
                tape.swiGLU(gate: x, up: x),
                checkpointing ? tape.checkpoint(x, hasWeights: true, block) : block(tape, x),
                tape.selectRows(x, [3, 5]),
            ]
            for (i, result) in results.enumerated() {
                result.gradient = Tensor(result.shape, values: normals(result.count, UInt64(i) + 5))
            }
            tape.backward()
            return [x.gradient!.floats(), weight.gradient!.floats()]
        }
        #expect(zip(gradients(true), gradients(false)).allSatisfy(sameBits))
    }

    @Test("gradients of a step's micro-batches add to those already there")
    func accumulates() {
        for passes in 1...2 {
            let weight = Weight(trainable: Tensor([4, 4], values: normals(16, 1)), name: "w", dtype: .f32)
            for _ in 0..<passes {
                let tape = Tape(pool: pool, recording: true)
                let y = tape.linear(Tensor([3, 4], values: normals(12, 2)), [Projection(weight: weight)])[0]
                y.gradient = Tensor([3, 4], values: [Float](repeating: 1, count: 12))
                tape.backward()
            }
            let x = doubles(normals(12, 2))
            let expected = (0..<16).map { Double(passes) * (x[$0 % 4] + x[4 + $0 % 4] + x[8 + $0 % 4]) }
            #expect(relativeError(weight.gradient!.floats(), expected) < 1e-6)
        }
    }

    @Test("a step's dropout does not depend on how its rows are cut", arguments: [3, 16, 25])
    func dropoutOfParts(firstRows: Int) {
        let x = normals(40 * 8, 1)
        let adapter = LowRankAdapter(
            a: Weight(trainable: Tensor([2, 8], values: normals(16, 3)), name: "a", dtype: .f32),
            b: Weight(trainable: Tensor([8, 2], values: normals(16, 4)), name: "b", dtype: .f32), scale: 1)
        let frozen = Weight(frozen: Tensor([8, 8], values: normals(64, 2)), name: "w")
        func run(_ first: Int, _ count: Int) -> (output: [Float], dx: [Float]) {
            let tape = Tape(pool: pool, recording: true)
            let input = Tensor([count, 8], values: Array(x[first * 8..<(first + count) * 8]))
            input.requiresGradient = true
            let y = tape.linear(
                input, [Projection(weight: frozen, adapter: adapter)],
                dropout: AdapterDropout(probability: 0.5, key: 3, firstRow: first))[0]
            y.gradient = Tensor([count, 8], values: [Float](repeating: 1, count: count * 8))
            let output = y.floats()
            tape.backward()
            return (output, input.gradient!.floats())
        }
        let (whole, a, b) = (run(0, 40), run(0, firstRows), run(firstRows, 40 - firstRows))
        #expect(relativeError(a.output + b.output, whole.output) < 1e-6)
        #expect(relativeError(a.dx + b.dx, whole.dx) < 1e-6)
    }
}
