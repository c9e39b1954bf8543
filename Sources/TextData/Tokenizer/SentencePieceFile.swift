import FileFormats

/// A SentencePiece model (`sentencepiece_model.proto`): pieces with scores and types, and how text is normalised.
struct SentencePieceFile {
    enum PieceType: Int, Sendable {
        case normal = 1
        case unknown, control, userDefined, unused, byte
    }
    private enum Algorithm: Int { case unigram = 1, bpe, word, char }

    private let path: String
    private var pieces = ByteStrings()
    private var scores: [Float] = []
    private var types: [PieceType] = []
    private var algorithm = Algorithm.unigram.rawValue
    private var fallsBackToBytes = false
    private var unknownSurface = Array(" \u{2047} ".utf8)
    private var names = (bos: Array("<s>".utf8), eos: Array("</s>".utf8), pad: Array("<pad>".utf8))
    private var normalizer = SentencePieceNormalizer()

    /// Whether bytes begin as a model does: field 1, a piece.
    static func isLikely(_ bytes: [UInt8]) -> Bool { bytes.count > 2 && bytes[0] == 0x0A && bytes[2] == 0x0A }

    /// - Throws: `TokenizerError.malformed` with the place.
    init(_ bytes: [UInt8], path: String) throws {
        self.path = path
        do {
            var reader = ProtobufReader(bytes)
            while let (field, value) = try reader.next() {
                guard let range = value.range else { continue }
                switch field {
                case 1: try readPiece(reader.message(range))
                case 2: try readTrainer(reader.message(range))
                case 3: try readNormalizer(reader.message(range))
                case 5: try refuseDenormalizer(reader.message(range))
                default: break
                }
            }
        } catch let fault as ProtobufFault {
            throw TokenizerError.malformed(path: path, place: "byte \(fault.offset)", reason: fault.reason)
        }
    }

    private mutating func readPiece(_ message: ProtobufReader) throws {
        var message = message
        var text: ArraySlice<UInt8> = []
        var score: Float = 0
        var type = PieceType.normal
        while let (field, value) = try message.next() {
            switch field {
            case 1: if let range = value.range { text = message.bytes[range] }
            case 2: score = value.float ?? score
            case 3:
                guard let known = value.integer.flatMap(PieceType.init(rawValue:)) else {
                    throw TokenizerError.malformed(
                        path: path, place: "piece \(types.count)", reason: "a type that is not known")
                }
                type = known
            default: break
            }
        }
        pieces.append(text)
        scores.append(score)
        types.append(type)
    }

    private mutating func readTrainer(_ message: ProtobufReader) throws {
        var message = message
        while let (field, value) = try message.next() {
            func text() -> [UInt8]? { value.range.map { Array(message.bytes[$0]) } }
            switch field {
            case 3: algorithm = value.integer ?? -1
            case 24: normalizer.spaceIsSuffix = value.isTrue
            case 35: fallsBackToBytes = value.isTrue
            // A C string to SentencePiece.
            case 44: unknownSurface = Array((text() ?? []).prefix { $0 != 0 })
            case 46: names.bos = text() ?? names.bos
            case 47: names.eos = text() ?? names.eos
            case 48: names.pad = text() ?? names.pad
            default: break
            }
        }
    }

    private mutating func readNormalizer(_ message: ProtobufReader) throws {
        var message = message
        while let (field, value) = try message.next() {
            switch field {
            case 2:
                guard let range = value.range, !range.isEmpty else { break }
                do { normalizer.charsmap = try PrecompiledCharsmap(Array(message.bytes[range])) } catch {
                    throw TokenizerError.malformed(
                        path: path, place: "normalizer_spec.precompiled_charsmap", reason: error.reason)
                }
            case 3: normalizer.addsDummyPrefix = value.isTrue
            case 4: normalizer.removesExtraSpaces = value.isTrue
            case 5: normalizer.escapesSpaces = value.isTrue
            default: break
            }
        }
    }

    private func refuseDenormalizer(_ message: ProtobufReader) throws {
        var message = message
        while let (field, value) = try message.next() {
            if field == 2, let range = value.range, !range.isEmpty {
                throw TokenizerError.unsupported(
                    path: path, place: "denormalizer_spec", found: "a table that changes decoded text")
            }
        }
    }

    // MARK: Parts

