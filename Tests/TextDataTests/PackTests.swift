import Testing

@testable import TextData

struct PackTests {
    @Test func packedBatchesShiftAndSeparate() {
        let examples = [
            TokenizedExample(ids: [1, 2, 3], isTrained: [false, true, true]),
            TokenizedExample(ids: [4, 5], isTrained: [true, false]),
        ]
        let batch = PackedBatch(examples)
        #expect(batch.tokens == [1, 2, 3, 4, 5])
        #expect(batch.targets == [2, 3, -100, -100, -100])
        #expect(batch.positions == [0, 1, 2, 0, 1])
        #expect(batch.segmentStarts == [0, 3, 5])
        // The first token of a sequence is never predicted, whatever its flag says.
        #expect(batch.trainedCount == examples.reduce(0) { $0 + $1.trainedCount })
    }
}
