import FileFormats
import Foundation
import TensorCore
import Testing
import TextData

@testable import FineTuning

private func fixture(_ name: String) -> String {
    URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path + "/Fixtures/" + name
}

private func withFolder<Result>(_ body: (String) throws -> Result) throws -> Result {
    let folder =
        "/" + NSTemporaryDirectory().split(separator: "/").joined(separator: "/")
        + "/graft-resume-\(UInt64.random(in: 0 ... .max))"
    try createFolders(folder)
    defer { removeTree(folder) }
    return try body(folder)
}

/// What a run may find changed, moved or damaged when it is gone on with.
@Suite struct ResumeTests {
    private static let steps = 6
    private let pool = WorkerPool(threads: 1)

    /// A folder with a base, rows and a recipe that saves every second step.
    private func withRecipe<Result>(_ body: (String) throws -> Result) throws -> Result {
        try withFolder { folder in
            mkdir(folder + "/base", 0o777)
            for name in ["config.json", "model.safetensors"] {
                try AtomicFile.write(
                    try readFile(fixture("llama3-tied") + "/" + name, limit: 1 << 24), to: folder + "/base/" + name)
            }
            let rows = (0..<6).map { row in
                let ids = (0..<12).map { String((row * 31 + $0 * 7) % 160) }.joined(separator: ", ")
                return "{\"input_ids\": [\(ids)], \"labels\": [\(ids)]}\n"
            }
            try AtomicFile.write(Array(rows.joined().utf8), to: folder + "/rows.jsonl")
            let recipe = """
                model: base
                output: run
                data: {train: [rows.jsonl]}
                adapter: {rank: 2}
                training: {steps: \(Self.steps), batch_size: 2, save_every: 2, precision: f32}
                """
            try AtomicFile.write(Array(recipe.utf8), to: folder + "/r.yaml")
            return try body(folder)
        }
    }

    /// Runs the recipe of a folder, stopped after so many steps.
    @discardableResult
    private func run(_ folder: String, resume: Bool = false, stoppedAfter limit: Int? = nil) throws -> [TrainerEvent] {
        var events: [TrainerEvent] = [], steps = 0
        do {
            try TrainingRun(recipe: try Recipe(path: folder + "/r.yaml"), pool: pool).execute(
                resume: resume, shouldStop: { steps == limit },
                report: { event in
                    guard case .trainer(let event) = event else { return }
                    events.append(event)
                    if case .step = event { steps += 1 }
                })
        } catch FineTuningError.stopped where limit != nil {}
        return events
    }

    private func adapter(_ folder: String) throws -> [UInt8] {
        try readFile(folder + "/run/adapter/adapter_model.safetensors", limit: 1 << 24)
    }

    private func flip(_ path: String, byte index: Int) throws {
        var bytes = try readFile(path, limit: 1 << 24)
        bytes[index < 0 ? bytes.count + index : index] ^= 1
        try AtomicFile.write(bytes, to: path, replacing: true)
    }

    private func copy(_ source: String, to target: String) throws {
        try FileManager.default.copyItem(atPath: source, toPath: target)
    }

    @Test func changedFilesAreNamed() throws {
        try withRecipe { folder in
            try run(folder, stoppedAfter: 3)
            for (name, status) in [("rows.jsonl", ExitStatus.badInput), ("base/model.safetensors", .badInput)] {
                let path = folder + "/" + name, old = try readFile(path, limit: 1 << 24)
                try flip(path, byte: -2)
                do {
                    try run(folder, resume: true)
                    Issue.record("resumed with another \(name)")
                } catch let error as RunError {
                    #expect(error.exitStatus == status && error.problems.count == 1)
                    #expect(error.description.contains(path) && error.description.contains("SHA-256"))
                }
                try AtomicFile.write(old, to: path, replacing: true)
            }
            try run(folder, resume: true)
        }
    }

