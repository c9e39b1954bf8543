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
        guard let model = root["model"], let modelObject = model.objectValue else {
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

        let type = modelObject["type"]?.stringValue ?? (modelObject["merges"] != nil ? "BPE" : "of no stated type")
        guard type == "BPE" else { throw unsupported("model.type", "a model \(shortened(type))") }
        let endsInByteLevel = preTokenizer?.endsInByteLevel ?? false
        let bpe = try readBPE(modelObject, added: added, isByteLevel: endsInByteLevel)
        if bpe.isByteLevel { preTokenizer = preTokenizer?.deferringByteMap() }
        let usesByteLevel = endsInByteLevel || preTokenizer?.mapsBytes == true || normalizer?.mapsBytes == true

        try check(postProcessor, added: added, modelSize: bpe.vocabulary.count)
        return TokenizerParts(
            model: .bpe(bpe), added: added, normalizer: normalizer, preTokenizer: preTokenizer,
            postProcessor: postProcessor, decoder: decoder,
            kind: usesByteLevel ? .byteLevelBPE : bpe.fallsBackToBytes ? .sentencePieceBPE : .plainBPE,
            unknownToken: modelObject["unk_token"]?.stringValue.map { ByteString($0) }, definitions: definitions)
    }

    // MARK: Ids

    private func readAddedTokens(_ value: JSONValue) throws -> [AddedToken] {
        if value.isNull { return [] }
        guard let entries = value.arrayValue else {
            throw malformed("added_tokens", "expected an array, found \(value.kindName)")
        }
        return try entries.enumerated().map { index, entry in
            let place = "added_tokens[\(index)]"
            guard let content = entry["content"]?.stringValue else { throw malformed(place, "no content") }
            guard let id = entry["id"]?.intValue else { throw malformed(place, "no integer id") }
            guard let id32 = Int32(exactly: id), id >= 0 else {
                throw TokenizerError.inconsistent(
                    path: path,
                    problems: ["added token \(shortened(content)) has the id \(id), outside 0...\(Int32.max)"])
            }
            return AddedToken(
                id: id32, content: ByteString(content), lstrip: entry["lstrip"]?.boolValue ?? false,
                rstrip: entry["rstrip"]?.boolValue ?? false, singleWord: entry["single_word"]?.boolValue ?? false,
                normalized: entry["normalized"]?.boolValue ?? !(entry["special"]?.boolValue ?? false),
                isSpecial: entry["special"]?.boolValue ?? false)
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

    // MARK: BPE

    private func readBPE(_ model: JSONObject, added: [AddedToken], isByteLevel: Bool) throws -> BPEModel {
        if let dropout = model["dropout"], !dropout.isNull, dropout.doubleValue != 0 {
            throw unsupported("model.dropout", "a dropout that is not 0")
        }
        guard let vocab = model["vocab"]?.objectValue else {
            throw malformed("model.vocab", "expected an object, found \(model["vocab"]?.kindName ?? "nothing")")
        }
        guard let mergeList = model["merges"]?.arrayValue else {
            throw malformed("model.merges", "expected an array, found \(model["merges"]?.kindName ?? "nothing")")
        }
        var problems = ProblemList()
        let vocabulary = try readVocabulary(vocab, added: added, &problems)
        func text(_ key: String) -> [UInt8] { Array((model[key]?.stringValue ?? "").utf8) }
        let prefix = text("continuing_subword_prefix")
        let (merges, table) = try readMerges(mergeList, vocabulary, prefixLength: prefix.count, &problems)

        var unknownID: UInt32?
        if let unknown = model["unk_token"]?.stringValue {
            unknownID = vocabulary.find(Array(unknown.utf8)).map { UInt32($0) }
            if unknownID == nil {
                problems.add(.unknownToken, "unk_token \(shortened(unknown)) is not in the vocabulary")
            }
        }
        try problems.throwIfAny(path)
        return BPEModel(
            vocabulary: vocabulary, merges: merges, mergeTable: table, unknownID: unknownID,
            fusesUnknown: model["fuse_unk"]?.boolValue ?? false,
            fallsBackToBytes: model["byte_fallback"]?.boolValue ?? false,
            ignoresMerges: model["ignore_merges"]?.boolValue ?? false, continuingPrefix: prefix,
            endOfWordSuffix: text("end_of_word_suffix"), isByteLevel: isByteLevel)
    }

    /// The model's vocabulary by id. A hole is filled by an added token of that id; what is left over is an error.
    func readVocabulary(
        _ vocab: JSONObject, added: [AddedToken], _ problems: inout ProblemList
    ) throws -> ByteTable {
        var ids: [(id: Int, entry: Int)] = []
        ids.reserveCapacity(vocab.count)
        var bytes = 0
        for (index, entry) in vocab.entries.enumerated() {
            guard let id = entry.value.intValue else {
                problems.add(.badID, "token \(shortened(entry.key)) has \(entry.value.kindName) for an id")
                continue
            }
            guard id >= 0, id < Int(Int32.max) else {
                problems.add(.badID, "token \(shortened(entry.key)) has the id \(id), outside 0..<\(Int32.max)")
                continue
            }
            bytes += entry.key.utf8.count
            ids.append((id, index))
        }
        ids.sort { ($0.id, $0.entry) < ($1.id, $1.entry) }
        let fillers = Dictionary(added.map { (Int($0.id), $0) }, uniquingKeysWith: { first, _ in first })

        var table = ByteTable(capacity: ids.count, bytes: bytes)
        for (k, item) in ids.enumerated() {
            let token = vocab.entries[item.entry].key
            if k > 0, ids[k - 1].id == item.id {
                let other = vocab.entries[ids[k - 1].entry].key
                problems.add(.duplicateID, "id \(item.id) belongs to both \(shortened(other)) and \(shortened(token))")
                continue
            }
            while table.count < item.id, let filler = fillers[table.count], table.insert(filler.content.bytes).isNew {}
            if table.count < item.id {
                problems.add(.hole, "no token has the ids \(table.count)..<\(item.id)")
                break
            }
            _ = table.insert(Array(token.utf8))
        }
        guard problems.isEmpty else { return table }
        checkAdded(added, table, &problems)
        return table
    }

    private func checkAdded(_ added: [AddedToken], _ table: ByteTable, _ problems: inout ProblemList) {
        var byID: [Int32: AddedToken] = [:]
        var byContent: [ByteString: Int32] = [:]
        for token in added {
            let name = shortened(token.content.description)
            if let known = table.find(token.content.bytes), known != Int(token.id) {
                problems.add(.duplicateID, "added token \(name) has the id \(token.id), but \(known) in the vocabulary")
            } else if Int(token.id) < table.count, !table[Int(token.id)].elementsEqual(token.content.bytes) {
                let other = shortened(String(decoding: table[Int(token.id)], as: UTF8.self))
                problems.add(.duplicateID, "id \(token.id) belongs to both \(other) and the added token \(name)")
            }
            if let other = byID.updateValue(token, forKey: token.id), other.content != token.content {
                problems.add(
                    .duplicateID,
                    "id \(token.id) belongs to both added tokens \(shortened(other.content.description)) and \(name)")
            }
            if let other = byContent.updateValue(token.id, forKey: token.content), other != token.id {
                problems.add(.duplicateID, "added token \(name) has both ids \(other) and \(token.id)")
            }
        }
        var expected = table.count
        for id in byID.keys.sorted() where Int(id) >= table.count {
            if Int(id) != expected { problems.add(.hole, "no token has the ids \(expected)..<\(id)") }
            expected = Int(id) + 1
        }
    }

    private func readMerges(
        _ list: [JSONValue], _ vocabulary: ByteTable, prefixLength: Int, _ problems: inout ProblemList
    ) throws -> ([(left: Int32, right: Int32)], MergeTable) {
        var merges: [(left: Int32, right: Int32)] = []
        merges.reserveCapacity(list.count)
        var table = MergeTable(capacity: list.count)
        // The two tokens end to end, and where the first ends: what they make needs no copy.
        var joined: [UInt8] = []
        for (index, entry) in list.enumerated() {
            joined.removeAll(keepingCapacity: true)
            var border: Int?
            switch entry {
            case .string(let line):
                if line.utf8.starts(with: "#version".utf8) { continue }
                joined.append(contentsOf: line.utf8)
                border = joined.firstIndex(of: 0x20)
                if let space = border { joined.remove(at: space) }
                if joined.contains(0x20) { border = nil }
            case .array(let pair) where pair.count == 2:
                guard let first = pair[0].stringValue, let second = pair[1].stringValue else { break }
                joined.append(contentsOf: first.utf8)
                border = joined.count
                joined.append(contentsOf: second.utf8)
            default: break
            }
            guard let border else { throw malformed("model.merges[\(index)]", "expected two tokens") }
            let left = vocabulary.find(joined.span, 0..<border)
            let right = vocabulary.find(joined.span, border..<joined.count)
            if prefixLength > 0 {
                guard joined.count - border >= prefixLength else {
                    problems.add(.merge, "merge \(index): its second token is shorter than continuing_subword_prefix")
                    continue
                }
                joined.removeSubrange(border..<border + prefixLength)
            }
            let result = vocabulary.find(joined)
            guard let left, let right, let result else {
                let parts = [(left, joined[..<border]), (right, joined[border...]), (result, joined[...])]
                for (id, token) in parts where id == nil {
                    let name = shortened(String(decoding: token, as: UTF8.self))
                    problems.add(.merge, "merge \(index) names \(name), which is not in the vocabulary")
                }
                continue
            }
            table.insert(UInt32(left), UInt32(right), rank: UInt32(merges.count), id: UInt32(result))
            merges.append((Int32(left), Int32(right)))
        }
        return (merges, table)
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
