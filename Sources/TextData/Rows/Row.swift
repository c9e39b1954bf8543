public import FileFormats

/// Messages, and which of them are trained.
public struct Conversation: Sendable {
    /// Objects with `role`, `content` and so on, as templates see them.
    public var messages: [JSONValue]
    public var tools: JSONValue?
    /// Further variables of the template.
    public var variables: JSONObject
    /// Which messages the row itself allows to be trained; the options choose among these.
    public var isTrainable: [Bool]
    /// What the losses of each message's tokens are multiplied with; nil: 1.
    public var weights: [Float]?

    public init(
        messages: [JSONValue], tools: JSONValue? = nil, variables: JSONObject = JSONObject(),
        isTrainable: [Bool]? = nil, weights: [Float]? = nil
    ) {
        self.messages = messages
        self.weights = weights
        self.tools = tools
        self.variables = variables
        self.isTrainable = isTrainable ?? messages.map { $0["role"]?.stringValue == "assistant" }
    }
}

/// One row of training data.
public indirect enum Row: Sendable {
    case conversation(Conversation)
    /// `{"instruction", "input", "output"}`: a conversation, or plain text where the model has no template.
    case instruction(system: String, history: [(String, String)], prompt: String, output: String)
    /// Text to go on from, and text to learn.
    case completion(prompt: String, completion: String)
    case text(String)
    case tokens(TokenizedExample)
    /// Two answers to one prompt, each with it.
    case preference(chosen: Row, rejected: Row)
    /// An answer with its prompt, and whether it is good.
    case judged(Row, isGood: Bool)

    /// Every key that a row may have.
    public static let knownKeys =
        [
            "messages", "conversations", "tools", "functions", "system", "instruction", "input", "output", "history",
            "prompt", "completion", "label", "kto_tag", "chosen", "rejected", "rejected_response", "text", "input_ids",
            "labels", "attention_mask", "position_ids", "seq_lengths", "chat_template_kwargs", "prompt_ids",
            "completion_ids", "chosen_ids", "rejected_ids",
        ] + RowReader.tokenMasks + RowReader.media.map(\.key) + RowReader.refusedKeys

    /// Recognises the shape of a row by its keys.
    ///
    /// - Parameter shape: what the row has to be; nil leaves it to its keys.
    /// - Throws: `RowError` with what is wrong with the row.
    public init(_ value: JSONValue, as shape: RowShape? = nil) throws { self = try Self.read(value, as: shape).row }

    /// The same with what came to light.
    static func read(_ value: JSONValue, as shape: RowShape? = nil) throws -> ReadRow {
        guard let object = value.objectValue else { throw RowError("expected an object, found \(value.kindName)") }
        guard let shape = shape ?? RowShape(of: object) else { throw RowShape.error(for: object) }
        let reader = try RowReader(object, as: shape)
        try reader.refuseWhatIsNotRead(in: shape)
        let row: Row =
            switch shape {
            case .tokens: .tokens(try reader.tokens())
            case .messages: .conversation(try reader.conversation(under: "messages"))
            case .sharegpt: .conversation(try reader.conversation(under: "conversations"))
            case .alpaca: try reader.instruction()
            case .completion: try reader.completion()
            case .text: .text(try reader.string("text"))
            case .preference: try reader.preference()
            case .kto: try reader.judged()
            }
        return ReadRow(
            row: row, shape: shape, notes: reader.record.notes, unread: reader.record.unread(of: reader.object))
    }
}

/// What is wrong with a row; the place is known to who reads the file.
public struct RowError: Error, Sendable {
    public var reason: String
    /// Set for damage that can be accepted by name.
    var lint: Lint?
    public init(_ reason: String) { self.reason = reason }
    init(_ reason: String, lint: Lint) {
        self.reason = reason
        self.lint = lint
    }
}