    /// Without the record of what the run began with, the checkpoint still knows its base.
    @Test func aCheckpointBelongsToItsBase() throws {
        try withRecipe { folder in
            try run(folder, stoppedAfter: 3)
            unlink(folder + "/run/checkpoints/inputs.json")
            try flip(folder + "/base/model.safetensors", byte: -2)
            #expect(throws: FineTuningError.self) { try run(folder, resume: true) }
        }
    }

    @Test func aMovedRunGoesOn() throws {
        try withRecipe { folder in
            try run(folder)
            let whole = try adapter(folder)
            removeTree(folder + "/run")
            try run(folder, stoppedAfter: 3)
            let other = folder + "/elsewhere/deeper"
            try createFolders(other)
            for name in ["run", "base", "rows.jsonl", "r.yaml"] {
                try copy(folder + "/" + name, to: other + "/" + name)
                removeTree(folder + "/" + name)
            }
            let events = try run(other, resume: true)
            guard case .resumed(3, _)? = events.first else { return #expect(Bool(false), "\(events)") }
            #expect(try adapter(other) == whole)
            let resolved = String(
                decoding: try readFile(other + "/run/recipe.resolved.yaml", limit: 1 << 20), as: UTF8.self)
            #expect(resolved.contains(other + "/base"))
        }
    }

    @Test func otherSettingsAreStillRefusedElsewhere() throws {
        try withRecipe { folder in
            try run(folder, stoppedAfter: 3)
            let other = folder + "/elsewhere"
            mkdir(other, 0o777)
            for name in ["run", "base", "rows.jsonl"] { try copy(folder + "/" + name, to: other + "/" + name) }
            let text = String(decoding: try readFile(folder + "/r.yaml", limit: 1 << 20), as: UTF8.self)
            try AtomicFile.write(
                Array(text.replacingOccurrences(of: "rank: 2", with: "rank: 3").utf8), to: other + "/r.yaml")
            do {
                try run(other, resume: true)
                Issue.record("resumed with another rank")
            } catch RunError.recipeChanged(_, let differences) {
                #expect(differences == ["was:   rank: 2", "now:   rank: 3"])
            }
        }
    }

    /// Fields that no run of six steps can come to, each with a manifest that matches.
    @Test(arguments: [
        ("step", "7"), ("step", "0"), ("step", "-1"), ("step", "9223372036854775807"), ("step", "1e300"),
        ("step", "null"), ("step", "\"4\""), ("optimizer_step", "5"), ("optimizer_step", "-4"), ("tokens", "-1"),
        ("tokens", "9223372036854775807"), ("tokens", "0"), ("trained_tokens", "1000000"), ("microbatch_tokens", "0"),
        ("microbatch_tokens", "-9223372036854775808"), ("elapsed_seconds", "-1"), ("elapsed_seconds", "1e308"),
        ("best_eval_loss", "1e999"), ("best_eval_step", "3"), ("version", "2"), ("fingerprint", "7"),
    ])
    func aStateOutOfRangeCountsAsDamaged(key: String, value: String) throws {
        try withRecipe { folder in
            try run(folder, stoppedAfter: 4)
            let checkpoint = folder + "/run/checkpoints/step-000004"
            let lines = String(decoding: try readFile(checkpoint + "/state.json", limit: 1 << 20), as: UTF8.self)
                .split(separator: "\n").map { line -> String in
                    guard line.contains("\"\(key)\":") else { return String(line) }
                    return "  \"\(key)\": \(value)" + (line.hasSuffix(",") ? "," : "")
                }
            let state = lines.joined(separator: "\n")
            try AtomicFile.write(Array(state.utf8), to: checkpoint + "/state.json", replacing: true)
            var manifest = try #require(
                JSONParser.parse(readFile(checkpoint + "/MANIFEST.json", limit: 1 << 20)).objectValue)
            var files = try #require(manifest["files"]?.objectValue)
            files["state.json"] = ["size": .integer(state.utf8.count), "sha256": .string(sha256(Array(state.utf8)))]
            manifest["files"] = .object(files)
            try AtomicFile.write(
                JSONWriter.bytes(.object(manifest)), to: checkpoint + "/MANIFEST.json", replacing: true)
            let events = try run(folder, resume: true)
            guard case .rejected(_, let reason)? = events.first, case .resumed(2, _)? = events.dropFirst().first else {
                return #expect(Bool(false), "\(events)")
            }
            #expect(reason.contains(key) || key == "best_eval_loss", "\(reason)")
            #expect(
                Checkpoint.list(folder + "/run/checkpoints").map { splitPath($0).name } == [
                    "step-000006", "step-000004",
                ])
        }
    }

    @Test func withoutAWholeCheckpointTheRunBeginsAnew() throws {
        try withRecipe { folder in
            try run(folder)
            let whole = try adapter(folder)
            removeTree(folder + "/run")
            try run(folder, stoppedAfter: 3)
            for path in Checkpoint.list(folder + "/run/checkpoints") {
                try flip(path + "/weights.safetensors", byte: -1)
            }
            let events = try run(folder, resume: true)
            #expect(events.contains { if case .restarted = $0 { true } else { false } })
            #expect(try adapter(folder) == whole)
            #expect(
                try MetricsLog.read(folder + "/run/metrics.jsonl").compactMap { $0["step"]?.intValue } == Array(1...6))
        }
    }

    /// A kill may come before the first file of a run has its name.
    @Test(arguments: [false, true]) func whatAKillAtTheStartLeavesIsInNobodysWay(resume: Bool) throws {
        try withRecipe { folder in
            mkdir(folder + "/run", 0o777)
            for name in [".lock", ".recipe.resolved.yaml.graft-dead.tmp"] {
                try AtomicFile.write([], to: folder + "/run/" + name)
            }
            if !resume { try RunDirectory.checkFree(folder + "/run") }
            try run(folder, resume: resume)
            #expect(try namesInFolder(folder + "/run").allSatisfy { !$0.hasPrefix(".") })
        }
    }

    @Test func everyFlippedBitOfAPublishedAdapterShows() throws {
        try withRecipe { folder in
            try run(folder)
            let path = folder + "/run/adapter"
            _ = try AdapterFile(folder: path)
            _ = try AdapterFile(folder: path + "/../adapter/")
            for (name, byte) in [("adapter_model.safetensors", -5), ("adapter_config.json", 40)] {
                try copy(path, to: folder + "/copy")
                try flip(path + "/" + name, byte: byte)
                do {
                    _ = try AdapterFile(folder: path)
                    Issue.record("a flipped bit of \(name) was not noticed")
                } catch FineTuningError.badAdapter(_, let problems, _) {
                    #expect(problems.count == 1 && problems[0].contains(name))
                }
                removeTree(path)
                try copy(folder + "/copy", to: path)
                _ = try AdapterFile(folder: folder + "/copy")
                removeTree(folder + "/copy")
            }
            // Resuming a finished run writes the adapter once more.
            try flip(path + "/adapter_model.safetensors", byte: -5)
            try run(folder, resume: true)
            _ = try AdapterFile(folder: path)
        }
    }

    @Test func theDayOfARunIsKept() throws {
        try withRecipe { folder in
            let recipe = try Recipe(path: folder + "/r.yaml")
            var manifest = RunManifest(recipe: recipe)
            var inputs = try RunInputs(recipe, manifest: &manifest)
            inputs.day = CivilTime(year: 2001, month: 2, day: 3)
            try inputs.write(to: folder + "/inputs.json")
            let again = try #require(RunInputs(recordedAt: folder + "/inputs.json"))
            #expect(again.day == CivilTime(year: 2001, month: 2, day: 3))
            #expect(inputs.differences(from: again).isEmpty && inputs.weightHash == again.weightHash)
        }
    }
}
