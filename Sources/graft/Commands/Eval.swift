import ArgumentParser
import FileFormats
import FineTuning
import Foundation
import TensorCore
import TextData

struct Eval: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure a model on rows: loss, bits per byte, exact match.",
        discussion: """
            Computes the mean loss over the trained tokens of the rows (nats a token; the prompt does not count), \
            the bits per byte of their text (comparable between tokenizers), and greedy answers: each row is asked \
            up to its last answer, and an answer counts as an exact match when its text has the same bytes as the \
            row's, special tokens and white space around both left out.

            With --baseline the model is measured a second time without the adapter, and the table shows answers \
            before and after.

            Examples:
              graft eval --model base --adapter runs/x/adapter --data held-out.jsonl
              graft eval --model base --adapter runs/x/adapter --data held-out.jsonl \\
                --baseline --show 5
              graft eval --model base --data held-out.jsonl --answers 0      losses only
              graft eval --model base --adapter A --data D --min-exact-match 0.9
                                                    a gate: status 79 below

            \(exitStatusHelp)
            """)

    @OptionGroup var base: ModelOptions
    @OptionGroup var rows: RowOptions

    @Option(
        help: ArgumentHelp("Rows to answer, from the first; all by default, 0 computes losses only.", valueName: "n"))
    var answers: Int?

    @Option(
        help: ArgumentHelp(
            "Tokens of the longest answer; a few more than the data's longest by default.", valueName: "n"))
    var maxTokens: Int?

    @Flag(help: "Measure the model without the adapter, too.")
    var baseline = false

    @Option(help: ArgumentHelp("Answered rows to print, from all over the data.", valueName: "n"))
    var show = 0

    @Option(help: ArgumentHelp("End with status 79 when the loss is above this, in nats a token.", valueName: "nats"))
    var maxLoss: Double?

    @Option(
        help: ArgumentHelp(
            "End with status 79 when the share of exact matches is below this (0 to 1).", valueName: "share"))
    var minExactMatch: Double?

    @OptionGroup var compute: ComputeOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        _ = try rows.requireData()
        if baseline, !base.hasAdapter { throw ValidationError("--baseline needs --adapter") }
        if let answers, answers < 0 { throw ValidationError("--answers must be at least 0") }
        if let minExactMatch {
            guard (0...1).contains(minExactMatch) else {
                throw ValidationError("--min-exact-match is a share from 0 to 1, not \(minExactMatch)")
            }
            if answers == 0 { throw ValidationError("--min-exact-match needs answers; --answers 0 makes none") }
        }
        if let maxTokens, !(1...1 << 20).contains(maxTokens) {
            throw ValidationError("--max-tokens must be from 1 to \(1 << 20), not \(maxTokens)")
        }
    }

    func run() throws {
        let messages = output.messages
        let pool = compute.pool
        let text = try base.text()
        let loaded = try rows.load(config: base.config(), text: text, messages)
        let model = try base.load(compute, messages)
        if let note = model.config.contextNote(loaded.examples.lazy.map(\.ids.count), of: "rows") {
            messages.note("note: \(note)")
        }
        var options = EvaluationOptions()
        options.answeredRows = answers ?? .max
        options.maxTokens = maxTokens
        var before: Evaluation?
        if baseline {
            before = model.evaluate(loaded.examples, text: text, options: options, pool: pool) {
                messages.progress("without the adapter: \($0)")
            }
        }
        try base.attachAdapters(to: model)
        let result = model.evaluate(loaded.examples, text: text, options: options, pool: pool) { messages.progress($0) }
        messages.clearProgress()
        try print(result, before)
        try checkLosses(before.map { [result, $0] } ?? [result], loaded)
        try checkGates(result)
    }

    private func print(_ result: Evaluation, _ before: Evaluation?) throws {
        if output.json {
            var object = result.json
            if let before { object["baseline"] = .object(before.json) }
            object["rows_answered"] = .array(
                result.answers.indices.map { i in
                    var row = result.answers[i].json.objectValue ?? JSONObject()
                    if let before, i < before.answers.count {
                        row["baseline_answer"] = .string(before.answers[i].answer)
                        row["baseline_match"] = .bool(before.answers[i].isMatch)
                    }
                    return .object(row)
                })
            return Output.json(.object(object))
        }
        let shown = min(max(0, show), result.answers.count)
        for i in (0..<shown).map({ $0 * result.answers.count / shown }) {
            let answer = result.answers[i]
            try Output.line("row \(i + 1)\(answer.isMatch ? "" : "  (no match)")")
            try Output.line("  prompt    \(Self.oneLine(answer.prompt))")
            try Output.line("  expected  \(Self.oneLine(answer.expected))")
            if let before, i < before.answers.count {
                try Output.line("  before    \(Self.oneLine(before.answers[i].answer))")
            }
            try Output.line("  \(before == nil ? "answer  " : "after   ")  \(Self.oneLine(answer.answer))\n")
        }
        func cells(_ evaluation: Evaluation) -> [String] {
            let exact = evaluation.exactMatch.map { String(format: "%.1f %%", $0 * 100) } ?? "-"
            return [
                String(format: "%.4f", evaluation.loss), String(format: "%.2f", evaluation.perplexity),
                evaluation.bitsPerByte.map { String(format: "%.4f", $0) } ?? "-",
                exact
                    + (evaluation.answers.isEmpty
                        ? "" : " (\(evaluation.matches) of \(evaluation.answers.count))"),
            ]
        }
        var lines = [["", "loss", "perplexity", "bits/byte", "exact match"]]
        if let before { lines.append(["before"] + cells(before)) }
        lines.append([before == nil ? "\(result.rows) rows" : "after"] + cells(result))
        try Output.line(table(lines))
    }

    private static func oneLine(_ text: String) -> String {
        let flat = text.split(whereSeparator: \.isNewline).joined(separator: " ⏎ ")
        return flat.count > 300 ? flat.prefix(140) + " ... " + flat.suffix(140) : flat
    }

    /// - Throws: `FineTuningError.badInput` when a loss is not a number, with the rows where it is not.
    private func checkLosses(_ results: [Evaluation], _ loaded: LoadedRows) throws {
        guard let bad = results.first(where: { !$0.loss.isFinite }) else { return }
        let rows = bad.badExamples.map { index in
            let origin = loaded.origins[index]
            return (origin.file.map { "\($0), " } ?? "") + "row \(origin.number)"
        }
        throw FineTuningError.badInput([
            "the loss is \(bad.loss)" + (rows.isEmpty ? "" : " on " + rows.joined(separator: "; "))
                + ": the weights of the model or the adapter hold numbers that are infinite or NaN, or grow past what "
                + "\(compute.dtype == .bf16 ? "bf16" : "f32") can hold"
        ])
    }

    private func checkGates(_ result: Evaluation) throws {
        var failures: [String] = []
        if let maxLoss, !(result.loss <= maxLoss) {
            failures.append(String(format: "the loss is %.6g, above the %.6g of --max-loss", result.loss, maxLoss))
        }
        if let minExactMatch, !(result.exactMatch ?? 0 >= minExactMatch) {
            failures.append(
                String(
                    format: "exact match is %.4g, below the %.4g of --min-exact-match", result.exactMatch ?? 0,
                    minExactMatch))
        }
        guard failures.isEmpty else { throw GateError(failures: failures) }
    }
}

/// A threshold that a result did not reach.
struct GateError: GraftError {
    var failures: [String]
    var exitStatus: ExitStatus { .gateFailed }
    var problems: [String] { failures }
    var description: String {
        "gate failed: " + failures.joined(separator: "\n  ") + "\n  the result above is complete; nothing was changed"
    }
}
