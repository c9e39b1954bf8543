internal import TensorCore

/// The order of the examples of one epoch: a permutation of 0..<count as a function of (seed, epoch, position), so that
/// any position is found in constant time and resume needs no state.
///
/// A four-round Feistel network over the next power of four, walked until it lands inside the range (Black and Rogaway,
/// "Ciphers with arbitrary finite domains", 2002).
struct Permutation: Sendable {
    private let count: Int
    private let halfBits: UInt64
    private let key: CounterRNG

    init(count: Int, seed: UInt64, epoch: Int) {
        precondition(count > 0)
        self.count = count
        var bits: UInt64 = 1
        while 1 << (2 * bits) < count { bits += 1 }
        halfBits = bits
        key = CounterRNG(seed, 0x7065_726D, UInt64(epoch))
    }

    subscript(position: Int) -> Int {
        precondition(0..<count ~= position)
        var value = UInt64(position)
        repeat { value = mixed(value) } while value >= UInt64(count)
        return Int(value)
    }

    private func mixed(_ value: UInt64) -> UInt64 {
        let mask: UInt64 = 1 << halfBits - 1
        var (left, right) = (value >> halfBits, value & mask)
        for round in 0..<UInt64(4) {
            (left, right) = (right, (left ^ key.bits(round << 48 | right)) & mask)
        }
        return left << halfBits | right
    }
}
