import FileFormats
import Foundation
import Testing

@testable import TextData

struct TemplateTests {
    func render(_ source: String, _ variables: JSONObject = JSONObject()) throws -> String {
        try ChatTemplate(source: source).render(variables: variables).text
    }

    /// GRAFT_JINJA_CASES names another file of the same form, for comparisons on generated templates.
    @Test func rendersAsJinjaDoes() throws {
        let fixture = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Fixtures/jinja_cases.json")
        let path = ProcessInfo.processInfo.environment["GRAFT_JINJA_CASES"] ?? fixture.path
        let file = try JSONParser.parse(Array(try Data(contentsOf: URL(fileURLWithPath: path))))
        let variables = try #require(file["variables"]?.objectValue)
        let now = try #require(CivilTime(iso: "2026-01-15T09:30:00"))
        let cases = try #require(file["cases"]?.arrayValue)
        #expect(cases.count > 800)
        for item in cases {
            let source = try #require(item["template"]?.stringValue)
            let expected = item["expected"]?.stringValue
            do {
                let text = try ChatTemplate(source: source).render(variables: variables, now: now).text
                #expect(expected?.hasSameBytes(as: text) == true, "\(source) gave \(text.debugDescription)")
            } catch {
                #expect(expected == nil, "\(source): \(error)")
            }
        }
    }

    @Test func errorsNameTheLine() throws {
        func line(_ source: String) -> Int? {
            do {
                _ = try render(source)
            } catch TextError.template(_, let line, _) {
                return line
            } catch TextError.templateRaised(_, let line, _) {
                return line
            } catch {}
            return nil
        }
        #expect(line("a\n{{ nothing.x }}") == 2)
        #expect(line("a\n\n{% if %}") == 3)
        #expect(line("a\n{% if true %}\n{{ 1 + 'a' }}{% endif %}") == 3)
        #expect(line("\n\n{{ raise_exception('no') }}") == 3)
        #expect(line("{% macro f() %}\n{{ 1/0 }}{% endmacro %}\n{{ f() }}") == 2)
    }

    @Test func raisedMessagesComeThrough() throws {
        let error = #expect(throws: TextError.self) { try render("{{ raise_exception('Roles must alternate') }}") }
        guard case .templateRaised(_, _, let message)? = error else {
            Issue.record("\(error as Any)")
            return
        }
        #expect(message == "Roles must alternate")
    }

