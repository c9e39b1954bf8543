import FileFormats
import FineTuning
import Foundation
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
        let (expected, written) = (pair.expected, pair.written)
        guard written.shape == expected.source.shape else {
            problems.append("\(expected.name): expected shape \(expected.source.shape), found \(written.shape)")
            return
        }
        var sums = DifferenceSums(rounding: ParityBounds.rounding(pair.type))
        // Of a tensor that adapters change, the whole is kept until the base alone has come by.
        var changed: [Float] = []
        if !expected.updates.isEmpty { changed.reserveCapacity(written.elementCount) }
        let reader = PieceReader(written)
        try forEachPiece(of: expected) { values, place in
            sums.add(expected: values, found: try reader.read(place..<place + values.count))
            if !expected.updates.isEmpty { changed.append(contentsOf: values) }
        }
        if !changed.isEmpty {
            var base = expected
            base.updates = AdapterChanges.Changes()
            try changed.withUnsafeBufferPointer { changed in
                try forEachPiece(of: base) { values, place in
                    let range = place..<place + values.count
                    sums.addChange(
                        expected: UnsafeBufferPointer(rebasing: changed[range]), found: try reader.read(range),
                        base: values)
                }
            }
        }
        withExtendedLifetime(reader) {}
        judge(pair, sums, elements: written.elementCount)
    }

    /// Calls `body` with the values of each piece of a tensor and the number of values before it.
    private func forEachPiece(
        of tensor: StreamedTensor, _ body: (UnsafeBufferPointer<Float>, Int) throws -> Void
    ) throws {
        var place = 0
        _ = try [tensor].write(pool: pool) { _, bytes in
            let values = bytes.assumingMemoryBound(to: Float.self)
            try body(values, place)
            place += values.count
        }
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
            || sums.rounding != nil && Double(sums.largestExcess) > 1e-5 * scale + 1e-30
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
    let rounding: (relative: Float, absolute: Float)?
    var squaredError = 0.0
    var squaredExpected = 0.0
    /// By how much an element is further off than its rounding explains.
    var largestExcess: Float = 0
    /// (found - expected) . change, and change . change, with change = expected - base.
    var alongChange = 0.0
    var squaredChange = 0.0

    init(rounding: (relative: Float, absolute: Float)?) { self.rounding = rounding }

    mutating func add(expected: UnsafeBufferPointer<Float>, found: UnsafeBufferPointer<Float>) {
        let (relative, absolute) = rounding ?? (0, 0)
        Self.forBlocks(of: expected.count) { range in
            var error: Float = 0, size: Float = 0, excess: Float = 0
            for i in range {
                let difference = found[i] - expected[i], magnitude = abs(expected[i])
                error += difference * difference
                size += magnitude * magnitude
                excess = max(excess, abs(difference) - relative * magnitude - absolute)
            }
            squaredError += Double(error)
            squaredExpected += Double(size)
            largestExcess = max(largestExcess, excess)
        }
    }

    /// Adds what base, expected and found say of the adapters' change.
    mutating func addChange(
        expected: UnsafeBufferPointer<Float>, found: UnsafeBufferPointer<Float>, base: UnsafeBufferPointer<Float>
    ) {
        Self.forBlocks(of: expected.count) { range in
            var along: Float = 0, square: Float = 0
            for i in range {
                let change = expected[i] - base[i]
                along += (found[i] - expected[i]) * change
                square += change * change
            }
            alongChange += Double(along)
            squaredChange += Double(square)
        }
    }

    /// Short runs are summed in f32, the runs in double.
    private static func forBlocks(of count: Int, _ body: (Range<Int>) -> Void) {
        for start in stride(from: 0, to: count, by: 512) { body(start..<min(count, start + 512)) }
    }
}

/// Reads a written tensor in pieces, in f32.
private final class PieceReader {
    private let source: TensorSource
    private let bytes = GrowingBuffer()
    private let values = GrowingBuffer()

    init(_ source: TensorSource) { self.source = source }

    /// Elements that begin and end with a row; valid until the next call.
    func read(_ range: Range<Int>) throws -> UnsafeBufferPointer<Float> {
        let bytes = bytes.bytes(source.size(of: range.count)), start = source.size(of: range.lowerBound)
        try source.read(start..<start + bytes.count, into: bytes)
        let values = values.bytes(range.count * 4).bindMemory(to: Float.self)
        source.widen(UnsafeRawBufferPointer(bytes), into: values)
        return UnsafeBufferPointer(values)
    }
}

/// A figure with three significant digits.
func decimal(_ value: Double) -> String { String(format: "%.3g", value) }
