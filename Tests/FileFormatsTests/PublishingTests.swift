import Foundation
import Testing

@testable import FileFormats

/// What killed, failing and competing writers leave, and what the next one makes of it.
@Suite struct PublishingTests {
    let scratch = Scratch()

    /// The temporary folder of a dead writer with a set of three, of which the last `moved` have their names.
    private func deadStage(moved: Int, output: String = "m.gguf") throws -> [String] {
        let stage = scratch(".\(output).graft-dead.tmp"), names = ["m-1", "m-2", "m-3"]
        mkdir(stage, 0o777)
        for name in names { try AtomicFile.write(Array(name.utf8), to: stage + "/" + name) }
        try FileSet(names, stage: stage, folder: scratch.path).writeJournal()
        for name in names.reversed().prefix(moved) {
            #expect(rename(stage + "/" + name, scratch(name)) == 0)
        }
        return names
    }

    @Test(arguments: 0...3) func aSetAppearsWholeOrNotAtAll(moved: Int) throws {
        let names = try deadStage(moved: moved)
        try AtomicFile.write([1], to: scratch("m.gguf"))
        #expect(scratch.names == (moved == 3 ? names : []) + ["m.gguf"])
    }

    @Test func filesOfOthersAreNotTakenBack() throws {
        _ = try deadStage(moved: 2)
        #expect(unlink(scratch("m-3")) == 0)
        scratch.write("m-3", "somebody else's")
        try removeLeftovers(in: scratch.path, before: "m.gguf")
        #expect(scratch.names == ["m-3"])
    }

    @Test func aSetThatMeetsAnotherFileLeavesNothingOfItself() throws {
        scratch.write("b", "old")
        do {
            let folder = try AtomicFolder(path: scratch("out"))
            for name in ["a", "b", "c"] { try AtomicFile.write([1], to: folder.path(of: name)) }
            #expect(throws: FileError.self) { try folder.publishContents() }
        }
        #expect(scratch.names == ["b"])
        let folder = try AtomicFolder(path: scratch("out"))
        for name in ["a", "c"] { try AtomicFile.write([1], to: folder.path(of: name)) }
        try folder.publishContents()
        #expect(scratch.names == ["a", "b", "c"])
    }

    @Test func partsOfAGGUFFollowTheFirst() throws {
        func write() throws {
            let writer = try GGUFSplitWriter(
                path: scratch("m.gguf"), metadata: [],
                tensors: ["a", "b", "c"].map { .init(name: $0, type: .f32, shape: [8]) },
                maximumSize: 32)
            for name in ["a", "b", "c"] { try writer.append([Float](repeating: 1, count: 8), to: name) }
            try writer.finish()
        }
        try write()
        let names = (1...3).map { "m-0000\($0)-of-00003.gguf" }
        #expect(scratch.names == names)
        #expect(throws: FileError.self) { try write() }
        unlink(scratch(names[0]))
        #expect(throws: FileError.self) { try write() }
        #expect(scratch.names == Array(names.dropFirst()))
    }

    @Test func leftoversOfOtherOutputsGoWhereTheirWriterIsDead() throws {
        scratch.write(TemporaryName(of: "killed").text, "x")
        let elsewhere = ".other.graft-0000aaaa-7-x.tmp", old = ".older.graft-0000aaaa-7-x.tmp"
        for name in [elsewhere, old, ".config.tmp", ".x.graft-notes.txt", ".graft-.tmp"] { scratch.write(name, "x") }
        var times = [timeval(tv_sec: 1_000_000, tv_usec: 0), timeval(tv_sec: 1_000_000, tv_usec: 0)]
        utimes(scratch(old), &times)
        let living = try AtomicFile(path: scratch("living"))
        try AtomicFile.write([1], to: scratch("a"))
        try living.commit()
        #expect(scratch.names == [".config.tmp", ".graft-.tmp", elsewhere, ".x.graft-notes.txt", "a", "living"])
    }

    /// They are there to go on from, for a week.
    @Test func partsOfAStoppedCommandGoOnceTheyAreForgotten() throws {
        for name in ["new", "old"] {
            mkdir(ResumableParts.folder(of: scratch(name)), 0o777)
            scratch.write(".\(name).graft-parts/part-000000", "x")
        }
        var times = [timeval(tv_sec: 1_000_000, tv_usec: 0), timeval(tv_sec: 1_000_000, tv_usec: 0)]
        for path in [".old.graft-parts/part-000000", ".old.graft-parts"] { utimes(scratch(path), &times) }
        do {
            let lock = try ResumableParts.lock(scratch("old"))
            try withExtendedLifetime(lock) { try removeLeftovers(in: scratch.path) }
        }
        #expect(scratch.names == [".new.graft-parts", ".old.graft-parts"])
        try removeLeftovers(in: scratch.path)
        #expect(scratch.names == [".new.graft-parts"])
    }

    @Test func theSecondOfTwoWritersIsToldWhoTheFirstIs() throws {
        let name = ".a.graft-\(TemporaryName.thisMachine)-\(getpid() + 1)-x.tmp"
        let first = try Descriptor.creating(scratch(name))
        #expect(try first.tryLock() == .taken)
        do {
            _ = try AtomicFile(path: scratch("a"))
            Issue.record("two writers of one output")
        } catch FileError.locked(_, let holder) {
            #expect(holder == getpid() + 1)
        }
        try AtomicFile.write([1], to: scratch("b"))
        #expect(scratch.names == [name, "b"])
    }

    /// Where two folders cannot change places in one step, a kill may leave none under the name.
    @Test func aFolderThatWasPutAsideComesBack() throws {
        let temporary = TemporaryName(of: "d").text
        mkdir(scratch(temporary), 0o777)
        mkdir(scratch(temporary + ".old"), 0o777)
        scratch.write(temporary + ".old/x", "old")
        try removeLeftovers(in: scratch.path)
        #expect(try scratch.names == ["d"] && namesInFolder(scratch("d")) == ["x"])
        mkdir(scratch(temporary + ".old"), 0o777)
        try removeLeftovers(in: scratch.path)
        #expect(scratch.names == ["d"])
    }
}
