import FileFormats
import Foundation
public import TensorCore

/// A rotary embedding: the base and how it is stretched to longer contexts.
public struct RotaryConfig: Sendable {
    public enum Scaling: Sendable {
        case none
        /// Positions divided by `factor`.
        case linear(factor: Double)
        /// The base grows with sequences that are longer than `positions`.
        case dynamic(factor: Double, positions: Double)
        /// Llama 3.1: long wavelengths divided by `factor`, a ramp in between.
        case llama3(factor: Double, lowFrequency: Double, highFrequency: Double, originalPositions: Double)
        /// YaRN (arXiv:2309.00071).
        case yarn(
            factor: Double, originalPositions: Double, betaFast: Double, betaSlow: Double, attentionFactor: Double,
            truncates: Bool)
        /// LongRoPE (arXiv:2402.13753): a divisor for each frequency; sequences longer than the original context have
        /// divisors of their own.
        case longrope(short: [Double], long: [Double], originalPositions: Int, attentionFactor: Double)

        var isNone: Bool {
            if case .none = self { true } else { false }
        }
    }

    public var theta: Double
    public var scaling: Scaling
    /// The elements of a head that turn, its first ones.
    public var dimensions: Int
    public var isInterleaved = false

    /// The factor on cosines and sines.
    public var attentionFactor: Double {
        switch scaling {
        case .yarn(_, _, _, _, let factor, _), .longrope(_, _, _, let factor): factor
        default: 1
        }
    }

    /// Which of the embedding's tables a sequence of this length needs: sequences of one number share frequencies.
    func variant(ofLength length: Int) -> Int {
        switch scaling {
        case .dynamic(_, let positions): Double(length) > positions ? length : 0
        case .longrope(_, _, let original, _): length > original ? 1 : 0
        default: 0
        }
    }

    /// Radians a position for each of the pairs, in f32 as Transformers computes them.
    public func inverseFrequencies(variant: Int = 0) -> [Float] {
        let half = dimensions / 2
        func frequencies(_ theta: Double) -> [Float] {
            (0..<half).map { 1 / Float(pow(theta, Double(2 * $0) / Double(dimensions))) }
        }
        let plain = frequencies(theta)
        switch scaling {
        case .none: return plain
        case .linear(let factor): return plain.map { $0 / Float(factor) }
        case .dynamic(let factor, let positions):
            guard variant > 0 else { return plain }
            let stretch = factor * Double(variant) / positions - (factor - 1)
            return frequencies(theta * pow(stretch, Double(dimensions) / Double(max(1, dimensions - 2))))
        case .longrope(let short, let long, _, _):
            return zip(plain, variant > 0 ? long : short).map { $0 / Float($1) }
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
                Double(dimensions) * log(original / (rotations * 2 * .pi)) / (2 * log(theta))
            }
            var low = correction(betaFast), high = correction(betaSlow)
            if truncates { (low, high) = (low.rounded(.down), high.rounded(.up)) }
            low = max(low, 0)
            high = min(high, Double(dimensions - 1))
            if low == high { high += 0.001 }
            return plain.enumerated().map { i, frequency in
                let ramp = min(1, max(0, (Double(i) - low) / (high - low)))
                return Float(Double(frequency) / factor * ramp + Double(frequency) * (1 - ramp))
            }
        }
    }

    /// Cosines and sines of positions 0..<count, for each of the variants one after the other.
    public func table(positions count: Int, variants: [Int] = [0]) -> RotaryTable {
        let half = dimensions / 2, factor = Float(attentionFactor)
        let cosine = Tensor([count * variants.count, half]), sine = Tensor([count * variants.count, half])
        cosine.withFloats { cosine in
            sine.withFloats { sine in
                for (place, variant) in variants.enumerated() {
                    let frequencies = inverseFrequencies(variant: variant)
                    for position in 0..<count {
                        let row = (place * count + position) * half
                        for (i, frequency) in frequencies.enumerated() {
                            let angle = Double(Float(position) * frequency)
                            cosine[row + i] = Float(cos(angle)) * factor
                            sine[row + i] = Float(sin(angle)) * factor
                        }
                    }
                }
            }
        }
        return RotaryTable(cosine: cosine, sine: sine, isInterleaved: isInterleaved)
    }
}
