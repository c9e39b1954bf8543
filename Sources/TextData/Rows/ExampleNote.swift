/// Things that are right but worth knowing, told with the rows they were found in.
enum ExampleNote: String, Hashable, Sendable, CaseIterable, Codable {
    /// The template writes earlier turns differently once the conversation goes on.
    case rewrittenTurns
    /// What is trained does not end with the end of the turn.
    case noStopToken
    case noTemplate
    /// Prompts that come as texts, for a model with a chat template.
    case plainPrompt
    /// Tools, calls, results or messages that the template leaves out.
    case droppedParts
    /// Nulls in tools and calls that no schema asks for.
    case nullValues
    /// Messages that came as JSON text.
    case messageText
    /// The chosen answer is the rejected one.
    case sameAnswers
    /// A text with turns of the chat template in it.
    case renderedText
    /// A thought that is begun and not ended.
    case openThought
    /// Roles that neither people nor templates know, beside turns that are trained.
    case otherRoles

    func warning(_ rows: NotedRows) -> String {
        "\(rows.count) row\(rows.count == 1 ? "" : "s"): \(text): \(rows.list)\(advice.map { "; " + $0 } ?? "")"
    }

    private var text: String {
        switch self {
        case .rewrittenTurns:
            "the chat template writes earlier turns differently once the conversation goes on (it may drop their "
                + "reasoning); they are trained as they stand in the whole conversation"
        case .noStopToken: "no token that ends a turn ends what is trained; the model may not learn where to stop"
        case .noTemplate: "instruction rows are trained as plain text, because the model has no chat template"
        case .plainPrompt:
            "prompt and answer are trained as plain text, without the chat template that chat programs use"
        case .droppedParts:
            "the chat template leaves out tools, calls of them, their results or messages, and the model would train "
                + "on conversations with a gap"
        case .nullValues: "values that are null are learned as they stand"
        case .messageText: "JSON text was taken as the messages that it holds"
        case .sameAnswers: "the chosen and the rejected answer are the same, so that nothing is learned of them"
        case .renderedText:
            "the text holds turns of the chat template; questions are trained like answers, and the end of text follows "
                + "the end of the last turn"
        case .openThought: "a thought is begun with <think> and not ended with </think>"
        case .otherRoles: "messages have roles that are not trained, though they may be answers"
        }
    }

    private var advice: String? {
        switch self {
        case .plainPrompt:
            "to train with it, name the prompt's key instruction (see columns; the answer's is output, or chosen and "
                + "rejected), or give lists of messages"
        case .droppedParts: "use a chat template that writes them, or take them out of the rows"
        case .nullValues: "Arrow fills in keys that other rows have; write rows without them where they mean nothing"
        case .renderedText: "to train answers alone, give the conversation as \"messages\""
        case .otherRoles: "graft trains the role \"assistant\"; rename them if they are answers"
        default: nil
        }
    }
}

/// How many rows something was found in, and the first of them.
struct NotedRows: Codable, Sendable {
    struct Place: Codable, Sendable {
        var file: String?
        var row: Int
        var detail: String
    }
    private static let limit = 10
    private(set) var count = 0
    private(set) var places: [Place] = []

    mutating func add(file: String?, row: Int, _ detail: String) {
        count += 1
        if places.count < Self.limit { places.append(Place(file: file, row: row, detail: detail)) }
    }

    func merging(_ other: NotedRows) -> NotedRows {
        var result = self
        result.count += other.count
        result.places = Array((places + other.places).prefix(Self.limit))
        return result
    }

    /// `a.jsonl row 1 (what), row 3; b.jsonl row 2; and more`
    var list: String {
        var text = ""
        var last: Place?
        for place in places {
            let isSameFile = last.map { ($0.file ?? "").utf8.elementsEqual((place.file ?? "").utf8) } ?? false
            if let last { text += isSameFile && last.detail.isEmpty ? ", " : "; " }
            if !isSameFile, let file = place.file { text += file + " " }
            text += "row \(place.row)" + (place.detail.isEmpty ? "" : " (\(place.detail))")
            last = place
        }
        return text + (count > places.count ? "; and more" : "")
    }
}
