import Foundation
import Testing

@testable import FileFormats

/// Builds GGUF bytes literally, wrong ones too.
struct GGUFBytes {
    var bytes: [UInt8] = []
    init(magic: String = "GGUF", version: UInt32 = 3, tensors: UInt64 = 0, keys: UInt64 = 0) {
        bytes += magic.utf8
        add(version)
        add(tensors)
        add(keys)
    }
    mutating func add(_ value: some BitwiseCopyable) { withUnsafeBytes(of: value) { bytes.append(contentsOf: $0) } }
    mutating func add(text: String, length: UInt64? = nil) {
        add(length ?? UInt64(text.utf8.count))
        bytes += text.utf8
    }
    mutating func pair(_ key: String, _ value: UInt32) {
        add(text: key)
        add(UInt32(4))
        add(value)
    }
    mutating func tensor(_ name: String, _ shape: [UInt64] = [1], type: UInt32 = 0, offset: UInt64 = 0) {
        add(text: name)
        add(UInt32(shape.count))
        for dimension in shape { add(dimension) }
        add(type)
        add(offset)
    }
    mutating func data(_ count: Int, alignment: Int = 32) {
        while bytes.count % alignment != 0 { bytes.append(0) }
        bytes += [UInt8](repeating: 0, count: count)
    }
}

@Suite struct GGUFTests {
    let scratch = Scratch()

    func fault(_ bytes: [UInt8]) throws -> GGUFFault? {
        do {
            _ = try GGUFFile(path: scratch.write("x.gguf", bytes))
            return nil
        } catch FileError.gguf(_, let fault) {
            return fault
        }
    }
    func fault(version: UInt32 = 3, tensors: UInt64 = 0, keys: UInt64 = 0, _ body: (inout GGUFBytes) -> Void) throws
        -> GGUFFault?
    {
        var file = GGUFBytes(version: version, tensors: tensors, keys: keys)
        body(&file)
        return try fault(file.bytes)
    }

    static let allValues: [(key: String, value: GGUFValue)] = [
        ("u8", .uint8(1)), ("i8", .int8(-1)), ("u16", .uint16(2)), ("i16", .int16(-2)), ("u32", .uint32(3)),
        ("i32", .int32(-3)), ("u64", .uint64(.max)), ("i64", .int64(.min)), ("f32", .float32(1.5)),
        ("f64", .float64(2.5)), ("b", .bool(true)), ("s", .string("नमस्ते")), ("u8s", .uint8s([1, 2])),
        ("i8s", .int8s([-1])), ("u16s", .uint16s([7])), ("i16s", .int16s([-7])), ("u32s", .uint32s([8])),
        ("i32s", .int32s([-8, 9])), ("u64s", .uint64s([])), ("i64s", .int64s([-9])), ("f32s", .float32s([0.5])),
        ("f64s", .float64s([0.25])), ("bs", .bools([true, false])),
        ("strings", .strings(ByteStrings(["", "a", "\u{E9}", "e\u{301}"]))),
    ]

    @Test(arguments: [32, 64]) func roundTrip(alignment: Int) throws {
        let writer = try GGUFWriter(
            path: scratch("x.gguf"), metadata: Self.allValues,
            tensors: [
                .init(name: "a", type: .f32, shape: [2, 3]), .init(name: "q", type: .q8_0, shape: [2, 32]),
                .init(name: "h", type: .f16, shape: [5]),
            ], alignment: alignment)
        try writer.append([1, 2, 3, 4] as [Float], to: "a")
        try writer.append([5, 6] as [Float], to: "a")
        try writer.append([UInt8](repeating: 9, count: 68), to: "q")
        try writer.append([1, 2, 3, 4, 5] as [UInt16], to: "h")
        try writer.finish()
        let file = try GGUFFile(path: scratch("x.gguf"))
        #expect(file.version == 3 && file.alignment == alignment)
        for (key, value) in Self.allValues { #expect(file[key] == value, "\(key)") }
        #expect(file.tensors.map(\.name) == ["a", "q", "h"])
        #expect(file.tensors.map(\.shape) == [[2, 3], [2, 32], [5]])
        let a = file.withBytes(of: file.tensors[0])
        #expect(a.count == 24 && a.loadUnaligned(fromByteOffset: 20, as: Float.self) == 6)
        #expect(file.withBytes(of: try #require(file.tensor(named: "q"))).allSatisfy { $0 == 9 })
        #expect(file.withBytes(of: file.tensors[2]).loadUnaligned(fromByteOffset: 8, as: UInt16.self) == 5)
        #expect(file["nothing"] == nil && file.tensor(named: "b") == nil)
    }

    @Test func versionTwoIsRead() throws {
        #expect(
            try fault(version: 2, tensors: 1, keys: 1) {
                $0.pair("k", 1)
                $0.tensor("t")
                $0.data(4)
            } == nil)
    }

