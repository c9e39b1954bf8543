import FileFormats
import Foundation
import Testing

@testable import TextData

/// What is remembered of a conversation's renderings must never show: every part and variant of it is compared with a
/// rendering of its own.
struct RoundsTests {
    /// Bodies of loops that look at other messages, at the world around them, and at what rounds before them left.
    static let templates = [
        chatML,
        "{% for m in messages %}{{ loop.index }}{{ loop.first }}{{ loop.last }}{{ m.content }};{% endfor %}",
        "{% for m in messages %}{{ loop.length }}/{{ loop.revindex }}{{ m.role }}{% endfor %}",
        "{% for m in messages %}{{ messages[loop.index0 + 1].role }}<{{ messages[-1].role }}>{% endfor %}",
        "{% for m in messages %}{{ loop.previtem.role }}{{ loop.nextitem.content }}|{% endfor %}",
        "{% for m in messages %}{{ m.role if loop.nextitem is defined else 'end' }}{% endfor %}",
        "{% set rest = messages[1:] %}{% for m in rest %}{{ rest[loop.index0].role }}{{ rest | length }}{% endfor %}",
        "{% set rest = messages[1:] %}{% for m in rest %}{{ m.content }}{{ rest[0].role }}.{% endfor %}",
        "{% set ns = namespace(n=0, last='') %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{{ ns.last }}"
            + "{% set ns.last = m.role %}{% endfor %}{{ ns.n }}{{ ns.last }}",
        "{% set ns = namespace(at=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.at = loop.index0 %}"
            + "{% endif %}{% endfor %}{% for m in messages %}{% if loop.index0 > ns.at %}[{{ m.content }}]{% else %}"
            + "{{ m.content }}{% endif %}{% endfor %}",
        "{% set c = cycler('a', 'b') %}{% set j = joiner('+') %}{% for m in messages %}{{ j() }}{{ c.next() }}{% endfor %}",
        "{% set words = messages | map(attribute='role') %}{% for m in messages %}{% for w in words %}{{ w }}{% endfor %}"
            + "{{ m.content }}{% endfor %}",
        "{% for m in messages %}{% if loop.changed(m.role) %}{{ m.role }}{% endif %}{% endfor %}",
        "{% macro show(m) %}{{ tag }}{{ m.content }}{{ add_generation_prompt }}{% endmacro %}{% set tag = '#' %}"
            + "{% for m in messages %}{{ show(m) }}{% endfor %}",
        "{% for t in tools or [] %}{{ t.function.name }}{{ loop.last }}{% endfor %}{% for m in messages %}"
            + "{% for c in m.tool_calls or [] %}{{ loop.index }}{{ c.function.name }}{{ tools | length }}{% endfor %}"
            + "{{ m.content }}{% endfor %}",
        "{% set text %}{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}{% generation %}!"
            + "{% endgeneration %}{% endif %}{% endfor %}{% endset %}{{ text }}",
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
            + "{% else %}{{ m.role }}{% endif %}{% endfor %}{% if add_generation_prompt %}>{% endif %}",
        "{% for m in messages %}{% if m.content == 'stop' %}{% break %}{% endif %}{% if m.role == 'tool' %}{% continue %}"
            + "{% endif %}{{ m.content }}{% else %}none{% endfor %}",
        "{% for m in messages %}{% if m.role == 'tool' and loop.index0 == 0 %}{{ raise_exception('no') }}{% endif %}"
            + "{% set ns = namespace(x=loop.index) %}{% set ns.x = ns.x + 1 %}{{ ns.x }}{{ m.content | trim }}{% endfor %}",
        "{% set kept = namespace(all=[], f=none) %}{% for m in messages %}{% set kept.all = kept.all + [m] %}"
            + "{% macro f() %}{{ m.role }}{% endmacro %}{% set kept.f = f %}{{ kept.all | length }}{% endfor %}{{ kept.f() }}"
            + "{{ kept }}",
        "{% for m in messages %}{% if m in messages[:2] %}a{% endif %}{{ messages | length > 3 }}{% endfor %}",
        "{% for m in messages if m.role != 'system' %}{{ loop.index }}{{ m.content }}{% endfor %}",
    ]

