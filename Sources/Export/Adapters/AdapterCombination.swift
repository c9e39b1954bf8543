import FileFormats
import FineTuning
import Foundation
public import TensorCore

/// How the updates of several adapters become one: PEFT's `add_weighted_adapter`.
public struct AdapterCombination: Sendable {
    public enum Method: String, CaseIterable, Sendable {
        case linear, cat, svd, ties
        case dareLinear = "dare_linear"
        case dareTies = "dare_ties"
        case magnitudePrune = "magnitude_prune"
        case tiesSVD = "ties_svd"
        case dareLinearSVD = "dare_linear_svd"
        case dareTiesSVD = "dare_ties_svd"
        case magnitudePruneSVD = "magnitude_prune_svd"

        /// Whether whole updates are combined and then cut to a rank, rather than A and B each for itself.
        var decomposes: Bool { [.svd, .tiesSVD, .dareLinearSVD, .dareTiesSVD, .magnitudePruneSVD].contains(self) }
        /// Whether entries are pruned, which needs a density.
        public var prunes: Bool { ![.linear, .cat, .svd].contains(self) }
        fileprivate var isRandom: Bool { [.dareLinear, .dareTies, .dareLinearSVD, .dareTiesSVD].contains(self) }
        fileprivate var electsSigns: Bool { [.ties, .dareTies, .tiesSVD, .dareTiesSVD].contains(self) }
    }

    /// What decides the sign of an entry (arXiv:2306.01708): the sum of the values, or how many have it.
    public enum MajoritySign: String, CaseIterable, Sendable { case total, frequency }

    public var method: Method
    /// The rank of decomposed results; nil takes the largest of the adapters'.
    public var rank: Int?
    /// The part of the entries that is kept.
    public var density: Double
    public var majoritySign = MajoritySign.total
    public var seed: UInt64

    public init(method: Method, rank: Int? = nil, density: Double = 1, seed: UInt64 = 42) {
        self.method = method
        self.rank = rank
        self.density = density
        self.seed = seed
    }

    /// Writes the combination of adapters, each with its weight.
    ///
    /// - Throws: `FileError`, `FineTuningError.adapterMismatch` for adapters that cannot be combined so.
    public func write(_ folders: [(path: String, weight: Double)], to output: String, pool: WorkerPool) throws {
        let adapters = try folders.map { (object: try AdapterObject(folder: $0.path), weight: $0.weight) }
        try check(adapters)
        var modules: [String] = []
        for adapter in adapters {
            for pair in adapter.object.pairs where !modules.contains(where: pair.module.hasSameBytes) {
                modules.append(pair.module)
            }
        }
        modules.sort { ByteString($0) < ByteString($1) }
        let items = modules.enumerated().map { index, module in item(module, UInt64(index), adapters) }
        let ranks = zip(modules, items).map { (module: $0, rank: $1.shapeA[0]) }
        let others = adapters.flatMap { adapter in
            adapter.object.others.map { (file: adapter.object.file.tensors, entry: $0) }
        }
        var config = adapters[0].object.config
        if let bringing = adapters.first(where: { !$0.object.others.isEmpty }) { config = bringing.object.config }
        config.targets = .names(Array(Set(adapters.flatMap { Self.names($0.object) })))
        try AdapterFolderWriter.write(
            to: output, config: config.targeting(modules).plain(ranks: ranks), items: items, others: others,
            filesFrom: adapters[0].object.folder)
    }

    private static func names(_ object: AdapterObject) -> [String] {
        if case .names(let names) = object.config.targets { return names }
        return object.pairs.map(\.module)
    }

    private typealias Weighted = (object: AdapterObject, weight: Double)

    private func check(_ adapters: [Weighted]) throws {
        for adapter in adapters { try adapter.object.requirePlain("combining") }
        var problems: [String] = []
        let bringing = adapters.filter { !$0.object.others.isEmpty }
        if bringing.count > 1 {
            problems.append("\(bringing.count) of the adapters bring whole modules or rows, which cannot be combined")
        }
        if let one = bringing.first, one.weight != 1 {
            problems.append("\(one.object.folder) brings whole modules or rows, which have no weight but 1")
        }
        let reference = adapters[0].object
        for adapter in adapters.dropFirst() {
            for pair in adapter.object.pairs {
                guard let first = reference.pair(pair.module) else { continue }
                if first.inner != pair.inner {
                    problems.append(
                        "\(pair.module): A and B fit \(first.inner) in one adapter and \(pair.inner) in another")
                }
                if !method.decomposes, method != .cat, first.rank != pair.rank {
                    problems.append(
                        "\(pair.module): ranks \(first.rank) and \(pair.rank); \(method.rawValue) needs one rank, "
                            + "cat and svd do not")
                }
            }
        }
        guard problems.isEmpty else {
            throw FineTuningError.adapterMismatch(path: adapters[0].object.folder, problems: Array(problems.prefix(12)))
        }
    }

