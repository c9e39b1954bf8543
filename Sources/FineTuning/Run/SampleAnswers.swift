import Foundation
public import TensorCore
public import TextData

/// A prompt from the data, with the answer that follows it there.
public struct SamplePrompt: Sendable {
    public var prompt: [Int32]
    public var expected: [Int32]

    /// Cuts an example before its last trained run: what comes before is the prompt, the run is the answer.
    ///
    /// A text that is trained from its start is cut in its middle. Nil when nothing is left to ask.
    public init?(_ example: TokenizedExample) {
        guard let last = example.isTrained.lastIndex(of: true) else { return nil }
        var first = last
        while first > 0, example.isTrained[first - 1] { first -= 1 }
        if first <= 1 { first = (last + 1) / 2 }
        guard first > 0, first <= last else { return nil }
        prompt = Array(example.ids[..<first])
        expected = Array(example.ids[first...last])
    }
}

/// The model's answers to some prompts of the data, for the report.
struct SampleAnswers {
    let prompts: [SamplePrompt]
    let options: GenerationOptions
    private let text: TextResources

    static let count = 4
    static let longestAnswer = 128
    /// About how long the samples of one side may take, in seconds.
    private static let budget = 15.0

    /// Takes prompts from all over the set.
    init(_ set: ExampleSet, text: TextResources, config: ModelConfig, dtype: DType) {
        let candidates = set.examples.filter { $0.ids.count < config.maxPositions }
        let picked = candidates.isEmpty ? [] : (0..<min(Self.count, candidates.count)).map {
            candidates[$0 * candidates.count / min(Self.count, candidates.count)]
        }
        prompts = picked.compactMap(SamplePrompt.init)
        self.text = text
        // Making a token reads all weights once; about 8 GB/s of that is a safe guess.
        let secondsPerToken = Double(config.parameterCount * dtype.size) / 8e9
        let affordable = Int(Self.budget / max(1e-9, secondsPerToken) / Double(max(1, prompts.count)))
        var options = GenerationOptions()
        options.maxTokens = max(8, min(Self.longestAnswer, affordable))
        options.stopTokens = text.stopTokens(after: prompts.flatMap(\.expected))
        self.options = options
    }

    func answers(_ model: DecoderModel, pool: WorkerPool) -> [String] {
        model.generate(prompts: prompts.map(\.prompt), options: options, pool: pool).map {
            text.tokenizer.decode($0.tokens, skipSpecialTokens: true)
        }
    }

    func samples(before: [String], after: [String]) -> [RunReport.Sample] {
        prompts.indices.map { i in
            RunReport.Sample(
                prompt: text.tokenizer.decode(prompts[i].prompt, skipSpecialTokens: false),
                expected: text.tokenizer.decode(prompts[i].expected, skipSpecialTokens: true),
                before: i < before.count ? before[i] : "", after: i < after.count ? after[i] : "")
        }
    }
}