    static func conversation(_ random: inout SeededGenerator) -> Conversation {
        let texts = ["a", "b ", "stop", "नमस्ते", "x\n", ""]
        let roles = ["user", "assistant", "tool", "system"]
        let messages = (0..<Int.random(in: 1...6, using: &random)).map { _ -> JSONValue in
            let role = roles.randomElement(using: &random) ?? "user"
            var message = JSONObject([
                ("role", .string(role)), ("content", .string(texts.randomElement(using: &random) ?? "")),
            ])
            if role == "assistant", Bool.random(using: &random) {
                message["tool_calls"] = [["function": ["name": "f", "arguments": ["x": 1]]]]
            }
            return .object(message)
        }
        let tools: JSONValue = [["function": ["name": "f"]], ["function": ["name": "g"]]]
        return Conversation(messages: messages, tools: Bool.random(using: &random) ? tools : nil)
    }

    private func outcome(_ body: () throws -> (text: [UInt8], spans: [Range<Int>]?)) -> String {
        do {
            let (text, spans) = try body()
            return "\(String(decoding: text, as: UTF8.self)) \(spans.map { "\($0)" } ?? "-")"
        } catch { return "\(error)" }
    }

    private func check(_ template: ChatTemplate, _ conversation: Conversation) throws {
        let now = try #require(CivilTime(iso: "2026-01-15T09:30:00"))
        let renderer = try ConversationRenderer(template, conversation, now: now)
        func compare(_ messages: [JSONValue], _ values: [TemplateValue], prompt: Bool) {
            let found = outcome {
                let rendered = try renderer.render(values, prompt: prompt)
                return (rendered.bytes, rendered.generationSpans)
            }
            let expected = outcome {
                let rendered = try template.render(
                    messages: messages, tools: conversation.tools, addGenerationPrompt: prompt,
                    extra: conversation.variables, now: now)
                return (Array(rendered.text.utf8), rendered.generationSpans)
            }
            #expect(found == expected, "\(template.name): \(messages)")
        }
        compare(conversation.messages, renderer.messages, prompt: false)
        for count in 1...conversation.messages.count {
            for prompt in [true, false] {
                compare(
                    Array(conversation.messages[..<count]), Array(renderer.messages[..<count]), prompt: prompt)
            }
            var (messages, values) = (conversation.messages, renderer.messages)
            messages[count - 1] = ["role": "assistant", "content": "other"]
            values[count - 1] = try TemplateValue(message: messages[count - 1])
            compare(messages, values, prompt: false)
        }
        let without = outcome { (try renderer.renderWithoutTools(by: template).bytes, nil) }
        let expected = outcome {
            (
                Array(
                    try template.render(messages: conversation.messages, extra: conversation.variables, now: now).text
                        .utf8), nil
            )
        }
        #expect(without == expected)
    }

    @Test(arguments: templates)
    func rememberedRoundsAreThoseThatRun(_ source: String) throws {
        var random = SeededGenerator(7)
        let template = try ChatTemplate(source: source, constants: JSONObject([("bos_token", "<s>")]))
        for _ in 0..<40 { try check(template, Self.conversation(&random)) }
    }

    @Test(.enabled(if: Conformance.hasTemplates), arguments: TemplateConformanceTests.names)
    func rememberedRoundsOfModels(_ name: String) throws {
        let file = try Conformance.json("chat_templates/cases/\(name).json")["template_file"]?.stringValue ?? ""
        let path = Conformance.root.appendingPathComponent("chat_templates").appendingPathComponent(file)
        let template = try ChatTemplate(source: String(contentsOf: path, encoding: .utf8), name: name)
        for item in try Conformance.json("chat_templates/conversations.json")["conversations"]?.arrayValue ?? [] {
            let conversation = Conversation(
                messages: item["messages"]?.arrayValue ?? [], tools: item["tools"],
                variables: item["kwargs"]?.objectValue ?? JSONObject())
            try check(template, conversation)
        }
    }
}
