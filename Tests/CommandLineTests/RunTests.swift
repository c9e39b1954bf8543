import FileFormats
import Foundation
import Testing

/// Commands on the small fixture model, which has no tokenizer: rows are token ids.
@Suite struct CommandTests {
    /// A folder with a recipe for `steps` steps over a few rows.
    private func withRun<Result>(steps: Int, _ body: (String) throws -> Result) throws -> Result {
        try withFolder { folder in
            let rows = (0..<6).map { row in
                let ids = (0..<20).map { String((row * 31 + $0 * 7) % 160) }.joined(separator: ", ")
                return "{\"input_ids\": [\(ids)], \"labels\": [\(ids)]}"
            }
            try write(rows.joined(separator: "\n") + "\n", to: folder + "/rows.jsonl")
            try write(
                """
                model: \(Fixture.model)
                output: run
                data: {train: [rows.jsonl], eval: [rows.jsonl]}
                training: {steps: \(steps), batch_size: 2, learning_rate: 1e-2, precision: f32}
                """, to: folder + "/r.yaml")
            return try body(folder)
        }
    }

    private func adapter(_ folder: String) throws -> [UInt8] {
        try readFile(folder + "/run/adapter/adapter_model.safetensors", limit: 1 << 24)
    }

    @Test func trainFillsTheRunDirectory() throws {
        try withRun(steps: 5) { folder in
            let result = try Program.run("train r.yaml --json", in: folder)
            #expect(result.status == 0, "\(result.errors)")
            let json = try result.json()
            #expect(json["steps"]?.intValue == 5)
            #expect(try #require(json["last_loss"]?.doubleValue) < #require(json["first_loss"]?.doubleValue))
            for name in [
                "adapter/adapter_config.json", "adapter/adapter_model.safetensors", "checkpoints", "metrics.jsonl",
                "recipe.resolved.yaml", "report.html", "manifest.json",
            ] {
                #expect(FileManager.default.fileExists(atPath: folder + "/run/" + name), "\(name)")
            }
            let steps = try String(contentsOfFile: folder + "/run/metrics.jsonl", encoding: .utf8)
                .split(separator: "\n").map { try JSONParser.parse(String($0)) }.filter { $0["loss"] != nil }
            #expect(steps.compactMap { $0["step"]?.intValue } == [1, 2, 3, 4, 5])
            let inspected = try Program.run("inspect run --json", in: folder).json()
            #expect(inspected["kind"]?.stringValue == "run directory" && inspected["steps"]?.intValue == 5)
            let checked = try Program.run("inspect run/adapter", in: folder)
            #expect(checked.output.contains("LoRA adapter") && checked.output.contains("rank"))
        }
    }

