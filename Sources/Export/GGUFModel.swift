public import FileFormats
public import FineTuning
public import TensorCore

/// A GGUF file as a model to run: its metadata as a configuration, its tensors as Hugging Face's.
///
/// Rows that were interleaved for llama.cpp are put back; quantised tensors of every type are read.
public final class GGUFModel {
    public let path: String
    public let file: GGUFFile
    public let config: ModelConfig

    /// - Throws: `FileError`; `ExportError.damaged` for a file that contradicts itself, `.unreadable` with everything
    ///   that graft cannot run, all at once; `FineTuningError.unsupportedModel`.
    public init(path: String) throws {
        self.path = path
        file = try GGUFFile(path: path)
        var reader = GGUFConfigReader(file)
        let json = reader.config()
        try reader.problems.check(path)
        var config = try ModelConfig(json: json, path: path)
        // Newer files may have the gates over the ups of all experts in one tensor.
        if config.mixture?.storage == .separate, let layer = config.layers.firstIndex(where: \.mixes),
            file.tensor(named: "blk.\(layer).\(ParameterTable.stackedGGUFName).weight") != nil
        {
            config.mixture?.storage = .stacked
        }
        self.config = config
        try mismatches().check(path)
    }

    /// The file as a model, or why graft does not run what it may hold all the same.
    ///
    /// - Throws: for a file that is damaged.
    static func ifRun(path: String) throws -> (model: GGUFModel?, reason: String?) {
        let problems: [String]
        do { return (try GGUFModel(path: path), nil) } catch ExportError.unreadable(_, let found) {
            problems = found
        } catch FineTuningError.unsupportedModel(_, let found) {
            problems = found
        }
        return (nil, problems.joined(separator: "; "))
    }

    private func mismatches() -> GGUFProblems {
        var problems = GGUFProblems()
        guard !file.tensors.isEmpty else {
            problems.unknown.append("it holds no tensors: a vocabulary alone")
            return problems
        }
        var known: Set<ByteString> = [
            "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight",
        ]
        for parameter in ParameterTable(config).parameters {
            for (name, shape) in parameter.ggufTensors(experts: config.mixture?.router.experts ?? 1, in: file)
            where known.insert(ByteString(name)).inserted {
                guard let tensor = file.tensor(named: name) else {
                    problems.faults.append("\(name) is missing")
                    continue
                }
                if tensor.shape != shape {
                    problems.faults.append("\(name): expected shape \(shape), found \(tensor.shape)")
                }
                if !RowEncoding.canDecode(tensor.type) {
                    problems.unknown.append("\(name) is \(tensor.type.name), which holds no weights that graft reads")
                }
            }
        }
        let kinds = Set(known.map(Self.withoutLayer))
        for tensor in file.tensors where !known.contains(ByteString(tensor.name)) {
            let name = ByteString(tensor.name)
            if kinds.contains(Self.withoutLayer(name)) {
                problems.faults.append("\(quoted(tensor.name)) is of no layer: there are \(config.layerCount)")
            } else {
                problems.unknown.append("\(quoted(tensor.name)) is not part of a \(config.family.rawValue) model")
            }
        }
        return problems
    }

    /// `attn_q.weight` of `blk.7.attn_q.weight`; other names as they are.
    private static func withoutLayer(_ name: ByteString) -> ByteString {
        guard name.bytes.starts(with: "blk.".utf8), let dot = name.bytes.dropFirst(4).firstIndex(of: UInt8(ascii: "."))
        else { return name }
        return ByteString(name.bytes[(dot + 1)...])
    }

    /// A parameter's values in f32, in the order of Hugging Face's rows.
    public func tensor(_ parameter: ParameterTable.Parameter) -> Tensor {
        if parameter.isStack { return columns(parameter) }
        if let parts = parameter.headParts(in: file) {
            let result = Tensor(parameter.shape)
            result.withFloats { parts.read(0..<parameter.shape[0], of: file, into: $0) }
            return result
        }
        guard let info = file.tensor(named: parameter.ggufName) else {
            preconditionFailure("\(parameter.ggufName) is not of this model")
        }
        let result = Tensor(parameter.shape)
        let bytes = file.withBytes(of: info)
        let width = parameter.shape.count == 1 && parameter.permutedHeads != nil ? 1 : parameter.shape.last ?? 1
        let rows = parameter.shape.reduce(1, *) / width, first = (parameter.expert ?? 0) * rows
        guard let rowSize = info.type.byteCount(of: [width]) else { preconditionFailure("rows of \(width)") }
        let order = RowOrder(heads: parameter.permutedHeads, rows: rows)
        result.withFloats { values in
            for row in 0..<rows {
                let start = order.source(of: row) * width
                RowEncoding.decode(
                    UnsafeRawBufferPointer(rebasing: bytes[(first + row) * rowSize..<(first + row + 1) * rowSize]),
                    as: info.type, into: UnsafeMutableBufferPointer(rebasing: values[start..<start + width]))
            }
            if parameter.offset != 0 { for i in values.indices { values[i] -= parameter.offset } }
        }
        return result
    }

