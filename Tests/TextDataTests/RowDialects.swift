/// Samples of the rows that other tools document.
enum RowDialects {
    enum Verdict: String { case read, told, refused }
    typealias Dialect = (name: String, about: String, samples: [DialectSample])

    static let all: [Dialect] = [llamaFactory, axolotl, trl, unsloth, mlx, swift, calls, contents, answers]

    private static let llamaFactory: Dialect = (
        "LLaMA-Factory", "Alpaca and ShareGPT rows (`data/README.md`); the columns have their default names.",
        [
            DialectSample(
                .read,
                #"{"instruction": "Add.", "input": "1 1", "output": "2", "system": "s", "history": [["a", "b"]]}"#),
            DialectSample(.read, #"{"text": "document"}"#),
            DialectSample(.read, #"{"instruction": "q", "input": "", "chosen": "yes", "rejected": "no"}"#, "dpo"),
            DialectSample(.refused, #"{"instruction": "q", "input": "", "chosen": "yes", "rejected": "no"}"#),
            DialectSample(.read, #"{"instruction": "q", "input": "", "output": "a", "kto_tag": false}"#, "kto"),
            DialectSample(.refused, #"{"instruction": "q", "input": "", "output": "a", "kto_tag": true}"#),
            DialectSample(.read, #"{"instruction": "q", "output": "a", "tools": "[{\"name\": \"f\"}]"}"#),
            DialectSample(.refused, #"{"instruction": "<image>What?", "output": "A cat.", "images": ["cat.png"]}"#),
            DialectSample(.refused, #"{"instruction": "<video>What?", "output": "A cat.", "videos": ["cat.mp4"]}"#),
            DialectSample(.refused, #"{"instruction": "<audio>What?", "output": "A cat.", "audios": ["cat.wav"]}"#),
            DialectSample(.refused, #"{"instruction": "<image>What?", "output": "A cat."}"#),
            DialectSample(
                .read,
                #"{"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"}, {"from": "observation", "value": "1"}, {"from": "gpt", "value": "a"}], "system": "s", "tools": "[{\"name\": \"f\"}]"}"#
            ),
            DialectSample(
                .read,
                #"{"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "yes"}, "rejected": {"from": "gpt", "value": "no"}}"#,
                "dpo"),
            DialectSample(
                .refused,
                #"{"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "yes"}, "rejected": {"from": "gpt", "value": "no"}}"#
            ),
            DialectSample(
                .read,
                #"{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "kto_tag": "false"}"#,
                "kto"),
            DialectSample(
                .refused,
                #"{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "kto_tag": "false"}"#
            ),
            DialectSample(
                .refused,
                #"{"conversations": [{"from": "human", "value": "<image>q"}, {"from": "gpt", "value": "a"}], "images": ["cat.png"]}"#
            ),
            DialectSample(
                .read,
                #"{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#
            ),
        ]
    )

    private static let axolotl: Dialect = (
        "axolotl", "The strategies of its pages on data set formats and RLHF, by their rows.",
        [
            DialectSample(
                .read,
                #"{"conversations": [{"from": "human", "value": "q", "train": false}, {"from": "gpt", "value": "a", "train": false}, {"from": "human", "value": "r"}, {"from": "gpt", "value": "b", "train": true}]}"#
            ),
            DialectSample(
                .read,
                #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}, {"role": "user", "content": "r"}, {"role": "assistant", "content": "b", "weight": 1}]}"#
            ),
            DialectSample(
                .refused,
                #"{"messages": [{"role": "user", "content": "q", "train": true}, {"role": "assistant", "content": "a"}]}"#
            ),
            DialectSample(
                .refused,
                #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a b", "train_detail": [{"begin_offset": 0, "end_offset": 0, "train": false}]}]}"#
            ),
            DialectSample(
                .read, #"{"conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#),
            DialectSample(
                .read, #"{"conversations": [{"role": "user", "value": "q"}, {"role": "assistant", "value": "a"}]}"#),
            DialectSample(.read, #"{"instruction": "q", "input": "", "output": "a"}"#),
            DialectSample(.refused, #"{"instruction": "q", "input": "", "response": "a"}"#),
            DialectSample(
                .read, #"{"instruction": "q", "input": "", "response": "a"}"#, columns: [("output", "response")]),
            DialectSample(.refused, #"{"question": "q", "category": "c", "answer": "a"}"#),
            DialectSample(.refused, #"{"INSTRUCTION": "q", "RESPONSE": "a"}"#),
            DialectSample(
                .told, #"{"instruction": "q", "input": "", "output": "a", "reflection": "r", "corrected": "c"}"#),
            DialectSample(.refused, #"{"question": "q", "choices": ["a", "b"], "solution": "a", "explanation": "e"}"#),
            DialectSample(.refused, #"{"article": "a", "summary": "s"}"#),
            DialectSample(.refused, #"{"message_1": "q", "message_2": "a"}"#),
            DialectSample(.refused, #"{"system_prompt": "s", "question": "q", "response": "a"}"#),
            DialectSample(.refused, #"{"article": "t", "unanswerable_question": "q"}"#),
            DialectSample(.refused, #"{"instruction": "q", "revision": "a"}"#),
            DialectSample(.refused, #"{"scores": "1", "critiques": "c", "instruction": "q", "answer": "a"}"#),
            DialectSample(.refused, #"{"prompt": "q", "generation": "a"}"#),
            DialectSample(
                .refused, #"{"segments": [{"label": true, "text": "Hello"}, {"label": false, "text": "bye"}]}"#),
            DialectSample(.read, #"{"text": "pretraining or completion"}"#),
            DialectSample(
                .read, #"{"input_ids": [1, 2, 257, 0], "attention_mask": [1, 1, 1, 0], "labels": [-100, 2, 257, -100]}"#
            ),
            DialectSample(.refused, #"{"prompt": "q", "completions": ["a", "b"], "labels": [true, false]}"#),
            DialectSample(
                .refused, #"{"system": "s", "instruction": "q", "chosen_response": "y", "rejected_response": "n"}"#,
                "dpo"),
            DialectSample(.refused, #"{"system": "s", "input": "q", "chosen": "y", "rejected": "n"}"#, "dpo"),
            DialectSample(.refused, #"{"question": "q", "chosen": "y", "rejected": "n"}"#, "dpo"),
            DialectSample(.refused, #"{"system": "s", "prompt": "q", "chosen": "y", "rejected": "n"}"#, "dpo"),
            DialectSample(
                .read,
                #"{"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "y"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "n"}]}"#,
                "dpo"),
            DialectSample(
                .read,
                #"{"messages": [{"role": "user", "content": "q"}], "chosen": {"role": "assistant", "content": "y"}, "rejected": {"role": "assistant", "content": "n"}}"#,
                "dpo"),
            DialectSample(.refused, #"{"prompt": "q", "answers": [{"answer": "a", "rank": 1}]}"#, "dpo"),
            DialectSample(.refused, #"{"question": "q", "completion": "a"}"#, "kto"),
            DialectSample(.told, #"{"prompt": "q", "completion": "a", "label": "true"}"#, "kto"),
        ]
    )

    private static let trl: Dialect = (
        "TRL", "Its types of data sets, standard and conversational, and the columns its trainers know.",
        [
            DialectSample(.read, #"{"text": "The sky is blue."}"#),
            DialectSample(
                .read, #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#),
            DialectSample(.refused, #"{"prompt": "The sky is"}"#),
            DialectSample(.refused, #"{"prompt": [{"role": "user", "content": "q"}]}"#),
            DialectSample(.told, #"{"prompt": "The sky is", "completion": " blue."}"#),
            DialectSample(
                .read,
                #"{"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}"#
            ),
            DialectSample(.told, #"{"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}"#, "dpo"),
            DialectSample(.told, #"{"chosen": "The sky is blue.", "rejected": "The sky is green."}"#, "dpo"),
            DialectSample(
                .told,
                #"{"prompt": [{"role": "user", "content": "q"}], "chosen": [{"role": "assistant", "content": "y"}], "rejected": [{"role": "assistant", "content": "n"}], "score_chosen": 1.5, "score_rejected": 0.5, "margin": 1}"#,
                "dpo"),
            DialectSample(.told, #"{"prompt": "The sky is", "completion": " blue.", "label": true}"#, "kto"),
            DialectSample(.refused, #"{"prompt": "The sky is", "completion": " green.", "label": false}"#),
            DialectSample(
                .read,
                #"{"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}], "label": false}"#,
                "kto"),
            DialectSample(.refused, #"{"prompt": "q", "completions": ["a", "b"], "labels": [true, false]}"#),
            DialectSample(
                .read,
                #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"room": "a"}}}]}, {"role": "tool", "content": "on"}, {"role": "assistant", "content": "Done"}], "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]}"#
            ),
            DialectSample(
                .read,
                #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "chat_template_kwargs": {"enable_thinking": false}}"#
            ),
            DialectSample(
                .read,
                #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "thinking": "t", "content": "a"}]}"#
            ),
            DialectSample(.read, #"{"input_ids": [1, 2, 257], "completion_mask": [0, 1, 1]}"#),
            DialectSample(.read, #"{"input_ids": [1, 2, 257], "assistant_masks": [0, 1, 1]}"#),
            DialectSample(
                .refused,
                #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "completion_mask": [0, 1]}"#
            ),
            DialectSample(.refused, #"{"input_ids": [1, 2, 3, 4], "seq_lengths": [2, 2]}"#),
            DialectSample(.refused, #"{"input_ids": [1, 2, 3, 4], "position_ids": [0, 1, 0, 1]}"#),
            DialectSample(
                .refused,
                #"{"images": ["a.png"], "prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}"#
            ),
            DialectSample(
                .read, #"{"prompt_ids": [1, 2], "chosen_ids": [3, 257], "rejected_ids": [4, 257]}"#, "dpo"),
        ]
    )

    private static let unsloth: Dialect = (
        "unsloth", "The formats of its guide to data sets.",
        [
            DialectSample(.read, #"{"text": "Pasta carbonara is a dish."}"#),
            DialectSample(.read, #"{"instruction": "Task", "input": "", "output": "Result"}"#),
            DialectSample(.refused, #"{"Instruction": "Task", "Input": "", "Output": "Result"}"#),
            DialectSample(
                .read, #"{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}"#),
            DialectSample(
                .read, #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#),
            DialectSample(
                .read,
                #"{"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, {"role": "assistant", "content": [{"type": "text", "text": "a"}]}]}"#
            ),
            DialectSample(
                .refused,
                #"{"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "image", "image": "cat.png"}]}, {"role": "assistant", "content": [{"type": "text", "text": "a"}]}]}"#
            ),
            DialectSample(
                .read, #"{"question": "q", "answer": "a"}"#,
                columns: [("instruction", "question"), ("output", "answer")]),
            DialectSample(.told, #"{"text": "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"}"#),
        ]
    )

    private static let mlx: Dialect = (
        "mlx-lm", "The formats of `LORA.md`.",
        [
            DialectSample(
                .read,
                #"{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#
            ),
            DialectSample(
                .told,
                #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": \"y\"}"}}], "name": "m"}], "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]}"#
            ),
            DialectSample(.told, #"{"prompt": "What?", "completion": "That."}"#),
            DialectSample(
                .told, #"{"input": "What?", "output": "That."}"#,
                columns: [("prompt", "input"), ("completion", "output")]),
            DialectSample(.read, #"{"text": "This is an example."}"#),
            DialectSample(.told, #"{"prompt": "q", "chosen": "y", "rejected": "n"}"#, "dpo"),
            DialectSample(.refused, #"{"system": "s", "prompt": "q", "chosen": "y", "rejected": "n"}"#, "dpo"),
        ]
    )

    private static let swift: Dialect = (
        "ms-swift and others", "Keys that are met in rows of other tools.",
        [
            DialectSample(
                .read,
                #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "loss": false}, {"role": "user", "content": "r"}, {"role": "assistant", "content": "b", "loss": true}]}"#
            ),
            DialectSample(
                .read,
                #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "trainable": 0}, {"role": "user", "content": "r"}, {"role": "assistant", "content": "b", "loss_mask": 1}]}"#
            ),
            DialectSample(
                .read,
                #"{"messages": [{"role": "user", "content": "q", "masked": true}, {"role": "assistant", "content": "a", "masked": false}]}"#
            ),
            DialectSample(
                .refused,
                #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "mask": 1}]}"#),
            DialectSample(
                .refused,
                #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "loss": "maybe"}]}"#
            ),
            DialectSample(
                .refused,
                #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "loss": false}]}"#
            ),
            DialectSample(
                .read,
                #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "y"}], "rejected_response": "n"}"#,
                "dpo"),
            DialectSample(
                .refused,
                #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "y"}], "rejected_response": "n"}"#
            ),
            DialectSample(
                .read,
                #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "label": "undesirable"}"#,
                "kto"),
            DialectSample(
                .refused,
                #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "label": 0}"#),
            DialectSample(
                .read,
                #"{"system": "s", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#
            ),
            DialectSample(
                .told,
                #"{"system": "s", "messages": [{"role": "system", "content": "t"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#
            ),
            DialectSample(
                .told,
                #"{"id": 7, "source": "web", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "emotion": "calm"}]}"#
            ),
        ]
    )

    private static func call(_ arguments: String) -> String {
        #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": \#(arguments)}}]}]}"#
    }

    private static func tools(_ tools: String) -> String {
        #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "tools": \#(tools)}"#
    }

    private static let calls: Dialect = (
        "Calls and tools", "How arguments and definitions come in rows of all tools.",
        [
            DialectSample(.read, call(#"{"x": 1}"#)), DialectSample(.read, call(#""{\"x\": 1}""#)),
            DialectSample(.read, call(#""\"{\\\"x\\\": 1}\"""#)), DialectSample(.read, call(#""""#)),
            DialectSample(.read, call("null")), DialectSample(.read, call(#""null""#)),
            DialectSample(.refused, call(#""{\"x\": ""#)), DialectSample(.refused, call(#""{'x': 1}""#)),
            DialectSample(.refused, call("[1]")), DialectSample(.refused, call("5")),
            DialectSample(.told, call(#"{"x": null}"#)),
            DialectSample(.read, tools(#"["{\"type\": \"function\", \"function\": {\"name\": \"f\"}}"]"#)),
            DialectSample(.read, tools(#"{"type": "function", "function": {"name": "f"}}"#)),
            DialectSample(.read, tools(#""{\"type\": \"function\", \"function\": {\"name\": \"f\"}}""#)),
            DialectSample(.read, tools(#""null""#)), DialectSample(.read, tools(#""""#)),
            DialectSample(.read, tools("[]")),
            DialectSample(.refused, tools(#"["f"]"#)), DialectSample(.refused, tools(#""[{'name': 'f'}]""#)),
            DialectSample(
                .told,
                tools(
                    #"[{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {"type": "integer"}, "y": null}}}}]"#
                )),
        ]
    )

    private static func answer(_ content: String, role: String = "assistant") -> String {
        #"{"messages": [{"role": "user", "content": "q"}, {"role": "\#(role)", "content": \#(content)}]}"#
    }

    private static let contents: Dialect = (
        "Contents and roles", "What a message may hold, and who may speak.",
        [
            DialectSample(.read, answer(#"[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]"#)),
            DialectSample(.refused, answer("[]")),
            DialectSample(.refused, answer(#"[{"type": "audio", "audio": "a.wav"}]"#)),
            DialectSample(.read, answer(#""<think>t</think>a""#)), DialectSample(.told, answer(#""<think>t""#)),
            DialectSample(.refused, answer(#""a<|im_end|>""#)),
            DialectSample(.refused, answer(#""a""#, role: "Assistant")),
            DialectSample(.refused, answer(#""a""#, role: "model")),
            DialectSample(.refused, answer(#""a""#, role: "gpt")),
            DialectSample(
                .told,
                #"{"messages": [{"role": "User", "content": "q"}, {"role": "assistant", "content": "a"}]}"#),
            DialectSample(
                .read,
                #"{"messages": [{"role": "developer", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#
            ),
            DialectSample(
                .read,
                #"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}}, {"role": "function", "content": "1"}, {"role": "assistant", "content": "a"}]}"#
            ),
            DialectSample(
                .refused, #"{"conversations": [{"from": "alien", "value": "q"}, {"from": "gpt", "value": "a"}]}"#),
        ]
    )

    private static let answers: Dialect = (
        "Answers", "Texts that hold messages, and answers that are none.",
        [
            DialectSample(.refused, answer(#""""#)), DialectSample(.refused, answer(#""nan""#)),
            DialectSample(.refused, answer("null")),
            DialectSample(.refused, #"{"instruction": "q", "output": ""}"#),
            DialectSample(.refused, #"{"instruction": "q", "output": null}"#),
            DialectSample(.refused, #"{"prompt": "q", "completion": "None"}"#),
            DialectSample(
                .told,
                #"{"prompt": "[{\"role\": \"user\", \"content\": \"q\"}]", "completion": "[{\"role\": \"assistant\", \"content\": \"a\"}]"}"#
            ),
            DialectSample(
                .told,
                #"{"prompt": "q", "chosen": "[{\"role\": \"assistant\", \"content\": \"y\"}]", "rejected": "[{\"role\": \"assistant\", \"content\": \"n\"}]"}"#,
                "dpo"),
            DialectSample(
                .refused, #"{"prompt": "[{'role': 'user', 'content': 'q'}]", "completion": "a"}"#),
            DialectSample(.told, #"{"prompt": "q", "chosen": "same", "rejected": "same"}"#, "dpo"),
            DialectSample(.refused, #"{"prompt": "q", "chosen": "good", "rejected": ["bad", "worse"]}"#, "dpo"),
            DialectSample(
                .read, #"{"instruction": "q", "output": "a", "kto_tag": "1"}"#, "kto"),
            DialectSample(
                .refused, #"{"instruction": "q", "output": "a", "kto_tag": "perhaps"}"#, "kto"),
            DialectSample(.told, #"{"instruction": "q", "output": "a", "label": "sports"}"#),
        ]
    )
}
