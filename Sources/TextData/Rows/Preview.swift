/// The text of an example, with what is trained set apart: green when in colour, otherwise between `⟦` and `⟧`.
///
/// Control characters are shown as escapes, so that text from a data file cannot steer the terminal. Cut after
/// `limit` tokens.
public func renderPreview(
    _ example: TokenizedExample, tokenizer: Tokenizer, colour: Bool, limit: Int = 2_000
) -> String {
    var result = ""
    var start = 0
    let count = min(example.ids.count, limit)
    while start < count {
        let isTrained = example.isTrained[start]
        var end = start
        while end < count, example.isTrained[end] == isTrained { end += 1 }
        // Decoded as a run: one token may hold a part of a character only.
        let text = visible(tokenizer.decode(example.ids[start..<end], skipSpecialTokens: false))
        if colour {
            result += (isTrained ? "\u{1B}[32m" : "\u{1B}[2m") + text + "\u{1B}[0m"
        } else {
            result += isTrained ? "⟦" + text + "⟧" : text
        }
        start = end
    }
    if count < example.ids.count { result += " ... (\(example.ids.count - count) more tokens)" }
    return result
}

private func visible(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
        switch scalar.properties.generalCategory {
        case .control where scalar != "\n" && scalar != "\t":
            let digits = String(scalar.value, radix: 16)
            result += "\\x" + (digits.utf8.count < 2 ? "0" : "") + digits
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result
}
