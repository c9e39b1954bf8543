import Testing
import TextData

@testable import FineTuning

@Suite struct SourceMixtureTests {
    @Test func temperatureMakesSharesFollowTheRootOfSizes() {
        let sizes = [1000, 100, 10]
        #expect(SourceMixture(weights: [1, 1, 1]).repeats(sizes: sizes) == [1, 1, 1])
        let square = SourceMixture(weights: [1, 1, 1], temperature: 2).repeats(sizes: sizes)
        let rows = zip(square, sizes).map { $0 * Double($1) }
        // Shares as 1000^0.5 : 100^0.5 : 10^0.5.
        #expect(abs(rows[0] / rows[1] - 10.0.squareRoot()) < 1e-9 && abs(rows[1] / rows[2] - 10.0.squareRoot()) < 1e-9)
        #expect(SourceMixture(weights: [1, 1, 2], temperature: .infinity).repeats(sizes: sizes) == [1, 10, 200])
        #expect(
            SourceMixture(weights: [1, 1, 2], temperature: .infinity, maxRepeats: 4).repeats(sizes: sizes) == [1, 4, 4])
        #expect(SourceMixture(weights: [0.5, 3], maxRepeats: 2).repeats(sizes: [10, 0]) == [0.5, 0])
    }

    /// Counts are exact, and the rows are the seed's choice alone.
    @Test(arguments: [0.25, 1, 1.5, 2.999, 0.0004]) func fractionsTakeTheExactNumberOfRows(weight: Double) {
        let sizes = [5000, 777]
        func copies(_ seed: UInt64, removed: RowSet = RowSet()) -> RowCopies {
            RowCopies(SourceMixture(weights: [weight, 1]), removed: removed, seed: seed) { body in
                for row in 0..<5777 { body(UInt64(row), row < 5000 ? 0 : 1) }
            }
        }
        let first = copies(1)
        let counts = (0..<5000).map { first(UInt64($0), source: 0) }
        #expect(counts.reduce(0, +) == Int((weight * Double(sizes[0])).rounded()))
        #expect(counts.max()! - counts.min()! <= 1 && counts.max()! <= first.limits[0])
        #expect((5000..<5777).allSatisfy { first(UInt64($0), source: 1) == 1 })
        #expect(counts == (0..<5000).map { copies(1)(UInt64($0), source: 0) })
        if weight == 0.25 || weight == 1.5 { #expect(counts != (0..<5000).map { copies(2)(UInt64($0), source: 0) }) }
    }
}
