import FileFormats
import FineTuning
import TensorCore

extension GGUFArchitecture {
    /// What llama.cpp has to know of experts and of latent attention.
    var mixtureMetadata: [(key: String, value: GGUFValue)] {
        var pairs: [(key: String, value: GGUFValue)] = []
        func add(_ key: String, _ value: Int) { pairs.append(("\(name).\(key)", .uint32(UInt32(clamping: value)))) }
        if let mixture = config.mixture {
            add("expert_count", mixture.router.experts)
            add("expert_used_count", mixture.router.active)
            add("expert_feed_forward_length", mixture.innerWidth)
            if let shared = mixture.sharedWidth {
                if mixture.gatesShared {
                    add("expert_shared_feed_forward_length", shared)
                } else {
                    add("expert_shared_count", shared / mixture.innerWidth)
                }
            }
        }
        if let latent = config.latent {
            add("attention.kv_lora_rank", latent.keyValueRank)
            if let rank = latent.queryRank { add("attention.q_lora_rank", rank) }
        }
        if let router = config.mixture?.router, config.latent != nil {
            add("leading_dense_block_count", config.layers.firstIndex(where: \.mixes) ?? config.layerCount)
            pairs.append(("\(name).expert_weights_scale", .float32(router.scale)))
            pairs.append(("\(name).expert_weights_norm", .bool(router.normalizes)))
            add("expert_gating_func", router.score == .softmax ? 1 : 2)
            if router.groups > 1 {
                add("expert_group_count", router.groups)
                add("expert_group_used_count", router.activeGroups)
            }
        }
        return pairs
    }
}

extension WeightSource {
    /// The model's tensors in the parameter table's order under their GGUF names, experts' joined to one of all.
    func ggufTensors() -> [(name: String, tensor: StreamedTensor)] {
        var result: [(name: String, tensor: StreamedTensor)] = [], places: [ByteString: Int] = [:]
        for parameter in table.parameters {
            guard let entry = files.entry(named: parameter.name) else { continue }
            let tensor = streamed(
                Output(
                    name: parameter.name, entry: entry, updates: updates(of: parameter.name),
                    permutedHeads: parameter.permutedHeads, offset: parameter.offset), as: nil)
            if parameter.isStack {
                result += columns(parameter, tensor)
            } else if !parameter.stackNames.isEmpty {
                result += halves(parameter, tensor)
            } else if parameter.expert == nil {
                result.append((parameter.ggufName, tensor))
            } else if let place = places[ByteString(parameter.ggufName)] {
                result[place].tensor.join(tensor)
            } else {
                places[ByteString(parameter.ggufName)] = result.count
                var stack = tensor
                stack.base = .stack([tensor.base])
                result.append((parameter.ggufName, stack))
            }
        }
        if let head = ggufHead { result.append(("output.weight", streamed(head, as: nil))) }
        return result
    }

    /// The tensors of llama.cpp, `[experts, out, in]`, that alternate in the columns of one `[experts, in, columns]`.
    private func columns(_ parameter: ParameterTable.Parameter, _ tensor: StreamedTensor)
        -> [(name: String, tensor: StreamedTensor)]
    {
        let step = parameter.stackNames.count
        return parameter.stackNames.enumerated().map { first, name in
            var part = tensor
            part.base = .columns(tensor.base, first: first, step: step)
            part.updates.parts = parameter.columnUpdates(tensor.updates.parts, first: first)
            return (name, part)
        }
    }
}

extension WeightSource {
    /// The tensors of llama.cpp, `[experts, out, in]`, that lie one over the other in each matrix of one.
    private func halves(_ parameter: ParameterTable.Parameter, _ tensor: StreamedTensor)
        -> [(name: String, tensor: StreamedTensor)]
    {
        let count = parameter.shape[1] / parameter.stackNames.count
        return parameter.stackNames.enumerated().map { index, name in
            var part = tensor
            part.base = .rows(tensor.base, index * count..<(index + 1) * count)
            part.updates.parts = tensor.updates.parts.compactMap {
                $0.part(index * count..<(index + 1) * count, ofMatrices: parameter.shape[1])
            }
            return (name, part)
        }
    }
}

extension AdapterChanges.RowUpdate {
    /// What it is of a tensor that has of each matrix of `height` rows only `kept`; nil where it changes none of them.
    fileprivate func part(_ kept: Range<Int>, ofMatrices height: Int) -> Self? {
        let matrix = rows.lowerBound / height, start = rows.lowerBound - matrix * height
        let common = (start..<start + rows.count).clamped(to: kept)
        guard !common.isEmpty else { return nil }
        var part = self
        let first = matrix * kept.count - kept.lowerBound
        part.rows = common.lowerBound + first..<common.upperBound + first
        if common.count < rows.count {
            let outputs = piece?.outputs ?? Array(0..<rows.count)
            part.piece = (piece?.expert, Array(outputs[common.lowerBound - start..<common.upperBound - start]), false)
        }
        return part
    }
}

