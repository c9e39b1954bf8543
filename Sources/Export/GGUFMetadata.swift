import FileFormats
import FineTuning
import Foundation

/// The tensor type of a GGUF file's matrices.
public enum GGUFOutputType: String, CaseIterable, Sendable {
    case f32, f16, bf16, q8_0

    var type: GGMLType {
        switch self {
        case .f32: .f32
        case .f16: .f16
        case .bf16: .bf16
        case .q8_0: .q8_0
        }
    }
    /// `general.file_type`.
    var fileType: UInt32 {
        switch self {
        case .f32: 0
        case .f16: 1
        case .q8_0: 7
        case .bf16: 32
        }
    }

    /// What a tensor of this shape is written as: vectors stay f32, rows that are no whole number of blocks f16.
    func type(of shape: [Int]) -> GGMLType {
        if shape.count < 2 { return .f32 }
        return shape[shape.count - 1] % type.blockLength == 0 ? type : .f16
    }
}

/// The metadata that tells llama.cpp how to compute the model (src/llama-arch.cpp and llama-model.cpp there).
struct GGUFArchitecture {
    let config: ModelConfig
    var warnings: [String] = []

    init(_ config: ModelConfig) { self.config = config }

    /// Mistral's blocks are Llama's to llama.cpp.
    var name: String { config.family == .qwen2 ? "qwen2" : "llama" }

    mutating func metadata(path: String) throws -> [(key: String, value: GGUFValue)] {
        var pairs: [(key: String, value: GGUFValue)] = []
        func add(_ key: String, _ value: Int) { pairs.append(("\(name).\(key)", .uint32(UInt32(clamping: value)))) }
        func add(_ key: String, _ value: Float) { pairs.append(("\(name).\(key)", .float32(value))) }
        add("vocab_size", config.vocabularySize)
        add("context_length", config.maxPositions)
        add("embedding_length", config.hiddenSize)
        add("block_count", config.layerCount)
        add("feed_forward_length", config.intermediateSize)
        add("attention.head_count", config.headCount)
        add("attention.head_count_kv", config.keyValueHeadCount)
        add("attention.key_length", config.headDim)
        add("attention.value_length", config.headDim)
        add("attention.layer_norm_rms_epsilon", config.rmsNormEps)
        add("rope.dimension_count", config.headDim)
        add("rope.freq_base", Float(config.rotary.theta))
        switch config.rotary.scaling {
        case .none, .llama3: break
        case .linear(let factor):
            pairs.append(("\(name).rope.scaling.type", .string("linear")))
            add("rope.scaling.factor", Float(factor))
        case .yarn(let factor, let original, let fast, let slow, let attention, let truncates):
            guard truncates else {
                throw ExportError.model(
                    path: path, problems: ["rope_scaling.truncate is false; llama.cpp rounds YaRN's boundaries"])
            }
            pairs.append(("\(name).rope.scaling.type", .string("yarn")))
            add("rope.scaling.factor", Float(factor))
            add("rope.scaling.original_context_length", Int(min(original, Double(UInt32.max))))
            add("rope.scaling.yarn_beta_fast", Float(fast))
            add("rope.scaling.yarn_beta_slow", Float(slow))
            // llama.cpp computes YaRN's own magnitude and multiplies it by this key.
            let own = factor <= 1 ? 1 : 0.1 * log(factor) + 1
            if abs(attention - own) > 1e-6 * own { add("rope.scaling.attn_factor", Float(attention / own)) }
        }
        if let window = config.windows.compactMap({ $0 }).min() {
            warnings.append(
                "llama.cpp runs \(config.family.rawValue) without the sliding window: its answers are this model's "
                    + "up to \(window) tokens of context, and may differ beyond")
        }
        return pairs
    }

    /// `rope_freqs.weight` [headDim / 2]: what each frequency is divided by (Llama 3.1), nil for other models.
    var frequencyDivisors: [Float]? {
        guard case .llama3(let factor, let low, let high, let original) = config.rotary.scaling else { return nil }
        return (0..<config.headDim / 2).map { i in
            let frequency = 1 / pow(config.rotary.theta, Double(2 * i) / Double(config.headDim))
            let wavelength = 2 * .pi / frequency
            if wavelength < original / high { return 1 }
            if wavelength > original / low { return Float(factor) }
            let smooth = (original / wavelength - low) / (high - low)
            return Float(1 / ((1 - smooth) / factor + smooth))
        }
    }
}
