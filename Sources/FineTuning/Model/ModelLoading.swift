import FileFormats
public import TensorCore

/// Which of a base's weights learn.
public enum BaseTraining: Sendable {
    case frozen, all
}

extension DecoderModel {
    /// Reads a Hugging Face model folder.
    ///
    /// A matrix that the checkpoint holds in `dtype` is used where it lies in the mapped file; others are converted, or
    /// quantised on the way into memory.
    /// - Parameter quantization: of the linear layers' matrices, which then do not learn
    /// - Throws: `FileError`, `FineTuningError.unsupportedModel`, or `.weightMismatch` with every missing, surplus or
    ///   misshapen tensor.
    public convenience init(
        folder: String, dtype: DType, training: BaseTraining = .frozen, quantization: BaseQuantization = .none,
        pool: WorkerPool = WorkerPool(threads: 1)
    ) throws {
        let files = try SafetensorsFolder(path: folder)
        let config = try ModelConfig(path: folder, files: files)
        let problems = Self.mismatches(config, files)
        guard problems.isEmpty else { throw FineTuningError.weightMismatch(path: folder, problems: problems) }
        let quantizable = quantization == .none ? [] : quantization.names(config)
        try self.init(config: config, dtype: dtype) { parameter in
            let entry = files.entry(named: parameter.name)!
            if quantizable.contains(ByteString(parameter.name)), let file = files.file(of: parameter.name) {
                return try quantization.weight(parameter, of: file, entry, dtype: dtype, pool: pool)
            }
            let isMatrix = parameter.isMatrix
            if training == .all, !parameter.isFixed {
                return Weight(
                    trainable: Tensor(parameter.shape, values: files.floats(of: entry)), name: parameter.name,
                    dtype: isMatrix ? dtype : .f32, offset: parameter.offset)
            }
            let stored: DType? = entry.type == .f32 ? .f32 : entry.type == .bf16 ? .bf16 : nil
            let bytes = files.withBytes(of: entry)
            let isAligned = Int(bitPattern: bytes.baseAddress!) % 4 == 0
            if isMatrix, stored == dtype, isAligned {
                let tensor = Tensor(mapped: bytes.baseAddress!, shape: parameter.shape, dtype: dtype, owner: files)
                return Weight(frozen: tensor, name: parameter.name)
            }
            if isMatrix, parameter.isOfExperts, let file = files.file(of: parameter.name) {
                // Converted when a token first comes to an expert; many have none.
                let count = parameter.matrixCount, size = entry.elementCount / count
                return Weight(frozen: parameter.shape, name: parameter.name, dtype: dtype, parts: count) { part in
                    Tensor([size], values: file.floats(of: entry, in: part * size..<(part + 1) * size))
                }
            }
            let tensor = Tensor(parameter.shape, values: files.floats(of: entry))
            return Weight(
                frozen: isMatrix && dtype == .bf16 ? tensor.converted(to: .bf16) : tensor, name: parameter.name,
                offset: parameter.offset)
        }
    }

    /// A model of parameters that `tensor` gives in f32, for files that are no Hugging Face folders.
    ///
    /// - Parameter quantized: gives the matrix of a frozen linear layer or expert as the file holds it, where that is
    ///   in fewer bits; of a stack all, below each other and as `[out, in]`
    public convenience init(
        config: ModelConfig, dtype: DType, training: BaseTraining = .frozen,
        quantized: (ParameterTable.Parameter) throws -> QuantizedMatrix? = { _ in nil },
        tensor: @escaping (ParameterTable.Parameter) -> Tensor
    ) rethrows {
        let quantizable = BaseQuantization.nf4.names(config)
        try self.init(config: config, dtype: dtype) { parameter in
            if training == .frozen, quantizable.contains(ByteString(parameter.name)),
                let matrix = try quantized(parameter)
            {
                return Weight(
                    quantized: matrix, name: parameter.name, dtype: dtype, shape: parameter.shape,
                    isTurned: parameter.isStack)
            }
            if training == .frozen, parameter.expert != nil {
                return Weight(frozen: parameter.shape, name: parameter.name, dtype: dtype, parts: 1) { _ in
                    tensor(parameter)
                }
            }
            let values = tensor(parameter), stored = parameter.isMatrix ? dtype : .f32
            return training == .all && !parameter.isFixed
                ? Weight(trainable: values, name: parameter.name, dtype: stored, offset: parameter.offset)
                : Weight(
                    frozen: stored == .f32 ? values : values.converted(to: stored), name: parameter.name,
                    offset: parameter.offset)
        }
    }

    /// Random weights as Transformers initialises them: normal with the config's `initializer_range`, norms 1,
    /// biases 0.
    public convenience init(
        initialising config: ModelConfig, dtype: DType, seed: UInt64, training: BaseTraining, pool: WorkerPool
    ) {
        var index: UInt64 = 0
        self.init(config: config, dtype: dtype) { parameter in
            let tensor = Tensor(parameter.shape)
            let random = CounterRNG(seed, 0x696E_6974, index)
            index += 1
            tensor.withFloats { values in
                guard parameter.isMatrix else {
                    return values.update(repeating: parameter.isBias ? 0 : 1 - parameter.offset)
                }
                let base = values.baseAddress!, count = values.count, piece = 1 << 16
                pool.parallelFor((count + piece - 1) / piece) { item, _ in
                    for i in item * piece..<min(count, (item + 1) * piece) {
                        base[i] = Float(random.normal(UInt64(i)) * config.initializerRange)
                    }
                }
            }
            let stored = parameter.isMatrix ? dtype : .f32
            return training == .all && !parameter.isFixed
                ? Weight(trainable: tensor, name: parameter.name, dtype: stored, offset: parameter.offset)
                : Weight(frozen: tensor.converted(to: stored), name: parameter.name, offset: parameter.offset)
        }
    }

    /// Builds the model from weights that `make` gives for each parameter of the table, in the table's order.
    convenience init(
        config: ModelConfig, dtype: DType, make: (ParameterTable.Parameter) throws -> Weight
    ) rethrows {
        let table = ParameterTable(config)
        let weights = try table.parameters.map(make)
        let byName = Dictionary(uniqueKeysWithValues: weights.map { (ByteString($0.name), $0) })
        func weight(_ name: String) -> Weight { byName[ByteString(name)]! }
        var layers = [DecoderLayer](repeating: DecoderLayer(), count: config.layerCount)
        for module in table.normModules { layers[module.layer][module.role] = weight(module.name) }
        for module in table.linearModules {
            layers[module.layer][module.role] = Projection(
                weight: weight(module.name + ".weight"), bias: byName[ByteString(module.name + ".bias")])
        }
        for index in layers.indices {
            layers[index].sinks = byName[ByteString(ParameterTable.sinks(index))]
            layers[index].correction = byName[ByteString(ParameterTable.correction(config, index))]
            layers[index].experts = table.experts(config, layer: index, weight)
        }
        let embedding = weight(ParameterTable.embedding)
        self.init(
            config: config, dtype: dtype, weights: weights, embedding: embedding, layers: layers,
            finalNorm: weight(ParameterTable.finalNorm),
            head: Projection(weight: config.tiesEmbeddings ? embedding : weight(ParameterTable.head)))
    }
}
