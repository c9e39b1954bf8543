import Testing

@testable import TensorCore

/// A small decoder, for what must hold of whole passes: C = 12, two layers, 23 words, everything learns.
private final class SmallModel {
    static let width = 12, inner = 20, vocabulary = 23
    let dtype: DType
    let embedding, norm, lastNorm: Weight
    var layers: [[Projection]] = []
    let head: Projection
    let shape: AttentionShape
    private(set) var weights: [Weight] = []
    private let table = rotaryTable(positions: 200, half: 2)

    init(_ dtype: DType, window: Int? = nil) {
        self.dtype = dtype
        shape = AttentionShape(heads: 3, keyValueHeads: 1, headDim: 4, window: window)
        var made: [Weight] = []
        func weight(_ shape: [Int], _ type: DType, _ scale: Double = 0.4) -> Weight {
            let values = normals(shape.reduce(1, *), scale: scale, UInt64(made.count) + 500)
            made.append(Weight(trainable: Tensor(shape, values: values), name: "\(made.count)", dtype: type))
            return made[made.count - 1]
        }
        let (width, inner) = (Self.width, Self.inner)
        embedding = weight([Self.vocabulary, width], dtype, 1)
        norm = weight([width], .f32, 1)
        lastNorm = weight([width], .f32, 1)
        for _ in 0..<2 {
            let sizes = [
                (width, width), (4, width), (4, width), (width, width), (inner, width), (inner, width), (width, inner),
            ]
            layers.append(
                sizes.map { output, input in
                    Projection(
                        weight: weight([output, input], dtype),
                        adapter: LowRankAdapter(
                            a: weight([2, input], dtype), b: weight([output, 2], dtype), scale: 0.5))
                })
        }
        head = Projection(weight: embedding)
        weights = made
    }

    /// The losses of the rows; with `checkpointing` each layer runs again in the backward pass.
    func losses(_ tape: Tape, _ tokens: [Int32], starts: [Int], checkpointing: Bool = false) -> [Double] {
        let positions = zip(starts, starts.dropFirst()).flatMap { (0..<$1 - $0).map(Int32.init) }
        var x = tape.embedding(tokens, table: embedding)
        for layer in layers.indices {
            let body = { [self] (tape: Tape, x: Tensor) in block(tape, x, layer, positions, starts) }
            x = checkpointing ? tape.checkpoint(x, hasWeights: true, body) : body(tape, x)
        }
        let y = tape.rmsNorm(x, weight: lastNorm, eps: 1e-5, dtype: dtype)
        return tape.crossEntropy(y, head: head, targets: tokens.map { ($0 * 3 + 1) % Int32(Self.vocabulary) })
    }

    private func block(_ tape: Tape, _ x: Tensor, _ layer: Int, _ positions: [Int32], _ starts: [Int]) -> Tensor {
        let p = layers[layer]
        let drop = AdapterDropout(probability: 0, key: 1)
        let normed = tape.rmsNorm(x, weight: norm, eps: 1e-5, dtype: dtype)
        let qkv = tape.linear(normed, Array(p[0...2]), dropout: drop)
        tape.rotateInPlace(qkv[0], heads: 3, positions: positions, table: table)
        tape.rotateInPlace(qkv[1], heads: 1, positions: positions, table: table)
        let attended = tape.attention(q: qkv[0], k: qkv[1], v: qkv[2], segmentStarts: starts, shape: shape)
        let middle = tape.linear(attended, p[3], addedTo: x)
        let y = tape.rmsNorm(middle, weight: norm, eps: 1e-5, dtype: dtype)
        let gateUp = tape.linear(y, Array(p[4...5]))
        return tape.linear(tape.swiGLU(gate: gateUp[0], up: gateUp[1]), p[6], addedTo: middle)
    }

    /// Each weight's gradient, summed over passes so far.
    var gradients: [[Float]] { weights.map { $0.gradient!.floats() } }
}

private func tokens(_ count: Int) -> [Int32] { (0..<count).map { Int32($0 * $0 * 7 % SmallModel.vocabulary) } }
private func starts(_ lengths: [Int]) -> [Int] { lengths.reduce(into: [0]) { $0.append($0[$0.count - 1] + $1) } }

@Suite struct SequenceTests {
    private func pass(
        _ model: SmallModel, threads: Int = 2, lengths: [Int], first: Int = 0, of all: [Int32],
        checkpointing: Bool = false
    ) -> [Double] {
        let tape = Tape(pool: WorkerPool(threads: threads), recording: true)
        let rows = Array(all[first..<first + lengths.reduce(0, +)])
        let losses = model.losses(tape, rows, starts: starts(lengths), checkpointing: checkpointing)
        tape.backward()
        return losses
    }

