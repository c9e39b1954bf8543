import ArgumentParser
import Export
import FileFormats
import FineTuning
import Foundation
import Host
import TensorCore
import TextData

struct Train: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Fine-tune a model as a recipe says.",
        discussion: """
            Reads a recipe (YAML), trains, and fills the run directory that the recipe names as its output:

              adapter/               PEFT folder, with tokenizer and template
              model/                 with 'method: full': a Hugging Face folder
              checkpoints/           what an exact resume needs; two are kept
              metrics.jsonl          an object a step: loss, learning rate, speed...
              recipe.resolved.yaml   the recipe with every default filled in
              report.html            loss curve, data, answers before and after
              manifest.json          versions, and SHA-256 of what went in and out

            The smallest recipe:
              model: models/base
              output: runs/first
              data:
                train: [{path: data/train.jsonl}]

            Examples:
              graft train recipe.yaml
              graft train recipe.yaml --set training.epochs=5 --set output=runs/two
              graft train recipe.yaml --resume    the bytes are those of an unbroken run

            'objective: dpo' (or orpo, simpo, cpo, kto, distill, each with options: objective: {name: dpo, beta: 0.1}) \
            learns from preferences or from a teacher instead; the README lists rows, options and what is logged. The \
            reference of dpo and kto is the model as the run begins, without a second copy.

            Losses are in nats a trained token. SIGINT, SIGTERM, SIGHUP or SIGUSR1 saves a checkpoint after the \
            step or evaluation batch under way and ends with status 75; a second SIGINT ends at once. Results depend neither on --threads nor on \
            how often the run was interrupted.

            \(exitStatusHelp)
            """)

    @OptionGroup var source: RecipeOptions

    @Flag(help: "Go on with the run in the output folder from its newest whole checkpoint.")
    var resume = false

    @Flag(
        help: ArgumentHelp(
            "Measure where the time of the steps goes, by operation: profile.json, and a table on standard error. "
                + "Ends with two seconds of matrix products, to compare with."))
    var profile = false

    @OptionGroup var compute: ComputeOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        let messages = output.messages
        var recipe = try source.recipe()
        compute.override(&recipe)
        if !resume { try RunDirectory.checkFree(recipe.output) }
        let watch = TrainingWatch(messages, resultsFrom: recipe)
        messages.progress("reading the model and the rows")
        try TrainingRun(recipe: recipe, pool: compute.pool, reader: .any).execute(
            resume: resume, profiling: profile, shouldStop: { StopRequest.isPending }, report: watch.show)
        messages.clearProgress()
        let result = recipe.output + (recipe.adapter.method == .lora ? "/adapter" : "/model")
        if output.json { return Output.json(watch.json(result: result)) }
        watch.noteResult()
        do {
            try Output.line(result)
            try Output.flush()
        } catch { messages.note("note: \(error)\n  the run is complete: \(result)") }
    }
}

extension ComputeOptions {
    /// The flags' values in the recipe's place, so that the run directory tells what was done.
    func override(_ recipe: inout Recipe) {
        switch precision {
        case .f32: recipe.training.precision = .f32
        case .bf16: recipe.training.precision = .bf16
        case nil: break
        }
    }
}

/// A recipe with overrides.
struct RecipeOptions: ParsableArguments {
    @Argument(help: ArgumentHelp("The recipe.", valueName: "recipe.yaml"))
    var path: String

    @Option(
        name: .customLong("set"), parsing: .singleValue,
        help: ArgumentHelp(
            "Override a key of the recipe, as in --set training.epochs=5; the value is YAML, paths in it are relative "
                + "to the recipe's folder. May be repeated.", valueName: "key=value"))
    var overrides: [String] = []

    @Option(parsing: .singleValue, help: acceptHelp)
    var accept: [Lint] = []

    func recipe() throws -> Recipe {
        var recipe = try Recipe(path: path, overrides: overrides)
        recipe.data.accept += accept.filter { !recipe.data.accept.contains($0) }
        return recipe
    }
}

