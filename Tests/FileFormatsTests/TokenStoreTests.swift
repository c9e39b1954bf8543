import Foundation
import Testing

@testable import FileFormats

@Suite struct TokenStoreTests {
    let scratch = Scratch()

    func header(_ vocabularySize: Int = 300) -> TokenStoreHeader {
        TokenStoreHeader(
            vocabularySize: vocabularySize, tokenizerHash: sha256([1]), templateHash: sha256([2]),
            options: #"{"max_length": 16, "train_on": "assistant"}"#)
    }
    func rows(_ count: Int, vocabularySize: Int) -> [(ids: [Int32], isTrained: [Bool])] {
        var generator = SeededGenerator(UInt64(count))
        return (0..<count).map { _ in
            let length = Int.random(in: 0...50, using: &generator)
            return (
                (0..<length).map { _ in Int32.random(in: 0..<Int32(vocabularySize), using: &generator) },
                (0..<length).map { _ in Bool.random(using: &generator) }
            )
        }
    }
    func write(_ rows: [(ids: [Int32], isTrained: [Bool])], vocabularySize: Int) throws -> String {
        let writer = try TokenStoreWriter(path: scratch("s.h5"), header: header(vocabularySize), replacing: true)
        for row in rows { try writer.append(ids: row.ids, isTrained: row.isTrained) }
        try writer.finish()
        return scratch("s.h5")
    }

    @Test(arguments: [(0, 300), (3, 300), (5000, 65_536), (5000, 100_000)])
    func roundTrip(count: Int, vocabularySize: Int) throws {
        let rows = rows(count, vocabularySize: vocabularySize)
        let store = try TokenStore(path: write(rows, vocabularySize: vocabularySize))
        #expect(scratch.names == ["s.h5"])
        #expect(store.header == header(vocabularySize) && store.rowCount == count)
        #expect(store.tokenCount == rows.reduce(0) { $0 + $1.ids.count })
        #expect(store.trainedCount == rows.reduce(0) { $0 + $1.isTrained.count { $0 } })
        var generator = SeededGenerator(0)
        for index in rows.indices.shuffled(using: &generator).prefix(500) {
            let row = try store.row(index)
            #expect(row.ids == rows[index].ids && row.isTrained == rows[index].isTrained)
            #expect(try store.length(ofRow: index) == rows[index].ids.count)
        }
    }
    @Test func sameRowsSameBytes() throws {
        let rows = rows(100, vocabularySize: 300)
        let first = try readFile(write(rows, vocabularySize: 300), limit: 1 << 20)
        usleep(1_100_000)
        #expect(try readFile(write(rows, vocabularySize: 300), limit: 1 << 20) == first)
    }
    @Test func abandonedStoreLeavesNothing() throws {
        do {
            let writer = try TokenStoreWriter(path: scratch("s.h5"), header: header())
            try writer.append(ids: [1], isTrained: [true])
            #expect(throws: FileError.self) { try writer.append(ids: [300], isTrained: [true]) }
            #expect(throws: FileError.self) { try writer.append(ids: [-1], isTrained: [true]) }
        }
        #expect(scratch.names == [])
    }
    @Test func existingStoreStays() throws {
        scratch.write("s.h5", "old")
        #expect(throws: FileError.self) { try TokenStoreWriter(path: scratch("s.h5"), header: header()) }
        #expect(throws: FileError.self) { try TokenStore(path: scratch("s.h5")) }
        #expect(throws: FileError.self) { try TokenStore(path: scratch("none")) }
        #expect(!TokenStore.isStore(scratch("s.h5")))
    }
    @Test func everyFlippedBitInTheDataIsFound() throws {
        let rows = rows(300, vocabularySize: 300)
        let whole = try readFile(write(rows, vocabularySize: 300), limit: 1 << 22)
        var generator = SeededGenerator(9)
        for _ in 0..<60 {
            var bytes = whole
            bytes[Int.random(in: 0..<bytes.count, using: &generator)] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            let path = scratch.write("flipped.h5", bytes)
            // A flip either is found or hits a byte that means nothing.
            do {
                let store = try TokenStore(path: path)
                guard store.rowCount == rows.count else {
                    Issue.record("a wrong count was accepted")
                    continue
                }
                for (index, row) in rows.enumerated() {
                    let found = try store.row(index)
                    #expect(found.ids == row.ids && found.isTrained == row.isTrained)
                }
            } catch is FileError {}
        }
    }
    @Test func truncationsAreErrors() throws {
        let whole = try readFile(write(rows(300, vocabularySize: 300), vocabularySize: 300), limit: 1 << 22)
        for count in stride(from: 0, to: whole.count - 1, by: 397) {
            let path = scratch.write("cut.h5", Array(whole[..<count]))
            #expect(throws: FileError.self) { try TokenStore(path: path) }
        }
    }
}
