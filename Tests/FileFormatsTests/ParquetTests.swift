import Foundation
import Testing

@testable import FileFormats

/// Files written by pyarrow from one table, and that table as JSON with what is null left out.
struct ParquetTests {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Fixtures/parquet")
    static let names = [
        "plain-none", "dict-snappy", "dict-gzip", "dict-zstd-v2", "delta", "groups", "plain-v1-stats",
    ]
    static func path(_ name: String) -> String { folder.appendingPathComponent(name + ".parquet").path }

    private func rows(_ file: ParquetFile) throws -> [ParquetRow] {
        var rows: [ParquetRow] = []
        while let row = try file.next() { rows.append(row) }
        return rows
    }

    @Test(arguments: names)
    func readsWhatWasWritten(_ name: String) throws {
        let file = try ParquetFile(path: Self.path(name))
        let found = try rows(file)
        let expected =
            try JSONParser.parse(
                Array(try Data(contentsOf: Self.folder.appendingPathComponent("expected.json")))
            ).arrayValue ?? []
        #expect(found.count == expected.count && file.rowCount == expected.count)
        for (row, wanted) in zip(found, expected) {
            #expect(row.problem == nil)
            // Members that are null are left out, in maps and lists of structures too.
            #expect(JSONWriter.text(row.value).hasSameBytes(as: JSONWriter.text(wanted)))
        }
    }

    /// GRAFT_PARQUET_FILES names a folder of pairs `x.parquet` and `x.jsonl`, for comparisons on generated files.
    @Test func readsGeneratedFiles() throws {
        guard let folder = ProcessInfo.processInfo.environment["GRAFT_PARQUET_FILES"] else { return }
        for name in try namesInFolder(folder) where name.hasSuffix(".parquet") {
            let found = try rows(try ParquetFile(path: folder + "/" + name))
            let path = folder + "/" + name.dropLast(8) + ".jsonl"
            let lines = try readFile(path, limit: 1 << 30).split(separator: 0x0A).map {
                try JSONParser.parse(Array($0))
            }
            #expect(found.count == lines.count)
            for (i, (row, wanted)) in zip(found, lines).enumerated() {
                guard JSONWriter.text(row.value).hasSameBytes(as: JSONWriter.text(wanted)) else {
                    Issue.record("\(name), row \(i): \(JSONWriter.text(row.value))")
                    break
                }
            }
        }
    }

    @Test func readsOnlyTheColumnsThatAreWanted() throws {
        let file = try ParquetFile(path: Self.path("groups")) { $0 == "system" }
        #expect(try rows(file).allSatisfy { $0.value.objectValue?.keys == ["system"] })
    }

    @Test func readsAStream() throws {
        var bytes: [UInt8]? = Array(try Data(contentsOf: URL(fileURLWithPath: Self.path("dict-snappy"))))
        let file = try ParquetFile(
            name: "standard input",
            stream: {
                defer { bytes = nil }
                return bytes
            })
        #expect(try rows(file).count == 5)
    }

    private func open(_ bytes: [UInt8]) throws -> ParquetFile {
        var bytes: [UInt8]? = bytes
        return try ParquetFile(
            name: "x",
            stream: {
                defer { bytes = nil }
                return bytes
            })
    }

    @Test(arguments: [([], 0), ([0], 0), ([0, 0], 0), ([0, 2, 0, 0, 3, 0], 5)])
    func groupsWithoutRowsArePassedOver(_ groups: [Int], _ count: Int) throws {
        let file = try open(ParquetBytes.equalRows("hello", groups: groups))
        let found = try rows(file)
        #expect(file.rowCount == count && found.count == count)
        #expect(found.allSatisfy { $0.value["text"]?.stringValue == "hello" })
    }

