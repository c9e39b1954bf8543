import Foundation

@testable import Export
@testable import FileFormats
@testable import FineTuning
@testable import TextData

/// A reader of untrusted bytes. Each input is one file of its kind; where a reader takes several files, they stand one
/// after the other with a zero byte between them.
enum Reader: String, CaseIterable {
    case safetensors, index, gguf
    case ggufModel = "gguf-model"
    case ggufTokenizer = "gguf-tokenizer"
    case store
    case patchedStore = "store-patched"
    case part, json, recipe, csv, tsv, text, jsonl
    case jsonArray = "json-array"
    case parquet, gzip, zstd
    case tokenizerJSON = "tokenizer-json"
    case sentencePiece = "sentencepiece"
    case tiktoken, tekken
    case vocabularyAndMerges = "vocab-merges"
    case encoding, template, conversation, config
    case adapterConfig = "adapter-config"

    /// Bytes. Small inputs are read fast, and nearly all faults show in them.
    var longestInput: Int {
        switch self {
        case .store: 16 << 10
        case .patchedStore: 96
        case .parquet: 6 << 10
        case .ggufModel, .ggufTokenizer, .part, .tokenizerJSON, .tekken, .tiktoken, .sentencePiece: 4 << 10
        case .safetensors, .gguf, .encoding: 1 << 10
        case .gzip, .zstd: 16 << 10
        case .template: 4 << 10
        default: 2 << 10
        }
    }

    /// Bytes of memory for each byte of an input, beyond the 64 MiB that are always allowed.
    var bytesPerByte: Int64 {
        switch self {
        // A compatibility character of 3 bytes becomes 18 of others, and each byte keeps where it comes from.
        case .encoding: 512
        default: 64
        }
    }

    /// Inputs of a full run; 0 for a reader that runs only when it is named.
    var goal: Int {
        switch self {
        // The HDF5 library itself fails at some of these.
        case .patchedStore: 0
        case .safetensors, .gguf: 20_000_000
        default: 3_000_000
        }
    }

    /// Whether the input is sound.
    ///
    /// - Throws: why it is not.
    func read(_ bytes: [UInt8]) throws -> Bool {
        switch self {
        case .safetensors: try readSafetensors(bytes)
        case .index: try readIndex(bytes)
        case .gguf: try readGGUF(bytes)
        case .ggufModel: try readGGUFModel(bytes)
        case .ggufTokenizer: try tryOut(try Tokenizer(path: scratch.write("x.gguf", bytes)))
        case .store: try readStore(bytes)
        case .patchedStore: try readStore(Fixed.patches.apply(bytes))
        case .part: try readPart(bytes)
        case .json: try readJSON(bytes)
        case .recipe: try readRecipe(bytes)
        case .csv: try readRows("x.csv", bytes)
        case .tsv: try readRows("x.tsv", bytes)
        case .text: try readRows("x.txt", bytes)
        case .jsonl, .gzip, .zstd: try readRows("x.jsonl", bytes)
        case .jsonArray: try readRows("x.json", bytes)
        case .parquet: try readRows("x.parquet", bytes)
        case .tokenizerJSON: try tryOut(try Tokenizer(json: try JSONParser.parse(bytes)))
        case .sentencePiece:
            let (parts, config) = try SentencePieceFile(bytes, path: "x.model").read()
            try tryOut(try Tokenizer(parts, config))
        case .tiktoken: try readTiktoken(bytes)
        case .tekken:
            let (parts, config) = try TekkenFile(path: "tekken.json").read(
                try JSONParser.parse(bytes), TokenizerConfig())
            try tryOut(try Tokenizer(parts, config))
        case .vocabularyAndMerges: try readVocabularyAndMerges(bytes)
        case .encoding: try encodeAndDecode(bytes)
        case .template: try renderTemplate(bytes)
        case .conversation: try makeExample(bytes)
        case .config:
            guard let json = try JSONParser.parse(bytes, duplicateKeys: .refuse).objectValue else { return false }
            _ = try ModelConfig(json: json, path: "config.json").parameterCount
        case .adapterConfig: try readAdapterConfig(bytes)
        }
        return true
    }
}

// MARK: Weights

private func readSafetensors(_ bytes: [UInt8]) throws {
    let file = try SafetensorsFile(path: scratch.write("x.safetensors", bytes))
    var tensors: [SafetensorsWriter.Declaration] = []
    for entry in file.entries {
        let data = file.withBytes(of: entry)
        // Touches both ends of what the header promises.
        require(data.isEmpty || Int(data[0]) + Int(data[data.count - 1]) >= 0)
        if data.count <= 256, entry.type.isFloatingPoint {
            require(file.floats(of: entry).count == entry.shape.reduce(1, *))
        }
        tensors.append(.init(name: entry.name, type: entry.type, shape: entry.shape))
    }
    // What is written is what was read; seldom, for it takes several files' time.
    guard bytes.count % 16 == 0, !tensors.isEmpty else { return }
    let path = scratch.path("written.safetensors")
    let writer = try SafetensorsWriter(path: path, tensors: tensors, metadata: file.metadata, replacing: true)
    for entry in file.entries { try writer.append(file.withBytes(of: entry), to: entry.name) }
    try writer.finish()
    let again = try SafetensorsFile(path: path)
    require(again.entries.count == file.entries.count, "tensors were lost in writing")
    for (old, new) in zip(file.entries, again.entries) {
        require(old.name.hasSameBytes(as: new.name) && old.shape == new.shape && old.type == new.type)
        require(file.withBytes(of: old).elementsEqual(again.withBytes(of: new)), "a tensor's bytes changed")
    }
}

