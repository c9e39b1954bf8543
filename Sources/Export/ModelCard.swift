import FileFormats
import FineTuning
import Foundation

/// What a run directory tells of an adapter that lies in it.
struct RunFacts {
    private let manifest: JSONObject
    private let metrics: [JSONObject]
    private let recipe: String?

    /// Nil when the adapter is not in a run directory.
    init?(adapter: String) {
        let folder = splitPath(absolutePath(adapter)).folder
        guard let manifest = try? ModelFiles.object(folder + "/manifest.json"),
            manifest["format"]?.stringValue?.utf8.starts(with: "graft-run".utf8) == true
        else { return nil }
        self.manifest = manifest
        let lines =
            (try? readFile(folder + "/metrics.jsonl", limit: 1 << 30))?.split(separator: UInt8(ascii: "\n")) ?? []
        metrics = lines.compactMap { (try? JSONParser.parse(Array($0)))?.objectValue }
        recipe = (try? readFile(folder + "/recipe.resolved.yaml", limit: 1 << 20)).map {
            String(decoding: $0, as: UTF8.self)
        }
    }

    /// Rows of the card: name, size and hash of each file of one kind.
    func data(_ kind: String) -> [String] {
        (manifest["data"]?[kind]?.arrayValue ?? []).compactMap { file in
            guard let path = file["path"]?.stringValue, let hash = file["sha256"]?.stringValue else { return nil }
            return "| \(kind) | \(splitPath(path).name) | \(file["size"]?.intValue ?? 0) | `\(hash)` |"
        }
    }

    var scores: [String] {
        func number(_ value: JSONValue?) -> String? { value?.doubleValue.map { String(format: "%.4f", $0) } }
        func row(_ step: Int, _ loss: Double, rows: Int?) -> String {
            let rows = rows.map { ", on \($0) rows" } ?? ""
            return "| evaluation loss, step \(step)\(rows) | \(String(format: "%.4f", loss)) |"
        }
        var rows: [String] = []
        let trained = metrics.filter { $0["loss"] != nil }, evaluated = EvaluationCurve(metrics)
        if let last = trained.last, let loss = number(last["loss"]) {
            rows.append("| training loss, step \(last["step"]?.intValue ?? 0) | \(loss) |")
        }
        if let first = evaluated.points.first, evaluated.points.count > 1 {
            rows.append(row(first.step, first.loss, rows: evaluated.pointRows))
        }
        if let final = evaluated.final { rows.append(row(final.step, final.loss, rows: final.rows)) }
        return rows
    }

    var origin: [String] {
        var lines: [String] = []
        if let hash = manifest["recipe_sha256"]?.stringValue { lines.append("- recipe: sha256 `\(hash)`") }
        if let hash = manifest["chat_template_sha256"]?.stringValue {
            lines.append("- chat template: sha256 `\(hash)`")
        }
        if let seed = manifest["seed"]?.intValue { lines.append("- seed: \(seed)") }
        for name in ["precision", "steps"] {
            if let value = manifest[name], !value.isNull {
                lines.append("- \(name): \(value.stringValue ?? JSONWriter.text(value))")
            }
        }
        if let version = manifest["versions"]?["graft"]?.stringValue { lines.append("- graft \(version)") }
        return lines
    }

    /// The blocks of the recipe that say how was trained; paths of this machine are not among them.
    var recipeBlocks: String? {
        guard let recipe else { return nil }
        var kept: [Substring] = [], keeps = false
        for line in recipe.split(separator: "\n") {
            if let first = line.utf8.first, first != 0x20, first != UInt8(ascii: "-") {
                keeps = ["adapter:", "training:", "objective:"].contains { line.hasPrefix($0) }
            }
            if keeps, !line.contains("init_from") { kept.append(line) }
        }
        return kept.isEmpty ? nil : kept.joined(separator: "\n")
    }
}

