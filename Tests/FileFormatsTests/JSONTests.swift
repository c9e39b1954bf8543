import Testing

@testable import FileFormats

@Suite struct JSONTests {
    @Test(arguments: [3, 11, 12, 13, 40]) func duplicateKeysInSmallAndLargeObjects(count: Int) throws {
        let members = (0..<count).map { "\"k\($0)\":\($0)" } + ["\"k1\":-7"]
        let bytes = Array("{\(members.joined(separator: ","))}".utf8)
        let object = try #require(try JSONParser.parse(bytes).objectValue)
        #expect(object.count == count && object["k1"]?.intValue == -7 && object["k0"]?.intValue == 0)
        #expect(object.keys == (0..<count).map { "k\($0)" })
        do {
            _ = try JSONParser.parse(bytes, duplicateKeys: .refuse)
            Issue.record("a duplicate was accepted")
        } catch let error as JSONError {
            #expect(error.kind == .duplicateKey)
        }
    }
    @Test func keysThatAreOnlyCanonicallyEqual() throws {
        let object = try #require(try JSONParser.parse("{\"\u{E9}\":1,\"e\u{301}\":2}").objectValue)
        #expect(object.count == 2 && object["\u{E9}"]?.intValue == 1 && object["e\u{301}"]?.intValue == 2)
    }
    @Test func numbers() throws {
        for (text, value) in [
            ("0", 0), ("-0", 0), ("-12", -12), ("999999999999999999", 999_999_999_999_999_999),
            ("9223372036854775807", Int.max), ("-9223372036854775808", Int.min),
        ] {
            guard case .integer(value) = try JSONParser.parse(text) else {
                Issue.record("\(text)")
                continue
            }
        }
        for (text, value) in [("1e3", 1000), ("-0.5", -0.5), ("1E-2", 0.01), ("9223372036854775808.0", 0x1p63)] {
            guard case .double(value) = try JSONParser.parse(text) else {
                Issue.record("\(text)")
                continue
            }
        }
        for text in ["9223372036854775808", "-123456789012345678901234567890"] {
            let value = try JSONParser.parse(text)
            guard case .bigInteger = value else {
                Issue.record("\(text)")
                continue
            }
            #expect(JSONWriter.text(value) == text && value.doubleValue == Double(text) && value.intValue == nil)
        }
        #expect(throws: JSONError.self) { try JSONParser.parse(String(repeating: "9", count: 5_000)) }
        for text in ["01", "1.", ".5", "+1", "1e", "-", "1e999", "0x1", "NaN", "Infinity"] {
            #expect(throws: JSONError.self, "\(text)") { try JSONParser.parse(text) }
        }
    }
    @Test(arguments: [#""\ud800""#, #""\ud800\u0041""#, #""\x""#, "\"a\nb\"", #""a"#, #""\u12g4""#])
    func malformedStrings(text: String) {
        #expect(throws: JSONError.self) { try JSONParser.parse(text) }
    }
    @Test func strings() throws {
        let text = #""a\"\\\/\b\f\n\r\t\u0915\ud83d\ude00""#
        #expect(try JSONParser.parse(text).stringValue == "a\"\\/\u{8}\u{C}\n\r\t\u{915}\u{1F600}")
    }
    @Test func depthIsBounded() throws {
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        _ = try JSONParser.parse(nested(64))
        #expect(throws: JSONError.self) { try JSONParser.parse(nested(66)) }
        #expect(throws: JSONError.self) { try JSONParser.parse(String(repeating: "[{\"a\":", count: 100_000)) }
    }
    @Test func writerIsPythons() {
        let value: JSONValue = ["b": [1, 2.5, 1e-7, 1e16, .null, true], "a": "é\u{1}\u{7F}😀", "e": [], "o": [:]]
        #expect(
            JSONWriter.text(value) == #"{"b": [1, 2.5, 1e-07, 1e+16, null, true], "a": "é\u0001"# + "\u{7F}"
                + #"😀", "e": [], "o": {}}"#)
        #expect(JSONWriter.text(["a": "é😀"], .init(asciiOnly: true)) == #"{"a": "\u00e9\ud83d\ude00"}"#)
        #expect(
            JSONWriter.text(["b": 1, "a": [2]], .init(indent: 2, sortsKeys: true))
                == "{\n  \"a\": [\n    2\n  ],\n  \"b\": 1\n}")
    }
}
