import CKernels
import FileFormats
import FineTuning
import Foundation
import Host
import TensorCore

/// Compares written weights with base and adapters, tensor by tensor and piece by piece.
struct WeightComparison {
    /// A tensor as it should be, in f32, and where it was written.
    struct Pair {
        var expected: StreamedTensor
        var written: TensorSource
        /// What it was written as.
        var type: GGMLType

        init(expected: StreamedTensor, written: TensorSource) {
            self.expected = expected
            self.expected.type = .f32
            self.written = written
            type = written.type
        }
    }

    private let pool: WorkerPool
    private(set) var result = ParityReport.Weights()
    private(set) var problems: [String] = []
    private var alongChange = 0.0
    private var squaredChange = 0.0
    private var squaredError = 0.0
    private static let problemLimit = 12

    init(pool: WorkerPool) { self.pool = pool }

    mutating func compare(_ pairs: [Pair]) throws {
        for pair in pairs { try compare(pair) }
        if problems.count > Self.problemLimit {
            problems = problems.prefix(Self.problemLimit) + ["and \(problems.count - Self.problemLimit) more tensors"]
        }
        // The share of the adapters' change is a sum over all that they change, so that rounding errors mostly cancel.
        if squaredChange > 0 { result.adapterShare = 1 + alongChange / squaredChange }
    }

    private mutating func compare(_ pair: Pair) throws {
        guard pair.written.shape == pair.expected.source.shape else {
            problems.append(
                "\(pair.expected.name): expected shape \(pair.expected.source.shape), found \(pair.written.shape)")
            return
        }
        judge(pair, try sums(pair), elements: pair.written.elementCount)
    }

    /// Makes the tensor once more, tile by tile on all threads, and reads each tile of what was written.
    private func sums(_ pair: Pair) throws -> DifferenceSums {
        let maker = TensorMaker(pair.expected)
        var plain = pair.expected
        plain.updates = AdapterChanges.Changes()
        let base = pair.expected.updates.isEmpty ? nil : TensorMaker(plain, rowWidth: maker.width)
        let tiles = maker.tiles(of: 0..<maker.rowCount)
        let memory = (0..<pool.count).map { _ in (TileMemory(), TileMemory(), TileMemory()) }
        var results = [Result<DifferenceSums, any Error>?](repeating: nil, count: tiles.count)
        results.withUnsafeMutableBufferPointer { results in
            pool.parallelFor(tiles.count) { i, worker in
                let (first, second, third) = memory[worker.index]
                results[i] = Result {
                    try StopRequest.check()
                    let rows = tiles[i]
                    let values = UnsafeBufferPointer(try maker.values(of: rows, first, worker).values)
                    let base = try base.map { UnsafeBufferPointer(try $0.values(of: rows, second, worker).values) }
                    let found = try third.read(
                        rows.lowerBound * maker.width..<rows.upperBound * maker.width, of: pair.written)
                    return DifferenceSums(expected: values, found: found, base: base, ParityBounds.rounding(pair.type))
                }
            }
        }
        var total = DifferenceSums()
        for result in results { total.add(try result!.get()) }
        return total
    }

    private mutating func judge(_ pair: Pair, _ sums: DifferenceSums, elements: Int) {
        let name = pair.expected.name
        result.tensors += 1
        alongChange += sums.alongChange
        squaredChange += sums.squaredChange
        if !pair.expected.updates.isEmpty { squaredError += sums.squaredError }
        let scale = (sums.squaredExpected / Double(max(1, elements))).squareRoot()
        let error = (sums.squaredError / max(sums.squaredExpected, .leastNormalMagnitude)).squareRoot()
        if !(error <= result.largestError) || result.worstTensor.isEmpty {
            (result.largestError, result.worstTensor) = (error, name)
        }
        // What is not a number fails the first comparison.
        let isOff =
            !(error <= ParityBounds(pair.type).weightError)
            || ParityBounds.rounding(pair.type) != nil && Double(sums.largestExcess) > 1e-5 * scale + 1e-30
        guard isOff else { return }
        problems.append(
            "\(name): differs from base and adapter by \(decimal(error)) of its size, more than \(pair.type.name) "
                + "accounts for")
    }

    /// Whether the adapter's strength is wrong, beyond what rounding can do.
    func shareProblem(_ type: GGMLType) -> String? {
        guard let share = result.adapterShare, ParityBounds.rounding(type) == nil else { return nil }
        // Errors that do not depend on the change spread the share by |error| / |change| / sqrt(N); with N unknown
        // directions of a low-rank change a hundredth of the ratio is generous for any matrix worth the name.
        let spread = 0.02 * (squaredError / squaredChange).squareRoot()
        guard abs(share - 1) > 0.2 + spread else { return nil }
        return "the written weights hold \(decimal(share)) times the adapter's change instead of all of it once"
    }
}

/// Sums over the elements of a tensor.
private struct DifferenceSums {
    private var sums = graft_difference_sums()

    var squaredError: Double { sums.squared_error }
    var squaredExpected: Double { sums.squared_expected }
    /// By how much an element is further off than its rounding explains.
    var largestExcess: Float { sums.largest_excess }
    /// (found - expected) . change, and change . change, with change = expected - base.
    var alongChange: Double { sums.along_change }
    var squaredChange: Double { sums.squared_change }

    init() {}

    /// - Parameters:
    ///   - base: the values without the adapters; nil where they change nothing
    ///   - rounding: how far an element may be off: a part of its size, and a fixed amount
    init(
        expected: UnsafeBufferPointer<Float>, found: UnsafeBufferPointer<Float>, base: UnsafeBufferPointer<Float>?,
        _ rounding: (relative: Float, absolute: Float)?
    ) {
        precondition(found.count == expected.count && base.map { $0.count == expected.count } ?? true)
        guard !expected.isEmpty else { return }
        let (relative, absolute) = rounding ?? (0, 0)
        sums = graft_differences(
            expected.baseAddress, found.baseAddress, base?.baseAddress, relative, absolute, expected.count)
    }

    mutating func add(_ other: DifferenceSums) {
        sums.squared_error += other.sums.squared_error
        sums.squared_expected += other.sums.squared_expected
        sums.along_change += other.sums.along_change
        sums.squared_change += other.sums.squared_change
        sums.largest_excess = max(sums.largest_excess, other.sums.largest_excess)
    }
}

extension TileMemory {
    /// Elements of a written tensor in f32, which begin and end with a row; valid until the next call.
    fileprivate func read(_ range: Range<Int>, of tensor: TensorSource) throws -> UnsafeBufferPointer<Float> {
        let bytes = source.bytes(tensor.size(of: range.count)), start = tensor.size(of: range.lowerBound)
        try tensor.read(start..<start + bytes.count, into: bytes)
        let numbers = values.bytes(range.count * 4).bindMemory(to: Float.self)
        tensor.widen(UnsafeRawBufferPointer(bytes), into: numbers)
        return UnsafeBufferPointer(numbers)
    }
}

/// A figure with three significant digits.
func decimal(_ value: Double) -> String { String(format: "%.3g", value) }
