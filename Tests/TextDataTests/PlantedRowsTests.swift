import FileFormats
import Foundation
import Testing

@testable import TextData

/// Each defect in 20 of ten thousand rows: all are found by their numbers, and nothing else is.
struct PlantedRowsTests {
    private static let template = """
        {% for m in messages %}{% if loop.index0 == 0 and m.role == 'assistant' %}{{ raise_exception('roles') }}{% endif %}\
        {{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
        """

    /// A tokenizer that knows the letters of the clean rows.
    private static let tokenizer: Result<Tokenizer, any Error> = Result {
        let texts = PlantedRows.languages.map { ($0.words + [$0.stop]).joined(separator: " ") }
        let specials = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
        var document =
            try trainByteLevelBPE(
                texts: texts + texts, vocabularySize: 900, specialTokens: ["<unused>"]
            ).objectValue ?? JSONObject()
        let count = document["model"]?["vocab"]?.objectValue?.count ?? 0
        document["added_tokens"] = .array(
            [addedToken(0, "<unused>")] + specials.enumerated().map { addedToken(count + $0, $1) })
        document["post_processor"] = [
            "type": "TemplateProcessing",
            "single": [["SpecialToken": ["id": "<s>", "type_id": 0]], ["Sequence": ["id": "A", "type_id": 0]]],
            "pair": [], "special_tokens": ["<s>": ["id": "<s>", "ids": [.integer(count)], "tokens": ["<s>"]]],
        ]
        return try Tokenizer(json: .object(document), config: ["bos_token": "<s>", "eos_token": "</s>"])
    }

    private func builder() throws -> ExampleBuilder {
        var options = ExampleOptions()
        options.maxLength = 700
        options.overlong = .truncate
        var builder = ExampleBuilder(
            tokenizer: try Self.tokenizer.get(), template: try ChatTemplate(source: Self.template), options: options)
        // The rows of ids end with a letter of their own.
        builder.endID = 257
        return builder
    }

    @Test func everyDefectIsFoundInItsRowAndCleanRowsPass() throws {
        let lints = Lint.allCases.filter { $0 != .duplicateRows }
        var rows = PlantedRows(seed: 11)
        let count = 10_000
        var order = Array(0..<count + 20 * lints.count)
        order.shuffle(using: &rows.generator)
        var planted: [Int: Lint] = [:]
        for (i, lint) in lints.enumerated() {
            for place in order[(20 * i)..<(20 * i + 20)] { planted[place] = lint }
        }
        var bytes: [UInt8] = []
        for place in order.indices {
            bytes += planted[place].map { rows.planted($0) } ?? rows.clean()
            bytes.append(0x0A)
        }
        let folder = try TemporaryFolder()
        let file = try folder.write("rows.jsonl", bytes: bytes)
        var builder = try builder()
        let error = #expect(throws: TextError.self) { try builder.examples(fromFiles: [file]) }
        guard case .badRows(let faults, let total)? = error else {
            Issue.record("\(error as Any)")
            return
        }
        #expect(total == 20 * lints.count)
        for lint in lints {
            let wanted = planted.filter { $0.value == lint }.map { $0.key + 1 }.sorted()
            #expect(faults.filter { $0.lint == lint }.map(\.row).sorted() == wanted, "\(lint)")
        }
        for fault in faults where planted[fault.row - 1] != fault.lint {
            Issue.record("a false alarm: \(fault)")
        }
        builder.options.accepts = Set(lints)
        let report = try builder.examples(fromFiles: [file]).report
        for lint in lints { #expect(report.accepted[lint] == 20, "\(lint)") }
    }
}
