import FileFormats
import FineTuning
import Foundation
import TensorCore
import TextData
import Testing

@testable import Export

/// Go's language as far as Ollama's templates need it, by what Go's text/template documents.
@Suite struct GoTemplateTests {
    private func render(_ source: String, _ messages: [(role: String, content: String)] = []) throws -> String {
        try GoTemplate(source).render(messages)
    }
    private let two = [(role: "user", content: "a {{ b }}"), (role: "assistant", content: "c")]

    @Test func textStandsAsItIs() throws {
        #expect(try render(" a\n\n b }} ") == " a\n\n b }} ")
        #expect(try render(#"x{{ "{{" }}y"#) == "x{{y")
    }
    @Test func rangeGivesIndexAndElement() throws {
        let source =
            "{{ range $i, $_ := .Messages }}{{ if eq $i 0 }}first {{ end }}{{ .Role }}={{ .Content }};{{ end }}"
        #expect(try render(source, two) == "first user=a {{ b }};assistant=c;")
        #expect(try render(source) == "")
    }
    @Test func lastMessage() throws {
        let source =
            "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}{{ .Content }}"
            + "{{ if not $last }},{{ else if ne .Role \"user\" }}.{{ else }}?{{ end }}{{ end }}"
        #expect(try render(source, two) == "a {{ b }},c.")
        #expect(try render(source, [two[0]]) == "a {{ b }}?")
    }
    @Test func andOrGiveTheirOperands() throws {
        #expect(
            try render("{{ if and (eq 1 1) (ne 1 2) }}y{{ end }}{{ if or (eq 1 2) (not (eq 1 1)) }}n{{ end }}") == "y")
    }
    @Test(arguments: [
        "{{ if eq 1 1 }}", "{{ end }}", "{{ .Nothing }}", "{{ template \"x\" }}", "{{ range .Messages }}{{ end }}",
        "{{",
    ])
    func whatIsNotKnownIsAnError(source: String) { #expect(throws: GoTemplate.Fault.self) { try render(source, two) } }
}

@Suite struct OllamaTemplateTests {
    private func make(_ jinja: String, start: String? = nil) throws -> OllamaTemplate {
        try OllamaTemplate(
            try ChatTemplate(source: jinja, constants: JSONObject([("bos_token", "<s>"), ("eos_token", "</s>")])),
            addedStart: start)
    }
    private let chatML =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

    @Test func turnsOfTheirOwn() throws {
        let made = try make(chatML)
        #expect(made.source.contains("{{ else if eq .Role \"user\" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n"))
        #expect(made.notes.isEmpty)
    }
    @Test func aSystemMessageOfTheModelsOwn() throws {
        let own = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe good.<|im_end|>\n{% endif %}"
        #expect(
            try make(own + chatML).source.contains(
                "{{ if and (eq $i 0) (ne .Role \"system\") }}<|im_start|>system\nBe good."))
    }
    /// What Ollama drops from a Modelfile, and what would end the value.
    @Test func charactersThatAModelfileCannotHold() throws {
        let special = "<\u{2581}\u{200D}\u{3000}\"\"\"\n{{ '{{' }}>"
        let made = try make(chatML.replacingOccurrences(of: "<|im_start|>", with: special))
        #expect(made.source.unicodeScalars.allSatisfy(Modelfile.keeps))
        #expect(!made.source.contains("\"\"\""))
        let text = try GoTemplate(made.source).render([(role: "user", content: "a")])
        #expect(text.hasPrefix("<\u{2581}\u{200D}\u{3000}\"\"\"\n{{>user\na"))
    }
    /// Llama 2's: the system message stands inside the first question.
    @Test func systemInTheFirstQuestion() throws {
        let jinja =
            "{% set s = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' if messages[0].role == 'system' else '' %}"
            + "{% for m in (messages[1:] if s else messages) %}{% if m.role == 'user' %}{{ bos_token }}[INST] "
            + "{% if loop.first %}{{ s }}{% endif %}{{ m.content }} [/INST]{% else %} {{ m.content }} "
            + "{{ eos_token }}{% endif %}"
            + "{% endfor %}"
        #expect(throws: Never.self) { try make(jinja) }
        #expect(try !make(jinja, start: "<s>").source.hasPrefix("<s>"))
    }
    /// Mistral's: it stands inside the last one.
    @Test func systemInTheLastQuestion() throws {
        let jinja =
            "{% set s = messages[0].content if messages[0].role == 'system' else '' %}"
            + "{% for m in (messages[1:] if s else messages) %}{% if m.role == 'user' %}[INST]"
            + "{% if loop.last and s %}{{ s }}\n\n{% endif %}{{ m.content }}[/INST]{% else %}{{ m.content }}"
            + "</s>{% endif %}"
            + "{% endfor %}"
        #expect(try make(jinja).source.contains("{{ if and $last $.System }}{{ $.System }}\n\n{{ end }}"))
    }
    @Test func whatTheTemplateDoesOtherwiseIsTold() throws {
        #expect(try make("{{ strftime_now('%Y') }}" + chatML).notes.contains { $0.contains("the day of this export") })
        #expect(try make(chatML.replacingOccurrences(of: "m.content", with: "m.content | trim")).notes.count == 1)
        let strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + chatML
        #expect(try make(strict).notes.contains { $0.contains("no system message") })
    }
    @Test(arguments: [
        "{% for m in messages | reverse %}[{{ m.content }}]{% endfor %}",
        "{% for m in messages %}{{ m.role }}{{ m.content }}{{ m.content | length }}{% endfor %}",
        "{{ raise_exception('never') }}",
    ]) func whatHasNoCounterpartIsRefused(jinja: String) {
        #expect(throws: OllamaTemplate.Refusal.self) { try make(jinja) }
    }
}

