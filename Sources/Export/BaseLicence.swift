import FileFormats
import Foundation

/// The terms under which a base may be used and passed on: the files that state them, and what its card calls them.
struct BaseLicence {
    /// Paths, in the order of their names.
    let files: [String]
    /// As in the front matter of the card, such as `apache-2.0`.
    let identifier: String?
    /// What the card calls a licence that has no identifier.
    let name: String?
    /// The languages that the card names.
    let languages: [String]

    private static let starts = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "USE_POLICY"]
    /// - Parameter model: a folder, or a GGUF file, whose metadata names the licence and beside which the files may lie.
    init(model: String) {
        let isFolder = fileKind(model) == .folder
        let folder = isFolder ? model : splitPath(model).folder
        let names = (try? namesInFolder(folder)) ?? []
        // Such a folder as LICENSES is no file of terms.
        files = names.filter { name in
            Self.starts.contains { name.uppercased().utf8.starts(with: $0.utf8) } && isPlainFile(folder + "/" + name)
        }.map { folder + "/" + $0 }
        if isFolder {
            let card = BaseCard(path: folder + "/README.md")
            (identifier, name) = (card.values("license").first, card.values("license_name").first)
            languages = card.values("language")
        } else {
            identifier = (try? GGUFFile(path: model))?["general.license"]?.stringValue
            (name, languages) = (nil, [])
        }
    }

    /// The lines of a card's front matter that name the terms.
    var frontMatter: [String] {
        var lines = identifier.map { ["license: \($0)"] } ?? []
        if identifier == "other" {
            lines += (name.map { ["license_name: \($0)"] } ?? [])
            let file = files.first.map { splitPath($0).name }
            lines += file.map { ["license_link: \(yamlText($0))"] } ?? []
        }
        if !languages.isEmpty { lines += ["language:"] + languages.map { "- \(yamlText($0))" } }
        return lines
    }

    /// The text of the licence itself, without notices and policies.
    var text: String? {
        let own = files.first { path in
            ["LICENSE", "LICENCE", "COPYING"].contains {
                splitPath(path).name.uppercased().utf8.starts(with: $0.utf8)
            }
        }
        return own.flatMap { try? Self.read($0) }.map { String(decoding: $0, as: UTF8.self) }
    }

    /// - Throws: `FileError`, also for a link that leads out of the folder.
    static func read(_ path: String) throws -> [UInt8] {
        let (folder, name) = splitPath(path)
        return try readSideFile(name, in: folder)
    }

    /// What whoever passes a changed model on has to do, as far as it can be told from the name.
    var duties: [String] {
        let name = (identifier ?? "").lowercased()
        func starts(_ prefix: String) -> Bool { name.utf8.starts(with: prefix.utf8) }
        if starts("apache-2") {
            return ["Pass on the licence and any NOTICE file with the model.", "State that the files were changed."]
        }
        if starts("mit") || starts("bsd") { return ["Pass on the copyright notice and the licence with the model."] }
        if starts("llama") {
            return [
                "Pass on the licence agreement with the model, and show \"Built with Llama\" where it is used.",
                "Begin the name of a model that is passed on with \"Llama\" where the agreement asks for it.",
                "Keep to the acceptable use policy.",
            ]
        }
        if starts("gemma") {
            return [
                "Pass on the terms of use with the model.", "State that the files were changed.",
                "Keep to the use policy.",
            ]
        }
        if starts("cc-by-nc") || name.contains("-nc") {
            return ["Name the authors of the base.", "Make no commercial use of it."]
        }
        if starts("cc-by") { return ["Name the authors of the base and state that it was changed."] }
        return ["The base's terms hold for this model, too: read them before it is passed on."]
    }
}

/// The front matter of a model's card, as far as its values are plain names.
private struct BaseCard {
    private let lines: [Substring]

    init(path: String) {
        let bytes = (try? BaseLicence.read(path)) ?? []
        let all = String(decoding: bytes, as: UTF8.self).split(maxSplits: 200) { $0 == "\n" || $0 == "\r\n" }
        let isFront = all.first?.trimmingCharacters(in: .whitespaces) == "---"
        lines = isFront ? all.dropFirst().prefix { !$0.hasPrefix("---") } : []
    }

    /// The value of a key, or the values of its list. They go into other files' front matter, so that anything but
    /// names is left out.
    func values(_ key: String) -> [String] {
        guard let index = lines.firstIndex(where: { $0.hasPrefix(key + ":") }) else { return [] }
        let inline = lines[index].dropFirst(key.utf8.count + 1).trimmingCharacters(in: .whitespaces)
        let parts: [String]
        if inline.hasPrefix("[") {
            parts = inline.dropFirst().prefix { $0 != "]" }.split(separator: ",").map(String.init)
        } else if inline.isEmpty {
            parts = lines[(index + 1)...].map { $0.trimmingCharacters(in: .whitespaces) }
                .prefix { $0.hasPrefix("- ") }.map { String($0.dropFirst(2)) }
        } else {
            parts = [inline]
        }
        return parts.map { $0.trimmingCharacters(in: CharacterSet(charactersIn: " \t\r'\"")) }
            .filter { !$0.isEmpty && $0.utf8.allSatisfy(isNameByte) }
    }
}

/// Letters, digits, and what joins them in names.
private func isNameByte(_ byte: UInt8) -> Bool {
    (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
        || [0x2D, 0x2E, 0x5F].contains(byte)
}

/// A text as a value of YAML: plain where it cannot be read as anything else, otherwise in double quotes.
func yamlText(_ text: String) -> String {
    let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
    let isPlain =
        text.utf8.allSatisfy { isNameByte($0) || $0 == UInt8(ascii: "/") }
        && text.utf8.first.map { $0 | 0x20 >= 0x61 && $0 | 0x20 <= 0x7A } ?? false && !words.contains(text.lowercased())
    return isPlain ? text : JSONWriter.text(.string(text))
}
