import FileFormats
import Foundation
import Testing

/// Bad input ends with the documented status, a text that names the place, and nothing half-written.
@Suite struct BadInputTests {
    private static let recipe = """
        model: \(Fixture.model)
        output: out
        data: {train: [rows.jsonl]}
        training: {steps: 1, precision: f32}
        """

    private func expect(
        _ status: Int32, _ texts: [String], from arguments: [String], in folder: String,
        _ location: SourceLocation = #_sourceLocation
    ) throws {
        let before = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        let result = try Program.run(arguments, in: folder)
        #expect(result.status == status, "\(result.errors)", sourceLocation: location)
        #expect(result.output.isEmpty, sourceLocation: location)
        for text in texts { #expect(result.errors.contains(text), "\(result.errors)", sourceLocation: location) }
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == before, "something was left behind",
            sourceLocation: location)
    }

    @Test func missingFilesAre66() throws {
        try withFolder { folder in
            try write(Self.recipe, to: folder + "/r.yaml")
            try expect(66, ["rows.jsonl"], from: ["train", "r.yaml"], in: folder)
            try expect(
                66, ["none.jsonl", "nor-this.csv"],
                from: ["plan", "r.yaml", "--set", "data.train=none.jsonl", "--set", "data.eval=nor-this.csv"],
                in: folder)
            try expect(66, ["nowhere.yaml"], from: ["train", "nowhere.yaml"], in: folder)
            try expect(66, ["nomodel"], from: ["train", "r.yaml", "--set", "model=nomodel"], in: folder)
            try expect(66, ["m"], from: ["logits", "--model", "m", "--ids", "1", "--out", "o"], in: folder)
            try expect(66, ["m"], from: ["inspect", "m"], in: folder)
            try expect(66, ["m"], from: ["text", "encode", "--model", "m"], in: folder)
            try expect(66, ["m"], from: ["generate", "--model", "m", "--prompt", "p"], in: folder)
            try expect(66, ["m"], from: ["eval", "--model", "m", "--data", "d"], in: folder)
            try expect(66, ["m"], from: ["export", "--model", "m", "--out", "o.gguf"], in: folder)
            try expect(
                66, ["a"], from: ["merge", "--model", Fixture.model, "--adapter", "a", "--out", "o"], in: folder)
        }
    }

    @Test func pipeInAModelsPlaceIs65AndDoesNotHang() throws {
        try withFolder { folder in
            mkfifo(folder + "/p", 0o600)
            try expect(65, ["p: not a plain file"], from: ["inspect", "p"], in: folder)
            try expect(
                65, ["p: not a plain file"], from: ["logits", "--model", "p", "--ids", "1", "--out", "o"], in: folder)
        }
    }

    @Test(arguments: ["1e19", "0", ".inf"]) func impossibleWeightsOfRowsAre78(weight: String) throws {
        try withFolder { folder in
            try write(Self.recipe, to: folder + "/r.yaml")
            try write("", to: folder + "/rows.jsonl")
            let override = "data.train=[{path: rows.jsonl, weight: \(weight)}]"
            try expect(78, ["weight"], from: ["train", "r.yaml", "--set", override], in: folder)
        }
    }

    @Test func malformedRowsAre65WithTheirNumbers() throws {
        try withFolder { folder in
            try write(Self.recipe, to: folder + "/r.yaml")
            try write(
                """
                {"input_ids": [1, 2, 3], "labels": [1, 2, 3]}
                {"input_ids": [1, 2, 3], "labels": [1, 2
                {"input_ids": [1, 2, 3], "labels": [1, 2]}
                {"input_ids": [1, 2, 9999], "labels": [1, 2, 3]}
                {"input_ids": [1, 2, 3], "labels": [-100, -100, -100]}
                {"nothing": "known"}
                """, to: folder + "/rows.jsonl")
            try expect(
                65, ["row 2", "row 3", "row 4", "row 5", "row 6"], from: ["train", "r.yaml"], in: folder)
            try expect(65, ["row 2"], from: ["plan", "r.yaml"], in: folder)
            try write("", to: folder + "/rows.jsonl")
            try expect(65, ["rows.jsonl"], from: ["train", "r.yaml"], in: folder)
        }
    }

