import FileFormats
import FineTuning
import Foundation
import TextData

/// What `inspect` found: facts and tables, printable as text and as JSON.
struct Inspection {
    var kind: String
    var path: String
    var facts: [(name: String, value: JSONValue)] = []
    var tables: [(name: String, rows: [JSONObject], total: Int)] = []
    /// What is right but worth knowing.
    var notes: [String] = []

    mutating func add(_ name: String, _ value: JSONValue) { facts.append((name, value)) }

    var json: JSONValue {
        var entries: [(key: String, value: JSONValue)] = [("kind", .string(kind)), ("path", .string(path))]
        entries += facts.map { ($0.name, $0.value) }
        entries += tables.map { ($0.name, .array($0.rows.map { .object($0) })) }
        if !notes.isEmpty { entries.append(("notes", .array(notes.map { .string($0) }))) }
        return .object(JSONObject(entries))
    }

    var text: String {
        var result = "\(path): \(kind)\n"
        if !facts.isEmpty {
            let rows = facts.map { ["  " + $0.name.replacingOccurrences(of: "_", with: " "), Self.text($0.value)] }
            let width = rows.map { $0[0].unicodeScalars.count }.max() ?? 0
            for row in rows {
                let padding = String(repeating: " ", count: width - row[0].unicodeScalars.count)
                result += "\(row[0])\(padding)  \(row[1])\n"
            }
        }
        for note in notes { result += "  note: \(note)\n" }
        for found in tables where !found.rows.isEmpty {
            let keys = found.rows[0].keys
            let rows = found.rows.map { row in keys.map { row[$0].map(Self.text) ?? "" } }
            result += "\n" + table([keys] + rows) + "\n"
            if found.total > found.rows.count {
                result += "... and \(found.total - found.rows.count) more \(found.name); --all lists them\n"
            }
        }
        return result
    }

    private static func text(_ value: JSONValue) -> String {
        switch value {
        case .string(let text): String(quoted(text).dropFirst().dropLast())
        case .double(let number): String(format: "%.6g", number)
        case .array(let elements) where elements.allSatisfy { if case .object = $0 { false } else { true } }:
            elements.isEmpty ? "none" : elements.map(text).joined(separator: ", ")
        case .null: "-"
        default: JSONWriter.text(value)
        }
    }
}

/// Tells what stands at a path, by its content, and describes it.
struct Inspector {
    let path: String
    let showsAll: Bool
    private static let tableRows = 40

    func inspect() throws -> Inspection {
        guard let kind = fileKind(path) else {
            throw FileError.missing(path: path, what: "file or folder")
        }
        return kind == .folder ? try inspectFolder() : try inspectFile()
    }

    func has(_ name: String) -> Bool { isPresent(path + "/" + name) }

    private func inspectFolder() throws -> Inspection {
        if AdapterFile.isOfMLX(path) { return try mlxAdapter() }
        if has("adapter_config.json") { return try adapter() }
        if has("recipe.resolved.yaml") { return try run() }
        if has("MANIFEST.json"), has("state.json") { return try checkpoint() }
        if has("config.json") { return try model() }
        if has("tokenizer.json") {
            return try Inspector(path: path + "/tokenizer.json", showsAll: showsAll).inspect()
        }
        throw InspectError.unknown(
            path: path,
            reason: "the folder has no config.json, adapter_config.json, recipe.resolved.yaml or tokenizer.json")
    }

    private func inspectFile() throws -> Inspection {
        let head = try readHead(path, count: 4096)
        try Substitute.refuse(head, path: path)
        if head.starts(with: Array("GGUF".utf8)) { return try gguf() }
        if TokenStore.isStore(path) { return try store() }
        // A safetensors file begins with the length of its header and a brace.
        if head.count > 8, head[8] == UInt8(ascii: "{"), head[6] == 0, head[7] == 0 { return try safetensors() }
        if path.hasSuffix(".safetensors") { return try safetensors() }
        let name = path.split(separator: "/").last.map(String.init) ?? path
        if name.hasSuffix(".yaml") || name.hasSuffix(".yml") { return try recipe() }
        let first = head.first { ![0x20, 0x09, 0x0A, 0x0D, 0xEF, 0xBB, 0xBF].contains($0) }
        if name == "metrics.jsonl" { return try metrics() }
        if try RowSurvey.isRows(path) || RowSurvey.holdsRows(path) { return try rows() }
        if first == UInt8(ascii: "{") { return try json() }
        if looksLikeRecipe(head) { return try recipe() }
        throw InspectError.unknown(path: path, reason: "neither safetensors, GGUF, a token store, JSON nor a recipe")
    }

