import Foundation
import Synchronization
import Testing

@testable import TensorCore

@Suite struct StorageTests {
    @Test(
        "the arena gives a freed block again, aligned and large enough", arguments: [0, 1, 511, 513, 70_000, 1 << 20])
    func reuse(byteCount: Int) {
        let arena = Arena()
        let first = arena.take(byteCount)
        first.initializeMemory(as: UInt8.self, repeating: 7, count: byteCount)
        #expect(UInt(bitPattern: first) % 64 == 0)
        let second = arena.take(byteCount)
        #expect(second != first)
        arena.give(first, byteCount)
        #expect(arena.take(byteCount) == first)
        arena.give(first, byteCount)
        arena.give(second, byteCount)
        arena.trim()
    }

    @Test("blocks in use never overlap")
    func distinct() {
        let arena = Arena(), generator = CounterRNG(8)
        var held: [(start: UnsafeMutableRawPointer, size: Int)] = []
        for i in 0..<2000 {
            let word = generator.bits(UInt64(i)), size = Int(word % 9000) + 1
            if word >> 32 & 1 == 0 || held.isEmpty {
                let block = arena.take(size)
                block.initializeMemory(as: UInt8.self, repeating: UInt8(i % 251), count: size)
                held.append((block, size))
            } else {
                let block = held.remove(at: Int(word >> 33) % held.count)
                arena.give(block.start, block.size)
            }
        }
        let ranges = held.map { UInt(bitPattern: $0.start)..<UInt(bitPattern: $0.start) + UInt($0.size) }
            .sorted { $0.lowerBound < $1.lowerBound }
        #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound })
        for block in held { arena.give(block.start, block.size) }
        arena.trim()
    }

    /// The addresses in use, and whether one was given out twice.
    final class Held: Sendable {
        let state = Mutex<(addresses: Set<UInt>, isShared: Bool)>(([], false))
        func insert(_ address: UInt) {
            state.withLock { if !$0.addresses.insert(address).inserted { $0.isShared = true } }
        }
        func remove(_ address: UInt) { state.withLock { _ = $0.addresses.remove(address) } }
    }