    @Test func filesThatAreNoRowsAre65() throws {
        try withFolder { folder in
            try write(Self.recipe, to: folder + "/r.yaml")
            try write("PK\u{3}\u{4} and so on", to: folder + "/rows.xlsx")
            try expect(
                65, ["rows.xlsx", "CSV"], from: ["plan", "r.yaml", "--set", "data.train=rows.xlsx"], in: folder)
            try expect(
                65, ["neither a model folder"], from: ["generate", "--model", "r.yaml", "--prompt", "p"], in: folder)
            for gate in [["1.5"], ["0.9", "--answers", "0"]] {
                try expect(
                    64, ["--min-exact-match"],
                    from: ["eval", "--model", Fixture.model, "--data", "d", "--min-exact-match"] + gate, in: folder)
            }
        }
    }

    @Test func inspectReadsRowsOfEveryKind() throws {
        try withFolder { folder in
            try write("\u{FEFF}name;note\r\n1;\"a\r\nb\"\r\n2;c\r\n", to: folder + "/rows.csv")
            try write("one\ntwo\n", to: folder + "/rows.txt")
            try write("[{\"text\": \"a\"}, {\"text\": \"b\"}]", to: folder + "/rows.json")
            for (name, kind, keys) in [
                ("rows.csv", "CSV with semicolons", "name, note"), ("rows.txt", "plain text, a row a line", "text"),
                ("rows.json", "JSON", "text"),
            ] {
                let found = try Program.run("inspect \(name) --json", in: folder).json()
                #expect(found["kind"]?.stringValue == "data rows" && found["rows"]?.intValue == 2, "\(name)")
                #expect(found["read_as"]?.stringValue == kind)
                #expect(found["row_shapes"]?[0]?["keys"]?.stringValue == keys)
            }
        }
    }

    @Test func unknownRecipeKeysAre78WithASuggestion() throws {
        try withFolder { folder in
            try write(Self.recipe + "\nadaptor: {rank: 4}\n", to: folder + "/r.yaml")
            try write("{\"input_ids\": [1, 2], \"labels\": [1, 2]}", to: folder + "/rows.jsonl")
            try expect(
                78, ["line 5", "unknown key 'adaptor'", "did you mean 'adapter'?"], from: ["train", "r.yaml"],
                in: folder)
            try write(Self.recipe, to: folder + "/r.yaml")
            try expect(
                78, ["training.lerning_rate", "did you mean 'training.learning_rate'?"],
                from: ["train", "r.yaml", "--set", "training.lerning_rate=1"], in: folder)
            try expect(
                78, ["q_porj"], from: ["train", "r.yaml", "--set", "adapter.targets=[q_porj]"], in: folder)
        }
    }

    @Test func anOutputThatExistsIs73() throws {
        try withFolder { folder in
            try write(Self.recipe, to: folder + "/r.yaml")
            try write("{\"input_ids\": [1, 2], \"labels\": [1, 2]}", to: folder + "/rows.jsonl")
            try FileManager.default.createDirectory(atPath: folder + "/out", withIntermediateDirectories: false)
            try write("precious", to: folder + "/out/notes.txt")
            try write("precious", to: folder + "/file")
            try expect(73, ["out", "--resume"], from: ["train", "r.yaml"], in: folder)
            try expect(
                73, ["file"], from: ["logits", "--model", Fixture.model, "--ids", "1", "--out", "file"], in: folder)
            try expect(
                73, ["out"],
                from: ["merge", "--model", Fixture.model, "--adapter", Fixture.adapter, "--out", "out"], in: folder)
            try expect(
                73, ["file"], from: ["export", "--model", Fixture.model, "--out", "file", "--type", "f16"], in: folder)
            #expect(try String(contentsOfFile: folder + "/file", encoding: .utf8) == "precious")
        }
    }

