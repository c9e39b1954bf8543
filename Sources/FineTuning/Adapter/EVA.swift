internal import FileFormats
import Foundation
internal import TensorCore
internal import TextData

/// Initialisation by explained variance (EVA, arXiv:2410.07170): A starts as the leading directions of the layer's
/// inputs on the training rows, and ranks go to the modules whose inputs vary most. As PEFT 0.21 does it.
struct EVA {
    private let model: DecoderModel
    private let config: AdapterConfig
    private let pool: WorkerPool
    private let updates: [AdapterPlan.Update]

    /// Tokens of a batch at most, and batches at most: directions that turn for ever are taken as they are then.
    private static let batchTokens = 4096
    private static let batchLimit = 1000

    init(model: DecoderModel, config: AdapterConfig, pool: WorkerPool) throws {
        self.model = model
        self.config = config
        self.pool = pool
        let plan = model.plan(config)
        updates = plan.updates.filter { !$0.isEmbedding && !$0.isOfExperts }
        let problems = plan.unknownNames + plan.problems
        guard problems.isEmpty else { throw FineTuningError.badRecipe(problems.map { "adapter." + $0 }) }
    }

    /// Modules that read the same input, and what is known of it.
    private final class Group {
        var modules: [Int] = []
        var components: Int
        var analysis: IncrementalPCA
        var converged: [Bool]
        var isDone = false

        init(components: Int) {
            self.components = components
            analysis = IncrementalPCA(count: components)
            converged = [Bool](repeating: false, count: components)
        }
    }

    /// A `[r, in]` by module; `config` gets the ranks and alphas that follow.
    func directions(_ rows: [TokenizedExample], seed: UInt64, _ config: inout AdapterConfig) throws -> [(
        module: String, a: Tensor
    )] {
        let order = Permutation(count: rows.count, seed: seed, epoch: 0)
        let batches = chunks(rows.indices.map { rows[order[$0]] })
        let groups = inputGroups(batches[0].batch)
        var ranks = updates.map { Int((Double($0.rank) * config.eva.rho).rounded(.toNearestOrEven)) }
        for group in groups { for module in group.modules { ranks[module] = group.components } }
        for index in 0..<Self.batchLimit {
            for group in groups { group.isDone = group.converged.prefix(ranks[group.modules[0]]).allSatisfy { $0 } }
            if groups.allSatisfy(\.isDone) { break }
            observe(batches[index % batches.count], groups)
            if let bad = groups.first(where: { !$0.analysis.singularValues.allSatisfy(\.isFinite) }) {
                throw FineTuningError.badInput([
                    "init_lora_weights: eva: the inputs of \(updates[bad.modules[0]].module) are not numbers: the base "
                        + "holds numbers that are infinite or NaN"
                ])
            }
            if groups.allSatisfy({ $0.analysis.components != nil }) { ranks = distribution(groups) }
        }
        let missing = groups.filter { $0.analysis.components == nil }
        guard missing.isEmpty else {
            throw FineTuningError.badRecipe([
                "adapter.init_lora_weights: eva needs batches of at least \(missing[0].components) trained tokens; "
                    + "add rows, lower adapter.rank or eva_config.rho, or set eva_config.use_label_mask: false"
            ])
        }
        return apply(groups, ranks, &config)
    }

    // MARK: the inputs

    private func chunks(_ rows: [TokenizedExample]) -> [(batch: PackedBatch, places: [Int])] {
        var result: [(batch: PackedBatch, places: [Int])] = []
        var current = PackedBatch()
        var places: [Int] = []
        func close() {
            guard current.count > 0 else { return }
            // A target everywhere, so that no block leaves rows out.
            current.targets = current.targets.map { _ in 0 }
            result.append((current, places))
            (current, places) = (PackedBatch(), [])
        }
        for row in rows {
            if current.count > 0, current.count + row.ids.count > Self.batchTokens { close() }
            places += row.isTrained.indices.filter { !config.eva.usesLabelMask || row.isTrained[$0] }
                .map { $0 + current.count }
            current.append(row)
        }
        close()
        return result
    }

    private func run(_ batch: PackedBatch, _ observer: @escaping (Tensor, [Projection]) -> Void) {
        _ = model.losses(Tape(pool: pool, observer: observer), batch)
    }

