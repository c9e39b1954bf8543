/// A random order of `count` items that is a function of (seed, epoch): any place of it costs O(1), so a resumed run
/// needs only the epoch and the position.
///
/// A Feistel network over the smallest even number of bits that holds `count`, walked until it falls inside
/// (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", doi:10.1007/3-540-45760-7_9, method 2).
public struct Permutation: Sendable {
    public let count: Int
    private let halfBits: UInt64
    private let keys: [UInt64]
    private static let rounds = 6

    public init(count: Int, seed: UInt64, epoch: Int) {
        precondition(count >= 0)
        self.count = count
        let bits = count <= 1 ? 2 : UInt64(Int.bitWidth - (count - 1).leadingZeroBitCount)
        halfBits = max(1, (bits + 1) / 2)
        let start = Self.mixed(seed &+ 0x9E37_79B9_7F4A_7C15 &* UInt64(truncatingIfNeeded: epoch &+ 1))
        keys = (0..<Self.rounds).map { Self.mixed(start &+ UInt64($0) &* 0xD1B5_4A32_D192_ED03) }
    }

    /// The finaliser of SplitMix64 (doi:10.1145/2660193.2660195).
    private static func mixed(_ value: UInt64) -> UInt64 {
        var z = value
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// The item at a position of the order.
    public subscript(position: Int) -> Int {
        precondition(position >= 0 && position < count)
        var value = UInt64(position)
        repeat { value = encrypted(value) } while value >= UInt64(count)
        return Int(value)
    }

    private func encrypted(_ value: UInt64) -> UInt64 {
        let mask = (1 << halfBits) - 1 as UInt64
        var (left, right) = (value >> halfBits, value & mask)
        for key in keys { (left, right) = (right, left ^ (Self.mixed(right ^ key) & mask)) }
        return left << halfBits | right
    }
}

/// The order in which a run sees its examples.
public struct ExampleOrder: Sendable {
    public let count: Int
    public let seed: UInt64
    public let shuffles: Bool

    public init(count: Int, seed: UInt64, shuffles: Bool) {
        precondition(count > 0)
        self.count = count
        self.seed = seed
        self.shuffles = shuffles
    }

    /// The examples of the positions `range` of the whole run; position p is the (p % count)th of epoch p / count.
    public func indices(_ range: Range<Int>) -> [Int] {
        var permutation: (epoch: Int, order: Permutation)?
        return range.map { position in
            let (epoch, place) = position.quotientAndRemainder(dividingBy: count)
            guard shuffles else { return place }
            if permutation?.epoch != epoch {
                permutation = (epoch, Permutation(count: count, seed: seed, epoch: epoch))
            }
            return permutation?.order[place] ?? place
        }
    }
}

/// Cuts the sequences of one optimiser step into micro-batches of at most `microbatchTokens` tokens each.
///
/// Longest first into the first batch with room: deterministic, and at most 11/9 of the fewest batches possible plus
/// one (first fit decreasing; doi:10.1137/0203025). A sequence longer than the limit gets a batch of its own. Within
/// a batch, and among batches, sequences keep the order they were given in.
public func microbatches(_ examples: [TokenizedExample], microbatchTokens: Int) -> [PackedBatch] {
    microbatchGroups(examples.map(\.ids.count), microbatchTokens: microbatchTokens).map { group in
        PackedBatch(group.map { examples[$0] })
    }
}

/// The same over lengths alone: indices of the sequences of each micro-batch.
public func microbatchGroups(_ lengths: [Int], microbatchTokens: Int) -> [[Int]] {
    let order = lengths.indices.sorted { lengths[$0] != lengths[$1] ? lengths[$0] > lengths[$1] : $0 < $1 }
    var groups: [(tokens: Int, members: [Int])] = []
    for index in order where lengths[index] > 0 {
        let length = lengths[index]
        if let place = groups.firstIndex(where: { $0.tokens + length <= microbatchTokens }) {
            groups[place].tokens += length
            groups[place].members.append(index)
        } else {
            groups.append((length, [index]))
        }
    }
    return groups.map { $0.members.sorted() }.sorted { ($0.first ?? 0) < ($1.first ?? 0) }
}