    /// A model folder whose weights are cut at several places, or hostile.
    @Test func damagedSafetensorsAre65() throws {
        let whole = try Data(contentsOf: URL(fileURLWithPath: Fixture.model + "/model.safetensors"))
        try withFolder { folder in
            try FileManager.default.copyItem(atPath: Fixture.model + "/config.json", toPath: folder + "/config.json")
            let huge = withUnsafeBytes(of: UInt64(1) << 60) { Data($0) } + Data("{}".utf8)
            let damaged = [
                Data(), whole.prefix(7), whole.prefix(100), whole.prefix(whole.count - 1), whole + Data([0]), huge,
            ]
            for data in damaged {
                try data.write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
                try expect(
                    65, ["model.safetensors"], from: ["logits", "--model", ".", "--ids", "1", "--out", "o"], in: folder)
                try expect(65, ["model.safetensors"], from: ["inspect", "model.safetensors"], in: folder)
            }
        }
    }

    @Test func anAdapterThatDoesNotFitIs65AndListsAll() throws {
        let other = Fixture.root + "/llama-headdim-bias"
        try withFolder { folder in
            let result = try Program.run(
                ["merge", "--model", other, "--adapter", Fixture.adapter, "--out", folder + "/o"])
            // The two fixtures differ in shape: all modules are named, not the first alone.
            #expect(result.status == 65)
            #expect(result.errors.split(separator: "\n").count > 3, "\(result.errors)")
            #expect(!FileManager.default.fileExists(atPath: folder + "/o"))
        }
    }

    @Test func aTokenIDOutsideTheVocabularyIs65() throws {
        try withFolder { folder in
            try expect(
                65, ["99999"], from: ["logits", "--model", Fixture.model, "--ids", "1,99999", "--out", "o"], in: folder)
        }
    }

    /// A model of a few terabytes is refused before anything is read or made.
    @Test func aRunThatCannotFitIsRefusedWithTheEstimate() throws {
        try withFolder { folder in
            try write(
                """
                {"model_type": "llama", "vocab_size": 100000, "hidden_size": 32768, "intermediate_size": 131072,
                 "num_hidden_layers": 100, "num_attention_heads": 256, "max_position_embeddings": 512}
                """, to: folder + "/config.json")
            try write("{\"input_ids\": [1, 2], \"labels\": [1, 2]}", to: folder + "/rows.jsonl")
            try write(
                "model: {init: config.json}\noutput: out\ndata: {train: [rows.jsonl]}", to: folder + "/r.yaml")
            for command in ["train", "plan"] {
                try expect(78, ["not enough memory", "MiB are needed"], from: [command, "r.yaml"], in: folder)
            }
        }
    }

    /// The frozen weights fit; the matrices that learn, with their moments, do not.
    @Test func anAdapterThatCannotFitIsRefusedWithWhatItTakes() throws {
        try withFolder { folder in
            try write("{\"input_ids\": [1, 2], \"labels\": [1, 2]}", to: folder + "/rows.jsonl")
            try write(
                "model: \(Fixture.model)\noutput: out\nadapter: {rank: 20000}\ndata: {train: [rows.jsonl]}\n"
                    + "training: {memory: 400MiB}", to: folder + "/r.yaml")
            let words = ["not enough memory", "what learns takes", "adapter.rank"]
            for command in ["train", "plan"] { try expect(78, words, from: [command, "r.yaml"], in: folder) }
        }
    }

    // MARK: folders above the output

