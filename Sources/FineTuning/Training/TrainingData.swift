public import TextData

/// What a run trains and evaluates on, tokenised.
public struct TrainingData: Sendable {
    /// A row to try the model on before and after the run.
    public struct Sample: Sendable {
        public var prompt: [Int32]
        public var promptText: String
        public var expected: String

        public init(prompt: [Int32], promptText: String, expected: String) {
            self.prompt = prompt
            self.promptText = promptText
            self.expected = expected
        }
    }

    public var train: [TokenizedExample]
    public var eval: [TokenizedExample]
    public var samples: [Sample] = []
    /// Files read, for the manifest.
    public var trainFiles: [String] = []
    public var evalFiles: [String] = []
    /// Name and value of what the reader should know: rows, dropped, truncated...
    public var statistics: [(name: String, value: String)] = []
    /// The chat template's source, when rows went through one.
    public var template: String?
    /// What the template was told that today is, where it asks.
    var day: CivilTime?
    /// Ids that end a turn or a text.
    public var stopTokens: Set<Int32> = []
    /// Ids to text, when there is a tokenizer.
    public var decode: (@Sendable ([Int32]) -> String)?

    public init(train: [TokenizedExample], eval: [TokenizedExample]) {
        self.train = train
        self.eval = eval
    }
}