    @Test("packed segments and micro-batches sum to one batch", arguments: [nil, 5])
    func microBatches(window: Int?) {
        let lengths = [9, 1, 70, 20, 33, 3], all = tokens(lengths.reduce(0, +))
        let whole = SmallModel(.f32, window: window)
        let wholeLosses = pass(whole, lengths: lengths, of: all)
        for parts in [lengths.map { [$0] }, [[9, 1], [70, 20], [33, 3]], [[9, 1, 70, 20], [33, 3]]] {
            let model = SmallModel(.f32, window: window)
            var (losses, first): ([Double], Int) = ([], 0)
            for part in parts {
                losses += pass(model, lengths: part, first: first, of: all)
                first += part.reduce(0, +)
            }
            #expect(relativeError(losses.map(Float.init), wholeLosses) < 1e-5)
            for (actual, expected) in zip(model.gradients, whole.gradients) {
                #expect(relativeError(actual, expected) < 1e-5)
            }
        }
    }

    @Test("a whole pass has the same bits with any threads and with checkpoints", arguments: [DType.f32, .bf16])
    func sameBitsAlways(_ dtype: DType) {
        guard dtype == .f32 || Matmul.supportsBF16 else { return }
        let lengths = [40, 3, 65, 200], all = tokens(lengths.reduce(0, +))
        let model = SmallModel(dtype), losses = pass(model, threads: 1, lengths: lengths, of: all)
        for (threads, checkpointing) in [(2, false), (3, false), (1, true), (3, true)] {
            let other = SmallModel(dtype)
            #expect(pass(other, threads: threads, lengths: lengths, of: all, checkpointing: checkpointing) == losses)
            #expect(zip(other.gradients, model.gradients).allSatisfy(sameBits))
        }
    }

    @Test("what one segment holds does not reach another")
    func segmentsDoNotMix() {
        let model = SmallModel(.f32), all = tokens(40)
        var changed = all
        for i in 10..<30 { changed[i] = (changed[i] + 5) % 23 }
        let (a, b) = (pass(model, lengths: [10, 20, 10], of: all), pass(model, lengths: [10, 20, 10], of: changed))
        #expect(Array(a[..<10]) == Array(b[..<10]) && Array(a[30...]) == Array(b[30...]) && a[10..<30] != b[10..<30])
    }

    @Test("the past does not see the future")
    func causality() {
        let model = SmallModel(.f32), all = tokens(90)
        var changed = all
        changed[70] = (changed[70] + 1) % 23
        let (a, b) = (pass(model, lengths: [90], of: all), pass(model, lengths: [90], of: changed))
        #expect(Array(a[..<70]) == Array(b[..<70]) && a[70...] != b[70...])
    }

    @Test("cached attention gives attention's last rows", arguments: [1, 3, 17, 70], [nil, 1, 9, 65])
    func cachedAttention(queries: Int, window: Int?) {
        for dtype in [DType.f32, .bf16] where dtype == .f32 || Matmul.supportsBF16 {
            let length = 133, capacity = 150
            let shape = AttentionShape(heads: 4, keyValueHeads: 2, headDim: 6, window: window)
            let tape = Tape(pool: WorkerPool(threads: 2), recording: false)
            func random(_ width: Int, _ seed: UInt64) -> Tensor {
                Tensor([length, width], values: normals(length * width, seed)).converted(to: dtype)
            }
            let (q, k, v) = (random(24, 1), random(12, 2), random(12, 3))
            // What lies beyond the length must not matter.
            let unused = Tensor([capacity, 12], values: [Float](repeating: .nan, count: capacity * 12))
            let (keys, values) = (unused.converted(to: dtype), unused.converted(to: dtype))
            let half = tape.selectRows(k, Array(0..<60)), rest = tape.selectRows(k, Array(60..<length))
            tape.store(half, into: keys, at: 0)
            tape.store(rest, into: keys, at: 60)
            tape.store(v, into: values, at: 0)
            let all = tape.attention(q: q, k: k, v: v, segmentStarts: [0, length], shape: shape)
            let last = tape.cachedAttention(
                q: tape.selectRows(q, Array(length - queries..<length)), keys: keys, values: values, length: length,
                shape: shape)
            let expected = Array(all.floats().suffix(queries * 24))
            #expect(relativeError(last.floats(), expected) < (dtype == .f32 ? 1e-5 : 0.01))
        }
    }

    @Test("logits of the head, and the losses from them")
    func logits() {
        let model = SmallModel(.f32), tape = Tape(pool: WorkerPool(threads: 2), recording: false)
        let x = Tensor([19, 12], values: normals(19 * 12, 4)), targets = tokens(19)
        let logits = tape.logits(x, head: model.head)
        #expect(logits.shape == [19, 23] && logits.dtype == .f32)
        let expected = Reference.product(doubles(x.floats()), doubles(model.embedding.value.floats()), k: 12)
        #expect(relativeError(logits.floats(), expected) < 1e-5)
        let losses = tape.crossEntropy(x, head: model.head, targets: targets)
        #expect(
            relativeError(
                losses.map(Float.init),
                Reference.crossEntropy(logits: expected, vocabulary: 23, targets: targets)) < 1e-5)
    }
}