    static let hostile: [String] = [
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(100) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}",
        "{% set ns = namespace(x={}) %}{% for i in range(100000) %}{% set ns.x = {'a': ns.x} %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x|tojson }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x == ns.x + [] }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(x) %}{% for i in x recursive %}{{ loop(x) }}{% endfor %}{% endmacro %}{{ f([1]) }}",
        "{{ 'a' * 1000000000000 }}", "{{ [1] * 1000000000000 }}", "{{ 'a'|center(1000000000000) }}",
        "{{ 'a'.ljust(1000000000000) }}", "{{ '%1000000000d' % 1 }}", "{{ '{:>1000000000}'.format(1) }}",
        "{{ '%.1000000000f' % 1.5 }}x{{ 1/0 }}", "{{ range(1000000000) }}", "{{ 2 ** 1000000000 }}",
        "{{ ('a' * 100000).replace('a', 'b' * 100000) }}", "{{ ('a' * 100000).replace('', 'b' * 1000) }}",
        "{{ ('b' * 100000).join(('a ' * 100000).split()) }}", "{{ ('a\\n' * 100000)|indent(4096) }}",
        "{% for i in range(100000) %}{{ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' }}{% endfor %}",
        "{% set ns = namespace() %}{% for i in range(100000) %}{% set ns.p = namespace(prev=ns.p) %}{% endfor %}{{ 1/0 }}",
        "{{ " + String(repeating: "(", count: 100_000),
        "{{ " + String(repeating: "[", count: 10_000) + String(repeating: "]", count: 10_000) + " }}",
        "{{ 1" + String(repeating: " + 1", count: 100_000) + " }}",
        "{{ a" + String(repeating: ".a", count: 100_000) + " }}",
        "{{ 1" + String(repeating: "|abs", count: 100_000) + " }}",
        "{{ " + String(repeating: "not ", count: 100_000) + "1 }}",
        "{{ " + String(repeating: "- ", count: 100_000) + "1 }}",
        "{{ 1" + String(repeating: " if 1 else 1", count: 100_000) + " }}",
        String(repeating: "{% if 1 %}", count: 100_000), String(repeating: "{% for i in [1] %}", count: 10_000),
        "{{ 1" + String(repeating: "[0]", count: 100_000) + " }}", String(repeating: "{%", count: 100_000), "{{ '",
        "{{ \"\\ud800\" }}", "{{ 99999999999999999999 }}", "{{ 9223372036854775807 + 1 }}",
        "{{ -9223372036854775808 }}",
        "{{ (0 - 9223372036854775807 - 1) // -1 }}", "{{ [1,2,3][::0] }}", "{{ ''.__class__.__mro__ }}",
        "{{ [].append(1) }}", "{{ {}.update({}) }}", "{{ (1).__add__(2) }}", "{{ raise_exception.__globals__.x }}",
        "{{ namespace.__init__.__globals__['os'] }}", "{% include '/etc/passwd' %}", "{% import 'os' as os %}",
        "{% extends 'x' %}", "{{ cycler.__init__ }}{{ cycler.__init__.__globals__ }}", "{{ self.__init__() }}",
        "{% set ns = namespace(x=[1,2,3]) %}{% for i in range(1000) %}{% set ns.x = ns.x|map('string')|list + ns.x %}{% endfor %}",
        "{{ range(100000)|list|sort|map('string')|join|length }}{{ range(100000)|batch(1)|list|length }}{{ 1/0 }}",
        "{{ [1]|batch(100000000000, 'x')|list }}", "{{ [1]|slice(100000000000)|list }}",
    ]

    @Test(arguments: hostile)
    func hostileTemplatesEndInAnError(_ source: String) {
        let clock = ContinuousClock()
        let duration = clock.measure {
            #expect(throws: TextError.self) { try render(source) }
        }
        // A second in optimised code; builds for tests are slower and share their machine.
        #expect(duration < .seconds(20))
    }

    @Test func numbersAtTheEdgeDoNotTrap() throws {
        let edges = [
            "9223372036854775807", "(-9223372036854775807 - 1)", "0", "-1", "4611686018427387904", "1e308",
            "'nan'|float",
        ]
        let uses = [
            "{{ 'abc'[A:B:C] }}", "{{ [1,2,3][A:B:C] }}", "{{ range(A, B, C) }}", "{{ range(3)[A:B:C]|list }}",
            "{{ 'abc'[A] }}",
            "{{ [1][A] }}", "{{ 'a'.center(A) }}", "{{ 'a'.zfill(A) }}", "{{ '-a'.zfill(A) }}",
            "{{ 'a'|truncate(A, true, '', B) }}",
            "{{ [1]|truncate(A, true, '', B) }}", "{{ 1.5|round(A) }}", "{{ 15|round(A) }}", "{{ A|round(-1) }}",
            "{{ A|filesizeformat }}",
            "{{ A|abs }}", "{{ -A }}", "{{ A + B }}", "{{ A - B }}", "{{ A * B }}", "{{ A // B }}", "{{ A % B }}",
            "{{ A ** B }}",
            "{{ 'a' * A }}", "{{ [1] * A }}", "{{ 'a b'.split(' ', A) }}", "{{ 'aa'.replace('a', 'b', A) }}",
            "{{ 'abc'.find('b', A, B) }}", "{{ 'abc'.count('b', A, B) }}", "{{ [1].index(1, A, B) }}",
            "{{ 'a\tb'.expandtabs(A) }}",
            "{{ '%*d' % (A, B) }}", "{{ '%.*f' % (A, 1.5) }}", "{{ '%d' % A }}", "{{ '%c' % A }}",
            "{{ '{:c}'.format(A) }}", "{{ '{:x}'.format(A) }}",
            "{{ '{:,}'.format(A) }}", "{{ '{:.3f}'.format(A) }}", "{{ [1,2]|batch(A) }}", "{{ [1,2]|slice(A)|list }}",
            "{{ 'a\nb'|indent(A) }}",
            "{{ A|int }}", "{{ A|float }}", "{{ [1,2]|sum(start=A) }}", "{{ A is divisibleby B }}", "{{ A|tojson }}",
            "{{ 1|tojson(indent=A) }}",
            "{{ [A, B]|sort }}", "{{ [A, B]|max }}", "{{ {A: 1}[B] }}", "{{ A < B }}", "{{ 'x'.ljust(A, 'é') }}",
            "{{ A.bit_length() }}", "{{ 'a'|center(A) }}",
            "{{ cycler(A).next() }}{{ (1, 2)[A:B] }}", "{{ 'f'|int(A, B) }}", "{{ 'abc'.startswith('b', A, B) }}",
        ]
        for use in uses {
            for a in edges {
                for b in edges {
                    for c in use.contains("C") ? edges : ["1"] {
                        let source = use.replacingOccurrences(of: "A", with: "(\(a))")
                            .replacingOccurrences(of: "B", with: "(\(b))").replacingOccurrences(of: "C", with: "(\(c))")
                        // An error is as good as a result; a trap would end the tests.
                        _ = try? render(source)
                    }
                }
            }
        }
    }

    @Test func limitsLeaveRoomForLongConversations() throws {
        let messages = (0..<1_000).map { i -> JSONValue in
            [
                "role": i % 2 == 0 ? "user" : "assistant",
                "content": .string(String(repeating: "नमस्ते दुनिया ", count: 20)),
            ]
        }
        let text = try ChatTemplate(source: chatML).render(messages: messages).text
        #expect(text.utf8.count > 500_000)
    }

    @Test func cyclesThroughNamespacesAreReleased() throws {
        weak var leaked: Namespace?
        do {
            let source = """
                {% set ns = namespace() %}{% set ns.me = ns %}{% macro f() %}{{ f }}{{ ns }}{% endmacro %}{% set ns.f = f %}\
                {% for i in [1] %}{% set ns.l = loop %}{% endfor %}
                """
            let interpreter = Interpreter(
                program: try JinjaParser.parse(source), now: CivilTime(year: 2026, month: 1, day: 1))
            try interpreter.run([])
            let symbol = try #require(interpreter.program.symbols.firstIndex(of: "ns"))
            if case .namespace(let namespace)? = interpreter.root.lookUp(symbol) { leaked = namespace }
            #expect(leaked != nil)
        }
        #expect(leaked == nil)
    }

    @Test func generationSpansAreBytes() throws {
        let source = "é{% for m in messages %}[{% generation %}{{ m.content }}{% endgeneration %}]{% endfor %}"
        let template = try ChatTemplate(source: source)
        let rendered = try template.render(messages: [["content": "नमस्ते"], ["content": ""], ["content": "b"]])
        let bytes = Array(rendered.text.utf8)
        let spans = try #require(rendered.generationSpans)
        #expect(spans.map { String(decoding: bytes[$0], as: UTF8.self) } == ["नमस्ते", "", "b"])
        let inMacro = try ChatTemplate(
            source: "{% macro f() %}{% generation %}x{% endgeneration %}{% endmacro %}{{ f() }}")
        #expect(try inMacro.render(messages: []).generationSpans == nil)
    }

    @Test func continuesTheLastMessage() throws {
        let template = try ChatTemplate(source: chatML)
        let messages: [JSONValue] = [["role": "user", "content": "q"], ["role": "assistant", "content": "so far "]]
        #expect(
            try template.render(messages: messages, continueFinalMessage: true).text
                == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nso far ")
        let trimming = try ChatTemplate(source: "{% for m in messages %}{{ m.content | trim }};{% endfor %}")
        #expect(try trimming.render(messages: messages, continueFinalMessage: true).text == "q;so far")
        let parts: [JSONValue] = [["role": "assistant", "content": [["type": "text", "text": "ab"]]]]
        let listing = try ChatTemplate(source: "{% for m in messages %}{{ m.content[0].text }};{% endfor %}")
        #expect(try listing.render(messages: parts, continueFinalMessage: true).text == "ab")
        #expect(throws: TextError.self) {
            try template.render(messages: messages, addGenerationPrompt: true, continueFinalMessage: true)
        }
        #expect(throws: TextError.self) {
            try ChatTemplate(source: "x").render(messages: messages, continueFinalMessage: true)
        }
        #expect(throws: TextError.self) { try template.render(messages: [], continueFinalMessage: true) }
    }

    @Test func messagesAreNormalisedAsTransformersDoes() throws {
        let template = try ChatTemplate(source: "{% for m in messages %}{{ m | tojson }}{% endfor %}")
        let rendered = try template.render(messages: [
            ["role": "assistant", "content": .null, "reasoning": "r"],
            ["thinking": "t", "role": "x", "reasoning_content": .null],
        ])
        #expect(
            rendered.text
                == #"{"thinking": "r", "role": "assistant", "reasoning": "r", "reasoning_content": "r"}"#
                + #"{"thinking": "t", "role": "x", "reasoning_content": "t"}"#)
    }

    @Test func toolsHaveTheirOwnTemplate() throws {
        let folder = try TemporaryFolder()
        _ = try folder.write(
            "tokenizer_config.json",
            #"{"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]}"#)
        let template = try #require(try ChatTemplate.loadIfPresent(folder: folder.path))
        let messages: [JSONValue] = [["role": "user", "content": "q"]]
        #expect(try template.render(messages: messages).text == "D")
        #expect(try template.render(messages: messages, tools: [["name": "f"]]).text == "T")
    }

    @Test func readsTemplatesOfFolders() throws {
        let folder = try TemporaryFolder()
        let none = #expect(throws: TextError.self) { try ChatTemplate.load(folder: folder.path) }
        #expect(none?.exitStatus == .missingInput)
        _ = try folder.write("special_tokens_map.json", #"{"bos_token": {"content": "<b>"}, "eos_token": "<old>"}"#)
        _ = try folder.write("chat_template.json", #"{"chat_template": "C{{ bos_token }}"}"#)
        #expect(try ChatTemplate.load(folder: folder.path).render(messages: []).text == "C<b>")
        _ = try folder.write(
            "tokenizer_config.json",
            #"{"eos_token": "<e>", "chat_template": [{"name": "default", "template": "D{{ eos_token }}"}, {"name": "tool_use", "template": "T"}]}"#
        )
        #expect(try ChatTemplate.load(folder: folder.path).render(messages: []).text == "D<e>")
        #expect(try ChatTemplate.load(folder: folder.path, forTools: true).render(messages: []).text == "T")
        #expect(throws: TextError.self) { try ChatTemplate.load(folder: folder.path, name: "rag") }
        _ = try folder.write("chat_template.jinja", "J{{ bos_token }}\n")
        #expect(try ChatTemplate.load(folder: folder.path).render(messages: []).text == "J<b>")
        _ = try folder.write("tokenizer_config.json", "{")
        #expect(throws: TextError.self) { try ChatTemplate.load(folder: folder.path) }
    }

    @Test func readsTimes() {
        #expect(CivilTime(iso: "2026-01-15T09:30:00")?.formatted("%d %b %Y, %A %H:%M") == "15 Jan 2026, Thursday 09:30")
        #expect(CivilTime(iso: "2024-02-29")?.formatted("%j %U %W %V %G") == "060 08 09 09 2024")
        for bad in ["", "2026", "2026-13-01", "2025-02-29", "2026-01-15T25:00", "2026-01-15 x", "now"] {
            #expect(CivilTime(iso: bad) == nil)
        }
    }
}
