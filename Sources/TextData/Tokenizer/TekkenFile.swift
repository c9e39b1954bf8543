import FileFormats

/// Mistral's `tekken.json`: tokens as base64 in order of rank, their pattern, and special tokens, which take the first ids.
struct TekkenFile {
    let path: String

    private func malformed(_ place: String, _ reason: String) -> TokenizerError {
        .malformed(path: path, place: place, reason: reason)
    }

    static func isLikely(_ document: JSONValue) -> Bool {
        document["vocab"]?.arrayValue != nil && document["config"]?["pattern"] != nil
    }

    /// Special tokens that a file may have; a thousand is usual, and each takes memory however few are listed.
    private static let mostSpecial = 1 << 16

    /// The special tokens of files that do not list them; the others are called `<SPECIAL_20>` and so on.
    private static let defaultSpecial = [
        "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
        "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]",
        "[SUFFIX]",
        "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
    ]

    func read(_ document: JSONValue, _ config: TokenizerConfig) throws -> (TokenizerParts, TokenizerConfig) {
        guard let pattern = document["config"]?["pattern"]?.stringValue else {
            throw malformed("config.pattern", "expected a string")
        }
        guard let entries = document["vocab"]?.arrayValue else { throw malformed("vocab", "expected an array") }
        func count(_ key: String, limit: Int) throws -> Int {
            guard let value = document["config"]?[key]?.intValue, (0...limit).contains(value) else {
                throw malformed("config.\(key)", "expected a count of at most \(limit)")
            }
            return value
        }
        let specialCount = try count("default_num_special_tokens", limit: Self.mostSpecial)
        let size = try count("default_vocab_size", limit: 1 << 24)
        guard size >= specialCount, size - specialCount <= entries.count else {
            throw malformed(
                "config.default_vocab_size",
                "\(size) ids, but \(specialCount) special and \(entries.count) other tokens")
        }
        var tokens = [[UInt8]?](repeating: nil, count: size - specialCount)
        for (index, entry) in entries.enumerated() {
            guard let rank = entry["rank"]?.intValue, rank >= 0, let text = entry["token_bytes"]?.stringValue,
                let token = TiktokenFile.decodeBase64(Array(text.utf8)[...]), !token.isEmpty
            else { throw malformed("vocab[\(index)]", "expected a rank and token_bytes in base64") }
            guard rank < tokens.count else { continue }
            guard tokens[rank] == nil else { throw malformed("vocab[\(index)]", "the rank \(rank) stands twice") }
            tokens[rank] = token
        }
        let special = try readSpecial(document["special_tokens"] ?? .null, specialCount)
        var vocabulary = RankedVocabulary(path: path)
        for _ in 0..<specialCount { vocabulary.append(nil) }
        for token in tokens { vocabulary.append(token) }
        var config = config
        func known(_ text: String) -> ByteString? {
            special.contains { $0.text.hasSameBytes(as: text) } ? ByteString(text) : nil
        }
        config.eos = config.eos ?? known("</s>")
        config.pad = config.pad ?? known("<pad>")
        config.unk = config.unk ?? known("<unk>")
        return try vocabulary.read(pattern: pattern, special: special, bos: "<s>", config)
    }

    private func readSpecial(_ list: JSONValue, _ count: Int) throws -> [(id: Int, text: String)] {
        var names = [String?](repeating: nil, count: count)
        if let entries = list.arrayValue {
            for (index, entry) in entries.enumerated() {
                guard let rank = entry["rank"]?.intValue, names.indices.contains(rank),
                    let text = entry["token_str"]?.stringValue, !text.isEmpty
                else { throw malformed("special_tokens[\(index)]", "expected a rank below \(count) and token_str") }
                names[rank] = text
            }
        } else {
            for (id, name) in Self.defaultSpecial.enumerated() where id < count { names[id] = name }
        }
        return names.enumerated().map { ($0, $1 ?? "<SPECIAL_\($0)>") }
    }
}
