public import FileFormats
import Foundation

/// What one optimiser step did: a line of `metrics.jsonl`.
public struct StepMetrics: Sendable {
    /// Optimiser steps taken, counted from 1.
    public var step: Int
    /// The mean over the step's trained tokens, in nats.
    public var loss: Double
    public var learningRate: Double
    /// The global norm before clipping.
    public var gradNorm: Double
    /// Tokens of the step, trained or not.
    public var tokens: Int
    public var trainedTokens: Int
    public var tokensPerSecond: Double
    public var peakRSSBytes: Int
    /// Since the run began, time before a resume included.
    public var elapsedSeconds: Double
    /// What the objective has to say beside the loss, under TRL's names.
    public var metrics: [Metric]

    public init(
        step: Int, loss: Double, learningRate: Double, gradNorm: Double, tokens: Int, trainedTokens: Int,
        tokensPerSecond: Double, peakRSSBytes: Int, elapsedSeconds: Double, metrics: [Metric] = []
    ) {
        self.metrics = metrics
        self.step = step
        self.loss = loss
        self.learningRate = learningRate
        self.gradNorm = gradNorm
        self.tokens = tokens
        self.trainedTokens = trainedTokens
        self.tokensPerSecond = tokensPerSecond
        self.peakRSSBytes = peakRSSBytes
        self.elapsedSeconds = elapsedSeconds
    }

    public var json: JSONObject {
        let fields: [(String, JSONValue)] = [
            ("step", .integer(step)), ("loss", .double(loss)), ("learning_rate", .double(learningRate)),
            ("grad_norm", .double(gradNorm)), ("tokens", .integer(tokens)),
            ("trained_tokens", .integer(trainedTokens)),
            ("tokens_per_second", .double((tokensPerSecond * 10).rounded() / 10)),
            ("peak_rss_bytes", .integer(peakRSSBytes)),
            ("elapsed_seconds", .double((elapsedSeconds * 1000).rounded() / 1000)),
        ]
        return JSONObject(fields + metrics.map { ($0.name, .double($0.value)) })
    }
}

/// What an evaluation during training found: a line of `metrics.jsonl` with `eval_loss` in place of `loss`.
public struct EvalMetrics: Sendable {
    public var step: Int
    /// The mean over the trained tokens of the evaluation rows, in nats.
    public var loss: Double
    /// Evaluation rows it was made on.
    public var rows: Int
    public var trainedTokens: Int
    public var elapsedSeconds: Double
    /// What the objective has to say beside the loss; `eval_` is put before TRL's names.
    public var metrics: [Metric]

    public init(
        step: Int, loss: Double, rows: Int, trainedTokens: Int, elapsedSeconds: Double, metrics: [Metric] = []
    ) {
        self.rows = rows
        self.metrics = metrics
        self.step = step
        self.loss = loss
        self.trainedTokens = trainedTokens
        self.elapsedSeconds = elapsedSeconds
    }

    public var json: JSONObject {
        let fields: [(String, JSONValue)] = [
            ("step", .integer(step)), ("eval_loss", .double(loss)), ("eval_rows", .integer(rows)),
            ("eval_tokens", .integer(trainedTokens)),
            ("elapsed_seconds", .double((elapsedSeconds * 1000).rounded() / 1000)),
        ]
        return JSONObject(fields + metrics.map { ("eval_" + $0.name, .double($0.value)) })
    }
}

/// The evaluations that a log tells of.
public struct EvaluationCurve: Sendable {
    /// The losses over the same rows, in nats.
    public private(set) var points: [(step: Int, loss: Double)] = []
    /// The last evaluation, which may be over more rows.
    public private(set) var final: (step: Int, loss: Double, rows: Int?)?
    /// The rows that the points' losses are over; nil where the log does not say.
    public private(set) var pointRows: Int?

    /// - Parameter lines: of `metrics.jsonl`, in order.
    public init(_ lines: [JSONObject]) {
        for line in lines {
            guard let step = line["step"]?.intValue, let loss = line["eval_loss"]?.doubleValue else { continue }
            let count = line["eval_rows"]?.intValue
            final = (step, loss, count)
            if points.isEmpty { pointRows = count }
            if pointRows == count { points.append((step, loss)) }
        }
    }
}

/// Appends to `metrics.jsonl`, one object a line, each line with one write.
public final class MetricsLog {
    public let path: String
    private let descriptor: Int32
    /// Whether the last line could not be written whole, as on a full disk: readers leave such a line out.
    private var isTorn = false
    /// Step and rows of the evaluations that the log has already: one that a resumed run makes again is not told twice.
    private var evaluations: Set<[Int]> = []

    /// Opens the log for appending.
    ///
    /// - Parameter step: lines of later steps, and a torn last line, are removed: a resumed run writes them again.
    /// - Throws: `FileError.io`.
    public init(path: String, keepingThrough step: Int = 0) throws {
        self.path = path
        if isPresent(path) {
            var kept: [UInt8] = []
            for line in try readFile(path, limit: 1 << 32).split(separator: UInt8(ascii: "\n")) {
                guard let value = try? JSONParser.parse(Array(line)), let lineStep = value["step"]?.intValue,
                    lineStep <= step
                else { continue }
                if value["eval_loss"] != nil { evaluations.insert([lineStep, value["eval_rows"]?.intValue ?? 0]) }
                kept += line + [UInt8(ascii: "\n")]
            }
            try AtomicFile.write(kept, to: path, replacing: true)
        }
        var opened: Int32
        repeat {
            opened = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o666)
        } while opened < 0 && errno == EINTR
        descriptor = opened
        guard descriptor >= 0 else { throw FileError.io(operation: "open", path: path, code: errno) }
    }

    deinit { close(descriptor) }

    public func append(_ object: JSONObject) throws {
        var bytes = (isTorn ? [UInt8(ascii: "\n")] : []) + JSONWriter.bytes(Self.finite(.object(object)))
        bytes.append(UInt8(ascii: "\n"))
        var written = 0
        while written < bytes.count {
            let count = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress! + written, $0.count - written) }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else {
                isTorn = isTorn || written > 0
                throw FileError.io(operation: "write", path: path, code: errno)
            }
            written += count
        }
        isTorn = false
    }

    public func append(_ metrics: StepMetrics) throws { try append(metrics.json) }
    public func append(_ metrics: EvalMetrics) throws {
        if !evaluations.contains([metrics.step, metrics.rows]) { try append(metrics.json) }
    }

    /// Makes what was appended survive a crash of the machine.
    public func synchronize() throws {
        while fsync(descriptor) != 0 {
            if errno != EINTR { throw FileError.io(operation: "synchronise", path: path, code: errno) }
        }
    }

    /// JSON has no NaN and no infinity: null stands for them.
    private static func finite(_ value: JSONValue) -> JSONValue {
        switch value {
        case .double(let number) where !number.isFinite: .null
        case .array(let elements): .array(elements.map(finite))
        case .object(let object): .object(JSONObject(object.entries.map { (key: $0.key, value: finite($0.value)) }))
        default: value
        }
    }

    /// All lines of a log; a torn last line is left out.
    public static func read(_ path: String) throws -> [JSONObject] {
        try readFile(path, limit: 1 << 32).split(separator: UInt8(ascii: "\n")).compactMap {
            (try? JSONParser.parse(Array($0)))?.objectValue
        }
    }
}
