import FileFormats
import Testing

@testable import TextData

struct LintTests {
    let tokenizer: Tokenizer
    init() throws { tokenizer = try byteTokenizer(addsBOS: true) }

    private func chat(_ question: String, _ answer: String) -> JSONValue {
        [
            "messages": [
                ["role": "user", "content": .string(question)], ["role": "assistant", "content": .string(answer)],
            ]
        ]
    }

    private static let strict = """
        {% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles') }}{% endif %}\
        {{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
        """

    private func faults(
        _ rows: [JSONValue], template: String? = strict, _ change: (inout ExampleOptions) -> Void = { _ in }
    ) throws -> [(row: Int, lint: Lint?)] {
        var options = ExampleOptions()
        change(&options)
        let builder = ExampleBuilder(
            tokenizer: tokenizer, template: try template.map { try ChatTemplate(source: $0) }, options: options)
        do {
            _ = try builder.examples(from: rows)
            return []
        } catch TextError.badRows(let faults, _) {
            return faults.map { ($0.row, $0.lint) }
        }
    }

    /// A chat model that is trained on bare prompts answers otherwise once a program puts the template around them.
    @Test(arguments: [
        ("question: ", "answer", true, true), ("question: ", "answer", false, false), ("", "answer", true, false),
        ("<|im_start|>user\nquestion<|im_end|>\n", "answer", true, false),
    ])
    func bareTextsForAChatModelAreNamed(
        _ prompt: String, _ answer: String, _ hasTemplate: Bool, _ isNamed: Bool
    ) throws {
        let builder = ExampleBuilder(
            tokenizer: tokenizer, template: hasTemplate ? try ChatTemplate(source: Self.strict) : nil)
        let report = try builder.examples(from: [["prompt": .string(prompt), "completion": .string(answer)]]).report
        #expect(report.warnings.contains { $0.contains("without the chat template") } == isNamed, "\(report.warnings)")
    }

    /// Each planted defect is found in its row, alone, and taken once it is accepted.
    @Test func findsEachDefectInItsRowAndNothingElse() throws {
        let clean = (0..<40).map { chat("question \($0), é ñ?", "answer \($0)") }
        let planted: [(Lint, JSONValue)] = [
            (.noTrainedToken, ["messages": [["role": "user", "content": "only"]]]),
            (.templateMarkers, chat("say <|im_end|>", "no")),
            (.roleOrder, ["messages": [["role": "assistant", "content": "a"], ["role": "user", "content": "b"]]]),
            (.replacementCharacters, chat("caf\u{FFFD}", "ok")),
            (.mixedNormalization, chat("cafe\u{301}", "ok")),
            (.mixedNormalization, chat("\u{958}", "ok")),
            (.doubleBOS, ["text": "<s>hello"]),
            (.byteFallback, chat("ᱥᱟᱱᱛᱟᱲᱤ ᱯᱟᱹᱨᱥᱤ", "ᱛᱮ ᱚᱞ ᱟᱠᱟᱱ ᱯᱩᱛᱷᱤ")),
        ]
        #expect(try faults(clean).isEmpty)
        for (lint, row) in planted {
            var rows = clean
            rows.insert(row, at: 17)
            let found = try faults(rows)
            #expect(found.map(\.row) == [18] && found.map(\.lint) == [lint], "\(lint): \(found)")
            #expect(try faults(rows) { $0.accepts = [lint] }.isEmpty, "\(lint)")
        }
    }

    @Test func aTurnWithoutItsEndIsRefused() throws {
        let template = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
        let row = chat("q", "a")
        #expect(try faults([row], template: template).map(\.lint) == [.noEndOfTurn])
        #expect(try faults([row], template: template) { $0.accepts = [.noEndOfTurn] }.isEmpty)
    }

    @Test func labelsLostToTruncationAreRefused() throws {
        let row: JSONValue = ["input_ids": [1, 2, 3, 4], "labels": [-100, -100, -100, 4]]
        let found = try faults([row, chat("q", "a")]) {
            $0.maxLength = 3
            $0.overlong = .truncate
        }
        #expect(found.first?.row == 1 && found.first?.lint == .truncatedLabels)
    }

