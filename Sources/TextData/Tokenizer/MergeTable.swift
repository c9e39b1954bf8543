/// Pairs of token ids with the rank of their merge and the id it makes: open addressing, no deletion.
struct MergeTable: Sendable {
    private var keys: [UInt64]
    private var values: [UInt64]
    private static let empty = UInt64.max

    init(capacity: Int) {
        var size = 16
        while size < capacity * 2 { size *= 2 }
        keys = [UInt64](repeating: Self.empty, count: size)
        values = [UInt64](repeating: 0, count: size)
    }

    @inline(__always)
    private static func key(_ left: UInt32, _ right: UInt32) -> UInt64 { UInt64(left) << 32 | UInt64(right) }

    @inline(__always)
    private func slot(of key: UInt64) -> Int {
        let mask = keys.count - 1
        var hash = key &* 0x9E37_79B9_7F4A_7C15
        hash ^= hash >> 32
        var slot = Int(truncatingIfNeeded: hash) & mask
        while keys[slot] != key, keys[slot] != Self.empty { slot = (slot + 1) & mask }
        return slot
    }

    /// The rank in the high half and the new id in the low half, or `UInt64.max`.
    @inline(__always)
    func lookup(_ left: UInt32, _ right: UInt32) -> UInt64 {
        let key = Self.key(left, right)
        let slot = slot(of: key)
        return keys[slot] == key ? values[slot] : .max
    }

    /// A later merge of the same pair takes the earlier one's place, as in the reference.
    mutating func insert(_ left: UInt32, _ right: UInt32, rank: UInt32, id: UInt32) {
        let key = Self.key(left, right)
        let slot = slot(of: key)
        keys[slot] = key
        values[slot] = UInt64(rank) << 32 | UInt64(id)
    }
}
