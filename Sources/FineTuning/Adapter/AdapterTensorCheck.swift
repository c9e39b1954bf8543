import FileFormats
import Foundation

extension AdapterFile {
    /// mlx-lm's name of an adapter's tensors.
    public static let mlxTensorsName = "adapters.safetensors"

    /// Whether a folder holds an adapter of mlx-lm, and none of PEFT.
    public static func isOfMLX(_ folder: String) -> Bool {
        isPresent(folder + "/" + mlxTensorsName)
            && !isPresent(folder + "/" + tensorsName)
    }

    /// - Throws: `FineTuningError.badAdapter` for folders of other forms.
    static func checkForm(_ folder: String) throws {
        func has(_ name: String) -> Bool { isPresent(folder + "/" + name) }
        guard !has(tensorsName) else { return }
        if has(mlxTensorsName) {
            throw FineTuningError.badAdapter(
                path: folder, problems: ["it is an adapter of mlx-lm (\(mlxTensorsName)), not of PEFT"],
                next: "Convert it first: 'graft adapter convert \(folder) --to peft --out DIR'.")
        }
        if let name = ["adapter_model.bin", "adapter_model.pt", "pytorch_model.bin"].first(where: has) {
            throw FineTuningError.badAdapter(
                path: folder, problems: ["it holds only \(name), a pickle, which can run code when it is read"],
                next: "Load it with PEFT where you trust it, and write it with save_pretrained, which makes "
                    + "\(tensorsName).")
        }
    }
}

/// Whether the tensors of an adapter's file are those of a LoRA adapter, as far as can be told without its base.
struct AdapterTensorCheck {
    let config: AdapterConfig
    let file: SafetensorsFile
    let folder: String

    func run(refusesNonFinite: Bool) throws {
        try checkPresence()
        try checkNames()
        let wrong = file.entries.filter { ![.f32, .f16, .bf16].contains($0.type) }
        if let first = wrong.first {
            throw bad(
                "\(first.name) is \(first.type.rawValue)\(others(wrong.count, "are")); expected F32, F16 or BF16",
                next: "Write the adapter again in one of these types.")
        }
        guard refusesNonFinite else { return }
        let damaged = try file.entries.compactMap { entry in
            try file.firstNonFinite(of: entry).map { (entry.name, $0) }
        }
        if let (name, place) = damaged.first {
            throw bad(
                "\(name) holds a number that is infinite or NaN (element \(place))\(others(damaged.count, "do"))",
                next:
                    "The training that made it diverged, or the file is damaged: take an earlier checkpoint, or train "
                    + "again with a lower learning rate.")
        }
    }

    /// What follows the first of several tensors.
    private func others(_ count: Int, _ verb: String) -> String {
        count > 2 ? ", and so \(verb) \(count - 1) more tensors" : count == 2 ? ", and another tensor, too" : ""
    }

    private func bad(_ problem: String, next: String) -> FineTuningError {
        .badAdapter(path: folder + "/" + AdapterFile.tensorsName, problems: [problem], next: next)
    }

    private func checkPresence() throws {
        let empty = file.entries.filter { $0.elementCount == 0 }
        guard empty.count > 0 || file.entries.isEmpty else { return }
        guard let first = empty.first else {
            throw bad("the file holds no tensors", next: "Write the adapter again with PEFT's save_pretrained.")
        }
        let what =
            empty.count == file.entries.count
            ? "all \(empty.count) tensors are empty"
            : "\(empty.count) of \(file.entries.count) tensors are empty, such as \(first.name)"
        throw bad(
            what + ": were they saved under DeepSpeed's ZeRO-3 without gathering the weights?",
            next: "Gather the weights before saving (zero_to_fp32.py of the checkpoint, or "
                + "stage3_gather_16bit_weights_on_model_save).")
    }

    private func checkNames() throws {
        let unknown = file.entries.filter { !isKnown($0.name) }
        guard let first = unknown.first else { return }
        let hasPair = file.entries.contains { isKnown($0.name) }
        let head =
            hasPair
            ? "\(unknown.count) tensors are no part of a LoRA adapter that graft knows, such as \(first.name)"
            : "the file holds no LoRA pair that graft knows; its names are like \(first.name)"
        throw bad(
            head + "; expected \(AdapterKeys.prefix) in front and a module of the model behind it, as in "
                + "\(AdapterKeys.prefix)model.layers.0.self_attn.q_proj.lora_A.weight",
            next: advice(first.name))
    }

    private func advice(_ name: String) -> String {
        let wrappers = [
            ("_orig_mod.", "torch.compile"), ("_fsdp_wrapped_module.", "FSDP"),
            ("_checkpoint_wrapped_module.", "activation checkpointing"), ("module.", "data parallelism"),
        ]
        let parts = name.utf8.split(separator: UInt8(ascii: "."))
        if let (part, what) = wrappers.first(where: { part, _ in
            parts.contains { $0.elementsEqual(part.utf8.dropLast()) }
        }) {
            return "\(part) in the names is left by \(what): save the model that is inside of the wrapper with PEFT's "
                + "save_pretrained, or take this part out of the names."
        }
        return "Save it with PEFT's save_pretrained, or rename the tensors."
    }

    /// Whether a tensor is part of an update, or one of those that the configuration says come whole.
    private func isKnown(_ name: String) -> Bool {
        guard name.hasBytes(atStart: AdapterKeys.prefix) else { return false }
        if let end = AdapterFile.ends.first(where: name.hasBytes(atEnd:)) {
            return name.utf8.count > AdapterKeys.prefix.utf8.count + end.utf8.count && !hasWrapper(name)
        }
        let module = AdapterKeys.module(
            of: String(decoding: name.utf8.dropFirst(AdapterKeys.prefix.utf8.count), as: UTF8.self))
        if name.hasBytes(atEnd: AdapterKeys.tokenRows) { return !config.tokenIndices.isEmpty }
        if name.hasBytes(atEnd: ".bias"), config.bias != .none { return true }
        if AdapterKeys.enclosing(module).contains(where: { inside in
            config.modulesToSave.contains { inside.hasBytes(atEnd: $0) }
        }) {
            return true
        }
        // PEFT's save_embedding_layers.
        let tables = [ParameterTable.embeddingModule, ParameterTable.headModule]
        return name.hasBytes(atEnd: ".weight")
            && tables.contains { module.hasSameBytes(as: $0) || module.hasSameBytes(as: $0 + ".base_layer") }
    }

    private func hasWrapper(_ name: String) -> Bool {
        ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"].contains { wrapper in
            name.utf8.split(separator: UInt8(ascii: ".")).contains { $0.elementsEqual(wrapper.utf8) }
        }
    }
}
