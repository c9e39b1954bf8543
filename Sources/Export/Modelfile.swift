import Foundation

/// Ollama's Modelfile.
struct Modelfile {
    var file: String
    var template: String?
    var system: String?
    /// The texts that end an answer.
    var stops: [String]
    /// Tokens of context that Ollama reserves memory for, and those that the model takes.
    var context: Int
    var maximumContext: Int
    var licence: String?
    /// Why there is no template.
    var remark: String?

    /// A text as Modelfiles quote it over lines; nil for one that holds the closing mark.
    private static func block(_ text: String) -> String? {
        // Three quotes close, and one before them would join in.
        text.contains("\"\"\"") || text.hasSuffix("\"") ? nil : "\"\"\"\(text)\"\"\""
    }

    /// A stop text; Ollama takes what stands between quotes as it is, with the escapes of Go.
    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": result += "\\\\"
            case "\"": result += "\\\""
            case "\n": result += "\\n"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }

    var text: String {
        var lines = ["FROM ./\(file)", ""]
        if let block = template.flatMap(Self.block) {
            lines += ["TEMPLATE \(block)", ""]
        } else if let remark {
            lines += ["# No TEMPLATE: \(remark).", "# Ollama then looks at tokenizer.chat_template in the file.", ""]
        }
        if let block = system.flatMap(Self.block) { lines += ["SYSTEM \(block)", ""] }
        lines += stops.map { "PARAMETER stop \(Self.quoted($0))" }
        if maximumContext > context { lines.append("# The model takes up to \(maximumContext) tokens.") }
        lines.append("PARAMETER num_ctx \(context)")
        if let block = licence.flatMap(Self.block) { lines += ["", "LICENSE \(block)"] }
        return lines.joined(separator: "\n") + "\n"
    }
}
