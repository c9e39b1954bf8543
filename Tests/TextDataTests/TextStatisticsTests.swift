import FileFormats
import Testing

@testable import TextData

struct TextStatisticsTests {
    private func survey(_ text: String, _ change: (inout TextSurvey) -> Void = { _ in }) throws -> [TextStatistics] {
        let folder = try TemporaryFolder()
        let file = try folder.write("a.jsonl", text)
        var survey = TextSurvey(tokenizers: [try byteTokenizer()])
        change(&survey)
        return try survey.run(files: [file])
    }

    @Test func countsByScript() throws {
        let found = try survey("{\"text\": \"ab cd, हिन्दी 12\"}\n{\"prompt\": \"x\", \"completion\": \"y\"}\n")[0]
        // Every byte is a token here; punctuation and digits go with the word before, spaces with the one after.
        #expect(found.texts == 3 && found.failures == 0)
        let latin = try #require(found.groups["Latin"]), hindi = try #require(found.groups["Devanagari"])
        #expect((latin.bytes, latin.words, latin.tokens, latin.byteTokens) == (8, 4, 8, 0))
        #expect((hindi.bytes, hindi.words, hindi.tokens, hindi.byteTokens) == (22, 2, 22, 18))
        #expect(found.total.tokens == 30 && found.total.fertility == 5 && found.total.bytesPerToken == 1)
        // ByteLevel's pattern cuts vowel signs off: ह, ि, न, ्, द, ी and the number.
        #expect(hindi.pieces >= 7 && latin.pieces == 5)
    }

    @Test func everyShapeAndGroupingIsRead() throws {
        let rows = """
            {"messages": [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "c"}], "lang": "x"}
            {"prompt": "a", "chosen": "b", "rejected": [{"role": "assistant", "content": "c d"}], "lang": "y"}
            {"prompt": "a", "completion": "b", "label": true, "lang": "x"}
            "plain"
            """
        let found = try survey(String(rows.dropLast(8)), { $0.grouping = .key("lang") })[0]
        #expect(found.groups["x"]?.words == 5 && found.groups["y"]?.words == 4)
        #expect(try survey(rows)[0].total.words == 10)
        #expect(throws: TextError.self) { try survey("{\"input_ids\": [1]}") }
        #expect(throws: TextError.self) { try survey(rows) { $0.grouping = .key("lang") } }
    }

    @Test func threadsChangeNothing() throws {
        var rows = PlantedRows(seed: 3)
        var text = ""
        for _ in 0..<600 { text += JSONWriter.text(["text": .string(rows.sentence())], .compact) + "\n" }
        let one = try survey(text) { $0.threads = 1 }[0], four = try survey(text) { $0.threads = 4 }[0]
        #expect(one.groups == four.groups && one.total == four.total && one.groups.count > 8)
        #expect(one.total.bytes == one.total.tokens)
    }
}