    /// Rows of a parameter in f32 and in the order of Hugging Face's, read and not mapped. May be called on many
    /// threads at once.
    public func read(
        _ parameter: ParameterTable.Parameter, _ rows: Range<Int>, into numbers: UnsafeMutableBufferPointer<Float>
    ) throws {
        if let parts = parameter.headParts(in: file) { return parts.read(rows, of: file, into: numbers) }
        guard parameter.shape.count == 2, let info = file.tensor(named: parameter.ggufName),
            Array(info.shape.suffix(2)) == parameter.shape
        else {
            // Vectors, whose values may move one by one, and stacks, which are read as a whole.
            return tensor(parameter).withFloats { values in
                let width = parameter.rowWidth
                let part = values[rows.lowerBound * width..<rows.upperBound * width]
                _ = numbers.update(fromContentsOf: UnsafeMutableBufferPointer(rebasing: part))
            }
        }
        let width = parameter.rowWidth, order = RowOrder(heads: parameter.permutedHeads, rows: parameter.shape[0])
        guard let rowSize = info.type.byteCount(of: [width]) else { preconditionFailure("rows of \(width)") }
        let step = order.moves ? 1 : rows.count, first = (parameter.expert ?? 0) * parameter.shape[0]
        try withUnsafeTemporaryAllocation(byteCount: step * rowSize, alignment: 64) { bytes in
            for row in stride(from: rows.lowerBound, to: rows.upperBound, by: step) {
                let start = (first + order.place(ofSource: row)) * rowSize, target = (row - rows.lowerBound) * width
                try file.read(start..<start + step * rowSize, of: info, into: bytes)
                RowEncoding.decode(
                    UnsafeRawBufferPointer(bytes), as: info.type,
                    into: UnsafeMutableBufferPointer(rebasing: numbers[target..<target + step * width]))
            }
        }
    }
}

extension GGUFModel {
    /// A matrix as the file holds it, its rows in Hugging Face's order; nil for one that is not quantised.
    public func quantized(_ parameter: ParameterTable.Parameter) -> QuantizedMatrix? {
        if parameter.isStack { return quantizedStack(parameter) }
        guard let info = file.tensor(named: parameter.ggufName), info.type.blockLength > 1, parameter.shape.count == 2,
            parameter.offset == 0, let rowSize = info.type.byteCount(of: [parameter.shape[1]])
        else { return nil }
        let (rows, columns) = (parameter.shape[0], parameter.shape[1]), first = (parameter.expert ?? 0) * rows
        let order = RowOrder(heads: parameter.permutedHeads, rows: rows)
        return QuantizedMatrix(rows: rows, columns: columns, byteCount: rows * rowSize) { [file] range, numbers in
            let bytes = file.withBytes(of: info)
            for (i, row) in range.enumerated() {
                let start = (first + order.place(ofSource: row)) * rowSize
                RowEncoding.decode(
                    UnsafeRawBufferPointer(rebasing: bytes[start..<start + rowSize]), as: info.type,
                    into: UnsafeMutableBufferPointer(start: numbers + i * columns, count: columns))
            }
        }
    }
}

extension GGUFModel {
    /// What the frozen model takes in memory: the bits of the file where they stay, numbers of the computation elsewhere.
    func frozenBytes(_ dtype: DType) -> Int {
        let kept = Set(BaseQuantization.nf4.parameters(config).map { ByteString($0.name) })
        return ParameterTable(config).parameters.reduce(0) { sum, parameter in
            let bits = kept.contains(ByteString(parameter.name)) ? quantized(parameter)?.byteCount : nil
            return sum + (bits ?? parameter.shape.reduce(1, *) * (parameter.isMatrix ? dtype.size : 4))
        }
    }
}

extension ModelReader {
    /// Reads folders and GGUF files. Frozen linear layers stay in the bits of the file, mapped, and are decoded where
    /// they are multiplied; other tensors are decoded as they are read, one at a time.
    public static let any = ModelReader(
        config: { TextResources.isGGUF($0) ? try GGUFModel(path: $0).config : try ModelReader.folders.config($0) },
        model: { path, dtype, training, quantization, pool in
            guard TextResources.isGGUF(path) else {
                return try ModelReader.folders.model(path, dtype, training, quantization, pool)
            }
            guard quantization == .none else {
                throw FineTuningError.badInput([
                    "\(path): a GGUF base cannot be kept in \(quantization.rawValue); leave the quantization out, or give the "
                        + "model's Hugging Face folder"
                ])
            }
            let file = try GGUFModel(path: path)
            return DecoderModel(
                config: file.config, dtype: dtype, training: training, quantized: file.quantized, tensor: file.tensor)
        },
        frozenBytes: { TextResources.isGGUF($0) ? try GGUFModel(path: $0).frozenBytes($1) : nil })
}
