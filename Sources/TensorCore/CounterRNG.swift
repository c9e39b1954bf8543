internal import CKernels
import Foundation

/// Random numbers as a function of a key and a counter, so that any of them can be drawn again: recomputation and
/// resume replay the same dropout, and the result does not depend on threads.
public struct CounterRNG: Sendable {
    public let key: UInt64

    /// A stream of its own for each list of words, such as (seed, step, layer).
    public init(_ words: UInt64...) {
        key = words.reduce(0x6772_6166_7400_0001) { graft_random($0, $1) }
    }

    public func bits(_ counter: UInt64) -> UInt64 { graft_random(key, counter) }

    /// Uniform in [0, 1).
    public func uniform(_ counter: UInt64) -> Double { Double(bits(counter) >> 11) * 0x1p-53 }

    /// Standard normal (Box and Muller).
    public func normal(_ counter: UInt64) -> Double {
        let radius = (-2 * log(1 - uniform(2 * counter))).squareRoot()
        return radius * cos(2 * .pi * uniform(2 * counter + 1))
    }
}
