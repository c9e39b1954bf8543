import FileFormats
import FineTuning
import Foundation
public import TensorCore
import TextData

/// A program that a folder is made ready for.
public enum ReadyTarget: String, CaseIterable, Sendable {
    /// A GGUF file with a Modelfile: `ollama create name -f Modelfile`.
    case ollama
    /// publisher/model/file.gguf, as LM Studio and Jan look for models.
    case lmstudio
    /// A PEFT folder that vLLM loads.
    case vllm
    /// A merged Hugging Face folder.
    case hf
}

/// What a ready folder is made of.
public struct ReadyFolder {
    public var target: ReadyTarget
    public var model: String
    public var adapters: [(path: String, weight: Double)]
    public var options: GGUFExportOptions
    /// Of the merged folder.
    public var mergedType = MergedType.keep
    /// A system message that Ollama puts first.
    public var system: String?
    public var publisher = "local"

    public init(
        _ target: ReadyTarget, model: String, adapters: [(path: String, weight: Double)], options: GGUFExportOptions
    ) {
        self.target = target
        self.model = model
        self.adapters = adapters
        self.options = options
    }

    /// Writes the folder; it appears when all of it is written and compared.
    ///
    /// - Parameter gate: compares the weights with base and adapters; nil does not
    /// - Throws: `ExportError`, `ParityError`, `FileError` (`.outputExists` when something stands at `output`).
    public func write(
        to output: String, gate: ParityGate?, pool: WorkerPool, progress: (Int, Int) throws -> Void = { _, _ in }
    ) throws -> ExportReport {
        let stage = try AtomicFolder(path: output)
        let root = stage.path(of: splitPath(output).name)
        var report: ExportReport
        switch target {
        case .hf:
            guard !TextResources.isGGUF(model) else {
                throw ExportError.ready(
                    target: target.rawValue, path: model, problems: ["a GGUF file becomes no Hugging Face folder"])
            }
            report = try mergeModel(
                model: model, adapters: adapters, output: root, type: mergedType, pool: pool, progress: progress)
            try compare(root, gate, &report, output)
            try finish(root, card: root, usage: Self.transformers, .transformers, report)
        case .vllm: report = try writeAdapter(to: root, pool: pool)
        case .ollama, .lmstudio:
            let folder = target == .ollama ? root : "\(root)/\(publisher)/\(name)"
            try createFolders(folder)
            report = try exportGGUF(
                model: model, adapters: adapters, output: "\(folder)/\(fileName)", options: options, pool: pool,
                progress: progress)
            try compare(report.parts.first ?? "\(folder)/\(fileName)", gate, &report, output)
            if target == .ollama { try writeModelfile(in: folder, &report) }
            let usage =
                target == .ollama
                ? ["ollama create \(name) -f Modelfile", "ollama run \(name)"]
                : ["cp -r \(publisher) ~/.lmstudio/models/", "lms load \(publisher)/\(name)"]
            try finish(folder, card: folder, usage: usage, .gguf, report)
        }
        try stage.publishContents()
        report.path = output
        let base = root.utf8.count
        report.parts = report.parts.map { output + String(decoding: $0.utf8.dropFirst(base), as: UTF8.self) }
        return report
    }

    private static let transformers = [
        "python -c 'from transformers import pipeline; print(pipeline(\"text-generation\", \".\")(\"Hello\"))'",
        "vllm serve .",
    ]

    private func compare(_ path: String, _ gate: ParityGate?, _ report: inout ExportReport, _ output: String) throws {
        do {
            report.parity = try gate?.compare(path, model: model, adapters: adapters, isOwn: true)
        } catch ParityError.diverged(_, let problems, let advice) {
            throw ParityError.diverged(path: output, problems: problems, advice: advice)
        }
    }

    // MARK: names

    /// The model's name as files and programs take it: letters, digits, dots, dashes.
    var name: String {
        let wanted = options.name ?? HubCache.name(ofFolder: model)
        let stem = wanted.lowercased().hasSuffix(".gguf") ? String(wanted.dropLast(5)) : wanted
        let bytes = stem.utf8.map { byte -> UInt8 in
            let isPlain =
                (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "_")
            return isPlain ? byte : UInt8(ascii: "-")
        }
        let text = String(decoding: bytes, as: UTF8.self).trimmingCharacters(in: CharacterSet(charactersIn: "-."))
        return text.isEmpty ? "model" : text
    }

