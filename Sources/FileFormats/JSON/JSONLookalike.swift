/// What is nearly JSON, so that an error can say what was meant and how to write it.
enum JSONLookalike {
    private static let words: [(word: StaticString, reason: String)] = [
        ("NaN", "NaN is not JSON; write null, or leave the key out"),
        ("nan", "nan is not JSON; write null, or leave the key out"),
        ("Infinity", "Infinity is not JSON; write null, or leave the key out"),
        ("-Infinity", "-Infinity is not JSON; write null, or leave the key out"),
        ("-NaN", "NaN is not JSON; write null, or leave the key out"),
        ("None", "None is Python and not JSON; write null (json.dumps does)"),
        ("True", "True is Python and not JSON; write true (json.dumps does)"),
        ("False", "False is Python and not JSON; write false (json.dumps does)"),
        ("undefined", "undefined is JavaScript and not JSON; write null, or leave the key out"),
        ("//", "JSON has no comments; take them out"), ("/*", "JSON has no comments; take them out"),
        ("#", "JSON has no comments; take them out"),
        ("'", "texts and keys stand in double quotes in JSON, not in single ones (json.dumps writes them so)"),
        ("}", "a comma stands before the bracket that closes; take it out"),
        ("]", "a comma stands before the bracket that closes; take it out"),
    ]

    /// What stands at `position` in place of what was expected; nil for anything else.
    static func reason(at position: Int, in bytes: UnsafeBufferPointer<UInt8>) -> String? {
        for (word, reason) in words where begins(bytes, position, word) {
            if reason.hasPrefix("a comma"), !followsComma(bytes, position) { continue }
            return reason
        }
        return nil
    }

    private static func begins(_ bytes: UnsafeBufferPointer<UInt8>, _ position: Int, _ word: StaticString) -> Bool {
        guard word.utf8CodeUnitCount <= bytes.count - position else { return false }
        for i in 0..<word.utf8CodeUnitCount where bytes[position + i] != word.utf8Start[i] { return false }
        return true
    }

    private static func followsComma(_ bytes: UnsafeBufferPointer<UInt8>, _ position: Int) -> Bool {
        var i = position
        while i > 0, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[i - 1]) { i -= 1 }
        return i > 0 && bytes[i - 1] == UInt8(ascii: ",")
    }
}
