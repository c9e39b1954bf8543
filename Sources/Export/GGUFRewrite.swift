import FileFormats
import FineTuning
import Foundation
import TextData

extension GGUFPlan {
    /// Of a GGUF file of any architecture: its metadata stays, its tensors are written anew. An adapter needs a family
    /// that graft knows.
    ///
    /// - Throws: `ExportError.damaged` too, for a file of such a family alone.
    init(gguf path: String, adapters: [(path: String, weight: Double)], options: GGUFExportOptions) throws {
        let file = try GGUFFile(path: path)
        var problems: [String] = []
        if let kind = file["general.type"]?.stringValue, !kind.hasSameBytes(as: "model") {
            problems.append("general.type is \(quoted(kind)); expected a model")
        }
        for tensor in file.tensors where !RowEncoding.canDecode(tensor.type) {
            problems.append("\(tensor.name) is \(tensor.type.name), which holds no weights that graft reads")
        }
        guard problems.isEmpty else { throw ExportError.unreadable(path: path, problems: problems) }
        _ = try GGUFModel.ifRun(path: path)
        metadata = file.metadata.filter { pair in
            ![GGUFSplit.indexKey, GGUFSplit.countKey, GGUFSplit.tensorCountKey].contains {
                $0.hasSameBytes(as: pair.key)
            }
        }
        tensors = file.tensors.map { tensor in
            (tensor.name, StreamedTensor(name: tensor.name, base: .gguf(file, tensor), isPermuted: true))
        }
        checkSources = { try file.checkUnchanged() }
        if let type = options.type { set("general.file_type", .uint32(type.fileType)) }
        set("general.quantization_version", .uint32(2))
        if let name = options.name { set("general.name", .string(name)) }
        let coarse = Set(file.tensors.map(\.type).filter { $0.blockLength > 1 }).map(\.name).sorted()
        if !coarse.isEmpty, options.type != nil {
            warnings.append(
                "the weights were quantised before (\(coarse.joined(separator: ", "))): what that lost stays lost")
        }
        guard !adapters.isEmpty else { return }
        try merge(adapters, into: file)
        if let text = try TextResources(ifPresentAt: path) {
            warnings += GGUFTokenizer.chatNotes(text.tokenizer, text.template)
        }
    }

    private mutating func set(_ key: String, _ value: GGUFValue) {
        if let index = metadata.firstIndex(where: { $0.key.hasSameBytes(as: key) }) {
            metadata[index].value = value
        } else {
            metadata.append((key, value))
        }
    }

    private mutating func merge(_ folders: [(path: String, weight: Double)], into file: GGUFFile) throws {
        let model = try GGUFModel(path: file.path), table = ParameterTable(model.config)
        let changes = try AdapterChanges(folders, table: table, config: model.config)
        self.changes = changes
        let places = Dictionary(
            tensors.indices.map { (ByteString(tensors[$0].name), $0) }, uniquingKeysWith: { a, _ in a })
        for parameter in table.parameters {
            let own = changes.updates(of: parameter.name)
            for (name, updates) in parameter.ggufUpdates(own.parts, in: file) {
                guard let index = places[ByteString(name)] else { continue }
                tensors[index].tensor.updates.parts += updates
            }
            let isWhole = places[ByteString(parameter.ggufName)] != nil && parameter.expert == nil && !parameter.isStack
            guard isWhole, let index = places[ByteString(parameter.ggufName)] else {
                try Self.requireUpdates(own, of: parameter, folders[0].path)
                continue
            }
            tensors[index].tensor.heads = parameter.permutedHeads
            if let replacement = own.replacement {
                tensors[index].tensor.updates.replacement = replacement
                // What the file holds has it already.
                tensors[index].tensor.offset = parameter.offset
            }
            tensors[index].tensor.updates.rows = own.rows
        }
        // A head that was the embedding becomes a tensor of its own.
        if changes.untiesHead, let embedding = file.tensor(named: "token_embd.weight") {
            let head = StreamedTensor(
                name: "output.weight", base: .gguf(file, embedding), updates: changes.updates(of: ParameterTable.head))
            tensors.append(("output.weight", head))
        }
        let adapterPath = folders[0].path
        let templates = try ModelFiles.chatTemplates(model: adapterPath, adapter: nil)
        for (name, source) in templates {
            let isDefault = name.hasSameBytes(as: "default")
            set("tokenizer.chat_template" + (isDefault ? "" : "." + name), .string(source))
        }
    }

    /// A tensor that a GGUF file holds together with others, or in parts, takes low-rank updates alone.
    private static func requireUpdates(
        _ changes: AdapterChanges.Changes, of parameter: ParameterTable.Parameter, _ path: String
    ) throws {
        let needsWhole =
            parameter.headParts != nil
            && changes.parts.contains { $0.part.update.hasMagnitude || $0.part.member.takesOutOfBase }
        guard changes.replacement != nil || changes.rows != nil || needsWhole else { return }
        throw ExportError.adapter(
            path: path,
            problems: [
                "\(parameter.name): a GGUF file does not hold it as a tensor of its own, so "
                    + (needsWhole ? "DoRA and PiSSA cannot change it" : "it cannot come whole")
                    + "; merge into the Hugging Face folder and export that"
            ])
    }
}
