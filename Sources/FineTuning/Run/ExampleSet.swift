public import FileFormats
import Foundation
internal import TensorCore
public import TextData

/// Tokenised rows of a run, with what is to be told about them.
public struct ExampleSet: Sendable {
    /// What one source gave.
    public struct SourceSummary: Sendable {
        public var path: String
        public var rows = 0
        public var examples = 0
        public var tokens = 0
        public var trainedTokens = 0
        public var longest = 0
        public var dropped = 0
        public var truncated = 0
        public var split = 0
        public var weight = 1.0

        public init(path: String) { self.path = path }
    }

    public var examples: [TokenizedExample] = []
    public var sources: [SourceSummary] = []

    public init() {}

    public var tokens: Int { examples.reduce(0) { $0 + $1.ids.count } }
    public var trainedTokens: Int { examples.reduce(0) { $0 + $1.trainedCount } }
    public var longest: Int { examples.map(\.ids.count).max() ?? 0 }

    /// SHA-256 over all ids and labels, in order.
    public var hash: String {
        var stream = SHA256Stream()
        for example in examples {
            example.ids.withUnsafeBytes { stream.update($0) }
            stream.update(example.isTrained.map { $0 ? 1 : 0 })
            stream.update([0xFF])
        }
        return stream.hexDigest()
    }

    /// Repeats examples `weight` times; for the fraction, a part of them that depends on the seed alone.
    static func weighted(_ examples: [TokenizedExample], weight: Double, seed: UInt64) -> [TokenizedExample] {
        let whole = Int(weight.rounded(.down))
        var result: [TokenizedExample] = []
        for _ in 0..<whole { result += examples }
        let rest = Int((Double(examples.count) * (weight - Double(whole))).rounded())
        if rest > 0, !examples.isEmpty {
            let order = Permutation(count: examples.count, seed: seed, epoch: -1)
            result += (0..<min(rest, examples.count)).map { order[$0] }.sorted().map { examples[$0] }
        }
        return result
    }

    /// The report's and the plan's table; the first row is its head.
    public var table: [[String]] {
        [["file", "rows", "examples", "tokens", "trained", "longest", "dropped", "cut", "split"]]
            + sources.map { source in
                [
                    source.path, "\(source.rows)", "\(source.examples)", "\(source.tokens)",
                    "\(source.trainedTokens)", "\(source.longest)", "\(source.dropped)", "\(source.truncated)",
                    "\(source.split)",
                ]
            }
    }
}
