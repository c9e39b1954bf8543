import FileFormats

/// `vocab.json` and `merges.txt`, the form of byte-level BPE before tokenizer.json: made into the tokenizer.json that
/// Transformers makes of them.
struct VocabularyAndMerges {
    let path: String
    let vocabulary: JSONValue
    let merges: [UInt8]
    let config: TokenizerConfig

    /// - Parameter path: of vocab.json, for errors.
    func read() throws -> TokenizerParts {
        guard let text = String(validating: merges, as: UTF8.self) else {
            throw TokenizerError.malformed(path: path, place: "merges.txt", reason: "it is not UTF-8")
        }
        var lines: [JSONValue] = []
        for line in text.utf8.split(separator: 0x0A) {
            let line = line.last == 0x0D ? line.dropLast() : line
            if line.isEmpty || line.starts(with: "#version".utf8) { continue }
            lines.append(.string(String(decoding: Array(line), as: UTF8.self)))
        }
        let isQwen = ["Qwen2Tokenizer", "Qwen2TokenizerFast"].contains(config.tokenizerClass)
        let byteLevel: JSONValue = [
            "type": "ByteLevel", "add_prefix_space": .bool(config.addsPrefixSpace), "trim_offsets": true,
            "use_regex": .bool(!isQwen),
        ]
        var document: [(key: String, value: JSONValue)] = [
            ("model", ["type": "BPE", "vocab": vocabulary, "merges": .array(lines)]), ("pre_tokenizer", byteLevel),
            ("decoder", byteLevel), ("added_tokens", .array(addedTokens())),
        ]
        if isQwen {
            document[1].value = [
                "type": "Sequence",
                "pretokenizers": [
                    [
                        "type": "Split", "pattern": ["Regex": .string(SplitScanner.qwen2Pattern)],
                        "behavior": "Isolated",
                        "invert": false,
                    ], byteLevel,
                ],
            ]
            document.append(("normalizer", ["type": "NFC"]))
        }
        if let processor = postProcessor() { document.append(("post_processor", processor)) }
        return try TokenizerJSONReader(path: path).read(.object(JSONObject(document)))
    }

    private func id(_ token: String) -> Int? {
        vocabulary[token]?.intValue ?? config.addedTokens.first { $0.text.hasSameBytes(as: token) }?.id
    }

    /// What the class of the tokenizer puts around a text.
    private func postProcessor() -> JSONValue? {
        let isRoberta = ["Roberta", "Bart", "Longformer", "LED"].contains { config.tokenizerClass.hasPrefix($0) }
        if isRoberta {
            let cls = config.bos?.description ?? "<s>"
            let sep = config.eos?.description ?? "</s>"
            guard let clsID = id(cls), let sepID = id(sep) else { return nil }
            return [
                "type": "RobertaProcessing", "cls": [.string(cls), .integer(clsID)],
                "sep": [.string(sep), .integer(sepID)],
            ]
        }
        guard config.addsBOS == true, let bos = config.bos?.description, let bosID = id(bos) else { return nil }
        return [
            "type": "TemplateProcessing",
            "single": [
                ["SpecialToken": ["id": .string(bos), "type_id": 0]], ["Sequence": ["id": "A", "type_id": 0]],
            ],
            "special_tokens": .object(JSONObject([(bos, ["id": .string(bos), "ids": [.integer(bosID)]])])),
        ]
    }

    private func addedTokens() -> [JSONValue] {
        let entries = vocabulary.objectValue?.entries ?? []
        let ids = Dictionary(entries.map { (ByteString($0.key), $0.value.intValue) }, uniquingKeysWith: { $1 })
        // Ids out of range are refused where the vocabulary is read.
        let size = (entries.compactMap(\.value.intValue).filter { $0 < Int(Int32.max) }.max() ?? -1) + 1
        let listed = Set(config.addedTokens.map(\.id))
        return config.addedTokenEntries
            + config.missingSpecialEntries(vocabularySize: size) { ids[$0] ?? nil }.filter {
                !listed.contains($0["id"]?.intValue ?? -1)
            }
    }
}
