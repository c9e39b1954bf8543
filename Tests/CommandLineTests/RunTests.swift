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

    private func metrics(_ folder: String) throws -> [JSONValue] {
        try String(contentsOfFile: folder + "/run/metrics.jsonl", encoding: .utf8)
            .split(separator: "\n").map { try JSONParser.parse(String($0)) }
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
            let steps = try metrics(folder).filter { $0["loss"] != nil }
            #expect(steps.compactMap { $0["step"]?.intValue } == [1, 2, 3, 4, 5])
            // The rows are trained on and evaluated on, and a run says what a plan says.
            #expect(result.errors.contains("note: evaluation rows: ") && json["warnings"]?.arrayValue?.count == 1)
            let measured = try ["run", "run/adapter"].map { adapter in
                try Program.run(
                    ["eval", "--model", Fixture.model, "--adapter", adapter, "--data", "rows.jsonl", "--json"],
                    in: folder
                ).json()["loss"]?.doubleValue
            }
            #expect(measured[0] != nil && measured[0] == measured[1])
            let again = try Program.run("train r.yaml --resume", in: folder)
            #expect(again.status == 0 && again.errors.contains("all 5 steps had been taken"), "\(again.errors)")
            let longer = try Program.run("train r.yaml --resume --set training.steps=9", in: folder)
            #expect(longer.status == 78 && longer.errors.contains("init_from: "), "\(longer.errors)")
            let inspected = try Program.run("inspect run --json", in: folder).json()
            #expect(inspected["kind"]?.stringValue == "run directory" && inspected["steps"]?.intValue == 5)
            let checked = try Program.run("inspect run/adapter", in: folder)
            #expect(checked.output.contains("LoRA adapter") && checked.output.contains("rank"))
        }
    }

    /// The evaluations during the run take some of the rows, the same each time; the last takes more.
    @Test(arguments: [("auto", 20), ("3", 3), ("all", 20)]) func evaluationsTakeASample(rows: String, count: Int) throws
    {
        try withRun(steps: 10) { folder in
            let eval = (0..<20).map { "{\"input_ids\": [\($0), 5, 6, 7], \"labels\": [\($0), 5, 6, 7]}\n" }
            try write(eval.joined(), to: folder + "/eval.jsonl")
            let options = "--set data.eval=[eval.jsonl] --set training.eval_every=4 --set training.eval_rows=\(rows)"
            let result = try Program.run("train r.yaml --json \(options)", in: folder)
            #expect(result.status == 0, "\(result.errors)")
            let lines = try metrics(folder).filter { $0["eval_loss"] != nil }
            let last = count < 20 ? [(10, count), (10, 20)] : [(10, 20)]
            let expected = [(4, count), (8, count)] + last
            #expect(lines.map { $0["step"]?.intValue } == expected.map(\.0))
            #expect(lines.map { $0["eval_rows"]?.intValue } == expected.map(\.1))
            let told = try result.json()
            #expect(told["first_eval_rows"]?.intValue == count && told["last_eval_rows"]?.intValue == 20)
            #expect(told["last_eval_loss"]?.doubleValue == lines.last?["eval_loss"]?.doubleValue)
            // What was measured at the end is what the adapter has.
            let measured = try Program.run(
                "eval --model \(Fixture.model) --adapter run/adapter --data eval.jsonl --json", in: folder)
            let loss = try #require(measured.json()["loss"]?.doubleValue, "\(measured.errors)")
            #expect(try abs(loss - #require(lines.last?["eval_loss"]?.doubleValue)) < 1e-5)
        }
    }

    @Test func withoutEvaluationsDuringTheRunThereIsOneAtTheEnd() throws {
        try withRun(steps: 3) { folder in
            let eval = (0..<9).map { "{\"input_ids\": [\($0), 5, 6, 7], \"labels\": [\($0), 5, 6, 7]}\n" }
            try write(eval.joined(), to: folder + "/eval.jsonl")
            let options = "--set data.eval=[eval.jsonl] --set training.eval_every=0 --set training.eval_rows=2"
            let result = try Program.run("train r.yaml \(options)", in: folder)
            #expect(result.status == 0, "\(result.errors)")
            let lines = try metrics(folder).filter { $0["eval_loss"] != nil }
            #expect(lines.map { $0["eval_rows"]?.intValue } == [9])
        }
    }

    /// What changes when a run opens its log or writes to it.
    private func metricsStamp(_ folder: String) -> [Int] {
        var status = stat()
        guard stat(folder + "/run/metrics.jsonl", &status) == 0 else { return [] }
        return [Int(status.st_ino), Int(status.st_size), status.st_mtim.tv_sec, status.st_mtim.tv_nsec]
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
                let before = metricsStamp(folder)
                let running = try Program.start(
                    ["train", "r.yaml", "--quiet"] + (resume ? ["--resume"] : []), in: folder)
                // A loaded machine may take long to start a program; a signal before it listens would just end it.
                for _ in 0..<4000 where metricsStamp(folder) == before && running.process.isRunning { usleep(5_000) }
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
            let steps = try metrics(folder).filter { $0["loss"] != nil }
            #expect(steps.compactMap { $0["step"]?.intValue } == Array(1...60))
        }
    }

    @Test func twoWritersOfOneRunMeetTheLock() throws {
        try withRun(steps: 20_000) { folder in
            let first = try Program.start(["train", "r.yaml", "--quiet"], in: folder)
            defer { if first.process.isRunning { kill(first.process.processIdentifier, SIGKILL) } }
            for _ in 0..<400 where !FileManager.default.fileExists(atPath: folder + "/run/metrics.jsonl") {
                usleep(5_000)
            }
            let second = try Program.run("train r.yaml --resume --quiet", in: folder)
            kill(first.process.processIdentifier, SIGTERM)
            let outcome = first.wait()
            #expect(outcome.status == 75, "\(outcome.errors)")
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
                    [
                        "export", "--model", Fixture.model, "--adapter", Fixture.adapter, "--out", "\(type).gguf",
                        "--type",
                        type,
                    ], in: folder)
                #expect(result.status == 0, "\(result.errors)")
                let inspected = try Program.run(["inspect", "\(type).gguf", "--json"], in: folder).json()
                #expect(inspected["kind"]?.stringValue == "GGUF")
            }
            let adapter = try Program.run(
                [
                    "export", "--model", Fixture.model, "--adapter", Fixture.adapter, "--out", "a.gguf",
                    "--adapter-only",
                ],
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

/// Commands that need a tokenizer, on one that the test trains.
@Suite struct TextCommandTests {
    private static let template = """
        {% for message in messages %}<|im_start|>{{ message.role }}
        {{ message.content }}<|im_end|>
        {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
        {% endif %}
        """

    /// A model folder: the fixture's weights with a vocabulary of 300 tokens made for it.
    private func withTokenizer<Result>(_ body: (String) throws -> Result) throws -> Result {
        try withFolder { folder in
            let rows = ["Hello there, this is a test.", "नमस्ते दुनिया", "Hello again. Hello, test!", "வணக்கம் உலகம்"].map {
                "{\"messages\": [{\"role\": \"user\", \"content\": \"\($0)\"}, {\"role\": \"assistant\", \"content\": \"\($0)\"}]}"
            }
            try write(rows.joined(separator: "\n"), to: folder + "/rows.jsonl")
            try write(Self.template, to: folder + "/chat.jinja")
            let made = try Program.run(
                "text train-tokenizer --data rows.jsonl --vocab-size 290 --chat-template chat.jinja --out tok --json",
                in: folder)
            #expect(made.status == 0, "\(made.errors)")
            return try body(folder)
        }
    }

    @Test func encodeAndDecodeAreInverse() throws {
        try withTokenizer { folder in
            let texts = ["Hello", "नमस्ते", "வணக்கம்", "a\nb \"c\" \u{1F600}", "<|im_end|>", ""]
            let input = texts.map { JSONWriter.text(.string($0)) }.joined(separator: "\n") + "\n"
            let ids = try Program.run(["text", "encode", "--model", "tok"], input: input, in: folder)
            #expect(ids.status == 0, "\(ids.errors)")
            let back = try Program.run(
                ["text", "decode", "--model", "tok/tokenizer.json"], input: ids.output, in: folder)
            #expect(back.output == input)
            let skipped = try Program.run(
                ["text", "decode", "--model", "tok", "--skip-special"], input: ids.output, in: folder)
            #expect(skipped.output.split(separator: "\n")[4] == "\"\"")
            let literal = try Program.run(
                ["text", "encode", "--model", "tok", "--literal", "--json"], input: "\"<|im_end|>\"\n", in: folder
            ).json()
            #expect(try #require(literal[0]?.arrayValue).count > 1)
        }
    }

    @Test func renderGoesThroughTheTemplate() throws {
        try withTokenizer { folder in
            let row = "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"add_generation_prompt\": true}\n"
            let result = try Program.run(["text", "render", "--model", "tok"], input: row, in: folder)
            #expect(try result.json().stringValue == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
        }
    }

    @Test(arguments: [
        ("encode", "nonsense\n", "line 1"), ("encode", "\"a\"\n[1]\n", "line 2"), ("decode", "[1, 99999]\n", "99999"),
        ("decode", "[-1]\n", "-1"), ("render", "{\"messages\": 5}\n", "line 1"),
    ])
    func badLinesAre65(command: String, input: String, expected: String) throws {
        try withTokenizer { folder in
            let result = try Program.run(["text", command, "--model", "tok"], input: input, in: folder)
            #expect(result.status == 65 && result.errors.contains(expected), "\(result.errors)")
        }
    }

    @Test func theSameTextsGiveTheSameTokenizer() throws {
        let first = try withTokenizer { try readFile($0 + "/tok/tokenizer.json", limit: 1 << 24) }
        let second = try withTokenizer { try readFile($0 + "/tok/tokenizer.json", limit: 1 << 24) }
        #expect(first == second)
    }

    /// Random weights with the trained tokenizer: rows to an adapter-free model to a store, an evaluation and a GGUF.
    @Test func theWholeRoadOnATinyModel() throws {
        try withTokenizer { folder in
            try write(
                """
                {"model_type": "llama", "vocab_size": 300, "hidden_size": 32, "intermediate_size": 64,
                 "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
                 "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "tie_word_embeddings": true}
                """, to: folder + "/config.json")
            try write(
                """
                model: {init: config.json, tokenizer: tok}
                output: base
                adapter: {method: full}
                data: {train: [rows.jsonl], eval: [rows.jsonl], max_length: 256}
                training: {steps: 60, batch_size: 4, learning_rate: 1e-2, schedule: constant, precision: f32, eval_every: 0}
                """, to: folder + "/base.yaml")
            func run(_ line: String, _ status: Int32 = 0) throws -> Program.Outcome {
                let result = try Program.run(line, in: folder)
                #expect(result.status == status, "\(line)\n\(result.errors)")
                return result
            }
            _ = try run("train base.yaml --quiet")
            let report = try run("eval --model base/model --data rows.jsonl --json").json()
            #expect(report["exact_match"]?.doubleValue == 1, "the rows were not learned by heart")
            #expect(try #require(report["bits_per_byte"]?.doubleValue) < 1)
            _ = try run("eval --model base/model --data rows.jsonl --max-loss 0.000001", 79)
            let answer = try Program.run(
                ["generate", "--model", "base/model", "--chat", "--prompt", "नमस्ते दुनिया", "--json"], in: folder
            ).json()
            #expect(answer["text"]?.stringValue == "नमस्ते दुनिया" && answer["stop"]?.stringValue == "end")
            _ = try run("tokenize --model base/model --data rows.jsonl --out rows.h5 --quiet")
            let store = try run("inspect rows.h5 --json").json()
            #expect(store["rows"]?.intValue == 4)
            let adapter = """
                model: base/model
                output: tuned
                data: {train: [rows.h5], max_length: 256}
                training: {steps: 3, batch_size: 2, precision: f32}
                """
            try write(adapter, to: folder + "/tune.yaml")
            _ = try run("train tune.yaml --quiet")
            #expect(FileManager.default.fileExists(atPath: folder + "/tuned/adapter/tokenizer.json"))
            _ = try run("merge --model base/model --adapter tuned/adapter --out merged --quiet")
            _ = try run("export --model merged --out model.gguf --type q8_0 --quiet")
            let gguf = try run("inspect model.gguf").output
            #expect(gguf.contains("tokenizer.chat_template"))
            // The file answers as the folder that it was made from.
            func reply(_ model: String) throws -> String? {
                try Program.run(
                    ["generate", "--model", model, "--chat", "--prompt", "வணக்கம் உலகம்", "--json"], in: folder
                ).json()["text"]?.stringValue
            }
            #expect(try reply("merged") == "வணக்கம் உலகம்")
            #expect(try reply("model.gguf") == "வணக்கம் உலகம்")
            let line = "{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}\n"
            let rendered = try ["merged", "model.gguf"].map {
                try Program.run(["text", "render", "--model", $0], input: line, in: folder).output
            }
            #expect(rendered[0] == rendered[1] && rendered[0].contains("<|im_start|>user"))
        }
    }
}
