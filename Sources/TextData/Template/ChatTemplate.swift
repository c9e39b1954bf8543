public import FileFormats

/// What a template wrote, and which parts of it are the assistant's.
public struct RenderedText: Sendable {
    public var text: String
    /// UTF-8 byte ranges that `{% generation %}` blocks wrote, in order; nil when the template has none, or when one
    /// wrote inside a macro, where its place in the text is not known.
    public var generationSpans: [Range<Int>]?

    public init(text: String, generationSpans: [Range<Int>]? = nil) {
        self.text = text
        self.generationSpans = generationSpans
    }
}

/// A chat template, compiled: Jinja as Transformers runs it (`trim_blocks`, `lstrip_blocks`, loop controls,
/// `generation` blocks, `raise_exception`, `strftime_now`, an immutable sandbox).
///
/// Templates come with models and are not trusted: they see only the variables given to them and run under limits
/// (a million operations, 1 MiB of output, calls nested 32 deep).
public struct ChatTemplate: Sendable {
    /// What the template is called in error texts.
    public let name: String
    public let source: String
    /// Variables given to every rendering: `bos_token`, `eos_token` and so on.
    public var constants: JSONObject { didSet { probeBox = TemplateProbeBox() } }
    private var probeBox = TemplateProbeBox()
    /// What small conversations show of the template, tried once.
    var probe: TemplateProbe { probeBox(self) }
    /// The template for conversations with tools, where the model has one of its own; at most one.
    public private(set) var toolUse: [ChatTemplate] = []
    private let program: TemplateProgram

    /// - Throws: `TextError.template` for a source that is not a template.
    public init(source: String, name: String = "chat template", constants: JSONObject = JSONObject()) throws {
        self.name = name
        self.source = source
        self.constants = constants
        do {
            program = try JinjaParser.parse(source)
        } catch let fault as TemplateFault {
            throw TextError.template(name: name, line: fault.line ?? 1, reason: fault.message)
        }
    }

    /// The same with another template for conversations that have tools.
    public func with(toolUse template: ChatTemplate?) -> ChatTemplate {
        var copy = self
        copy.toolUse = template.map { [$0] } ?? []
        return copy
    }

    /// Whether the template marks what the assistant writes.
    public var hasGenerationBlocks: Bool { program.usesGeneration }

    /// Renders with exactly `variables` and the constants, variables first.
    ///
    /// - Throws: `TextError.template`, `.templateRaised` or `.templateLimit`, with the line.
    public func render(variables: JSONObject, now: CivilTime = .now()) throws -> RenderedText {
        let rendered = try locatingFaults {
            try run(try symbols(constants) + symbols(variables), now: now)
        }
        return RenderedText(
            text: String(decoding: rendered.bytes, as: UTF8.self), generationSpans: rendered.generationSpans)
    }

    /// A variable by its number in the program.
    typealias Variable = (symbol: Int, value: TemplateValue)

    /// Those variables that the template mentions.
    ///
    /// - Throws: `TemplateFault`.
    func symbols(_ object: JSONObject) throws -> [Variable] {
        try object.entries.compactMap { key, value in
            // A value nested too deep is a fault, mentioned or not.
            let value = try TemplateValue(value)
            return symbol(key).map { ($0, value) }
        }
    }
    func symbol(_ name: String) -> Int? { program.symbolIndex[Text(name)] }

    /// - Throws: `TemplateFault`.
    func run(
        _ values: [Variable], now: CivilTime,
        remembering: (memory: RoundMemory, recorder: RoundRecorder)? = nil
    ) throws -> RenderedBytes {
        let interpreter = Interpreter(program: program, now: now, remembering: remembering)
        try interpreter.run(values)
        let isKnown = program.usesGeneration && !interpreter.hasLostSpans
        return RenderedBytes(
            bytes: interpreter.output, generationSpans: isKnown ? interpreter.generationSpans : nil)
    }

    /// Makes errors that name the template of faults.
    func locatingFaults<Result>(_ body: () throws -> Result) throws -> Result {
        do { return try body() } catch let fault as TemplateFault {
            let line = fault.line ?? 1
            switch fault.kind {
            case .failed: throw TextError.template(name: name, line: line, reason: fault.message)
            case .raised: throw TextError.templateRaised(name: name, line: line, message: fault.message)
            case .limit: throw TextError.templateLimit(name: name, line: line, limit: fault.message)
            }
        }
    }