/// README.md of what is handed on: base, licence, data, recipe, scores, and how to run it.
struct ModelCard {
    var title: String
    /// The base by its name; never a path of this machine.
    var base: String
    var licence: BaseLicence
    var run: RunFacts?
    var adapter: JSONObject?
    var kind: Kind
    /// Commands, one a line.
    var usage: [String]
    var notes: [String] = []
    var parity: ParityReport?

    /// What the card is of.
    enum Kind: String {
        case gguf, peft, transformers

        /// What the model is to its base, in the words of the Hub.
        func relation(isTuned: Bool) -> String? {
            switch self {
            case .gguf: isTuned ? "finetune" : "quantized"
            case .peft: "adapter"
            case .transformers: isTuned ? "finetune" : nil
            }
        }
    }

    /// The metadata that the Hub reads (https://huggingface.co/docs/hub/model-cards).
    private var frontMatter: [String] {
        var lines = ["---"] + licence.frontMatter + ["base_model: \(yamlText(base))"]
        if let relation = kind.relation(isTuned: adapter != nil) { lines.append("base_model_relation: \(relation)") }
        lines += ["library_name: \(kind.rawValue)", "pipeline_tag: text-generation", "tags:"]
        return lines + ([kind.rawValue] + (kind == .peft ? ["lora"] : []) + ["graft"]).map { "- \($0)" } + ["---"]
    }

    var text: String {
        var lines = frontMatter + ["", "# \(title)", ""]
        lines.append(adapter == nil ? "\(base) in another form." : "A fine-tuned version of \(base).")
        lines += ["", "## How to run", "", "```sh"] + usage + ["```", ""]
        if !notes.isEmpty { lines += notes.map { "- \($0)" } + [""] }
        lines += ["## Base and licence", ""]
        lines.append("- base: \(base)")
        lines.append("- licence: \(licence.name ?? licence.identifier ?? "not named by the base's card")")
        lines += licence.files.map { "- see \(splitPath($0).name)" }
        lines += licence.duties.map { "- \($0)" } + [""]
        lines += training
        if let parity { lines += ["## Verification", ""] + Self.verification(parity) + [""] }
        return lines.joined(separator: "\n")
    }

    private var training: [String] {
        var lines: [String] = []
        let data = ["train", "eval"].flatMap { run?.data($0) ?? [] }
        if !data.isEmpty {
            lines += ["## Data", "", "| use | file | bytes | sha256 |", "|---|---|---|---|"] + data + [""]
        }
        if run != nil || adapter != nil { lines += ["## Recipe", ""] }
        if let adapter {
            for key in ["r", "lora_alpha", "target_modules", "use_rslora", "use_dora"] {
                guard let value = adapter[key], !value.isNull, value.boolValue != false else { continue }
                lines.append("- \(key): \(value.stringValue ?? JSONWriter.text(value))")
            }
        }
        if let run { lines += run.origin }
        if let blocks = run?.recipeBlocks { lines += ["", "```yaml", blocks, "```"] }
        if run != nil || adapter != nil { lines.append("") }
        if let scores = run?.scores, !scores.isEmpty {
            lines += ["## Scores", "", "| | nats a token |", "|---|---|"] + scores + [""]
        }
        return lines
    }

    private static func verification(_ parity: ParityReport) -> [String] {
        var lines = [
            "Read back and compared with the base and the adapter in f32 before it was published:", "",
            "- weights (\(parity.type)): largest relative error of a tensor \(decimal(parity.weights.largestError))",
        ]
        if parity.logits.tokens > 0 {
            lines.append(
                "- logits of \(parity.logits.tokens) tokens: mean KL divergence \(decimal(parity.logits.klDivergence)) "
                    + "nats, the same best token at \(decimal(parity.logits.agreement * 100)) % of them")
        }
        if parity.text.texts > 0 {
            lines.append(
                "- tokenizer and chat template: \(parity.text.texts) texts and \(parity.text.conversations) "
                    + "conversations equal")
        }
        return lines
    }
}
