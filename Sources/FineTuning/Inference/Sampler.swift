import Foundation
internal import TensorCore

/// How the next token is chosen from logits.
public struct SamplingOptions: Sendable {
    /// 0 takes the most likely token; otherwise logits are divided by it.
    public var temperature = 0.0
    /// Keeps only the k most likely tokens.
    public var topK: Int?
    /// Keeps the most likely tokens that together reach this probability (arXiv:1904.09751).
    public var topP: Double?
    public var seed: UInt64 = 42
    public init() {}
}

/// Draws tokens; a function of the seed and the number of tokens drawn.
struct Sampler {
    let options: SamplingOptions
    private var drawn: UInt64 = 0
    private let random: CounterRNG

    init(_ options: SamplingOptions) {
        self.options = options
        random = CounterRNG(options.seed, 0x7361_6D70)
    }

    /// - Returns: nil when no logit is a number, or the largest is infinite.
    mutating func next(_ logits: [Float]) -> Int32? {
        var best = 0
        for i in logits.indices where logits[i] > logits[best] { best = i }
        guard logits[best].isFinite else { return nil }
        guard options.temperature > 0 else { return Int32(best) }
        let top = Double(logits[best])
        var candidates = logits.indices.map { (id: $0, weight: exp((Double(logits[$0]) - top) / options.temperature)) }
        if options.topK != nil || options.topP != nil {
            candidates.sort { ($0.weight, $1.id) > ($1.weight, $0.id) }
            if let topK = options.topK { candidates.removeLast(max(0, candidates.count - max(1, topK))) }
            if let topP = options.topP {
                let total = candidates.reduce(0) { $0 + $1.weight }
                var sum = 0.0
                let needed = candidates.firstIndex {
                    sum += $0.weight
                    return sum >= topP * total
                }
                if let needed { candidates.removeLast(candidates.count - needed - 1) }
            }
        }
        var rest = random.uniform(drawn) * candidates.reduce(0) { $0 + $1.weight }
        drawn += 1
        for candidate in candidates {
            rest -= candidate.weight
            if rest < 0 { return Int32(candidate.id) }
        }
        return Int32(candidates.last!.id)
    }
}
