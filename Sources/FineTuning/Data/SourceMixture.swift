import Foundation
import TensorCore
public import TextData

/// How often the rows of each source are seen.
///
/// Source i with n_i rows is repeated weight_i (n_max / n_i)^(1 - 1/T) times, at most `maxRepeats` times: its share is
/// proportional to weight_i n_i^(1/T) (Arivazhagan et al., "Massively multilingual neural machine translation in the
/// wild", 2019, section 4.2). T = 1 leaves sizes as they are, T = infinity makes all sources equally large. A fraction
/// is a part of the rows that the seed chooses.
public struct SourceMixture: Sendable, Equatable, Codable {
    public var weights: [Double]
    public var temperature = 1.0
    /// The epoch cap; nil sets none.
    public var maxRepeats: Double?

    public init(weights: [Double], temperature: Double = 1, maxRepeats: Double? = nil) {
        (self.weights, self.temperature, self.maxRepeats) = (weights, temperature, maxRepeats)
    }

    /// Whether every row is seen once.
    public var isPlain: Bool { temperature == 1 && weights.allSatisfy { $0 == 1 } && (maxRepeats ?? 1) >= 1 }

    /// - Parameter sizes: rows of each source.
    public func repeats(sizes: [Int]) -> [Double] {
        precondition(sizes.count == weights.count)
        let largest = Double(sizes.max() ?? 0)
        return zip(sizes, weights).map { size, weight in
            guard size > 0 else { return 0 }
            let factor = temperature == 1 ? 1 : pow(largest / Double(size), 1 - 1 / temperature)
            return min(weight * factor, maxRepeats ?? .infinity)
        }
    }
}

/// How many copies of each row are taken, by its ordinal.
public struct RowCopies: Sendable {
    private static let domain: UInt64 = 0x6D69_7875

    private struct Source {
        var whole = 0
        /// Rows whose number is up to this are taken once more.
        var threshold: UInt64?
    }
    private let sources: [Source]
    private let numbers: CounterRNG
    /// Rows that are left out.
    private let removed: RowSet
    /// The most copies that a row of each source has.
    public var limits: [Int] { sources.map { $0.whole + ($0.threshold == nil ? 0 : 1) } }
    /// As asked for, before fractions are rounded to rows.
    public let repeats: [Double]

    /// - Parameter rows: calls its argument with all rows (ordinal, source), each time the same ones.
    public init(
        _ mixture: SourceMixture, removed: RowSet, seed: UInt64, rows: ((UInt64, Int) -> Void) throws -> Void
    ) rethrows {
        let numbers = CounterRNG(seed, Self.domain)
        var sizes = Array(repeating: 0, count: mixture.weights.count)
        // Numbers are told apart by their highest 16 bits first: memory does not grow with the rows.
        try rows { row, source in if !removed.contains(row) { sizes[source] += 1 } }
        let repeats = mixture.repeats(sizes: sizes)
        var sources = repeats.map { Source(whole: Int(min($0, 1e6))) }
        let rest = repeats.indices.map { i in
            Int((Double(sizes[i]) * (min(repeats[i], 1e6) - Double(sources[i].whole))).rounded())
        }
        if rest.contains(where: { $0 > 0 }) {
            var histograms = sizes.map { _ in Array(repeating: 0, count: 1 << 16) }
            try rows { row, source in
                if rest[source] > 0, !removed.contains(row) {
                    histograms[source][Int(numbers.bits(row) >> 48)] += 1
                }
            }
            var bins = Array(repeating: -1, count: sizes.count)
            var before = Array(repeating: 0, count: sizes.count)
            for i in sizes.indices where rest[i] > 0 {
                for bin in histograms[i].indices {
                    bins[i] = bin
                    if before[i] + histograms[i][bin] >= rest[i] { break }
                    before[i] += histograms[i][bin]
                }
            }
            var inBin: [[UInt64]] = sizes.map { _ in [] }
            try rows { row, source in
                guard rest[source] > 0, !removed.contains(row) else { return }
                let number = numbers.bits(row)
                if Int(number >> 48) == bins[source] { inBin[source].append(number) }
            }
            for i in sizes.indices where rest[i] > 0 {
                inBin[i].sort()
                sources[i].threshold = inBin[i][rest[i] - before[i] - 1]
            }
        }
        (self.sources, self.numbers, self.removed, self.repeats) = (sources, numbers, removed, repeats)
    }

    public func callAsFunction(_ row: UInt64, source: Int) -> Int {
        if removed.contains(row) { return 0 }
        let rule = sources[source]
        guard let threshold = rule.threshold, numbers.bits(row) <= threshold else { return rule.whole }
        return rule.whole + 1
    }
}
