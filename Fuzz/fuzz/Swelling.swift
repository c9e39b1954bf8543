@testable import FileFormats

/// FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/), 64 bits.
struct Hash {
    private(set) var state: UInt64 = 0xCBF2_9CE4_8422_2325
    mutating func add(_ byte: UInt8) { state = (state ^ UInt64(byte)) &* 0x100_0000_01B3 }
}

/// Makes a large input of a small one by repeating a piece of it: what takes more time or memory than the input's
/// size allows shows in large inputs alone, and a fuzzer that tries millions of inputs has to keep to small ones.
struct Swelling {
    nonisolated(unsafe) static var size = 128 << 10
    /// More than a reader of compressed rows may hold.
    private static let unpackedSize = 96 << 20
    private var state: UInt64

    init(_ seed: UInt64) { state = seed }

    private mutating func next(_ limit: Int) -> Int {
        // SplitMix64's step.
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return Int((z ^ (z >> 31)) % UInt64(limit))
    }

    /// - Returns: the input, and how many bytes it has when it is unpacked; nil for what should not be swollen.
    func swell(_ bytes: [UInt8], for reader: Reader) -> (bytes: [UInt8], unpacked: Int)? {
        var copy = self
        switch reader {
        case .gzip, .zstd:
            // Tens of megabytes come out of some kilobytes; still fewer of these are made.
            guard copy.next(64) == 0 else { return nil }
            var plain = (try? Zstd.decompress(bytes, limit: 1 << 16)) ?? Array(Seeds.rows.utf8)
            if plain.isEmpty { plain = [0x20] }
            let large = copy.repeated(plain, to: Self.unpackedSize)
            return (try? Zstd.compress(large, level: 1)).map { ($0, large.count) }
        default:
            let large = copy.repeated(bytes, to: Self.size)
            return (large, large.count)
        }
    }

    private mutating func repeated(_ bytes: [UInt8], to size: Int) -> [UInt8] {
        let start = next(bytes.count)
        let length = 1 + next(min(next(64) + 1, bytes.count - start))
        let piece = bytes[start..<start + length]
        var result = Array(bytes[..<start])
        result.reserveCapacity(size + bytes.count + length)
        while result.count < size { result += piece }
        return result + bytes[start...]
    }
}