    @Test("the arena serves several threads")
    func threads() async {
        let arena = Arena(), held = Held()
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    for _ in 0..<500 {
                        let block = arena.take(1000)
                        held.insert(UInt(bitPattern: block))
                        held.remove(UInt(bitPattern: block))
                        arena.give(block, 1000)
                    }
                }
            }
        }
        #expect(!held.state.withLock { $0.isShared })
        arena.trim()
    }

    @Test("shapes, views and conversions")
    func tensors() {
        let tensor = Tensor([2, 3, 4], values: (0..<24).map(Float.init))
        #expect(tensor.rows == 2 && tensor.width == 12 && tensor.count == 24 && tensor.byteCount == 96)
        let vector = Tensor([5], .bf16)
        #expect(vector.rows == 1 && vector.width == 5 && vector.byteCount == 10)
        let view = tensor.view([6, 4])
        view.f32[0] = 100
        #expect(tensor.floats()[0] == 100 && !view.requiresGradient)
        let narrow = tensor.converted(to: .bf16)
        #expect(narrow.dtype == .bf16 && narrow.floats() == tensor.floats())
        let copy = tensor.converted(to: .f32)
        copy.f32[0] = 0
        #expect(tensor.floats()[0] == 100 && Tensor.zeros([3], .bf16).floats() == [0, 0, 0])
        #expect(Tensor([0, 4]).floats().isEmpty)
    }

    @Test("a mapped tensor keeps its owner and reads the memory in place")
    func mapped() {
        final class Owner {
            let memory = UnsafeMutablePointer<Float>.allocate(capacity: 2)
            let onDeinit: () -> Void
            init(_ onDeinit: @escaping () -> Void) {
                self.onDeinit = onDeinit
                memory.initialize(repeating: 1.5, count: 2)
            }
            deinit {
                memory.deallocate()
                onDeinit()
            }
        }
        var isFreed = false
        do {
            var owner: Owner? = Owner { isFreed = true }
            let tensor = Tensor(mapped: owner!.memory, shape: [2], dtype: .f32, owner: owner!)
            owner = nil
            #expect(!isFreed && tensor.floats() == [1.5, 1.5])
        }
        #expect(isFreed)
    }

    @Test("gradients add up in every pair of types")
    func addInPlace() {
        let executor = Executor(WorkerPool(threads: 2)), n = 9001
        let (a, b) = (roundedToBF16(normals(n, 1)), roundedToBF16(normals(n, 2)))
        let sum = zip(a, b).map { $0 + $1 }
        for (target, addend) in [(DType.f32, DType.f32), (.f32, .bf16), (.bf16, .bf16), (.bf16, .f32)] {
            let tensor = Tensor([n], values: a).converted(to: target)
            executor.addInPlace(tensor, Tensor([n], values: b).converted(to: addend))
            #expect(sameBits(tensor.floats(), target == .f32 ? sum : roundedToBF16(sum)))
            #expect(sameBits(executor.copy(tensor, to: .f32).floats(), tensor.floats()))
        }
        let wide = Tensor([n], values: sum)
        #expect(executor.copy(wide, to: .f32) !== wide)
        #expect(sameBits(executor.copy(wide, to: .bf16).floats(), roundedToBF16(sum)))
    }

    @Test("weights show their masters' changes after a refresh", arguments: [DType.f32, .bf16])
    func weights(_ dtype: DType) {
        let master = Tensor([2, 2], values: [1, 2, 3, 4.004])
        let weight = Weight(trainable: master, name: "w", dtype: dtype)
        let a = Weight(trainable: Tensor([1, 2], values: [1, 1]), name: "a", dtype: dtype)
        let adapter = LowRankAdapter(
            a: a, b: Weight(trainable: Tensor([2, 1], values: [1, 3]), name: "b", dtype: dtype), scale: 0.5)
        #expect(weight.isTrainable && weight.gradient?.floats() == [0, 0, 0, 0])
        #expect(adapter.scaledB.floats() == [0.5, 1.5])
        master.f32[0] = 7
        adapter.b.master?.f32[1] = 5
        weight.refresh()
        adapter.refresh()
        let expected: [Float] = [7, 2, 3, 4.004]
        #expect(weight.value.dtype == dtype)
        #expect(weight.value.floats() == (dtype == .f32 ? expected : roundedToBF16(expected)))
        #expect(adapter.scaledB.floats() == [0.5, 2.5] && adapter.b.value.floats() == [1, 5] && adapter.rank == 1)
        let frozen = Weight(frozen: Tensor([2, 2], dtype), name: "f")
        #expect(!frozen.isTrainable && !Projection(weight: frozen).isTrainable)
        #expect(Projection(weight: frozen, adapter: adapter).isTrainable)
    }

    @Test("a deferred start takes up nothing until it is asked for", arguments: [DType.f32, .bf16])
    func deferredWeights(_ dtype: DType) {
        let values: [Float] = [1, 2, 3, 4.004]
        func deferred() -> Weight {
            Weight(trainable: [2, 2], name: "w", dtype: dtype) { Tensor([2, 2], values: values) }
        }
        func load(_ weight: Weight, _ values: [Float]) { values.withUnsafeBytes { weight.load($0) } }
        let weight = deferred()
        #expect(weight.isTrainable && weight.shape == [2, 2] && weight.dtype == dtype)
        #expect(weight.stored.floats() == values)
        load(weight, values)
        #expect(!weight.isMade)
        #expect(weight.value.floats() == (dtype == .f32 ? values : roundedToBF16(values)))
        #expect(weight.isMade && weight.gradient?.floats() == [0, 0, 0, 0])
        weight.master?.f32[0] = 7
        #expect(weight.stored.floats() == [7, 2, 3, 4.004])
        let loaded = deferred()
        load(loaded, [5, 6, 7, 8])
        #expect(loaded.isMade && loaded.stored.floats() == [5, 6, 7, 8])

        let adapter = LowRankAdapter(a: deferred(), b: deferred(), scale: 0.5)
        adapter.refresh()
        #expect(!adapter.a.isMade && !adapter.b.isMade && adapter.isTrainable && adapter.rank == 2)
        adapter.make()
        let half = values.map { $0 / 2 }
        #expect(adapter.scaledB.floats() == (dtype == .f32 ? half : roundedToBF16(half)))
        #expect(adapter.a.isMade)
    }

    @Test("a frozen stack is made part by part", arguments: [DType.f32, .bf16])
    func deferredStacks(_ dtype: DType) {
        var asked: [Int] = []
        let weight = Weight(frozen: [3, 2], name: "w", dtype: dtype, parts: 3) { part in
            asked.append(part)
            return Tensor([2], values: [Float(part) + 0.5, 8])
        }
        #expect(!weight.isTrainable && weight.gradient == nil && weight.dtype == dtype && asked.isEmpty)
        for _ in 0..<2 { weight.make(part: 1) }
        #expect(asked == [1] && !weight.isMade)
        #expect(weight.partial.floats() == [0, 0, 1.5, 8, 0, 0])
        #expect(weight.value.floats() == [0.5, 8, 1.5, 8, 2.5, 8] && weight.isMade && asked == [1, 0, 2])
        #expect(weight.stored === weight.value)
    }
}
