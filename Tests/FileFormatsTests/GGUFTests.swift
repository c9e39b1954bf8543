import Testing

@testable import FileFormats

@Suite struct GGUFTests {
    let scratch = Scratch()

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
            try scratch.fault(version: 2, tensors: 1, keys: 1) {
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
        for count in 0..<whole.count { #expect(try scratch.fault(Array(whole[..<count])) != nil, "\(count)") }
        #expect(try scratch.fault(whole) == nil)
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
            _ = try scratch.fault(bytes)
        }
    }
}
