import FileFormats
import Testing

@testable import TextData

@Suite struct PreferenceTests {
    private func builder(_ kind: ExampleOptions.Kind, maxLength: Int? = nil) throws -> ExampleBuilder {
        var options = ExampleOptions()
        options.kind = kind
        options.maxLength = maxLength
        return ExampleBuilder(
            tokenizer: try byteTokenizer(), template: try ChatTemplate(source: chatML), options: options)
    }

    private func text(_ example: TokenizedExample) throws -> (all: String, trained: [String]) {
        let tokenizer = try byteTokenizer()
        return (tokenizer.decode(example.ids, skipSpecialTokens: false), trainedRuns(example, tokenizer))
    }

    private func example(_ json: String, _ kind: ExampleOptions.Kind = .preference) throws -> TokenizedExample {
        try builder(kind).example(for: try Row(try JSONParser.parse(json)))
    }

    private static let rendered =
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"

    /// The same question and answers in all forms that people have; the template's last line belongs to the answer.
    @Test(arguments: [
        #"{"prompt": [{"role": "user", "content": "q"}], "chosen": [{"role": "assistant", "content": "yes"}], "rejected": [{"role": "assistant", "content": "no"}]}"#,
        #"{"prompt": "q", "chosen": [{"role": "assistant", "content": "yes"}], "rejected": [{"role": "assistant", "content": "no"}]}"#,
        #"{"prompt": [{"role": "user", "content": "q"}], "chosen": "yes", "rejected": "no"}"#,
        #"{"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "yes"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "no"}]}"#,
        #"{"prompt": "q", "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "yes"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "no"}]}"#,
        #"{"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "yes"}, "rejected": {"from": "gpt", "value": "no"}}"#,
        #"{"instruction": "q", "input": "", "chosen": "yes", "rejected": "no"}"#,
    ])
    func conversations(_ json: String) throws {
        let made = try example(json)
        let (chosen, rejected) = (try text(made), try text(try #require(made.rejected)))
        #expect(chosen.all == Self.rendered + "yes<|im_end|>\n" && chosen.trained == ["yes<|im_end|>\n"])
        #expect(rejected.all == Self.rendered + "no<|im_end|>\n" && rejected.trained == ["no<|im_end|>\n"])
    }

    @Test func texts() throws {
        let made = try example(#"{"prompt": "1+1=", "chosen": " 2", "rejected": " 3"}"#)
        let chosen = try text(made)
        #expect(chosen.all == "1+1= 2</s>" && chosen.trained == [" 2</s>"])
        let rejected = try #require(made.rejected)
        #expect(try text(rejected).trained == [" 3</s>"])
        // Without a prompt it is what both begin with; the space goes to the answers, and no letter is cut.
        let implicit = try example(#"{"chosen": "so \u0b95\u0bbe", "rejected": "so \u0b95\u0bbf"}"#)
        #expect(try text(implicit).trained == ["\u{0bbe}</s>"])
        let spaced = try example(#"{"chosen": "it is a", "rejected": "it is b"}"#)
        #expect(try text(spaced).trained == [" a</s>"])
    }

    @Test func systemAndToolsBelongToThePrompt() throws {
        let made = try example(
            #"{"system": "s", "prompt": [{"role": "user", "content": "q"}], "chosen": "a", "rejected": "b"}"#)
        #expect(try text(made).all.hasPrefix("<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nq"))
        let error = #expect(throws: RowError.self) {
            _ = try example(#"{"system": "s", "prompt": "q", "chosen": "a", "rejected": "b"}"#)
        }
        #expect(error?.reason.contains("list of messages") == true)
    }

    @Test func earlierAnswersOfThePromptAreNotScored() throws {
        let made = try example(
            #"{"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}], "chosen": "d", "rejected": "e"}"#
        )
        #expect(try text(made).trained == ["d<|im_end|>\n"])
    }

    @Test func labels() throws {
        for (json, isGood) in [
            (#"{"prompt": "p", "completion": "c", "label": true}"#, true),
            (#"{"prompt": [{"role": "user", "content": "p"}], "completion": "c", "label": false}"#, false),
            (#"{"prompt_ids": [1, 2], "completion_ids": [3], "label": 0}"#, false),
        ] {
            guard case .label(let found)? = try example(json, .judged).judgement else {
                Issue.record("no label")
                continue
            }
            #expect(found == isGood)
        }
    }

    @Test(arguments: [
        (#"{"prompt": "p", "completion": "c"}"#, "without a judgement", ExampleOptions.Kind.preference),
        (#"{"prompt": "p", "completion": "c", "label": true}"#, "a KTO row", .preference),
        (#"{"prompt": "p", "chosen": "c", "rejected": "r"}"#, "a preference row", .supervised),
        (#"{"prompt": "p", "completion": "c", "label": true}"#, "a KTO row", .supervised),
        (#"{"text": "t"}"#, "without a judgement", .judged),
        (#"{"prompt": "p", "chosen": "c", "rejected": 3}"#, "expected an array", .preference),
        (
            #"{"chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "rejected": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]}"#,
            "do not begin with the same messages", .preference
        ),
        (#"{"prompt_ids": [1], "chosen_ids": [], "rejected_ids": [2]}"#, "is empty", .preference),
        (#"{"prompt_ids": [1], "chosen_ids": [900], "rejected_ids": [2]}"#, "outside of the vocabulary", .preference),
    ])
    func rowsThatAreNoUse(json: String, reason: String, kind: ExampleOptions.Kind) {
        let error = #expect(throws: RowError.self) { _ = try example(json, kind) }
        #expect(error?.reason.contains(reason) == true, "\(error?.reason ?? "")")
    }

    @Test func bothAnswersCountForTheLength() throws {
        let row: JSONValue = ["prompt": "ab", "chosen": "c", "rejected": "a long one"]
        let error = #expect(throws: TextError.self) { _ = try builder(.preference, maxLength: 8).examples(from: [row]) }
        #expect(
            error?.description.contains("13 tokens are more than max_length 8") == true, "\(error?.description ?? "")")
        var cutting = try builder(.preference, maxLength: 8)
        cutting.options.overlong = .truncate
        let made = try #require(try cutting.examples(from: [row]).examples.first)
        #expect(made.ids.count == 4 && made.rejected?.ids.count == 8 && made.tokenCount == 12)
        cutting.options.maxLength = 2
        #expect(throws: TextError.self) { _ = try cutting.examples(from: [row]) }
    }

    @Test func fractionalWeightsReachTheTokens() throws {
        let made = try example(
            """
            {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "x", "weight": 0.5},
            {"role": "user", "content": "r"}, {"role": "assistant", "content": "y", "weight": 0},
            {"role": "user", "content": "s"}, {"role": "assistant", "content": "z"}]}
            """, .supervised)
        let weights = try #require(made.weights)
        let trained = made.ids.indices.filter { made.isTrained[$0] }
        // Each letter, and the token that ends its turn.
        #expect(trained.map { weights[$0] } == [0.5, 0.5, 1, 1])
        let batch = PackedBatch([TokenizedExample(ids: [1, 2], isTrained: [true, true]), made])
        #expect(batch.trainedPositions.map { batch.weights?[$0] } == [1, 0.5, 0.5, 1, 1])
    }
}
