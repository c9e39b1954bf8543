import Foundation
import Testing

@testable import FileFormats

/// A safetensors file with this header and so many bytes of data.
func safetensorsBytes(_ header: String, data: [UInt8] = [], headerSize: UInt64? = nil) -> [UInt8] {
    let header = Array(header.utf8)
    return withUnsafeBytes(of: (headerSize ?? UInt64(header.count)).littleEndian) { Array($0) } + header + data
}

@Suite struct SafetensorsTests {
    let scratch = Scratch()

    func fault(of bytes: [UInt8]) throws -> SafetensorsFault? {
        let path = scratch.write("x.safetensors", bytes)
        do {
            _ = try SafetensorsFile(path: path)
            return nil
        } catch FileError.safetensors(_, let fault) {
            return fault
        }
    }

    @Test func roundTrip() throws {
        let path = scratch("x.safetensors")
        let writer = try SafetensorsWriter(
            path: path,
            tensors: [
                .init(name: "b", type: .f32, shape: [2, 2]), .init(name: "empty", type: .f32, shape: [0, 7]),
                .init(name: "a", type: .bf16, shape: [3]), .init(name: "scalar", type: .i64, shape: []),
            ])
        try writer.append([1, 2] as [Float], to: "b")
        try writer.append([3, 4] as [Float], to: "b")
        try writer.append([] as [Float], to: "empty")
        try writer.append([0x3F80, 0x4000, 0xC000] as [UInt16], to: "a")
        try writer.append([-5] as [Int64], to: "scalar")
        try writer.finish()
        let file = try SafetensorsFile(path: path)
        #expect(file.entries.map(\.name) == ["b", "empty", "a", "scalar"])
        #expect(file.metadata.map(\.0) == ["format"] && file.metadata.map(\.1) == ["pt"])
        #expect(file.floats(of: try #require(file.entry(named: "b"))) == [1, 2, 3, 4])
        #expect(file.floats(of: try #require(file.entry(named: "a"))) == [1, 2, -2])
        #expect(file.entry(named: "empty")?.shape == [0, 7])
        #expect(file.withBytes(of: try #require(file.entry(named: "scalar"))).loadUnaligned(as: Int64.self) == -5)
        #expect(file.entry(named: "c") == nil)
        let bytes = try readFile(path, limit: 1000)
        #expect(bytes[0] % 8 == 0)
        #expect(scratch.names == ["x.safetensors"])
    }

    @Test func unpublishedFileLeavesNothing() throws {
        do {
            let writer = try SafetensorsWriter(
                path: scratch("x"), tensors: [.init(name: "b", type: .f32, shape: [2])])
            try writer.append([1] as [Float], to: "b")
            #expect(scratch.names.count == 1)
        }
        #expect(scratch.names == [])
    }

    @Test func namesAreBytes() throws {
        // "é" precomposed and decomposed are equal as Swift strings, and two names in a file.
        let header =
            #"{"\#u{E9}":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"e\#u{301}":"#
            + #"{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#
        let file = try SafetensorsFile(path: scratch.write("x", safetensorsBytes(header, data: [1, 2])))
        #expect(file.withBytes(of: try #require(file.entry(named: "e\u{301}"))).elementsEqual([2]))
        #expect(file.withBytes(of: try #require(file.entry(named: "\u{E9}"))).elementsEqual([1]))
    }

    @Test func headerOutOfOrderIsSortedByData() throws {
        let header =
            #"{"z":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"# + "\n"
            + #" "y" : {"data_offsets":[0,1],"shape":[1],"dtype":"U8"}}   "#
        let file = try SafetensorsFile(path: scratch.write("x", safetensorsBytes(header, data: [1, 2])))
        #expect(file.entries.map(\.name) == ["y", "z"])
    }

    // MARK: Each way to be wrong

