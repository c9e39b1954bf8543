import FileFormats
import Foundation
import Testing

@testable import TextData

/// `docs/row-dialects.md`: what becomes of the rows that other tools document, tried with a sample of each.
///
/// `GRAFT_WRITE_README=1 swift test --filter RowDialectTable` writes it anew.
@Suite struct RowDialectTableTests {
    private static let path =
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path + "/docs/row-dialects.md"

    /// ChatML with tools, calls and thoughts.
    private static let template = """
        {% if enable_thinking is false %}{{ '/no_think ' }}{% endif %}\
        {% if tools %}{{ '<|im_start|>system\\n' + (tools | tojson) + '<|im_end|>\\n' }}{% endif %}\
        {% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}\
        {% if m.reasoning_content %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}{{ m.content }}\
        {% for c in m.tool_calls or [] %}{{ '<tool_call>' + (c.function | tojson) + '</tool_call>' }}{% endfor %}\
        {{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
        """

    @Test func tableIsWhatBecomesOfTheRows() throws {
        var text = """
            # Rows in the dialects of other tools

            What graft makes of the rows that other tools document, and of keys that are met with them. A row is **read**;
            or read and something about it is **told** in a warning that counts the rows; or **refused** with its file and
            number (exit status 65), so that nothing is learned that was not meant. Nothing of a row is left out in silence:
            a key that is not read is told once, with the number of rows that have it. Other names of columns are told by
            `data.columns` (`--columns`).

            The tables are made by `RowDialectTableTests`, which runs every sample; between `[[` and `]]` stands what is
            trained.

            """
        for dialect in RowDialects.all {
            text +=
                "\n## \(dialect.name)\n\n\(dialect.about)\n\n| row | objective | | what comes of it |\n|---|---|---|---|\n"
            for sample in dialect.samples {
                let (verdict, detail) = try outcome(sample)
                #expect(verdict == sample.verdict, "\(sample.row): \(detail)")
                let name = sample.columns.isEmpty ? "" : " with `columns: {\(columnText(sample.columns))}`"
                text += "| `\(cell(sample.row))`\(name) | \(sample.objective) | \(verdict.rawValue) | \(detail) |\n"
            }
        }
        if ProcessInfo.processInfo.environment["GRAFT_WRITE_README"] != nil {
            try text.write(toFile: Self.path, atomically: true, encoding: .utf8)
        } else {
            let written = try String(contentsOfFile: Self.path, encoding: .utf8)
            #expect(written.hasSameBytes(as: text), "GRAFT_WRITE_README=1 writes the tables anew")
        }
    }

    private func columnText(_ columns: [ColumnName]) -> String {
        columns.map { "\($0.key): \($0.column)" }.joined(separator: ", ")
    }

    private func cell(_ text: String) -> String {
        text.replacingOccurrences(of: "\n", with: "\\n").replacingOccurrences(of: "|", with: "\\|")
    }

    /// A reason without its list of all forms.
    private func short(_ text: String) -> String {
        text.count <= 170 ? text : String(text.prefix(170)) + " ..."
    }

    private func outcome(_ sample: DialectSample) throws -> (RowDialects.Verdict, String) {
        var options = ExampleOptions()
        options.columns = sample.columns
        options.now = try #require(CivilTime(iso: "2024-01-01"))
        switch sample.objective {
        case "sft": options.kind = .supervised
        case "dpo": options.kind = .preference
        default: options.kind = .judged
        }
        let tokenizer = try byteTokenizer(specials: [
            "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<think>", "</think>",
        ])
        let builder = ExampleBuilder(
            tokenizer: tokenizer, template: try ChatTemplate(source: Self.template), options: options)
        do {
            let set = try builder.examples(from: [try JSONParser.parse(sample.row)])
            let example = try #require(set.examples.first)
            var texts = [renderPieces(trainedPieces(example, tokenizer: tokenizer), colour: false)]
            if let rejected = example.rejected {
                texts.append(renderPieces(trainedPieces(rejected, tokenizer: tokenizer), colour: false))
            }
            if case .label(let isGood)? = example.judgement { texts.append(isGood ? "good" : "bad") }
            let trained = texts.map { $0 == "good" || $0 == "bad" ? $0 : "`\(cell($0))`" }.joined(separator: "; ")
            let told = set.report.warnings.map { cell($0).replacingOccurrences(of: "<", with: "&lt;") }
            return (told.isEmpty ? .read : .told, ([trained] + told).joined(separator: "; "))
        } catch TextError.badRows(let faults, _) {
            let reasons = faults.map { ($0.lint.map { "`\($0.rawValue)`: " } ?? "") + cell(short($0.reason)) }
            return (.refused, reasons.joined(separator: "; ").replacingOccurrences(of: "<", with: "&lt;"))
        }
    }
}

struct DialectSample {
    var row: String
    var verdict: RowDialects.Verdict
    var objective = "sft"
    var columns: [ColumnName] = []

    init(
        _ verdict: RowDialects.Verdict, _ row: String, _ objective: String = "sft", columns: [(String, String)] = []
    ) {
        (self.row, self.verdict, self.objective) = (row, verdict, objective)
        self.columns = columns.map { ColumnName(key: $0.0, column: $0.1) }
    }
}
