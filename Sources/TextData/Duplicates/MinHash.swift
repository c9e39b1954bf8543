/// The MinHash signature of a list of words: 14 bands of 8 hashes over word 5-grams, of each hash 8 bits.
///
/// Two rows whose sets of 5-grams have the Jaccard similarity s agree in a hash with probability s (Broder, "On the
/// resemblance and containment of documents", 1997), in a whole band with s^8, in any of 14 bands with
/// 1 - (1 - s^8)^14: half of the pairs at 0.72, 92 % at 0.8. Eight bits of each hash are kept (Li and König, "b-bit
/// minwise hashing", 2010), so that a band is one number and a row costs 112 bytes.
struct MinHash {
    static let bandCount = 14
    static let rowsPerBand = 8
    static let gram = 5
    static let hashCount = bandCount * rowsPerBand

    private typealias Lanes = SIMD16<UInt32>
    private static let laneCount = 16
    /// Odd factors and summands of the permutations h(x) = a x + b modulo 2^32.
    private static let factors = lanes(seed: 0x6D69_6E68_6173_6801) { $0 | 1 }
    private static let summands = lanes(seed: 0x6D69_6E68_6173_6802) { $0 }

    private static func lanes(seed: UInt64, _ shape: (UInt32) -> UInt32) -> [Lanes] {
        (0..<hashCount / laneCount).map { group in
            var lanes = Lanes()
            for lane in 0..<laneCount {
                lanes[lane] = shape(
                    UInt32(truncatingIfNeeded: mixed(seed &+ UInt64(group * laneCount + lane) << 8) >> 32))
            }
            return lanes
        }
    }

    private var minima = [Lanes](repeating: Lanes(repeating: .max), count: hashCount / laneCount)
    private var isEmpty = true

    /// SplitMix64's finaliser (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
    static func mixed(_ value: UInt64) -> UInt64 {
        var z = value &+ 0x9E37_79B9_7F4A_7C15
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// Takes the 5-grams of a list of hashes of words; of fewer words, all of them together.
    mutating func add(words: [UInt64]) {
        guard !words.isEmpty else { return }
        isEmpty = false
        let length = min(Self.gram, words.count)
        let (factors, summands) = (Self.factors, Self.summands)
        for start in 0...words.count - length {
            var gram: UInt64 = 0
            for i in start..<start + length { gram = Self.mixed(gram ^ words[i]) }
            let x = Lanes(repeating: UInt32(truncatingIfNeeded: gram >> 32))
            for group in minima.indices {
                minima[group] = pointwiseMin(minima[group], x &* factors[group] &+ summands[group])
            }
        }
    }

    /// The bands; all zero for no words at all.
    var bands: [UInt64] {
        guard !isEmpty else { return [UInt64](repeating: 0, count: Self.bandCount) }
        return (0..<Self.bandCount).map { band in
            (0..<Self.rowsPerBand).reduce(UInt64(0)) { result, row in
                let hash = band * Self.rowsPerBand + row
                var value = minima[hash / Self.laneCount][hash % Self.laneCount]
                // Eight bits that depend on all of the minimum.
                value = (value ^ (value >> 15)) &* 0x85EB_CA6B
                value = (value ^ (value >> 13)) &* 0xC2B2_AE35
                return result << 8 | UInt64(value >> 24)
            }
        }
    }

    /// The estimated similarity of two rows, from their bands: the share of equal hashes, corrected for the 1 in 256
    /// that is equal by chance.
    static func similarity(_ a: [UInt64], _ b: [UInt64]) -> Double {
        var equal = 0
        for (x, y) in zip(a, b) {
            let difference = x ^ y
            for shift in stride(from: UInt64(0), to: 64, by: 8) where (difference >> shift) & 0xFF == 0 { equal += 1 }
        }
        let share = Double(equal) / Double(hashCount)
        return max(0, (share - 1.0 / 256) / (1 - 1.0 / 256))
    }
}