private func readIndex(_ bytes: [UInt8]) throws {
    _ = scratch.write("index/model.safetensors.index.json", bytes)
    let folder = try SafetensorsFolder(path: scratch.path("index"))
    for entry in folder.entries { require(folder.withBytes(of: entry).count == entry.byteRange.count) }
}

private func readGGUF(_ bytes: [UInt8]) throws {
    let file = try GGUFFile(path: scratch.write("x.gguf", bytes))
    for tensor in file.tensors {
        let data = file.withBytes(of: tensor)
        require(data.isEmpty || Int(data[0]) + Int(data[data.count - 1]) >= 0)
    }
    for (_, value) in file.metadata {
        _ = (value.intValue, value.doubleValue, value.stringValue, value.intsValue, value.elementCount)
    }
    guard bytes.count % 16 == 0 else { return }
    let path = scratch.path("written.gguf")
    let writer = try GGUFWriter(
        path: path, metadata: file.metadata.map { ($0.key, $0.value) },
        tensors: file.tensors.map { .init(name: $0.name, type: $0.type, shape: $0.shape) }, replacing: true)
    for tensor in file.tensors { try writer.append(file.withBytes(of: tensor), to: tensor.name) }
    try writer.finish()
    let again = try GGUFFile(path: path)
    require(again.tensors.count == file.tensors.count, "tensors were lost in writing")
    for (old, new) in zip(file.tensors, again.tensors) {
        require(old.name.hasSameBytes(as: new.name) && old.shape == new.shape && old.type == new.type)
        require(file.withBytes(of: old).elementsEqual(again.withBytes(of: new)), "a tensor's bytes changed")
    }
}

private func readGGUFModel(_ bytes: [UInt8]) throws {
    let path = scratch.write("x.gguf", bytes)
    _ = try TextResources.template(at: path)
    let model = try GGUFModel(path: path)
    for parameter in ParameterTable(model.config).parameters { _ = model.tensor(parameter) }
}

private func readStore(_ bytes: [UInt8]) throws {
    let store = try TokenStore(path: scratch.write("x.h5", bytes))
    for index in 0..<min(store.rowCount, 64) {
        let row = try store.row(index)
        require(row.ids.count == row.isTrained.count)
    }
}

private func readPart(_ bytes: [UInt8]) throws {
    // The hash is made right, or nothing but it would be tried.
    let part = try TokenPart(path: scratch.write("x.part", withPartHash(bytes)))
    for bucket in part.buckets.keys.sorted().prefix(16) where part.size(ofBucket: bucket) <= 16 << 20 {
        _ = try part.records(ofBucket: bucket) { _, _, _ in true }
    }
    for column in 0..<min(part.columnCount, 16) { _ = try part.column(column, 0..<min(part.rowCount, 64)) }
}

/// `bytes` with the hash in a part's trailer made right; as they are when they are no part.
private func withPartHash(_ bytes: [UInt8]) -> [UInt8] {
    let end = bytes.count - 96
    guard end >= 0 else { return bytes }
    let start = bytes[end..<end + 8].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    guard start <= UInt64(end) else { return bytes }
    var bytes = bytes
    bytes.replaceSubrange(end + 24..<end + 88, with: Array(sha256(Array(bytes[Int(start)..<end + 24])).utf8))
    return bytes
}

// MARK: Documents

private func readJSON(_ bytes: [UInt8]) throws {
    let value = try JSONParser.parse(bytes)
    let written = JSONWriter.bytes(value)
    let again = try JSONParser.parse(written)
    require(JSONWriter.bytes(again) == written, "JSON changes when it is written and read")
    let pretty = try JSONParser.parse(JSONWriter.bytes(value, .pretty))
    require(JSONWriter.bytes(pretty) == written, "JSON changes when it is written in lines")
}

private func readRecipe(_ bytes: [UInt8]) throws {
    guard let yaml = String(validating: bytes, as: UTF8.self) else { return }
    let recipe = try Recipe(yaml: yaml, path: "/recipes/x.yaml")
    // A recipe that is written out in full says the same again.
    let resolved = recipe.resolvedYAML
    do {
        let again = try Recipe(yaml: resolved, path: "/recipes/x.yaml").resolvedYAML
        require(again.hasSameBytes(as: resolved), "a recipe changes when it is written out")
    } catch {
        fail("the recipe as it is written out is refused: \(error)")
    }
}

