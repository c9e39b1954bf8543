import FileFormats

extension TokenizerJSONReader {
    /// Ids without a token that a vocabulary may have beside as many as it has tokens: each takes memory, and more say
    /// that an id is wrong.
    private static let mostHoles = 4096

    func readModel(_ model: JSONObject, added: [AddedToken], isByteLevel: Bool) throws -> TokenModel {
        switch model["type"]?.stringValue ?? guessedType(model) {
        case "BPE": return .bpe(try readBPE(model, added: added, isByteLevel: isByteLevel))
        case "Unigram": return .unigram(try readUnigram(model))
        case "WordPiece":
            let (vocabulary, unknownID) = try readWords(model, added: added, unknownIsRequired: true)
            let longest = model["max_input_chars_per_word"]?.intValue ?? 100
            let prefix = model["continuing_subword_prefix"]?.stringValue ?? "##"
            return .wordPiece(
                WordPieceModel(
                    vocabulary: vocabulary, unknownID: unknownID, continuingPrefix: Array(prefix.utf8),
                    longestWord: longest))
        case "WordLevel":
            let (vocabulary, unknownID) = try readWords(model, added: added, unknownIsRequired: false)
            return .wordLevel(WordLevelModel(vocabulary: vocabulary, unknownID: unknownID))
        case let other: throw unsupported("model.type", "a model \(shortened(other))")
        }
    }

    /// Files from before models had a type.
    private func guessedType(_ model: JSONObject) -> String {
        if model["merges"] != nil { return "BPE" }
        if model["vocab"]?.arrayValue != nil { return "Unigram" }
        if model["continuing_subword_prefix"] != nil { return "WordPiece" }
        return model["vocab"] != nil ? "WordLevel" : "of no stated type"
    }

    // MARK: Unigram

    private func readUnigram(_ model: JSONObject) throws -> UnigramModel {
        guard let list = model["vocab"]?.arrayValue else {
            throw malformed("model.vocab", "expected an array, found \(model["vocab"]?.kindName ?? "nothing")")
        }
        var problems = ProblemList()
        var vocabulary = ByteTable(capacity: list.count, bytes: list.count * 8)
        var scores: [Double] = []
        scores.reserveCapacity(list.count)
        for (id, entry) in list.enumerated() {
            guard let pair = entry.arrayValue, pair.count == 2, let piece = pair[0].stringValue,
                let score = pair[1].doubleValue
            else { throw malformed("model.vocab[\(id)]", "expected [token, score]") }
            if !score.isFinite { problems.add(.score, "token \(id), \(shortened(piece)), has no finite score") }
            // Of tokens written alike the last counts, as in the reference.
            if piece.isEmpty { vocabulary.appendUnlisted() } else { vocabulary.insertReplacing(Array(piece.utf8)) }
            scores.append(score)
        }
        var unknownID: UInt32?
        if let value = model["unk_id"], !value.isNull {
            guard let id = value.intValue, id >= 0, id < list.count else {
                throw malformed("model.unk_id", "expected an id below \(list.count)")
            }
            unknownID = UInt32(id)
        }
        try problems.throwIfAny(path)
        return UnigramModel(
            vocabulary: vocabulary, scores: scores, unknownID: unknownID,
            fallsBackToBytes: model["byte_fallback"]?.boolValue ?? false, arithmetic: .double,
            lowestScore: scores.min() ?? 0, looksUpUnknown: true)
    }

    // MARK: Words

    private func readWords(
        _ model: JSONObject, added: [AddedToken], unknownIsRequired: Bool
    ) throws -> (ByteTable, UInt32?) {
        guard let vocab = model["vocab"]?.objectValue else {
            throw malformed("model.vocab", "expected an object, found \(model["vocab"]?.kindName ?? "nothing")")
        }
        var problems = ProblemList()
        let vocabulary = try readVocabulary(vocab, added: added, &problems)
        try problems.throwIfAny(path)
        let unknown = model["unk_token"]?.stringValue ?? (unknownIsRequired ? "[UNK]" : "<unk>")
        return (vocabulary, vocabulary.find(Array(unknown.utf8)).map { UInt32($0) })
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
        var holes = 0
        for (k, item) in ids.enumerated() {
            let token = vocab.entries[item.entry].key
            if k > 0, ids[k - 1].id == item.id {
                let other = vocab.entries[ids[k - 1].entry].key
                problems.add(.duplicateID, "id \(item.id) belongs to both \(shortened(other)) and \(shortened(token))")
                continue
            }
            while table.count < item.id, let filler = fillers[table.count], table.insert(filler.content.bytes).isNew {}
            holes += item.id - table.count
            guard holes <= Self.mostHoles + ids.count else {
                problems.add(.hole, "no token has the ids \(table.count)..<\(item.id)")
                break
            }
            // Ids that no token has are none the worse for the others.
            while table.count < item.id { table.appendUnlisted(Array(fillers[table.count]?.content.bytes ?? [])) }
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
        var expected = table.count, holes = 0
        for id in byID.keys.sorted() where Int(id) >= table.count {
            holes += Int(id) - expected
            if holes > Self.mostHoles + table.count {
                problems.add(.hole, "no token has the ids \(expected)..<\(id)")
            }
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
