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
        "{% for m in messages %}{{ (messages[loop.index0 + 1] or {}).role }}<{{ messages[-1].role }}>{% endfor %}",
        "{% for m in messages %}{{ (loop.previtem or {}).role }}{{ (loop.nextitem or {}).content }}|{% endfor %}",
        "{% for m in messages %}{{ m.role if loop.nextitem is defined else 'end' }}{% endfor %}",
        "{% set rest = messages[1:] %}{% for m in rest %}{{ (rest[loop.index] or {}).role }}{{ rest | length }}{% endfor %}",
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
        // One loop over several parts of the messages, or among other variables.
        "{% macro show(ms) %}{% for m in ms %}{{ m.role }}{{ (loop.nextitem or {}).role }}"
            + "{{ (loop.previtem or {}).role }}{{ loop.last }} {% endfor %}{% endmacro %}{{ show(messages) }}|{{ show(messages[1:]) }}|{{ show(messages[2:]) }}"
            + "|{% for m in messages %}{{ show(m.tool_calls or []) }}{% endfor %}{{ show(messages[-1].tool_calls or []) }}",
        "{% macro tagged() %}{{ tag }}{% endmacro %}{% macro all(hides) %}{% if hides %}{% set tag = 'A' %}{% endif %}"
            + "{% for m in messages %}{{ tagged() }}{{ tag }}{{ m.role }}{% endfor %}{% endmacro %}"
            + "{% set tag = 'A' %}{{ all(false) }}{% set tag = 'B' %}{{ all(true) }}{% set tag = 'A' %}{{ all(true) }}",
        // What changes by being used, inside of what does not.
        "{% set d = {'c': cycler('a', 'b'), 'j': [joiner('+')]} %}{% for i in range(3) %}{% for m in messages %}"
            + "{{ d.j[0]() }}{{ d.c.next() }}{{ m.content }}{% endfor %}{% endfor %}",
        "{% set kept = [messages | map(attribute='role')] %}{% for i in range(2) %}{% for m in messages %}"
            + "{{ kept[0] | first }}{% endfor %}{% endfor %}",
        "{% for m in messages if m.role != 'system' %}{{ loop.index }}{{ m.content }}{% endfor %}",
    ]

    /// What a body may do: read, change and keep what is there.
    private static let statements = [
        "{{ m.role }}", "{{ m.content }};", "{{ loop.index }}", "{{ loop.last }}", "{{ loop.length }}",
        "{{ loop.revindex0 }}",
        "{{ (loop.previtem or {}).content }}", "{{ (loop.nextitem or {}).role }}", "{{ loop.changed(m.role) }}",
        "{{ loop.cycle('x', 'y', 'z') }}", "{{ (messages[loop.index] or {}).role }}", "{{ messages[-1].content }}",
        "{{ messages | length }}", "{{ m == messages[0] }}", "{{ m in messages[1:] }}", "{{ (tools or []) | length }}",
        "{% set ns.n = ns.n + 1 %}", "{{ ns.n }}", "{% set ns.last = m.role %}", "{{ ns.last }}",
        "{% set ns.all = ns.all + [m] %}",
        "{{ ns.all | length }}", "{% set other.n = ns.n %}", "{{ other.n }}", "{{ other }}", "{% set ns.f = show %}",
        "{% set ns.c = cycler(1, 2) %}", "{{ ns.c.next() if ns.c else '-' }}", "{{ c.next() }}", "{{ d.j[0]() }}",
        "{{ d.c.next() }}",
        "{{ kept[0] | first }}", "{{ show(m) }}", "{{ count(m) }}", "{{ tag }}", "{{ tagged() }}",
        "{{ add_generation_prompt }}",
        "{% set tag = m.role %}", "{% set ns.other = other %}", "{% set ns.other = namespace(n=5) %}",
        "{{ ns.other.n if ns.other else '' }}", "{% set o = ns.other %}{% if o %}{% set o.n = o.n + 1 %}{% endif %}",
        "{{ all(messages[1:]) }}",
        "{% if m.content == 'stop' %}{% break %}{% endif %}", "{% if m.role == 'tool' %}{% continue %}{% endif %}",
        "{% generation %}{{ m.content }}{% endgeneration %}", "{{ messages | map(attribute='role') | join }}",
        "{{ (messages | selectattr('role', 'equalto', 'user') | list | last or {}).content }}", "{{ ns.n is defined }}",
        "{% for m in messages %}{{ m.role }}{{ loop.last }}{% endfor %}",
        "{% for m in messages if m.role == 'user' %}{{ ns.n }}{% endfor %}",
        "{% for t in tools or [] %}{{ t.function.name }}{{ ns.n }}{% endfor %}",
        "{% for t in m.tool_calls or [] %}{{ loop.last }}{% endfor %}",
    ]
    private static let lists = [
        "messages", "messages", "messages", "messages[1:]", "messages[2:]", "tools or []",
        "messages[-1].tool_calls or []",
        "messages[:-1]", "messages | list", "rest", "rest[1:]",
    ]
    private static let start =
        "{% set ns = namespace(n=0, last='', all=[], other=none, f=none, c=none) %}{% set other = namespace(n=3) %}"
        + "{% set c = cycler('a', 'b', 'c') %}{% set d = {'c': cycler('p', 'q'), 'j': [joiner('+')]} %}{% set tag = 'A' %}"
        + "{% set kept = [messages | map(attribute='role')] %}{% set rest = messages[1:] %}"
        + "{% macro show(m) %}[{{ m.role }}{{ tag }}{{ ns.n }}]{% endmacro %}{% macro tagged() %}{{ tag }}{% endmacro %}"
        + "{% macro count(m) %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{% endmacro %}{% macro all(ms) %}{% for m in ms %}"
        + "{{ m.role }}{{ loop.last }}{{ (loop.nextitem or {}).content }}{{ ns.n }} {% endfor %}{% endmacro %}"
        + "{% macro call() %}{{ caller(messages[0]) }}{{ tag }}{% endmacro %}"

    private static func loop(_ random: inout SeededGenerator, depth: Int) -> String {
        let body = (0..<Int.random(in: 1...5, using: &random)).map { _ in
            depth < 2 && Int.random(in: 0..<9, using: &random) == 0
                ? block(&random, depth: depth + 1) : statements.randomElement(using: &random) ?? ""
        }
        return "{% for m in \(lists.randomElement(using: &random) ?? "messages") %}\(body.joined())|{% endfor %}"
    }

    private static func block(_ random: inout SeededGenerator, depth: Int = 0) -> String {
        let inner = loop(&random, depth: depth)
        return switch Int.random(in: 0..<10, using: &random) {
        case 0: "{% with tag = 'W' %}\(inner){% endwith %}"
        case 1: "{% set text %}\(inner){% endset %}{{ text }}"
        case 2: "{% for i in range(2) %}\(inner){% set tag = 'R' %}\(inner){% endfor %}"
        case 3: "{% filter upper %}\(inner){% endfilter %}"
        case 4: "{% call(m) call() %}\(inner){% endcall %}"
        case 5:
            "{% macro own(x) %}{% if x %}{% set tag = x %}{% endif %}\(inner){% endmacro %}{{ own() }}{{ own('A') }}"
        case 6: "{% set ns.n = 0 %}\(inner)"
        case 7: "{% if add_generation_prompt %}{% set late = namespace(n=1) %}{% endif %}\(inner)"
        default: inner
        }
    }

    @Test func roundsOfAnyTemplate() throws {
        var random = SeededGenerator(11)
        for _ in 0..<150 {
            let source =
                Self.start + (0..<Int.random(in: 1...3, using: &random)).map { _ in Self.block(&random) }.joined()
            let template = try ChatTemplate(source: source + "{{ ns }}{{ other.n }}{{ c.next() }}", name: source)
            for _ in 0..<3 { try check(template, Self.conversation(&random)) }
        }
    }

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
