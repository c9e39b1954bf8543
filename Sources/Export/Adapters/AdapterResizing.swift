import FileFormats
import FineTuning
import Foundation
import TensorCore

/// What was lost by a cut to a lower rank.
public struct RankError: Sendable {
    public var module: String
    public var rank: Int
    /// |cut - whole| / |whole|, Frobenius.
    public var relative: Double
    /// |whole|
    public var norm: Double
}

extension [RankError] {
    /// Of all modules together.
    public var relative: Double {
        let whole = reduce(0) { $0 + $1.norm * $1.norm }
        let lost = reduce(0) { $0 + $1.relative * $1.relative * $1.norm * $1.norm }
        return whole > 0 ? (lost / whole).squareRoot() : 0
    }
}

/// Writes an adapter with the best updates of a lower rank (Eckart and Young 1936, DOI 10.1007/BF02288367).
///
/// - Parameter rank: of each module, or what it has if that is less
/// - Throws: `FileError`, `FineTuningError.adapterMismatch`
public func resizeAdapter(_ folder: String, rank: Int, to output: String) throws -> [RankError] {
    let adapter = try AdapterObject(folder: folder)
    try adapter.requirePlain("resizing")
    var errors: [RankError] = []
    let items = adapter.pairs.map { pair -> AdapterFolderWriter.Item in
        let newRank = min(rank, pair.rank, pair.inner.x, pair.inner.y)
        return .init(
            keyA: pair.keyA, keyB: pair.keyB, shapeA: [newRank, pair.inner.x], shapeB: [pair.inner.y, newRank]
        ) {
            let scaled = adapter.b(pair).scaledBy(Float(pair.scale))
            let cut = RankCut(product: scaled, adapter.a(pair), rank: newRank)
            errors.append(RankError(module: pair.module, rank: newRank, relative: cut.error, norm: cut.norm))
            return (cut.a, cut.b)
        }
    }
    let ranks = zip(adapter.pairs, items).map { (module: $0.module, rank: $1.shapeA[0]) }
    try AdapterFolderWriter.write(
        to: output, config: adapter.config.plain(ranks: ranks), items: items,
        others: adapter.others.map { (adapter.file.tensors, $0) }, filesFrom: folder)
    return errors
}

/// Writes an adapter with its updates multiplied by a factor.
public func scaleAdapter(_ folder: String, by factor: Double, to output: String) throws {
    let adapter = try AdapterObject(folder: folder)
    try adapter.requirePlain("scaling")
    guard adapter.others.isEmpty else {
        throw FineTuningError.adapterMismatch(
            path: folder,
            problems: ["it brings whole modules or rows (\(adapter.others[0].name)), which a factor would spoil"])
    }
    let items = adapter.pairs.map { pair in
        AdapterFolderWriter.Item(
            keyA: pair.keyA, keyB: pair.keyB, shapeA: [pair.rank, pair.inner.x], shapeB: [pair.inner.y, pair.rank]
        ) { (adapter.a(pair), adapter.b(pair).scaledBy(Float(factor))) }
    }
    try AdapterFolderWriter.write(to: output, config: adapter.config, items: items, filesFrom: folder)
}

/// The best pair of a lower rank for a matrix: B A with the singular values shared by both.
struct RankCut {
    /// `[r, n]`
    let a: Tensor
    /// `[m, r]`
    let b: Tensor
    /// The relative Frobenius error.
    let error: Double
    let norm: Double

    /// Of a matrix f32 `[m, n]`.
    init(_ matrix: Tensor, rank: Int) {
        let whole = matrix.withFloats { $0.reduce(0.0) { $0 + Double($1) * Double($1) } }
        self.init(TruncatedSVD(matrix, rank: rank), squares: whole)
    }

    /// Of the product of `left` `[m, r]` and `right` `[r, n]`, which is never made.
    init(product left: Tensor, _ right: Tensor, rank: Int) {
        let outer = TruncatedSVD(left, rank: left.width)
        let core = Tensor.product(outer.vt.scaledRows(outer.s), right)
        let whole = core.withFloats { $0.reduce(0.0) { $0 + Double($1) * Double($1) } }
        var svd = TruncatedSVD(core, rank: rank)
        svd.u = .product(outer.u, svd.u)
        self.init(svd, squares: whole)
    }

    private init(_ svd: TruncatedSVD, squares: Double) {
        let roots = svd.s.map { $0.squareRoot() }
        a = svd.vt.scaledRows(roots)
        b = svd.u.scaledColumns(roots)
        norm = squares.squareRoot()
        error = squares > 0 ? (max(0, squares - svd.energy) / squares).squareRoot() : 0
    }
}
