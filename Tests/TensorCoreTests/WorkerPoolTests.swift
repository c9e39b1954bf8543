import Foundation
import Host
import Synchronization
import Testing

@testable import TensorCore

@Suite struct WorkerPoolTests {
    /// How often a loop ran each item.
    final class Counts: Sendable {
        private let counts: Mutex<[Int]>
        init(_ count: Int) { counts = Mutex(Array(repeating: 0, count: count)) }
        func add(_ item: Int) { counts.withLock { $0[item] += 1 } }
        var values: [Int] { counts.withLock { $0 } }
    }

    @Test("every item exactly once", arguments: [1, 2, 3, 8], [0, 1, 2, 7, 1000])
    func everyItemOnce(threads: Int, items: Int) {
        let pool = WorkerPool(threads: threads), counts = Counts(items)
        pool.parallelFor(items) { item, worker in
            counts.add(item)
            if !(0..<threads ~= worker.index) { counts.add(item) }
        }
        #expect(counts.values == Array(repeating: 1, count: items))
    }

    @Test("one loop after another", arguments: [1, 2, 4])
    func manyLoops(threads: Int) {
        let pool = WorkerPool(threads: threads), counts = Counts(3)
        for _ in 0..<2000 { pool.parallelFor(3) { item, _ in counts.add(item) } }
        #expect(counts.values == [2000, 2000, 2000])
    }

    @Test("a loop inside a loop", arguments: [1, 2, 3])
    func nestedLoops(threads: Int) {
        let pool = WorkerPool(threads: threads), counts = Counts(60)
        pool.parallelFor(6) { outer, worker in
            // The inner loop may not touch the outer worker's memory.
            let memory = worker.floats(1, count: 4)
            memory[0] = Float(outer)
            pool.parallelFor(10) { inner, worker in
                worker.floats(1, count: 100)[0] = -1
                counts.add(outer * 10 + inner)
            }
            if memory[0] != Float(outer) { counts.add(outer * 10) }
        }
        pool.parallelFor(60) { item, _ in counts.add(item) }
        #expect(counts.values == Array(repeating: 2, count: 60))
    }

    @Test("loops from several threads at once")
    func loopsFromManyThreads() async {
        let pool = WorkerPool(threads: 2), counts = Counts(50)
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<8 { group.addTask { pool.parallelFor(50) { item, _ in counts.add(item) } } }
        }
        #expect(counts.values == Array(repeating: 8, count: 50))
    }

    @Test("a pool has at least one thread", arguments: [-3, 0, 1])
    func fewThreads(threads: Int) { #expect(WorkerPool(threads: threads).count == 1) }

    final class WeakWorkers: Sendable {
        private struct Entry {
            weak var worker: WorkerPool.Worker?
        }
        private let entries = Mutex<[Entry]>([])
        func add(_ worker: WorkerPool.Worker) { entries.withLock { $0.append(Entry(worker: worker)) } }
        var count: Int { entries.withLock { $0.count } }
        var living: Int { entries.withLock { $0.count { $0.worker != nil } } }
    }

    @Test("pools that are dropped end their threads and give back their workers")
    func droppedPools() throws {
        let tensor = Tensor([32, 24], values: normals(32 * 24, 1)), workers = WeakWorkers()
        func usePool(_ i: Int) {
            let pool = WorkerPool(threads: 3)
            // Some pools are dropped before their threads came to work.
            guard i % 3 > 0 else { return }
            let result = Tensor([32, 32])
            pool.parallelFor(3) { item, worker in
                workers.add(worker)
                guard item == 0 else { return }
                worker.multiply(Matrix(tensor), Matrix(tensor).transposed, into: Matrix(result))
            }
        }
        for i in 0..<300 { usePool(i) }
        #expect(workers.count == 600)
        #expect(waitUntil { workers.living == 0 })
        // 600 threads were started; other tests may hold some at the same time.
        #expect(waitUntil { threadCount() < 300 })
    }

    @Test("scratch memory stays, grows and is never nil")
    func scratch() {
        let worker = WorkerPool.Worker(index: 0)
        _ = worker.scratch(0, byteCount: 0)
        let small = worker.scratch(3, byteCount: 100)
        small.storeBytes(of: 42, as: Int.self)
        #expect(worker.scratch(3, byteCount: 50) == small && small.load(as: Int.self) == 42)
        let large = worker.scratch(3, byteCount: 1 << 20)
        large.initializeMemory(as: UInt8.self, repeating: 1, count: 1 << 20)
        #expect(UInt(bitPattern: large) % 64 == 0)
    }

    /// The process's threads where the system tells, else 0.
    private func threadCount() -> Int {
        (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").count) ?? 0
    }

    private func waitUntil(_ condition: () -> Bool) -> Bool {
        for _ in 0..<100 {
            if condition() { return true }
            Thread.sleep(forTimeInterval: 0.02)
        }
        return condition()
    }
}

@Suite struct RangeTests {
    @Test(
        "tiles cover every row once, whatever the machine", arguments: [0, 1, 15, 16, 17, 127, 300, 2047, 2048, 5000],
        [1, 2, 3, 8, 16, 64])
    func tiles(rows: Int, width: Int) {
        let tiles = RowTiles(rows, width: width)
        let covered = (0..<tiles.count).flatMap { tiles.first($0)..<tiles.first($0) + tiles.rows($0) }
        #expect(covered == Array(0..<rows))
    }

    @Test("no processor has more than a quarter above its share of the 2048 rows of a step", arguments: 1...32)
    func balance(width: Int) {
        let tiles = RowTiles(2048, width: width)
        var loads = [Int](repeating: 0, count: width)
        for tile in 0..<tiles.count {
            let least = loads.indices.min { loads[$0] < loads[$1] }!
            loads[least] += tiles.rows(tile)
        }
        #expect(4 * width * loads.max()! <= 5 * 2048)
    }

    @Test("the least quota of the control groups of either version; none is no limit")
    func quota() {
        func quota(_ membership: String, _ files: [String: String]) -> Double? {
            ControlGroups.processorQuota(membership: membership) { files[String($0.dropFirst("/sys/fs/cgroup".count))] }
        }
        #expect(quota("", [:]) == nil)
        let unlimited = [
            "/cpu/cpu.cfs_quota_us": "-1\n", "/cpu/cpu.cfs_period_us": "100000\n", "/cpu.max": "max 100000\n",
        ]
        #expect(quota("4:cpu,cpuacct:/", unlimited) == nil)
        #expect(quota("", ["/cpu.max": "150000 100000\n"]) == 1.5)
        let first = ["/cpu/a/b/cpu.cfs_quota_us": "250000\n", "/cpu/a/b/cpu.cfs_period_us": "100000\n"]
        #expect(quota("4:cpu,cpuacct:/a/b\n3:memory:/c", first) == 2.5)
        #expect(quota("4:cpu,cpuacct:/a", first) == nil)
        #expect(
            quota(
                "0::/a/b", ["/a/b/cpu.max": "max 100000", "/a/cpu.max": "300000 100000", "/cpu.max": "900000 100000"])
                == 3)
    }
}
