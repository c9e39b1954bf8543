import Testing

@testable import TensorCore

private let allCases =
    LinearCases.all + ElementwiseCases.all + AttentionCases.all + ExpertCases.all
    + CompositeCases.all + AdapterCases.all

@Suite struct OperationTests {
    @Test(
        "forward and gradients against a reference in double precision, cut for few processors and for many",
        arguments: allCases, [2, 24])
    func reference(_ test: OperationCase, width: Int) {
        let values = test.values()
        let result = test.run(WorkerPool(threads: 2, width: width), values: values)
        let reference = { (arrays: [[Double]]) in
            test.reference(OperationCase.Values(arrays: arrays, index: test.index))
        }
        let expected = reference(values.map(doubles))
        let losses =
            result.losses.isEmpty && result.outputs.count == expected.count
            ? result.outputs : [result.losses.map(Float.init)]
        #expect(losses.count == expected.count)
        for (actual, expected) in zip(losses, expected) { #expect(relativeError(actual, expected) < 1e-5) }
        let seeds =
            result.losses.isEmpty
            ? expected.enumerated().map { doubles(OperationCase.seeds($0, $1.count)) }
            : expected.map { $0.map { _ in 1 } }
        let learns = test.inputs.indices.filter { ![.frozen, .fixedVector].contains(test.inputs[$0].kind) }
        let mismatches = gradientMismatches(
            inputs: learns.map { (test.inputs[$0].name, doubles(values[$0])) },
            gradients: learns.map { result.gradients[$0] }, seeds: seeds, samples: test.samples, tolerance: 1e-4
        ) { learning in
            var arrays = values.map(doubles)
            for (i, array) in zip(learns, learning) { arrays[i] = array }
            return reference(arrays)
        }
        #expect(mismatches.isEmpty)
    }

    @Test("the same bits with any number of threads, recording or not", arguments: allCases)
    func threads(_ test: OperationCase) {
        for dtype in [DType.f32, .bf16] where dtype == .f32 || test.runsInBF16 {
            let values = test.values()
            let one = test.run(WorkerPool(threads: 1), dtype, values: values)
            for threads in 2...3 {
                #expect(test.run(WorkerPool(threads: threads), dtype, values: values).hasSameBits(as: one))
            }
            let forward = test.run(WorkerPool(threads: 2), dtype, values: values, backward: false)
            #expect(zip(forward.outputs, one.outputs).allSatisfy(sameBits) && forward.losses == one.losses)
        }
    }

    @Test("bf16 within its rounding of f32", arguments: allCases.filter(\.runsInBF16))
    func bf16(_ test: OperationCase) {
        let values = test.values(roundedToBF16: true), pool = WorkerPool(threads: 2)
        let (wide, narrow) = (test.run(pool, values: values), test.run(pool, .bf16, values: values))
        // A rounding is 2^-9; a block rounds a dozen times on the way.
        for (actual, expected) in zip(narrow.outputs, wide.outputs) {
            #expect(relativeError(actual, expected) < 0.03)
        }
        #expect(relativeError(narrow.losses.map(Float.init), wide.losses) < 0.01)
        for (input, (actual, expected)) in zip(test.inputs, zip(narrow.gradients, wide.gradients)) {
            // Gradients that cancel to zero, as of scores with a window of one key, keep the rounding of their terms.
            #expect(relativeError(actual, expected, floor: 0.5) < 0.05, "d \(input.name)")
        }
    }

    @Test("a checkpoint changes no bit", arguments: allCases.filter(\.canCheckpoint))
    func checkpoint(_ test: OperationCase) {
        for dtype in [DType.f32, .bf16] where dtype == .f32 || test.runsInBF16 {
            let values = test.values(), pool = WorkerPool(threads: 2)
            let plain = test.run(pool, dtype, values: values)
            #expect(test.run(pool, dtype, values: values, checkpoint: true).hasSameBits(as: plain))
        }
    }
}

extension OperationCase {
    var runsInBF16: Bool { Matmul.supportsBF16 && name != CompositeCases.ownResidual.name }
    var canCheckpoint: Bool {
        isRepeatable && !name.hasPrefix("crossEntropy") && !name.hasPrefix("split") && !name.contains("projections")
            && name != CompositeCases.manyConsumers.name
    }
}
