import Testing

@testable import TextData

struct PackTests {
    @Test(arguments: [1, 2, 3, 5, 64, 65, 1000, 4097])
    func permutationsHoldEachItemOnce(_ count: Int) {
        for (seed, epoch) in [(0, 0), (42, 0), (42, 1), (7, 9)] as [(UInt64, Int)] {
            let order = Permutation(count: count, seed: seed, epoch: epoch)
            #expect(Set((0..<count).map { order[$0] }).count == count)
        }
    }

    @Test func permutationsDependOnSeedAndEpoch() {
        func order(_ seed: UInt64, _ epoch: Int) -> [Int] {
            let permutation = Permutation(count: 200, seed: seed, epoch: epoch)
            return (0..<200).map { permutation[$0] }
        }
        #expect(order(1, 0) == order(1, 0))
        #expect(order(1, 0) != order(1, 1))
        #expect(order(1, 0) != order(2, 0))
        #expect(order(1, 0) != Array(0..<200))
    }

    @Test func permutationsAreEven() {
        // Each item should come first about equally often: 2000 draws over 10 items, chi-square with 9 degrees of
        // freedom stays below 27.9 in all but one case of a thousand.
        var counts = Array(repeating: 0.0, count: 10)
        for epoch in 0..<2_000 { counts[Permutation(count: 10, seed: 3, epoch: epoch)[0]] += 1 }
        #expect(counts.reduce(0) { $0 + ($1 - 200) * ($1 - 200) / 200 } < 27.9)
    }

    @Test func ordersResumeAnywhere() {
        let order = ExampleOrder(count: 7, seed: 5, shuffles: true)
        let whole = order.indices(0..<30)
        #expect(order.indices(11..<30) == Array(whole[11...]))
        #expect(Set(whole[7..<14]).count == 7)
        #expect(ExampleOrder(count: 3, seed: 5, shuffles: false).indices(2..<7) == [2, 0, 1, 2, 0])
    }

    @Test func microbatchesHoldAllSequencesWithinTheLimit() {
        let lengths = [5, 9, 3, 12, 1, 1, 7, 30, 2]
        let groups = microbatchGroups(lengths, microbatchTokens: 12)
        #expect(groups.flatMap(\.self).sorted() == Array(lengths.indices))
        for group in groups where group.count > 1 { #expect(group.reduce(0) { $0 + lengths[$1] } <= 12) }
        #expect(groups.contains([7]))
        #expect(groups == microbatchGroups(lengths, microbatchTokens: 12))
        #expect(groups.count == 5)
    }

    @Test func packedBatchesShiftAndSeparate() {
        let examples = [
            TokenizedExample(ids: [1, 2, 3], isTrained: [false, true, true]),
            TokenizedExample(ids: [4, 5], isTrained: [true, false]),
        ]
        let batches = microbatches(examples, microbatchTokens: 100)
        #expect(batches.count == 1)
        #expect(batches[0].tokens == [1, 2, 3, 4, 5])
        #expect(batches[0].targets == [2, 3, -100, -100, -100])
        #expect(batches[0].positions == [0, 1, 2, 0, 1])
        #expect(batches[0].segmentStarts == [0, 3, 5])
        #expect(microbatches(examples, microbatchTokens: 1).map(\.tokens) == [[1, 2, 3], [4, 5]])
    }
}