    // MARK: tensors

    private func limited<Element>(_ items: [Element]) -> ArraySlice<Element> {
        showsAll ? items[...] : items.prefix(Self.tableRows)
    }

    func addTensors(_ entries: [TensorEntry], to result: inout Inspection) {
        var parameters = 0
        var bytes = 0
        for entry in entries { (parameters, bytes) = (parameters + entry.elementCount, bytes + entry.byteRange.count) }
        let types = Dictionary(grouping: entries, by: \.type.rawValue).mapValues(\.count).sorted { $0.key < $1.key }
        result.add("tensors", .integer(entries.count))
        result.add("parameters", .integer(parameters))
        result.add("tensor_bytes", .integer(bytes))
        result.add("types", .array(types.map { .string("\($0.key) x \($0.value)") }))
        let rows = limited(entries).map { entry in
            JSONObject([
                ("name", .string(entry.name)), ("type", .string(entry.type.rawValue)),
                ("shape", .array(entry.shape.map { .integer($0) })), ("bytes", .integer(entry.byteRange.count)),
            ])
        }
        result.tables.append(("tensor_list", rows, entries.count))
    }

    private func safetensors() throws -> Inspection {
        let file = try SafetensorsFile(path: path)
        var result = Inspection(kind: "safetensors", path: path)
        addTensors(file.entries, to: &result)
        if !file.metadata.isEmpty {
            result.add("metadata", .object(JSONObject(file.metadata.map { (key: $0.0, value: .string($0.1)) })))
        }
        return result
    }

    private func gguf() throws -> Inspection {
        let file = try GGUFFile(path: path)
        var result = Inspection(kind: "GGUF", path: path)
        result.add("version", .integer(Int(file.version)))
        result.add("alignment", .integer(file.alignment))
        result.add("tensors", .integer(file.tensors.count))
        result.add("parameters", .integer(file.tensors.reduce(0) { $0 + $1.elementCount }))
        let types = Dictionary(grouping: file.tensors, by: \.type.name).mapValues(\.count).sorted { $0.key < $1.key }
        result.add("types", .array(types.map { .string("\($0.key) x \($0.value)") }))
        let values = file.metadata.map { entry in
            JSONObject([("key", .string(entry.key)), ("value", Self.json(entry.value))])
        }
        result.tables.append(("metadata", values, values.count))
        let tensors = limited(file.tensors).map { tensor in
            JSONObject([
                ("name", .string(tensor.name)), ("type", .string(tensor.type.name)),
                ("shape", .array(tensor.shape.map { .integer($0) })), ("bytes", .integer(tensor.byteRange.count)),
            ])
        }
        result.tables.append(("tensor_list", tensors, file.tensors.count))
        return result
    }

    /// Scalars as they are; of arrays the kind and the length, since a vocabulary is no reading matter.
    private static func json(_ value: GGUFValue) -> JSONValue {
        if let flag = value.boolValue { return .bool(flag) }
        if let text = value.bytesValue { return .string(text.description) }
        if let number = value.intValue { return .integer(number) }
        if let number = value.doubleValue { return .double(number) }
        return .string("\(value.elementCount ?? 0) values")
    }

