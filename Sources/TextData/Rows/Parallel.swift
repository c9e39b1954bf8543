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