    /// Renders a conversation as Transformers' `apply_chat_template` does: keys of messages that are null are left out,
    /// and reasoning that comes under another name is found under `reasoning_content` and `thinking`, too.
    ///
    /// - Parameters:
    ///   - tools: definitions of functions, or nil.
    ///   - continueFinalMessage: ends the text inside the last message, so that it can be gone on with.
    ///   - extra: further variables of the template.
    public func render(
        messages: [JSONValue], tools: JSONValue? = nil, addGenerationPrompt: Bool = false,
        continueFinalMessage: Bool = false, extra: JSONObject = JSONObject(), now: CivilTime = .now()
    ) throws -> RenderedText {
        if tools != nil, let template = toolUse.first {
            return try template.render(
                messages: messages, tools: tools, addGenerationPrompt: addGenerationPrompt,
                continueFinalMessage: continueFinalMessage, extra: extra, now: now)
        }
        var messages = messages.map(Self.normalized)
        var content: Text?
        if continueFinalMessage {
            guard Text(source).contains("content") else {
                throw TextError.cannotContinue(reason: "the chat template does not write contents")
            }
            guard !addGenerationPrompt else {
                throw TextError.cannotContinue(reason: "add_generation_prompt would start another message")
            }
            content = try FinalMessage.mark(&messages)
        }
        var variables = JSONObject([
            ("messages", .array(messages)), ("tools", tools ?? .null), ("documents", .null),
            ("add_generation_prompt", .bool(addGenerationPrompt)),
        ])
        for (key, value) in extra.entries { variables[key] = value }
        let rendered = try render(variables: variables, now: now)
        return try content.map { try FinalMessage.cut(rendered, after: $0) } ?? rendered
    }

    /// The names under which templates look for a thought.
    static let reasoningKeys = ["reasoning_content", "thinking", "reasoning"]

    fileprivate static func normalized(_ message: JSONValue) -> JSONValue {
        guard let object = message.objectValue else { return message }
        var kept = JSONObject(object.entries.filter { !$0.value.isNull })
        if let reasoning = reasoningKeys.lazy.compactMap({ kept[$0] }).first {
            let thinking = kept["thinking"] ?? reasoning
            kept["thinking"] = nil
            kept = JSONObject([("thinking", thinking)] + kept.entries)
            kept["reasoning_content"] = reasoning
        }
        return .object(kept)
    }
}

/// Finds the end of the last message's content in rendered text by a tag that is put there before rendering.
private enum FinalMessage {
    static let tag = "CONTINUE_FINAL_MESSAGE_TAG "

    /// Puts the tag into the last message and returns its text without it.
    static func mark(_ messages: inout [JSONValue]) throws -> Text {
        guard var message = messages.last?.objectValue else {
            throw TextError.cannotContinue(reason: "there is no message")
        }
        let content: String
        switch message["content"] {
        case .string(let text)?:
            content = text
            message["content"] = .string(text + tag)
        case .array(var parts)?:
            guard let last = parts.lastIndex(where: { $0["text"]?.stringValue != nil }),
                var part = parts[last].objectValue, let text = part["text"]?.stringValue
            else { throw TextError.cannotContinue(reason: "the last message has no text") }
            content = text
            part["text"] = .string(text + tag)
            parts[last] = .object(part)
            message["content"] = .array(parts)
        default: throw TextError.cannotContinue(reason: "the last message has no text")
        }
        messages[messages.count - 1] = .object(message)
        return Text(content)
    }

    /// Templates that trim contents also trim the tag's own space: then the text before it was trimmed, too.
    static func cut(_ rendered: RenderedText, after content: Text) throws -> RenderedText {
        let text = Text(rendered.text)
        let full = Text(tag)
        guard text.contains(content.stripped()), let offset = text.lastOffset(of: full.stripped()) else {
            throw TextError.cannotContinue(reason: "the last message does not appear in the rendered text")
        }
        var kept = Text(text.bytes[..<offset])
        if !Text(text.bytes[offset...]).hasPrefix(full) { kept = kept.stripped(left: false) }
        let spans = rendered.generationSpans?.compactMap { span -> Range<Int>? in
            let clamped = span.clamped(to: 0..<kept.bytes.count)
            return clamped.isEmpty ? nil : clamped
        }
        return RenderedText(text: kept.description, generationSpans: spans)
    }
}

/// What a template wrote, as UTF-8.
struct RenderedBytes {
    var bytes: [UInt8]
    /// As in `RenderedText`.
    var generationSpans: [Range<Int>]?
}

extension TemplateValue {
    /// A message as the template sees it.
    init(message: JSONValue) throws { try self.init(ChatTemplate.normalized(message)) }

    /// A JSON value as the template sees it.
    init(_ value: JSONValue) throws {
        // Input is not charged as work: only its depth is bounded here.
        switch value {
        case .null: self = .none
        case .bool(let flag): self = .bool(flag)
        case .integer(let number): self = .int(number)
        case .bigInteger(let digits): self = .bigInt(Text(digits))
        case .double(let number): self = .float(number)
        case .string(let text): self = .string(Text(text))
        case .array(let elements):
            let values = try elements.map { try TemplateValue($0) }
            self = .list(Items(values: values, depth: try Self.depth(over: values), isGiven: true))
        case .object(let object):
            var keys: [MappingKey] = []
            let entries = try object.entries.map {
                let key = Text($0.key)
                keys.append(.string(key))
                return (key: TemplateValue.string(key), value: try TemplateValue($0.value))
            }
            let depth = try Self.depth(over: entries.lazy.map { $0.value })
            self = .dict(Mapping(entries: entries, keys: keys, depth: depth, isGiven: true))
        }
    }

    /// The depth of what holds `values`.
    static func depth(over values: some Sequence<TemplateValue>) throws -> Int {
        let depth = values.reduce(0) { max($0, $1.depth) } + 1
        guard depth <= Interpreter.valueDepthLimit else {
            throw TemplateFault("values nested deeper than \(Interpreter.valueDepthLimit)", kind: .limit)
        }
        return depth
    }
}
