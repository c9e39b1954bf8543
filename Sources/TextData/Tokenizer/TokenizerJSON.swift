import FileFormats

/// The parts of a tokenizer, as a tokenizer.json (or another vocabulary file) describes them.
struct TokenizerParts: Sendable {
    var model: TokenModel
    var added: [AddedToken]
    var normalizer: Normalizer?
    var preTokenizer: PreTokenizer?
    var postProcessor = PostProcessor()
    var decoder: TokenDecoder?
    var kind: TokenizerKind
    var unknownToken: ByteString?
    var scores: [Float]?
    /// How ids become text where the tokens' own texts do not tell; `decoder` is not used then.
    var idDecoder: IDDecoder?
    /// Ids that text never becomes, even if it spells one.
    var unmatchedTokens: Set<Int32> = []
    /// The JSON that the parts were read from, for export.
    var definitions = Tokenizer.Definitions()

    /// Makes tokens that the configuration names and the model has, but the file does not list as added, special.
    /// Transformers does the same when it loads them.
    mutating func markSpecial(_ tokens: [ByteString?]) {
        for case let token? in tokens where !added.contains(where: { $0.content == token }) {
            guard let id = model.vocabulary.find(token.bytes) else { continue }
            added.append(AddedToken(id: Int32(id), content: token))
        }
    }
}

/// Reads a tokenizer.json: `https://huggingface.co/docs/tokenizers`, format version 1.0.
struct TokenizerJSONReader {
    let path: String

    func malformed(_ place: String, _ reason: String) -> TokenizerError {
        .malformed(path: path, place: place, reason: reason)
    }
    func unsupported(_ place: String, _ found: String) -> TokenizerError {
        .unsupported(path: path, place: place, found: found)
    }

    /// - Throws: `TokenizerError`; `truncation` and `padding` are passed over.
    func read(_ document: JSONValue) throws -> TokenizerParts {
        guard let root = document.objectValue else {
            throw malformed("", "expected an object, found \(document.kindName)")
        }
        guard let modelObject = root["model"]?.objectValue else {
            throw malformed("model", "expected an object, found \(root["model"]?.kindName ?? "nothing")")
        }
        var definitions = Tokenizer.Definitions()
        definitions.normalizer = root["normalizer"] ?? .null
        definitions.preTokenizer = root["pre_tokenizer"] ?? .null
        definitions.postProcessor = root["post_processor"] ?? .null
        definitions.decoder = root["decoder"] ?? .null

        let normalizer = try readNormalizer(definitions.normalizer, "normalizer")
        var preTokenizer = try readPreTokenizer(definitions.preTokenizer, "pre_tokenizer")
        let decoder = try readDecoder(definitions.decoder, "decoder")
        let postProcessor = try readPostProcessor(definitions.postProcessor, "post_processor")
        let added = try readAddedTokens(root["added_tokens"] ?? .null)

        let endsInByteLevel = preTokenizer?.endsInByteLevel ?? false
        let model = try readModel(modelObject, added: added, isByteLevel: endsInByteLevel)
        if case .bpe(let bpe) = model, bpe.isByteLevel { preTokenizer = preTokenizer?.deferringByteMap() }
        let usesByteLevel = endsInByteLevel || preTokenizer?.mapsBytes == true || normalizer?.mapsBytes == true

        try check(postProcessor, added: added, modelSize: model.vocabulary.count)
        var parts = TokenizerParts(
            model: model, added: added, normalizer: normalizer, preTokenizer: preTokenizer,
            postProcessor: postProcessor, decoder: decoder, kind: kind(of: model, usesByteLevel: usesByteLevel),
            unknownToken: modelObject["unk_token"]?.stringValue.map { ByteString($0) }, definitions: definitions)
        if parts.unknownToken == nil, let id = modelObject["unk_id"]?.intValue, id >= 0, id < model.vocabulary.count {
            parts.unknownToken = ByteString(model.vocabulary[id])
        }
        return parts
    }

    private func kind(of model: TokenModel, usesByteLevel: Bool) -> TokenizerKind {
        switch model {
        case .bpe(let bpe): usesByteLevel ? .byteLevelBPE : bpe.fallsBackToBytes ? .sentencePieceBPE : .plainBPE
        case .unigram: .unigram
        case .wordPiece: .wordPiece
        case .wordLevel: .wordLevel
        }
    }

    // MARK: Ids

    private func readAddedTokens(_ value: JSONValue) throws -> [AddedToken] {
        if value.isNull { return [] }
        guard let entries = value.arrayValue else {
            throw malformed("added_tokens", "expected an array, found \(value.kindName)")
        }
        return try entries.enumerated().map { index, entry in
            let place = "added_tokens[\(index)]"
            if let token = AddedToken(entry) { return token }
            guard let content = entry["content"]?.stringValue else { throw malformed(place, "no content") }
            guard let id = entry["id"]?.intValue else { throw malformed(place, "no integer id") }
            throw TokenizerError.inconsistent(
                path: path,
                problems: ["added token \(shortened(content)) has the id \(id), outside 0...\(Int32.max)"])
        }
    }

    private func check(_ postProcessor: PostProcessor, added: [AddedToken], modelSize: Int) throws {
        let size = max(modelSize, (added.map { Int($0.id) + 1 }.max() ?? 0))
        let wrong = (postProcessor.prefix + postProcessor.suffix).filter { $0 < 0 || Int($0) >= size }
        guard wrong.isEmpty else {
            throw TokenizerError.inconsistent(
                path: path, problems: wrong.map { "post_processor adds the id \($0), but there are \(size) tokens" })
        }
    }
}

/// Collects what is wrong with a vocabulary, at most five of each sort.
struct ProblemList {
    enum Sort: Hashable { case badID, duplicateID, hole, merge, unknownToken, score }
    private var texts: [String] = []
    private var counts: [Sort: Int] = [:]

    var isEmpty: Bool { texts.isEmpty }

    mutating func add(_ sort: Sort, _ text: @autoclosure () -> String) {
        let count = counts[sort, default: 0]
        counts[sort] = count + 1
        if count < 5 { texts.append(text()) }
    }
    func throwIfAny(_ path: String) throws {
        guard !isEmpty else { return }
        let more = counts.values.reduce(0, +) - texts.count
        throw TokenizerError.inconsistent(path: path, problems: texts + (more > 0 ? ["and \(more) more"] : []))
    }
}
