import FileFormats
import Foundation

/// The terms under which a base may be used and passed on: the files that state them, and what its card calls them.
struct BaseLicence {
    /// Paths, in the order of their names.
    let files: [String]
    /// As in the front matter of the card, such as `apache-2.0`.
    let identifier: String?

    private static let starts = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "USE_POLICY"]
    private static let sizeLimit = 4 << 20

    /// - Parameter model: a folder, or a GGUF file, whose metadata names the licence and beside which the files may lie.
    init(model: String) {
        var isFolder: ObjCBool = false
        _ = FileManager.default.fileExists(atPath: model, isDirectory: &isFolder)
        let folder = isFolder.boolValue ? model : (model as NSString).deletingLastPathComponent
        let names = ((try? FileManager.default.contentsOfDirectory(atPath: folder.isEmpty ? "." : folder)) ?? [])
            .sorted()
        files = names.filter { name in Self.starts.contains { name.uppercased().utf8.starts(with: $0.utf8) } }
            .map { (folder as NSString).appendingPathComponent($0) }
        if isFolder.boolValue {
            identifier = Self.identifier(inCard: folder + "/README.md")
        } else {
            identifier = (try? GGUFFile(path: model))?["general.license"]?.stringValue
        }
    }

    private static func identifier(inCard path: String) -> String? {
        guard let bytes = try? readFile(path, limit: sizeLimit) else { return nil }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n", maxSplits: 200)
        guard lines.first?.trimmingCharacters(in: .whitespaces) == "---" else { return nil }
        for line in lines.dropFirst().prefix(while: { !$0.hasPrefix("---") }) where line.hasPrefix("license:") {
            let value = line.dropFirst("license:".count).trimmingCharacters(in: CharacterSet(charactersIn: " \t\r'\""))
            // A name and no more: it goes into other files' front matter.
            return value.isEmpty || value.utf8.contains(where: { !isNameByte($0) }) ? nil : value
        }
        return nil
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
            || [0x2D, 0x2E, 0x5F].contains(byte)
    }

    /// The text of the licence itself, without notices and policies.
    var text: String? {
        let own = files.first { path in
            ["LICENSE", "LICENCE", "COPYING"].contains {
                (path as NSString).lastPathComponent.uppercased().utf8.starts(with: $0.utf8)
            }
        }
        return own.flatMap { try? readFile($0, limit: Self.sizeLimit) }.map { String(decoding: $0, as: UTF8.self) }
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
