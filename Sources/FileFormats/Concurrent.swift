import Dispatch
import Foundation
import Synchronization

/// Runs `body` for each index on all processors, or on `threads` of them; results are in order.
///
/// - Throws: the error of the smallest index that has one.
public func concurrentMap<Result: Sendable, Failure: Error>(
    _ count: Int, threads: Int = 0, _ body: @Sendable (Int) throws(Failure) -> Result
) throws(Failure) -> [Result] {
    let threads = min(count, threads > 0 ? threads : ProcessInfo.processInfo.activeProcessorCount)
    var results: [Result] = []
    results.reserveCapacity(count)
    guard threads > 1 else {
        for index in 0..<count { results.append(try body(index)) }
        return results
    }
    let next = Atomic<Int>(0)
    let slots = Mutex<[Swift.Result<Result, Failure>?]>(Array(repeating: nil, count: count))
    DispatchQueue.concurrentPerform(iterations: threads) { _ in
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
