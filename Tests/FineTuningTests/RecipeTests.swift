import FileFormats
import FineTuning
import Foundation
import Testing
import TextData

private let minimal = """
    model: models/base
    output: runs/name
    data:
      train: [{path: data/train.jsonl}]
    """

private func problems(_ yaml: String, _ overrides: [String] = []) -> [RecipeProblem] {
    do {
        _ = try Recipe(yaml: yaml, path: "/r/x.yaml", overrides: overrides)
    } catch RecipeError.invalid(_, let problems) {
        return problems
    } catch {
        return [RecipeProblem(location: "", reason: "\(error)")]
    }
    return []
}

@Suite struct RecipeTests {
    @Test(.timeLimit(.minutes(1))) func aFileOfThousandsOfUnknownKeysIsRefusedSoon() throws {
        let keys = (0..<20_000).map { "some_key_that_is_long_\($0): 1" }
        let found = problems(minimal + "\n" + keys.joined(separator: "\n"))
        #expect(found.count == keys.count)
        let text = RecipeError.invalid(path: "x", problems: found).description
        #expect(text.utf8.count < 100_000 && text.contains("and 19800 more"))
    }
    @Test func minimalRecipeHasTheDocumentedDefaults() throws {
        let recipe = try Recipe(yaml: minimal, path: "/r/x.yaml")
        #expect(recipe.model == .folder("/r/models/base"))
        #expect(recipe.output == "/r/runs/name")
        #expect(recipe.data.train == [Recipe.Source(path: "/r/data/train.jsonl", weight: 1)])
        #expect(recipe.adapter == Recipe.Adapter())
        #expect(recipe.adapter.rank == 16 && recipe.adapter.alpha == 32 && recipe.adapter.targets == .allLinear)
        #expect(recipe.training.learningRate == 2e-4 && recipe.training.length == .epochs(3))
        #expect(recipe.training.maxGradNorm == 1 && recipe.training.seed == 42)
        #expect(recipe.training.evalEvery == .fraction(0.1))
    }

    @Test func everyKeyIsRead() throws {
        let recipe = try Recipe(
            yaml: """
                model: {init: config.json, tokenizer: tok}
                output: /abs/out
                adapter:
                  method: full
                  rank: 8
                  alpha: 8
                  dropout: 0.05
                  targets: [q_proj, v_proj]
                  init_from: ../adapter
                data:
                  train: [a.jsonl, {path: "b/*.jsonl", weight: 0.5}]
                  eval: c.jsonl
                  train_on: all
                  max_length: 128
                  overlong: split
                  shuffle: false
                  mix_temperature: .inf
                  max_repeats: 2.5
                  dedupe: near
                training:
                  steps: 10
                  batch_size: 2
                  microbatch_tokens: 512
                  learning_rate: 1e-2
                  schedule: constant
                  warmup_ratio: 0
                  optimizer: {name: adamw, betas: [0.8, 0.95], eps: 1.0e-6, weight_decay: 0.01}
                  max_grad_norm: null
                  precision: bf16
                  activation_checkpointing: true
                  seed: 7
                  log_every: 5
                  eval_every: 0
                  eval_rows: 64
                  save_every: 100
                """, path: "/r/s/x.yaml")
        #expect(recipe.model == .initial(config: "/r/s/config.json", tokenizer: "/r/s/tok"))
        #expect(recipe.output == "/abs/out")
        #expect(recipe.adapter.method == .full && recipe.adapter.targets == .names(["q_proj", "v_proj"]))
        #expect(recipe.adapter.initFrom == "/r/adapter")
        #expect(recipe.data.train.map(\.weight) == [1, 0.5] && recipe.data.eval.map(\.path) == ["/r/s/c.jsonl"])
        #expect(recipe.data.trainOn == .all && recipe.data.overlong == .split && !recipe.data.shuffle)
        #expect(recipe.data.mixTemperature == .infinity && recipe.data.maxRepeats == 2.5)
        #expect(recipe.data.dedupe == .near)
        #expect(recipe.training.length == .steps(10) && recipe.training.microbatchTokens == .tokens(512))
        #expect(recipe.training.learningRate == 0.01 && recipe.training.maxGradNorm == nil)
        #expect(recipe.training.optimizer.beta2 == 0.95 && recipe.training.optimizer.weightDecay == 0.01)
        #expect(recipe.training.activationCheckpointing == .on && recipe.training.precision == .bf16)
        #expect(recipe.training.evalEvery == .never && recipe.training.saveEvery == .steps(100))
        #expect(recipe.training.evalRows == .count(64))
        let again = try Recipe(yaml: recipe.resolvedYAML, path: "/r/s/x.yaml")
        #expect(again == recipe)
        #expect(again.resolvedYAML == recipe.resolvedYAML)
    }