/// Shows a run's events on standard error and remembers what the result needs.
private final class TrainingWatch {
    private let messages: Messages
    private let recipe: Recipe
    private var summary: TrainingRun.Summary?
    private var last: TrainerEvent.Step?
    private var tokens = 0
    private var seconds = 0.0

    init(_ messages: Messages, resultsFrom recipe: Recipe) {
        self.messages = messages
        self.recipe = recipe
    }

    func show(_ event: TrainingRun.Event) {
        switch event {
        case .prepared(let summary):
            self.summary = summary
            messages.note(summary.headline(recipe))
            for warning in summary.warnings { messages.note("note: \(warning)") }
            if let warning = summary.diskWarning(recipe.output) { messages.note("warning: \(warning)") }
            if summary.readsExpertsAgain {
                messages.note(
                    "the mixture is larger than memory: about \(bytesText(summary.memoryBytes)) with all experts, and "
                        + "\(bytesText(summary.memoryLimit ?? 0)) may be used; experts are read again from their file "
                        + "as tokens come to them, which takes time")
            }
        case .trainer(let event): show(event)
        case .logFailed(let reason):
            messages.note("warning: \(reason)\n  the run goes on; lines of the log are missing")
        case .profiled(let profile): messages.note(profile.text)
        }
    }

    private func show(_ event: TrainerEvent) {
        let total = summary?.steps ?? 0
        switch event {
        case .step(let step):
            last = step
            tokens += step.tokens
            seconds += step.seconds
            messages.progress(line(step, total))
            noteTenth(step, total)
        case .scoring(let done, let all):
            messages.progress("scores of the reference: \(done) of \(all) examples")
        case .evaluated(let metrics):
            let rows = metrics.rows == summary?.evalRows ? "" : " on \(metrics.rows) of \(summary?.evalRows ?? 0) rows"
            messages.note(
                String(format: "step %d of %d: evaluation loss %.4f", metrics.step, total, metrics.loss) + rows)
        case .resumed(let step, let path): messages.note("resumed after step \(step) from \(path)")
        case .rejected(let path, let reason):
            messages.note("\(path) is damaged (\(reason)); trying the one before it")
        case .restarted(let folder):
            messages.note("\(folder): no checkpoint is whole; the run begins anew, with the same result in the end")
        case .skipped(let step, let rows, let detail):
            let numbers = rows.prefix(8).map { String($0 + 1) }.joined(separator: ", ")
            messages.note("step \(step) was skipped: \(detail); examples \(numbers)\(rows.count > 8 ? "..." : "")")
        case .saved: break
        }
    }

    /// A log has no bar: a line for each tenth of the run, where steps are slow enough for somebody to wait.
    private func noteTenth(_ step: TrainerEvent.Step, _ total: Int) {
        guard !messages.drawsProgress, step.step < total, step.step * 10 / total > (step.step - 1) * 10 / total,
            step.elapsedSeconds >= 30
        else { return }
        messages.note(
            String(format: "step %d of %d: loss %.4f", step.step, total, step.loss)
                + ", \(durationText(timeLeft(step, total))) left")
    }

    private func timeLeft(_ step: TrainerEvent.Step, _ total: Int) -> Double {
        step.elapsedSeconds / Double(max(1, step.step)) * Double(total - step.step)
    }

    private func line(_ step: TrainerEvent.Step, _ total: Int) -> String {
        let rate = Double(step.tokens) / max(1e-9, step.seconds)
        let done = step.step * 20 / max(1, total)
        let bar = String(repeating: "#", count: done) + String(repeating: ".", count: 20 - done)
        return "[\(bar)] \(step.step)/\(total)"
            + String(format: "  loss %.4f  lr %.2e  %.0f tokens/s", step.loss, step.learningRate, rate)
            + "  \(durationText(timeLeft(step, total))) left"
    }

    /// The metrics log, earlier parts of a resumed run included.
    private var log: [JSONObject] { (try? MetricsLog.read(recipe.output + "/metrics.jsonl")) ?? [] }

