public import FileFormats

extension DecoderModel {
    /// What keeps the files' tensors from being the model's, each kind in one line where many have it.
    public static func mismatches(_ config: ModelConfig, _ files: SafetensorsFolder) -> [String] {
        let table = ParameterTable(config)
        if let problem = table.misnaming(files) { return [problem] }
        var problems = table.mismatches(files)
        var expected = Set(table.parameters.map { ByteString($0.name) })
        // Copies that carry nothing new: a tied head, and frequencies that config.json gives.
        if config.tiesEmbeddings {
            expected.insert(ByteString(ParameterTable.head))
            if hasOwnHead(files) {
                problems.append(
                    "\(ParameterTable.head) is not the matrix of \(ParameterTable.embedding), though "
                        + "tie_word_embeddings is true; say false in config.json if the model has a head of its own")
            }
        }
        let surplus = files.entries.map(\.name).filter { name in
            !expected.contains(ByteString(name)) && !name.hasSuffix(".rotary_emb.inv_freq") && !config.leavesOut(name)
        }
        let (beyond, others) = surplus.parted { (ParameterTable.layer(of: $0) ?? -1) >= config.layerCount }
        if let last = beyond.compactMap(ParameterTable.layer).max() {
            problems.append(
                "the files have \(last + 1) layers, num_hidden_layers is \(config.layerCount) (\(shortList(beyond)))")
        }
        return problems
            + lines(others, of: files.entries.count, "tensors are not") {
                "\($0) is not part of a \(config.family.rawValue) model"
            }
    }

    /// Whether the files hold a head with other values than the embedding's, by rows from all over them.
    private static func hasOwnHead(_ files: SafetensorsFolder) -> Bool {
        guard let head = files.entry(named: ParameterTable.head),
            let embedding = files.entry(named: ParameterTable.embedding), head.shape == embedding.shape,
            head.type == embedding.type, let rows = head.shape.first, rows > 0
        else { return false }
        let (ofHead, ofEmbedding) = (files.withBytes(of: head), files.withBytes(of: embedding))
        let size = ofHead.count / rows
        return stride(from: 0, to: rows, by: max(1, rows / 64)).contains { row in
            let range = row * size..<(row + 1) * size
            return !ofHead[range].elementsEqual(ofEmbedding[range])
        }
    }
}

/// A line for each of a few names, one for many.
private func lines(_ names: [String], of all: Int, _ many: String, _ line: (String) -> String) -> [String] {
    guard names.count > 6, let first = names.first else { return names.map(line) }
    return ["\(line(first)); with it \(names.count) of \(all) \(many): \(shortList(Array(names.dropFirst())))"]
}

extension Array {
    fileprivate func parted(_ isFirst: (Element) -> Bool) -> (first: [Element], rest: [Element]) {
        (filter(isFirst), filter { !isFirst($0) })
    }
}

extension ParameterTable {
    /// The layer that a name belongs to; nil for what belongs to none.
    static func layer(of name: String) -> Int? {
        let parts = name.utf8.split(separator: UInt8(ascii: "."), maxSplits: 3)
        guard parts.count == 4, parts[0].elementsEqual("model".utf8), parts[1].elementsEqual("layers".utf8) else {
            return nil
        }
        return Int(String(decoding: parts[2], as: UTF8.self))
    }

    /// Parameters that the files lack, or hold with another shape or in a type that graft does not compute with.
    public func mismatches(_ files: SafetensorsFolder) -> [String] {
        if let problem = misnaming(files) { return [problem] }
        let there = Set(files.entries.compactMap { Self.layer(of: $0.name) })
        var missing: [String] = [], missingLayers: Set<Int> = [], shapes: [String] = [], types: [String] = []
        for parameter in parameters {
            guard let entry = files.entry(named: parameter.name) else {
                if let layer = Self.layer(of: parameter.name), !there.contains(layer) {
                    missingLayers.insert(layer)
                } else {
                    missing.append(parameter.name)
                }
                continue
            }
            if entry.shape != parameter.shape {
                shapes.append("\(parameter.name): expected shape \(parameter.shape), found \(entry.shape)")
            }
            if ![.f32, .f16, .bf16].contains(entry.type) {
                types.append("\(parameter.name): expected F32, F16 or BF16, found \(entry.type.rawValue)")
            }
        }
        var problems: [String] = []
        if let first = missingLayers.min(), let last = missingLayers.max() {
            problems.append(
                "all tensors of \(missingLayers.count == 1 ? "layer \(first)" : "layers \(first) to \(last)") are missing; "
                    + "num_hidden_layers is \(config.layerCount)")
        }
        if let head = missing.firstIndex(where: Self.head.hasSameBytes) {
            missing.remove(at: head)
            problems.append(
                "\(Self.head) is missing, and config.json does not say that the embedding is the head as well; write "
                    + "\"tie_word_embeddings\": true into it if the model is so, as most small models are")
        }
        problems += lines(missing, of: parameters.count, "parameters are") { "\($0) is missing" }
        problems += lines(shapes, of: parameters.count, "parameters have other shapes") { $0 }
        return problems + lines(types, of: parameters.count, "parameters have such a type") { $0 }
    }

    // MARK: names

    /// Why none of the names fits, in one sentence, where all stand behind another prefix than `model.`.
    func misnaming(_ files: SafetensorsFolder) -> String? {
        let prefix = "model."
        let tails = parameters.compactMap { parameter -> String? in
            guard parameter.name.utf8.starts(with: prefix.utf8) else { return nil }
            return String(decoding: parameter.name.utf8.dropFirst(prefix.utf8.count), as: UTF8.self)
        }
        func fitting(_ prefix: String) -> Int { tails.count { files.entry(named: prefix + $0) != nil } }
        guard !tails.isEmpty, fitting(prefix) < tails.count / 2 else { return nil }
        var candidates: Set<ByteString> = []
        for tail in tails.prefix(4) {
            for entry in files.entries where entry.name.utf8.count >= tail.utf8.count {
                let start = entry.name.utf8.dropLast(tail.utf8.count)
                guard entry.name.utf8.suffix(tail.utf8.count).elementsEqual(tail.utf8),
                    start.isEmpty || start.last == UInt8(ascii: ".")
                else { continue }
                candidates.insert(ByteString(start))
            }
        }
        let fits = candidates.sorted().map { ($0.description, fitting($0.description)) }
        guard let (found, count) = fits.max(by: { $0.1 < $1.1 }), count > tails.count / 2 else { return nil }
        let example = "\(found)\(tails[0]) where \(prefix)\(tails[0]) is expected"
        return
            (found.isEmpty
            ? "the tensors' names have no '\(prefix)' in front"
            : "the tensors' names begin with '\(found)', not '\(prefix)'")
            + " (\(example)): " + Self.advice(found)
    }

    private static func advice(_ prefix: String) -> String {
        let kinds: [(part: String, advice: String)] = [
            (
                "language_model.",
                "they are the text part of a multimodal model; write that part as a model of its own, with the "
                    + "names from 'model.' on"
            ),
            (
                "base_model.",
                "PEFT's names of a model with its adapter on; save it after merge_and_unload(), or give base and adapter"
            ),
            ("_orig_mod.", "torch.compile's names; save the model that was compiled"),
            ("module.", "names of a wrapper for training in parallel; save the model inside"),
            ("_fsdp_wrapped_module.", "names of a wrapper for training in parallel; save the model inside"),
        ]
        return kinds.first { prefix.contains($0.part) }?.advice
            ?? "save the whole model with its head, as Transformers' save_pretrained names it"
    }
}
