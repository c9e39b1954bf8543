/// Damage to a data set that training would learn without a word. Each is refused until it is accepted by its name.
public enum Lint: String, Sendable, CaseIterable, Codable {
    case noTrainedToken = "no_trained_token"
    case noEndOfTurn = "no_end_of_turn"
    case doubleBOS = "double_bos"
    case templateMarkers = "template_markers"
    case roleOrder = "role_order"
    case truncatedLabels = "truncated_labels"
    case duplicateRows = "duplicate_rows"
    case invalidUnicode = "invalid_unicode"
    case replacementCharacters = "replacement_characters"
    case mixedNormalization = "mixed_normalization"
    case byteFallback = "byte_fallback"
    case judgedRows = "judged_rows"
    case missingAnswer = "missing_answer"
    case mediaPlaceholder = "media_placeholder"

    /// What is wrong, in a few words.
    public var title: String {
        switch self {
        case .noTrainedToken: "nothing is trained"
        case .noEndOfTurn: "no end-of-turn token is trained: the model would not learn to stop"
        case .doubleBOS: "the text begins with two beginning-of-text tokens"
        case .templateMarkers: "the content holds markers of the chat template"
        case .roleOrder: "the chat template refuses the conversation"
        case .truncatedLabels: "cutting at max_length removes all that is trained"
        case .duplicateRows: "the evaluation row is a training row, too"
        case .invalidUnicode: "the text is no valid Unicode"
        case .replacementCharacters: "the text holds U+FFFD, which stands for what an earlier program could not read"
        case .mixedNormalization: "the text is not in NFC, while other rows are: the same word has two spellings"
        case .byteFallback: "the tokenizer spells letters of the text in single bytes: it does not know the script"
        case .judgedRows: "answers are judged, and the objective would learn the bad ones like the good ones"
        case .missingAnswer: "the answer is a word that programs write where a value is missing (nan, None, null)"
        case .mediaPlaceholder: "the text stands beside a picture, film or sound that graft does not read"
        }
    }

    /// What to do about it, and what accepting it means.
    public var fix: String {
        let accept = "(data.accept, --accept \(rawValue))"
        return switch self {
        case .noTrainedToken: "give the rows an answer, see train_on, or leave them out by accepting it \(accept)"
        case .noEndOfTurn:
            "use a chat template that ends the assistant's turn with a special token, name the end of text "
                + "(eos_token_id in config.json) where there is no template, or accept it \(accept)"
        case .doubleBOS: "take the token out of the text or the template, or accept it \(accept)"
        case .templateMarkers: "take them out of the contents, or accept it \(accept)"
        case .roleOrder: "bring the roles into the order that the template takes, or leave the rows out \(accept)"
        case .truncatedLabels: "raise max_length, use overlong: split or drop, or leave the rows out \(accept)"
        case .duplicateRows: "take the rows out of one of the two sets, or accept it \(accept)"
        case .invalidUnicode: "save the file as UTF-8 without lone surrogates, or leave the rows out \(accept)"
        case .replacementCharacters:
            "make the rows again from their source with the right encoding, or accept it \(accept)"
        case .mixedNormalization: "bring all text into NFC, or accept it \(accept)"
        case .byteFallback: "use a model whose tokenizer was made for the script, or accept it \(accept)"
        case .judgedRows:
            "choose an objective that learns from them (dpo, kto and others), or learn the good answers alone and leave the "
                + "bad ones out by accepting it \(accept); a label that judges nothing goes by format (data.format, --format)"
        case .missingAnswer:
            "fill in the answers or take the rows out; where the word is the answer, accept it \(accept)"
        case .mediaPlaceholder: "leave the rows out; where the word stands for itself, accept it \(accept)"
        }
    }

    /// Rows with this cannot be used at all: accepting leaves them out.
    var leavesOut: Bool {
        [.noTrainedToken, .roleOrder, .invalidUnicode, .truncatedLabels, .judgedRows].contains(self)
    }
}

/// One finding about one row.
struct LintFinding: Sendable {
    var lint: Lint
    var detail: String
}
