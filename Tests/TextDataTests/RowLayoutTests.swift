import FileFormats
import Foundation
import Testing

@testable import TextData

/// What rows lie in: JSON of several layouts, tables as other programs write them, and files that only look like rows.
struct RowLayoutTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    /// Each row as JSON, or its fault, with its number.
    private func read(_ name: String, _ bytes: [UInt8], columns: [ColumnName] = []) throws -> [String] {
        var source = RowSource(paths: [try folder.write(name, bytes: bytes)], columns: columns)
        var found: [String] = []
        while true {
            let rows = try source.next(100)
            if rows.isEmpty { return found }
            found += rows.map { row in
                do { return "\(row.number): " + JSONWriter.text(try row.value(), .compact) } catch {
                    return "\(row.number)! " + ((error as? RowError)?.reason ?? "\(error)")
                }
            }
        }
    }
    private func read(_ name: String, _ text: String, columns: [ColumnName] = []) throws -> [String] {
        try read(name, Array(text.utf8), columns: columns)
    }
    private func refusal(_ name: String, _ bytes: [UInt8]) -> String {
        do { return "read: \(try read(name, bytes))" } catch { return "\(error)" }
    }

    private static let one = #"1: {"text":"a"}"#, two = #"2: {"text":"b"}"#

    @Test(arguments: [
        // Objects over several lines, one after the other, with and without a line end between.
        "{\n  \"text\": \"a\"\n}\n{\n  \"text\": \"b\"\n}\n", "{\n\"text\":\n\"a\"}{\"text\": \"b\"\n}",
        "{\n \"text\": \"a\"}\n\n\n{\"text\": \"b\"}",
        "{\"text\": \"a\"} {\"text\": \"b\"}", "{\"text\": \"a\"}\r{\"text\": \"b\"}\r",
        "\n{\"text\": \"a\"\r\n}\r\n{\"text\": \"b\"}\r\n",
        // Rows under a key.
        "{\"data\": [{\"text\": \"a\"}, {\"text\": \"b\"}]}",
        "{\"v\": 1, \"tags\": [\"x\"], \"rows\": [\n{\"text\": \"a\"}\n,{\"text\": \"b\"}]\n}\n",
        "{\"data\": [ {\"text\": \"a\"}, {\"text\": \"b\"} ], \"n\": {\"a\": [{}]}, \"none\": []}",
        "[{\"text\": \"a\"}, {\"text\": \"b\"}]",
    ])
    func objectsLieInManyLayouts(_ text: String) throws {
        for name in ["a.json", "a.jsonl", "a"] { #expect(try read(name, text) == [Self.one, Self.two], "\(name)") }
    }

    @Test func oneObjectIsARow() throws {
        #expect(try read("a.json", "{\n  \"text\": \"a\"\n}\n") == [Self.one])
        #expect(try read("a.json", "{\"text\": \"a\"}") == [Self.one])
        // Not what it holds: the keys are those of a row.
        let row = #"{"messages":[{"role":"user"}],"tools":[{"name":"f"}]}"#
        #expect(try read("b.json", row) == ["1: " + row])
        // Nor where a column has another name.
        let renamed = #"{"dialog":[{"role":"user"}]}"#
        #expect(
            try read("c.json", renamed, columns: [ColumnName(key: "messages", column: "dialog")]) == ["1: " + renamed])
    }

    @Test func linesKeepTheirNumbers() throws {
        #expect(
            try read("a.jsonl", "\n\n{\"text\": \"a\"}\n \t\n{\"text\": \"b\"}\n\n")
                == [#"3: {"text":"a"}"#, #"5: {"text":"b"}"#])
        // A first line that is damaged does not take the others along.
        #expect(try read("b.jsonl", "{\"text\": \"a\n{\"text\": \"b\"}\n").last == Self.two)
        #expect(try read("c.jsonl", "{\"text\": [1\n{\"text\": \"b\"}\n").last == Self.two)
    }

    @Test func severalListsAreNamed() throws {
        let small = "{\"train\": [{\"text\": \"a\"}], \"validation\": [{\"text\": \"b\"}]}"
        #expect(refusal("a.json", Array(small.utf8)).contains(#"several keys: "train" and "validation""#))
        // Longer than what is looked at before reading begins.
        let filler = String(repeating: "x", count: 2 << 20)
        let large = "{\"train\": [{\"text\": \"\(filler)\"}], \"validation\": [{\"text\": \"b\"}]}"
        let found = try read("b.json", large)
        #expect(found.count == 2 && found[1].contains(#"several keys: "train" and "validation""#))
        #expect(refusal("c.json", Array("{\"data\": []}".utf8)).contains("no rows"))
        #expect(
            try read("d.json", "{\"data\": [{\"text\": \"a\"}]").last?.contains("ends inside of the object") == true)
        #expect(
            try read("e.json", "{\n\"text\": \"a\"},\n{\"text\": \"b\"}").last?.contains("a comma stands between")
                == true)
    }

    @Test(arguments: [
        ("{\"a\": NaN}", "NaN is not JSON"), ("{\"a\": [1, -Infinity]}", "-Infinity is not JSON"),
        ("{\"a\": None}", "None is Python"), ("{\"a\": True}", "write true"), ("{'a': 1}", "double quotes"),
        ("{\"a\": 'b'}", "double quotes"), ("{\"a\": 1 // b\n}", "no comments"), ("{\"a\": 1} # b", "no comments"),
        ("{\"a\": 1,}", "a comma stands before"), ("{\"a\": 1, \"a\": 2}", "\"a\" stands twice"),
        ("{\"b\": {\"a\": 1, \"a\": 1}}", "\"a\" stands twice"),
    ])
    func whatIsNearlyJSONIsNamed(_ text: String, _ reason: String) throws {
        let found = try read("a.jsonl", text)
        #expect(found.first?.hasPrefix("1! malformed JSON at byte") == true && found[0].contains(reason), "\(found)")
    }

    @Test func otherFilesAreNamed() {
        func wide(_ text: String, _ encoding: String.Encoding) -> [UInt8] {
            Array(text.data(using: encoding) ?? Data())
        }
        for name in ["a.jsonl", "a.csv", "a"] {
            for encoding in [String.Encoding.utf16LittleEndian, .utf16BigEndian] {
                #expect(refusal(name, wide("{\"text\": \"a\"}", encoding)).contains("UTF-16 without a byte order mark"))
            }
            #expect(refusal(name, wide("text,b\n", .utf32LittleEndian)).contains("UTF-32"))
            let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
            #expect(refusal(name, Array(pointer.utf8)).contains("Git LFS pointer"))
            #expect(refusal(name, Array("\n<!DOCTYPE html>\n<html>".utf8)).contains("HTML page"))
            #expect(refusal(name, [0x50, 0x4B, 3, 4, 0]).contains("workbook"))
            for blank in ["", "\n", " \r\n\t\n", "\u{FEFF}\n"] {
                #expect(refusal(name, Array(blank.utf8)).contains("no rows"))
            }
        }
        #expect(refusal("a.txt", Array("<html>".utf8)).contains("read: "))
    }

    // MARK: Tables

    @Test(arguments: [
        // As pandas writes its index; a delimiter at the end of each line; both with the marks of other programs.
        ",text,n\n0,a,1\n1,b,2\n", "\u{FEFF},text,n\r\n0,a,1\r\n1,b,2\r\n", "text,n,\na,1,\nb,2,\n",
        "text,n\na,1,\nb,2,,\n",
        "\"\",\"text\",\"n\"\n\"0\",\"a\",\"1\"\n\"1\",\"b\",\"2\"", "text,n\ra,1\rb,2\r", "text,n\ra,1\rb,2",
        "text;n\r\na;1\r\nb;2\r\n",
    ])
    func tablesOfOtherPrograms(_ text: String) throws {
        #expect(try read("a.csv", text) == [#"2: {"text":"a","n":"1"}"#, #"3: {"text":"b","n":"2"}"#])
        guard !text.contains("\"") else { return }
        let tabs = text.replacingOccurrences(of: ",", with: "\t").replacingOccurrences(of: ";", with: "\t")
        #expect(try read("a.tsv", tabs).count == 2)
    }

    @Test func tablesCountTheirRecords() throws {
        #expect(
            try read("a.csv", "\n\ntext,n\n\n,\n \na,1\n\"b\nc\",2\nd\n") == [
                #"7: {"text":"a","n":"1"}"#, #"8: {"text":"b\nc","n":"2"}"#,
                "9! 1 fields; the first row names 2 columns",
            ])
        #expect(try read("b.csv", "a,,c\n1,2,3\n")[0].contains("column 2 has no name"))
        #expect(try read("c.csv", "\"\",\n1,2\n")[0].contains("no column has a name"))
        #expect(try read("d.csv", "a,b\n1,2,3\n")[0].contains("3 fields"))
        #expect(refusal("e.csv", Array("text,n\n".utf8)).contains("no rows"))
        #expect(try read("f.txt", "one\rtwo\r") == [#"1: {"text":"one"}"#, #"2: {"text":"two"}"#])
        #expect(try read("g", "prompt,completion\na,b\n") == [#"2: {"prompt":"a","completion":"b"}"#])
    }

    // MARK: What unpacks to more than it should

    /// Packed files whose content is `parts`, each as often as it says.
    private func packed(_ parts: (text: String, count: Int)...) throws -> [UInt8] {
        try parts.flatMap { part in
            let size = part.text.utf8.count * part.count
            var bytes = Array(part.text.utf8)
            while bytes.count < size { bytes += bytes.prefix(size - bytes.count) }
            return try Zstd.compress(bytes)
        }
    }

    @Test(arguments: ["\n", "\r\n", " ", ",,\n", "   \n"])
    func blankContentIsPassedOver(_ blank: String) throws {
        let count = (6 << 20) / blank.utf8.count
        let lines = blank.contains("\n") ? count : 0
        if !blank.contains(",") {
            let rows = try packed(
                (blank, count), ("{\"text\": \"a\"}\n", 1), (blank, count), ("\n{\"text\": \"b\"}", 1))
            #expect(
                try read("a.jsonl", rows) == [
                    "\(lines + 1): {\"text\":\"a\"}", "\(2 * lines + 3): {\"text\":\"b\"}",
                ])
            let array = try packed(
                (blank, count), ("[{\"text\": \"a\"}", 1), (blank, count), (",{\"text\": \"b\"}]", 1))
            #expect(try read("a.json", array) == [Self.one, Self.two])
        }
        guard blank != " " else { return }
        let records = try packed(("text,n\n", 1), (blank, count), ("\na,1\n", 1), (blank, count))
        #expect(try read("a.csv", records).first?.hasSuffix(#"{"text":"a","n":"1"}"#) == true)
    }

    @Test func rowsThatUnpackWithoutEndAreRefused() throws {
        let long = 8 << 20
        for (name, head) in [
            ("a.jsonl", "{\"text\": \""), ("a.json", "[{\"text\": \""), ("a.txt", "x"), ("a.csv", "text,n\nx"),
        ] {
            let found = try read(name, packed((head, 1), ("a", long)))
            #expect(found.last?.contains("longer than 4 MiB and was packed in") == true, "\(name): \(found.count)")
        }
        #expect(
            try read("b.csv", packed(("a", long))).last?.contains("names the columns, is longer than 1 MiB") == true)
        #expect(try read("b.tsv", packed(("a", 2 << 20))).last?.contains("names the columns, is longer") == true)
        #expect(try read("c.csv", packed(("a,", 300_000))).last?.contains("more than the 16384") == true)
        #expect(
            try read("d.csv", packed(("a,b\n", 1), ("c,", 1 << 20), ("\n", 1))).last?.contains("1048577 fields") == true
        )
    }
}