@Suite struct ModelfileTests {
    private func text(_ change: (inout Modelfile) -> Void) -> String {
        var file = Modelfile(
            file: "m.gguf", template: nil, system: nil, stops: [], context: 64, maximumContext: 64, licence: nil,
            remark: nil)
        change(&file)
        return file.text
    }

    /// Ollama takes what stands between quotes as it is, over lines as well.
    @Test(arguments: [
        ("<|im_end|>", "\"<|im_end|>\""), (#"a\n"#, #""a\n""#), ("\n\n", "\"\n\n\""),
        ("say \"x\" now", "\"say \"x\" now\""),
        ("\"\nUser", "\"\"\"\"\nUser\"\"\""),
    ]) func stopsHaveNoEscapes(stop: String, written: String) {
        #expect(text { $0.stops = [stop] }.contains("PARAMETER stop \(written)\n"))
    }
    @Test func quotesInLongTexts() {
        #expect(text { $0.system = "Say \"yes\"" }.contains("SYSTEM \"\"\"Say \"yes\"\"\"\"\n"))
        #expect(text { $0.licence = "a\"\"\"b" }.contains("LICENSE \"\"\"a\"\"\"b\"\"\"\n"))
        #expect(!text { $0.licence = "a\"\"\" \nb" }.contains("LICENSE"))
    }
    @Test func whatOllamaLosesIsTold() {
        var file = Modelfile(
            file: "m.gguf", system: "क्\u{200D}ष", stops: [], context: 64, maximumContext: 64)
        #expect(file.problems.isEmpty && file.warnings.count == 1)
        file.system = "a\"\"\"\nb"
        #expect(file.problems.count == 1)
    }
}

@Suite struct ReadyFolderTests {
    let scratch = Scratch()
    let pool = WorkerPool(threads: 2)
    let module = "model.layers.0.self_attn.q_proj"

    private func prepare(extra: JSONObject = JSONObject()) throws {
        try writeChatModel(to: scratch("base"))
        try AtomicFile.write(Array("The terms.".utf8), to: scratch("base/LICENSE"))
        try AtomicFile.write(
            Array("---\nlicense: apache-2.0\nlanguage:\n- hi\n- no\n---\n".utf8), to: scratch("base/README.md"))
        mkdir(scratch("run"), 0o777)
        try TinyModel(vocabulary: 264, hidden: 64, inner: 96).writeAdapter(
            to: scratch("run/adapter"), modules: [(module, 4)], extra: extra)
    }

    private func write(_ target: ReadyTarget, to output: String = "out") throws -> ExportReport {
        var folder = ReadyFolder(
            target, model: scratch("base"), adapters: [(scratch("run/adapter"), 1)],
            options: GGUFExportOptions(type: .q8_0))
        folder.system = "Be brief."
        return try folder.write(to: scratch(output), gate: ParityGate(pool: pool), pool: pool)
    }
    private func text(_ name: String) throws -> String {
        String(decoding: try readFile(scratch(name), limit: 1 << 20), as: UTF8.self)
    }
    private func names(_ folder: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: scratch(folder)).sorted()
    }

