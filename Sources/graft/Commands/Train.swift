import ArgumentParser
import FileFormats
import FineTuning
import Foundation
import TensorCore

struct Train: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Fine-tune a model as a recipe says.",
        discussion: """
            Reads a recipe (YAML), trains, and fills the run directory that the recipe names as its output:

              adapter/               PEFT folder: adapter_config.json, adapter_model.safetensors, tokenizer, template
              model/                 instead of it with 'method: full': a Hugging Face model folder
              checkpoints/           what an exact resume needs; the newest two are kept
              metrics.jsonl          step, loss, learning rate, gradient norm, tokens, speed, memory: an object a line
              recipe.resolved.yaml   the recipe with every default filled in
              report.html            loss curve, data statistics, answers before and after
              manifest.json          versions and SHA-256 of all that the result follows from

            The smallest recipe:
              model: models/base
              output: runs/first
              data:
                train: [{path: data/train.jsonl}]

            Examples:
              graft train recipe.yaml
              graft train recipe.yaml --set training.epochs=5 --set output=runs/second
              graft train recipe.yaml --resume          after an interruption; bytes are those of an unbroken run

            Losses are in nats a trained token. SIGINT, SIGTERM or SIGUSR1 saves a checkpoint after the step under \
            way and ends with status 75; a second SIGINT ends at once. Results depend neither on --threads nor on \
            how often the run was interrupted.

            \(exitStatusHelp)
            """)

    @OptionGroup var source: RecipeOptions

    @Flag(help: "Go on with the run in the output folder from its newest whole checkpoint.")
    var resume = false

    @OptionGroup var compute: ComputeOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        StopRequest.install()
        let messages = output.messages
        let recipe = try source.recipe()
        if !resume { try RunDirectory.checkFree(recipe.output) }
        let pool = compute.pool
        let prepared = try PreparedRun(recipe, threads: pool.count, precision: compute.precision?.dtype) {
            messages.progress("reading \($0)")
        }
        messages.note(prepared.headline)
        let watch = TrainingWatch(messages, logEvery: recipe.training.logEvery)
        let summary = try prepared.execute(
            resume: resume, pool: pool, shouldStop: { StopRequest.isPending }, report: watch.show)
        messages.clearProgress()
        if output.json { return try Output.json(summary.json) }
        messages.note(
            "done: \(summary.steps) steps in \(durationText(summary.seconds)), "
                + "\(Int(summary.tokensPerSecond)) tokens/s, peak memory \(bytesText(summary.peakResidentBytes))")
        if let first = summary.firstLoss, let last = summary.lastLoss {
            messages.note(String(format: "loss %.4f -> %.4f", first, last))
        }
        if let before = summary.evalLossBefore, let after = summary.evalLossAfter {
            messages.note(String(format: "evaluation loss %.4f -> %.4f", before, after))
        }
        try Output.line(summary.artefactPath)
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

    func recipe() throws -> Recipe { try Recipe(path: path, overrides: overrides) }
}

extension PreparedRun {
    /// What is about to be trained, in a line or two.
    var headline: String {
        let method = adapter.map { "LoRA rank \($0.rank) on \(moduleCount) modules" } ?? "full fine-tuning"
        return "\(config.family.rawValue) with \(countText(config.parameterCount)) parameters, \(method), "
            + "\(countText(trainableCount)) learn, \(dtype)\n"
            + "\(train.examples.count) examples, \(countText(train.tokens)) tokens (\(countText(train.trainedTokens)) "
            + "trained), \(totalSteps) steps; about \(bytesText(memory.totalBytes)) of memory"
    }
}

/// Shows a run's events on standard error.
private final class TrainingWatch {
    private let messages: Messages
    private let logEvery: Int
    private var lastEval: Double?

    init(_ messages: Messages, logEvery: Int) {
        self.messages = messages
        self.logEvery = logEvery
    }

    func show(_ event: RunEvent) {
        switch event {
        case .stage(let name): messages.progress(name)
        case .trainer(.step(let step), let total):
            messages.progress(line(step, total))
        case .trainer(.evaluated(let step, let loss, _), let total):
            lastEval = loss
            messages.note(String(format: "step %d of %d: evaluation loss %.4f", step, total, loss))
        case .trainer(.resumed(let step, let path), _): messages.note("resumed after step \(step) from \(path)")
        case .trainer(.rejected(let path, let reason), _):
            messages.note("\(path) is damaged (\(reason)); trying the one before it")
        case .trainer(.skipped(let step, let rows, let detail), _):
            let numbers = rows.prefix(8).map { String($0 + 1) }.joined(separator: ", ")
            messages.note("step \(step) was skipped: \(detail); examples \(numbers)\(rows.count > 8 ? "..." : "")")
        case .trainer(.saved, _): break
        }
    }

    private func line(_ step: TrainerEvent.Step, _ total: Int) -> String {
        let rate = Double(step.tokens) / max(1e-9, step.seconds)
        let left = step.elapsedSeconds / Double(max(1, step.step)) * Double(total - step.step)
        let done = step.step * 20 / max(1, total)
        let bar = String(repeating: "#", count: done) + String(repeating: ".", count: 20 - done)
        return String(format: "[%@] %d/%d  loss %.4f  lr %.2e  %.0f tokens/s", bar, step.step, total, step.loss,
            step.learningRate, rate) + "  \(durationText(left)) left"
    }
}
