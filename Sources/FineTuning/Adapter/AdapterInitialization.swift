internal import FileFormats
public import TensorCore

extension DecoderModel {
    /// Puts fresh updates on the targeted modules, and makes the modules and rows that the configuration names learn.
    ///
    /// - Parameter directions: of EVA, `[r, in]` by module; the others start as by default.
    /// - Throws: `FineTuningError.badRecipe` when nothing, or a name that no module has, is targeted.
    public func attachNewAdapters(
        _ config: AdapterConfig, seed: UInt64, pool: WorkerPool? = nil, directions: [(module: String, a: Tensor)] = []
    ) throws {
        let plan = plan(config)
        var problems = plan.unknownNames + plan.problems
        for update in plan.updates {
            let limit = min(update.site.outputWidth, update.site.inputWidth)
            let initialization = config.initialization
            if initialization.takesOutOfBase, update.rank > limit {
                problems.append("init_lora_weights: \(initialization) on \(update.module) has at most rank \(limit)")
            }
            if config.initialization == .orthogonal, update.rank % 2 != 0 {
                problems.append("init_lora_weights: orthogonal needs even ranks; \(update.module) has \(update.rank)")
            }
            if initialization.takesOutOfBase, problems.isEmpty, baseWeight(update).quantized != nil {
                problems.append(
                    "init_lora_weights: \(initialization) changes the base's weights, which are quantised here")
            }
            let isOther = update.isEmbedding || update.isOfExperts
            if initialization.takesOutOfBase || initialization == .orthogonal, isOther {
                problems.append(
                    "init_lora_weights: \(initialization) is for linear layers, not \(update.site.target)")
            }
        }
        guard problems.isEmpty else { throw FineTuningError.badRecipe(problems.map { "adapter." + $0 }) }
        prepareBase(plan)
        attached = (plan, [])
        let parts = config.initialization.takesOutOfBase ? baseParts(plan, config.initialization, pool) : []
        if let bad = parts.firstIndex(where: { !$0.isFinite }) {
            throw FineTuningError.badInput([
                "init_lora_weights: \(config.initialization) takes \(plan.updates[bad].module) apart, which holds a number "
                    + "that is infinite or NaN: the base is damaged"
            ])
        }
        for (index, update) in plan.updates.enumerated() {
            var start = AdapterStart(update: update, seed: seed, index: UInt64(index)).matrices(config.initialization)
            if config.initialization.takesOutOfBase {
                takeOut(parts[index], update)
                start = UpdateStart(parts[index].a.copied(), parts[index].b.copied(), update)
                attached?.parts.append((update.module, parts[index]))
            }
            if let found = directions.first(where: { $0.module.hasSameBytes(as: update.module) }) {
                start = UpdateStart(a: { _ in found.a }, b: start.b)
            }
            attach(update, start, magnitude: nil, plan)
        }
        stackAdapters()
    }

    private func baseParts(
        _ plan: AdapterPlan, _ initialization: AdapterConfig.Initialization, _ pool: WorkerPool?
    ) -> [BasePart] {
        let weights = plan.updates.map { baseWeight($0) }
        var parts = [BasePart?](repeating: nil, count: weights.count)
        parts.withUnsafeMutableBufferPointer { parts in
            let parts = parts.baseAddress!
            func make(_ i: Int) { parts[i] = BasePart(of: weights[i].floats, plan.updates[i], initialization) }
            if let pool { pool.parallelFor(weights.count) { i, _ in make(i) } } else { weights.indices.forEach(make) }
        }
        return parts.map { $0! }
    }
}

/// What an update starts as that is taken out of the base: scale B A is a part of W.
public struct BasePart {
    /// `[r, in]`
    public let a: Tensor
    /// `[out, r]`
    public let b: Tensor
    public let scale: Float

    /// - Parameters:
    ///   - matrix: W, f32 `[out, in]`
    ///   - initialization: one that takes out of the base
    public init(of matrix: Tensor, _ update: AdapterPlan.Update, _ initialization: AdapterConfig.Initialization) {
        precondition(initialization.takesOutOfBase)
        scale = Float(update.scale)
        guard initialization == .pissa else {
            // W = Q R, of which the first r columns of Q and rows of R: A = R_r, B = Q_r. The sign of a column of Q is
            // that of the row of R, too.
            let columns = matrix.transposed().selectedRows(Array(0..<update.rank))
            let q = columns.orthonormalRows()
            b = q.transposed()
            a = Tensor.product(q, matrix)
            return
        }
        // The part of W along its leading singular vectors (arXiv:2404.02948, equations 2-4): A = sqrt(S / scale) V^T,
        // B = U sqrt(S / scale).
        let svd = TruncatedSVD(matrix, rank: update.rank)
        let roots = svd.s.map { ($0 / Float(update.scale)).squareRoot() }
        a = svd.vt.scaledRows(roots)
        b = svd.u.scaledColumns(roots)
    }

    var isFinite: Bool {
        [a, b].allSatisfy { part in
            part.withBytes { ElementConversion.firstNonFinite(UnsafeRawBufferPointer($0), as: .f32) == nil }
        }
    }

