public import FileFormats

/// What can be wrong with a tokenizer's files, or with a text that its pattern cannot split.
public enum TokenizerError: GraftError {
    /// No file, or a folder without any tokenizer file.
    case missing(path: String, looked: [String])
    case unreadable(path: String, reason: String)
    /// The file is not JSON, or not of the shape of a tokenizer.json; `place` is a path such as `model.vocab`.
    case malformed(path: String, place: String, reason: String)
    /// A part that graft does not know.
    case unsupported(path: String, place: String, found: String)
    /// Everything that is wrong with the ids and the merges, at most a few of each sort.
    case inconsistent(path: String, problems: [String])
    case invalidPattern(pattern: String, reason: String)
    /// The regular expression backtracks without end on this text.
    case patternTooSlow(pattern: String, byteOffset: Int)
    case textTooLong(bytes: Int)
    /// Text that the vocabulary does not cover, and no token for the unknown.
    case uncovered(byteOffset: Int)

    public var exitStatus: ExitStatus {
        switch self {
        case .missing: .missingInput
        case .unreadable: .io
        default: .badInput
        }
    }

    public var problems: [String] {
        if case .inconsistent(_, let problems) = self { problems } else { [] }
    }

    public var description: String {
        switch self {
        case .missing(let path, let looked):
            "\(path): no tokenizer found (looked for \(looked.joined(separator: ", "))); give a model folder or a "
                + "tokenizer.json"
        case .unreadable(let path, let reason):
            "\(path): cannot be read: \(reason)"
        case .malformed(let path, let place, let reason):
            "\(path): \(place.isEmpty ? "" : "\(place): ")\(reason); is the file complete?"
        case .unsupported(let path, let place, let found):
            "\(path): \(place): \(found) is not supported; convert the tokenizer to one of the supported kinds"
        case .inconsistent(let path, let problems):
            "\(path): the tokenizer contradicts itself:\n  " + problems.joined(separator: "\n  ")
                + "\ntake the tokenizer files from the model's publisher again"
        case .invalidPattern(let pattern, let reason):
            "the tokenizer's regular expression \(shortened(pattern)) is not valid: \(reason)"
        case .patternTooSlow(let pattern, let byteOffset):
            "the tokenizer's regular expression \(shortened(pattern)) backtracks without end at byte \(byteOffset) of "
                + "the text; replace the pattern or split the text"
        case .uncovered(let byteOffset):
            "the tokenizer has no token for the text at byte \(byteOffset), and none for unknown text; take that text "
                + "out or give the model an unknown token"
        case .textTooLong(let bytes):
            "a text of \(bytes) bytes is too long to encode at once; split it into rows below 4 GiB"
        }
    }
}

/// At most 80 scalars of a text from a file, for messages.
func shortened(_ text: String) -> String {
    let scalars = text.unicodeScalars
    guard scalars.count > 80 else { return "\"\(text)\"" }
    return "\"\(String(String.UnicodeScalarView(scalars.prefix(77))))...\""
}
