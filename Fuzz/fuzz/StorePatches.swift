@testable import FileFormats

/// Changes to a sound token store whose checksums are made right again, so that the HDF5 library reads what was changed.
///
/// An input is a list of changes, 3 bytes each: where, 16 bits little-endian, and the byte that is put there.
struct StorePatches: Sendable {
    private let store: [UInt8]
    /// Blocks of metadata; the checksum of each stands behind it.
    private let blocks: [Range<Int>]

    init(_ store: [UInt8]) {
        self.store = store
        // HDF5 File Format Specification 3.0: each block begins with a signature; the checksum is Jenkins' lookup3.
        let signatures = [
            "\u{89}HDF", "OHDR", "OCHK", "FRHP", "FHDB", "FHIB", "BTHD", "BTLF", "BTIN", "EAHD", "EAIB", "EASB", "EADB",
            "FAHD", "FADB", "FSHD", "FSSE",
        ].map { $0.unicodeScalars.map { UInt8($0.value) } }
        var blocks: [Range<Int>] = []
        for start in 0..<max(0, store.count - 8) where signatures.contains(where: { store[start...].starts(with: $0) })
        {
            for end in start + 4..<min(store.count - 3, start + 5000) {
                let there = (0..<4).reduce(UInt32(0)) { $0 | UInt32(store[end + $1]) << (8 * $1) }
                guard there == Self.lookup3(store, start..<end) else { continue }
                blocks.append(start..<end)
                break
            }
        }
        self.blocks = blocks
    }

    func apply(_ changes: [UInt8]) -> [UInt8] {
        var bytes = store
        for i in stride(from: 0, to: changes.count - 2, by: 3) {
            bytes[(Int(changes[i]) | Int(changes[i + 1]) << 8) % bytes.count] = changes[i + 2]
        }
        for block in blocks {
            let sum = Self.lookup3(bytes, block)
            for k in 0..<4 { bytes[block.upperBound + k] = UInt8(truncatingIfNeeded: sum >> (8 * UInt32(k))) }
        }
        return bytes
    }

    /// Jenkins' hashlittle with 0 as start (http://burtleburtle.net/bob/c/lookup3.c).
    private static func lookup3(_ bytes: [UInt8], _ range: Range<Int>) -> UInt32 {
        func rotated(_ x: UInt32, _ k: UInt32) -> UInt32 { x << k | x >> (32 - k) }
        let start = 0xDEAD_BEEF &+ UInt32(truncatingIfNeeded: range.count)
        var (a, b, c) = (start, start, start)
        return bytes.withUnsafeBufferPointer { bytes in
            func word(_ offset: Int, _ count: Int) -> UInt32 {
                (0..<max(0, min(4, count))).reduce(0) { $0 | UInt32(bytes[offset + $1]) << UInt32(8 * $1) }
            }
            var position = range.lowerBound
            var left = range.count
            while left > 12 {
                a &+= word(position, 4)
                b &+= word(position + 4, 4)
                c &+= word(position + 8, 4)
                a = (a &- c) ^ rotated(c, 4); c = c &+ b
                b = (b &- a) ^ rotated(a, 6); a = a &+ c
                c = (c &- b) ^ rotated(b, 8); b = b &+ a
                a = (a &- c) ^ rotated(c, 16); c = c &+ b
                b = (b &- a) ^ rotated(a, 19); a = a &+ c
                c = (c &- b) ^ rotated(b, 4); b = b &+ a
                position += 12
                left -= 12
            }
            guard left > 0 else { return c }
            a &+= word(position, left)
            b &+= word(position + 4, left - 4)
            c &+= word(position + 8, left - 8)
            c = (c ^ b) &- rotated(b, 14)
            a = (a ^ c) &- rotated(c, 11)
            b = (b ^ a) &- rotated(a, 25)
            c = (c ^ b) &- rotated(b, 16)
            a = (a ^ c) &- rotated(c, 4)
            b = (b ^ a) &- rotated(a, 14)
            return (c ^ b) &- rotated(b, 24)
        }
    }
}