    /// Equal rows take next to no space, however many they are.
    @Test func millionsOfEqualRowsAreRead() throws {
        let bytes = ParquetBytes.equalRows("hello", groups: [20_000_000])
        #expect(bytes.count < 300)
        let file = try open(bytes)
        #expect(file.rowCount == 20_000_000)
        for _ in 0..<10_000 { #expect(try file.next()?.value["text"]?.stringValue == "hello") }
        #expect(throws: FileError.self) { try open(ParquetBytes.equalRows("hello", groups: [1 << 40])) }
    }

    /// Files that are cut, or have a byte changed, end in an error or in rows, and never in a trap.
    @Test(arguments: names)
    func damagedFilesDoNotTrap(_ name: String) throws {
        let whole = Array(try Data(contentsOf: URL(fileURLWithPath: Self.path(name))))
        func read(_ bytes: [UInt8]) {
            var bytes: [UInt8]? = bytes
            do {
                _ = try rows(
                    try ParquetFile(
                        name: "x",
                        stream: {
                            defer { bytes = nil }
                            return bytes
                        }))
            } catch {
                #expect(error is FileError, "\(error)")
            }
        }
        for count in stride(from: 0, to: whole.count, by: 97) { read(Array(whole[..<count])) }
        for i in stride(from: 4, to: whole.count, by: 11) {
            var bytes = whole
            bytes[i] = bytes[i] &+ UInt8(truncatingIfNeeded: i * 31 + 1)
            read(bytes)
        }
    }
}

struct DecompressorTests {
    private func unpack(_ bytes: [UInt8], piece: Int) throws -> [UInt8] {
        let stream = try Decompressor(try #require(Decompressor.Kind(prefix: bytes)))
        var result: [UInt8] = []
        for start in stride(from: 0, to: bytes.count, by: piece) {
            stream.feed(Array(bytes[start..<min(start + piece, bytes.count)]))
            while true {
                let next = try stream.next(limit: 100)
                if next.isEmpty { break }
                result += next
            }
            #expect(stream.needsInput)
        }
        try stream.finish()
        return result
    }

    /// Two members, one after the other.
    static let gzip = Array(
        Data(
            base64Encoded: """
                H4sIAAAAAAACA6tWyswrKC2Jz0wpVrJSiDbUUTCKreUCADfndX8WAAAAH4sIAAAAAAACA6tWyswrKC2Jz0wpVrJSiDbWUTCJreUCAMKpgc0WAAAA
                """) ?? Data())

    @Test(arguments: [1, 7, 1000])
    func membersAndFramesInPieces(_ piece: Int) throws {
        let text = "{\"input_ids\": [1, 2]}\n{\"input_ids\": [3, 4]}\n"
        #expect(try unpack(Self.gzip, piece: piece) == Array(text.utf8))
        #expect(try unpack(Self.gzip + [0, 0, 0], piece: piece) == Array(text.utf8))
        let long = Array(String(repeating: "abc ", count: 5000).utf8)
        let frames = try Zstd.compress(long) + Zstd.compress([1]) + Zstd.compress(long)
        #expect(try unpack(frames, piece: piece) == long + [1] + long)
    }

    @Test func cutAndDamagedStreamsAreErrors() throws {
        let frame = try Zstd.compress(Array(String(repeating: "abc ", count: 500).utf8))
        for bytes in [Self.gzip, frame] {
            for count in 4..<bytes.count {
                do {
                    let found = try unpack(Array(bytes[..<count]), piece: 1000)
                    // Whole members may be all there is.
                    #expect(found.count == 22)
                } catch { #expect(error is FileError) }
            }
            var changed = bytes
            changed[bytes.count - 3] ^= 1
            #expect(throws: FileError.self) { try unpack(changed, piece: 1000) }
        }
    }

    @Test func snappyRefusesWhatDoesNotFit() throws {
        #expect(try Snappy.unpack([5, 16] + Array("hello".utf8), size: 5) == Array("hello".utf8))
        #expect(try Snappy.unpack([8, 4] + Array("ab".utf8) + [0x09, 2], size: 8) == Array("abababab".utf8))
        for bytes: [UInt8] in [
            [], [5], [5, 16, 1], [2, 0x09, 1], [8, 4, 1, 2, 0x09, 3], [255, 255, 255, 255, 255, 1],
        ] {
            #expect(throws: Snappy.Fault.self) { try Snappy.unpack(bytes, size: 8) }
        }
    }
}