    private func inputGroups(_ batch: PackedBatch) -> [Group] {
        let places = Dictionary(
            updates.enumerated().map { (ObjectIdentifier(model.baseWeight($1)), $0) }, uniquingKeysWith: { a, _ in a })
        var groups: [Group] = []
        let short = PackedBatch(tokens: Array(batch.tokens.prefix(2)))
        var copy = short
        copy.targets = copy.targets.map { _ in 0 }
        run(copy) { _, projections in
            let modules = projections.compactMap { places[ObjectIdentifier($0.weight)] }
            guard !modules.isEmpty else { return }
            let group = Group(
                components: modules.map { Int((Double(updates[$0].rank) * config.eva.rho).rounded(.toNearestOrEven)) }
                    .max()!)
            group.modules = modules
            groups.append(group)
        }
        return groups
    }

    private func observe(_ batch: (batch: PackedBatch, places: [Int]), _ groups: [Group]) {
        let byWeight = Dictionary(
            groups.flatMap { group in group.modules.map { (ObjectIdentifier(model.baseWeight(updates[$0])), group) } },
            uniquingKeysWith: { a, _ in a })
        var inputs: [(group: Group, x: Tensor)] = []
        run(batch.batch) { x, projections in
            guard let group = projections.lazy.compactMap({ byWeight[ObjectIdentifier($0.weight)] }).first,
                !group.isDone, batch.places.count >= group.components
            else { return }
            inputs.append((group, x.selectedRows(batch.places)))
        }
        pool.parallelFor(inputs.count) { i, _ in
            let (group, x) = inputs[i]
            let before = group.analysis.components
            group.analysis.add(x)
            guard let before, let now = group.analysis.components else { return }
            for c in group.converged.indices {
                group.converged[c] = c < now.rows && c < before.rows && now.cosine(c, before, c) >= config.eva.tau
            }
        }
    }

    // MARK: the ranks

    /// The budget of ranks goes to the directions that explain most.
    private func distribution(_ groups: [Group]) -> [Int] {
        var candidates: [(ratio: Double, module: Int)] = []
        let leaders = groups.map { ($0, $0.modules[0]) }
        let followers = groups.flatMap { group in group.modules.dropFirst().map { (group, $0) } }
        for (group, module) in leaders + followers {
            candidates += group.analysis.explainedRatio.prefix(group.components).map { ($0, module) }
        }
        let budget = updates.reduce(0) { $0 + $1.rank }
        let sorted = candidates.enumerated().sorted { ($1.element.ratio, $0.offset) < ($0.element.ratio, $1.offset) }
        var ranks = [Int](repeating: 0, count: updates.count)
        for (_, candidate) in sorted.prefix(budget) { ranks[candidate.module] += 1 }
        for group in groups {
            for module in group.modules.dropFirst() where ranks[group.modules[0]] < ranks[module] {
                ranks.swapAt(group.modules[0], module)
            }
        }
        return ranks
    }

    private func apply(_ groups: [Group], _ ranks: [Int], _ config: inout AdapterConfig) -> [(
        module: String, a: Tensor
    )] {
        var result: [(module: String, a: Tensor)] = []
        var ranksByName: [(String, Int)] = []
        var alphas: [(String, Double)] = []
        // What EVA says nothing of starts as by default.
        var names = model.plan(config).updates.filter { $0.isEmbedding || $0.isOfExperts }.map(\.site.target)
        for (index, update) in updates.enumerated() where ranks[index] > 0 {
            guard let group = groups.first(where: { $0.modules.contains(index) }),
                let components = group.analysis.components
            else { continue }
            let rank = min(ranks[index], components.rows)
            var a = components.selectedRows(Array(0..<rank))
            if config.eva.whitens {
                a = a.scaledRows(
                    group.analysis.singularValues.prefix(rank).map { $0 > 0 ? Float(1 / $0.squareRoot()) : 0 })
            }
            result.append((update.module, a))
            names.append(update.site.target)
            let factor = config.eva.adjustsScale ? Double(rank) / Double(update.rank) : 1
            if rank != config.rank { ranksByName.append((update.site.target, rank)) }
            if update.alpha * factor != config.alpha { alphas.append((update.site.target, update.alpha * factor)) }
        }
        (config.rankPattern, config.alphaPattern) = (ranksByName, alphas)
        config.targets = .names(names)
        config.excluded = nil
        config.json["exclude_modules"] = nil
        (config.layers, config.layersPattern) = (nil, [])
        config.json["layers_to_transform"] = nil
        config.json["layers_pattern"] = nil
        return result
    }
}

