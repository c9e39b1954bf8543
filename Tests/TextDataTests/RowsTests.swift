import FileFormats
import Testing

@testable import TextData

struct RowsTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    func builder() -> ExampleBuilder { ExampleBuilder(tokenizer: nil, template: nil, vocabularySize: 100) }
    func ids(_ paths: String...) throws -> [[Int32]] { try builder().examples(fromFiles: paths).examples.map(\.ids) }
    func faults(_ path: String) -> [RowFault] {
        do {
            _ = try builder().examples(fromFiles: [path])
            return []
        } catch TextError.badRows(let faults, _) {
            return faults
        } catch {
            Issue.record("\(error)")
            return []
        }
    }

    @Test func readsLinesAndArrays() throws {
        let lines = try folder.write(
            "a.jsonl", "\u{FEFF}\n{\"input_ids\": [1, 2]}\r\n\n  {\"input_ids\": [3, 4]}  \n{\"input_ids\": [5, 6]}")
        let array = try folder.write(
            "b.json", "\n [ {\"input_ids\": [1, 2], \"x\": \"],}\\\"[\"} ,\n{\"input_ids\": [3, 4]} ]\n")
        #expect(try ids(lines) == [[1, 2], [3, 4], [5, 6]])
        #expect(try ids(array) == [[1, 2], [3, 4]])
        #expect(try ids(folder.path + "/*.json*") == [[1, 2], [3, 4], [5, 6], [1, 2], [3, 4]])
    }

    @Test func rowsLongerThanAChunkAreWhole() throws {
        let filler = String(repeating: "x", count: RowFile.chunkSize + 10)
        let row = "{\"input_ids\": [1, 2], \"note\": \"\(filler)\"}"
        let lines = try folder.write("a.jsonl", Array(repeating: row, count: 3).joined(separator: "\n"))
        let array = try folder.write("b.json", "[" + Array(repeating: row, count: 3).joined(separator: ",") + "]")
        #expect(try ids(lines).count == 3)
        #expect(try ids(array).count == 3)
    }

    @Test func namesEveryBadLine() throws {
        let file = try folder.write(
            "a.jsonl",
            "{\"input_ids\": [1, 2]}\n{\"input_ids\": [1\n\n{\"tokens\": 1, \"b\": 2}\n[1]\n{}\n{\"text\": 5}\n")
        let found = faults(file)
        #expect(found.map(\.row) == [2, 4, 5, 6, 7])
        #expect(found.allSatisfy { $0.file == file })
        #expect(found[0].reason.contains("malformed JSON"))
        #expect(found[1].reason.contains("\"tokens\", \"b\"") && found[1].reason.contains("\"messages\""))
        #expect(found[2].reason.contains("expected an object"))
        #expect(found[4].reason.contains("\"text\": expected a string"))
    }

    @Test func capsTheFaultsItNames() throws {
        let file = try folder.write("a.jsonl", String(repeating: "{\n", count: 50))
        let error = #expect(throws: TextError.self) { try builder().examples(fromFiles: [file]) }
        guard case .badRows(let faults, let total)? = error else {
            Issue.record("\(error as Any)")
            return
        }
        #expect(faults.count == 20)
        #expect(total == 50)
        #expect(error?.description.contains("30 more bad rows") == true)
    }

    @Test(arguments: [
        ("[{\"input_ids\": [1, 2]}", 1, "ends inside its array"),
        ("[{\"input_ids\": [1, 2]", 1, "ends inside its array"),
        ("[{\"input_ids\": [1, 2]},]", 2, "comma"), ("[{\"input_ids\": [1, 2]}] x", 2, "after the end"),
        ("[{\"input_ids\": [1, 2]} {}]", 1, "malformed JSON"), ("[,]", 1, "malformed"),
    ])
    func brokenArrays(_ text: String, _ row: Int, _ reason: String) throws {
        let found = faults(try folder.write("a.json", text))
        #expect(found.first?.row == row)
        #expect(found.first?.reason.contains(reason) == true, "\(found)")
    }

    @Test func textThatIsNotUnicodeIsAnError() throws {
        #expect(faults(try folder.write("a.jsonl", "{\"text\": \"\\ud800\"}")).map(\.row) == [1])
        let bytes = Array("{\"text\": \"".utf8) + [0xFF, 0xFE] + Array("\"}".utf8)
        #expect(faults(try folder.write("b.jsonl", bytes: bytes)).first?.reason.contains("UTF-8") == true)
    }

    @Test func missingAndEmptyFiles() throws {
        for pattern in ["/nothing.jsonl", "/*.nothing"] {
            let error = #expect(throws: TextError.self) { try builder().examples(fromFiles: [folder.path + pattern]) }
            #expect(error?.exitStatus == .missingInput)
        }
        for (name, text) in [("a", ""), ("b", "\n\n  \n"), ("c", "[]")] {
            let file = try folder.write(name, text)
            let error = #expect(throws: TextError.self) { try builder().examples(fromFiles: [file]) }
            guard case .emptyData? = error else {
                Issue.record("\(name): \(error as Any)")
                continue
            }
        }
        #expect(throws: TextError.self) { try builder().examples(fromFiles: [folder.path]) }
    }

    @Test func shareGPTRolesAndCalls() throws {
        let row = try Row(
            try JSONParser.parse(
                """
                {"conversations": [{"from": "human", "value": "q"},
                {"from": "function_call", "value": "{\\"name\\": \\"f\\", \\"arguments\\": \\"{\\\\\\"a\\\\\\": 1}\\"}"},
                {"from": "observation", "value": "o"}, {"from": "gpt", "value": "r"}], "system": "s",
                "tools": "[{\\"name\\": \\"f\\"}]"}
                """))
        guard case .conversation(let conversation) = row else {
            Issue.record("\(row)")
            return
        }
        #expect(
            conversation.messages.map { $0["role"]?.stringValue } == [
                "system", "user", "assistant", "tool", "assistant",
            ])
        #expect(conversation.messages[2]["tool_calls"]?[0]?["function"]?["arguments"]?["a"]?.intValue == 1)
        #expect(conversation.tools?.arrayValue?.count == 1)
        #expect(conversation.isTrainable == [false, false, true, false, true])
    }

    @Test func toolArgumentsMayBeTextOrObject() throws {
        for arguments in [#"{"city": "Pune"}"#, #""{\"city\": \"Pune\"}""#] {
            let row = try Row(
                try JSONParser.parse(
                    """
                    {"messages": [{"role": "user", "content": "w"}, {"role": "assistant", "tool_calls":
                    [{"type": "function", "function": {"name": "w", "arguments": \(arguments)}}]}]}
                    """))
            guard case .conversation(let conversation) = row else {
                Issue.record("\(row)")
                return
            }
            let call = conversation.messages[1]["tool_calls"]?[0]?["function"]
            #expect(call?["arguments"]?["city"]?.stringValue == "Pune")
        }
    }

    @Test(arguments: [
        #"{"messages": []}"#, #"{"messages": [{"content": "x"}]}"#, #"{"messages": [{"role": "user"}]}"#,
        #"{"messages": [{"role": "user", "content": 5}]}"#, #"{"messages": "x"}"#, #"{"messages": [5]}"#,
        #"{"conversations": [{"from": "alien", "value": "x"}]}"#, #"{"prompt": "x"}"#,
        #"{"prompt": 1, "completion": "x"}"#, #"{"prompt": "x", "chosen": "y", "rejected": "z"}"#,
        #"{"messages": [{"role": "assistant", "content": "x", "weight": 2}]}"#,
        #"{"messages": [{"role": "assistant", "content": "x"}], "tools": 5}"#,
    ])
    func badShapes(_ json: String) throws {
        #expect(throws: RowError.self) { try Row(try JSONParser.parse(json)) }
    }
}
