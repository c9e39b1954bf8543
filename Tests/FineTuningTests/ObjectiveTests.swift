import FileFormats
import Foundation
import TensorCore
import Testing
import TextData

@testable import FineTuning

private let fixtures =
    URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path
    + "/Fixtures"
private let base = fixtures + "/llama3-tied"

/// What TRL's trainers made of a few rows on the model and adapter of `llama3-tied`, in double precision; the
/// reference, and the teacher, is the model without its adapter.
private struct Expected {
    struct Case: Sendable, CustomTestStringConvertible {
        var name: String
        var json: JSONValue
        var testDescription: String { name }
    }

    static let json: JSONValue = {
        let bytes = (try? readFile(fixtures + "/objectives/objectives.json", limit: 1 << 22)) ?? []
        return (try? JSONParser.parse(bytes)) ?? .null
    }()
    static let cases: [Case] = (json["cases"]?.arrayValue ?? []).map {
        Case(name: $0["name"]?.stringValue ?? "", json: $0)
    }

    static func examples(_ key: String) throws -> [TokenizedExample] {
        var options = ExampleOptions()
        options.kind = key == "pairs" ? .preference : .judged
        let builder = ExampleBuilder(tokenizer: nil, template: nil, vocabularySize: 1 << 20, options: options)
        return try builder.examples(from: try #require(json[key]?.arrayValue)).examples
    }
}

private func objective(_ json: JSONValue) throws -> Objective {
    var object = try #require(json.objectValue)
    if object["name"]?.stringValue == "distill" { object["teacher"] = .string(base) }
    let text = JSONWriter.text(.object(object))
    return try Recipe(
        yaml: "model: m\noutput: o\nobjective: \(text)\ndata: {train: [a.jsonl]}", path: "/r/recipe.yaml"
    ).objective
}

@Suite struct ObjectiveTests {
    let pool = WorkerPool(threads: 2)

