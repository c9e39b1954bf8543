import FileFormats
import Foundation
import Testing

@testable import TextData

/// Rows in other dialects through the templates of real models.
@Suite(.enabled(if: Conformance.hasTemplates))
struct TemplateDialectConformanceTests {
    private func load(_ name: String) throws -> (template: ChatTemplate, tokenizer: Tokenizer, end: Int32?) {
        let cases = try Conformance.json("chat_templates/cases/\(name).json")
        let file = try #require(cases["template_file"]?.stringValue)
        let source = try String(
            contentsOf: Conformance.root.appendingPathComponent("chat_templates").appendingPathComponent(file),
            encoding: .utf8)
        let template = try ChatTemplate(
            source: source, name: name,
            constants: JSONObject([
                ("bos_token", cases["bos_token"] ?? ""), ("eos_token", cases["eos_token"] ?? ""),
            ]))
        var markers = RowLinter.literalMarkers(in: Array(source.utf8)).map { String(decoding: $0, as: UTF8.self) }
        for tag in ["think", "tool_call", "tool_response", "start_of_turn", "end_of_turn"] {
            markers += ["<\(tag)>", "</\(tag)>"].filter { source.contains($0) }
        }
        let eos = cases["eos_token"]?.stringValue ?? ""
        if !eos.isEmpty, !markers.contains(eos) { markers.append(eos) }
        markers.sort()
        let tokenizer = try byteTokenizer(specials: ["<s>"] + markers.filter { $0 != "<s>" })
        return (template, tokenizer, tokenizer.addedTokens.first { $0.content == ByteString(eos) }?.id)
    }

    /// A content in parts gives the tokens of the same content as a string.
    @Test func textPartsAreTheText() throws {
        func row(_ user: JSONValue, _ answer: JSONValue) -> Row {
            .conversation(
                Conversation(messages: [["role": "user", "content": user], ["role": "assistant", "content": answer]]))
        }
        func parts(_ text: String) -> JSONValue { [["type": "text", "text": .string(text)]] }
        var count = 0
        for name in TemplateConformanceTests.names {
            let (template, tokenizer, end) = try load(name)
            var builder = ExampleBuilder(tokenizer: tokenizer, template: template)
            builder.options.now = try #require(CivilTime(iso: "2026-01-15T09:30:00"))
            builder.endID = end
            let plain = Result { try builder.example(for: row("What is ONE?", "It is two.")) }
            let listed = Result { try builder.example(for: row(parts("What is ONE?"), parts("It is two."))) }
            guard case .success(let wanted) = plain else { continue }
            // Some template writes no answer that ends the conversation.
            let plainText = tokenizer.decode(wanted.ids, skipSpecialTokens: false)
            guard plainText.contains("What is ONE?"), plainText.contains("It is two.") else { continue }
            guard case .success(let found) = listed else {
                Issue.record("\(name): \(listed)")
                continue
            }
            let text = tokenizer.decode(found.ids, skipSpecialTokens: false)
            #expect(found.ids == wanted.ids && found.isTrained == wanted.isTrained, "\(name): \(text)")
            #expect(text.contains("What is ONE?") && text.contains("It is two."), "\(name): \(text)")
            count += 1
        }
        #expect(count >= 60, "\(count)")
    }

    /// The tokens with which turns end, as far as the template alone shows them.
    @Test(arguments: [
        ("hf__qwen3", ["<|im_end|>"]), ("hf__llama-3-8b-instruct", ["<|eot_id|>"]),
        ("hf__mistral-7b-instruct-v0.3", ["</s>"]),
        ("hf__gemma-3-it", ["<end_of_turn>"]), ("hf__phi-4", ["<|im_end|>"]), ("hf__smollm3", ["<|im_end|>"]),
        ("llamacpp__GLM-4.7-Flash", ["<|observation|>", "<|user|>"]),
        ("llamacpp__openai-gpt-oss-120b", ["<|call|>", "<|end|>", "<|return|>"]),
        ("llamacpp__meetkai-functionary-medium-v3.1", ["<|eom_id|>", "<|eot_id|>"]),
        ("llamacpp__Kimi-K2-Instruct", ["<|im_end|>"]),
        ("cpp__CohereForAI_c4ai-command-r-plus", ["<|END_OF_TURN_TOKEN|>"]),
        ("llamacpp__deepseek-ai-DeepSeek-V3.1", ["<｜end▁of▁sentence｜>"]),
        ("cpp__ibm-granite_granite-3.0-8b-instruct", ["<|end_of_text|>"]),
    ])
    func endsOfTurnsAreThoseOfTheTemplates(_ name: String, _ wanted: [String]) throws {
        guard TemplateConformanceTests.names.contains(name) else { return }
        let (template, tokenizer, _) = try load(name)
        let ends = TurnEnds(tokenizer: tokenizer, template: template, declared: [])
        let texts = tokenizer.addedTokens.filter { ends.contains($0.id) }.map(\.content.description).sorted()
        #expect(texts == wanted)
    }
}
