import Foundation

/// Ollama's Modelfile (parser/parser.go there).
///
/// A value in quotes, or in three quotes, goes on to a quote at the end of a line and is taken as it stands: there are
/// no escapes. What Go does not call printable is dropped from it.
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

    /// A text between marks of one or three quotes; nil for one that would end before its end.
    private static func quoted(_ text: String, mark: String) -> String? {
        let lines = text.unicodeScalars.split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r" }.dropLast()
        let closes = lines.contains { String($0).trimmingCharacters(in: .whitespaces).hasSuffix(mark) }
        // A text that begins with a quote would begin with three or two.
        return closes || mark == "\"" && text.hasPrefix("\"") ? nil : mark + text + mark
    }

    private static func block(_ text: String) -> String? { quoted(text, mark: "\"\"\"") }

    /// Whether Ollama keeps a character: what Go's `strconv.IsPrint` takes, and white space of ASCII.
    static func keeps(_ scalar: Unicode.Scalar) -> Bool {
        if [" ", "\t", "\n", "\r"].contains(scalar) { return true }
        return switch scalar.properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator,
            .spaceSeparator:
            false
        default: true
        }
    }

    /// What Ollama would not read as it is meant.
    var problems: [String] {
        guard let system, Self.block(system) == nil else { return [] }
        return ["the system message has three quotes at the end of a line, which ends it in a Modelfile"]
    }

    /// What gets lost.
    var warnings: [String] {
        func dropped(_ text: String?, _ name: String) -> String? {
            guard let first = text?.unicodeScalars.first(where: { !Self.keeps($0) }) else { return nil }
            let code = String(first.value, radix: 16, uppercase: true)
            return "Modelfile: Ollama drops some characters of \(name), such as U+\(code)"
        }
        return ([dropped(system, "SYSTEM")] + stops.map { dropped($0, "a stop") }).compactMap { $0 }
    }

    var text: String {
        var lines = ["FROM ./\(file)", ""]
        if let block = template.flatMap(Self.block) {
            lines += ["TEMPLATE \(block)", ""]
        } else if let remark {
            lines += ["# No TEMPLATE: \(remark).", "# Ollama then looks at tokenizer.chat_template in the file.", ""]
        }
        if let block = system.flatMap(Self.block) { lines += ["SYSTEM \(block)", ""] }
        lines += stops.compactMap { Self.quoted($0, mark: "\"") ?? Self.block($0) }.map { "PARAMETER stop \($0)" }
        if maximumContext > context { lines.append("# The model takes up to \(maximumContext) tokens.") }
        lines.append("PARAMETER num_ctx \(context)")
        if let licence { lines += ["", Self.block(licence).map { "LICENSE \($0)" } ?? "# The licence lies beside."] }
        return lines.joined(separator: "\n") + "\n"
    }
}
