import TensorCore

/// The keys and values of the tokens seen so far, for generation.
public final class KeyValueCache {
    /// The tokens whose keys and values are in the cache.
    private var tokens: [Int32] = []
    public var length: Int { tokens.count }
    private var keys: [Tensor] = []
    private var values: [Tensor] = []
    private let config: ModelConfig
    private let dtype: DType

    public init(_ model: DecoderModel, capacity: Int = 256) {
        config = model.config
        dtype = model.dtype
        grow(to: max(capacity, 16))
    }

    private func grow(to capacity: Int) {
        func enlarged(_ old: Tensor?, _ elements: Int) -> Tensor {
            let width = config.keyValueHeadCount * elements
            let tensor = Tensor([capacity, width], dtype)
            if let old {
                old.withBytes { source in tensor.withBytes { $0.copyMemory(from: UnsafeRawBufferPointer(source)) } }
            }
            return tensor
        }
        keys = (0..<config.layerCount).map { enlarged(keys.isEmpty ? nil : keys[$0], config.headDim) }
        values = (0..<config.layerCount).map { enlarged(values.isEmpty ? nil : values[$0], config.valueDim) }
    }

    /// Stores the rows after `length`; `advance` makes them count once every layer has stored its own.
    func append(_ key: Tensor, _ value: Tensor, layer: Int, _ tape: Tape) -> (Tensor, Tensor) {
        let needed = length + key.rows
        if needed > keys[layer].rows { grow(to: max(needed, keys[layer].rows * 2)) }
        tape.store(key, into: keys[layer], at: length)
        tape.store(value, into: values[layer], at: length)
        return (keys[layer], values[layer])
    }

    func advance(_ added: [Int32]) { tokens += added }

    /// Forgets all tokens but the first `count`.
    public func truncate(to count: Int) { tokens.removeLast(length - min(length, max(0, count))) }

    /// `added`, or where the keys in the cache do not serve so long a sequence, all tokens: the cache is empty then.
    func tokensToCompute(_ added: [Int32], _ rotaries: [RotaryConfig]) -> [Int32] {
        let longer = length + added.count
        guard length > 0, rotaries.contains(where: { $0.outdatesKeys(from: length, to: longer) }) else { return added }
        defer { tokens = [] }
        return tokens + added
    }
}
