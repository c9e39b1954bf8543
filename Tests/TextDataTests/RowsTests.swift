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
        let lines = (0..<50).map { "{\"input_ids\": [1, 2], \"labels\": [1, \($0 + 3)]}\n" }
        let file = try folder.write("a.jsonl", lines.joined())
        let error = #expect(throws: TextError.self) { try builder().examples(fromFiles: [file]) }
        guard case .badRows(let faults, let total)? = error else {
            Issue.record("\(error as Any)")
            return
        }
        #expect(faults.count == 20)
        #expect(total == 50)
        #expect(error?.description.contains("30 more bad rows") == true)
    }

    @Test func tellsOneReasonOnce() throws {
        let good = "{\"input_ids\": [1, 2]}\n", bad = "{\"q\": 1, \"a\": 2}\n"
        let file = try folder.write(
            "a.jsonl", String(repeating: bad, count: 300) + good + "{\"z\": 1}\n" + good + bad)
        let error = #expect(throws: TextError.self) { try builder().examples(fromFiles: [file]) }
        let lines = try #require(error).description.split(separator: "\n")
        #expect(lines.count == 3)
        #expect(lines[0].hasPrefix("\(file), rows 1-300, 304: found the keys \"q\", \"a\""))
        #expect(lines[1].hasPrefix("\(file), row 302: found the keys \"z\""))
        #expect(lines[2] == "302 bad rows. Correct or remove them.")
    }

    @Test func namesValuesThatAreMissing() throws {
        let file = try folder.write(
            "a.csv", "instruction,output,comment\nwhat,,seen\n,this,\n,,\n,,seen\n")
        let found = faults(file)
        #expect(found.map(\.row) == [2, 3, 5])
        #expect(found[0].reason == "\"output\" has no value" && found[0].lint == .noTrainedToken)
        #expect(found[1].reason.hasPrefix("\"instruction\" has no value;") && found[1].lint == nil)
        #expect(found[2].reason == "\"instruction\" and \"output\" have no value")
    }

    @Test(arguments: [
        ("sep=;\r\ninput_ids;label,s\r\n\"[1, 2]\";x\r\n", 3), ("input_ids;\"a,b,c\"\n\"[1, 2]\";x\n", 2),
        ("input_ids\tlabel\n[1, 2]\tx\n", 2), ("input_ids\n\"[1, 2]\"\n", 2), ("a;b,input_ids\nx,\"[1, 2]\"\n", 2),
    ])
    func spreadsheetsSeparateAsTheyLike(_ text: String, _ row: Int) throws {
        let set = try builder().examples(fromFiles: [try folder.write("a.csv", text)])
        #expect(set.examples.map(\.ids) == [[1, 2]])
        #expect(set.places.map(\.row) == [row])
    }

    @Test(arguments: [
        ("[{\"input_ids\": [1, 2]}", 2, "ends inside its array"),
        ("[{\"input_ids\": [1, 2]", 1, "ends inside its array"),
        ("[{\"input_ids\": [1, 2]},]", 2, "comma"), ("[{\"input_ids\": [1, 2]}] x", 2, "after the end"),
        ("[{\"input_ids\": [1, 2]} {}]", 2, "expected ','"), ("[,]", 1, "malformed"),
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
        #"{"messages": [{"role": "assistant", "content": "x", "weight": -1}]}"#,
        #"{"messages": [{"role": "assistant", "content": "x"}], "tools": 5}"#,
    ])
    func badShapes(_ json: String) throws {
        #expect(throws: RowError.self) { try Row(try JSONParser.parse(json)) }
    }

    // MARK: Tables and compressed files

    private func texts(_ name: String, _ bytes: [UInt8], columns: [ColumnName] = []) throws -> [String] {
        let path = try folder.write(name, bytes: bytes)
        var source = RowSource(paths: [path], columns: columns)
        return try source.next(100).map { row in
            do { return JSONWriter.text(try row.value(), .compact) } catch let error as RowError {
                return "row \(row.number): \(error.reason)"
            }
        }
    }

    @Test func readsCommaSeparatedText() throws {
        let text = "prompt,completion,n\r\n\"a, \"\"b\"\"\nc\",x y,\r\n\r\n\"\",\u{915},3"
        #expect(
            try texts("a.csv", Array(text.utf8)) == [
                #"{"prompt":"a, \"b\"\nc","completion":"x y","n":null}"#, #"{"prompt":"","completion":"क","n":"3"}"#,
            ])
        #expect(try texts("b.csv", Array("a;b\n1,5;2\n".utf8)) == [#"{"a":"1,5","b":"2"}"#])
        #expect(
            try texts("c.tsv", Array("a\tb\n\"x\" y\t\"q \"\"r\"\"\"\n".utf8)) == [#"{"a":"\"x\" y","b":"q \"r\""}"#])
        #expect(try texts("d.txt", Array("one\r\n\n two ".utf8)) == [#"{"text":"one"}"#, #"{"text":" two "}"#])
    }

    @Test func faultsOfTablesNameTheRow() throws {
        func one(_ name: String, _ text: String) throws -> String { try texts(name, Array(text.utf8)).last ?? "" }
        #expect(try one("a.csv", "a,b\n1,2\n1\n").contains("row 3: 1 fields; the first row names 2 columns"))
        #expect(try one("b.csv", "a,b\n\"x\"y,2\n").contains("row 2: text follows the quote"))
        #expect(try one("c.csv", "a,b\n\"x,2\n").contains("row 2: a quoted field is not closed"))
        #expect(try one("d.csv", "a,a\n1,2\n").contains("two columns are named"))
        #expect(try one("e.csv", "a,\n1,2\n").contains("column 2 has no name"))
        let bad = try texts("f.csv", Array("a,b\nx,".utf8) + [0xC3, 0x28])
        #expect(
            bad.last?.contains("row 2: the column \"b\" is not UTF-8 (byte 0 of the field; the row begins at byte 4")
                == true)
        let line = try texts("g.txt", Array("ok\n".utf8) + [0x61, 0xFF])
        #expect(line.last?.contains("not valid UTF-8 at byte 4 of the file") == true)
        let json = try texts("h.jsonl", Array("{}\n{\"text\": \"".utf8) + [0xFF] + Array("\"}".utf8))
        #expect(json.last?.contains("not valid Unicode at byte 13 of the file") == true, "\(json)")
    }

    @Test func readsCompressedFilesWhateverTheirName() throws {
        let packed = try Zstd.compress(Array("{\"input_ids\": [1, 2]}\n{\"input_ids\": [3, 4]}".utf8))
        #expect(try ids(try folder.write("a.jsonl.zst", bytes: packed)) == [[1, 2], [3, 4]])
        #expect(try ids(try folder.write("b", bytes: packed)) == [[1, 2], [3, 4]])
        let cut = try folder.write("c.jsonl.zst", bytes: Array(packed.dropLast(3)))
        let error = #expect(throws: TextError.self) { try ids(cut) }
        #expect(error?.exitStatus == .badInput && error?.description.contains("cut short") == true)
        let table = try Zstd.compress(Array("input_ids\n\"[1, 2]\"\n".utf8))
        #expect(try ids(try folder.write("d.csv.zst", bytes: table)) == [[1, 2]])
    }

    @Test func columnsHaveOtherNames() throws {
        let columns = [ColumnName(key: "input_ids", column: "row.ids"), ColumnName(key: "labels", column: "want")]
        var builder = builder()
        builder.options.columns = columns
        let file = try folder.write("a.jsonl", "{\"row\": {\"ids\": [1, 2]}, \"want\": [-100, 2]}")
        #expect(try builder.examples(fromFiles: [file]).examples.map(\.isTrained) == [[false, true]])
        let other = try folder.write("b.jsonl", "{\"row\": {\"ids\": [1, 2]}}")
        let error = #expect(throws: TextError.self) { try builder.examples(fromFiles: [other]) }
        #expect(error?.description.contains("no column \"want\" (for labels)") == true)
    }

    @Test func unknownFilesAreRefused() throws {
        let file = try folder.write("a.dat", "hello")
        let error = #expect(throws: TextError.self) { try ids(file) }
        #expect(error?.description.contains("csv:-") == true)
        let wide = try folder.write("b.csv", bytes: [0xFF, 0xFE, 0x61, 0])
        #expect(throws: TextError.self) { try ids(wide) }
    }

    @Test func reportSaysWhatRowsWereTakenFor() throws {
        let file = try folder.write("a.jsonl", "{\"input_ids\": [1, 2]}\n{\"input_ids\": [3, 4]}")
        let report = try builder().examples(fromFiles: [file]).report
        #expect(report.shapes == [.tokens: 2] && report.kinds == ["JSON lines": 1])
    }

    @Test(arguments: [
        #"{"messages": "[{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"r\"}]"}"#,
        #"{"messages": {"role": ["user", "assistant"], "content": ["q", "r"]}}"#,
        #"{"messages": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "r"}]}"#,
        #"{"conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]}"#,
    ])
    func conversationsInOtherForms(_ json: String) throws {
        guard case .conversation(let found) = try Row(try JSONParser.parse(json)) else {
            Issue.record("no conversation")
            return
        }
        #expect(found.messages.map { $0["content"]?.stringValue } == ["q", "r"])
        #expect(found.isTrainable == [false, true])
    }

    @Test func olderCallsAndFunctions() throws {
        let row = try Row(
            try JSONParser.parse(
                """
                {"functions": [{"name": "f"}], "messages": [{"role": "user", "content": "q"}, {"role": "assistant",
                "content": null, "function_call": {"name": "f", "arguments": "{\\"a\\": 1}"}}]}
                """))
        guard case .conversation(let found) = row else {
            Issue.record("no conversation")
            return
        }
        #expect(found.tools?[0]?["function"]?["name"]?.stringValue == "f")
        #expect(found.messages[1]["tool_calls"]?[0]?["function"]?["arguments"]?["a"]?.intValue == 1)
    }
}
