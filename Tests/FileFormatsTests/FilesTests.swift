import Foundation
import Testing

@testable import FileFormats

@Suite struct FilesTests {
    let scratch = Scratch()

    func status(_ body: () throws -> Void) -> FileFormats.ExitStatus? {
        do {
            try body()
            return nil
        } catch let error as any GraftError {
            return error.exitStatus
        } catch {
            return .internal
        }
    }

    @Test func atomicFile() throws {
        let file = try AtomicFile(path: scratch("a"))
        try file.write("one ")
        try file.write([UInt8](repeating: 65, count: 1 << 19))
        try file.write("two")
        #expect(file.position == (1 << 19) + 7)
        #expect(!FileManager.default.fileExists(atPath: scratch("a")))
        try file.commit()
        let bytes = try readFile(scratch("a"), limit: 1 << 20)
        #expect(
            bytes.count == (1 << 19) + 7 && bytes.starts(with: "one AAA".utf8)
                && bytes.suffix(3).elementsEqual("two".utf8))
        #expect(scratch.names == ["a"])
    }
    @Test func existingFileStays() throws {
        scratch.write("a", "old")
        #expect(status { _ = try AtomicFile(path: scratch("a")) } == .outputExists)
        try AtomicFile.write(Array("new".utf8), to: scratch("a"), replacing: true)
        #expect(try readFile(scratch("a"), limit: 9) == Array("new".utf8))
    }
    @Test func fileThatAppearsMeanwhileStays() throws {
        let file = try AtomicFile(path: scratch("a"))
        scratch.write("a", "other")
        #expect(status { try file.commit() } == .outputExists)
        #expect(try readFile(scratch("a"), limit: 9) == Array("other".utf8))
    }
    @Test func leftoversOfTheDeadAreRemovedAndThoseOfTheLivingKept() throws {
        scratch.write(".a.graft-dead.tmp", "x")
        mkdir(scratch(".a.graft-folder.tmp"), 0o777)
        scratch.write(".a.graft-folder.tmp/x", "x")
        let living = try AtomicFile(path: scratch("a"))
        let second = try AtomicFile(path: scratch("a"))
        #expect(scratch.names.count == 2)
        try living.commit()
        #expect(status { try second.commit() } == .outputExists)
    }
    @Test func missingParentsAreMade() throws {
        try AtomicFile.write([1], to: scratch("a/b/c"))
        #expect(try readFile(scratch("a/b/c"), limit: 9) == [1])
        do {
            let folder = try AtomicFolder(path: scratch("d//e/f/"))
            try AtomicFile.write([2], to: folder.path(of: "x"))
            try folder.publishContents()
        }
        #expect(try namesInFolder(scratch("d/e")) == ["x"])
        let lock = try FileLock(path: scratch("g/h"))
        withExtendedLifetime(lock) { #expect(scratch.names == ["a", "d", "g"]) }
    }
    /// Nor stay any where nothing came of the output; those that stood, or hold something else by then, do.
    @Test func parentsOfNothingAreNotLeft() throws {
        mkdir(scratch("old"), 0o777)
        do { _ = try AtomicFile(path: scratch("old/a/b")) }
        do { _ = try AtomicFolder(path: scratch("new/a/b")) }
        do { _ = try FileLock(path: scratch("new/l")) }
        #expect(try scratch.names == ["old"] && namesInFolder(scratch("old")).isEmpty)
        do {
            let file = try AtomicFile(path: scratch("new/a/b"))
            try AtomicFile.write([1], to: scratch("new/other"))
            #expect(file.position == 0)
        }
        #expect(try namesInFolder(scratch("new")) == ["other"])
        for path in ["new/other/b", "new/other/b/c"] {
            #expect(status { _ = try AtomicFile(path: scratch(path)) } == .io)
        }
        #expect(status { _ = try AtomicFile(path: scratch("n/" + String(repeating: "x", count: 300) + "/b")) } == .io)
        #expect(scratch.names == ["new", "old"])
    }
    @Test(.enabled(if: FileManager.default.fileExists(atPath: "/dev/full"))) func fullDisk() throws {
        let full = try Descriptor.opened("/dev/full", O_RDWR) { .io(operation: "open", path: "/dev/full", code: $0) }
        #expect(status { try [UInt8(1)].withUnsafeBytes { try full.write($0, at: 0) } } == .io)
    }
    /// Room set aside does not show in the size; more than any disk has is refused before a byte is written.
    @Test func reservedRoom() throws {
        let file = try AtomicFile(path: scratch("a"))
        try file.reserve(1 << 20)
        try file.write([1, 2, 3])
        try file.commit()
        #expect(try readFile(scratch("a"), limit: 10) == [1, 2, 3])
        #expect(status { try AtomicFile(path: scratch("b")).reserve(1 << 60) } == .io)
        #expect(scratch.names == ["a"])
    }
    @Test func atomicFolder() throws {
        let folder = try AtomicFolder(path: scratch("d"))
        try AtomicFile.write([1], to: folder.path(of: "x"))
        #expect(!FileManager.default.fileExists(atPath: scratch("d")))
        try folder.commit()
        #expect(try namesInFolder(scratch("d")) == ["x"])
        #expect(status { _ = try AtomicFolder(path: scratch("d")) } == .outputExists)
        let second = try AtomicFolder(path: scratch("d"), replacing: true)
        try AtomicFile.write([1], to: second.path(of: "y"))
        try second.commit()
        #expect(try namesInFolder(scratch("d")) == ["y"])
        #expect(scratch.names == ["d"])
    }
    @Test func abandonedFolderLeavesNothing() throws {
        do {
            let folder = try AtomicFolder(path: scratch("d"))
            mkdir(folder.path(of: "sub"), 0o777)
            try AtomicFile.write([1], to: folder.path(of: "sub/x"))
        }
        #expect(scratch.names == [])
    }
    @Test func lock() throws {
        do {
            let lock = try FileLock(path: scratch("l"))
            do {
                _ = try FileLock(path: scratch("l"))
                Issue.record("locked twice")
            } catch FileError.locked(_, let holder) {
                #expect(holder == getpid())
            }
            withExtendedLifetime(lock) {}
        }
        #expect(scratch.names == [])
        scratch.write("l", "99999\n")
        _ = try FileLock(path: scratch("l"))
    }
    @Test func reading() throws {
        scratch.write("a", "text")
        #expect(try readFile(scratch("a"), limit: 4) == Array("text".utf8))
        #expect(status { _ = try readFile(scratch("a"), limit: 3) } == .badInput)
        #expect(status { _ = try readFile(scratch("none"), limit: 3) } == .missingInput)
        #expect(status { _ = try readFile(scratch.path, limit: 3) } == .badInput)
        #expect(status { _ = try readFile(scratch("a/b"), limit: 3) } == .missingInput)
        #expect(status { _ = try readFile(scratch("a\0b"), limit: 3) } == .missingInput)
        #expect(try !readFile("/proc/self/status", limit: 1 << 20).isEmpty)
        mkfifo(scratch("pipe"), 0o666)
        #expect(status { _ = try readFile(scratch("pipe"), limit: 3) } == .badInput)
    }
    @Test func mapping() throws {
        scratch.write("a", "text")
        scratch.write("empty", "")
        let file = try MappedFile(path: scratch("a"))
        #expect(file.bytes.elementsEqual("text".utf8))
        #expect(try MappedFile(path: scratch("empty")).bytes.isEmpty)
        try file.checkUnchanged()
        truncate(scratch("a"), 1)
        #expect(status { try file.checkUnchanged() } == .io)
    }
    @Test func hashes() throws {
        // FIPS 180-4's example.
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        #expect(sha256(Array("abc".utf8)) == digest)
        #expect(try sha256(ofFile: scratch.write("a", "abc")) == digest)
        let large = [UInt8](repeating: 7, count: 3 << 20)
        #expect(try sha256(ofFile: scratch.write("b", large)) == sha256(large))
    }
}