    private var fileName: String { "\(name)-\(options.type?.rawValue.uppercased() ?? "keep").gguf" }

    /// The base by its own name where the adapter tells it, never by a path of this machine.
    private var baseName: String {
        let named = adapters.first.flatMap { try? ModelFiles.object($0.path + "/adapter_config.json") }
            .flatMap { $0["base_model_name_or_path"]?.stringValue }
        // A name of the hub has one slash; paths begin otherwise or have more.
        if let named, named.utf8.filter({ $0 == UInt8(ascii: "/") }).count == 1, let first = named.utf8.first,
            first != UInt8(ascii: "/"), first != UInt8(ascii: "."), !isPresent(named)
        {
            return named
        }
        return HubCache.name(ofFolder: model)
    }

    // MARK: what lies beside the weights

    /// The card and the base's terms.
    private func finish(
        _ folder: String, card: String, usage: [String], _ kind: ModelCard.Kind, _ report: ExportReport
    ) throws {
        let licence = BaseLicence(model: model)
        for path in licence.files {
            let target = folder + "/" + splitPath(path).name
            if !somethingExists(at: target) { try AtomicFile.write(try BaseLicence.read(path), to: target) }
        }
        let adapter = try adapters.first.flatMap { try ModelFiles.object($0.path + "/adapter_config.json") }
        let text = ModelCard(
            title: name, base: baseName, licence: licence, run: adapters.first.flatMap { RunFacts(adapter: $0.path) },
            adapter: adapter, kind: kind, usage: usage, notes: report.warnings, parity: report.parity
        ).text
        try AtomicFile.write(Array(text.utf8), to: card + "/README.md", replacing: true)
    }

    /// The context that Ollama reserves memory for at once; models that take more say so in a remark.
    private static let ollamaContext = 8192

    private func writeModelfile(in folder: String, _ report: inout ExportReport) throws {
        guard let file = report.parts.isEmpty ? fileName : nil else {
            throw ExportError.ready(
                target: target.rawValue, path: model, problems: ["Ollama takes one file: leave out --split-max-size"])
        }
        let written = try GGUFFile(path: folder + "/" + file)
        let architecture = written["general.architecture"]?.stringValue ?? ""
        let context = written["\(architecture).context_length"]?.intValue ?? Self.ollamaContext
        var modelfile = Modelfile(
            file: file, system: system, stops: [], context: min(context, Self.ollamaContext), maximumContext: context,
            licence: BaseLicence(model: model).text)
        if let text = try TextResources(model: model, adapter: adapters.first?.path) {
            modelfile.stops = text.stopTokens.sorted().compactMap { text.tokenizer.token(for: $0)?.description }
            if let template = text.template {
                let bos = text.tokenizer.bosID.flatMap { text.tokenizer.token(for: $0)?.description }
                do {
                    let made = try OllamaTemplate(template, addedStart: text.tokenizer.addsBOS ? bos : nil)
                    modelfile.template = made.source
                    report.warnings += made.notes
                } catch let refusal as OllamaTemplate.Refusal {
                    modelfile.remark =
                        "the chat template has no counterpart in Go's template language: \(refusal.reason)"
                    report.warnings.append(
                        "Modelfile: no TEMPLATE, because the chat template has no counterpart in Go's language: "
                            + "\(refusal.reason); Ollama finds it in the file only if it knows the model")
                }
            } else {
                modelfile.remark = "the model has no chat template"
            }
        }
        guard modelfile.problems.isEmpty else {
            throw ExportError.ready(target: target.rawValue, path: model, problems: modelfile.problems)
        }
        report.warnings += modelfile.warnings
        try AtomicFile.write(Array(modelfile.text.utf8), to: folder + "/Modelfile")
    }

    // MARK: vLLM

