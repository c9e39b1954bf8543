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
        let parameters = Dictionary(
            ParameterTable(config).parameters.map { (ByteString($0.name), $0) }, uniquingKeysWith: { a, _ in a })
        var names: Set<ByteString> = []
        var updates: [(plan: AdapterPlan.Update, a: Tensor, b: Tensor, scale: Double)] = []
        for update in member.plan.updates {
            guard let parameter = parameters[ByteString(update.parameter)] else { continue }
            let (nameA, nameB) = (parameter.ggufName + ".lora_a", parameter.ggufName + ".lora_b")
            names.formUnion([ByteString(nameA), ByteString(nameB)])
            let expected = member.file.matrices(of: update)
            guard let a = matrix(file, nameA, width: parameter.shape[1], heads: nil),
                let b = matrix(file, nameB, height: parameter.shape[0], heads: parameter.permutedHeads),
                a.rows == b.width
            else { continue }
            // llama.cpp scales by alpha / rank.
            let scale = alpha / Double(a.rows)
            let error = updateError(
                (expected.a, expected.b, Float(update.scale)), (a, b, Float(scale)), module: update.module)
            report.weights.tensors += 1
            if error > report.weights.largestError || report.weights.worstTensor.isEmpty {
                (report.weights.largestError, report.weights.worstTensor) = (error, update.module)
            }
            if !(error <= bounds.weightError) {
                problems.append("\(update.module): scale B A differs by \(decimal(error)) of its size")
            }
            updates.append((update, a, b, scale))
        }
        for tensor in file.tensors where !names.contains(ByteString(tensor.name)) {
            problems.append("\(quoted(tensor.name)) is not of this adapter")
        }
        guard problems.isEmpty else { return }
        let plain = try ParityBase(model: base.path, adapters: [])
        try compareLogits { stream in
            let model = try plain.model(stream)
            for update in updates { model.attachFrozen(update.plan, a: update.a, b: update.b, scale: update.scale) }
            return model
        }
    }

    /// A matrix of the file in f32, its rows in Hugging Face's order; nil, and a problem, when it does not fit.
    private mutating func matrix(
        _ file: GGUFFile, _ name: String, height: Int? = nil, width: Int? = nil, heads: Int?
    ) -> Tensor? {
        guard let info = file.tensor(named: name) else {
            problems.append("\(name) is missing")
            return nil
        }
        guard info.shape.count == 2, height == nil || info.shape[0] == height, width == nil || info.shape[1] == width,
            let type = [GGMLType.f32: ElementType.f32, .f16: .f16, .bf16: .bf16][info.type]
        else {
            problems.append("\(name) is \(info.type.name) \(info.shape), which does not fit the base")
            return nil
        }
        let stored = Tensor(info.shape), result = Tensor(info.shape)
        let order = RowOrder(heads: heads, rows: info.shape[0]), columns = info.shape[1]
        stored.withFloats { stored in
            ElementConversion.widen(file.withBytes(of: info), as: type, into: stored)
            result.withFloats { result in
                for row in 0..<info.shape[0] {
                    let target = order.source(of: row) * columns
                    for i in 0..<columns { result[target + i] = stored[row * columns + i] }
                }
            }
        }
        return result
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
