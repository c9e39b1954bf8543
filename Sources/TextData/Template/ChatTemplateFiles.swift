internal import FileFormats
import Foundation

extension ChatTemplate {
    /// Templates are small; the files they stand in hold vocabularies of added tokens, too.
    private static let fileLimit = 32 << 20

    /// Reads the chat template of a model folder: chat_template.jinja, tokenizer_config.json or chat_template.json, in
    /// this order, as Transformers does.
    ///
    /// - Parameters:
    ///   - settings: the folder of tokenizer_config.json and special_tokens_map.json; nil for the same
    ///   - name: which one of several templates; `default` when nil, or `tool_use` when `forTools`.
    /// - Throws: `TextError.noTemplate` when the folder has none, `.templateFile` or `.template` when one is malformed.
    public static func load(
        folder: String, settings: String? = nil, name: String? = nil, forTools: Bool = false
    ) throws -> ChatTemplate {
        let settings = settings ?? folder
        let config = try json(settings + "/tokenizer_config.json")
        let constants = try specialTokens(folder: settings, config: config)
        func make(_ source: String, _ path: String) throws -> ChatTemplate {
            try ChatTemplate(source: source, name: path, constants: constants)
        }
        let jinja = folder + "/chat_template.jinja"
        if name == nil || name == "default", !forTools, let bytes = try bytes(jinja) {
            guard let source = String(validating: bytes, as: UTF8.self) else {
                throw TextError.templateFile(path: jinja, reason: "not valid UTF-8")
            }
            return try make(source, jinja)
        }
        let additional = folder + "/additional_chat_templates/\(name ?? (forTools ? "tool_use" : "default")).jinja"
        if !additional.contains(".."), let bytes = try bytes(additional) {
            return try make(String(decoding: bytes, as: UTF8.self), additional)
        }
        if forTools, name == nil, let bytes = try bytes(jinja) {
            return try make(String(decoding: bytes, as: UTF8.self), jinja)
        }
        for (path, value) in [
            (settings + "/tokenizer_config.json", config?["chat_template"]),
            (folder + "/chat_template.json", try json(folder + "/chat_template.json")?["chat_template"]),
        ] {
            if let value, !value.isNull {
                return try make(try source(value, name: name, forTools: forTools, path: path), path)
            }
        }
        throw TextError.noTemplate(folder: folder)
    }

    /// The template of the folder, with the one for tools where the folder has it; nil when there is none.
    public static func loadIfPresent(folder: String, settings: String? = nil) throws -> ChatTemplate? {
        do {
            let template = try load(folder: folder, settings: settings)
            let toolUse = try load(folder: folder, settings: settings, forTools: true)
            let isSame = toolUse.source.hasSameBytes(as: template.source)
            return template.with(toolUse: isSame ? nil : toolUse)
        } catch TextError.noTemplate {
            return nil
        }
    }

    /// One of a list of `{name, template}`, or the only one.
    private static func source(_ value: JSONValue, name: String?, forTools: Bool, path: String) throws -> String {
        if let source = value.stringValue { return source }
        guard let list = value.arrayValue else {
            throw TextError.templateFile(
                path: path, reason: "\"chat_template\" is \(value.kindName); expected a string or a list")
        }
        let names = list.compactMap { $0["name"]?.stringValue }
        for wanted in name.map({ [$0] }) ?? (forTools ? ["tool_use", "default"] : ["default"]) {
            let entry = list.first { $0["name"]?.stringValue?.hasSameBytes(as: wanted) ?? false }
            if let source = entry?["template"]?.stringValue { return source }
        }
        throw TextError.templateFile(
            path: path,
            reason: "no chat template named \(name ?? "default"); it has \(names.joined(separator: ", "))")
    }

    private static func bytes(_ path: String) throws -> [UInt8]? {
        do {
            let bytes = try readFile(path, limit: fileLimit)
            try Substitute.refuse(bytes, path: path)
            return bytes
        } catch FileError.missing {
            return nil
        } catch FileError.tooLarge {
            throw TextError.templateFile(path: path, reason: "larger than \(fileLimit >> 20) MiB")
        }
    }

    private static func json(_ path: String) throws -> JSONValue? {
        guard let bytes = try bytes(path) else { return nil }
        do {
            return try JSONParser.parse(bytes)
        } catch let error as JSONError {
            throw TextError.templateFile(path: path, reason: error.description)
        }
    }

    /// `bos_token`, `eos_token` and the like, as strings; those of tokenizer_config.json win over
    /// special_tokens_map.json. A SentencePiece model that stands alone has its own.
    static func specialTokens(folder: String, config: JSONValue?) throws -> JSONObject {
        var tokens = JSONObject()
        for source in [try json(folder + "/special_tokens_map.json"), config] {
            for (key, value) in source?.objectValue?.entries ?? [] where key.hasSuffix("_token") {
                if let text = value.stringValue ?? value["content"]?.stringValue { tokens[key] = .string(text) }
            }
        }
        func has(_ name: String) -> Bool { isPresent(folder + "/" + name) }
        if tokens["bos_token"] == nil, tokens["eos_token"] == nil, has("tokenizer.model"), !has("tokenizer.json") {
            let tokenizer = try Tokenizer(path: folder)
            for (key, id) in [("bos", tokenizer.bosID), ("eos", tokenizer.eosID), ("unk", tokenizer.unkID)] {
                guard let token = id.flatMap(tokenizer.token(for:)) else { continue }
                tokens[key + "_token"] = .string(token.description)
            }
        }
        return tokens
    }
}
