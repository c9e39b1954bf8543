import Testing

@testable import FileFormats

@Suite struct ZstdTests {
    @Test(arguments: [0, 1, 1000, 300_000]) func roundTrip(count: Int) throws {
        var generator = SeededGenerator(5)
        let bytes = (0..<count).map { _ in UInt8.random(in: 0...7, using: &generator) }
        let packed = try Zstd.compress(bytes)
        #expect(try Zstd.decompress(packed, limit: count) == bytes)
        #expect(try Zstd.decompress(packed + packed, limit: 2 * count) == bytes + bytes)
        var output = [UInt8](repeating: 0, count: count)
        try packed.withUnsafeBytes { input in
            try output.withUnsafeMutableBytes { try Zstd.decompress(input, into: $0) }
        }
        #expect(output == bytes)
        if count > 0 {
            #expect(throws: FileError.self) { try Zstd.decompress(packed, limit: count - 1) }
            #expect(throws: FileError.self) { try Zstd.decompress(packed.dropLast(), limit: count) }
            var larger = [UInt8](repeating: 0, count: count + 1)
            #expect(throws: FileError.self) {
                try packed.withUnsafeBytes { input in
                    try larger.withUnsafeMutableBytes { try Zstd.decompress(input, into: $0) }
                }
            }
        }
    }
    @Test func bombIsCapped() throws {
        let bomb = try Zstd.compress([UInt8](repeating: 0, count: 64 << 20))
        #expect(throws: FileError.self) { try Zstd.decompress(bomb, limit: 1 << 20) }
    }
    @Test func windowOver128MiBIsRefused() {
        // Magic, descriptor without single segment, window descriptor for 2^28 bytes, one empty last raw block.
        let frame: [UInt8] = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 18 << 3, 0x01, 0x00, 0x00]
        #expect(throws: FileError.self) { try Zstd.decompress(frame, limit: 1 << 20) }
        var smaller = frame
        smaller[5] = 17 << 3
        #expect(throws: Never.self) { try Zstd.decompress(smaller, limit: 1 << 20) }
    }
    @Test func garbage() {
        #expect(throws: FileError.self) { try Zstd.decompress([1, 2, 3, 4, 5], limit: 100) }
    }
}
