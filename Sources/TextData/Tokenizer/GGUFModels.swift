import FileFormats

/// The models inside GGUF files.
extension GGUFVocabulary {
    var pre: String { metadata("pre")?.stringValue ?? "default" }

    private func readMerges(_ vocabulary: ByteTable) throws -> ([(left: Int32, right: Int32)], MergeTable) {
        guard let list = metadata("merges")?.stringsValue else {
            throw TokenizerError.malformed(path: path, place: "tokenizer.ggml.merges", reason: "expected strings")
        }
        var problems = ProblemList()
        var merges: [(left: Int32, right: Int32)] = []
        merges.reserveCapacity(list.count)
        var table = MergeTable(capacity: list.count)
        for (rank, line) in list.enumerated() {
            // The first token has at least one byte, even if that is a space.
            guard let space = line.bytes.dropFirst().firstIndex(of: 0x20) else {
                problems.add(.merge, "merge \(rank) is \(shortened(line.description)), not two tokens")
                continue
            }
            var joined = line.bytes
            joined.remove(at: space)
            let left = vocabulary.find(joined.span, 0..<space)
            let right = vocabulary.find(joined.span, space..<joined.count)
            guard let left, let right, let result = vocabulary.find(joined) else {
                problems.add(.merge, "merge \(rank), \(shortened(line.description)), names or makes no token")
                continue
            }
            table.insert(UInt32(left), UInt32(right), rank: UInt32(rank), id: UInt32(result))
            merges.append((Int32(left), Int32(right)))
        }
        try problems.throwIfAny(path)
        return (merges, table)
    }

    func byteLevel(_ vocabulary: ByteTable) throws -> TokenizerParts {
        guard let preTokenizer = try GGUFPreTokenizer.named(pre) else {
            throw unsupported("pre", "the pre-tokenizer \(shortened(pre))")
        }
        let (merges, table) = try readMerges(vocabulary)
        let model = BPEModel(
            vocabulary: vocabulary, merges: merges, mergeTable: table, unknownID: nil, fusesUnknown: false,
            fallsBackToBytes: false, ignoresMerges: GGUFPreTokenizer.ignoresMerges(pre), continuingPrefix: [],
            endOfWordSuffix: [], isByteLevel: true)
        return TokenizerParts(
            model: .bpe(model), added: [],
            preTokenizer: model.isByteLevel ? preTokenizer.deferringByteMap() : preTokenizer, kind: .byteLevelBPE)
    }

    /// Gemma 4: merges over scalars, spaces as U+2581, only line ends split off; a run of them may be one token.
    func mergesOverScalars(_ vocabulary: ByteTable) throws -> TokenizerParts {
        let (merges, table) = try readMerges(vocabulary)
        var model = BPEModel(
            vocabulary: vocabulary, merges: merges, mergeTable: table, unknownID: nil, fusesUnknown: false,
            fallsBackToBytes: true, ignoresMerges: false, continuingPrefix: [], endOfWordSuffix: [],
            isByteLevel: false)
        model.takesLineEndsWhole = true
        return TokenizerParts(
            model: .bpe(model), added: [], normalizer: .replace(.literal([0x20]), BPEModel.metaspace),
            preTokenizer: .split(.scalar(0x0A), .contiguous, inverted: false), kind: .sentencePieceBPE,
            scores: metadata("scores")?.floatsValue)
    }

    private func scores(_ vocabulary: ByteTable) throws -> [Float] {
        guard let scores = metadata("scores")?.floatsValue, scores.count == vocabulary.count else {
            throw TokenizerError.malformed(
                path: path, place: "tokenizer.ggml.scores", reason: "expected \(vocabulary.count) scores")
        }
        guard scores.allSatisfy({ !$0.isNaN }) else {
            throw TokenizerError.inconsistent(path: path, problems: ["a score is not a number"])
        }
        return scores
    }

    func sentencePiece(_ vocabulary: ByteTable) throws -> TokenizerParts {
        let scores = try scores(vocabulary)
        let merges = ScoredMerges(vocabulary, scores)
        let unknown = metadata("unknown_token_id")?.intValue ?? 0
        var model = BPEModel(
            vocabulary: vocabulary, merges: merges.merges, mergeTable: merges.table,
            unknownID: unknown >= 0 && unknown < vocabulary.count ? UInt32(unknown) : nil, fusesUnknown: false,
            fallsBackToBytes: true, ignoresMerges: false, continuingPrefix: [], endOfWordSuffix: [],
            isByteLevel: false)
        model.lead(through: merges)
        let addsSpace = GGUFTokenizerSettings(metadata).addsSpacePrefix
        let replace = Normalizer.replace(.literal([0x20]), BPEModel.metaspace)
        return TokenizerParts(
            model: .bpe(model), added: [],
            normalizer: addsSpace ? .sequence([.prepend(BPEModel.metaspace), replace]) : replace,
            kind: .sentencePieceBPE, scores: scores)
    }

    func unigram(_ vocabulary: ByteTable, _ types: [TokenType]) throws -> TokenizerParts {
        let scores = try scores(vocabulary)
        var normalizer = SentencePieceNormalizer()
        normalizer.removesExtraSpaces = metadata("remove_extra_whitespaces")?.boolValue ?? false
        let addsSpace = GGUFTokenizerSettings(metadata).addsSpacePrefix
        normalizer.addsDummyPrefix = addsSpace || normalizer.removesExtraSpaces
        normalizer.userDefined = StringMatcher(vocabulary) { types[$0] == .userDefined }
        if let bytes = metadata("precompiled_charsmap")?.intsValue {
            do {
                normalizer.charsmap = try PrecompiledCharsmap(bytes.map { UInt8(truncatingIfNeeded: $0) })
            } catch {
                throw TokenizerError.malformed(
                    path: path, place: "tokenizer.ggml.precompiled_charsmap", reason: error.reason)
            }
        }
        let unknown = metadata("unknown_token_id")?.intValue ?? 2
        let lowest = types.indices.filter { types[$0] == .normal }.map { scores[$0] }.min() ?? 0
        let model = UnigramModel(
            vocabulary: vocabulary,
            scores: types.indices.map { types[$0] == .userDefined ? 0 : Double(scores[$0]) },
            unknownID: unknown >= 0 && unknown < vocabulary.count ? UInt32(unknown) : nil, fallsBackToBytes: false,
            arithmetic: .double, lowestScore: Double(lowest), looksUpUnknown: false
        ) { [.normal, .userDefined, .unused].contains(types[$0]) }
        return TokenizerParts(
            model: .unigram(model), added: [], normalizer: .sentencePiece(normalizer), kind: .unigram, scores: scores)
    }

    /// BERT's, with U+2581 before the tokens that begin a word instead of ## before the others.
    func wordPiece(_ vocabulary: ByteTable) -> TokenizerParts {
        let unknown = metadata("unknown_token_id")?.intValue ?? 100
        let model = WordPieceModel(
            vocabulary: vocabulary,
            unknownID: unknown >= 0 && unknown < vocabulary.count ? UInt32(unknown) : nil, continuingPrefix: [],
            initialPrefix: BPEModel.metaspace, longestWord: .max)
        let normalizer = Normalizer.bert(
            Normalizer.Bert(cleansText: true, separatesChinese: true, stripsAccents: true, lowercases: true))
        return TokenizerParts(
            model: .wordPiece(model), added: [], normalizer: normalizer, preTokenizer: .bert, kind: .wordPiece)
    }
}