private func readAdapterConfig(_ bytes: [UInt8]) throws {
    guard let json = try JSONParser.parse(bytes, duplicateKeys: .refuse).objectValue else { return }
    var problems: [String] = []
    let config = AdapterConfig(json: json, problems: &problems)
    guard problems.isEmpty else { return }
    for module in ["model.layers.11.self_attn.q_proj", "lm_head", "model.embed_tokens"] {
        _ = (config.targets(module), config.rankAndAlpha(of: module), config.tokenIndices(of: module))
    }
}

// MARK: Rows

private func readRows(_ name: String, _ bytes: [UInt8]) throws {
    var file = try RowFile(path: scratch.write(name, bytes), takesAllColumns: true)
    var faults = 0
    while let row = try file.next() {
        do {
            let value = try row.value()
            // Whether it is a row of any known shape does not count: other readers try that.
            _ = try? Row(value)
        } catch let error as RowError {
            require(!error.reason.isEmpty)
            faults += 1
        }
    }
    if faults > 0 { throw RowError("\(faults) rows are at fault") }
}

private func makeExample(_ bytes: [UInt8]) throws {
    guard let first = bytes.first else { return }
    let builders = Fixed.builders
    let builder = builders[Int(first) % builders.count]
    let row = try Row(try JSONParser.parse(Array(bytes[1...])))
    let example = try builder.example(for: row)
    require(example.ids.count == example.isTrained.count)
    require(example.ids.allSatisfy { $0 >= 0 && Int($0) < builder.vocabularySize }, "an id beyond the vocabulary")
}

// MARK: Text

/// Encodes and decodes some texts: no tokenizer that was accepted may fail at them in any but its own words.
private func tryOut(_ tokenizer: Tokenizer) throws {
    // Nearly an added token, again and again: what a matcher is slow at.
    let nearly = tokenizer.addedTokens.prefix(2).map { token in
        let stem = String(decoding: token.content.bytes.dropLast(), as: UTF8.self)
        return String(repeating: stem, count: max(1, min(1 << 17, 32 * stem.utf8.count) / max(1, stem.utf8.count)))
    }
    for text in Fixed.texts + nearly {
        let encoding: Encoding
        do { encoding = try tokenizer.encoding(of: text, addSpecialTokens: true) } catch is TokenizerError { continue }
        check(encoding, text)
        _ = tokenizer.decode(encoding.ids, skipSpecialTokens: false)
        _ = tokenizer.decode(encoding.ids, skipSpecialTokens: true)
    }
    _ = tokenizer.decode([-1, 0, 1, 2, Int32.max, Int32.min], skipSpecialTokens: false)
}

private func check(_ encoding: Encoding, _ text: String) {
    let count = text.utf8.count
    require(encoding.ids.count == encoding.byteRanges.count)
    require(
        encoding.byteRanges.allSatisfy { $0.lowerBound >= 0 && $0.upperBound <= count }, "a range beyond the text")
}

private func readTiktoken(_ bytes: [UInt8]) throws {
    let parts = bytes.split(separator: 0, maxSplits: 1, omittingEmptySubsequences: false)
    let config =
        parts.count > 1 ? try TokenizerConfig(try JSONParser.parse(Array(parts[1])), path: "x.json") : TokenizerConfig()
    let (read, named) = try TiktokenFile(Array(parts[0]), path: "x.tiktoken").read(config)
    try tryOut(try Tokenizer(read, named))
}

private func readVocabularyAndMerges(_ bytes: [UInt8]) throws {
    let parts = bytes.split(separator: 0, maxSplits: 2, omittingEmptySubsequences: false).map(Array.init)
    guard parts.count > 1 else { return }
    let config =
        parts.count > 2 ? try TokenizerConfig(try JSONParser.parse(parts[2]), path: "x.json") : TokenizerConfig()
    let read = try VocabularyAndMerges(
        path: "vocab.json", vocabulary: try JSONParser.parse(parts[0]), merges: parts[1], config: config
    ).read()
    try tryOut(try Tokenizer(read, config))
}

private func encodeAndDecode(_ bytes: [UInt8]) throws {
    guard let first = bytes.first else { return }
    let tokenizers = Fixed.tokenizers
    let (tokenizer, isLossless) = tokenizers[Int(first & 63) % tokenizers.count]
    let text = String(decoding: bytes[1...], as: UTF8.self)
    let encoding = try tokenizer.encoding(of: text, addSpecialTokens: false, parseSpecialTokens: first < 128)
    check(encoding, text)
    let decoded = tokenizer.decode(encoding.ids, skipSpecialTokens: false)
    require(!isLossless || decoded.hasSameBytes(as: text), "a text is not what it was encoded from")
}

private func renderTemplate(_ bytes: [UInt8]) throws {
    let parts = bytes.split(separator: 0, maxSplits: 1, omittingEmptySubsequences: false)
    guard let source = String(validating: parts[0], as: UTF8.self) else { return }
    let template = try ChatTemplate(source: source)
    var variables = Fixed.variables
    if parts.count > 1, let given = try JSONParser.parse(Array(parts[1])).objectValue { variables = given }
    let rendered = try template.render(variables: variables, now: Fixed.now)
    for span in rendered.generationSpans ?? [] { require(span.upperBound <= rendered.text.utf8.count) }
}
