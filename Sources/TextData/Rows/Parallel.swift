import Foundation
import Synchronization

/// Hands out indices to threads.
final class Counter: Sendable {
    private let next = Atomic<Int>(0)
    func take(below count: Int) -> Int? {
        let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
        return index < count ? index : nil
    }
}

/// Results that threads put in their places.
final class Slots<Element: Sendable>: Sendable {
    private let values: Mutex<[Element?]>
    init(count: Int) { values = Mutex(Array(repeating: nil, count: count)) }
    func set(_ index: Int, _ value: Element) { values.withLock { $0[index] = value } }
    func results() -> [Element] { values.withLock { $0.compactMap(\.self) } }
}

/// Runs `body` for each index on so many threads (0 takes all processors); results are in order.
func parallelMap<Result: Sendable>(_ count: Int, threads: Int, _ body: @Sendable (Int) -> Result) -> [Result] {
    let threads = threads > 0 ? threads : ProcessInfo.processInfo.activeProcessorCount
    guard threads > 1, count > 1 else { return (0..<count).map(body) }
    let next = Counter()
    let slots = Slots<Result>(count: count)
    DispatchQueue.concurrentPerform(iterations: min(threads, count)) { _ in
        while let index = next.take(below: count) { slots.set(index, body(index)) }
    }
    return slots.results()
}