    /// Stopped by a signal again and again and gone on with, the run ends in the bytes of one that was not.
    @Test(arguments: [SIGTERM, SIGINT, SIGUSR1])
    func aStoppedRunResumesToTheSameBytes(signal: Int32) throws {
        let whole = try withRun(steps: 60) { folder in
            #expect(try Program.run("train r.yaml --quiet", in: folder).status == 0)
            return try adapter(folder)
        }
        try withRun(steps: 60) { folder in
            var resume = false
            for delay in [30_000, 45_000, 60_000] {
                let running = try Program.start(["train", "r.yaml", "--quiet"] + (resume ? ["--resume"] : []), in: folder)
                for _ in 0..<400 where !FileManager.default.fileExists(atPath: folder + "/run/metrics.jsonl") {
                    usleep(5_000)
                }
                usleep(UInt32(delay))
                kill(running.process.processIdentifier, signal)
                let result = running.wait()
                // A run may have ended before the signal came.
                #expect(result.status == 75 || result.status == 0, "\(result.errors)")
                if result.status == 75 { #expect(result.errors.contains("--resume")) }
                resume = true
            }
            let last = try Program.run("train r.yaml --quiet --resume", in: folder)
            #expect(last.status == 0, "\(last.errors)")
            #expect(try adapter(folder) == whole)
        }
    }

    @Test func aKilledRunResumesToTheSameBytes() throws {
        let whole = try withRun(steps: 60) { folder in
            #expect(try Program.run("train r.yaml --quiet --threads 1", in: folder).status == 0)
            return try adapter(folder)
        }
        try withRun(steps: 60) { folder in
            for (attempt, delay) in [20_000, 60_000, 140_000, 250_000].enumerated() {
                let running = try Program.start(
                    ["train", "r.yaml", "--quiet"] + (attempt > 0 ? ["--resume"] : []), in: folder)
                for _ in 0..<400 where !FileManager.default.fileExists(atPath: folder + "/run/recipe.resolved.yaml") {
                    usleep(5_000)
                }
                usleep(UInt32(delay))
                kill(running.process.processIdentifier, SIGKILL)
                _ = running.wait()
            }
            let last = try Program.run("train r.yaml --quiet --resume --threads 2", in: folder)
            #expect(last.status == 0, "\(last.errors)")
            #expect(try adapter(folder) == whole)
            let steps = try String(contentsOfFile: folder + "/run/metrics.jsonl", encoding: .utf8)
                .split(separator: "\n").map { try JSONParser.parse(String($0)) }.filter { $0["loss"] != nil }
            #expect(steps.compactMap { $0["step"]?.intValue } == Array(1...60))
        }
    }

    @Test func twoWritersOfOneRunMeetTheLock() throws {
        try withRun(steps: 1_000_000) { folder in
            let first = try Program.start(["train", "r.yaml", "--quiet"], in: folder)
            for _ in 0..<400 where !FileManager.default.fileExists(atPath: folder + "/run/metrics.jsonl") {
                usleep(5_000)
            }
            let second = try Program.run("train r.yaml --resume --quiet", in: folder)
            kill(first.process.processIdentifier, SIGTERM)
            #expect(first.wait().status == 75)
            #expect(second.status == 73)
            #expect(second.errors.contains("\(first.process.processIdentifier)"), "\(second.errors)")
        }
    }

    @Test func planShowsWhatIsTrainedAndWritesNothing() throws {
        try withRun(steps: 3) { folder in
            let json = try Program.run("plan r.yaml --json --preview 1", in: folder).json()
            #expect(json["steps"]?.intValue == 3 && json["examples"]?.intValue == 6)
            #expect(json["preview"]?.arrayValue?.count == 1)
            let page = try Program.run("plan r.yaml", in: folder)
            #expect(page.status == 0 && page.output.contains("memory") && page.errors.isEmpty)
            #expect(!FileManager.default.fileExists(atPath: folder + "/run"))
        }
    }

    @Test func logitsOfTheMergedFolderAreThoseOfTheAdapter() throws {
        try withFolder { folder in
            let merged = try Program.run(
                ["merge", "--model", Fixture.model, "--adapter", Fixture.adapter, "--out", "merged", "--json"],
                in: folder)
            #expect(merged.status == 0, "\(merged.errors)")
            #expect(try #require(merged.json()["largest_change"]?.doubleValue) > 0)
            func logits(_ arguments: [String], _ name: String) throws -> [Float] {
                let result = try Program.run(
                    ["logits", "--ids", "1,2,3,4,5", "--out", name, "--precision", "f32"] + arguments, in: folder)
                #expect(result.status == 0, "\(result.errors)")
                let file = try SafetensorsFile(path: folder + "/" + name)
                return file.floats(of: try #require(file.entry(named: "logits")))
            }
            let adapted = try logits(["--model", Fixture.model, "--adapter", Fixture.adapter], "a")
            let folded = try logits(["--model", "merged"], "b")
            let plain = try logits(["--model", Fixture.model], "c")
            #expect(zip(adapted, folded).allSatisfy { abs($0 - $1) < 1e-4 })
            #expect(zip(adapted, plain).contains { abs($0 - $1) > 1e-2 })
        }
    }

    @Test func exportWritesGGUFOfEveryType() throws {
        try withFolder { folder in
            for type in ["f32", "f16", "bf16", "q8_0"] {
                let result = try Program.run(
                    ["export", "--model", Fixture.model, "--adapter", Fixture.adapter, "--out", "\(type).gguf", "--type",
                        type], in: folder)
                #expect(result.status == 0, "\(result.errors)")
                let inspected = try Program.run(["inspect", "\(type).gguf", "--json"], in: folder).json()
                #expect(inspected["kind"]?.stringValue == "GGUF")
            }
            let adapter = try Program.run(
                ["export", "--model", Fixture.model, "--adapter", Fixture.adapter, "--out", "a.gguf", "--adapter-only"],
                in: folder)
            #expect(adapter.status == 0, "\(adapter.errors)")
        }
    }

    @Test func doctorTellsWhatTheMachineOffers() throws {
        let json = try Program.run("doctor --json --precision f32").json()
        #expect(try #require(json["f32_gflops"]?.doubleValue) > 0)
        for key in ["graft", "processor", "instruction_set", "matrix_library", "memory_bytes"] {
            #expect(json[key]?.isNull == false, "\(key)")
        }
    }

    @Test func quietSaysNothing() throws {
        try withRun(steps: 2) { folder in
            let result = try Program.run("train r.yaml --quiet --json", in: folder)
            #expect(result.status == 0 && result.errors.isEmpty)
            _ = try result.json()
        }
    }
}