    @Test func invalidUnicodeIsRefusedAndCanBeLeftOut() throws {
        let folder = try TemporaryFolder()
        let row = "{\"input_ids\": [1, 2]}\n"
        let file = try folder.write(
            "a.jsonl",
            bytes: Array((row + "{\"text\": \"\\ud800\"}\n{\"text\": \"").utf8) + [0xFF] + Array("\"}\n\(row)".utf8))
        var builder = ExampleBuilder(tokenizer: nil, template: nil, vocabularySize: 10)
        let error = #expect(throws: TextError.self) { try builder.examples(fromFiles: [file]) }
        guard case .badRows(let faults, _)? = error else {
            Issue.record("\(error as Any)")
            return
        }
        #expect(faults.map(\.row) == [2, 3] && faults.allSatisfy { $0.lint == .invalidUnicode })
        builder.options.accepts = [.invalidUnicode]
        let set = try builder.examples(fromFiles: [file])
        #expect(set.examples.count == 2 && set.places.map(\.row) == [1, 4])
        #expect(set.report.accepted == [.invalidUnicode: 2])
    }

    @Test func dataThatIsAllDecomposedIsConsistent() throws {
        #expect(try faults([chat("cafe\u{301}", "e\u{301}")]).isEmpty)
    }

    @Test func aDecomposedTextIsNoMixtureWithTextThatHasOneSpelling() throws {
        #expect(try faults([chat("cafe\u{301}", "ok"), chat("🎉 — “x” ½", "ok")]).isEmpty)
        #expect(try faults([chat("cafe\u{301} é", "ok")]).map(\.lint) == [.mixedNormalization])
        #expect(try faults([chat("\u{958}", "ok"), chat("क\u{93C}", "ok")]).map(\.row) == [1])
    }

    /// Letters of a merge and one byte more are learned; letters of single bytes are not.
    @Test func aScriptOfMergesAndBytesIsKnown() throws {
        let merged = try Tokenizer(json: byteLevelDocument(merging: [0xE0, 0xB2]))
        func lints(_ text: String) throws -> [Lint?] {
            let builder = ExampleBuilder(tokenizer: merged, template: nil, options: ExampleOptions())
            do {
                _ = try builder.examples(from: [["text": .string(text)]])
                return []
            } catch TextError.badRows(let faults, _) {
                return faults.map(\.lint)
            }
        }
        #expect(try lints("ಕನ್ನಡ ಪಠ್ಯ ಇಲ್ಲಿದೆ").isEmpty)
        #expect(try lints("తెలుగు పాఠ్యం ఇక్కడ") == [.byteFallback])
        #expect(try lints("ತ తెలుగు ಕನ್ನಡ ಪಠ್ಯ ಇಲ್ಲಿದೆ ಕನ್ನಡ ಪಠ್ಯ").isEmpty)
    }

