internal import FileFormats
import Synchronization

/// How a chat template takes the content of a message.
enum ContentForm: Sendable {
    /// As a string.
    case text
    /// As a string, or as a list of parts with the same result.
    case textOrParts
    /// As a list of parts alone: a string is lost.
    case parts
}

/// What small conversations show of a chat template.
struct TemplateProbe: Sendable {
    private static let mark = "qzAzq", second = "qzBzq"
    private static let question: JSONValue = ["role": "user", "content": "question"]

    private(set) var forms: [(role: String, form: ContentForm)] = []
    private(set) var endings: [Ending] = []

    /// What a template writes behind an answer, or behind the arguments of a call.
    struct Ending {
        var isCall: Bool
        /// To the end of a conversation that ends there.
        var tail: [UInt8]
        /// In a conversation that goes on; empty where it cannot.
        var sequel: [UInt8] = []
    }

    init(_ template: ChatTemplate) {
        let now = CivilTime(iso: "2024-01-01") ?? .now()
        func text(_ messages: [JSONValue]) -> [UInt8]? {
            (try? template.render(messages: messages, now: now)).map { Array($0.text.utf8) }
        }
        for role in ["system", "user", "assistant", "tool"] {
            forms.append((role, Self.form(of: role, text)))
        }
        for question in [Self.question, Self.asParts(Self.question)] {
            findEndings(question, text)
            if !endings.isEmpty { break }
        }
    }

    func form(of role: String) -> ContentForm { forms.first { $0.role == role }?.form ?? .text }

    private static func asParts(_ message: JSONValue) -> JSONValue {
        guard var object = message.objectValue, let text = object["content"] else { return message }
        object["content"] = [["type": "text", "text": text]]
        return .object(object)
    }

    private static let call: JSONValue = [
        "role": "assistant", "content": "",
        "tool_calls": [
            ["type": "function", "id": "abcdef123", "function": ["name": "f", "arguments": ["x": .string(mark)]]]
        ],
    ]

    // MARK: Contents

    private static func form(of role: String, _ text: ([JSONValue]) -> [UInt8]?) -> ContentForm {
        func render(_ content: JSONValue, others: (JSONValue) -> JSONValue) -> [UInt8]? {
            let message: JSONValue = [
                "role": .string(role), "content": content, "name": "f", "tool_call_id": "abcdef123",
            ]
            switch role {
            case "system": return text([message, others(question)])
            case "user": return text([message])
            case "tool": return text([others(question), call, message])
            default: return text([others(question), ["role": .string(role), "content": content]])
            }
        }
        func part(_ text: String) -> JSONValue { ["type": "text", "text": .string(text)] }
        func holds(_ text: [UInt8]?, _ mark: String) -> Bool { text.map { Text($0).contains(Text(mark)) } ?? false }
        for others in [{ $0 }, asParts] as [(JSONValue) -> JSONValue] {
            let string = render(.string(mark), others: others)
            let parts = render([part(mark)], others: others)
            if holds(string, mark) {
                guard let string, parts == string else { return .text }
                return holds(render([part(mark), part(second)], others: others), second) ? .textOrParts : .text
            }
            // A list that is printed as one is no text either.
            let isPrinted = ["'type'", "\"type\""].contains { holds(parts, $0) }
            if holds(parts, mark), !isPrinted { return .parts }
        }
        return .text
    }

    // MARK: Ends of turns

    private mutating func findEndings(_ question: JSONValue, _ text: ([JSONValue]) -> [UInt8]?) {
        let plain: JSONValue = ["role": "assistant", "content": .string(Self.mark)]
        let answer = form(of: "assistant") == .parts ? Self.asParts(plain) : plain
        let result: JSONValue = ["role": "tool", "content": "result", "name": "f", "tool_call_id": "abcdef123"]
        for (isCall, turn, next) in [(false, answer, question), (true, Self.call, result)] {
            guard let whole = text([question, turn]), let place = Text(whole).lastOffset(of: Text(Self.mark)) else {
                continue
            }
            var ending = Ending(isCall: isCall, tail: Array(whole[(place + Self.mark.utf8.count)...]))
            if let longer = text([question, turn, next]), let place = Text(longer).lastOffset(of: Text(Self.mark)) {
                ending.sequel = Array(longer[(place + Self.mark.utf8.count)...])
            }
            endings.append(ending)
        }
    }
}

/// Makes a template's probe when it is first asked for.
final class TemplateProbeBox: Sendable {
    private let probe = Mutex<TemplateProbe?>(nil)

    func callAsFunction(_ template: ChatTemplate) -> TemplateProbe {
        probe.withLock { known in
            if let known { return known }
            let made = TemplateProbe(template)
            known = made
            return made
        }
    }
}

extension Conversation {
    /// With contents as a template takes them: parts joined where it takes strings, strings as parts where it takes
    /// nothing else.
    func fitted(to template: ChatTemplate) -> Conversation {
        let probe = (tools == nil ? template : template.toolUse.first ?? template).probe
        let takesParts = probe.forms.contains { $0.form == .parts }
        guard takesParts || messages.contains(where: { $0["content"]?.arrayValue != nil }) else { return self }
        var result = self
        for (i, message) in messages.enumerated() {
            guard var object = message.objectValue else { continue }
            switch (object["content"], probe.form(of: object["role"]?.stringValue ?? "")) {
            case (.array(let parts)?, .text):
                object["content"] = .string(parts.compactMap { $0["text"]?.stringValue }.joined())
            case (.string(let text)?, .parts): object["content"] = [["type": "text", "text": .string(text)]]
            default: continue
            }
            result.messages[i] = .object(object)
        }
        return result
    }

    /// With an empty content in messages that call tools and have none; nil where there are no such messages.
    var withEmptyContents: Conversation? {
        var result = self
        var isChanged = false
        for (i, message) in messages.enumerated() {
            guard var object = message.objectValue, object["content"]?.isNull ?? true else { continue }
            object["content"] = ""
            result.messages[i] = .object(object)
            isChanged = true
        }
        return isChanged ? result : nil
    }
}
