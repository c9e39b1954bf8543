import Foundation
import Testing

@testable import FileFormats

/// Files beside a model's weights, which are handed on with them.
@Suite struct SideFileTests {
    let scratch = Scratch()

    private func text(_ name: String, in folder: String = "model") throws -> String {
        String(decoding: try readSideFile(name, in: scratch(folder)), as: UTF8.self)
    }

    private func refusal(_ name: String, in folder: String = "model") -> String? {
        do {
            _ = try readSideFile(name, in: scratch(folder))
            return nil
        } catch let error as FileError where error.exitStatus == .badInput {
            return error.description
        } catch { return "another error: \(error)" }
    }

    @Test func linksStayInTheFolder() throws {
        scratch.write("secret", "{\"password\": 1}")
        mkdir(scratch("model"), 0o777)
        scratch.write("model/own", "own")
        for (name, target) in [
            ("LICENSE", "../secret"), ("generation_config.json", scratch("secret")), ("NOTICE", "own"),
        ] {
            #expect(symlink(target, scratch("model/" + name)) == 0)
        }
        #expect(try text("NOTICE") == "own")
        for name in ["LICENSE", "generation_config.json"] {
            #expect(refusal(name)?.contains("leads out of the folder") == true)
        }
        // The folder itself may be a link, and so may what leads to it.
        #expect(symlink("model", scratch("alias")) == 0)
        #expect(try text("NOTICE", in: "alias") == "own")
    }

    @Test func snapshotsOfTheCacheAreLinksIntoItsBlobs() throws {
        let revision = "models--a--b/snapshots/0123"
        try createFolders(scratch(revision))
        try AtomicFile.write(Array("terms".utf8), to: scratch("models--a--b/blobs/aa"))
        scratch.write("models--a--b/other", "x")
        symlink("../../blobs/aa", scratch(revision + "/LICENSE"))
        symlink("../../other", scratch(revision + "/NOTICE"))
        #expect(try text("LICENSE", in: revision) == "terms")
        #expect(refusal("NOTICE", in: revision) != nil)
    }

    @Test func shortFilesAreShortAndJSONIsJSON() throws {
        mkdir(scratch("model"), 0o777)
        scratch.write("model/generation_config.json", "{\"eos_token_id\": 2}")
        #expect(refusal("generation_config.json") == nil)
        for wrong in ["root:x:0:0", "", "[1]", "12345", "{\"a\": 1"] {
            scratch.write("model/generation_config.json", wrong)
            #expect(refusal("generation_config.json")?.contains("generation_config.json") == true, "\(wrong)")
        }
        #expect(truncate(scratch("model/generation_config.json"), 17 << 20) == 0)
        #expect(refusal("generation_config.json")?.contains("more than the") == true)
        mkdir(scratch("model/LICENSE"), 0o777)
        #expect(refusal("LICENSE") != nil)
    }
}
