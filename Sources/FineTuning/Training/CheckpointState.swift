import FileFormats
import Foundation
import TextData

/// What `state.json` of a checkpoint says.
struct CheckpointState {
    static let version = 1

    /// What keeps it from being used.
    struct Damage: Error {
        var problems: [String]
    }

    var counters = TrainerState()
    /// Steps that were not skipped.
    var optimizerStep = 0
    var microbatchTokens = 0
    var fingerprint = ""

    /// Reads it from a checkpoint's folder; every field must be there, and be a number that a run can come to.
    static func read(_ folder: String) -> Result<CheckpointState, Damage> {
        let json: JSONValue
        do {
            json = try JSONParser.parse(
                readFile(folder + "/state.json", limit: 1 << 20), duplicateKeys: .refuse)
        } catch { return .failure(Damage(problems: ["state.json cannot be read: \(error)"])) }
        var state = CheckpointState(), problems: [String] = []
        func refuse(_ key: String, _ expected: String) {
            let found = json[key].map { JSONWriter.text($0) } ?? "nothing"
            problems.append("state.json: \(key) is \(found.prefix(40)), expected \(expected)")
        }
        // Large enough for any run, and small enough that sums of two do not overflow.
        func count(_ key: String, from least: Int = 0, upTo most: Int = 1 << 60) -> Int {
            guard let value = json[key]?.intValue, (least...most).contains(value) else {
                refuse(key, "a number from \(least) on" + (most < 10 ? " to \(most)" : ""))
                return 0
            }
            return value
        }
        if json["version"]?.intValue != version { refuse("version", "\(version)") }
        state.counters.step = count("step", from: 1)
        state.optimizerStep = count("optimizer_step")
        state.counters.tokens = count("tokens")
        state.counters.trainedTokens = count("trained_tokens")
        state.microbatchTokens = count("microbatch_tokens", from: 1)
        if json["evaluations_left"] != nil { state.counters.evaluationsLeft = count("evaluations_left", upTo: 2) }
        if let seconds = json["elapsed_seconds"]?.doubleValue, seconds >= 0, seconds < 1e12 {
            state.counters.elapsedSeconds = seconds
        } else {
            refuse("elapsed_seconds", "a number of seconds")
        }
        if let loss = json["best_eval_loss"], !loss.isNull {
            state.counters.bestEvalLoss = loss.doubleValue.flatMap { $0.isFinite ? $0 : nil }
            state.counters.bestEvalStep = count("best_eval_step")
            if state.counters.bestEvalLoss == nil { refuse("best_eval_loss", "a finite number or null") }
        } else if let step = json["best_eval_step"], !step.isNull {
            refuse("best_eval_step", "null, as best_eval_loss is")
        }
        if let fingerprint = json["fingerprint"]?.stringValue {
            state.fingerprint = fingerprint
        } else {
            refuse("fingerprint", "a text")
        }
        return problems.isEmpty ? .success(state) : .failure(Damage(problems: problems))
    }

    /// What a run with these settings over these rows cannot have come to.
    func problems(path: String, _ settings: TrainerSettings, rows: [TokenizedExample]) -> [String] {
        var problems: [String] = []
        func check(_ isRight: Bool, _ key: String, _ value: Int, _ expected: String) {
            if !isRight { problems.append("state.json: \(key) is \(value), expected \(expected)") }
        }
        let step = counters.step
        check(
            step <= settings.totalSteps && Checkpoint.step(ofName: splitPath(path).name) == step, "step", step,
            "that of the folder's name, at most \(settings.totalSteps)")
        check(optimizerStep <= step, "optimizer_step", optimizerStep, "at most the step \(step)")
        // Each step takes at most a batch of the longest rows.
        let batch = rows.reduce(1) { max($0, $1.tokenCount) }.multipliedReportingOverflow(by: settings.batchSize)
        let most = batch.partialValue.multipliedReportingOverflow(by: max(optimizerStep, 0))
        if !batch.overflow, !most.overflow {
            check(counters.tokens <= most.partialValue, "tokens", counters.tokens, "at most \(most.partialValue)")
        }
        check(
            (counters.tokens > 0) == (optimizerStep > 0), "tokens", counters.tokens,
            optimizerStep > 0 ? "some, after \(optimizerStep) steps" : "none, before any step")
        check(
            counters.trainedTokens <= counters.tokens, "trained_tokens", counters.trainedTokens,
            "at most the \(counters.tokens) of tokens")
        if let best = counters.bestEvalStep { check(best <= step, "best_eval_step", best, "at most the step \(step)") }
        return problems
    }
}
