import FileFormats
import Foundation
import Testing

/// The built program, run as a process of its own.
enum Program {
    struct Outcome {
        var status: Int32
        var output: String
        var errors: String

        /// Standard output as the one JSON document it should be.
        func json() throws -> JSONValue { try JSONParser.parse(output) }
    }

    /// The program stands beside the test bundle.
    static let path: String = {
        let bundle = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        let beside = bundle.deletingLastPathComponent().appendingPathComponent("graft").path
        // Where the tests are started by a runner of their own, the bundle is its argument.
        let arguments = CommandLine.arguments.map { URL(fileURLWithPath: $0).deletingLastPathComponent() }
        let candidates = [beside] + arguments.map { $0.appendingPathComponent("graft").path }
        return candidates.first { FileManager.default.isExecutableFile(atPath: $0) } ?? beside
    }()

    static func run(
        _ arguments: [String], input: String? = nil, in folder: String? = nil, environment: [String: String] = [:]
    ) throws -> Outcome {
        let process = try start(arguments, input: input, in: folder, environment: environment)
        return process.wait()
    }

    static func run(_ line: String, in folder: String? = nil) throws -> Outcome {
        try run(line.split(separator: " ").map(String.init), in: folder)
    }

    /// Runs a script of the shell, to which `$graft` is the program, `$model` a model folder and `$adapter` one on it.
    static func shell(_ script: String, in folder: String) throws -> Outcome {
        try start(
            ["-c", script], in: folder,
            environment: ["graft": path, "model": Fixture.model, "adapter": Fixture.adapter], executable: "/bin/bash"
        ).wait()
    }

    /// A process under way, its output kept in files so that no pipe can fill up.
    final class Running {
        let process: Process
        private let outputPath: String
        private let errorPath: String

        init(_ process: Process, outputPath: String, errorPath: String) {
            self.process = process
            self.outputPath = outputPath
            self.errorPath = errorPath
        }

        func wait() -> Outcome {
            process.waitUntilExit()
            func text(_ path: String) -> String {
                defer { try? FileManager.default.removeItem(atPath: path) }
                return String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
            }
            let isSignal = process.terminationReason == .uncaughtSignal
            return Outcome(
                status: isSignal ? 128 + process.terminationStatus : process.terminationStatus,
                output: text(outputPath), errors: text(errorPath))
        }
    }

    static func start(
        _ arguments: [String], input: String? = nil, in folder: String? = nil, environment: [String: String] = [:],
        executable: String = path
    ) throws -> Running {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: executable)
        process.arguments = arguments
        if let folder { process.currentDirectoryURL = URL(fileURLWithPath: folder) }
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        let name = NSTemporaryDirectory() + "/graft-cli-\(UInt64.random(in: 0 ... .max))"
        func handle(_ suffix: String) throws -> FileHandle {
            _ = FileManager.default.createFile(atPath: name + suffix, contents: nil)
            return try #require(FileHandle(forWritingAtPath: name + suffix))
        }
        process.standardOutput = try handle(".out")
        process.standardError = try handle(".err")
        if let input {
            _ = FileManager.default.createFile(atPath: name + ".in", contents: Data(input.utf8))
            process.standardInput = FileHandle(forReadingAtPath: name + ".in")
        } else {
            process.standardInput = FileHandle.nullDevice
        }
        try process.run()
        if input != nil { unlink(name + ".in") }
        return Running(process, outputPath: name + ".out", errorPath: name + ".err")
    }
}

/// A folder of its own for one test, removed afterwards.
func withFolder<Result>(_ body: (String) throws -> Result) throws -> Result {
    let folder = NSTemporaryDirectory() + "/graft-cli-\(UInt64.random(in: 0 ... .max))"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    return try body(folder)
}

func write(_ text: String, to path: String) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
}

enum Fixture {
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Fixtures").path
    static let model = root + "/llama3-tied"
    static let adapter = model + "/adapter"
}