    private func item(_ module: String, _ index: UInt64, _ adapters: [Weighted]) -> AdapterFolderWriter.Item {
        let parts = adapters.compactMap { adapter in
            adapter.object.pair(module).map { (object: adapter.object, pair: $0, weight: adapter.weight) }
        }
        let first = parts[0].pair
        let ranks = parts.map(\.pair.rank)
        let largest = min(rank ?? ranks.max()!, first.inner.x, first.inner.y)
        let newRank = method == .cat ? ranks.reduce(0, +) : method.decomposes ? largest : ranks[0]
        return .init(
            keyA: first.keyA, keyB: first.keyB, shapeA: [newRank, first.inner.x], shapeB: [first.inner.y, newRank]
        ) {
            let factors = parts.map { $0.weight * $0.pair.scale }
            let a = parts.map { $0.object.a($0.pair) }
            let b = parts.map { $0.object.b($0.pair) }
            if method == .cat {
                return (.stackedRows(zip(a, factors).map { $0.scaledBy(Float($1)) }), .stackedColumns(b))
            }
            if method.decomposes {
                let updates = zip(zip(a, b), parts).map {
                    Tensor.product($0.1, $0.0).scaledBy(Float($1.pair.scale))
                }
                let sum = combine(updates, parts.map(\.weight), CounterRNG(seed, index, 2))
                let svd = TruncatedSVD(sum, rank: newRank)
                return (svd.vt, svd.u.scaledColumns(svd.s))
            }
            // The sign of a factor goes to one side alone.
            let roots = factors.map { abs($0).squareRoot() }
            let signed = zip(roots, factors).map { $1 >= 0 ? $0 : -$0 }
            return (combine(a, signed, CounterRNG(seed, index, 0)), combine(b, roots, CounterRNG(seed, index, 1)))
        }
    }

    /// Prunes, elects signs and adds, as the method says.
    private func combine(_ tensors: [Tensor], _ weights: [Double], _ random: CounterRNG) -> Tensor {
        let pruned = tensors.enumerated().map { index, tensor -> Tensor in
            guard method.prunes, density < 1 else { return tensor }
            return method.isRandom
                ? tensor.droppingEntries(density, CounterRNG(random.key, UInt64(index)))
                : tensor.keepingLargest(density)
        }
        let result = Tensor.zeros(tensors[0].shape)
        let values = pruned.map { $0.floats() }
        result.withFloats { result in
            for i in result.indices {
                var sum: Float = 0
                guard method.electsSigns else {
                    for (k, weight) in weights.enumerated() { sum += values[k][i] * Float(weight) }
                    result[i] = sum
                    continue
                }
                var election: Float = 0
                for k in values.indices {
                    let value = values[k][i]
                    election += majoritySign == .total ? value : value > 0 ? 1 : value < 0 ? -1 : 0
                }
                var count: Float = 0
                for (k, weight) in weights.enumerated() {
                    let value = values[k][i]
                    guard election >= 0 ? value > 0 : value < 0 else { continue }
                    sum += value * Float(weight)
                    count += 1
                }
                result[i] = sum / max(count, 1)
            }
        }
        return result
    }
}

extension Tensor {
    /// The entries of largest magnitude, `density` of all; of equal ones the first. The others are zero.
    fileprivate func keepingLargest(_ density: Double) -> Tensor {
        let values = floats()
        let kept = Int(density * Double(values.count))
        guard kept > 0 else { return .zeros(shape) }
        let sorted = values.map { abs($0) }.sorted(by: >)
        let limit = sorted[kept - 1]
        var ties = kept - sorted.prefix { $0 > limit }.count
        let result = values.map { value -> Float in
            if abs(value) > limit { return value }
            guard abs(value) == limit, ties > 0 else { return 0 }
            ties -= 1
            return value
        }
        return Tensor(shape, values: result)
    }

    /// Each entry with this probability, divided by it; zero otherwise (DARE, arXiv:2311.03099).
    fileprivate func droppingEntries(_ density: Double, _ random: CounterRNG) -> Tensor {
        let result = floats().enumerated().map { i, value in
            random.uniform(UInt64(i)) < density ? value / Float(density) : 0
        }
        return Tensor(shape, values: result)
    }
}
