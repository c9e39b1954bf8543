import FileFormats
import Foundation
import Testing

/// What surrounds the program: names, standard streams, limits, signals.
@Suite struct ProcessTests {
    /// Rows of token ids, which need no tokenizer.
    private static func rows(_ count: Int) -> String {
        (0..<count).map { "{\"input_ids\": [\($0 % 90 + 1), 5, 6, 7, \($0 % 50 + 2), 9]}\n" }.joined()
    }

    private func recipe(_ folder: String, rows: Int = 8, more: String = "") throws {
        try write(Self.rows(rows), to: folder + "/rows.jsonl")
        try write(
            """
            model: \(Fixture.model)
            output: run
            adapter: {rank: 2}
            data: {train: [{path: rows.jsonl}]}
            training: {steps: 2, batch_size: 2, precision: f32}
            \(more)
            """, to: folder + "/recipe.yaml")
    }

    private func names(_ folder: String) throws -> [String] { try namesInFolder(folder) }

    @Test(
        "outputs of any name are published under it, and nothing else is left",
        arguments: ["m", "./m", "m/", "sub/m", "é"])
    func outputNames(name: String) throws {
        try withFolder { folder in
            let merged = try Program.run(
                ["merge", "--model", Fixture.model, "--adapter", Fixture.adapter, "--out", name, "--json"], in: folder)
            #expect(merged.status == 0, "\(merged.errors)")
            #expect(try merged.json()["out"]?.stringValue == name)
            #expect(try names(folder).count == 1)
            #expect(isFolder(folder + "/" + name))
        }
    }

    @Test func namesThatCannotBeAreRefused() throws {
        try withFolder { folder in
            let long = String(repeating: "n", count: 300)
            let tooLong = try Program.run(
                ["merge", "--model", Fixture.model, "--adapter", Fixture.adapter, "--out", long], in: folder)
            #expect(tooLong.status == 74 && tooLong.errors.contains("255 bytes"))
            for name in ["/", ".", ".."] {
                #expect(try Program.run(["merge", "--model", Fixture.model, "--out", name], in: folder).status == 73)
            }
            #expect(try Program.run(["merge", "--model", Fixture.model, "--out", ""], in: folder).status == 74)
            let foreign = try Program.shell("$graft inspect \"$(printf 'a\\377')\"", in: folder)
            #expect(foreign.status == 64 && foreign.errors.contains("not UTF-8"))
            #expect(try names(folder).isEmpty)
        }
    }

    @Test("what becomes of standard error decides nothing", arguments: ["2>/dev/full", "2>&-", "2> >(exit)"])
    func standardError(redirection: String) throws {
        try withFolder { folder in
            let merged = try Program.shell(
                "$graft merge --model $model --adapter $adapter --out m \(redirection)", in: folder)
            #expect(merged.status == 0)
            #expect(try names(folder) == ["m"])
            #expect(try Program.shell("$graft inspect nothing \(redirection)", in: folder).status == 66)
            #expect(try Program.shell("$graft inspect --nothing \(redirection)", in: folder).status == 64)
        }
    }

    @Test func closedDescriptorsAreNotWrittenInto() throws {
        try withFolder { folder in
            let outcome = try Program.shell(
                """
                $graft merge --model $model --adapter $adapter --out a
                $graft merge --model $model --adapter $adapter --out b <&- >&- 2>&- || exit 1
                cmp a/model.safetensors b/model.safetensors && cmp a/config.json b/config.json
                """, in: folder)
            #expect(outcome.status == 0, "\(outcome.errors)")
        }
    }

    @Test func standardOutputThatCannotBeWritten() throws {
        try withFolder { folder in
            for redirection in [">/dev/full", ">&-"] {
                let outcome = try Program.shell("$graft inspect $model \(redirection)", in: folder)
                #expect(outcome.status == 74 && outcome.errors.contains("standard output"))
                #expect(try Program.shell("$graft --help \(redirection)", in: folder).status == 74)
            }
            // A reader that has had enough.
            let outcome = try Program.shell("($graft inspect $model --json; echo $? > status) | true", in: folder)
            #expect(outcome.errors == "")
            #expect(String(decoding: try readFile(folder + "/status", limit: 10), as: UTF8.self) == "0\n")
            try recipe(folder)
            let trained = try Program.shell("$graft train recipe.yaml >/dev/full", in: folder)
            #expect(trained.status == 0 && trained.errors.contains("the run is complete"))
        }
    }