    @Test func everyTruncationIsAnError() throws {
        let writer = try GGUFWriter(
            path: scratch("whole"), metadata: Self.allValues, tensors: [.init(name: "a", type: .f32, shape: [8])])
        try writer.append([Float](repeating: 1, count: 8), to: "a")
        try writer.finish()
        let whole = try readFile(scratch("whole"), limit: 1 << 20)
        for count in 0..<whole.count { #expect(try fault(Array(whole[..<count])) != nil, "\(count)") }
        #expect(try fault(whole) == nil)
    }

    @Test func flippedBytesNeverCrash() throws {
        let writer = try GGUFWriter(
            path: scratch("whole"), metadata: Self.allValues, tensors: [.init(name: "a", type: .f32, shape: [8])])
        try writer.append([Float](repeating: 1, count: 8), to: "a")
        try writer.finish()
        let whole = try readFile(scratch("whole"), limit: 1 << 20)
        var generator = SeededGenerator(3)
        for _ in 0..<3000 {
            var bytes = whole
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                bytes[Int.random(in: 0..<bytes.count, using: &generator)] =
                    [0, 1, 0x7F, 0x80, 0xFF].randomElement(using: &generator)!
            }
            _ = try fault(bytes)
        }
    }

    // MARK: Each way to be wrong

