public import FileFormats
import Foundation
public import TensorCore

/// Where the time of a run's steps went, held against the rate of matrix products measured after them.
///
/// The first step is left out of all but its own time: it touches the weights and makes the products.
public struct TrainingProfile {
    public private(set) var steps = 0
    public private(set) var tokens = 0
    /// From the start of the run to the end of its first step, on the clock.
    public private(set) var firstStepSeconds = 0.0
    /// Steps alone, without evaluation and checkpoints.
    public private(set) var seconds = 0.0
    /// Of the median step by tokens a second.
    public private(set) var medianTokensPerSecond = 0.0
    /// By the formula of `OperationCount`.
    public private(set) var operations = 0.0
    public private(set) var peakResidentBytes = 0
    public private(set) var rate: ProductRate?
    public private(set) var measured = Profile()

    private var rates: [Double] = []
    private let began = Date()

    mutating func add(_ step: TrainerEvent.Step, _ pool: WorkerPool) {
        peakResidentBytes = step.peakResidentBytes
        guard firstStepSeconds > 0 else {
            firstStepSeconds = Date().timeIntervalSince(began)
            pool.beginProfile()
            return
        }
        steps += 1
        tokens += step.tokens
        seconds += step.seconds
        operations += step.operations
        rates.append(Double(step.tokens) / max(step.seconds, 1e-9))
        medianTokensPerSecond = rates.sorted()[rates.count / 2]
        if let profile = pool.measuredProfile { measured = profile }
    }

    mutating func finish(_ dtype: DType, _ pool: WorkerPool) {
        rate = [ProductRate.measure(dtype, pool: pool), .measure(dtype, pool: pool)]
            .max { $0.operationsPerSecond < $1.operationsPerSecond }
    }

    /// The share of the rate of products that the steps reach, by the median step.
    public var fractionOfRate: Double {
        guard let rate, tokens > 0 else { return 0 }
        return operations / Double(tokens) * medianTokensPerSecond / rate.operationsPerSecond
    }

    /// The rows of the table by falling time, with shares of all workers' time.
    private var rows: [(name: String, entry: Profile.Entry)] {
        var rows = measured.entries.map { (name: $0.key.name, entry: $0.value) }.filter { $0.entry.seconds > 0 }
        rows.append((name: "waiting", entry: .init(seconds: measured.waitingSeconds)))
        rows.append((name: "one thread", entry: .init(seconds: measured.serialSeconds * Double(measured.threads))))
        return rows.sorted { $0.entry.seconds > $1.entry.seconds }
    }

    public var json: JSONObject {
        func rounded(_ value: Double, _ unit: Double = 1e6) -> JSONValue { .double((value * unit).rounded() / unit) }
        let operationRows = rows.map { name, entry -> JSONValue in
            .object(
                JSONObject([
                    ("operation", .string(name)), ("worker_seconds", rounded(entry.seconds)),
                    ("product_seconds", rounded(entry.productSeconds)),
                    ("product_operations", .double(entry.productOperations)), ("bytes", .double(entry.bytes)),
                ]))
        }
        return JSONObject([
            ("threads", .integer(measured.threads)), ("steps", .integer(steps)), ("tokens", .integer(tokens)),
            ("seconds", rounded(seconds)), ("first_step_seconds", rounded(firstStepSeconds)),
            ("tokens_per_second", rounded(Double(tokens) / max(seconds, 1e-9), 10)),
            ("median_tokens_per_second", rounded(medianTokensPerSecond, 10)),
            ("operations", .double(operations)),
            ("product_rate", .double((rate?.operationsPerSecond ?? 0).rounded())),
            ("fraction_of_product_rate", rounded(fractionOfRate, 1e4)),
            ("peak_rss_bytes", .integer(peakResidentBytes)), ("loops", .integer(measured.loops)),
            ("operation_table", .array(operationRows)),
        ])
    }

    /// For people: a line on the whole and a table by operation, a step's average.
    public var text: String {
        func pad(_ text: String, _ width: Int) -> String {
            String(repeating: " ", count: max(0, width - text.count)) + text
        }
        let perStep = 1 / Double(max(1, steps)), total = rows.reduce(0) { $0 + $1.entry.seconds }
        var lines = [
            String(
                format: "%.0f tokens/s, %.1f %% of the rate of products (%.0f GFLOP/s); the median of %d steps",
                medianTokensPerSecond, 100 * fractionOfRate, (rate?.operationsPerSecond ?? 0) * 1e-9, steps),
            "operation               ms of workers  share  in products   GFLOP/s   GB moved",
        ]
        for (name, entry) in rows {
            let speed =
                entry.productSeconds > 0
                ? String(format: "%.0f", entry.productOperations / entry.productSeconds * 1e-9) : "-"
            lines.append(
                name + String(repeating: " ", count: max(1, 24 - name.utf8.count))
                    + pad(String(format: "%.1f", entry.seconds * perStep * 1000), 13)
                    + pad(String(format: "%.1f%%", 100 * entry.seconds / max(total, 1e-9)), 7)
                    + pad(String(format: "%.1f%%", 100 * entry.productSeconds / max(entry.seconds, 1e-9)), 13)
                    + pad(speed, 10) + pad(String(format: "%.2f", entry.bytes * perStep * 1e-9), 11))
        }
        return lines.joined(separator: "\n")
    }
}
