import FileFormats
import Testing

@testable import TextData

/// What the samples of `RowDialects` cannot show: what exactly is made of rows in other dialects.
struct DialectTests {
    let tokenizer: Tokenizer
    init() throws {
        tokenizer = try byteTokenizer(
            specials: ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_response>"])
    }

    private static let template = """
        {% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content }}\
        {% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
        """

    private func builder(
        _ kind: ExampleOptions.Kind = .supervised, template: String = template, accepts: Set<Lint> = []
    ) throws -> ExampleBuilder {
        var options = ExampleOptions()
        (options.kind, options.accepts) = (kind, accepts)
        return ExampleBuilder(tokenizer: tokenizer, template: try ChatTemplate(source: template), options: options)
    }

    private func text(_ example: TokenizedExample) -> String {
        renderPieces(trainedPieces(example, tokenizer: tokenizer), colour: false)
    }

    private func made(_ row: String, _ builder: ExampleBuilder) throws -> ExampleSet {
        try builder.examples(from: [try JSONParser.parse(row)])
    }

    // MARK: Calls

    private func arguments(_ json: String) throws -> JSONValue? {
        let row = try Row(
            try JSONParser.parse(
                #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f"\#(json)}}]}]}"#
            ))
        guard case .conversation(let found) = row else { return nil }
        return found.messages[1]["tool_calls"]?[0]?["function"]?["arguments"]
    }

    @Test(arguments: [
        "", #", "arguments": null"#, #", "arguments": "null""#, #", "arguments": " ""#, #", "arguments": {}"#,
    ])
    func aCallWithoutArgumentsHasNone(_ json: String) throws {
        #expect(try arguments(json)?.objectValue?.count == 0)
    }

    @Test(arguments: [
        (#", "arguments": "[1]""#, "an array"), (#", "arguments": 5"#, "a number"),
        (#", "arguments": "{'a': 1}""#, "Python"),
        (#", "arguments": "{\"a\": ""#, "not JSON"), (#", "parameters": {"a": 1}"#, "name it arguments"),
    ])
    func argumentsThatAreNoneAreRefused(_ json: String, _ reason: String) {
        let error = #expect(throws: RowError.self) { _ = try arguments(json) }
        #expect(error?.reason.contains(reason) == true && error?.reason.contains("[1], call 1") == true)
    }

    @Test func argumentsAreDecodedTwice() throws {
        #expect(try arguments(#", "arguments": "\"{\\\"a\\\": 1}\"""#)?["a"]?.intValue == 1)
    }

    @Test func definitionsMayBeTextThroughout() throws {
        let row = try Row(
            try JSONParser.parse(
                #"{"messages": [{"role": "user", "content": "q"}], "tools": ["{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": \"{\\\"type\\\": \\\"object\\\"}\"}}"]}"#
            ))
        guard case .conversation(let found) = row else {
            Issue.record("no conversation")
            return
        }
        #expect(found.tools?[0]?["function"]?["parameters"]?["type"]?.stringValue == "object")
    }

    @Test func nullsOfArrowAreNamed() throws {
        let row =
            #"{"tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "minutes": null}}}}], "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": null, "minutes": null, "due": null}}}], "content": ""}]}"#
        let warnings = try made(row, try builder()).report.warnings.filter { $0.contains("null") }
        let text = try #require(warnings.first)
        #expect(text.contains("row 1 (\"minutes\" is null in \"properties\" of \"weather\""))
        #expect(text.contains("\"due\" is null in the arguments of \"weather\""))
        // A schema that knows the key may mean a null.
        #expect(!text.contains("\"city\""))
    }

    // MARK: Ends of turns

    /// A thought that ends a turn is not its end, and neither is the token that begins a result.
    @Test func whatEndsATurnIsWhatTheTemplateWrites() throws {
        let template = """
            {% for m in messages %}{% if m.role == 'tool' %}<tool_response>{{ m.content }}
            {% elif m.role == 'assistant' %}[A]{% generation %}{{ m.content }}{% for c in m.tool_calls or [] %}\
            {{ '(' + c.function.name + ')' }}{% endfor %}{% endgeneration %}{% if not m.tool_calls %}<|im_end|>{% endif %}\
            {% else %}[Q]{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}[A]{% endif %}
            """
        let row =
            #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "x", "tool_calls": [{"function": {"name": "f"}}]}, {"role": "tool", "content": "r"}, {"role": "assistant", "content": "<think>t</think>\n\n"}]}"#
        let found = try made(row, try builder(template: template)).examples[0]
        #expect(text(found) == "[Q]q[A][[x(f)]]<tool_response>r\n[A][[<think>t</think>\n\n<|im_end|>]]")
    }

    @Test func turnsThatEndWithTheNextOneKeepItsToken() throws {
        let template = "{% for m in messages %}{{ '<|im_start|>' + m.role + ':' + m.content }}{% endfor %}"
        let ends = TurnEnds(
            tokenizer: tokenizer, template: try ChatTemplate(source: template), declared: [])
        #expect(ends.ids == [258])
        let usual = TurnEnds(
            tokenizer: tokenizer, template: try ChatTemplate(source: Self.template), declared: [257])
        #expect(usual.ids == [257, 259])
    }

    @Test func whatBeginsTheNextTurnIsNotTrained() throws {
        let template = """
            {% for m in messages %}{{ '<|im_start|>' + m.role + '|' + m.content + '<|im_end|>' }}{% endfor %}<|im_start|><s>
            """
        var builder = try builder(template: template)
        builder.endID = 259
        let row = #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#
        #expect(text(try made(row, builder).examples[0]).hasSuffix("a<|im_end|>]]<|im_start|><s>"))
    }

    @Test func pairsOfTagsAreOfTheAnswer() throws {
        let row =
            #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "<think>t</think>a"}]}"#
        #expect(text(try made(row, try builder()).examples[0]).contains("[[<think>t</think>a<|im_end|>]]"))
        let asked = #"{"messages": [{"role": "user", "content": "<think>q"}, {"role": "assistant", "content": "a"}]}"#
        let error = #expect(throws: TextError.self) { try made(asked, try builder()) }
        #expect(error?.description.contains("template_markers") == true)
    }

    // MARK: Judged rows

    @Test(arguments: ["true", "\"true\"", "\"True\"", "1", "\"1\"", "1.0", "\"desirable\"", "\"YES\""])
    func goodIsSpelledInManyWays(_ spelling: String) throws {
        for key in ["label", "kto_tag"] {
            let row = #"{"prompt": [{"role": "user", "content": "q"}], "completion": "a", "\#(key)": \#(spelling)}"#
            guard case .label(true)? = try made(row, try builder(.judged)).examples[0].judgement else {
                Issue.record("\(row)")
                continue
            }
            let error = #expect(throws: TextError.self) { try made(row, try builder()) }
            #expect(error?.description.contains("judged_rows") == true)
        }
    }

    @Test func acceptedJudgementsLeaveBadAnswersOut() throws {
        let rows = try [
            #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}], "label": "true"}"#,
            #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}], "label": "false"}"#,
            #"{"prompt": [{"role": "user", "content": "q"}], "chosen": "yes", "rejected": "no"}"#,
        ].map(JSONParser.parse)
        let set = try builder(accepts: [.judgedRows]).examples(from: rows)
        #expect(
            set.examples.map(text).map { $0.split(separator: "[[").last ?? "" } == [
                "good<|im_end|>]]\n", "yes<|im_end|>]]\n",
            ])
        #expect(set.report.accepted == [.judgedRows: 1])
    }

    @Test func anInstructionIsJudgedWithItsHistory() throws {
        let row = #"{"system": "s", "instruction": "q", "history": [["a", "b"]], "output": "c", "kto_tag": 0}"#
        let found = try made(row, try builder(.judged)).examples[0]
        #expect(
            text(found)
                == "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
                + "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[[c<|im_end|>\n]]")
    }

    // MARK: Keys

    @Test func keysThatAreNotReadAreToldOnceWithTheirCounts() throws {
        let rows = try (0..<5).map {
            try JSONParser.parse(
                #"{"id": \#($0), "note": \#($0 < 2 ? "\"n\"" : "null"), "messages": [{"role": "user", "content": "q", "mood": "m"}, {"role": "assistant", "content": "a\#($0)"}]}"#
            )
        }
        let warnings = try builder().examples(from: rows).report.warnings
        #expect(
            warnings == ["keys that are not read: \"id\" (5 rows), \"note\" (2 rows); of messages: \"mood\" (5 rows)"])
    }

    @Test func keysThatTheTemplateMentionsAreRead() throws {
        let template = "{% for m in messages %}{{ m.name }}{{ m.thinking }}{{ m.content + '<|im_end|>' }}{% endfor %}"
        let row =
            #"{"messages": [{"role": "user", "content": "q", "name": "n"}, {"role": "assistant", "content": "a", "reasoning_content": "t"}]}"#
        #expect(try made(row, try builder(template: template)).report.warnings.isEmpty)
    }

    @Test func aSystemTextBesideMessagesIsUsed() throws {
        let row =
            #"{"system": "s", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#
        #expect(text(try made(row, try builder()).examples[0]).hasPrefix("<|im_start|>system\ns<|im_end|>\n"))
    }

    @Test func anInstructionKeepsToolsAndVariables() throws {
        let template =
            "{{ tools | tojson if tools }}{{ mood }}{% for m in messages %}{{ m.content + '<|im_end|>' }}{% endfor %}"
        let row =
            #"{"instruction": "q", "output": "a", "tools": [{"name": "f"}], "chat_template_kwargs": {"mood": "calm"}}"#
        #expect(
            text(try made(row, try builder(template: template)).examples[0]).hasPrefix(
                "[{\"name\": \"f\"}]calmq<|im_end|>"))
    }

