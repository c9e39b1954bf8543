import ArgumentParser
import FileFormats
import FineTuning
import Foundation
import TensorCore

struct Plan: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what a recipe will cost and what it trains on; trains nothing.",
        discussion: """
            Reads the recipe, the model's configuration and all rows, checks them as 'train' does, and prints the \
            parameters, the steps, the memory (an estimate, by kind), the time (from a second of matrix products) \
            and a preview of the first examples with the trained tokens coloured, or between [[ and ]] where \
            colours cannot be shown. What is not coloured is read and not learned.

            Examples:
              graft plan recipe.yaml
              graft plan recipe.yaml --preview 5 --set data.train_on=last
              graft plan recipe.yaml --json

            Nothing is written. Exit status 78 when the run would not fit into memory.

            \(exitStatusHelp)
            """)

    @OptionGroup var source: RecipeOptions

    @Option(help: ArgumentHelp("Examples to show with their trained tokens.", valueName: "n"))
    var preview = 2

    @OptionGroup var compute: ComputeOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        let messages = output.messages
        let recipe = try source.recipe()
        let pool = compute.pool
        let prepared = try PreparedRun(recipe, threads: pool.count, precision: compute.precision?.dtype) {
            messages.progress("reading \($0)")
        }
        messages.clearProgress()
        let seconds = prepared.estimatedSeconds(flopsPerSecond: productRate(prepared.dtype, pool) * 1e9)
        if output.json {
            try Output.json(json(prepared, seconds))
        } else {
            try Output.write(text(prepared, seconds))
        }
        guard prepared.memory.fits else { throw RunError.notEnoughMemory(prepared.memory.refusal()) }
    }

    private func json(_ run: PreparedRun, _ seconds: Double) -> JSONValue {
        let memory = run.memory
        let previews = run.previews(preview).map { pieces -> JSONValue in
            .array(pieces.map { .object(JSONObject([("text", .string($0.text)), ("trained", .bool($0.isTrained))])) })
        }
        return .object(
            JSONObject([
                ("family", .string(run.config.family.rawValue)), ("parameters", .integer(run.config.parameterCount)),
                ("trainable_parameters", .integer(run.trainableCount)), ("modules", .integer(run.moduleCount)),
                ("precision", .string("\(run.dtype)")), ("examples", .integer(run.train.examples.count)),
                ("eval_examples", .integer(run.eval.examples.count)), ("tokens", .integer(run.train.tokens)),
                ("trained_tokens", .integer(run.train.trainedTokens)),
                ("longest_example", .integer(run.train.longest)), ("steps_per_epoch", .integer(run.stepsPerEpoch)),
                ("steps", .integer(run.totalSteps)), ("microbatch_tokens", .integer(memory.microbatchTokens)),
                ("activation_checkpointing", .bool(memory.checkpointsActivations)),
                (
                    "memory",
                    .object(
                        JSONObject([
                            ("weights_bytes", .integer(memory.weightBytes)),
                            ("trainable_bytes", .integer(memory.trainableBytes)),
                            ("activation_bytes", .integer(memory.activationBytes)),
                            ("workspace_bytes", .integer(memory.workspaceBytes)),
                            ("total_bytes", .integer(memory.totalBytes)),
                            ("limit_bytes", memory.limitBytes.map { .integer($0) } ?? .null),
                            ("fits", .bool(memory.fits)),
                        ]))
                ), ("estimated_seconds", .double((seconds * 10).rounded() / 10)), ("preview", .array(previews)),
            ]))
    }

    private func text(_ run: PreparedRun, _ seconds: Double) -> String {
        let memory = run.memory
        var rows: [(String, String)] = [
            ("model", "\(run.config.family.rawValue), \(countText(run.config.parameterCount)) parameters"),
            (
                "method",
                run.adapter.map { "LoRA, rank \($0.rank), alpha \($0.alpha), on \(run.moduleCount) modules" }
                    ?? "full fine-tuning"
            ),
            ("learns", "\(countText(run.trainableCount)) parameters"),
            ("precision", "\(run.dtype)"),
            (
                "examples",
                "\(run.train.examples.count), \(countText(run.train.tokens)) tokens, of which "
                    + "\(countText(run.train.trainedTokens)) are trained; the longest has \(run.train.longest)"
            ),
            ("steps", "\(run.totalSteps) (\(run.stepsPerEpoch) an epoch)"),
            (
                "micro-batch",
                "\(memory.microbatchTokens) tokens\(memory.checkpointsActivations ? ", activations recomputed" : "")"
            ),
            (
                "memory",
                "about \(bytesText(memory.totalBytes)): weights \(bytesText(memory.weightBytes)), what learns "
                    + "\(bytesText(memory.trainableBytes)), activations \(bytesText(memory.activationBytes)), "
                    + "workspace \(bytesText(memory.workspaceBytes))"
            ),
            ("time", "about \(durationText(seconds)), evaluation and samples not counted"),
        ]
        if let limit = memory.limitBytes { rows.insert(("memory limit", bytesText(limit)), at: 8) }
        let width = rows.map(\.0.count).max() ?? 0
        var result = rows.map { $0.0 + String(repeating: " ", count: width - $0.0.count + 2) + $0.1 + "\n" }.joined()
        result += "\n" + table(run.train.table) + "\n"
        if !run.eval.sources.isEmpty { result += "\n" + table(run.eval.table) + "\n" }
        let coloured = isatty(STDOUT_FILENO) == 1
        for (i, pieces) in run.previews(preview).enumerated() {
            result += "\nexample \(i + 1), trained tokens \(coloured ? "coloured" : "between [[ and ]]"):\n"
            for piece in pieces {
                switch (piece.isTrained, coloured) {
                case (false, _): result += piece.text
                case (true, true): result += "\u{1B}[1;32m\(piece.text)\u{1B}[0m"
                case (true, false): result += "[[\(piece.text)]]"
                }
            }
            result += "\n"
        }
        return result
    }
}
