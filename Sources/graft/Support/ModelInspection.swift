import FileFormats
import FineTuning
import Foundation

extension Inspector {
    /// A model folder: its family and size, what an adapter would train, its licence, and what graft cannot do with it.
    func model() throws -> Inspection {
        var result = Inspection(kind: "model folder", path: path)
        var limits: [(cannot: String, because: String)] = []
        var config: ModelConfig?
        let weights = Result { try SafetensorsFolder(path: path) }
        let run = "run, train or convert"
        do {
            let read = try ModelConfig(path: path)
            addFacts(read, to: &result)
            for problem in read.family.gguf.problems(read) { limits.append(("export to GGUF", problem)) }
            for warning in read.family.gguf.warnings(read) { limits.append(("export to GGUF exactly", warning)) }
            config = try (try? weights.get()).map { try ModelConfig(path: path, files: $0) }
            result.notes = config?.notes ?? []
        } catch FineTuningError.unsupportedModel(_, let problems) {
            result.add("family", (try? ModelConfig.typeName(path: path)).map { .string($0) } ?? .null)
            limits += problems.map { (run, $0) }
        } catch let error as FineTuningError {
            limits.append((run, error.description))
        }
        let hasTokenizer = Self.vocabularies.contains(where: has)
        let hasTemplate = try hasChatTemplate()
        result.add("tokenizer", .bool(hasTokenizer))
        result.add("chat_template", .bool(hasTemplate))
        result.add("licence", .array(try licences().map { .string($0) }))
        if !hasTokenizer { limits.append(("read text", "there is no tokenizer: rows have to be token ids")) }
        if hasTokenizer, !hasTemplate {
            let reason = "there is no chat template: add a chat_template.jinja, or train on texts and prompts"
            limits.append(("render conversations", reason))
        }
        do {
            let files = try weights.get()
            addTensors(files.entries, to: &result)
            for problem in config.map({ DecoderModel.mismatches($0, files) }) ?? [] {
                limits.append((run, problem))
            }
        } catch FileError.modelFolder(_, let faults) {
            limits += faults.map { (run, $0.description) }
        } catch let error as FileError {
            limits.append((run, error.description))
        }
        result.add("can_run", .bool(!limits.contains { $0.cannot == run }))
        let rows = limits.map { JSONObject([("cannot", .string($0.cannot)), ("because", .string($0.because))]) }
        result.tables.insert(("limits", showsAll ? rows : Array(rows.prefix(20)), rows.count), at: 0)
        return result
    }

    private static let vocabularies = [
        "tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json", "tiktoken.model",
    ]

    private func addFacts(_ config: ModelConfig, to result: inout Inspection) {
        result.add("family", .string(config.family.rawValue))
        result.add("parameter_count", .integer(config.parameterCount))
        result.add("vocabulary", .integer(config.vocabularySize))
        result.add("layers", .integer(config.layerCount))
        result.add("hidden_size", .integer(config.hiddenSize))
        result.add("intermediate_size", .integer(config.intermediateSize))
        result.add("heads", .integer(config.headCount))
        result.add("key_value_heads", .integer(config.keyValueHeadCount))
        result.add("head_dim", .integer(config.headDim))
        result.add("context", .integer(config.maxPositions))
        result.add("tied_embeddings", .bool(config.tiesEmbeddings))
        let targets = config.adapterTargets
        func texts(_ targets: [(name: String, count: Int)]) -> JSONValue {
            .array(targets.map { .string("\($0.name) x \($0.count)") })
        }
        result.add("lora_targets", texts(targets.allLinear))
        result.add("more_lora_targets", texts(targets.others))
        result.add("lora_parameters_at_rank_16", .integer(16 * targets.width))
    }

    private func hasChatTemplate() throws -> Bool {
        if has("chat_template.jinja") || has("chat_template.json") { return true }
        guard has("tokenizer_config.json"),
            let config = try? JSONParser.parse(readFile(path + "/tokenizer_config.json", limit: 32 << 20))
        else { return false }
        return config["chat_template"].map { !$0.isNull } ?? false
    }

    /// The files that state terms of use, and what the model card says.
    private func licences() throws -> [String] {
        let names = try namesInFolder(path)
        var found = names.filter { name in
            ["LICENSE", "LICENCE", "COPYING", "NOTICE", "USE_POLICY"].contains {
                name.uppercased().utf8.starts(with: $0.utf8)
            }
        }
        if has("README.md"), let card = try? readFile(path + "/README.md", limit: 4 << 20) {
            let lines = String(decoding: card, as: UTF8.self).split(separator: "\n", maxSplits: 200)
            if lines.first?.trimmingCharacters(in: .whitespaces) == "---" {
                for line in lines.dropFirst().prefix(while: { !$0.hasPrefix("---") }) where line.hasPrefix("license") {
                    found.append("README.md: " + line.trimmingCharacters(in: .whitespaces))
                }
            }
        }
        return found
    }
}