    @Test func messagesThatATemplateLeavesOutAreTold() throws {
        let template = """
            {% for m in messages if m.role in ['user', 'assistant'] %}{{ m.role + m.content + '<|im_end|>' }}{% endfor %}
            """
        let row =
            #"{"messages": [{"role": "developer", "content": "rules"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#
        let warnings = try made(row, try builder(template: template)).report.warnings
        #expect(warnings.contains { $0.contains("the message of the role \"developer\" in turn 1") }, "\(warnings)")
    }

    // MARK: Contents

    @Test func contentsAreGivenAsTheTemplateTakesThem() throws {
        let parts =
            #"{"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, {"role": "assistant", "content": [{"type": "text", "text": "a"}, "b"]}]}"#
        let plain = #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "ab"}]}"#
        let printing = "{% for m in messages %}{{ m.role }}:{{ m.content }}<|im_end|>{% endfor %}"
        let listing =
            "{% for m in messages %}{{ m.role }}:{% for p in m.content %}{{ p.text }}{% endfor %}<|im_end|>{% endfor %}"
        let either = """
            {% for m in messages %}{{ m.role }}:{% if m.content is string %}{{ m.content }}{% else %}\
            {% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}<|im_end|>{% endfor %}
            """
        for template in [Self.template, printing, listing, either] {
            let builder = try builder(template: template)
            let (a, b) = (try made(parts, builder).examples[0], try made(plain, builder).examples[0])
            #expect(a.ids == b.ids && a.isTrained == b.isTrained, "\(text(a)) \(text(b))")
            #expect(text(a).contains("ab<|im_end|>]]"), "\(text(a))")
        }
    }

    @Test func aMissingContentBesideACallIsEmptyWhereTheTemplateNeedsOne() throws {
        let row =
            #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f"}}]}]}"#
        #expect(
            text(try made(row, try builder()).examples[0]).contains(
                "[[{\"name\": \"f\", \"arguments\": {}}<|im_end|>]]"))
    }

    @Test func masksOfTokensMeet() throws {
        let row = try Row(
            try JSONParser.parse(
                #"{"input_ids": [9, 1, 2, 3, 4], "labels": [-100, 1, 2, -100, 4], "completion_mask": [1, 0, 1, 1, 1], "attention_mask": [0, 1, 1, 1, 1]}"#
            ))
        guard case .tokens(let found) = row else {
            Issue.record("no tokens")
            return
        }
        #expect(found.ids == [1, 2, 3, 4] && found.isTrained == [false, true, false, true])
    }
}