/// Principal components of rows that come batch by batch (Ross et al. 2008, DOI 10.1007/s11263-007-0075-7), as
/// scikit-learn's and PEFT's `IncrementalPCA` define them.
struct IncrementalPCA {
    let count: Int
    /// `[count, C]`, each row's entry of largest magnitude positive; nil before the first batch.
    private(set) var components: Tensor?
    private(set) var singularValues: [Double] = []
    /// The part of the variance along each component.
    private(set) var explainedRatio: [Double] = []
    private var mean: [Double] = []
    private var variance: [Double] = []
    private var seen = 0

    init(count: Int) { self.count = count }

    /// - Parameter x: f32 `[n, C]`, at least `count` rows
    mutating func add(_ x: Tensor) {
        let n = x.rows
        let width = x.width
        let (batchMean, batchSquares) = Self.moments(x)
        let total = seen + n
        let centred = x.subtracting(batchMean)
        var stack = [centred]
        if let components {
            let factor = (Double(seen) / Double(total) * Double(n)).squareRoot()
            let shift = (0..<width).map { Float(factor * (mean[$0] - batchMean[$0])) }
            stack = [
                components.scaledRows(singularValues.map(Float.init)), centred, Tensor([1, width], values: shift),
            ]
        }
        if seen == 0 {
            (mean, variance) = (batchMean, batchSquares.map { $0 / Double(n) })
        } else {
            for c in 0..<width {
                let difference = mean[c] - batchMean[c]
                let sum =
                    variance[c] * Double(seen) + batchSquares[c]
                    + difference * difference * Double(seen) * Double(n) / Double(total)
                mean[c] += (batchMean[c] - mean[c]) * Double(n) / Double(total)
                variance[c] = sum / Double(total)
            }
        }
        seen = total
        let svd = TruncatedSVD(.stackedRows(stack), rank: count)
        components = svd.vt.withPositivePeaks()
        singularValues = svd.s.map(Double.init)
        let all = variance.reduce(0, +) * Double(total)
        explainedRatio = singularValues.map { all > 0 ? $0 * $0 / all : 0 }
    }

    /// Means of the columns, and the sums of squares around them.
    private static func moments(_ x: Tensor) -> (mean: [Double], squares: [Double]) {
        let width = x.width
        let n = Double(x.rows)
        var mean = [Double](repeating: 0, count: width)
        var squares = mean
        x.withFloats { values in
            for i in values.indices { mean[i % width] += Double(values[i]) }
            for c in 0..<width { mean[c] /= n }
            for i in values.indices {
                let d = Double(values[i]) - mean[i % width]
                squares[i % width] += d * d
            }
        }
        return (mean, squares)
    }
}

extension Tensor {
    fileprivate func subtracting(_ row: [Double]) -> Tensor {
        let result = copied()
        let width = width
        result.withFloats { values in for i in values.indices { values[i] -= Float(row[i % width]) } }
        return result
    }

    fileprivate func withPositivePeaks() -> Tensor {
        let values = floats()
        let width = width
        return scaledRows(
            (0..<rows).map { r in
                let row = values[r * width..<(r + 1) * width]
                return (row.max { abs($0) < abs($1) } ?? 1) < 0 ? -1 : 1
            })
    }

    /// The cosine between two rows.
    fileprivate func cosine(_ i: Int, _ other: Tensor, _ j: Int) -> Double {
        let a = selectedRows([i]).floats()
        let b = other.selectedRows([j]).floats()
        var (dot, left, right) = (0.0, 0.0, 0.0)
        for k in a.indices {
            dot += Double(a[k]) * Double(b[k])
            left += Double(a[k]) * Double(a[k])
            right += Double(b[k]) * Double(b[k])
        }
        return dot / max(1e-8, (left * right).squareRoot())
    }
}
