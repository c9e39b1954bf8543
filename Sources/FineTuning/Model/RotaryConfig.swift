internal import FileFormats
import Foundation
public import TensorCore

/// The rotary embedding of a model: the base and how it is stretched to longer contexts.
public struct RotaryConfig: Sendable {
    public enum Scaling: Sendable {
        case none
        /// Positions divided by `factor`.
        case linear(factor: Double)
        /// Llama 3.1: long wavelengths divided by `factor`, a ramp in between.
        case llama3(factor: Double, lowFrequency: Double, highFrequency: Double, originalPositions: Double)
        /// YaRN (arXiv:2309.00071).
        case yarn(
            factor: Double, originalPositions: Double, betaFast: Double, betaSlow: Double, attentionFactor: Double,
            truncates: Bool)
    }

    public var theta: Double
    public var scaling: Scaling
    public var headDim: Int

    /// From `rope_parameters` (new files) or `rope_theta` and `rope_scaling` (older ones).
    init(_ reader: inout ConfigReader, headDim: Int, maxPositions: Int) {
        self.headDim = headDim
        let new = reader.json["rope_parameters"]?.objectValue
        let parameters = new ?? reader.json["rope_scaling"]?.objectValue ?? JSONObject()
        let prefix = new == nil ? "rope_scaling" : "rope_parameters"
        let topTheta = reader.json["rope_theta"]?.doubleValue
        theta = parameters["rope_theta"]?.doubleValue ?? topTheta ?? 10_000
        if !(theta > 0) { reader.problems.append("rope_theta: expected a positive number, found \(theta)") }
        var missing: [String] = []
        func number(_ key: String) -> Double {
            guard let value = parameters[key]?.doubleValue, value > 0 else {
                missing.append("\(prefix).\(key): expected a positive number")
                return 1
            }
            return value
        }
        func optional(_ key: String) -> Double? {
            guard let value = parameters[key], let number = value.doubleValue, number > 0 else { return nil }
            return number
        }
        let partial = optional("partial_rotary_factor") ?? reader.json["partial_rotary_factor"]?.doubleValue ?? 1
        if partial != 1 { missing.append("partial_rotary_factor is \(partial); this family turns whole heads") }
        let type = parameters["rope_type"]?.stringValue ?? parameters["type"]?.stringValue ?? "default"
        switch type {
        case "default": scaling = .none
        case "linear": scaling = .linear(factor: number("factor"))
        case "llama3":
            scaling = .llama3(
                factor: number("factor"), lowFrequency: number("low_freq_factor"),
                highFrequency: number("high_freq_factor"),
                originalPositions: optional("original_max_position_embeddings") ?? Double(maxPositions))
        case "yarn":
            let original = optional("original_max_position_embeddings") ?? Double(maxPositions)
            let factor = optional("factor") ?? Double(maxPositions) / original
            func magnitude(_ scale: Double, _ m: Double = 1) -> Double { scale <= 1 ? 1 : 0.1 * m * log(scale) + 1 }
            var attention = optional("attention_factor") ?? magnitude(factor)
            if optional("attention_factor") == nil, let m = optional("mscale"), let all = optional("mscale_all_dim") {
                attention = magnitude(factor, m) / magnitude(factor, all)
            }
            scaling = .yarn(
                factor: factor, originalPositions: original, betaFast: optional("beta_fast") ?? 32,
                betaSlow: optional("beta_slow") ?? 1, attentionFactor: attention,
                truncates: parameters["truncate"]?.boolValue ?? true)
        default:
            scaling = .none
            missing.append("\(prefix).rope_type is '\(type)'; graft computes default, linear, llama3 and yarn")
        }
        reader.problems += missing
    }

    /// The factor on cosines and sines.
    public var attentionFactor: Double {
        if case .yarn(_, _, _, _, let factor, _) = scaling { factor } else { 1 }
    }

    /// Radians a position for each of the headDim / 2 pairs, in f32 as Transformers computes them.
    public var inverseFrequencies: [Float] {
        let half = headDim / 2
        let plain = (0..<half).map { 1 / Float(pow(theta, Double(2 * $0) / Double(headDim))) }
        switch scaling {
        case .none: return plain
        case .linear(let factor): return plain.map { $0 / Float(factor) }
        case .llama3(let factor, let low, let high, let original):
            return plain.map { frequency in
                let wavelength = 2 * .pi / Double(frequency)
                if wavelength < original / high { return frequency }
                if wavelength > original / low { return frequency / Float(factor) }
                let smooth = (original / wavelength - low) / (high - low)
                return Float((1 - smooth) * Double(frequency) / factor + smooth * Double(frequency))
            }
        case .yarn(let factor, let original, let betaFast, let betaSlow, _, let truncates):
            func correction(_ rotations: Double) -> Double {
                Double(headDim) * log(original / (rotations * 2 * .pi)) / (2 * log(theta))
            }
            var low = correction(betaFast), high = correction(betaSlow)
            if truncates { (low, high) = (low.rounded(.down), high.rounded(.up)) }
            low = max(low, 0)
            high = min(high, Double(headDim - 1))
            if low == high { high += 0.001 }
            return plain.enumerated().map { i, frequency in
                let ramp = min(1, max(0, (Double(i) - low) / (high - low)))
                return Float(Double(frequency) / factor * ramp + Double(frequency) * (1 - ramp))
            }
        }
    }

    /// Cosines and sines of positions 0..<count.
    public func table(positions count: Int) -> RotaryTable {
        let frequencies = inverseFrequencies, half = frequencies.count, factor = Float(attentionFactor)
        let cosine = Tensor([count, half]), sine = Tensor([count, half])
        cosine.withFloats { cosine in
            sine.withFloats { sine in
                for position in 0..<count {
                    for (i, frequency) in frequencies.enumerated() {
                        let angle = Double(Float(position) * frequency)
                        cosine[position * half + i] = Float(cos(angle)) * factor
                        sine[position * half + i] = Float(sin(angle)) * factor
                    }
                }
            }
        }
        return RotaryTable(cosine: cosine, sine: sine)
    }
}
