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
