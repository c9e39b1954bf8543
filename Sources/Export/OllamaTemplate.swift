import FileFormats
import Foundation
import TextData

/// A model's chat template in the template language of Go, which Ollama runs.
///
/// The template is tried on conversations of marks: what it writes before, between and after them becomes the Go
/// template. That is given out only if it writes the same text as the model's own for other conversations, run by
/// `GoTemplate`.
struct OllamaTemplate {
    let source: String
    /// What Ollama will do otherwise than the model's template.
    let notes: [String]

    /// Why a template has no counterpart.
    struct Refusal: Error { var reason: String }

    /// - Parameter addedStart: the text that the tokenizer puts before a prompt by itself, which the template must not
    ///   write once more
    /// - Throws: `Refusal`.
    init(_ template: ChatTemplate, addedStart: String?) throws {
        let original = Original(template: template, addedStart: addedStart)
        let pieces = try Pieces(original)
        source = pieces.goTemplate
        let dated = original.isDated ? ["the date that the model's template writes stays the day of this export"] : []
        notes = try dated + Self.check(source, original, pieces)
    }

    // MARK: the model's template

    typealias Message = (role: String, content: String)

    /// The model's template, without what the tokenizer adds.
    private struct Original {
        let template: ChatTemplate
        let addedStart: String?
        /// Ollama's language gives no date in the form that a template wants: one is written for all time.
        let now = CivilTime.now()

        /// Whether the template writes the date.
        var isDated: Bool {
            var later = now
            (later.year, later.month, later.day) = (now.year + 1, 1 + now.month % 12, 1)
            let simple: [Message] = [("user", "hello")]
            return text(simple) != text(simple, now: later)
        }

        /// The text, or nil when the template refuses the conversation.
        func text(_ messages: [Message], prompts: Bool = true, now: CivilTime? = nil) -> String? {
            let values = messages.map { message -> JSONValue in
                ["role": .string(message.role), "content": .string(message.content)]
            }
            let rendered = try? template.render(
                messages: values, addGenerationPrompt: prompts, continueFinalMessage: !prompts, now: now ?? self.now
            ).text
            guard let rendered else { return nil }
            guard let addedStart, rendered.utf8.starts(with: addedStart.utf8) else { return rendered }
            return String(decoding: rendered.utf8.dropFirst(addedStart.utf8.count), as: UTF8.self)
        }

        /// The texts before, between and after the contents; `order` is that in which they should be written.
        ///
        /// - Throws: `Refusal` when they are not.
        func gaps(_ roles: [String], order: [Int]? = nil) throws -> [String]? {
            let marks = roles.indices.map { "MARK\($0)OF\(roles.count)" }
            guard let rendered = text(Array(zip(roles, marks))) else { return nil }
            var gaps: [String] = [], rest = rendered[...]
            for mark in order.map({ $0.map { marks[$0] } }) ?? marks {
                guard let place = rest.range(of: mark, options: .literal) else {
                    throw Refusal(reason: "it does not write the messages in their order")
                }
                gaps.append(String(rest[..<place.lowerBound]))
                rest = rest[place.upperBound...]
            }
            guard !rest.contains("MARK") else { throw Refusal(reason: "it writes a message twice") }
            return gaps + [String(rest)]
        }
    }

    // MARK: its parts

    /// What stands around the messages of each role.
    private struct Pieces {
        /// At the start, when the first message is the system's or another.
        var startSystem: String?
        var start: String
        var beforeSystem = "", afterSystem = ""
        /// Follows the system's message where that stands inside the last question.
        var lateSystemEnd: String?
        var beforeUser: String, afterUser: String
        var beforeAssistant: String, afterAssistant: String
        /// Begins the answer, after the last message.
        var prompt: String

        init(_ original: Original) throws {
            guard let plain = try original.gaps(["user", "assistant", "user"]) else {
                throw Refusal(reason: "it refuses a plain conversation")
            }
            // Between an answer and the next question, or the system's message and the first.
            let (system, late) = try Self.system(original)
            lateSystemEnd = late
            let froms = [plain[2]] + (system.map { [$0[1], $0[3]] } ?? [])
            beforeUser = froms.reduce(plain[0]) { $0.commonSuffix(with: $1) }
            start = String(plain[0].dropLastUTF8(beforeUser))
            let closing = String(plain[2].dropLastUTF8(beforeUser))
            afterAssistant = closing
            // What closes an answer closes a question too, where the text agrees.
            let closes = [plain[1], plain[3]].allSatisfy { $0.utf8.starts(with: closing.utf8) }
            afterUser = closes ? closing : ""
            beforeAssistant = String(plain[1].dropFirstUTF8(afterUser))
            prompt = String(plain[3].dropFirstUTF8(afterUser))
            if lateSystemEnd != nil { startSystem = start }
            guard let system else { return }
            afterSystem = String(system[1].dropLastUTF8(beforeUser))
            if system[0].utf8.starts(with: start.utf8) {
                (startSystem, beforeSystem) = (start, String(system[0].dropFirstUTF8(start)))
            } else {
                // A model with a system message of its own, which a given one replaces.
                (startSystem, beforeSystem) = ("", system[0])
            }
        }

