import Foundation
import Testing

@testable import FileFormats

@Suite struct HubCacheTests {
    private let scratch = Scratch()
    private var root: String { scratch("models--acme--tiny") }

    private func revision(_ name: String) throws -> String {
        let folder = root + "/snapshots/" + name
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        return folder
    }

    private func refersTo(_ revision: String) throws {
        try FileManager.default.createDirectory(atPath: root + "/refs", withIntermediateDirectories: true)
        try Data(revision.utf8).write(to: URL(fileURLWithPath: root + "/refs/main"))
    }

    @Test func theRootStandsForTheSnapshotOfMain() throws {
        let first = try revision("aaaa")
        #expect(try HubCache.snapshot(root) == first)
        let second = try revision("bbbb")
        let error = #expect(throws: FileError.self) { try HubCache.snapshot(root) }
        #expect(error?.description.contains("\"aaaa\", \"bbbb\"") == true)
        try refersTo("bbbb\n")
        #expect(try HubCache.snapshot(root) == second)
        try refersTo("cccc")
        let missing = #expect(throws: FileError.self) { try HubCache.snapshot(root) }
        #expect(missing?.description.contains("\"cccc\"") == true)
    }

    @Test func otherPathsStayAsTheyAre() throws {
        let folder = try revision("aaaa")
        for path in [folder, scratch("nowhere"), scratch.path] { #expect(try HubCache.snapshot(path) == path) }
        // A model's own folder that happens to hold a folder of this name.
        try Data().write(to: URL(fileURLWithPath: root + "/config.json"))
        #expect(try HubCache.snapshot(root) == root)
    }

    @Test func namesAreThoseOfTheRepository() throws {
        let folder = try revision("aaaa")
        #expect(HubCache.repository(ofFolder: folder) == "acme/tiny")
        #expect(HubCache.name(ofFolder: folder) == "tiny" && HubCache.name(ofFolder: folder + "/") == "tiny")
        #expect(HubCache.repository(ofFolder: root) == nil && HubCache.name(ofFolder: root) == "models--acme--tiny")
    }
}
