import Dispatch
import Host
import Synchronization

/// Runs `body` for each index on all processors, or on `threads` of them; results are in order. Where the system allows
/// no more threads, fewer do the work.
///
/// - Throws: the error of the smallest index that has one.
public func concurrentMap<Result: Sendable, Failure: Error>(
    _ count: Int, threads: Int = 0, _ body: @Sendable (Int) throws(Failure) -> Result
) throws(Failure) -> [Result] {
    let threads = min(count, threads > 0 ? threads : Processors.available)
    var results: [Result] = []
    results.reserveCapacity(count)
    guard threads > 1 else {
        for index in 0..<count { results.append(try body(index)) }
        return results
    }
    let next = Atomic<Int>(0)
    let slots = Mutex<[Swift.Result<Result, Failure>?]>(Array(repeating: nil, count: count))
    runTogether(threads) {
        while true {
            let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
            guard index < count else { return }
            let result: Swift.Result<Result, Failure>
            do throws(Failure) { result = .success(try body(index)) } catch { result = .failure(error) }
            slots.withLock { $0[index] = result }
        }
    }
    for result in slots.withLock({ $0 }) {
        if let result { results.append(try result.get()) }
    }
    return results
}

/// Runs `body` on the caller and on up to `threads - 1` others, and returns when all are done.
private func runTogether(_ threads: Int, _ body: @Sendable () -> Void) {
    // Templates are rendered on these threads: see `StackBounds`.
    let stackSize = 4 << 20
    let done = DispatchSemaphore(value: 0)
    withoutActuallyEscaping(body) { body in
        withUnsafePointer(to: body) { pointer in
            let address = UInt(bitPattern: pointer)
            var started = 0
            while started < threads - 1 {
                let code = startThread(stackSize: stackSize) {
                    call(UnsafePointer<@Sendable () -> Void>(bitPattern: address)!)
                    done.signal()
                }
                guard code == 0 else { break }
                started += 1
            }
            body()
            for _ in 0..<started { done.wait() }
        }
    }
}

/// A function of its own: its reference to the body is gone when it returns.
@inline(never) private func call(_ body: UnsafePointer<@Sendable () -> Void>) { body.pointee() }