@Suite struct ElementConversionTests {
    @Test func everyHalfRoundTrips() {
        for bits in UInt16.min ... .max {
            let value = ElementConversion.float(f16: bits)
            let expected = Float(Float16(bitPattern: bits))
            #expect(value.bitPattern == expected.bitPattern || value.isNaN && expected.isNaN)
            if !value.isNaN { #expect(ElementConversion.f16Bits(value) == bits) }
        }
    }
    @Test func narrowingRoundsToNearestEven() {
        var generator = SeededGenerator(1)
        for _ in 0..<100_000 {
            let value = Float(bitPattern: UInt32.random(in: 0 ... .max, using: &generator))
            if value.isNaN {
                #expect(ElementConversion.float(f16: ElementConversion.f16Bits(value)).isNaN)
                #expect(ElementConversion.float(bf16: ElementConversion.bf16Bits(value)).isNaN)
            } else {
                #expect(ElementConversion.f16Bits(value) == Float16(value).bitPattern)
            }
        }
        for exponent in -26...16 {
            for step in -3...3 {
                let value = Float(sign: .plus, exponent: exponent, significand: 1 + Float(step) * 0x1p-11)
                #expect(ElementConversion.f16Bits(value) == Float16(value).bitPattern)
            }
        }
        #expect(ElementConversion.bf16Bits(Float(bitPattern: 0x3F80_8000)) == 0x3F80)
        #expect(ElementConversion.bf16Bits(Float(bitPattern: 0x3F81_8000)) == 0x3F82)
        #expect(ElementConversion.bf16Bits(Float(bitPattern: 0x3F80_8001)) == 0x3F81)
        #expect(ElementConversion.bf16Bits(.infinity) == 0x7F80)
        #expect(ElementConversion.bf16Bits(.greatestFiniteMagnitude) == 0x7F80)
    }
    @Test func buffers() {
        let values: [Float] = [0, -1.5, 65504, 1e-7]
        for type in [ElementType.f32, .f16, .bf16, .f64] {
            var bytes = [UInt8](repeating: 0, count: 4 * type.size + 1)
            var back = [Float](repeating: 0, count: 4)
            bytes.withUnsafeMutableBytes { raw in
                let unaligned = UnsafeMutableRawBufferPointer(rebasing: raw[1...])
                values.withUnsafeBufferPointer { ElementConversion.narrow($0, to: type, into: unaligned) }
                back.withUnsafeMutableBufferPointer {
                    ElementConversion.widen(UnsafeRawBufferPointer(unaligned), as: type, into: $0)
                }
            }
            #expect(back[0] == 0 && back[1] == -1.5)
            #expect(abs(back[2] - 65504) <= 32 && abs(back[3] - 1e-7) < 3e-8)
        }
    }
}