    /// The parts of a tokenizer that does as SentencePiece does.
    ///
    /// Control symbols are special, but text that spells one stays text, as in SentencePiece.
    func read() throws -> (TokenizerParts, TokenizerConfig) {
        let vocabulary = try checkedVocabulary()
        let unknown = types.firstIndex(of: .unknown) ?? 0
        var normalizer = normalizer
        normalizer.userDefined = StringMatcher(vocabulary) { types[$0] == .userDefined }
        let model = try model(vocabulary, unknown: unknown, normalizer.userDefined)

        var config = TokenizerConfig()
        func control(_ name: [UInt8]) -> ByteString? {
            guard let id = vocabulary.find(name), types[id] == .control else { return nil }
            return ByteString(name)
        }
        config.bos = control(names.bos)
        config.eos = control(names.eos)
        config.pad = control(names.pad)
        config.unk = ByteString(vocabulary[unknown])
        config.isPresent = true

        var parts = TokenizerParts(
            model: model, added: [], normalizer: .sentencePiece(normalizer),
            kind: algorithm == Algorithm.unigram.rawValue ? .unigram : .sentencePieceBPE, scores: scores)
        parts.definitions.normalizer = normalizer.definition
        parts.idDecoder = .sentencePiece(
            SentencePieceDecoder(
                types: types, unknownSurface: unknownSurface,
                stripsLeadingSpace: normalizer.addsDummyPrefix || normalizer.removesExtraSpaces,
                stripsAllLeadingSpaces: normalizer.removesExtraSpaces))
        parts.added = types.indices.compactMap { id in
            guard types[id] == .control || types[id] == .unknown || types[id] == .userDefined else { return nil }
            return AddedToken(
                id: Int32(id), content: ByteString(vocabulary[id]), isSpecial: types[id] != .userDefined)
        }
        parts.unmatchedTokens = Set(parts.added.map(\.id))
        // SentencePiece adds nothing itself. Models of Llama's family begin with BOS; their mark is byte fallback, or the
        // name that their loaders look for.
        let name = path.utf8.split(separator: UInt8(ascii: "/")).last ?? path.utf8[...]
        let isOfLlama = fallsBackToBytes || name.starts(with: "tokenizer.model".utf8)
        if isOfLlama, let bos = config.bos, let id = vocabulary.find(bos.bytes) {
            parts.postProcessor.prefix = [Int32(id)]
        }
        return (parts, config)
    }

    private func checkedVocabulary() throws -> ByteTable {
        guard !pieces.isEmpty, pieces.count < Int(Int32.max) else {
            throw TokenizerError.malformed(path: path, place: "pieces", reason: "there are \(pieces.count)")
        }
        var problems = ProblemList()
        var vocabulary = ByteTable(capacity: pieces.count, bytes: pieces.count * 8)
        for (id, piece) in pieces.enumerated() {
            let name = shortened(piece.description)
            if piece.bytes.isEmpty || String(validating: piece.bytes, as: UTF8.self) == nil {
                problems.add(.badID, "piece \(id), \(name), is \(piece.bytes.isEmpty ? "empty" : "not UTF-8")")
            }
            if !scores[id].isFinite { problems.add(.score, "piece \(id), \(name), has no finite score") }
            if !vocabulary.insert(piece.bytes).isNew {
                problems.add(.duplicateID, "piece \(id), \(name), stands twice")
                vocabulary.appendUnlisted(piece.bytes)
            }
        }
        if types.count(where: { $0 == .unknown }) != 1 {
            problems.add(.unknownToken, "\(types.count { $0 == .unknown }) pieces are of type UNKNOWN, expected one")
        }
        if fallsBackToBytes, let missing = byteFallbackTokens.first(where: { vocabulary.find($0) == nil }) {
            problems.add(
                .unknownToken, "byte_fallback is set, but \(String(decoding: missing, as: UTF8.self)) is missing")
        }
        try problems.throwIfAny(path)
        return vocabulary
    }

    private func isPiece(_ id: Int) -> Bool { [.normal, .userDefined, .unused].contains(types[id]) }

    private func model(_ vocabulary: ByteTable, unknown: Int, _ userDefined: StringMatcher) throws -> TokenModel {
        switch Algorithm(rawValue: algorithm) {
        case .unigram:
            let normal = types.indices.filter { types[$0] == .normal }.map { scores[$0] }
            // User-defined pieces score above any ordinary one, longer ones more; measured against version 0.2.3.
            let adjusted = types.indices.map { id in
                types[id] == .userDefined
                    ? Double(0.1 * Float(vocabulary.range(id).count - 1)) : Double(scores[id])
            }
            return .unigram(
                UnigramModel(
                    vocabulary: vocabulary, scores: adjusted, unknownID: UInt32(unknown),
                    fallsBackToBytes: fallsBackToBytes, arithmetic: .single, lowestScore: Double(normal.min() ?? 0),
                    looksUpUnknown: false
                ) { types[$0] == .normal || types[$0] == .userDefined })
        case .bpe, .char:
            let isBPE = algorithm == Algorithm.bpe.rawValue
            let merges = ScoredMerges(vocabulary, scores) { isBPE && isPiece($0) }
            var model = BPEModel(
                vocabulary: vocabulary, merges: merges.merges, mergeTable: merges.table, unknownID: UInt32(unknown),
                fusesUnknown: true, fallsBackToBytes: fallsBackToBytes, ignoresMerges: false, continuingPrefix: [],
                endOfWordSuffix: [], isByteLevel: false)
            model.lead(through: merges)
            model.frozen = userDefined
            model.resegment(types.indices.filter { types[$0] == .unused }.map { UInt32($0) })
            return .bpe(model)
        case .word, nil:
            throw TokenizerError.unsupported(
                path: path, place: "trainer_spec.model_type", found: "a model of type \(algorithm)")
        }
    }
}
