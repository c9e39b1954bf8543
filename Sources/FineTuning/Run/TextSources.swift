import FileFormats
import Foundation

/// Where the files lie by which a model with an adapter reads and writes text, for every command alike.
///
/// A vocabulary that travels with the adapter replaces the model's, since it is what the adapter was trained with. What
/// says how it is used - tokenizer_config.json and special_tokens_map.json, and the chat template - stays the model's
/// where the adapter brings none.
public struct TextSources: Sendable {
    /// Files any of which makes a folder one with a tokenizer.
    static let vocabularies = ["tokenizer.json", "tokenizer.model", "tekken.json", "tiktoken.model", "vocab.json"]
    private static let settings = ["tokenizer_config.json", "special_tokens_map.json"]
    private static let templates = ["chat_template.jinja", "chat_template.json"]
    public static let templateFolder = "additional_chat_templates"

    /// The folder, or the GGUF file, of the vocabulary.
    public let vocabulary: String
    /// That of tokenizer_config.json and special_tokens_map.json.
    public let settings: String
    /// That of the chat templates.
    public let template: String

    public init(model: String, adapter: String?) {
        guard let adapter else {
            (vocabulary, settings, template) = (model, model, model)
            return
        }
        let bringsVocabulary = Self.hasVocabulary(adapter)
        vocabulary = bringsVocabulary ? adapter : model
        settings = bringsVocabulary && Self.has(Self.settings, adapter) ? adapter : model
        let bringsTemplate =
            Self.has(Self.templates + [Self.templateFolder], adapter)
            || settings.hasSameBytes(as: adapter)
                && (Self.hasTemplateInSettings(adapter) || !Self.hasTemplateFile(model))
        template = bringsTemplate ? adapter : model
    }

    private static func has(_ names: [String], _ folder: String) -> Bool {
        names.contains { isPresent(folder + "/" + $0) }
    }

    public static func hasVocabulary(_ folder: String) -> Bool { has(vocabularies, folder) }

    /// Whether the template is no part of tokenizer_config.json, and can go with another one.
    private static func hasTemplateFile(_ model: String) -> Bool {
        TextResources.isGGUF(model) || has(templates + [templateFolder], model)
    }

    private static func hasTemplateInSettings(_ folder: String) -> Bool {
        let bytes = try? readFile(folder + "/tokenizer_config.json", limit: 64 << 20)
        let value = bytes.flatMap { (try? JSONParser.parse($0))?["chat_template"] }
        return value.map { !$0.isNull } ?? false
    }

    /// The folder of one of the files.
    public func folder(of name: String) -> String {
        if Self.settings.contains(where: name.hasSameBytes) { return settings }
        return Self.templates.contains(where: name.hasSameBytes) ? template : vocabulary
    }
}