    @Test func foldersAboveTheOutputAreMade() throws {
        try withFolder { folder in
            for line in [
                "init \(Fixture.model)/config.json --out a/b/model", "merge --model a/b/model --out c/d/merged",
                "export --model a/b/model --out e/f/m.gguf", "export --model a/b/model --out g/h/hf --for hf",
                "logits --model a/b/model --ids 1,2 --out i/j/l.safetensors",
            ] {
                let result = try Program.run(line, in: folder)
                #expect(result.status == 0, "\(line): \(result.errors)")
            }
            for path in ["c/d/merged/config.json", "e/f/m.gguf", "g/h/hf/config.json", "i/j/l.safetensors"] {
                #expect(FileManager.default.fileExists(atPath: folder + "/" + path), "\(path)")
            }
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder + "/e/f") == ["m.gguf"])
        }
    }

    @Test func aRefusedRunLeavesNoFolders() throws {
        try withFolder { folder in
            try write("{\"input_ids\": [1, 2, 9999], \"labels\": [1, 2, 3]}", to: folder + "/rows.jsonl")
            let model = ["--model", Fixture.model]
            try expect(66, ["nothing"], from: ["merge"] + model + ["--adapter", "nothing", "--out", "a/b"], in: folder)
            try expect(66, ["nothing"], from: ["export", "--model", "nothing", "--out", "a/b.gguf"], in: folder)
            try expect(
                66, ["nothing"], from: ["export"] + model + ["--adapter", "nothing", "--out", "a/b", "--for", "hf"],
                in: folder)
            try expect(66, ["nothing"], from: ["init", "nothing", "--out", "a/b"], in: folder)
            try expect(
                65, ["tokenizer"], from: ["tokenize"] + model + ["--data", "rows.jsonl", "--out", "a/b"], in: folder)
            // A file stands where a folder would have to.
            try expect(74, ["rows.jsonl"], from: ["export"] + model + ["--out", "rows.jsonl/a/b.gguf"], in: folder)
        }
    }

    // MARK: errors as JSON

    /// One document on standard output, the text as ever on standard error.
    private func error(
        _ status: Int32, from arguments: [String], in folder: String, _ location: SourceLocation = #_sourceLocation
    ) throws -> JSONValue {
        let plain = try Program.run(arguments, in: folder)
        let result = try Program.run(arguments + ["--json"], in: folder)
        #expect(result.status == status && plain.status == status, "\(result.errors)", sourceLocation: location)
        #expect(result.errors == plain.errors, sourceLocation: location)
        let document = try result.json()
        let error = try #require(document["error"], sourceLocation: location)
        #expect(error["code"]?.intValue == Int(status), sourceLocation: location)
        let message = try #require(error["message"]?.stringValue)
        #expect(!message.isEmpty && result.errors.contains(message), sourceLocation: location)
        return error
    }

    @Test func errorsAreJSONWhenAskedFor() throws {
        try withFolder { folder in
            try write(Self.recipe, to: folder + "/r.yaml")
            let nothing = try error(66, from: ["inspect", "nothing"], in: folder)
            #expect(nothing["problems"]?.arrayValue?.isEmpty == true)
            try write("{\"input_ids\": [1, 2\n{\"input_ids\": [1, 2], \"labels\": [1]}\n", to: folder + "/rows.jsonl")
            let rows = try error(65, from: ["plan", "r.yaml"], in: folder)
            let problems = (rows["problems"]?.arrayValue ?? []).compactMap(\.stringValue)
            try #require(problems.count == 2)
            #expect(problems[0].contains("row 1: ") && problems[1].contains("row 2: "))
            let keys = try error(
                78, from: ["plan", "r.yaml", "--set", "nokey=1", "--set", "training.epoch=2"], in: folder)
            #expect(keys["problems"]?.arrayValue?.count == 2)
            for line in ["trian", "export --model m", "doctor --threads 0"] {
                let usage = try Program.run(line + " --json", in: folder)
                #expect(usage.status == 64 && usage.errors.contains("Error:"))
                #expect(try usage.json()["error"]?["code"]?.intValue == 64)
            }
        }
    }

    /// A gate that fails has a result all the same: both are in the one document.
    @Test func aFailedGateKeepsItsResult() throws {
        try withFolder { folder in
            try write("{\"input_ids\": [1, 2, 3], \"labels\": [1, 2, 3]}", to: folder + "/rows.jsonl")
            let line = "eval --model \(Fixture.model) --data rows.jsonl --max-loss 0.001 --json"
            let result = try Program.run(line, in: folder)
            let document = try result.json()
            #expect(result.status == 79 && document["loss"]?.doubleValue != nil)
            #expect(document["error"]?["code"]?.intValue == 79 && document["error"]?["problems"]?[0] != nil)
        }
    }

    @Test func aFullDiskIs74() throws {
        let result = try Program.run(["inspect", Fixture.model, "--json"])
        #expect(result.status == 0)
        let shell = Process()
        shell.executableURL = URL(fileURLWithPath: "/bin/sh")
        shell.arguments = [
            "-c", "exec \"$0\" inspect \"$1\" --json > /dev/full 2>/dev/null", Program.path, Fixture.model,
        ]
        try shell.run()
        shell.waitUntilExit()
        #expect(shell.terminationStatus == 74)
    }
}
