import FileFormats
import Foundation
import Testing

@testable import TextData

/// The worked examples in `datasets/shapes` are what their page says, for the model that comes with the repository.
struct ShapesTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path
    private static func path(_ name: String) -> String { "\(root)/datasets/shapes/\(name)" }

    private func builder(_ change: (inout ExampleOptions) -> Void = { _ in }) throws -> ExampleBuilder {
        var options = ExampleOptions()
        change(&options)
        let folder = Self.root + "/recipes/sapling"
        return ExampleBuilder(
            tokenizer: try Tokenizer(path: folder), template: try ChatTemplate.loadIfPresent(folder: folder),
            options: options)
    }

    @Test(
        "each file is read as its shape, and what its page says is trained",
        arguments: [
            (
                "messages.jsonl", .messages,
                ["On Saturdays the library closes at four in the afternoon.", "हाँ, हर किताब"], ["शायद"]
            ),
            ("tools.jsonl", .messages, ["leave at 14:05 and 14:35", "No bus leaves"], ["Next two buses"]),
            (
                "sharegpt.jsonl", .sharegpt, ["mostly heat or dry soil", "feed them with a little nitrogen"],
                ["You help gardeners"]
            ),
            (
                "alpaca.jsonl", .alpaca,
                ["please have the heater repaired", "One hundred and eight rolls", "Nine trays"], ["a tray holds"]
            ),
            ("completion.jsonl", .completion, [" hardware", "accounts"], ["blank pages", "log in"]),
            ("text.jsonl", .text, ["The ferry leaves", "रविवार को बंद"], []),
            ("lines.txt", .text, ["mill pond freezes", "asks the warden"], []),
        ] as [(String, RowShape, [String], [String])])
    func trained(_ name: String, _ shape: RowShape, _ wanted: [String], _ unwanted: [String]) throws {
        let builder = try builder()
        let set = try builder.examples(fromFiles: [Self.path(name)])
        #expect(set.report.shapes == [shape: set.report.rows] && set.report.rows == 2 && set.examples.count == 2)
        let tokenizer = try #require(builder.tokenizer)
        let text = set.examples.flatMap { trainedRuns($0, tokenizer) }.joined(separator: "\n")
        for part in wanted { #expect(Text(text).contains(Text(part)), "\(part) is not trained: \(text)") }
        for part in unwanted { #expect(!Text(text).contains(Text(part)), "\(part) is trained: \(text)") }
    }

    @Test func tokensAreTakenAsTheyAre() throws {
        let set = try builder { $0.accepts = [.noEndOfTurn] }.examples(fromFiles: [Self.path("tokens.jsonl")])
        #expect(set.examples.map(\.ids) == [[1, 17, 42, 9, 2], [1, 23, 8, 2]])
        #expect(set.examples.map(\.trainedCount) == [3, 2])
        // The rows end with the model's own end of text.
        #expect(try builder().examples(fromFiles: [Self.path("tokens.jsonl")]).examples.count == 2)
    }

    @Test(arguments: ["table.csv", "table.tsv"])
    func tablesTakeAColumnMap(_ name: String) throws {
        let builder = try builder {
            $0.columns = [
                ColumnName(key: "prompt", column: "question"), ColumnName(key: "completion", column: "answer"),
            ]
        }
        let set = try builder.examples(fromFiles: [Self.path(name)])
        #expect(set.report.shapes == [.completion: 2] && set.examples.count == 2)
    }

    @Test(arguments: [("preference.jsonl", "preference row"), ("kto.jsonl", "KTO row")])
    func whatAnotherObjectiveLearnsFromIsRecognised(_ name: String, _ text: String) throws {
        let error = #expect(throws: TextError.self) { try builder().examples(fromFiles: [Self.path(name)]) }
        #expect(error?.description.contains(text) == true && error?.description.contains("rows 1, 2") == true)
        let set = try builder { $0.kind = name == "kto.jsonl" ? .judged : .preference }.examples(
            fromFiles: [Self.path(name)])
        #expect(set.examples.count == 6 && set.examples.allSatisfy { $0.judgement != nil })
        let survey = TextSurvey(tokenizers: [try Tokenizer(path: Self.root + "/recipes/sapling")])
        let found = try survey.run(files: [Self.path(name)])[0]
        #expect(found.texts >= 4 && found.total.words > 20)
    }
}