    private func writeAdapter(to folder: String, pool: WorkerPool) throws -> ExportReport {
        guard let adapter = adapters.first, adapters.count == 1, adapter.weight == 1, !TextResources.isGGUF(model)
        else {
            throw ExportError.ready(
                target: target.rawValue, path: model,
                problems: ["vLLM takes one adapter, as it is, on a Hugging Face folder"])
        }
        let source = try WeightSource(model: model, adapters: adapters)
        guard let file = source.adapter, let plan = source.changes.adapters.members.first?.plan else {
            preconditionFailure("an adapter was given")
        }
        let rules = VLLMRules(file: file, plan: plan)
        guard rules.problems.isEmpty else {
            throw ExportError.ready(target: target.rawValue, path: adapter.path, problems: rules.problems)
        }
        try createFolders(folder)
        var report = ExportReport(path: folder)
        for name in ["adapter_config.json", AdapterFile.tensorsName] {
            let bytes = try readFile(adapter.path + "/" + name, limit: 1 << 36)
            report.byteCount += name == AdapterFile.tensorsName ? bytes.count : 0
            try AtomicFile.write(bytes, to: folder + "/" + name)
        }
        let beside = try ModelFiles.sources(model: model, adapter: adapter.path)
        try ModelFiles.copy(beside.filter { $0.path.utf8.starts(with: (adapter.path + "/").utf8) }, into: folder)
        report.tensorCount = file.tensors.entries.count
        report.mergedModules = source.changes.count
        let usage = [
            "vllm serve \(baseName) --enable-lora --max-lora-rank \(rules.maximumRank) --lora-modules \(name)=.",
            "curl localhost:8000/v1/chat/completions -H 'Content-Type: application/json' \\",
            "  -d '{\"model\": \"\(name)\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'",
        ]
        try finish(folder, card: folder, usage: usage, .peft, report)
        return report
    }
}

/// What vLLM's loader of adapters accepts (vllm/lora/peft_helper.py and vllm/config/lora.py there).
struct VLLMRules {
    /// The values that --max-lora-rank may have.
    private static let ranks = [8, 16, 32, 64, 128, 256, 320, 512]

    let problems: [String]
    /// The least that the server has to be started with.
    let maximumRank: Int

    init(file: AdapterFile, plan: AdapterPlan) {
        let json = file.config.json
        var problems: [String] = []
        func isSet(_ key: String) -> Bool {
            guard let value = json[key], !value.isNull else { return false }
            return value.arrayValue.map { !$0.isEmpty } ?? value.objectValue.map { $0.count > 0 } ?? true
        }
        let rank = plan.updates.map(\.rank).max() ?? 0
        maximumRank = Self.ranks.first { $0 >= rank } ?? rank
        if rank > Self.ranks[Self.ranks.count - 1] {
            problems.append("rank \(rank): --max-lora-rank goes up to \(Self.ranks[Self.ranks.count - 1])")
        }
        if isSet("modules_to_save") { problems.append("modules_to_save: vLLM loads no whole modules with an adapter") }
        if let table = file.baseCopies(plan).first {
            problems.append("\(table.key): vLLM loads no tables of a vocabulary with an adapter")
        }
        if isSet("trainable_token_indices") {
            problems.append("trainable_token_indices: vLLM loads no rows of a vocabulary")
        }
        if let bias = json["bias"]?.stringValue, !bias.hasSameBytes(as: "none") {
            problems.append("bias is \"\(bias)\": vLLM adds no biases of adapters")
        }
        if json["use_dora"]?.boolValue == true { problems.append("use_dora: vLLM does not compute DoRA") }
        if file.config.initialization.takesOutOfBase {
            problems.append(
                "\(file.config.initialization) needs a changed base; 'graft adapter convert --to lora' makes it plain")
        }
        if let first = plan.updates.first(where: { $0.isEmbedding || $0.isHead }) {
            problems.append("\(first.module): vLLM takes updates of the vocabulary's layers for few models only")
        }
        if let first = plan.updates.first(where: \.isOfExperts) {
            problems.append("\(first.module): updates of stacked experts are not in a layout that vLLM reads")
        }
        let scale = file.config.scale(rank: file.config.rank, alpha: file.config.alpha)
        if let first = plan.updates.first(where: { abs($0.scale - scale) > 1e-9 * scale }) {
            problems.append(
                "\(first.module): rank_pattern or alpha_pattern gives it a scale of its own; vLLM takes one for all")
        }
        self.problems = problems
    }
}