    /// W - scale B A
    public func residual(of matrix: Tensor) -> Tensor {
        let product = Tensor.product(b, a)
        let result = matrix.converted(to: .f32)
        result.withFloats { values in
            product.withFloats { part in for i in values.indices { values[i] -= scale * part[i] } }
        }
        return result
    }
}

/// The matrices that a new update starts with.
private struct AdapterStart {
    let update: AdapterPlan.Update
    let seed: UInt64
    let index: UInt64

    private var outputWidth: Int { update.site.outputWidth }
    private var inputWidth: Int { update.site.inputWidth }

    /// Random numbers are those of their places in the matrices of all experts.
    func matrices(_ initialization: AdapterConfig.Initialization) -> UpdateStart {
        // Of an embedding PEFT's A, here B, is zero, and its B, here A, normal.
        if update.isEmbedding {
            return UpdateStart(
                a: { _ in normalA(1) }, b: { _ in initialization == .random ? normalB(1) : zeroB() })
        }
        switch initialization {
        case .standard, .pissa, .olora, .eva: return UpdateStart(a: uniformA, b: { _ in zeroB() })
        case .random: return UpdateStart(a: uniformA, b: uniformB)
        case .gaussian:
            let deviation = 1 / Double(update.rank * update.site.expertCount)
            return UpdateStart(a: { normalA(deviation, $0) }, b: { _ in zeroB() })
        case .orthogonal:
            let (a, b) = orthogonal()
            return UpdateStart(a, b, update)
        }
    }

    /// Streams beyond the first are keyed apart, so that A stays what it was before there were any.
    private func random(_ stream: UInt64) -> CounterRNG {
        stream == 0 ? CounterRNG(seed, 0x6C6F_7261, index) : CounterRNG(seed, 0x6C6F_7261, index, stream)
    }

    private func zeroB() -> Tensor { .untouchedZeros([outputWidth, update.rank]) }

    /// Uniform in ±1/sqrt(in).
    private func uniformA(_ expert: Int) -> Tensor {
        let random = random(0), bound = 1 / Double(inputWidth).squareRoot()
        return a(expert) { Float((2 * random.uniform($0) - 1) * bound) }
    }

    /// Uniform in ±1/sqrt(E r).
    private func uniformB(_ expert: Int) -> Tensor {
        let random = random(1), bound = 1 / Double(update.rank * update.site.expertCount).squareRoot()
        return b(expert) { Float((2 * random.uniform($0) - 1) * bound) }
    }

    private func normalA(_ deviation: Double, _ expert: Int = 0) -> Tensor {
        let random = random(0)
        return a(expert) { Float(random.normal($0) * deviation) }
    }

    private func normalB(_ deviation: Double) -> Tensor { normal([outputWidth, update.rank], deviation, stream: 1) }

    private func normal(_ shape: [Int], _ deviation: Double, stream: UInt64) -> Tensor {
        let random = random(stream)
        return filled(shape) { Float(random.normal($0) * deviation) }
    }

    /// Expert e's rows of `[E r, in]`.
    private func a(_ expert: Int, _ value: (UInt64) -> Float) -> Tensor {
        let first = UInt64(expert * update.rank * inputWidth)
        return filled([update.rank, inputWidth]) { value(first + $0) }
    }

    /// Expert e's columns of `[out, r E]`.
    private func b(_ expert: Int, _ value: (UInt64) -> Float) -> Tensor {
        let count = UInt64(update.site.expertCount)
        return filled([outputWidth, update.rank]) { value($0 * count + UInt64(expert)) }
    }

    private func filled(_ shape: [Int], _ value: (UInt64) -> Float) -> Tensor {
        let result = Tensor(shape)
        result.withFloats { values in for i in values.indices { values[i] = value(UInt64(i)) } }
        return result
    }

    /// PEFT's `orthogonal_init`: the odd and the even rows of an orthogonal matrix span A and B, so that B A = 0.
    private func orthogonal() -> (a: Tensor, b: Tensor) {
        let rank = update.rank
        let rows = normal([rank, rank], 1, stream: 2).orthonormalRows()
        let odd = rows.selectedRows(Array(stride(from: 0, to: rank, by: 2)))
        let even = rows.selectedRows(Array(stride(from: 1, to: rank, by: 2)))
        let a = Tensor.product(odd, transposed: true, normal([inputWidth, rank / 2], 0.1, stream: 3), transposed: true)
        let b = Tensor.product(normal([rank / 2, outputWidth], 0.1, stream: 4), transposed: true, even)
        return (a, b)
    }
}

/// The lengths of the rows of W + scale B A, f32 `[out]`, or of its columns `[in]`.
func updatedLengths(_ base: Weight, _ a: Tensor, _ b: Tensor, _ scale: Float, ofColumns: Bool) -> Tensor {
    let product = Tensor.product(b, a)
    let weights = base.floats
    let width = a.width
    let result = Tensor([ofColumns ? width : b.rows])
    var squares = [Double](repeating: 0, count: result.shape[0])
    product.withFloats { update in
        weights.withFloats { weights in
            for row in 0..<b.rows {
                for i in 0..<width {
                    let value = Double(weights[row * width + i] + scale * update[row * width + i])
                    squares[ofColumns ? i : row] += value * value
                }
            }
        }
    }
    result.withFloats { lengths in for i in lengths.indices { lengths[i] = Float(squares[i].squareRoot()) } }
    return result
}