        /// The texts around a conversation that a system message begins, nil when the template takes none; or what
        /// follows the system's message inside the last question.
        private static func system(_ original: Original) throws -> (gaps: [String]?, lateEnd: String?) {
            let roles = ["system", "user", "assistant", "user"]
            do { return (try original.gaps(roles), nil) } catch {
                let (system, question): (Message, Message) = (("system", "MARK"), ("user", "hello"))
                if original.text([system, question]) == original.text([question]) { return (nil, nil) }
                guard let late = try original.gaps(roles, order: [1, 2, 0, 3]) else { throw error }
                return (nil, late[3])
            }
        }

        /// A text in Go's template, in a Modelfile: what would begin an action or end the value, and the characters
        /// that Ollama drops, stand inside actions.
        private static func quoted(_ literal: String) -> String {
            var result = ""
            for scalar in literal.replacingOccurrences(of: "{{", with: "{{ \"{{\" }}").unicodeScalars {
                if Modelfile.keeps(scalar) {
                    result.unicodeScalars.append(scalar)
                } else {
                    let code = String(scalar.value, radix: 16)
                    result += "{{ \"\\U" + String(repeating: "0", count: 8 - code.utf8.count) + code + "\" }}"
                }
            }
            return result.replacingOccurrences(of: "\"\"\"", with: "\"{{ \"\\\"\\\"\" }}")
        }

        /// Go's template; it has no marks that trim, so that its texts stand as they are.
        var goTemplate: String {
            func text(_ literal: String) -> String { Self.quoted(literal) }
            let sharesStart = startSystem == nil || startSystem == start
            var source = sharesStart ? text(start) : ""
            source += "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
            if !sharesStart {
                source += "{{ if and (eq $i 0) (ne .Role \"system\") }}\(text(start)){{ end }}"
            }
            source += "{{ if eq .Role \"system\" }}"
            if startSystem != nil, lateSystemEnd == nil {
                source += "\(text(beforeSystem)){{ .Content }}\(text(afterSystem))"
            }
            source += "{{ else if eq .Role \"user\" }}\(text(beforeUser))"
            if let end = lateSystemEnd { source += "{{ if and $last $.System }}{{ $.System }}\(text(end)){{ end }}" }
            source += "{{ .Content }}\(text(afterUser))"
            source += "{{ else if eq .Role \"assistant\" }}\(text(beforeAssistant)){{ .Content }}"
            if !afterAssistant.isEmpty { source += "{{ if not $last }}\(text(afterAssistant)){{ end }}" }
            source += "{{ end }}{{ if and $last (ne .Role \"assistant\") }}\(text(prompt)){{ end }}{{ end }}"
            return source
        }
    }

    // MARK: the proof

    private static let contents = [
        "What is 12 x 34?\nAnd {{ .Role }}?", "\"It\" is <b>408</b> & more: {% x %}", "क्या यह सही है?", "वह \\n नहीं है।",
        "Ok", "Good.",
    ]

    /// Runs both templates on conversations of every shape that Ollama makes.
    private static func check(_ source: String, _ original: Original, _ pieces: Pieces) throws -> [String] {
        let go: GoTemplate
        do { go = try GoTemplate(source) } catch { throw Refusal(reason: "what came of it cannot be run: \(error)") }
        let shapes = ["u", "su", "uau", "suau", "uauau", "suauau", "ua", "sua", "uaua"]
        var trims = false, continues = true
        for shape in shapes {
            let roles = shape.map { $0 == "u" ? "user" : $0 == "s" ? "system" : "assistant" }
            let messages = zip(roles, contents).map { (role: $0, content: $1) }
            let prompts = roles.last != "assistant"
            guard pieces.startSystem != nil || roles[0] != "system" else { continue }
            guard let wanted = original.text(messages, prompts: prompts) else { continue }
            guard let found = try? go.render(messages), found.hasSameBytes(as: wanted) else {
                guard prompts else {
                    continues = false
                    continue
                }
                throw Refusal(reason: "no fixed texts around the messages give what it writes")
            }
            let spaced = messages.map { (role: $0.role, content: " \($0.content) \n") }
            if prompts, let wanted = original.text(spaced), try !go.render(spaced).hasSameBytes(as: wanted) {
                trims = true
            }
        }
        var notes: [String] = []
        if trims {
            notes.append("the model's template trims messages, Ollama's does not: send them without space around")
        }
        if !continues {
            notes.append("answers that were begun are gone on with otherwise than by the model's template")
        }
        if pieces.startSystem == nil {
            notes.append("the model's template takes no system message: Ollama leaves it out")
        }
        if original.template.source.contains("tools") { notes.append("tools are left out of Ollama's template") }
        return notes
    }
}

extension String {
    fileprivate func commonSuffix(with other: String) -> String {
        let (a, b) = (Array(unicodeScalars), Array(other.unicodeScalars))
        var count = 0
        while count < min(a.count, b.count), a[a.count - 1 - count] == b[b.count - 1 - count] { count += 1 }
        var suffix = ""
        suffix.unicodeScalars.append(contentsOf: a.suffix(count))
        return suffix
    }

    fileprivate func dropLastUTF8(_ suffix: String) -> String {
        String(decoding: utf8.dropLast(suffix.utf8.count), as: UTF8.self)
    }

    fileprivate func dropFirstUTF8(_ prefix: String) -> String {
        String(decoding: utf8.dropFirst(prefix.utf8.count), as: UTF8.self)
    }
}