extension StreamedTensor {
    /// Puts the next expert's matrix under those of a stack.
    fileprivate mutating func join(_ next: StreamedTensor) {
        guard case .stack(let parts) = base else { preconditionFailure("\(name) is no stack") }
        let rows = parts.reduce(0) { $0 + $1.shape[0] }
        base = .stack(parts + [next.base])
        updates.parts += next.updates.parts.map { update in
            var moved = update
            moved.rows = update.rows.lowerBound + rows..<update.rows.upperBound + rows
            return moved
        }
    }
}

extension ParameterTable.Parameter {
    /// The updates of a stack as those of the tensor that has the columns from `first` on.
    fileprivate func columnUpdates(_ updates: [AdapterChanges.RowUpdate], first: Int) -> [AdapterChanges.RowUpdate] {
        let step = stackNames.count, width = shape[shape.count - 1]
        return updates.map { update in
            var turned = update
            guard let expert = update.piece?.expert else { preconditionFailure("a stack is updated as one") }
            turned.rows = expert * width / step..<(expert + 1) * width / step
            turned.piece = (expert, Array(stride(from: first, to: width, by: step)), false)
            return turned
        }
    }

    /// The updates of the tensors of a GGUF file that hold it, by their names.
    func ggufUpdates(_ updates: [AdapterChanges.RowUpdate], in file: GGUFFile)
        -> [(name: String, updates: [AdapterChanges.RowUpdate])]
    {
        if isStack { return stackNames.enumerated().map { ($1, columnUpdates(updates, first: $0)) } }
        if let parts = headParts(in: file) { return parts.updates(updates) }
        // Experts lie one after the other.
        let first = (expert ?? 0) * shape[0]
        return [
            (
                ggufName,
                updates.map { update in
                    var moved = update
                    moved.rows = update.rows.lowerBound + first..<update.rows.upperBound + first
                    return moved
                }
            )
        ]
    }

    /// The tensors of a GGUF file that hold it, and their shapes.
    func ggufTensors(experts: Int, in file: GGUFFile) -> [(name: String, shape: [Int])] {
        if let parts = headParts(in: file) { return parts.tensors }
        if expert != nil { return [(ggufName, [experts] + shape)] }
        guard isStack else { return [(ggufName, shape)] }
        let count = shape[shape.count - 1] / stackNames.count
        return stackNames.map { ($0, [shape[0], count] + (shape.count == 3 ? [shape[1]] : [])) }
    }
}

extension GGUFModel {
    /// The matrices `[out, in]` of a stack below each other, their rows from the tensors that alternate in its columns;
    /// nil unless all of them are quantised.
    func quantizedStack(_ parameter: ParameterTable.Parameter) -> QuantizedMatrix? {
        let infos = parameter.stackNames.compactMap { file.tensor(named: $0) }
        guard parameter.shape.count == 3, infos.count == parameter.stackNames.count, parameter.offset == 0,
            infos.allSatisfy({ $0.type.blockLength > 1 })
        else { return nil }
        let (rows, columns, step) = (parameter.shape[0] * parameter.shape[2], parameter.shape[1], infos.count)
        let sizes = infos.compactMap { $0.type.byteCount(of: [columns]) }
        guard sizes.count == step else { return nil }
        let total = sizes.reduce(0, +) * (rows / step)
        return QuantizedMatrix(rows: rows, columns: columns, byteCount: total) { [file] range, numbers in
            for (i, row) in range.enumerated() {
                let (place, part) = row.quotientAndRemainder(dividingBy: step), size = sizes[part]
                let bytes = file.withBytes(of: infos[part])[place * size..<(place + 1) * size]
                RowEncoding.decode(
                    UnsafeRawBufferPointer(rebasing: bytes), as: infos[part].type,
                    into: UnsafeMutableBufferPointer(start: numbers + i * columns, count: columns))
            }
        }
    }

    /// A stack of the experts' matrices or biases, from the tensors that alternate in its columns.
    func columns(_ parameter: ParameterTable.Parameter) -> Tensor {
        let result = Tensor(parameter.shape), step = parameter.stackNames.count
        let columns = parameter.shape[parameter.shape.count - 1]
        let rows = parameter.shape.count == 3 ? parameter.shape[1] : 1
        for (first, name) in parameter.stackNames.enumerated() {
            guard let info = file.tensor(named: name) else { preconditionFailure("\(name) is not of this model") }
            // Biases are one value an output: they are read as they lie.
            let width = info.shape[info.shape.count - 1]
            guard let rowSize = info.type.byteCount(of: [width]) else { preconditionFailure("rows of \(width)") }
            let bytes = file.withBytes(of: info)
            var row = [Float](repeating: 0, count: width)
            result.withFloats { values in
                for place in 0..<info.elementCount / width {
                    row.withUnsafeMutableBufferPointer {
                        RowEncoding.decode(
                            UnsafeRawBufferPointer(rebasing: bytes[place * rowSize..<(place + 1) * rowSize]),
                            as: info.type, into: $0)
                    }
                    for (i, value) in row.enumerated() {
                        let (expert, output, input) =
                            rows == 1 && info.shape.count == 2
                            ? (place, i, 0) : (place / info.shape[1], place % info.shape[1], i)
                        values[(expert * rows + input) * columns + first + output * step] = value
                    }
                }
            }
        }
        return result
    }
}
