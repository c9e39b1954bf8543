import FileFormats
import FineTuning
import Foundation

/// The metadata that tells llama.cpp how to compute the model (src/llama-arch.cpp and llama-model.cpp there).
struct GGUFArchitecture {
    let config: ModelConfig
    var warnings: [String] = []

    init(_ config: ModelConfig) { self.config = config }

    var name: String { config.family.gguf.architecture }

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
        add("attention.value_length", config.valueDim)
        add("attention.layer_norm_rms_epsilon", config.rmsNormEps)
        let traits = config.family.gguf
        var problems = traits.problems(config)
        for key in traits.keys {
            switch key.value(config) {
            case .count(let value)?: add(key.rawValue, value)
            case .number(let value)?: add(key.rawValue, Float(value))
            case nil: break
            }
        }
        pairs += rotaryMetadata(&problems)
        pairs += mixtureMetadata
        guard problems.isEmpty else { throw ExportError.model(path: path, problems: problems) }
        warnings += traits.warnings(config)
        return pairs
    }

    /// The rotary embedding's, and what llama.cpp has not of it.
    private mutating func rotaryMetadata(_ problems: inout [String]) -> [(key: String, value: GGUFValue)] {
        var pairs: [(key: String, value: GGUFValue)] = []
        func add(_ key: String, _ value: GGUFValue) { pairs.append(("\(name).\(key)", value)) }
        func add(_ key: String, _ value: Int) { add(key, .uint32(UInt32(clamping: value))) }
        func add(_ key: String, _ value: Float) { add(key, .float32(value)) }
        let traits = config.family.gguf, rotary = config.rotaries[0]
        add("rope.dimension_count", rotary.dimensions)
        add("rope.freq_base", Float(rotary.theta))
        switch rotary.scaling {
        case .none, .llama3: break
        case .linear(let factor):
            add("rope.scaling.type", .string("linear"))
            add("rope.scaling.factor", Float(factor))
        case .dynamic:
            problems.append("rope_type dynamic: llama.cpp has no rotary embedding that changes with the length")
        case .longrope(_, _, let original, let attention):
            add("rope.scaling.type", .string("longrope"))
            add("rope.scaling.original_context_length", original)
            add("rope.scaling.attn_factor", Float(attention))
        case .yarn(let factor, let original, let fast, let slow, let attention, let truncates):
            if !truncates {
                let difference = "rope_scaling.truncate is false; llama.cpp rounds YaRN's boundaries"
                if traits.acceptsRoundedYarn { warnings.append(difference) } else { problems.append(difference) }
            } else if traits.acceptsRoundedYarn {
                // For graft alone, which otherwise takes the family's files to be unrounded.
                add("rope.scaling.yarn_truncate", .bool(true))
            }
            add("rope.scaling.type", .string("yarn"))
            add("rope.scaling.factor", Float(factor))
            add("rope.scaling.original_context_length", Int(min(original, Double(UInt32.max))))
            add("rope.scaling.yarn_beta_fast", Float(fast))
            add("rope.scaling.yarn_beta_slow", Float(slow))
            if fast != 32 || slow != 1 {
                warnings.append(
                    "llama.cpp takes YaRN's bounds from its command line, not from the file: start it with "
                        + "--yarn-beta-fast \(Float(fast)) --yarn-beta-slow \(Float(slow))")
            }
            // llama.cpp computes YaRN's own magnitude and multiplies it by this key.
            var own = factor <= 1 ? 1 : 0.1 * log(factor) + 1
            if let magnitude = config.latent?.yarnMagnitude, magnitude > 0 {
                // With this key it computes the ratio of two magnitudes, which are one, and scales the scores.
                add("rope.scaling.yarn_log_multiplier", Float(0.1 * magnitude))
                own = 1
            }
            if abs(attention - own) > 1e-6 * own { add("rope.scaling.attn_factor", Float(attention / own)) }
        }
        return pairs
    }

    /// Tensors that hold what frequencies are divided by, `[pairs]`: Llama 3.1's scaling, LongRoPE's two sets.
    var frequencyDivisors: [(name: String, values: [Float])] {
        if case .longrope(let short, let long, _, _) = config.rotaries[0].scaling {
            return [
                ("rope_factors_long.weight", long.map { Float($0) }),
                ("rope_factors_short.weight", short.map { Float($0) }),
            ]
        }
        return llama3Divisors.map { [("rope_freqs.weight", $0)] } ?? []
    }

    private var llama3Divisors: [Float]? {
        let rotary = config.rotaries[0]
        guard case .llama3(let factor, let low, let high, let original) = rotary.scaling else { return nil }
        return (0..<rotary.dimensions / 2).map { i in
            let frequency = 1 / pow(rotary.theta, Double(2 * i) / Double(rotary.dimensions))
            let wavelength = 2 * .pi / frequency
            if wavelength < original / high { return 1 }
            if wavelength > original / low { return Float(factor) }
            let smooth = (original / wavelength - low) / (high - low)
            return Float(1 / ((1 - smooth) / factor + smooth))
        }
    }
}