    @Test(
        "pipes in the place of files are refused at once",
        arguments: [
            "eval --model $model --data p", "train p", "inspect p", "merge --model $model --adapter p --out m",
            "eval --model p --data p", "export --model p --out m", "init p --out m",
        ])
    func pipes(command: String) throws {
        try withFolder { folder in
            let outcome = try Program.shell("mkfifo p; timeout -k 1 20 $graft \(command)", in: folder)
            #expect([64, 65, 66, 78].contains(outcome.status), "\(outcome.status): \(outcome.errors)")
            #expect(try names(folder) == ["p"])
        }
    }

    @Test("limits of memory, threads and files end in words", arguments: [150_000, 250_000, 400_000, 500_000, 650_000])
    func limits(kibibytes: Int) throws {
        try withFolder { folder in
            try recipe(folder)
            for command in ["train recipe.yaml", "merge --model $model --adapter $adapter --out m"] {
                let outcome = try Program.shell(
                    "ulimit -v \(kibibytes); timeout -k 1 30 $graft \(command) --threads 2", in: folder)
                // 127: the dynamic loader could not map the libraries.
                #expect([0, 74, 78, 127].contains(outcome.status), "\(command): \(outcome.status)")
                #expect(outcome.status == 0 || !outcome.errors.isEmpty)
            }
        }
    }

    @Test func tooFewFiles() throws {
        try withFolder { folder in
            try recipe(folder)
            let outcome = try Program.shell("ulimit -n 4; $graft train recipe.yaml", in: folder)
            #expect(outcome.status == 74, "\(outcome.errors)")
            #expect(outcome.errors.contains("ulimit -n"))
        }
    }

    @Test("a signal ends what has nothing to save at once", arguments: ["TERM", "INT", "HUP", "USR1"])
    func signals(name: String) throws {
        try withFolder { folder in
            try recipe(folder, rows: 20_000)
            let outcome = try Program.shell(
                "$graft train recipe.yaml --json & p=$!; sleep 0.4; kill -\(name) $p; wait $p", in: folder)
            #expect(outcome.status == 75, "\(outcome.errors)")
            #expect(outcome.errors.contains("stopped on request"))
            #expect(try outcome.json()["error"]?["code"]?.intValue == 75)
            #expect(try names(folder) == ["recipe.yaml", "rows.jsonl"])
        }
    }

    @Test func aStopInARunSavesIt() throws {
        try withFolder { folder in
            try recipe(folder, more: "  ")
            let outcome = try Program.shell(
                """
                $graft train recipe.yaml --set output=whole || exit 1
                $graft train recipe.yaml --set output=run --set training.steps=100000 & p=$!
                while [ ! -s run/metrics.jsonl ]; do sleep 0.05; done
                kill -HUP $p; wait $p
                """, in: folder)
            #expect(outcome.status == 75, "\(outcome.errors)")
            #expect(try names(folder + "/run/checkpoints").count { $0.hasPrefix("step-") } == 1)
            #expect(try names(folder + "/run").allSatisfy { !$0.hasSuffix(".tmp") })
        }
    }

    @Test func controlCharactersDoNotReachTheTerminal() throws {
        try withFolder { folder in
            let hostile = "a\u{1B}[31m\u{202E}\u{9B}b"
            let outcome = try Program.run(["inspect", hostile], in: folder)
            #expect(outcome.status == 66)
            #expect(!outcome.errors.unicodeScalars.contains { [0x1B, 0x202E, 0x9B].contains($0.value) })
            #expect(outcome.errors.contains("a\\x1b[31m\\u{202e}\\x9bb"))
            let usage = try Program.run(["eval", hostile], in: folder)
            #expect(usage.status == 64 && !usage.errors.contains("\u{1B}"))
        }
    }

    @Test("numbers out of range are refused", arguments: ["0", "-1", "2147483648", "9223372036854775808", "nan"])
    func numbers(value: String) throws {
        try withFolder { folder in
            try write(Self.rows(2), to: folder + "/rows.jsonl")
            let arguments = ["eval", "--model", Fixture.model, "--data", "rows.jsonl", "--max-tokens=\(value)"]
            #expect(try Program.run(arguments, in: folder).status == 64)
        }
    }

    @Test("the affinity mask is heeded", .enabled(if: isPresent("/usr/bin/taskset")))
    func affinity() throws {
        let outcome = try Program.shell(
            "taskset -c $(taskset -cp $$ | sed 's/.*: *\\([0-9]*\\).*/\\1/') $graft doctor --json --precision f32",
            in: NSTemporaryDirectory())
        #expect(try outcome.json()["processors"]?.intValue == 1)
        #expect(try outcome.json()["threads"]?.intValue == 1)
    }
}
