import FileFormats
@testable import FineTuning
import Foundation
import Testing

private func withFolder(_ body: (String) throws -> Void) throws {
    let folder = NSTemporaryDirectory() + "/graft-run-\(UInt64.random(in: 0 ... .max))"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try body(folder)
}

private func metrics(_ step: Int, loss: Double = 1.5) -> StepMetrics {
    StepMetrics(
        step: step, loss: loss, learningRate: 1e-4, gradNorm: 0.5, tokens: 20, trainedTokens: 10,
        tokensPerSecond: 1000, peakRSSBytes: 1 << 20, elapsedSeconds: 0.25)
}

private let recipe = try? Recipe(
    yaml: "model: m\noutput: o\ndata: {train: [a.jsonl]}", path: "/r/recipe.yaml")

@Suite struct RunTests {
    @Test func metricsLinesHaveTheDocumentedKeysAndDropWhatAResumeRepeats() throws {
        try withFolder { folder in
            let path = folder + "/metrics.jsonl"
            do {
                let log = try MetricsLog(path: path)
                for step in 1...4 { try log.append(metrics(step)) }
                try log.append(EvalMetrics(step: 2, loss: 1.25, rows: 3, trainedTokens: 7, elapsedSeconds: 1))
                try log.append(metrics(5, loss: .nan))
            }
            // A line that a crash tore.
            let handle = FileHandle(forWritingAtPath: path)
            handle?.seekToEndOfFile()
            handle?.write(Data("{\"step\": 6, \"lo".utf8))
            try handle?.close()
            var lines = try MetricsLog.read(path)
            #expect(lines.count == 6)
            #expect(
                lines[0].keys == [
                    "step", "loss", "learning_rate", "grad_norm", "tokens", "trained_tokens", "tokens_per_second",
                    "peak_rss_bytes", "elapsed_seconds",
                ])
            #expect(lines[5]["loss"]?.isNull == true)
            let log = try MetricsLog(path: path, keepingThrough: 2)
            try log.append(metrics(3))
            lines = try MetricsLog.read(path)
            #expect(lines.map { $0["step"]?.intValue } == [1, 2, 2, 3])
            // A run that stopped in an evaluation, and was killed once it had gone on, makes it twice.
            let again = try MetricsLog(path: path, keepingThrough: 2)
            try again.append(EvalMetrics(step: 2, loss: 1.25, rows: 3, trainedTokens: 7, elapsedSeconds: 2))
            try again.append(EvalMetrics(step: 2, loss: 1.5, rows: 8, trainedTokens: 9, elapsedSeconds: 2))
            lines = try MetricsLog.read(path)
            #expect(lines.compactMap { $0["eval_rows"]?.intValue } == [3, 8])
        }
    }

    @Test func aRunDirectoryIsLockedAndNotOverwritten() throws {
        let recipe = try #require(recipe)
        try withFolder { folder in
            let path = folder + "/a/b"
            do {
                let run = try RunDirectory(path: path, resume: false)
                try run.settle(recipe)
                #expect(!run.isResumed)
                do {
                    _ = try RunDirectory(path: path, resume: true)
                    Issue.record("two writers")
                } catch let error as FileError {
                    #expect(error.exitStatus == .outputExists && error.description.contains("\(getpid())"))
                }
            }
            do {
                _ = try RunDirectory(path: path, resume: false)
                Issue.record("overwrote a run")
            } catch let error as RunError {
                #expect(error.exitStatus == .outputExists && error.description.contains("--resume"))
            }
            let again = try RunDirectory(path: path, resume: true)
            #expect(again.isResumed)
            try again.settle(recipe)
            var other = recipe
            other.training.learningRate = 0.5
            do {
                try again.settle(other)
                Issue.record("resumed with another recipe")
            } catch let error as RunError {
                #expect(error.description.contains("was:   learning_rate: 0.0002"))
                #expect(error.description.contains("now:   learning_rate: 0.5"))
            }
            other = recipe
            other.training.logEvery = 7
            try again.settle(other)
        }
    }

    @Test func foreignFoldersAreNotResumed() throws {
        try withFolder { folder in
            try AtomicFile.write([1], to: folder + "/precious.txt")
            #expect(throws: RunError.self) { _ = try RunDirectory(path: folder, resume: true) }
            #expect(throws: RunError.self) { _ = try RunDirectory(path: folder, resume: false) }
        }
    }

    @Test func theManifestHoldsHashesAndNoTime() throws {
        let recipe = try #require(recipe)
        try withFolder { folder in
            try AtomicFile.write(Array("{}".utf8), to: folder + "/config.json")
            try AtomicFile.write(Array("{}".utf8), to: folder + "/tokenizer.json")
            try AtomicFile.write(Array("x".utf8), to: folder + "/README.md")
            let writer = try SafetensorsWriter(
                path: folder + "/model.safetensors", tensors: [.init(name: "w", type: .f32, shape: [1])])
            try [Float(1)].withUnsafeBytes { try writer.append($0, to: "w") }
            try writer.finish()
            // The weights once more in another program's format are no part of the base.
            try AtomicFile.write(Array("x".utf8), to: folder + "/consolidated.safetensors")
            var manifest = RunManifest(recipe: recipe, precision: "f32")
            try manifest.hashBase(folder: folder)
            let path = folder + "/manifest.json"
            try manifest.write(to: path)
            let first = try readFile(path, limit: 1 << 20)
            let json = try JSONParser.parse(first)
            #expect(
                json["base"]?["files"]?.arrayValue?.compactMap { $0["path"]?.stringValue }
                    == ["config.json", "model.safetensors"])
            #expect(json["tokenizer"]?[0]?["sha256"]?.stringValue == sha256(Array("{}".utf8)))
            #expect(json["recipe_sha256"]?.stringValue == sha256(Array(recipe.resolvedYAML.utf8)))
            try manifest.write(to: path)
            #expect(try readFile(path, limit: 1 << 20) == first)
        }
    }

    @Test func theReportEscapesAndIsSelfContained() throws {
        var report = RunReport(title: "runs/<x>", recipe: "model: \"a&b\"")
        report.trainLoss = (1...5000).map { ($0, 5 / Double($0)) }
        report.evalLoss = [(1000, 0.5), (5000, 0.25)]
        report.learningRate = [(1, 0), (5000, .nan)]
        report.facts = [("rows", "120")]
        report.tables = [.init(title: "Data", rows: [["file", "rows"], ["a.jsonl", "120"]])]
        report.samples = [
            .init(prompt: "<script>alert(1)</script>", expected: "नमस्ते", before: "\u{1B}[31m", after: "नमस्ते")
        ]
        let html = report.html
        #expect(!html.contains("<script"))
        #expect(html.contains("&lt;script&gt;alert(1)") && html.contains("a&amp;b") && html.contains("runs/&lt;x&gt;"))
        #expect(!html.contains("\u{1B}") && html.contains("After ✓"))
        for reference in ["http://", "https://", "src=", "href=", "url(", "@import"] {
            #expect(!html.contains(reference))
        }
        #expect(html.utf8.count < 80_000)
        #expect(!html.contains("nan"))
    }

    @Test func memoryFiguresAreSane() throws {
        #expect(ProcessMemory.peakResidentBytes > 1 << 20)
        #expect(try #require(ProcessMemory.limitBytes) > ProcessMemory.peakResidentBytes)
    }

    @Test("the limits of all control groups around the process count, of both versions and inside a container")
    func controlGroupLimits() {
        let files = [
            "/sys/fs/cgroup/user.slice/run.scope/memory.max": "max\n", "/sys/fs/cgroup/user.slice/memory.max": "4096\n",
            "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "2048\n",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        ]
        func limits(_ membership: String) -> Set<Int> {
            Set(ProcessMemory.controlGroupLimits(membership: membership) { files[$0] })
        }
        #expect(limits("0::/user.slice/run.scope\n").contains(4096))
        #expect(limits("9:name=systemd:/a/b\n4:cpu,memory:/a/b\n0::/\n").contains(2048))
        // A container that sees its group's place outside, and finds its own files at the top.
        #expect(limits("4:memory:/docker/0123\n") == [9_223_372_036_854_771_712])
        #expect(limits("").count == 1 && limits("damaged\n4:memory\n").count == 1)
    }
}