    func entry(_ fields: String, data: [UInt8] = []) throws -> SafetensorsFault? {
        try fault(of: safetensorsBytes(#"{"t":{\#(fields)}}"#, data: data))
    }

    @Test func tooShort() throws {
        guard case .noHeader(7) = try fault(of: [1, 2, 3, 4, 5, 6, 7]) else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [100_000_001, UInt64(1) << 63, .max])
    func headerTooLarge(size: UInt64) throws {
        let found = try fault(of: safetensorsBytes("{}", headerSize: size))
        guard case .headerTooLarge(size, 100_000_000) = found else {
            Issue.record()
            return
        }
    }
    @Test func headerCutShort() throws {
        guard case .headerCutShort(3, 10) = try fault(of: safetensorsBytes("{}", headerSize: 3)) else {
            Issue.record()
            return
        }
    }
    @Test(arguments: ["[]", " {}", "", "\u{FEFF}{}"])
    func headerStart(header: String) throws {
        guard case .headerStart = try fault(of: safetensorsBytes(header)) else {
            Issue.record()
            return
        }
    }
    @Test func headerNotUTF8() throws {
        let header: [UInt8] = Array(#"{""#.utf8) + [0xFF] + Array(#"":1}"#.utf8)
        let bytes = [UInt8(header.count)] + [UInt8](repeating: 0, count: 7) + header
        guard case .headerNotUTF8 = try fault(of: bytes) else {
            Issue.record()
            return
        }
    }
    @Test(arguments: ["{", "{}x", #"{"a"}"#, #"{"a":{},}"#, #"{"a" 1}"#])
    func headerNotJSON(header: String) throws {
        switch try fault(of: safetensorsBytes(header)) {
        case .headerNotJSON, .malformedEntry: break
        default: Issue.record()
        }
    }
    @Test func duplicateName() throws {
        let one = #"{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#
        guard case .duplicateName("a") = try fault(of: safetensorsBytes(#"{"a":\#(one),"a":\#(one)}"#)) else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [#"{"__metadata__":[]}"#, #"{"__metadata__":{"a":1}}"#, #"{"__metadata__":null}"#])
    func metadataNotText(header: String) throws {
        guard case .metadataNotText = try fault(of: safetensorsBytes(header)) else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [
        #""shape":[1],"data_offsets":[0,1]"#, #""dtype":"U8","data_offsets":[0,1]"#, #""dtype":"U8","shape":[1]"#,
        #""dtype":"U8","shape":[-1],"data_offsets":[0,1]"#, #""dtype":"U8","shape":[1.5],"data_offsets":[0,1]"#,
        #""dtype":"U8","shape":["1"],"data_offsets":[0,1]"#, #""dtype":"U8","shape":[1],"data_offsets":[0]"#,
        #""dtype":"U8","shape":[1],"data_offsets":[0,1,2]"#, #""dtype":1,"shape":[1],"data_offsets":[0,1]"#,
        #""dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]"#,
        #""dtype":"U8","shape":[1],"data_offsets":[0,1],"more":{}"#,
        #""dtype":"U8","shape":[99999999999999999999],"data_offsets":[0,1]"#,
        #""dtype":"U8","shape":7,"data_offsets":[0,1]"#,
    ])
    func malformedEntry(fields: String) throws {
        guard case .malformedEntry("t", _) = try entry(fields, data: [0]) else {
            Issue.record()
            return
        }
    }
    @Test func entryNoObject() throws {
        guard case .malformedEntry("t", _) = try fault(of: safetensorsBytes(#"{"t":[]}"#)) else {
            Issue.record()
            return
        }
    }
    @Test(arguments: ["F8_E4M4", "f32", "", "Q8"])
    func unknownType(name: String) throws {
        let found = try entry(#""dtype":"\#(name)","shape":[1],"data_offsets":[0,1]"#, data: [0])
        guard case .unknownType("t", name) = found else {
            Issue.record()
            return
        }
    }
    @Test(arguments: ["4294967296,4294967296,4294967296", "9223372036854775807,2", "9223372036854775807,2,0"])
    func shapeOverflow(shape: String) throws {
        guard case .shapeOverflow = try entry(#""dtype":"F32","shape":[\#(shape)],"data_offsets":[0,0]"#) else {
            Issue.record()
            return
        }
    }
    @Test func sizeMismatch() throws {
        let found = try entry(#""dtype":"F32","shape":[2],"data_offsets":[0,4]"#, data: [0, 0, 0, 0])
        guard case .sizeMismatch("t", .f32, [2], 8, 4) = found else {
            Issue.record()
            return
        }
    }
    @Test func offsetsReversed() throws {
        guard case .offsetsReversed("t", 2, 1) = try entry(#""dtype":"U8","shape":[1],"data_offsets":[2,1]"#) else {
            Issue.record()
            return
        }
    }
    @Test func offsetsPastEnd() throws {
        let found = try entry(#""dtype":"U8","shape":[4],"data_offsets":[0,4]"#, data: [0, 0, 0])
        guard case .offsetsPastEnd("t", 4, 3) = found else {
            Issue.record()
            return
        }
    }
    @Test func hole() throws {
        let found = try entry(#""dtype":"U8","shape":[1],"data_offsets":[2,3]"#, data: [0, 0, 0])
        guard case .hole("t", 0, 2) = found else {
            Issue.record()
            return
        }
    }
    @Test func overlap() throws {
        let header =
            #"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"#
            + #""data_offsets":[1,3]}}"#
        guard case .overlap("b", "a", 1) = try fault(of: safetensorsBytes(header, data: [0, 0, 0])) else {
            Issue.record()
            return
        }
    }
    @Test func bytesAfterLastTensor() throws {
        guard case .bytesAfterLastTensor(1) = try fault(of: safetensorsBytes("{}", data: [0])) else {
            Issue.record()
            return
        }
    }
    @Test func everyTruncationIsAnError() throws {
        let header = #"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#
        let whole = safetensorsBytes(header, data: [0, 0])
        #expect(try fault(of: whole) == nil)
        for count in 0..<whole.count { #expect(try fault(of: Array(whole[..<count])) != nil) }
    }
    @Test func everyFlippedByteIsAnErrorOrAFile() throws {
        let header = #"{"__metadata__":{"k":"v"},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#
        let whole = safetensorsBytes(header, data: [0, 0])
        var generator = SeededGenerator(7)
        for _ in 0..<2000 {
            var bytes = whole
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            }
            _ = try fault(of: bytes)
        }
    }
    @Test func missingAndOdd() throws {
        #expect(throws: FileError.self) { try SafetensorsFile(path: scratch("none")) }
        #expect(throws: FileError.self) { try SafetensorsFile(path: scratch.path) }
        do { _ = try SafetensorsFile(path: scratch("none")) } catch let error as FileError {
            #expect(error.exitStatus == .missingInput)
        }
    }
}

@Suite struct SafetensorsFolderTests {
    let scratch = Scratch()

    func shard(_ name: String, in folder: String = "m") -> [UInt8] {
        safetensorsBytes(
            #"{"\#(name)":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, data: [UInt8(name.utf8.first!)])
    }
    func index(_ map: String) { scratch.write("m/model.safetensors.index.json", #"{"weight_map":{\#(map)}}"#) }
    func faults() throws -> [ModelFolderFault] {
        do {
            _ = try SafetensorsFolder(path: scratch("m"))
            return []
        } catch FileError.modelFolder(_, let faults) {
            return faults
        }
    }
    init() { mkdir(scratch("m"), 0o777) }

    @Test func single() throws {
        scratch.write("m/model.safetensors", shard("a"))
        let folder = try SafetensorsFolder(path: scratch("m"))
        #expect(folder.withBytes(of: try #require(folder.entry(named: "a"))).elementsEqual([97]))
    }
    @Test func shards() throws {
        scratch.write("m/1.safetensors", shard("a"))
        scratch.write("m/2.safetensors", shard("b"))
        index(#""b":"2.safetensors","a":"1.safetensors""#)
        let folder = try SafetensorsFolder(path: scratch("m"))
        #expect(folder.entries.map(\.name) == ["a", "b"])
        #expect(folder.withBytes(of: try #require(folder.entry(named: "b"))).elementsEqual([98]))
    }
    @Test func allMissingShards() throws {
        index(#""b":"2.safetensors","a":"1.safetensors""#)
        #expect(try faults().count == 2)
        do { _ = try SafetensorsFolder(path: scratch("m")) } catch let error as FileError {
            #expect(error.exitStatus == .missingInput)
        }
    }
    @Test func tensorNotInItsShard() throws {
        scratch.write("m/1.safetensors", shard("a"))
        index(#""a":"1.safetensors","b":"1.safetensors""#)
        guard case .missingTensor("b", "1.safetensors")? = try faults().first else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [
        "../1.safetensors", "/etc/1.safetensors", "x/../1.safetensors", #"1\u0000.safetensors"#, "", "1.bin",
    ])
    func unsafeNames(name: String) throws {
        scratch.write("1.safetensors", shard("a"))
        scratch.write("m/1.bin", shard("a"))
        index(#""a":"\#(name)""#)
        guard case .unsafeShard? = try faults().first else {
            Issue.record()
            return
        }
    }
    @Test func linkThatLeaves() throws {
        scratch.write("1.safetensors", shard("a"))
        symlink(scratch("1.safetensors"), scratch("m/1.safetensors"))
        index(#""a":"1.safetensors""#)
        guard case .unsafeShard? = try faults().first else {
            Issue.record()
            return
        }
    }
    @Test func cacheLayout() throws {
        for folder in ["blobs", "snapshots", "snapshots/X"] { mkdir(scratch("m/" + folder), 0o777) }
        scratch.write("m/blobs/0a", shard("a"))
        symlink("../../blobs/0a", scratch("m/snapshots/X/1.safetensors"))
        scratch.write("m/snapshots/X/model.safetensors.index.json", #"{"weight_map":{"a":"1.safetensors"}}"#)
        #expect(try SafetensorsFolder(path: scratch("m/snapshots/X")).entries.count == 1)
        symlink("../../blobs/0a", scratch("m/snapshots/X/model.safetensors"))
        #expect(try SafetensorsFolder(path: scratch("m/snapshots/X")).entries.count == 1)
    }
    @Test func pickles() throws {
        scratch.write("m/pytorch_model.bin", [0x80])
        guard case .onlyPickles(["pytorch_model.bin"])? = try faults().first else {
            Issue.record()
            return
        }
        removeTree(scratch("m/pytorch_model.bin"))
        guard case .noWeights? = try faults().first else {
            Issue.record()
            return
        }
    }
    @Test(arguments: ["{}", #"{"weight_map":[]}"#, #"{"weight_map":{}}"#, #"{"weight_map":{"a":1}}"#])
    func malformedIndex(text: String) throws {
        scratch.write("m/model.safetensors.index.json", text)
        guard case .malformedIndex? = try faults().first else {
            Issue.record()
            return
        }
    }
}
