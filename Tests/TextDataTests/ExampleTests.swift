import FileFormats
import Foundation
import Testing

@testable import TextData

struct ExampleTests {
    let tokenizer: Tokenizer
    init() throws { tokenizer = try byteTokenizer() }

    func builder(_ template: String? = chatML, _ change: (inout ExampleOptions) -> Void = { _ in }) throws
        -> ExampleBuilder
    {
        var options = ExampleOptions()
        change(&options)
        return ExampleBuilder(
            tokenizer: tokenizer, template: try template.map { try ChatTemplate(source: $0) }, options: options)
    }
    func example(_ json: String, _ builder: ExampleBuilder) throws -> TokenizedExample {
        try builder.example(for: try Row(try JSONParser.parse(json)))
    }

    static let twoTurns = """
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a?"},
        {"role": "assistant", "content": "A!"}, {"role": "user", "content": "b?"},
        {"role": "assistant", "content": "B!"}]}
        """

    @Test func trainsTurnsOfTheAssistantWithTheirEnds() throws {
        let found = try example(Self.twoTurns, try builder())
        // The end-of-turn token is trained; the prompt before and the newline after are not.
        #expect(trainedRuns(found, tokenizer) == ["A!<|im_end|>", "B!<|im_end|>"])
        #expect(
            tokenizer.decode(found.ids, skipSpecialTokens: false)
                == "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\na?<|im_end|>\n<|im_start|>assistant\nA!<|im_end|>\n"
                + "<|im_start|>user\nb?<|im_end|>\n<|im_start|>assistant\nB!<|im_end|>\n")
    }

    @Test func trainsTheLastTurnOnly() throws {
        let found = try example(Self.twoTurns, try builder { $0.trainOn = .last })
        #expect(trainedRuns(found, tokenizer) == ["B!<|im_end|>"])
    }

    @Test func trainsEverything() throws {
        let found = try example(Self.twoTurns, try builder { $0.trainOn = .all })
        #expect(found.isTrained.allSatisfy { $0 })
    }

    @Test func skipsTurnsOfWeightZero() throws {
        let row = """
            {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "x", "weight": 0},
            {"role": "user", "content": "q"}, {"role": "assistant", "content": "y"}]}
            """
        #expect(trainedRuns(try example(row, try builder()), tokenizer) == ["y<|im_end|>"])
    }

    @Test func takesTheTemplatesOwnMarks() throws {
        let template = """
            {% for m in messages %}<|im_start|>{{ m.role }}
            {% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}<|im_end|>
            {% endfor %}
            """
        // The template leaves the end of the turn out of its marks; it is trained all the same.
        #expect(
            trainedRuns(try example(Self.twoTurns, try builder(template)), tokenizer) == [
                "A!<|im_end|>", "B!<|im_end|>",
            ])
        let last = try builder(template) { $0.trainOn = .last }
        #expect(trainedRuns(try example(Self.twoTurns, last), tokenizer) == ["B!<|im_end|>"])
    }

    @Test func findsTurnsThatAreRewrittenLater() throws {
        // Reasoning is kept in the last turn only, so no prefix of the conversation renders to a prefix of its text.
        let template = """
            {% for m in messages %}<|im_start|>{{ m.role + '\\n' }}\
            {% set c = m.content %}{% if m.role == 'assistant' and not loop.last %}{% set c = c.split('</t>')[-1] %}{% endif %}\
            {{ c + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
            """
        let row = """
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<t>1</t>A"},
            {"role": "user", "content": "b"}, {"role": "assistant", "content": "<t>2</t>B"}]}
            """
        let builder = try builder(template)
        #expect(trainedRuns(try example(row, builder), tokenizer) == ["A<|im_end|>", "<t>2</t>B<|im_end|>"])
        let set = try builder.examples(from: [try JSONParser.parse(row)])
        #expect(set.report.warnings.contains { $0.contains("differently") })
    }

    @Test func findsTurnsWithoutAGenerationPrompt() throws {
        let template = """
            {{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]\
            {% else %} {{ m.content }}</s>{% endif %}{% endfor %}
            """
        let row = #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]}"#
        #expect(trainedRuns(try example(row, try builder(template)), tokenizer) == [" r</s>"])
    }

    @Test func aTokenAcrossTheBoundaryIsTrained() throws {
        var example = TokenizedExample(ids: [], isTrained: [])
        // "é" is two bytes and so two tokens here; a span that starts inside of it takes the second.
        let made = try builder(nil).example(for: .completion(prompt: "x", completion: "é"))
        example = made
        #expect(trainedRuns(example, tokenizer) == ["é</s>"])
    }

    @Test func trainsCompletionsAndTheEnd() throws {
        let found = try example(#"{"prompt": "2+2=", "completion": "4"}"#, try builder())
        #expect(trainedRuns(found, tokenizer) == ["4</s>"])
        #expect(tokenizer.decode(found.ids, skipSpecialTokens: false) == "2+2=4</s>")
    }

    @Test func completionsOfMessagesGoThroughTheTemplate() throws {
        let row = """
            {"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "not this"},
            {"role": "user", "content": "b"}], "completion": [{"role": "assistant", "content": "this"}]}
            """
        #expect(trainedRuns(try example(row, try builder()), tokenizer) == ["this<|im_end|>"])
    }

    @Test func instructionsGoThroughTheTemplateWhenThereIsOne() throws {
        let row = #"{"instruction": "Add.", "input": "1 1", "output": "2", "system": "sys", "history": [["h", "i"]]}"#
        let chat = try example(row, try builder())
        #expect(trainedRuns(chat, tokenizer) == ["i<|im_end|>", "2<|im_end|>"])
        #expect(tokenizer.decode(chat.ids, skipSpecialTokens: false).contains("user\nAdd.\n1 1<|im_end|>"))
        let plain = try example(row, try builder(nil))
        #expect(trainedRuns(plain, tokenizer) == ["2</s>"])
    }

    @Test func textGetsBeginningAndEnd() throws {
        let tokenizer = try byteTokenizer(addsBOS: true)
        let builder = ExampleBuilder(tokenizer: tokenizer, template: nil)
        let found = try builder.example(for: .text("hi"))
        #expect(found.ids == [256, 0x68, 0x69, 257])
        #expect(found.isTrained == [true, true, true, true])
        #expect(found.trainedCount == 3)
        let pair = try builder.example(for: .completion(prompt: "h", completion: "i"))
        #expect(pair.isTrained == [false, false, true, true])
    }

    @Test func renderedTextGetsNoSecondBeginning() throws {
        let tokenizer = try byteTokenizer(addsBOS: true)
        let template = try ChatTemplate(source: "{{ '<s>' }}{% for m in messages %}{{ m.content }}{% endfor %}</s>")
        let builder = ExampleBuilder(tokenizer: tokenizer, template: template)
        let row = Row.conversation(
            Conversation(messages: [["role": "user", "content": "a"], ["role": "assistant", "content": "b"]]))
        #expect(try builder.example(for: row).ids == [256, 0x61, 0x62, 257])
    }

    @Test func preTokenisedRowsAreTakenAsTheyAre() throws {
        let builder = ExampleBuilder(tokenizer: nil, template: nil, vocabularySize: 10)
        let found = try builder.example(for: try Row(["input_ids": [1, 2, 3], "labels": [-100, 2, 3]]))
        #expect(found.ids == [1, 2, 3])
        #expect(found.isTrained == [false, true, true])
        #expect(throws: RowError.self) { try builder.example(for: try Row(["input_ids": [1, 10]])) }
        #expect(throws: RowError.self) { try builder.example(for: try Row(["input_ids": [-1, 1]])) }
        #expect(throws: RowError.self) { try builder.example(for: .text("x")) }
        for bad: JSONValue in [
            ["input_ids": [1, 2], "labels": [1]], ["input_ids": [1.5]], ["input_ids": []],
            ["input_ids": [1, 2], "labels": [1, 5]], ["input_ids": "1"],
        ] {
            #expect(throws: RowError.self) { try Row(bad) }
        }
    }

    @Test func rowsWithoutLabelsAreErrorsWithTheirNumbers() throws {
        let rows: [JSONValue] = [
            ["messages": [["role": "user", "content": "only a question"]]],
            ["text": "fine"],
            ["input_ids": [1, 2], "labels": [1, -100]],
        ]
        let error = #expect(throws: TextError.self) { try builder().examples(from: rows) }
        guard case .badRows(let faults, let total)? = error else {
            Issue.record("\(error as Any)")
            return
        }
        #expect(total == 2)
        #expect(faults.map(\.row) == [1, 3])
        #expect(error?.exitStatus == .badInput)
    }

    @Test(arguments: ExampleOptions.Overlong.allCases)
    func longRowsAre(_ overlong: ExampleOptions.Overlong) throws {
        let rows: [JSONValue] = [
            ["input_ids": [1, 2, 3, 4, 5]], ["input_ids": [1, 2, 3, 4, 5], "labels": [-100, -100, -100, -100, 5]],
            ["input_ids": [7, 8]],
        ]
        let builder = try builder {
            $0.maxLength = 3
            $0.overlong = overlong
            $0.accepts = [.truncatedLabels]
        }
        if overlong == .error {
            #expect(throws: TextError.self) { try builder.examples(from: rows) }
            return
        }
        let set = try builder.examples(from: rows)
        let report = set.report
        #expect(report.rows == 3)
        #expect(report.examples == set.examples.count)
        #expect(report.tokens == set.examples.reduce(0) { $0 + $1.ids.count })
        #expect(!report.warnings.isEmpty)
        switch overlong {
        case .drop:
            #expect(set.examples.map(\.ids) == [[7, 8]])
            #expect(report.dropped == 2)
        case .truncate:
            #expect(set.examples.map(\.ids) == [[1, 2, 3], [7, 8]])
            #expect((report.truncated, report.emptied) == (2, 1))
        default:
            #expect(set.examples.map(\.ids) == [[1, 2, 3], [3, 4, 5], [3, 4, 5], [7, 8]])
            #expect(set.rows == [0, 0, 1, 2])
            #expect((report.split, report.emptied) == (2, 1))
        }
    }

    /// What leaves no example is the data's fault, and told with the file and the reason.
    @Test func allRowsLeftOutIsBadInput() throws {
        let path = NSTemporaryDirectory() + "/graft-cut-\(UInt64.random(in: 0 ... .max)).jsonl"
        defer { unlink(path) }
        let rows = String(repeating: "{\"input_ids\": [1, 2, 3, 4, 5]}\n", count: 3)
        try AtomicFile.write(Array(rows.utf8), to: path)
        let builder = try builder {
            $0.maxLength = 3
            $0.overlong = .drop
        }
        var stream = try ExampleStream(builder, files: [DataFile(path: path, source: 0)])
        while try stream.next() != nil {}
        do {
            _ = try stream.finish()
            Issue.record("no example is left, and that is no error")
        } catch let error as TextError {
            #expect(error.exitStatus == .badInput)
            #expect(error.description.contains(path) && error.description.contains("all 3 rows"))
            #expect(error.description.contains("max_length 3"))
        }
    }

    /// A template that writes a thought into the last turn alone.
    private static let rewriting = """
        {% for m in messages %}<|im_start|>{{ m.role }}
        {% if loop.last and m.role == 'assistant' %}(hm){% endif %}{{ m.content }}{% for c in m.tool_calls or [] %}[{{ \
        c.function.name }}:{{ c.function.arguments | tojson }}]{% endfor %}{{ '\\n' }}<|im_end|>
        {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
        {% endif %}
        """

    @Test func rewrittenTurnsKeepTheirCallsAndTheirEnd() throws {
        let call = #""tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]"#
        for (content, written) in [(#""content": "x", "#, "x"), (#""content": "", "#, ""), ("", "")] {
            let row =
                #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "#
                + content + call + #"}, {"role": "tool", "content": "r"}, {"role": "assistant", "content": "y"}, "#
                + #"{"role": "user", "content": "q"}, {"role": "assistant", "content": "z"}]}"#
            let found = try example(row, try builder(Self.rewriting))
            #expect(
                trainedRuns(found, tokenizer) == [
                    written + "[f:{\"a\": 1}]\n<|im_end|>", "y\n<|im_end|>", "(hm)z\n<|im_end|>",
                ])
        }
    }

    @Test func threadsDoNotChangeTheResult() throws {
        let rows = (0..<300).map { i -> JSONValue in
            [
                "messages": [
                    ["role": "user", "content": .string(String(repeating: "q", count: i % 17))],
                    ["role": "assistant", "content": .string("a\(i)")],
                ]
            ]
        }
        let one = try builder { $0.threads = 1 }.examples(from: rows)
        let four = try builder { $0.threads = 4 }.examples(from: rows)
        #expect(one.examples.map(\.ids) == four.examples.map(\.ids))
        #expect(one.report == four.report)
    }

    @Test func previewSetsTrainedTokensApart() throws {
        let found = try example(#"{"prompt": "a\u001b", "completion": "b"}"#, try builder())
        let pieces = trainedPieces(found, tokenizer: tokenizer)
        #expect(renderPieces(pieces, colour: false) == "a\\x1b[[b</s>]]")
        #expect(renderPieces(pieces, colour: true) == "a\\x1b\u{1B}[1;32mb</s>\u{1B}[0m")
        #expect(trainedPieces(found, tokenizer: tokenizer, limit: 1).last?.text == " ... (3 more tokens)")
    }
}