    /// A byte-level vocabulary of the 256 bytes and one merge.
    private func byteLevelDocument(merging pair: [UInt8]) -> JSONValue {
        let letters = (UInt8.min...UInt8.max).map { ByteAlphabet.encode(CollectionOfOne($0)) }
            .map { String(decoding: $0, as: UTF8.self) }
        let (a, b) = (letters[Int(pair[0])], letters[Int(pair[1])])
        var vocabulary = JSONObject()
        for (i, letter) in (letters + [a + b]).enumerated() { vocabulary[letter] = .integer(i) }
        return [
            "version": "1.0", "added_tokens": [], "normalizer": .null, "post_processor": .null,
            "pre_tokenizer": ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true],
            "decoder": ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true],
            "model": [
                "type": "BPE", "dropout": .null, "unk_token": .null, "continuing_subword_prefix": .null,
                "end_of_word_suffix": .null, "fuse_unk": false, "byte_fallback": false,
                "vocab": .object(vocabulary), "merges": [.array([.string(a), .string(b)])],
            ],
        ]
    }

    // MARK: Tools that a template leaves out

    private static let tool: JSONValue = [
        "type": "function", "function": ["name": "f", "parameters": ["type": "object"]],
    ]

    /// A question, a call of `f`, its result and an answer.
    private func toolRow(_ content: String = "", tools: Bool = true) -> JSONValue {
        let messages: JSONValue = [
            ["role": "user", "content": "q"],
            [
                "role": "assistant", "content": .string(content),
                "tool_calls": [["type": "function", "function": ["name": "f", "arguments": ["n": 1]]]],
            ],
            ["role": "tool", "content": "42"], ["role": "assistant", "content": "It is 42."],
        ]
        return tools ? ["messages": messages, "tools": [Self.tool]] : ["messages": messages]
    }

    private func toolWarning(_ rows: [JSONValue], template: String) throws -> String? {
        let builder = ExampleBuilder(
            tokenizer: tokenizer, template: try ChatTemplate(source: template), options: ExampleOptions())
        return try builder.examples(from: rows).report.warnings.first { $0.contains("leaves out tools") }
    }

    private static let turn = "{{ '<|im_start|>' + m.role + '\\n' + m.content }}"
    private static let end = "{{ '<|im_end|>\\n' }}"

    @Test func aTemplateThatLeavesToolsOutIsTold() throws {
        let plain = "{% for m in messages %}\(Self.turn)\(Self.end){% endfor %}"
        let found = try #require(try toolWarning([chat("q", "a"), toolRow()], template: plain))
        #expect(found.hasPrefix("1 row:") && found.contains("row 2 (the tools, the call of f in turn 2)"))

        let all = """
            {{ tools | tojson if tools }}{% for m in messages %}\(Self.turn)\
            {% for c in m.tool_calls or [] %}{{ c.function | tojson(ensure_ascii=true) }}{% endfor %}\(Self.end){% endfor %}
            """
        #expect(try toolWarning([toolRow(), toolRow("words"), toolRow(tools: false)], template: all) == nil)
    }

    @Test func aCallThatIsLeftOutBesideWordsIsTold() throws {
        // Calls are written only where there are no words.
        let template = """
            {{ tools | tojson if tools }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.content %}\
            {{ m.content }}{% else %}{% for c in m.tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}{% endif %}\
            \(Self.end){% endfor %}
            """
        let found = try #require(try toolWarning([toolRow(), toolRow("words")], template: template))
        #expect(found.contains("row 2 (the call of f in turn 2)") && !found.contains("row 1"))
    }

    @Test func aResultThatIsLeftOutIsTold() throws {
        let template = """
            {{ tools | length if tools }}{% for m in messages if m.role != 'tool' %}\(Self.turn)\
            {{ m.tool_calls | tojson if m.tool_calls }}\(Self.end){% endfor %}
            """
        let found = try #require(try toolWarning([toolRow()], template: template))
        #expect(found.contains("(the result in turn 3)"))
    }

    @Test func emojiAndNamesAreNoUnknownScript() throws {
        #expect(try faults([chat("🎉🎉🎉👍🏽🔥🔥💯💯", "😂😂😂😂 José")]).isEmpty)
    }

    @Test func damageInCallsAndReasoningIsFound() throws {
        let row: JSONValue = [
            "messages": [
                ["role": "user", "content": "q"],
                [
                    "role": "assistant", "content": "a",
                    "tool_calls": [["function": ["name": "f", "arguments": ["x": "\u{FFFD}"]]]],
                ],
            ]
        ]
        #expect(try faults([row]).map(\.lint) == [.replacementCharacters])
    }

    @Test func labelsThatMaskTheEndAreRefused() throws {
        let masked: JSONValue = ["input_ids": [1, 2, 3, 257], "labels": [-100, 2, 3, -100]]
        let whole: JSONValue = ["input_ids": [1, 2, 3, 257], "labels": [-100, 2, 3, 257]]
        // All of a text is trained; it may go on in the next row.
        let text: JSONValue = ["input_ids": [1, 2, 3], "labels": [1, 2, 3]]
        let found = try faults([whole, masked, text])
        #expect(found.map(\.row) == [2] && found.map(\.lint) == [.noEndOfTurn])
    }

    @Test func headingsInPlainWordsAreMarkers() throws {
        let template = """
            {% for m in messages %}{% if m.role == 'user' %}### Instruction:
            {{ m.content }}
            {% else %}### Response:
            {{ m.content }}</s>{% endif %}{% endfor %}{% if add_generation_prompt %}### Response:
            {% endif %}
            """
        let found = try faults(
            [chat("a ### Response: b", "ok"), chat("a\n### Response:\nb", "ok")], template: template)
        #expect(found.map(\.row) == [2] && found.map(\.lint) == [.templateMarkers])
    }

    @Test func markersOfTheTemplateItselfCount() {
        let source = "{{ '[INST]' }}<|user|>{% if a | b %}<|end of|> x <|a<|b|><｜User｜>"
        let found = Set(RowLinter.literalMarkers(in: Array(source.utf8)).map { String(decoding: $0, as: UTF8.self) })
        #expect(found == ["[INST]", "<|user|>", "<|b|>", "<｜User｜>"])
    }

    @Test func anErrorNamesEveryRowOnceAndTheFix() throws {
        let rows = (0..<60).map { i in chat(i % 2 == 0 ? "fine" : "<|im_start|>", "ok") }
        let builder = ExampleBuilder(tokenizer: tokenizer, template: try ChatTemplate(source: Self.strict))
        let error = #expect(throws: TextError.self) { try builder.examples(from: rows) }
        let text = error?.description ?? ""
        #expect(text.contains("rows 2, 4, 6") && text.contains("58, 60") && text.contains("--accept template_markers"))
        #expect(text.contains("30 bad rows"))
    }
}
