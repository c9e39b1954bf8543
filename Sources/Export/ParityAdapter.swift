import FileFormats
import FineTuning
import TensorCore

extension ModelComparison {
    /// Compares a GGUF adapter's effective updates, and the logits with it on the base.
    mutating func compareAdapter(_ file: GGUFFile) throws {
        guard let config = base.config, let member = base.changes?.adapters.members.first, base.adapters.count == 1
        else {
            problems.append("it is an adapter, and there is none to compare it with")
            return
        }
        // Other programs write adapters in half the bytes.
        let types = file.tensors.map(\.type)
        let type = types.max { ParityBounds($0).weightError < ParityBounds($1).weightError } ?? .f32
        report.type = type.name
        bounds = ParityBounds(type)
        report.notes.append("an adapter has no tokenizer: texts and templates were not compared")
        let alpha = file["adapter.lora.alpha"]?.doubleValue ?? 0
        var names: Set<ByteString> = []
        var found: [(pair: GGUFAdapterPair, a: Tensor, b: Tensor)] = []
        for pair in GGUFAdapterPair.pairs(member.plan, config) {
            names.formUnion([ByteString(pair.nameA), ByteString(pair.nameB)])
            guard let a = matrices(file, pair.nameA, of: pair, width: pair.inputWidth),
                let b = matrices(file, pair.nameB, of: pair, height: pair.outputWidth),
                a.rows == b.width * pair.matrixCount
            else { continue }
            // llama.cpp scales by alpha / rank.
            let error = updateError(pair, member.file, a, b, scale: Float(alpha / Double(b.width)))
            let module = pair.parts[0].update.module
            report.weights.tensors += 1
            if error > report.weights.largestError || report.weights.worstTensor.isEmpty {
                (report.weights.largestError, report.weights.worstTensor) = (error, module)
            }
            if !(error <= bounds.weightError) {
                problems.append("\(module): scale B A differs by \(decimal(error)) of its size")
            }
            found.append((pair, a, b))
        }
        for tensor in file.tensors where !names.contains(ByteString(tensor.name)) {
            problems.append("\(quoted(tensor.name)) is not of this adapter")
        }
        guard problems.isEmpty else { return }
        let plain = try ParityBase(model: base.path, adapters: [])
        try compareLogits { stream in
            let model = try plain.model(stream)
            for update in GGUFAdapterPair.updates(found) {
                let scale = alpha / Double(update.rank)
                if update.plan.isOfExperts {
                    model.attachFrozenExperts(update.plan, a: update.a, b: update.b, scale: scale)
                } else {
                    model.attachFrozen(update.plan, a: update.a, b: update.b, scale: scale)
                }
            }
            return model
        }
    }

    /// The matrices of a tensor of the file below each other, in f32 and with B's rows in Hugging Face's order; nil, and
    /// a problem, when it does not fit.
    private mutating func matrices(
        _ file: GGUFFile, _ name: String, of pair: GGUFAdapterPair, height: Int? = nil, width: Int? = nil
    ) -> Tensor? {
        guard let info = file.tensor(named: name) else {
            problems.append("\(name) is missing")
            return nil
        }
        let shape = Array(info.shape.suffix(2)), stack = info.shape.dropLast(2)
        guard shape.count == 2, stack.elementsEqual(pair.expertCount.map { [$0] } ?? []),
            height == nil || shape[0] == height, width == nil || shape[1] == width,
            let type = [GGMLType.f32: ElementType.f32, .f16: .f16, .bf16: .bf16][info.type]
        else {
            problems.append("\(name) is \(info.type.name) \(info.shape), which does not fit the base")
            return nil
        }
        let stored = Tensor([pair.matrixCount * shape[0], shape[1]])
        stored.withFloats { ElementConversion.widen(file.withBytes(of: info), as: type, into: $0) }
        guard height != nil, pair.permutedHeads != nil else { return stored }
        let order = RowOrder(heads: pair.permutedHeads, rows: shape[0])
        return stored.selectedRows((0..<shape[0]).map(order.place(ofSource:)))
    }

    /// The largest such error of a pair's matrices.
    private func updateError(
        _ pair: GGUFAdapterPair, _ file: AdapterFile, _ a: Tensor, _ b: Tensor, scale: Float
    ) -> Double {
        let expected = pair.values(file, alpha: Float(pair.rank), ordered: false)
        let (rank, ranks) = (pair.rank, b.width)
        return (0..<pair.matrixCount).reduce(0) { worst, matrix in
            func slice(_ values: [Float], _ rows: Int, _ width: Int) -> Tensor {
                Tensor([rows, width], values: Array(values[matrix * rows * width..<(matrix + 1) * rows * width]))
            }
            let wanted = (
                slice(expected.a, rank, pair.inputWidth), slice(expected.b, pair.outputWidth, rank), Float(1)
            )
            let found = (
                slice(a.floats(), ranks, pair.inputWidth), slice(b.floats(), pair.outputWidth, ranks), scale
            )
            return max(worst, updateError(wanted, found, module: pair.name))
        }
    }

    /// The root of the mean squared difference of two updates scale B A over that of the first, in rows of tiles.
    private func updateError(
        _ expected: (a: Tensor, b: Tensor, scale: Float), _ found: (a: Tensor, b: Tensor, scale: Float), module: String
    ) -> Double {
        func update(_ side: (a: Tensor, b: Tensor, scale: Float)) -> LowRankAdapter {
            LowRankAdapter(
                a: Weight(frozen: side.a, name: module), b: Weight(frozen: side.b, name: module), scale: side.scale)
        }
        let (first, second) = (update(expected), update(found))
        let rows = expected.b.rows, width = expected.a.width, tile = max(1, (1 << 16) / width)
        let tiles = (rows + tile - 1) / tile
        var sums = [(difference: Double, size: Double)](repeating: (0, 0), count: tiles)
        sums.withUnsafeMutableBufferPointer { sums in
            pool.parallelFor(tiles) { index, worker in
                let range = index * tile..<min(rows, (index + 1) * tile), count = range.count * width
                var values = [Float](repeating: 0, count: 2 * count)
                values.withUnsafeMutableBufferPointer { values in
                    let (a, b) = (
                        UnsafeMutableBufferPointer(rebasing: values[..<count]),
                        UnsafeMutableBufferPointer(rebasing: values[count...])
                    )
                    _ = first.add(rows: range, to: a, worker: worker)
                    _ = second.add(rows: range, to: b, worker: worker)
                    for i in 0..<count {
                        sums[index].difference += Double((a[i] - b[i]) * (a[i] - b[i]))
                        sums[index].size += Double(a[i] * a[i])
                    }
                }
            }
        }
        let total = sums.reduce((0.0, 0.0)) { ($0.0 + $1.difference, $0.1 + $1.size) }
        return total.1 > 0 ? (total.0 / total.1).squareRoot() : total.0 > 0 ? .infinity : 0
    }
}
