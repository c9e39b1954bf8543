import FileFormats
import Foundation
import Testing

/// The short form of scripts/torture: faults of the disk at calls spread over whole commands, and kills, each compared with
/// the undisturbed outcome.
@Suite struct TortureTests {
    private static let script = Fixture.root + "/../../scripts/torture"
    private static let hasTools = ["bash", "cc", "awk", "diff", "realpath"].allSatisfy { tool in
        (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
            .contains { FileManager.default.isExecutableFile(atPath: "\($0)/\(tool)") }
    }

    @Test(
        .enabled(if: hasTools, "scripts/torture needs bash, cc, awk, diff and realpath"),
        .enabled(if: FileManager.default.isExecutableFile(atPath: script), "scripts/torture is not beside the tests"),
        arguments: [
            ("shim", "resize", 14), ("shim,kill,descriptors", "merge-plain", 10), ("shim,kill", "train", 6),
        ])
    func nothingIsLostOrHalfWritten(phases: String, job: String, tries: Int) throws {
        try withFolder { folder in
            let process = Process()
            process.executableURL = URL(fileURLWithPath: Self.script)
            process.arguments = [
                "--graft", Program.path, "--only", phases, "--jobs", job, "--tries", "\(tries)", "--minutes", "1",
                "--workers", "1", "--seed", "7", "--json", folder + "/counts.json",
            ]
            process.environment = ProcessInfo.processInfo.environment.merging(
                ["TMPDIR": folder, "TORTURE_SLACK": "60"]) { $1 }
            _ = FileManager.default.createFile(atPath: folder + "/table", contents: nil)
            let table = try #require(FileHandle(forWritingAtPath: folder + "/table"))
            process.standardOutput = table
            process.standardError = table
            try process.run()
            process.waitUntilExit()
            let told = try String(contentsOfFile: folder + "/table", encoding: .utf8)
            #expect(process.terminationStatus == 0, "\(told)")
            let counts = try JSONParser.parse(readFile(folder + "/counts.json", limit: 1 << 20))
            #expect(counts["tries"]?.intValue == tries && counts["failed"]?.intValue == 0, "\(told)")
        }
    }

    /// A campaign that cannot fail would show nothing: a program that writes another output each time is found out.
    @Test(
        .enabled(if: hasTools, "scripts/torture needs bash, cc, awk, diff and realpath"),
        .enabled(if: FileManager.default.isExecutableFile(atPath: script), "scripts/torture is not beside the tests"))
    func aProgramThatLeavesHalfItsOutputIsFoundOut() throws {
        try withFolder { folder in
            // Stands for graft: as it is, but that 'adapter resize' writes straight to the output's name.
            try write(
                """
                #!/bin/bash
                [ "$1 $2" = "adapter resize" ] || exec '\(Program.path)' "$@"
                mkdir new || exit 73
                for name in tuned/*; do '\(Program.path)' --version > "new/${name##*/}" || exit 74; done
                exec cp tuned/adapter_config.json new
                """, to: folder + "/graft")
            chmod(folder + "/graft", 0o755)
            let process = Process()
            process.executableURL = URL(fileURLWithPath: Self.script)
            process.arguments = [
                "--graft", folder + "/graft", "--only", "shim", "--jobs", "resize", "--tries", "8", "--minutes", "1",
                "--workers", "1", "--json", folder + "/counts.json",
            ]
            process.environment = ProcessInfo.processInfo.environment.merging(
                ["TMPDIR": folder, "TORTURE_SLACK": "60"]) { $1 }
            process.standardOutput = FileHandle.nullDevice
            process.standardError = FileHandle.nullDevice
            try process.run()
            process.waitUntilExit()
            let counts = try JSONParser.parse(readFile(folder + "/counts.json", limit: 1 << 20))
            #expect(process.terminationStatus == 1)
            #expect(try #require(counts["failed"]?.intValue) > 0)
        }
    }
}