    func noteResult() {
        if let last, seconds > 0 {
            messages.note(
                "done: step \(last.step) after \(durationText(last.elapsedSeconds)), "
                    + "\(Int(Double(tokens) / seconds)) tokens/s, peak memory \(bytesText(last.peakResidentBytes))")
        } else if last == nil, let summary {
            messages.note("nothing was left to do: all \(summary.steps) steps had been taken before")
        }
        let log = log, losses = log.compactMap { $0["loss"]?.doubleValue }, curve = EvaluationCurve(log)
        let skipped = Self.skippedSteps(log)
        if skipped > 0 {
            messages.note(
                "warning: \(skipped) of \(summary?.steps ?? 0) steps were skipped, since loss or gradient was not a "
                    + "number; metrics.jsonl has their rows")
        }
        if let first = losses.first { messages.note(String(format: "loss %.4f -> %.4f", first, losses.last ?? first)) }
        if let first = curve.points.first, let last = curve.points.last, let final = curve.final {
            messages.note(
                String(format: "evaluation loss %.4f -> %.4f", first.loss, last.loss)
                    + (final.loss == last.loss ? "" : String(format: "; %.4f on %d rows", final.loss, final.rows ?? 0)))
        }
    }

    private static func skippedSteps(_ log: [JSONObject]) -> Int { log.count { $0["skipped"]?.boolValue == true } }

    func json(result: String) -> JSONValue {
        func number(_ value: Double?) -> JSONValue { value.flatMap { $0.isFinite ? .double($0) : nil } ?? .null }
        let log = log, losses = log.compactMap { $0["loss"]?.doubleValue }, curve = EvaluationCurve(log)
        return .object(
            JSONObject([
                ("run", .string(recipe.output)), ("result", .string(result)),
                ("steps", .integer(summary?.steps ?? 0)), ("skipped_steps", .integer(Self.skippedSteps(log))),
                ("parameters", .integer(summary?.parameters ?? 0)),
                ("trainable_parameters", .integer(summary?.trainableParameters ?? 0)),
                ("precision", .string(summary?.precision ?? "")),
                ("first_loss", number(losses.first)), ("last_loss", number(losses.last)),
                ("first_eval_loss", number(curve.points.first?.loss)), ("last_eval_loss", number(curve.final?.loss)),
                ("first_eval_rows", curve.pointRows.map { .integer($0) } ?? .null),
                ("last_eval_rows", curve.final?.rows.map { .integer($0) } ?? .null),
                ("elapsed_seconds", number(last?.elapsedSeconds)),
                ("tokens_per_second", number(seconds > 0 ? Double(tokens) / seconds : nil)),
                ("peak_rss_bytes", .integer(ProcessMemory.peakResidentBytes)),
                ("warnings", .array((summary?.warnings ?? []).map { .string($0) })),
            ]))
    }
}

extension TrainingRun.Summary {
    /// What the run takes on the disk.
    var diskText: String {
        let result = disk.resultBytes + disk.tokenizerBytes
        return "about \(bytesText(disk.peakBytes)), of which \(bytesText(disk.keptBytes)) stay: two checkpoints of "
            + "\(bytesText(disk.checkpointBytes)), and \(bytesText(result)) of what is learned, with its tokenizer"
            + (freeDiskBytes.map { "; \(bytesText($0)) are free" } ?? "")
    }

    /// Told where the run may fill the disk.
    func diskWarning(_ output: String) -> String? {
        let needed = disk.peakBytes - presentDiskBytes
        guard let free = freeDiskBytes, free < needed else { return nil }
        return
            "\(output): the run takes about \(bytesText(needed)) on the disk, and \(bytesText(free)) are free there; "
            + "free some space, or choose another output"
    }

    /// What is about to be trained, in two lines.
    func headline(_ recipe: Recipe) -> String {
        let method = recipe.adapter.method == .lora ? "LoRA" : "full fine-tuning"
        return "\(countText(parameters)) parameters, \(method), \(countText(trainableParameters)) learn, \(precision)\n"
            + "\(trainRows) examples, \(countText(trainTokens)) tokens (\(countText(trainedTokens)) trained), "
            + "\(steps) steps; about \(bytesText(memoryBytes)) of memory"
    }
}