    @Test func fixturesExist() { #expect(Expected.cases.count == 26) }

    @Test("losses, rewards and gradients equal TRL's", arguments: Expected.cases, [16_384, 25])
    fileprivate func equalsTRL(_ expected: Expected.Case, microbatchTokens: Int) throws {
        let objective = try objective(try #require(expected.json["objective"]))
        let model = try DecoderModel(folder: base, dtype: .f32)
        try model.attachAdapter(folder: base + "/adapter")
        // Before training, so to say: B is zero, as that of a new adapter.
        let weights = model.trainableWeights
        let trained = weights.map { $0.master!.floats() }
        for weight in weights where weight.name.contains("lora_B") { weight.master!.fillZero() }
        model.refreshWeights(pool)
        let teacher = objective.rowKind == .supervised ? try DecoderModel(folder: base, dtype: .f32) : nil
        let pass = ObjectivePass(
            model: model, objective: objective, teacher: teacher, microbatchTokens: microbatchTokens, maxLength: 1024,
            pool: pool)
        var examples = try Expected.examples(objective.rowKind == .judged ? "judged" : "pairs")
        if objective.rowKind == .supervised {
            examples = examples.map { TokenizedExample(ids: $0.ids, isTrained: $0.isTrained) }
        }
        let references = objective.usesReference ? pass.scores(examples) { _ in } : []
        for (weight, values) in zip(weights, trained) {
            weight.master!.withFloats { _ = $0.update(fromContentsOf: values) }
        }
        model.refreshWeights(pool)

        let result = pass.run(examples, references: references, learns: true, check: {})
        let loss = try #require(expected.json["loss"]?.doubleValue)
        #expect(abs(result.loss - loss) < 1e-5)
        let metrics = try #require(expected.json["metrics"]?.objectValue)
        for (name, value) in metrics.entries {
            let found = try #require(result.metrics.first { $0.name == name }, "\(name) is missing")
            #expect(abs(found.value - (value.doubleValue ?? .nan)) < 1e-5 * max(1, abs(found.value)), "\(name)")
        }
        let file = try SafetensorsFile(path: fixtures + "/objectives/objectives.safetensors")
        var compared = 0
        for (index, weight) in weights.enumerated() {
            let got = weight.gradient!.floats().map { $0 * Float(result.gradientScale) }
            let norm = got.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
            let want = try #require(expected.json["gradient_norms"]?[weight.name]?.doubleValue)
            #expect(abs(norm - want) < 1e-5 * max(1, want), "\(weight.name)")
            if let entry = file.entry(named: "\(expected.name)/\(weight.name)") {
                let entries = file.floats(of: entry)
                let largest = entries.reduce(0) { max($0, abs($1)) }
                #expect(largestDifference(got, entries) <= 1e-5 * max(1, largest), "\(weight.name)")
                compared += 1
            }
            // The weights are as they were, though the reference's were in their place meanwhile.
            #expect(weight.master!.floats() == trained[index])
        }
        #expect(compared == 4)
        let evaluated = pass.evaluate(examples, references: references, batchSize: examples.count, check: {})
        #expect(abs(evaluated.loss - result.loss) < 1e-6 && evaluated.metrics.count == result.metrics.count)
    }

    /// On a base in four bits the objective, its reference and its gradients are those of the model that the bits
    /// stand for.
    @Test(arguments: Expected.cases.filter { ["dpo-sigmoid", "kto-kto-0.1"].contains($0.name) })
    fileprivate func equalsWhatAQuantisedBaseStandsFor(_ expected: Expected.Case) throws {
        let objective = try objective(try #require(expected.json["objective"]))
        let examples = try Expected.examples(objective.rowKind == .judged ? "judged" : "pairs")
        let small = try DecoderModel(folder: base, dtype: .f32, quantization: .nf4, pool: pool)
        let weights = Dictionary(uniqueKeysWithValues: small.weights.map { ($0.name, $0) })
        #expect(weights.values.contains { $0.quantized != nil })
        let plain = try DecoderModel(config: small.config, dtype: .f32, tensor: { weights[$0.name]!.floats })
        func run(_ model: DecoderModel) throws -> (references: [Double], losses: [Double]) {
            let config = AdapterConfig(rank: 4, alpha: 8, dropout: 0, targets: .allLinear, baseModel: nil)
            try model.attachNewAdapters(config, seed: 5)
            let pass = ObjectivePass(
                model: model, objective: objective, teacher: nil, microbatchTokens: 25, maxLength: 1024, pool: pool)
            let references = pass.scores(examples) { _ in }
            let optimizer = AdamW(model.trainableWeights)
            let losses = (0..<3).map { _ in
                let result = pass.run(examples, references: references, learns: true, check: {})
                optimizer.apply(learningRate: 1e-2, gradientScale: result.gradientScale, pool: pool)
                model.refreshWeights(pool)
                return result.loss
            }
            return (references.map(\.answer), losses)
        }
        let (found, wanted) = try (run(small), run(plain))
        for (a, b) in zip(found.references, wanted.references) { #expect(abs(a - b) < 1e-4) }
        for (a, b) in zip(found.losses, wanted.losses) { #expect(abs(a - b) < 1e-5) }
        #expect(abs(found.losses[2] - found.losses[0]) > 1e-3)
    }

    @Test func weightsOfMessagesScaleTheirLosses() throws {
        let model = try DecoderModel(folder: base, dtype: .f32)
        try model.attachAdapter(folder: base + "/adapter")
        let pass = ObjectivePass(
            model: model, objective: .sft, teacher: nil, microbatchTokens: 20, maxLength: 1024, pool: pool)
        let ids: [Int32] = [3, 9, 4, 22, 17, 5, 8, 2]
        func example(_ trained: Range<Int>, _ weights: [Float]?) -> TokenizedExample {
            TokenizedExample(ids: ids, isTrained: ids.indices.map(trained.contains), weights: weights)
        }
        func gradient(_ examples: [TokenizedExample]) -> (loss: Double, sum: [Float]) {
            let result = pass.run(examples, references: [], learns: true, check: {})
            let weight = model.trainableWeights[1]
            let sum = weight.gradient!.floats()
            for weight in model.trainableWeights { weight.gradient!.fillZero() }
            return (result.loss, sum.map { $0 * Float(result.gradientScale) })
        }
        let first = gradient([example(2..<4, nil)])
        let second = gradient([example(4..<8, nil)])
        let both = gradient([example(2..<8, [1, 1, 0.5, 0.5, 2, 2, 2, 2])])
        let (a, b) = (2 * 0.5, 4 * 2.0)
        #expect(abs(both.loss - (a * first.loss + b * second.loss) / (a + b)) < 1e-6)
        let sum = zip(first.sum, second.sum).map { Float((a * Double($0) + b * Double($1)) / (a + b)) }
        #expect(largestDifference(both.sum, sum) < 1e-6)
        // Weights of one row do not touch those of another, whatever the order.
        let mixed = gradient([example(2..<4, nil), example(4..<8, Array(repeating: 1, count: 8))])
        #expect(abs(mixed.loss - (2 * first.loss + 4 * second.loss) / 6) < 1e-6)
    }

    @Test(arguments: [
        ("{name: dpo, simpo_gamma: 1}", "unknown key 'objective.simpo_gamma'"),
        ("{name: dpo, betta: 1}", "did you mean 'objective.beta'?"),
        ("{name: dop}", "did you mean 'dpo'?"),
        ("dop", "did you mean 'dpo'?"),
        ("{beta: 1}", "objective.name is missing"),
        ("{name: dpo, beta: 0}", "objective.beta must be a number above 0"),
        ("{name: dpo, loss_type: ipo, label_smoothing: 0.1}", "no part in loss_type ipo"),
        ("{name: dpo, loss_type: robust, label_smoothing: 0.5}", "below 0.5"),
        ("{name: dpo, loss_type: exo_pair}", "needs a label_smoothing"),
        ("{name: distill}", "objective.teacher is missing"),
        ("distill", "objective.teacher is missing"),
        ("{name: distill, teacher: t, beta: 1.5}", "from 0 to 1"),
        ("[dpo]", "objective must be a mapping"),
    ])
    func badObjectives(yaml: String, reason: String) {
        let error = #expect(throws: RecipeError.self) {
            try Recipe(
                yaml: "model: m\noutput: o\nobjective: \(yaml)\ndata: {train: [a.jsonl]}", path: "/r/recipe.yaml")
        }
        #expect(error?.description.contains(reason) == true, "\(error?.description ?? "")")
    }

    @Test(arguments: [
        ("objective: dpo\ndata: {train: [a.jsonl], overlong: split}", "answers that are judged cannot be split"),
        ("objective: kto\ndata: {train: [a.jsonl], train_on: all}", "leave it out"),
        ("objective: kto\nadapter: {method: full}\ndata: {train: [a.jsonl]}", "adapter.method: lora"),
    ])
    func objectivesThatDoNotGoWithTheRest(yaml: String, reason: String) {
        let error = #expect(throws: RecipeError.self) {
            try Recipe(yaml: "model: m\noutput: o\n\(yaml)", path: "/r/recipe.yaml")
        }
        #expect(error?.description.contains(reason) == true, "\(error?.description ?? "")")
    }

    @Test(arguments: [
        "sft", "dpo", "{name: dpo, loss_type: robust, label_smoothing: 0.1, beta: 0.5}", "orpo", "simpo",
        "{name: cpo, loss_type: hinge, cpo_alpha: 0.25}", "{name: simpo, simpo_gamma: 1.5, beta: 2}", "kto",
        "{name: kto, loss_type: apo_zero_unpaired, desirable_weight: 2}",
        "{name: distill, teacher: /t, beta: 1, temperature: 2}",
    ])
    func objectivesReadBackEqual(yaml: String) throws {
        let recipe = try Recipe(
            yaml: "model: m\noutput: o\nobjective: \(yaml)\ndata: {train: [a.jsonl]}", path: "/r/recipe.yaml")
        #expect(try Recipe(yaml: recipe.resolvedYAML, path: "/elsewhere/r.yaml").objective == recipe.objective)
    }
}

/// Runs of whole recipes.
@Suite struct ObjectiveRunTests {
    /// Rows in which the good answers go up and the bad ones down, on tokens alone.
    private static func write(_ folder: String, judged: Bool) throws -> String {
        var lines = ""
        for i in 0..<24 {
            let start = 10 + (i * 7) % 90
            let prompt = "[5, \(start), \(start + 1)]"
            let up = "[\(start + 2), \(start + 3), \(start + 4), 2]"
            let down = "[\(start + 1), \(start), \(start - 1), 2]"
            lines +=
                judged
                ? "{\"prompt_ids\": \(prompt), \"completion_ids\": \(i % 2 == 0 ? up : down), \"label\": \(i % 2 == 0)}\n"
                : "{\"prompt_ids\": \(prompt), \"chosen_ids\": \(up), \"rejected_ids\": \(down)}\n"
        }
        let path = folder + (judged ? "/judged.jsonl" : "/pairs.jsonl")
        try AtomicFile.write(Array(lines.utf8), to: path, replacing: true)
        return path
    }

    private func recipe(_ folder: String, _ objective: String, output: String) throws -> Recipe {
        let rows = try Self.write(folder, judged: objective.contains("kto"))
        return try Recipe(
            yaml: """
                model: \(base)
                output: \(folder)/\(output)
                objective: \(objective)
                adapter: {rank: 4, dropout: 0.1}
                data: {train: [\(rows)], eval: [\(rows)], accept: [duplicate_rows]}
                training: {epochs: 4, batch_size: 8, learning_rate: 2.0e-2, precision: f32, eval_every: 1.0e-9, save_every: 2}
                """, path: folder + "/recipe.yaml")
    }

    private func adapter(_ recipe: Recipe) throws -> [UInt8] {
        try readFile(recipe.output + "/adapter/adapter_model.safetensors", limit: 1 << 24)
    }

    @Test(
        "a run learns the preference, and an interrupted one ends with the same bytes",
        arguments: [
            "dpo", "{name: dpo, loss_type: ipo}", "orpo", "{name: simpo, beta: 2}", "cpo", "kto",
        ])
    func learnsAndResumes(objective: String) throws {
        let folder = NSTemporaryDirectory() + "/graft-objective-\(UInt64.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let pool = WorkerPool(threads: 2)
        let whole = try recipe(folder, objective, output: "whole")
        try TrainingRun(recipe: whole, pool: pool).execute(resume: false)
        let lines = try MetricsLog.read(whole.output + "/metrics.jsonl")
        let losses = lines.compactMap { $0["loss"]?.doubleValue }
        let margins = lines.compactMap { $0["eval_rewards/margins"]?.doubleValue }
        #expect(losses.count == 12 && losses.last! < losses[0])
        #expect(margins.last! > margins[0] && margins.last! > 0)
        // Scores are those of the whole model, without the recipe's dropout: at first the reference's own.
        if objective == "dpo" { #expect(abs(try #require(lines[0]["rewards/margins"]?.doubleValue)) < 1e-6) }

        // Between steps, in evaluations and, where there is one, while the reference is scored.
        for stop in [2, 5, 8] {
            let broken = try recipe(folder, objective, output: "broken-\(stop)")
            var asked = 0
            #expect(throws: FineTuningError.self) {
                try TrainingRun(recipe: broken, pool: pool).execute(
                    resume: false,
                    shouldStop: {
                        asked += 1
                        return asked >= stop
                    })
            }
            try TrainingRun(recipe: broken, pool: pool).execute(resume: true)
            #expect(try adapter(broken) == adapter(whole))
            let resumed = try MetricsLog.read(broken.output + "/metrics.jsonl")
            for key in ["loss", "eval_loss"] {
                #expect(
                    resumed.compactMap { $0[key]?.doubleValue } == lines.compactMap { $0[key]?.doubleValue }, "\(stop)")
            }
        }
    }
}
