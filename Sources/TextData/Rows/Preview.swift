internal import FileFormats

/// A run of tokens of an example that are all trained, or all not.
public struct TrainedPiece: Sendable {
    /// Decoded, with control characters as escapes, so that text from a data file cannot steer the terminal.
    public var text: String
    public var isTrained: Bool
}

/// The text of an example in runs of trained and untrained tokens; ids where there is no tokenizer.
///
/// The first token is predicted by nothing and so never trained. Cut after `limit` tokens.
public func trainedPieces(_ example: TokenizedExample, tokenizer: Tokenizer?, limit: Int = 2_000) -> [TrainedPiece] {
    var pieces: [TrainedPiece] = []
    var start = 0
    let count = min(example.ids.count, limit)
    func isTrained(_ i: Int) -> Bool { i > 0 && example.isTrained[i] }
    while start < count {
        var end = start + 1
        while end < count, isTrained(end) == isTrained(start) { end += 1 }
        let ids = example.ids[start..<end]
        // Decoded as a run: one token may hold a part of a character only.
        let text =
            tokenizer.map { printable($0.decode(ids, skipSpecialTokens: false)) }
            ?? ids.map(String.init).joined(separator: " ") + " "
        pieces.append(TrainedPiece(text: text, isTrained: isTrained(start)))
        start = end
    }
    if count < example.ids.count {
        pieces.append(TrainedPiece(text: " ... (\(example.ids.count - count) more tokens)", isTrained: false))
    }
    return pieces
}

/// The pieces for a person: what is trained in green, or between `[[` and `]]` where colours cannot be shown.
public func renderPieces(_ pieces: [TrainedPiece], colour: Bool) -> String {
    pieces.map { piece in
        guard piece.isTrained else { return piece.text }
        return colour ? "\u{1B}[1;32m\(piece.text)\u{1B}[0m" : "[[\(piece.text)]]"
    }.joined()
}
