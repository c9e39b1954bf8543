import FileFormats
import FineTuning
import Foundation

/// The files beside the weights of a Hugging Face folder.
enum ModelFiles {
    private static let tokenizer = [
        "tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json", "tiktoken.model", "merges.txt",
        "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    ]
    private static let templates = ["chat_template.jinja", "chat_template.json"]
    private static let templateFolder = TextSources.templateFolder
    private static let others = [
        "generation_config.json", "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.txt", "USE_POLICY.md",
    ]
    private static let sizeLimit = 512 << 20

    private static func exists(_ path: String) -> Bool { isPlainFile(path) }

    /// Where each file to be copied comes from, by its name in the new folder.
    static func sources(model: String, adapter: String?) throws -> [(name: String, path: String)] {
        var sources = others.filter { exists(model + "/" + $0) }.map { (name: $0, path: model + "/" + $0) }
        // Code that auto_map in the configurations names: without it other programs do not load the folder. Nothing of it
        // runs here.
        sources += try namesInFolder(model).filter { $0.hasSuffix(".py") }.map { ($0, model + "/" + $0) }
        let text = TextSources(model: model, adapter: adapter)
        sources += (tokenizer + templates).map { ($0, text.folder(of: $0) + "/" + $0) }.filter { exists($0.1) }
        let more = text.template + "/" + templateFolder
        if let names = try? namesInFolder(more) {
            for name in names.sorted() where name.utf8.suffix(6).elementsEqual(".jinja".utf8) {
                sources.append((templateFolder + "/" + name, more + "/" + name))
            }
        }
        return sources
    }

    /// - Throws: `FileError`, also for links that lead out of the folder that a file is of.
    static func copy(_ sources: [(name: String, path: String)], into folder: String) throws {
        for source in sources {
            // The path ends in the name, which may have a folder of its own in it.
            let origin = String(decoding: source.path.utf8.dropLast(source.name.utf8.count + 1), as: UTF8.self)
            let bytes = try readSideFile(source.name, in: origin.isEmpty ? "/" : origin)
            try AtomicFile.write(bytes, to: folder + "/" + source.name, replacing: true)
        }
    }

    // MARK: JSON

    /// A JSON object from a file that may be missing; nil when it is.
    static func object(_ path: String) throws -> JSONObject? {
        guard exists(path) else { return nil }
        return try readJSON(path, limit: 32 << 20).objectValue
    }

    /// The chat templates of a folder: the default one and those with other names.
    static func chatTemplates(model: String, adapter: String?) throws -> [(name: String, source: String)] {
        let sources = TextSources(model: model, adapter: adapter), folder = sources.template
        var result: [(name: String, source: String)] = []
        func text(_ path: String) throws -> String {
            String(decoding: try readFile(path, limit: 4 << 20), as: UTF8.self)
        }
        if exists(folder + "/chat_template.jinja") {
            result.append(("default", try text(folder + "/chat_template.jinja")))
        } else if let source = try object(folder + "/chat_template.json")?["chat_template"]?.stringValue {
            result.append(("default", source))
        } else {
            switch try object(sources.settings + "/tokenizer_config.json")?["chat_template"] {
            case .string(let source): result.append(("default", source))
            case .array(let entries):
                for entry in entries {
                    guard let name = entry["name"]?.stringValue, let source = entry["template"]?.stringValue else {
                        continue
                    }
                    result.append((name, source))
                }
            default: break
            }
        }
        let more = folder + "/" + templateFolder
        for name in ((try? namesInFolder(more)) ?? []).sorted() {
            guard name.utf8.suffix(6).elementsEqual(".jinja".utf8) else { continue }
            result.append((String(name.dropLast(6)), try text(more + "/" + name)))
        }
        return result
    }
}
