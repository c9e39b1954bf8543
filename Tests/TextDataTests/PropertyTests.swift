import FileFormats
import Foundation
import Testing

@testable import TextData

struct PropertyTests {
    static let templates: [(name: String, source: String, stop: String)] = [
        ("chatml", chatML, "<|im_end|>"),
        (
            "generation marks",
            """
            {% for m in messages %}<|im_start|>{{ m.role }}
            {% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% else %}\
            {{ m.content }}<|im_end|>{% endif %}

            {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
            {% endif %}
            """, "<|im_end|>"
        ),
        (
            "no generation prompt",
            "{% for m in messages %}{% if m.role == 'user' %}[Q]{{ m.content }}[/Q]{% else %}{{ m.content }}</s>{% endif %}"
                + "{% endfor %}", "</s>"
        ),
    ]

    /// Random contents in random conversations: what is trained is exactly what the assistant said, and its ends.
    @Test(arguments: templates.map(\.name), 0..<15 as Range<UInt64>)
    func spansCoverExactlyTheAssistantsText(_ name: String, _ seed: UInt64) throws {
        let (_, source, stop) = try #require(Self.templates.first { $0.name == name })
        var generator = SeededGenerator(seed)
        let tokenizer = try byteTokenizer()
        let builder = ExampleBuilder(tokenizer: tokenizer, template: try ChatTemplate(source: source))
        for _ in 0..<8 {
            var messages: [JSONValue] = []
            var wanted: [String] = []
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let question = awkwardText(&generator, pieces: Int.random(in: 0...8, using: &generator))
                let answer = awkwardText(&generator, pieces: Int.random(in: 1...8, using: &generator))
                messages.append(["role": "user", "content": .string(question)])
                messages.append(["role": "assistant", "content": .string(answer)])
                wanted.append(answer + stop)
            }
            let example = try builder.example(for: .conversation(Conversation(messages: messages)))
            var runs: [[Int32]] = []
            for i in example.ids.indices where example.isTrained[i] {
                if i > 0, example.isTrained[i - 1] {
                    runs[runs.count - 1].append(example.ids[i])
                } else {
                    runs.append([example.ids[i]])
                }
            }
            // Runs of turns that touch are one; compare all bytes.
            let text = runs.map { tokenizer.decode($0, skipSpecialTokens: false) }.joined()
            #expect(text.hasSameBytes(as: wanted.joined()), "\(messages)")
        }
    }

    /// Random scalars of all planes.
    private func randomText(_ generator: inout SeededGenerator) -> String {
        var text = String.UnicodeScalarView()
        for _ in 0..<Int.random(in: 0...120, using: &generator) {
            let limit: UInt32 = [0x80, 0x250, 0x3000, 0x1_0000, 0x11_0000].randomElement(using: &generator)!
            if let scalar = Unicode.Scalar(UInt32.random(in: 0..<limit, using: &generator)) { text.append(scalar) }
        }
        return String(text)
    }

    @Test(
        "byte-level tokenizers give back random Unicode",
        .enabled(if: conformanceFolder != nil, "no conformance data here"),
        arguments: [
            "smollm2/tokenizer.json", "qwen2.5/tokenizer.json", "llama3/tokenizer.json", "llama3/tokenizer.model",
            "gpt2/tokenizer.json", "gpt2/vocab.json", "deepseek-coder/tokenizer.json", "phi-2/tokenizer.json",
            "cl100k-tiktoken/cl100k_base.tiktoken", "kimi-k2/tiktoken.model",
        ])
    func roundTrip(path: String) throws {
        let root = try #require(conformanceFolder)
        let tokenizer = try Tokenizer(path: "\(root)/tokenizers/\(path)")
        #expect(tokenizer.kind == .byteLevelBPE)
        let added = Set(tokenizer.addedTokens.map(\.content))
        var generator = SeededGenerator(UInt64(path.utf8.count))
        for i in 0..<150 {
            var text = i % 2 == 0 ? awkwardText(&generator, pieces: 30) : randomText(&generator)
            // Qwen's files say NFC: what comes back is that form.
            if tokenizer.definitions.normalizer["type"]?.stringValue == "NFC" {
                var normal = NormalizedText()
                for (k, byte) in text.utf8.enumerated() { normal.append(byte, from: k..<k + 1) }
                NormalizationForm.nfc.apply(to: &normal)
                text = String(decoding: normal.bytes, as: UTF8.self)
            }
            // SmolLM2 has no token for some first bytes of planes that hold nothing, and DeepSeek's added letters are
            // decoded as the bytes they stand for among the others, in the reference too.
            let kept = text.unicodeScalars.filter { scalar in
                !added.contains(ByteString(String(scalar)))
                    && String(scalar).utf8.allSatisfy { byte in
                        tokenizer.id(of: ByteString(ByteAlphabet.encode(CollectionOfOne(byte)))) != nil
                    }
            }
            text = String(String.UnicodeScalarView(kept))
            let ids = try tokenizer.encoding(of: text, addSpecialTokens: false).ids
            #expect(tokenizer.decode(ids, skipSpecialTokens: false).hasSameBytes(as: text), "\(text.debugDescription)")
        }
    }
}
