import ArgumentParser
import Export
import Foundation
import TensorCore

/// How what was written is compared with base and adapter before it is published.
struct VerifyOptions: ParsableArguments {
    @Flag(help: "Publish what was written without comparing it with base and adapter.")
    var noVerify = false

    @Option(
        name: .customLong("verify-data"),
        help: ArgumentHelp(
            "Rows that the comparison takes its sample from, instead of the built-in multilingual texts.",
            valueName: "file"))
    var data: [String] = []

    func validate() throws {
        if noVerify, !data.isEmpty { throw ValidationError("--verify-data and --no-verify exclude each other") }
    }

    /// Nil when nothing is to be compared.
    func gate(_ pool: WorkerPool) -> ParityGate? { noVerify ? nil : ParityGate(data: data, pool: pool) }
}

let verifyHelp = """
    What was written is read back before it appears under its name, and compared with base and adapter: every weight, \
    the logits of a sample, the tokenizer's ids and the rendered template. A file that differs by more than its type \
    explains is not published (exit status 79).
    """

extension ParityReport {
    /// The comparison in one line.
    var summary: String {
        func number(_ value: Double) -> String { String(format: "%.2g", value) }
        var parts = ["verified (\(type)): weights within \(number(weights.largestError))"]
        if let share = weights.adapterShare { parts.append("adapter's change kept to \(percent(share))") }
        if logits.tokens > 0 {
            parts.append(
                "logits of \(logits.tokens) tokens within \(number(logits.relativeError)), KL "
                    + "\(number(logits.klDivergence)), same best token \(percent(logits.agreement))")
        }
        if text.texts > 0 { parts.append("\(text.texts) texts, \(text.conversations) conversations equal") }
        return parts.joined(separator: "; ")
    }

    private func percent(_ share: Double) -> String { String(format: "%.1f %%", share * 100) }
}
