public import TensorCore

/// Reads bases: Hugging Face folders by itself, and single files by what another module knows of them.
public struct ModelReader: Sendable {
    public typealias Loading = @Sendable (
        _ path: String, DType, BaseTraining, BaseQuantization, WorkerPool
    ) throws -> DecoderModel

    public var config: @Sendable (_ path: String) throws -> ModelConfig
    public var model: Loading

    public init(config: @escaping @Sendable (_ path: String) throws -> ModelConfig, model: @escaping Loading) {
        self.config = config
        self.model = model
    }

    public static let folders = ModelReader(
        config: { try ModelConfig(path: $0) },
        model: { try DecoderModel(folder: $0, dtype: $1, training: $2, quantization: $3, pool: $4) })
}
