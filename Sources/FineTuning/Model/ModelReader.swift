import FileFormats
public import TensorCore

/// Reads bases: Hugging Face folders by itself, and single files by what another module knows of them.
public struct ModelReader: Sendable {
    public typealias Loading =
        @Sendable (
            _ path: String, DType, BaseTraining, BaseQuantization, WorkerPool
        ) throws -> DecoderModel

    public var config: @Sendable (_ path: String) throws -> ModelConfig
    public var model: Loading
    /// What a frozen base takes in memory in a type of computation where that does not follow from its configuration.
    public var frozenBytes: @Sendable (_ path: String, DType) throws -> Int?

    public init(
        config: @escaping @Sendable (_ path: String) throws -> ModelConfig, model: @escaping Loading,
        frozenBytes: @escaping @Sendable (_ path: String, DType) throws -> Int? = { _, _ in nil }
    ) {
        self.config = config
        self.model = model
        self.frozenBytes = frozenBytes
    }

    public static let folders = ModelReader(
        config: { path in
            // A single file is no model folder; reading it as one says what it is.
            guard (try? namesInFolder(path)) != nil else { return try ModelConfig(path: path) }
            return try ModelConfig(path: path, files: SafetensorsFolder(path: path))
        },
        model: { try DecoderModel(folder: $0, dtype: $1, training: $2, quantization: $3, pool: $4) })
}