    @Test func magic() throws {
        guard case .magic = try fault(GGUFBytes(magic: "GGML").bytes) else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [0, 1, 4, UInt32.max]) func version(number: UInt32) throws {
        guard case .version(number) = try fault(GGUFBytes(version: number).bytes) else {
            Issue.record()
            return
        }
    }
    @Test func bigEndian() throws {
        guard case .bigEndian = try fault(GGUFBytes(version: 3 << 24).bytes) else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [UInt64(1), 200_001, 1 << 62, .max]) func hugeCounts(count: UInt64) throws {
        guard case .count = try fault(GGUFBytes(tensors: count).bytes) else {
            Issue.record()
            return
        }
        guard case .count = try fault(GGUFBytes(keys: count).bytes) else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [UInt64(1000), 1 << 63, .max]) func hugeLengths(length: UInt64) throws {
        let key = try fault(keys: 1) {
            $0.add(text: "key", length: length)
            $0.data(32)
        }
        guard case .count = key else {
            Issue.record()
            return
        }
        let string = try fault(keys: 1) {
            $0.add(text: "key")
            $0.add(UInt32(8))
            $0.add(text: "value", length: length)
        }
        guard case .count = string else {
            Issue.record()
            return
        }
        for type: UInt32 in [0, 6, 7, 8, 12] {
            let array = try fault(keys: 1) {
                $0.add(text: "key")
                $0.add(UInt32(9))
                $0.add(type)
                $0.add(length)
                $0.data(64)
            }
            guard case .count = array else {
                Issue.record()
                return
            }
        }
    }
    @Test(arguments: ["", "\u{0}"]) func keys(key: String) throws {
        let found = try fault(keys: 1) {
            $0.pair(key, 1)
            $0.data(32)
        }
        if key.isEmpty {
            guard case .malformedKey = found else {
                Issue.record()
                return
            }
        }
    }
    @Test func keyNotUTF8() throws {
        let found = try fault(keys: 1) {
            $0.add(UInt64(2))
            $0.bytes += [0xFF, 0xFE]
            $0.data(64)
        }
        guard case .malformedKey = found else {
            Issue.record()
            return
        }
    }
    @Test func duplicateKey() throws {
        guard
            case .duplicateKey("k") = try fault(
                keys: 2,
                {
                    $0.pair("k", 1)
                    $0.pair("k", 1)
                })
        else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [13, UInt32.max]) func valueType(type: UInt32) throws {
        let value = try fault(keys: 1) {
            $0.add(text: "k")
            $0.add(type)
            $0.data(32)
        }
        guard case .valueType("k", type) = value else {
            Issue.record()
            return
        }
        let array = try fault(keys: 1) {
            $0.add(text: "k")
            $0.add(UInt32(9))
            $0.add(type)
            $0.data(32)
        }
        guard case .valueType("k", type) = array else {
            Issue.record()
            return
        }
    }
    @Test func nestedArray() throws {
        let found = try fault(keys: 1) {
            $0.add(text: "k")
            $0.add(UInt32(9))
            $0.add(UInt32(9))
            $0.data(64)
        }
        guard case .nestedArray("k") = found else {
            Issue.record()
            return
        }
    }
    @Test func boolean() throws {
        let found = try fault(keys: 1) {
            $0.add(text: "k")
            $0.add(UInt32(7))
            $0.add(UInt8(2))
            $0.data(32)
        }
        guard case .boolean("k", 2) = found else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [0, 3, 33, UInt32.max, 1 << 21]) func alignment(value: UInt32) throws {
        guard case .alignment = try fault(keys: 1, { $0.pair("general.alignment", value) }) else {
            Issue.record()
            return
        }
    }
    @Test func alignmentOfWrongType() throws {
        let found = try fault(keys: 1) {
            $0.add(text: "general.alignment")
            $0.add(UInt32(10))
            $0.add(UInt64(32))
        }
        guard case .alignment = found else {
            Issue.record()
            return
        }
    }
    @Test func duplicateTensor() throws {
        let found = try fault(tensors: 2) {
            $0.tensor("t")
            $0.tensor("t", offset: 32)
            $0.data(64)
        }
        guard case .duplicateTensor("t") = found else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [[], [1, 1, 1, 1, 1]] as [[UInt64]]) func dimensionCount(shape: [UInt64]) throws {
        guard
            case .dimensionCount = try fault(
                tensors: 1,
                {
                    $0.tensor("t", shape)
                    $0.data(64)
                })
        else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [0, 1 << 63, UInt64.max]) func dimension(size: UInt64) throws {
        guard
            case .dimension("t", size) = try fault(
                tensors: 1,
                {
                    $0.tensor("t", [2, size])
                    $0.data(64)
                })
        else {
            Issue.record()
            return
        }
    }
    @Test func shapeOverflow() throws {
        let found = try fault(tensors: 1) {
            $0.tensor("t", [1 << 40, 1 << 40])
            $0.data(64)
        }
        guard case .shapeOverflow("t", _) = found else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [4, 5, 31, 42, UInt32.max]) func tensorType(type: UInt32) throws {
        guard
            case .tensorType("t", type) = try fault(
                tensors: 1,
                {
                    $0.tensor("t", type: type)
                    $0.data(64)
                })
        else {
            Issue.record()
            return
        }
    }
    @Test func unevenRows() throws {
        let found = try fault(tensors: 1) {
            $0.tensor("t", [33, 32], type: 8)
            $0.data(4096)
        }
        guard case .unevenRows("t", 33, .q8_0) = found else {
            Issue.record()
            return
        }
    }
    @Test func misaligned() throws {
        guard
            case .misaligned("t", 4, 32) = try fault(
                tensors: 1,
                {
                    $0.tensor("t", offset: 4)
                    $0.data(64)
                })
        else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [64, 1 << 40, UInt64.max - 31]) func pastEnd(offset: UInt64) throws {
        guard
            case .pastEnd = try fault(
                tensors: 1,
                {
                    $0.tensor("t", offset: offset)
                    $0.data(64)
                })
        else {
            Issue.record()
            return
        }
    }
    @Test func overlap() throws {
        let found = try fault(tensors: 2) {
            $0.tensor("a", [16])
            $0.tensor("b", offset: 32)
            $0.data(96)
        }
        guard case .overlap("b", "a") = found else {
            Issue.record()
            return
        }
    }
}

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