    @Test func ollama() throws {
        try prepare()
        let report = try write(.ollama)
        #expect(report.parity?.text.conversations == 8)
        #expect(try names("out") == ["LICENSE", "Modelfile", "README.md", "base-Q8_0.gguf"])
        let modelfile = try text("out/Modelfile")
        for line in [
            "FROM ./base-Q8_0.gguf\n", "TEMPLATE \"\"\"", "SYSTEM \"\"\"Be brief.\"\"\"\n", "PARAMETER stop \"</s>\"\n",
            "PARAMETER num_ctx 64\n", "LICENSE \"\"\"The terms.\"\"\"\n",
        ] { #expect(modelfile.contains(line), "\(line)") }
    }
    @Test func lmstudio() throws {
        try prepare()
        _ = try write(.lmstudio)
        #expect(try names("out/local/base") == ["LICENSE", "README.md", "base-Q8_0.gguf"])
    }
    @Test func huggingFace() throws {
        try prepare()
        _ = try write(.hf)
        #expect(
            try text("out/README.md").hasPrefix(
                "---\nlicense: apache-2.0\nlanguage:\n- hi\n- \"no\"\nbase_model: base\nbase_model_relation: finetune\n"
                    + "library_name: transformers\npipeline_tag: text-generation\ntags:\n- transformers\n- graft\n---\n"
            ))
        #expect(
            try Set(names("out")).isSuperset(of: [
                "README.md", "LICENSE", "config.json", "model.safetensors", "tokenizer.json",
            ]))
        #expect(try DecoderModel(folder: scratch("out"), dtype: .f32).config.layerCount == 2)
    }
    @Test func vLLM() throws {
        try prepare()
        _ = try write(.vllm)
        #expect(try text("out/README.md").contains("--max-lora-rank 8 "))
        for name in ["adapter_config.json", "adapter_model.safetensors"] {
            #expect(try sha256(ofFile: scratch("out/" + name)) == sha256(ofFile: scratch("run/adapter/" + name)))
        }
    }
    @Test(
        arguments: [("use_rslora", true), ("alpha_pattern", ["model.layers.0.self_attn.q_proj": 4])]
            as [(String, JSONValue)])
    func whatVLLMDoesNotTake(key: String, value: JSONValue) throws {
        try prepare(extra: JSONObject([(key, value)]))
        guard key != "use_rslora" else {
            _ = try write(.vllm)
            return
        }
        #expect {
            try write(.vllm)
        } throws: { error in
            "\(error)".contains("alpha_pattern") && "\(error)".contains("--for hf")
        }
        #expect(!scratch.names.contains("out"))
    }
    @Test func theCardTellsWhereTheModelComesFrom() throws {
        try prepare()
        let manifest: JSONValue = [
            "format": "graft-run-1", "seed": 7, "recipe_sha256": "abc", "steps": 3,
            "data": ["train": [["path": "/home/someone/rows.jsonl", "size": 12, "sha256": "feed"]], "eval": []],
        ]
        try AtomicFile.write(JSONWriter.bytes(manifest), to: scratch("run/manifest.json"))
        try AtomicFile.write(
            Array("{\"step\": 1, \"loss\": 2.5}\n{\"step\": 3, \"eval_loss\": 1.25}\n".utf8),
            to: scratch("run/metrics.jsonl"))
        try AtomicFile.write(
            Array("model: /home/someone/base\nadapter:\n  rank: 4\ntraining:\n  epochs: 3\n".utf8),
            to: scratch("run/recipe.resolved.yaml"))
        _ = try write(.ollama)
        let card = try text("out/README.md")
        for part in [
            "license: apache-2.0", "base_model: base", "| train | rows.jsonl | 12 | `feed` |", "- seed: 7",
            "  epochs: 3",
            "| evaluation loss, step 3 | 1.2500 |", "State that the files were changed.", "ollama run base",
        ] { #expect(card.contains(part), "\(part)") }
        #expect(!card.contains("/home/someone"))
    }
    @Test func whatStandsThereStays() throws {
        try prepare()
        mkdir(scratch("out"), 0o777)
        #expect(throws: FileError.self) { try write(.ollama) }
        #expect(try names("out").isEmpty)
    }
}
