import FineTuning
import Foundation
import TensorCore
import TextData

extension ParityReport.Logits {
    /// Compares the logits of two models of one vocabulary over sequences, each seen by itself.
    ///
    /// The models live and run one after the other; the logits of both, f32 `[T, V]`, are held to be compared.
    init(
        _ sequences: [[Int32]], expected: () throws -> DecoderModel, found: () throws -> DecoderModel, pool: WorkerPool
    ) rethrows {
        var batch = PackedBatch()
        for ids in sequences {
            batch.append(TokenizedExample(ids: ids, isTrained: Array(repeating: false, count: ids.count)))
        }
        let reference = try expected().logits(batch, pool: pool)
        releaseUnusedMemory()
        let logits = try found().logits(batch, pool: pool)
        releaseUnusedMemory()
        self.init(expected: reference, found: logits, pool: pool)
        self.sequences = sequences.count
    }

    private init(expected: Tensor, found: Tensor, pool: WorkerPool) {
        let rows = expected.rows, width = expected.width
        var compared = [RowDifference](repeating: RowDifference(), count: rows)
        expected.withFloats { expected in
            found.withFloats { found in
                compared.withUnsafeMutableBufferPointer { compared in
                    pool.parallelFor(rows) { row, _ in
                        let range = row * width..<(row + 1) * width
                        compared[row] = RowDifference(
                            expected: UnsafeBufferPointer(rebasing: expected[range]),
                            found: UnsafeBufferPointer(rebasing: found[range]))
                    }
                }
            }
        }
        tokens = rows
        largestDifference = compared.reduce(0) { $1.largest.isNaN ? .nan : max($0, $1.largest) }
        let squares = compared.reduce((0.0, 0.0)) { ($0.0 + $1.squaredDifference, $0.1 + $1.squaredSize) }
        relativeError = (squares.0 / max(squares.1, .leastNormalMagnitude)).squareRoot()
        klDivergence = compared.reduce(0) { $0 + $1.divergence } / Double(max(1, rows))
        agreement = Double(compared.count(where: \.agrees)) / Double(max(1, rows))
    }

    /// What is further off than the type explains.
    func problems(_ bounds: ParityBounds, type: String) -> [String] {
        var problems: [String] = []
        if !(relativeError <= bounds.logitError) {
            problems.append(
                "logits differ by \(decimal(relativeError)) of their spread (at most \(decimal(largestDifference))); "
                    + "\(type) may differ by \(decimal(bounds.logitError))")
        }
        if !(klDivergence <= bounds.klDivergence) {
            problems.append(
                "mean KL divergence is \(decimal(klDivergence)) nats; \(type) may have "
                    + "\(decimal(bounds.klDivergence))")
        }
        return problems
    }
}

/// The logits of one position.
private struct RowDifference {
    var largest = 0.0
    var squaredDifference = 0.0
    /// Of the expected logits around their mean.
    var squaredSize = 0.0
    /// KL(expected || found), in nats.
    var divergence = 0.0
    var agrees = true

    init() {}

    init(expected: UnsafeBufferPointer<Float>, found: UnsafeBufferPointer<Float>) {
        var (bestExpected, bestFound, sum) = (0, 0, 0.0)
        for i in expected.indices {
            if expected[i] > expected[bestExpected] { bestExpected = i }
            if found[i] > found[bestFound] { bestFound = i }
            sum += Double(expected[i])
        }
        agrees = bestExpected == bestFound
        let mean = sum / Double(max(1, expected.count))
        let (topExpected, topFound) = (Double(expected[bestExpected]), Double(found[bestFound]))
        var (weightExpected, weightFound, weighted) = (0.0, 0.0, 0.0)
        for i in expected.indices {
            let (p, q) = (Double(expected[i]), Double(found[i]))
            let difference = q - p
            if !(abs(difference) <= largest) { largest = abs(difference) }
            squaredDifference += difference * difference
            squaredSize += (p - mean) * (p - mean)
            let weight = exp(p - topExpected)
            weightExpected += weight
            weightFound += exp(q - topFound)
            weighted -= weight * difference
        }
        divergence =
            weighted / weightExpected + (topFound + log(weightFound)) - (topExpected + log(weightExpected))
    }
}
