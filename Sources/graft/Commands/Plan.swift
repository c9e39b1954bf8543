import ArgumentParser
import Export
import FileFormats
import FineTuning
import Foundation
import TensorCore
import TextData

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

            Nothing is written. Ends with status 78 when the run would not fit into memory.

            \(exitStatusHelp)
            """)

    @OptionGroup var source: RecipeOptions

    @Option(help: ArgumentHelp("Examples to show with their trained tokens.", valueName: "n"))
    var preview = 2

    @OptionGroup var compute: ComputeOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        let messages = output.messages
        var recipe = try source.recipe()
        compute.override(&recipe)
        let pool = compute.pool
        messages.progress("reading the model and the rows")
        let prepared = try TrainingRun(recipe: recipe, pool: pool, reader: .any).prepare(planning: true)
        messages.clearProgress()
        let rate = ProductRate.measure(prepared.model.dtype, pool: pool).operationsPerSecond
        let seconds = prepared.estimatedSeconds(flopsPerSecond: rate)
        let text = try recipe.tokenizerFolder.flatMap { try TextResources(ifPresentAt: $0) }
        let previews = prepared.data.train.prefix(max(0, preview)).enumerated().flatMap { i, example in
            example.answers.map { answer in
                Preview(
                    title: "example \(i + 1)" + (answer.judgement.map { ", " + $0 } ?? ""),
                    pieces: trainedPieces(answer.example, tokenizer: text?.tokenizer))
            }
        }
        if output.json {
            Output.json(json(prepared, seconds, previews))
        } else {
            try Output.writeStyled(describe(prepared, seconds, previews))
        }
    }

    private func json(_ run: TrainingRun.Prepared, _ seconds: Double, _ previews: [Preview]) -> JSONValue {
        let summary = run.summary
        let shown = previews.map { preview -> JSONValue in
            .array(
                preview.pieces.map {
                    .object(JSONObject([("text", .string($0.text)), ("trained", .bool($0.isTrained))]))
                })
        }
        return .object(
            JSONObject([
                ("family", .string(run.model.config.family.rawValue)), ("parameters", .integer(summary.parameters)),
                ("trainable_parameters", .integer(summary.trainableParameters)),
                ("modules", .integer(run.model.updateCount)), ("precision", .string(summary.precision)),
                ("examples", .integer(summary.trainRows)), ("eval_examples", .integer(summary.evalRows)),
                ("tokens", .integer(summary.trainTokens)), ("trained_tokens", .integer(summary.trainedTokens)),
                ("longest_example", .integer(run.data.train.map(\.longest).max() ?? 0)),
                ("steps", .integer(summary.steps)), ("microbatch_tokens", .integer(summary.microbatchTokens)),
                ("activation_checkpointing", .bool(summary.recomputedBlocks > 0)),
                ("recomputed_blocks", .integer(summary.recomputedBlocks)),
                ("memory_bytes", .integer(summary.memoryBytes)),
                ("idle_expert_bytes", .integer(summary.idleExpertBytes)),
                ("memory_limit_bytes", ProcessMemory.limitBytes.map { .integer($0) } ?? .null),
                ("disk_bytes", .integer(summary.disk.keptBytes)), ("disk_peak_bytes", .integer(summary.disk.peakBytes)),
                ("disk_checkpoint_bytes", .integer(summary.disk.checkpointBytes)),
                ("disk_result_bytes", .integer(summary.disk.resultBytes + summary.disk.tokenizerBytes)),
                ("disk_free_bytes", summary.freeDiskBytes.map { .integer($0) } ?? .null),
                ("estimated_seconds", .double((seconds * 10).rounded() / 10)),
                (
                    "statistics",
                    .object(JSONObject(run.data.statistics.map { (key: $0.name, value: .string($0.value)) }))
                ), ("warnings", .array(summary.warnings.map { .string($0) })), ("preview", .array(shown)),
            ]))
    }

    private func evaluation(_ run: TrainingRun.Prepared) -> String {
        let all = run.summary.evalRows
        guard all > 0 else { return "none" }
        func rows(_ count: Int?) -> String { (count ?? all) < all ? "\(count ?? 0) of \(all)" : "all \(all)" }
        let last = "\(rows(run.settings.lastEvalRows)) examples after the last step"
        return run.settings.evalEvery.map { "\(rows(run.settings.evalRows)) examples every \($0) steps, \(last)" }
            ?? last
    }

    private func experts(_ summary: TrainingRun.Summary) -> String {
        guard summary.idleExpertBytes > 0 else { return "" }
        return
            ", of which \(bytesText(summary.idleExpertBytes)) are experts in their file: read when tokens come to them"
            + (summary.readsExpertsAgain ? ", and again where memory is short" : "")
    }

    private func describe(_ run: TrainingRun.Prepared, _ seconds: Double, _ previews: [Preview]) -> String {
        let (summary, config) = (run.summary, run.model.config)
        let longest = run.data.train.map(\.longest).max() ?? 0
        var rows: [(String, String)] = [
            ("model", "\(config.family.rawValue), \(countText(summary.parameters)) parameters"),
            (
                "method",
                run.adapter.map { "LoRA, rank \($0.rank), alpha \($0.alpha), on \(run.model.updateCount) modules" }
                    ?? "full fine-tuning"
            ), ("objective", run.settings.objective.title),
            ("learns", "\(countText(summary.trainableParameters)) parameters"), ("precision", summary.precision),
            (
                "examples",
                "\(summary.trainRows), \(countText(summary.trainTokens)) tokens, of which "
                    + "\(countText(summary.trainedTokens)) are trained; the longest has \(longest)"
            ), ("evaluation", evaluation(run)),
            ("steps", "\(summary.steps)"),
            (
                "micro-batch",
                "\(summary.microbatchTokens) tokens"
                    + (summary.recomputedBlocks > 0 ? ", \(summary.recomputedBlocks) blocks run again" : "")
            ), ("memory", "about \(bytesText(summary.memoryBytes))" + experts(summary)),
        ]
        if let adapter = run.adapter, adapter.dropout > run.settings.dropout {
            rows.append(("dropout", "off: answers are scored by the whole model, as in TRL"))
        }
        if let limit = ProcessMemory.limitBytes { rows.append(("memory limit", bytesText(limit))) }
        rows.append(("disk", summary.diskText))
        rows.append(("time", "about \(durationText(seconds)), evaluation and samples not counted"))
        rows += run.data.statistics.map { ($0.name, $0.value) }
        rows += summary.modelNotes.map { ("warning", $0) }
        let width = rows.map(\.0.count).max() ?? 0
        var result = printable(
            rows.map { $0.0 + String(repeating: " ", count: width - $0.0.count + 2) + $0.1 + "\n" }.joined())
        let isColoured = isatty(STDOUT_FILENO) == 1
        for preview in previews {
            result += "\n\(preview.title), trained tokens \(isColoured ? "coloured" : "between [[ and ]]"):\n"
            result += renderPieces(preview.pieces, colour: isColoured)
            result += "\n"
        }
        return result
    }
}

/// A sequence as it is shown.
private struct Preview {
    var title: String
    var pieces: [TrainedPiece]
}

extension TokenizedExample {
    /// Its sequences, with how each was judged.
    fileprivate var answers: [(example: TokenizedExample, judgement: String?)] {
        switch judgement {
        case nil: [(self, nil)]
        case .label(let isGood)?: [(self, isGood ? "good" : "bad")]
        case .chosen?: [(self, "chosen")] + (rejected.map { [($0, "rejected")] } ?? [])
        }
    }
}

extension TrainingRun.Prepared {
    /// A guess at the time of all steps: floating-point operations over the rate of products.
    ///
    /// Two operations a parameter and token forward, two for the gradients of activations, two more for those of
    /// weights that learn, two for a recomputed forward pass. Products are most but not all of the work.
    fileprivate func estimatedSeconds(flopsPerSecond: Double) -> Double {
        let repeated = 2 * Double(settings.recomputedBlocks) / Double(model.config.layerCount)
        let passes = 4 + (adapter == nil ? 2 : 0) + repeated
        let adapters = adapter == nil ? 0 : 6 * Double(summary.trainableParameters)
        let perToken = passes * Double(summary.parameters) + adapters
        let perStep =
            Double(summary.trainTokens) / Double(max(1, summary.trainRows))
            * Double(min(settings.batchSize, summary.trainRows))
        return perStep * Double(settings.totalSteps) * perToken / max(1, flopsPerSecond) / 0.6
    }
}