    @Test func resolvedDefaultsReadBackEqual() throws {
        var recipe = try Recipe(yaml: minimal, path: "/r/x.yaml")
        recipe.adapter.targets = .pattern(#".*\.(q|v)_proj: "x" # \ देवनागरी"#)
        #expect(try Recipe(yaml: recipe.resolvedYAML, path: "/r/x.yaml") == recipe)
    }

    @Test func overridesTakeYAMLValuesAndReplaceTheOtherLength() throws {
        let recipe = try Recipe(
            yaml: minimal, path: "/r/x.yaml",
            overrides: [
                "training.steps=7", "training.optimizer.weight_decay=0.1", "adapter.targets=[q_proj]",
                "data.eval=[e.jsonl]", "output=elsewhere", "training.max_grad_norm=null",
            ])
        #expect(recipe.training.length == .steps(7) && recipe.training.optimizer.weightDecay == 0.1)
        #expect(recipe.adapter.targets == .names(["q_proj"]) && recipe.data.eval.map(\.path) == ["/r/e.jsonl"])
        #expect(recipe.output == "/r/elsewhere" && recipe.training.maxGradNorm == nil)
        let found = problems(minimal, ["training.epoch=5", "nonsense"])
        #expect(found.map(\.location) == ["--set nonsense", "--set training.epoch"])
        #expect(found[1].reason.contains("did you mean 'training.epochs'"))
    }

    @Test func rowsHaveAFormatColumnsAndAcceptedDamage() throws {
        let keys = """

            data:
              train: [a.csv]
              format: completion
              columns: {prompt: question, completion: "उत्तर"}
              accept: [double_bos, role_order]
            """
        let recipe = try Recipe(yaml: "model: m\noutput: o" + keys, path: "/r/x.yaml")
        #expect(recipe.data.format == .completion && recipe.data.accept == [.doubleBOS, .roleOrder])
        #expect(recipe.data.columns.map(\.column) == ["question", "उत्तर"])
        #expect(try Recipe(yaml: recipe.resolvedYAML, path: "/r/x.yaml") == recipe)
        let found = problems(
            "model: m\noutput: o\ndata: {train: [a], format: auto, columns: {promt: q}, accept: [double_boss]}", [])
        #expect(found.count == 2)
        #expect(found.contains { $0.reason.contains("did you mean 'prompt'?") })
        #expect(found.contains { $0.reason.contains("did you mean 'double_bos'?") })
    }

    @Test func allMistakesAreReportedAtOnceWithTheirLines() {
        let found = problems(
            """
            model: m
            outptu: runs/x
            learning_rate: 1
            adapter:
              rank: zero
              tragets: all-linear
            data:
              train: [{path: a, wieght: 2}]
              overlong: drpo
            training:
              epochs: 2
              steps: 4
              max_grad_norm: -1
              optimizer: {betas: [0.9]}
              activation_checkpointing: "true"
            """)
        let text = found.map { "\($0.location): \($0.reason)" }.joined(separator: "\n")
        for expected in [
            "line 2: unknown key 'outptu'; did you mean 'output'?",
            "line 3: unknown key 'learning_rate'; did you mean 'training.learning_rate'?",
            "the key output is missing",
            "line 5: adapter.rank must be a whole number from 1 to 65536, not zero",
            "line 6: unknown key 'adapter.tragets'; did you mean 'adapter.targets'?",
            "line 8: unknown key 'data.train[0].wieght'; did you mean 'data.train[0].weight'?",
            "line 9: data.overlong must be error | drop | truncate | split, not drpo; did you mean 'drop'?",
            "line 12: training.epochs and training.steps are both given",
            "line 13: training.max_grad_norm must be a number above 0, or null, not -1",
            "line 14: training.optimizer.betas must be a list of two numbers",
            "line 15: training.activation_checkpointing must be auto, true or false, not the text \"true\"",
        ] {
            #expect(text.contains(expected), "missing: \(expected)\nin:\n\(text)")
        }
        #expect(found.count == 11)
    }

    /// Names that other programs' recipes have, and letters that editors put in.
    @Test(arguments: [
        ("lora_r: 8", "'adapter.rank'"), ("base_model: m", "'model'"),
        ("training: {lr: 1}", "'training.learning_rate'"),
        ("per_device_train_batch_size: 4", "'training.batch_size'"),
        ("nonsense_key: 1", "known here: model, output, adapter"),
    ])
    func keysOfOtherProgramsAreKnown(_ line: String, _ expected: String) {
        let found = problems("\(minimal)\n\(line)\n")
        #expect(found.contains { $0.reason.contains(expected) }, "\(found)")
    }

    @Test func aByteOrderMarkIsNoMistakeAndATabIsNamed() throws {
        let folder = NSTemporaryDirectory() + "/graft-recipe-\(UInt64.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let lines = minimal.split(separator: "\n").joined(separator: "\r\n")
        try Foundation.Data([0xEF, 0xBB, 0xBF] + Array(lines.utf8)).write(to: URL(fileURLWithPath: folder + "/r.yaml"))
        #expect(try Recipe(path: folder + "/r.yaml").data.train.count == 1)
        let error = #expect(throws: RecipeError.self) { try Recipe(yaml: "model: m\ndata:\n\ttrain: [a]\n", path: "r") }
        #expect(error?.description.contains("r:3: not a recipe: the line begins with a tab") == true, "\(error as Any)")
    }

    @Test(arguments: [
        ("", "model is missing"), ("[]", "must be a mapping"), ("model: [1]", "a model folder"),
        ("\(minimal)\noutput: again", "occurs twice"), ("a: 1\n---\nb: 2", "another document"),
        ("a: [1", "not valid YAML"), ("a: *nowhere", "undefined alias"),
        (String(repeating: "[", count: 65) + String(repeating: "]", count: 65), "deeper than 64"),
        (String(repeating: "{a: ", count: 900), "not valid YAML"),
        (String(repeating: "[", count: 100_000), "nesting level"),
        ("# " + String(repeating: "x", count: 1 << 20), "at most 1048576"),
    ])
    func hostileYAMLIsRefused(yaml: String, expected: String) {
        do {
            _ = try Recipe(yaml: yaml, path: "/r/x.yaml")
            Issue.record("accepted")
        } catch let error as RecipeError {
            #expect(error.exitStatus == .badRecipe)
            #expect(error.description.contains(expected), "\(error)")
        } catch {
            Issue.record("\(error)")
        }
    }

    /// Nine levels of ten aliases: a billion nodes when expanded, in values and in keys.
    @Test(arguments: ["x: *a8", "? *a8\n: 1", "{*a8 : 1}", "[*a8]: 1", "{[*a8]: 1}"])
    func aliasBombsAreRefusedQuickly(last: String) {
        var yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        for level in 1...8 {
            let aliases = Array(repeating: "*a\(level - 1)", count: 10).joined(separator: ", ")
            yaml += "a\(level): &a\(level) [\(aliases)]\n"
        }
        let start = ContinuousClock.now
        #expect(throws: RecipeError.self) { _ = try Recipe(yaml: yaml + last, path: "/r/x.yaml") }
        #expect(ContinuousClock.now - start < .seconds(1))
    }

    @Test func aFewAliasesAreFine() throws {
        let recipe = try Recipe(
            yaml: """
                model: m
                output: o
                data: {train: &rows [{path: a.jsonl}], eval: *rows}
                """, path: "/r/x.yaml")
        #expect(recipe.data.eval == recipe.data.train)
    }

    @Test func missingRecipeIsAMissingInput() {
        do {
            _ = try Recipe(path: "/nonexistent/x.yaml")
            Issue.record("accepted")
        } catch {
            #expect((error as? any GraftError)?.exitStatus == .missingInput)
        }
    }

    @Test func intervalsCountStepsOfTheRun() {
        #expect(Recipe.Interval.fraction(0.1).stride(ofRun: 200) == 20)
        #expect(Recipe.Interval.fraction(0.1).stride(ofRun: 3) == 1)
        #expect(Recipe.Interval.never.stride(ofRun: 3) == nil)
        #expect(Recipe.Interval.steps(7).isDue(after: 14, ofRun: 20))
        #expect(!Recipe.Interval.steps(7).isDue(after: 15, ofRun: 20))
    }
}