    private func store() throws -> Inspection {
        let store = try TokenStore(path: path)
        var result = Inspection(kind: "token store", path: path)
        result.add("rows", .integer(store.rowCount))
        result.add("tokens", .integer(store.tokenCount))
        result.add("trained_tokens", .integer(store.trainedCount))
        result.add("vocabulary", .integer(store.header.vocabularySize))
        result.add("tokenizer_sha256", .string(store.header.tokenizerHash))
        result.add("template_sha256", .string(store.header.templateHash))
        result.add("data_sha256", .string(store.header.dataHash))
        result.add("key", .string(store.header.key))
        result.add("options", .string(store.header.options))
        let files = (try? JSONParser.parse(store.header.files))?.arrayValue?.compactMap(\.objectValue) ?? []
        result.tables.append(("files", Array(limited(files)), files.count))
        return result
    }

    // MARK: folders

    private func adapter() throws -> Inspection {
        let file = try AdapterFile(folder: path, refusesNonFinite: false)
        let targets: JSONValue =
            switch file.config.targets {
            case .allLinear: "all-linear"
            case .names(let names): .array(names.map { .string($0) })
            case .pattern(let pattern): .string(pattern)
            }
        var result = Inspection(kind: "LoRA adapter", path: path)
        result.add("rank", .integer(file.config.rank))
        result.add("alpha", .double(file.config.alpha))
        result.add("dropout", .double(file.config.dropout))
        result.add("rank_stabilised", .bool(file.config.usesRankStabilisedScale))
        result.add("targets", targets)
        result.add("base_model", file.config.baseModel.map { .string($0) } ?? .null)
        result.add("modules", .integer(file.modules.count))
        let damaged = try file.nonFiniteTensors()
        if !damaged.isEmpty { result.add("not_finite", .array(damaged.map { .string($0) })) }
        addTensors(file.tensors.entries, to: &result)
        return result
    }

    private func mlxAdapter() throws -> Inspection {
        var result = Inspection(kind: "mlx-lm adapter", path: path)
        let config = has("adapter_config.json") ? try readJSON(path + "/adapter_config.json") : .null
        let parameters = config["lora_parameters"]
        result.add("fine_tune_type", config["fine_tune_type"] ?? .null)
        result.add("rank", parameters?["rank"] ?? .null)
        result.add("scale", parameters?["scale"] ?? .null)
        result.add("dropout", parameters?["dropout"] ?? .null)
        result.add("base_model", config["model"] ?? .null)
        result.add("next_step", .string("graft adapter convert \(path) --to peft --out DIR"))
        addTensors(try SafetensorsFile(path: path + "/" + AdapterFile.mlxTensorsName).entries, to: &result)
        return result
    }

    private func checkpoint() throws -> Inspection {
        let state = try readJSON(path + "/state.json")
        var result = Inspection(kind: "checkpoint", path: path)
        for (key, value) in state.objectValue?.entries ?? [] where key != "version" { result.add(key, value) }
        let files = try readJSON(path + "/MANIFEST.json")["files"]?.objectValue?.entries ?? []
        var rows: [JSONObject] = []
        for (name, value) in files {
            let found = try? sha256(ofFile: path + "/" + name)
            let isWhole = value["sha256"]?.stringValue.map { found?.hasSameBytes(as: $0) ?? false } ?? false
            rows.append(
                JSONObject([
                    ("file", .string(name)), ("size", value["size"] ?? .null), ("whole", .bool(isWhole)),
                ]))
        }
        result.tables.append(("files", rows, rows.count))
        return result
    }

    private func run() throws -> Inspection {
        var result = Inspection(kind: "run directory", path: path)
        let recipe = try Recipe(path: path + "/recipe.resolved.yaml")
        switch recipe.model {
        case .folder(let folder): result.add("model", .string(folder))
        case .initial(let config, _): result.add("model", .string("random weights of \(config)"))
        }
        result.add("method", .string(recipe.adapter.method.rawValue))
        if has("metrics.jsonl") { addCurve(try MetricsLog.read(path + "/metrics.jsonl"), to: &result) }
        let checkpoints = ((try? namesInFolder(path + "/checkpoints")) ?? [])
            .filter { $0.hasPrefix("step-") }.sorted()
        result.add("checkpoints", .array(checkpoints.map { .string($0) }))
        result.add("finished", .bool(has("manifest.json")))
        return result
    }

