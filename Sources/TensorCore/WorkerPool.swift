internal import CKernels
import Foundation
public import Host
import Synchronization

/// Threads that run one loop at a time. `parallelFor` blocks until the loop is done; the caller works too.
///
/// Work is handed out item by item, so items may differ in cost. A result must not depend on which worker runs an
/// item: then it does not depend on the number of threads either.
public final class WorkerPool: @unchecked Sendable {
    /// What a loop body may use of the worker it runs on.
    public final class Worker: @unchecked Sendable {
        public let index: Int
        var products = ProductCache()
        /// Present while the pool is profiled.
        var ledger: Ledger?
        private var buffers: [UnsafeMutableRawPointer?] = Array(repeating: nil, count: 16)
        private var sizes = Array(repeating: 0, count: 16)

        init(index: Int) { self.index = index }

        deinit {
            products.removeAll()
            for buffer in buffers { free(buffer) }
        }

        /// Scratch memory that stays with the worker; the content is whatever was there. Slot 0 is the products' own.
        func scratch(_ slot: Int, byteCount: Int) -> UnsafeMutableRawPointer {
            if buffers[slot] == nil || sizes[slot] < byteCount {
                free(buffers[slot])
                var block: UnsafeMutableRawPointer?
                let size = byteCount + byteCount / 8 + 4096
                let status = posix_memalign(&block, 4096, size)
                guard status == 0, block != nil else { endOutOfMemory(size) }
                buffers[slot] = block
                sizes[slot] = size
            }
            return buffers[slot]!
        }

        func floats(_ slot: Int, count: Int) -> UnsafeMutablePointer<Float> {
            scratch(slot, byteCount: max(1, count) * 4).assumingMemoryBound(to: Float.self)
        }
    }

    /// What the threads share with the pool; they keep it alive until they have left.
    private final class Shared: @unchecked Sendable {
        let condition = NSCondition()
        /// The number of the loop, and the workers that have not left it; changed under the lock, watched without it.
        let generation = Atomic<Int>(0)
        let running = Atomic<Int>(0)
        var stopping = false
        var body: ((Int, Worker) -> Void)?
        var itemCount = 0
        var operation = Operation.other.rawValue
        let next = Atomic<Int>(0)
        /// Whether a loop runs, so that one started meanwhile does not touch what it uses.
        let isBusy = Atomic<Bool>(false)

        func serve(_ worker: Worker) {
            Matmul.makeThreadSequential()
            var seen = 0
            condition.lock()
            while true {
                while generation.load(ordering: .relaxed) == seen && !stopping { condition.wait() }
                if stopping { break }
                seen = generation.load(ordering: .relaxed)
                condition.unlock()
                runCurrent(worker)
                condition.lock()
                if running.subtract(1, ordering: .releasing).newValue == 0 { condition.broadcast() }
                condition.unlock()
                // The next loop of a step mostly follows within microseconds, sooner than a sleeping thread wakes.
                Self.spin { generation.load(ordering: .relaxed) != seen }
                condition.lock()
            }
            condition.unlock()
        }

        /// A function of its own: its reference to the body is gone when the worker counts as done.
        @inline(never) private func runCurrent(_ worker: Worker) { run(body!, itemCount, operation, worker) }

        /// Watches for a short while, about 20 microseconds, whether `isDone`.
        static func spin(_ isDone: () -> Bool) {
            for _ in 0..<400 {
                if isDone() { return }
                graft_pause()
            }
        }

        func run(_ body: (Int, Worker) -> Void, _ itemCount: Int, _ operation: Int, _ worker: Worker) {
            func runItems() {
                while true {
                    let item = next.add(1, ordering: .relaxed).oldValue
                    guard item < itemCount else { return }
                    body(item, worker)
                }
            }
            if let ledger = worker.ledger { ledger.time(operation, runItems) } else { runItems() }
        }
    }

    public let count: Int
    /// The processors for which operations cut their work: the machine's, whatever the number of threads, on which
    /// results do not depend.
    public let width: Int
    private let workers: [Worker]
    private let shared = Shared()

    /// - Parameters:
    ///   - threads: the caller's among them; where the system allows no more, the pool has fewer
    ///   - width: see there
    public init(threads: Int = Processors.available, width: Int = Processors.ofMachine) {
        self.width = width
        var workers = [Worker(index: 0)]
        Matmul.makeThreadSequential()
        while workers.count < threads {
            let worker = Worker(index: workers.count)
            guard startThread(stackSize: 4 << 20, { [shared] in shared.serve(worker) }) == 0 else { break }
            workers.append(worker)
        }
        self.workers = workers
        count = workers.count
    }

    // MARK: profile

    private var profile: Profile?
    private var profileBegan = 0.0

    /// Measures from now on; for a pool that one thread uses. A clock is read twice an operation and tile.
    public func beginProfile() {
        profile = Profile()
        profileBegan = Ledger.now
        for worker in workers { worker.ledger = Ledger() }
    }

    /// What was measured since `beginProfile`, without ending it.
    public var measuredProfile: Profile? {
        guard var profile else { return nil }
        profile.threads = count
        profile.seconds = Ledger.now - profileBegan
        for operation in Operation.allCases {
            for worker in workers {
                profile.entries[operation, default: .init()] += worker.ledger!.entries[operation.rawValue]
            }
        }
        return profile
    }

    deinit {
        shared.condition.lock()
        shared.stopping = true
        shared.condition.broadcast()
        shared.condition.unlock()
    }

    /// Calls `body(item, worker)` for every item in `0..<itemCount`, in parallel, and returns when all are done.
    ///
    /// A loop inside a loop, or from another thread while one runs, runs on its caller alone with a worker of its own.
    public func parallelFor(_ itemCount: Int, _ operation: Operation = .other, _ body: (Int, Worker) -> Void) {
        guard itemCount > 0 else { return }
        guard profile != nil else { return runLoop(itemCount, operation, body) }
        let began = Ledger.now
        runLoop(itemCount, operation, body)
        profile?.loopSeconds += Ledger.now - began
        profile?.loops += 1
    }

    private func runLoop(_ itemCount: Int, _ operation: Operation, _ body: (Int, Worker) -> Void) {
        // OpenMP's switch is the thread's own, and this may be another thread than the one that made the pool.
        Matmul.makeThreadSequential()
        guard !shared.isBusy.exchange(true, ordering: .acquiring) else {
            let worker = Worker(index: 0)
            for item in 0..<itemCount { body(item, worker) }
            return
        }
        defer { shared.isBusy.store(false, ordering: .releasing) }
        if count == 1 || itemCount == 1 {
            shared.next.store(0, ordering: .relaxed)
            return shared.run(body, itemCount, operation.rawValue, workers[0])
        }
        withoutActuallyEscaping(body) { body in
            shared.condition.lock()
            shared.next.store(0, ordering: .relaxed)
            shared.body = body
            shared.itemCount = itemCount
            shared.operation = operation.rawValue
            shared.generation.add(1, ordering: .relaxed)
            shared.running.store(count - 1, ordering: .relaxed)
            shared.condition.broadcast()
            shared.condition.unlock()
            shared.run(body, itemCount, operation.rawValue, workers[0])
            Shared.spin { shared.running.load(ordering: .relaxed) == 0 }
            shared.condition.lock()
            while shared.running.load(ordering: .acquiring) > 0 { shared.condition.wait() }
            shared.body = nil
            shared.condition.unlock()
        }
    }
}
