public import FileFormats
import Foundation
public import TensorCore
public import TextData

/// How well a model does on rows.
public struct Evaluation: Sendable {
    /// One row's question and answers.
    public struct Answer: Sendable {
        public var prompt: String
        public var expected: String
        public var answer: String
        public var isMatch: Bool

        public var json: JSONValue {
            .object(
                JSONObject([
                    ("prompt", .string(prompt)), ("expected", .string(expected)), ("answer", .string(answer)),
                    ("match", .bool(isMatch)),
                ]))
        }
    }

    public var rows = 0
    public var tokens = 0
    public var trainedTokens = 0
    /// Mean over the trained tokens, in nats.
    public var loss = 0.0
    /// UTF-8 bytes of the trained text; nil without a tokenizer.
    public var trainedBytes: Int?
    /// The numbers, from 0, of examples whose loss is not a number; not looked for where the mean is one.
    public var badExamples: [Int] = []
    /// Rows that were answered; empty when answers were not asked for.
    public var answers: [Answer] = []

    public var perplexity: Double { exp(loss) }
    /// The loss of all trained tokens over the bytes they spell, in bits: comparable between tokenizers.
    public var bitsPerByte: Double? {
        trainedBytes.flatMap { $0 > 0 ? loss * Double(trainedTokens) / log(2) / Double($0) : nil }
    }
    public var matches: Int { answers.count(where: \.isMatch) }
    /// The share of answered rows whose answer is the expected one, byte for byte.
    public var exactMatch: Double? { answers.isEmpty ? nil : Double(matches) / Double(answers.count) }

    static let badExampleLimit = 10

    public init() {}

    public var json: JSONObject {
        func number(_ value: Double?) -> JSONValue { value.flatMap { $0.isFinite ? .double($0) : nil } ?? .null }
        return JSONObject([
            ("rows", .integer(rows)), ("tokens", .integer(tokens)), ("trained_tokens", .integer(trainedTokens)),
            ("loss", number(loss)), ("perplexity", number(perplexity)), ("bits_per_byte", number(bitsPerByte)),
            ("answered", .integer(answers.count)), ("exact_matches", .integer(matches)),
            ("exact_match", number(exactMatch)),
        ])
    }
}

/// What an evaluation does beside the loss.
public struct EvaluationOptions: Sendable {
    /// Rows to answer, from the first; 0 computes losses only.
    public var answeredRows = Int.max
    /// Tokens of the longest answer; nil takes the longest expected one and a few more.
    public var maxTokens: Int?
    public var microbatchTokens = 2048
    public init() {}
}

extension DecoderModel {
    /// Evaluates the model on examples: the mean loss and, with a tokenizer, greedy answers held against the data's.
    ///
    /// An answer is asked for at the last trained run of an example and is right when its text has the same bytes as
    /// the data's, special tokens and white space around both left out.
    public func evaluate(
        _ examples: [TokenizedExample], text: TextResources?, options: EvaluationOptions = EvaluationOptions(),
        pool: WorkerPool, progress: (String) -> Void = { _ in }
    ) -> Evaluation {
        var result = Evaluation()
        result.rows = examples.count
        result.tokens = examples.reduce(0) { $0 + $1.ids.count }
        progress("computing losses")
        let mean = meanLoss(self, examples, microbatchTokens: options.microbatchTokens, pool: pool)
        (result.loss, result.trainedTokens) = (mean.loss, mean.tokens)
        if !mean.loss.isFinite {
            result.badExamples = examples.indices.lazy.filter { index in
                let own = meanLoss(
                    self, [examples[index]], microbatchTokens: options.microbatchTokens, pool: pool)
                return own.tokens > 0 && !own.loss.isFinite
            }.prefix(Evaluation.badExampleLimit).map { $0 }
            // Answers would say nothing.
            return result
        }
        guard let text else { return result }
        result.trainedBytes = examples.reduce(0) { sum, example in
            let trained = example.ids.indices.dropFirst().filter { example.isTrained[$0] }.map { example.ids[$0] }
            return sum + text.tokenizer.decode(trained, skipSpecialTokens: true).utf8.count
        }
        let prompts = examples.prefix(options.answeredRows).compactMap(SamplePrompt.init)
        guard !prompts.isEmpty else { return result }
        var generation = GenerationOptions()
        generation.maxTokens = options.maxTokens ?? (prompts.map(\.expected.count).max() ?? 0) + 16
        generation.stopTokens = text.stopTokens(after: prompts.flatMap(\.expected))
        // In groups, so that progress shows.
        let group = max(pool.count * 4, 8)
        for start in stride(from: 0, to: prompts.count, by: group) {
            progress("answering row \(start + 1) of \(prompts.count)")
            let part = Array(prompts[start..<min(start + group, prompts.count)])
            let made = generate(prompts: part.map(\.prompt), options: generation, pool: pool)
            for (prompt, answer) in zip(part, made) {
                let expected = text.tokenizer.decode(prompt.expected, skipSpecialTokens: true).trimmed
                let given = text.tokenizer.decode(answer.tokens, skipSpecialTokens: true).trimmed
                result.answers.append(
                    Evaluation.Answer(
                        prompt: text.tokenizer.decode(prompt.prompt, skipSpecialTokens: true), expected: expected,
                        answer: given, isMatch: expected.hasSameBytes(as: given)))
            }
        }
        return result
    }
}

extension String {
    fileprivate var trimmed: String { trimmingCharacters(in: .whitespacesAndNewlines) }
}