    // MARK: text files

    private func addCurve(_ lines: [JSONObject], to result: inout Inspection) {
        let steps = lines.filter { $0["loss"]?.doubleValue != nil }
        let curve = EvaluationCurve(lines)
        result.add("steps", steps.last?["step"] ?? .integer(0))
        if let first = steps.first?["loss"], let last = steps.last?["loss"] {
            result.add("first_loss", first)
            result.add("last_loss", last)
        }
        if let first = curve.points.first, let last = curve.final {
            result.add("first_eval_loss", .double(first.loss))
            result.add("last_eval_loss", .double(last.loss))
        }
        if let seconds = lines.last?["elapsed_seconds"] { result.add("elapsed_seconds", seconds) }
    }

    private func metrics() throws -> Inspection {
        var result = Inspection(kind: "metrics", path: path)
        addCurve(try MetricsLog.read(path), to: &result)
        return result
    }

    private func recipe() throws -> Inspection {
        let recipe = try Recipe(path: path)
        var result = Inspection(kind: "recipe", path: path)
        var section = ""
        for line in recipe.resolvedYAML.split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 1).map { $0.trimmingCharacters(in: .whitespaces) }
            guard parts.count == 2 else { continue }
            if !line.hasPrefix(" ") { section = parts[1].isEmpty ? parts[0] + "." : "" }
            if !parts[1].isEmpty, !parts[0].hasPrefix("-") { result.add(section + parts[0], .string(parts[1])) }
        }
        return result
    }

    /// Whether at least two sections of a recipe begin at the start of a line.
    private func looksLikeRecipe(_ head: [UInt8]) -> Bool {
        let lines = head.split(whereSeparator: { $0 == 0x0A || $0 == 0x0D })
        let sections = ["model:", "data:", "adapter:", "training:", "output:"]
        return sections.count { section in lines.contains { $0.starts(with: section.utf8) } } >= 2
    }

    private func readJSON(_ path: String) throws -> JSONValue {
        try FileFormats.readJSON(path, limit: 256 << 20)
    }

    private func json() throws -> Inspection {
        let value = try readJSON(path)
        if let model = value["model"]?.objectValue, model["type"] != nil || model["vocab"] != nil {
            var result = Inspection(kind: "tokenizer", path: path)
            result.add("model", model["type"] ?? .null)
            let size = model["vocab"]?.objectValue?.count ?? model["vocab"]?.arrayValue?.count ?? 0
            result.add("vocabulary", .integer(size))
            result.add("merges", .integer(model["merges"]?.arrayValue?.count ?? 0))
            result.add("added_tokens", .integer(value["added_tokens"]?.arrayValue?.count ?? 0))
            for part in ["normalizer", "pre_tokenizer", "post_processor", "decoder"] {
                result.add(part, value[part]?["type"] ?? .null)
            }
            return result
        }
        var result = Inspection(kind: "JSON", path: path)
        result.add("keys", .array(value.objectValue?.keys.map { .string($0) } ?? []))
        return result
    }

    private func rows() throws -> Inspection {
        let survey = try RowSurvey(path: path)
        var result = Inspection(kind: "data rows", path: path)
        result.add("read_as", .string(survey.kind))
        result.add("rows", .integer(survey.rows))
        let table = survey.shapes.map { JSONObject([("keys", .string($0.keys)), ("rows", .integer($0.count))]) }
        result.tables.append(("row_shapes", table, table.count))
        return result
    }
}

enum InspectError: GraftError {
    case unknown(path: String, reason: String)
    case badRow(path: String, row: Int, reason: String)

    var exitStatus: ExitStatus { .badInput }

    var description: String {
        switch self {
        case .unknown(let path, let reason):
            "\(path): graft does not know what this is: \(reason)\n  see 'graft help inspect' for what it reads"
        case .badRow(let path, let row, let reason):
            "\(path), row \(row): \(reason)\n  correct or remove the row"
        }
    }
}
