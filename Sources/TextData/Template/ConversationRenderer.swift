internal import FileFormats

/// Renders one conversation several times: parts of it, and variants. What the renderings have in common is made once.
final class ConversationRenderer {
    /// As the template sees them.
    let messages: [TemplateValue]
    private let template: ChatTemplate
    private let conversation: Conversation
    private let tools: TemplateValue
    private let constants: [ChatTemplate.Variable]
    private let extra: [ChatTemplate.Variable]
    private let now: CivilTime
    private let memory = RoundMemory()

    /// - Throws: `TextError.templateLimit` for values nested too deep.
    init(_ template: ChatTemplate, _ conversation: Conversation, now: CivilTime) throws {
        let chosen = conversation.tools == nil ? template : template.toolUse.first ?? template
        self.template = chosen
        self.conversation = conversation
        self.now = now
        (messages, tools, constants, extra) = try chosen.locatingFaults {
            (
                try conversation.messages.map { try TemplateValue(message: $0) },
                try TemplateValue(conversation.tools ?? .null),
                try chosen.symbols(chosen.constants), try chosen.symbols(conversation.variables)
            )
        }
    }

    /// - Parameter messages: by default all of the conversation.
    /// - Throws: what the template throws.
    func render(_ messages: [TemplateValue]? = nil, prompt: Bool = false) throws -> RenderedBytes {
        try render(messages ?? self.messages, tools: tools, prompt: prompt)
    }

    /// The conversation as if there were no tools to call.
    func renderWithoutTools(by template: ChatTemplate) throws -> RenderedBytes {
        if template.toolUse.isEmpty { return try render(messages, tools: .none, prompt: false) }
        var conversation = conversation
        conversation.tools = nil
        return try ConversationRenderer(template, conversation, now: now).render()
    }

    private func render(_ messages: [TemplateValue], tools: TemplateValue, prompt: Bool) throws -> RenderedBytes {
        let recorder = RoundRecorder(messages: messages)
        return try template.locatingFaults {
            let depth = try TemplateValue.depth(over: messages)
            let variables: [(name: String, value: TemplateValue)] = [
                ("messages", .list(Items(values: messages, depth: depth, series: recorder))), ("tools", tools),
                ("documents", .none), ("add_generation_prompt", .bool(prompt)),
            ]
            let known = variables.compactMap { name, value in template.symbol(name).map { (symbol: $0, value: value) } }
            return try template.run(constants + known + extra, now: now, remembering: (memory, recorder))
        }
    }
}
