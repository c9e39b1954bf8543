/// Puts links around addresses in escaped text, as Jinja's `urlize` recognises them.
struct Linker {
    let trimLimit: Int?
    /// ` rel="..."` and ` target="..."`, escaped.
    var attributes = ""
    var extraSchemes: [String] = []

    init(trimLimit: Int?) { self.trimLimit = trimLimit }

    private static let address = try? OnigurumaRegex(
        #"(?i)\A((https?://|www\.)(([\w%-]+\.)+)?([a-z]{2,63}|xn--[\w%]{2,59})"#
            + #"|([\w%-]{2,63}\.)+(com|net|int|edu|gov|org|info|mil)"#
            + #"|(https?://)(((\d{1,3})(\.\d{1,3}){3})|(\[([\da-f]{0,4}:){2}([\da-f]{0,4}:?){1,6}\])))"#
            + #"(?::\d{1,5})?(?:[/?#]\S*)?\z"#)
    private static let mail = try? OnigurumaRegex(#"\A\S+@\w[\w.-]*\.\w+\z"#)
    private static let scheme = try? OnigurumaRegex(#"\A[\w.+-]{2,}:/{0,2}\z"#)

    private static func matches(_ regex: OnigurumaRegex?, _ text: String) throws -> Bool {
        var isFound = false
        do {
            try Array(text.utf8).withUnsafeBufferPointer { bytes in
                try regex?.forEachMatch(in: bytes) { _ in isFound = true }
            }
        } catch {
            throw TemplateFault("urlize takes too long on a word", kind: .limit)
        }
        return isFound
    }

    static func isScheme(_ text: Text) -> Bool { (try? matches(scheme, text.description)) ?? false }

    /// Words and the white space between them, each looked at by itself.
    func linked(_ text: [Unicode.Scalar]) throws -> String {
        var result = ""
        var start = 0
        while start < text.count {
            let isSpace = Text.isSpace(text[start])
            let end = text[start...].firstIndex { Text.isSpace($0) != isSpace } ?? text.count
            let word = Text(text[start..<end]).description
            result += isSpace ? word : try linked(word: word)
            start = end
        }
        return result
    }

    private func linked(word: String) throws -> String {
        var middle = word.unicodeScalars[...]
        var (head, tail) = (Substring.UnicodeScalarView(), Substring.UnicodeScalarView())
        func token(_ texts: [String], _ isAt: (String) -> Bool) -> String? { texts.first(where: isAt) }
        while let mark = token(["(", "<", "&lt;"], { middle.starts(with: $0.unicodeScalars) }) {
            head += mark.unicodeScalars
            middle = middle.dropFirst(mark.unicodeScalars.count)
        }
        while let mark = token([")", ">", ".", ",", "&gt;"], { Self.ends(middle, $0) }) {
            tail = Substring.UnicodeScalarView(mark.unicodeScalars[...]) + tail
            middle = middle.dropLast(mark.unicodeScalars.count)
        }
        var (body, rest) = (Text(middle), Text(tail))
        for (open, close): (Text, Text) in [("(", ")"), ("<", ">"), ("&lt;", "&gt;")] {
            let opened = body.occurrences(of: open)
            guard opened > body.occurrences(of: close) else { continue }
            // What closes brackets of the address belongs to it.
            for _ in 0..<min(opened, rest.occurrences(of: close)) {
                guard let place = rest.firstOffset(of: close) else { break }
                let end = place + close.bytes.count
                body.bytes += rest.bytes[..<end]
                rest = Text(rest.bytes[end...])
            }
        }
        return String(head) + (try link(body.description)) + rest.description
    }

    private static func ends(_ text: Substring.UnicodeScalarView, _ mark: String) -> Bool {
        text.suffix(mark.unicodeScalars.count).elementsEqual(mark.unicodeScalars)
    }

    private func link(_ text: String) throws -> String {
        if try Self.matches(Self.address, text) {
            let isComplete = text.hasPrefix("https://") || text.hasPrefix("http://")
            return "<a href=\"\(isComplete ? "" : "https://")\(text)\"\(attributes)>\(trimmed(text))</a>"
        }
        if text.hasPrefix("mailto:"), try Self.matches(Self.mail, String(text.dropFirst(7))) {
            return "<a href=\"\(text)\">\(text.dropFirst(7))</a>"
        }
        let isMail =
            text.contains("@") && !text.hasPrefix("www.") && !text.hasPrefix("@") && !text.contains(":")
        if try isMail && Self.matches(Self.mail, text) { return "<a href=\"mailto:\(text)\">\(text)</a>" }
        return extraSchemes.reduce(text) { link, scheme in
            link != scheme && link.hasPrefix(scheme) ? "<a href=\"\(link)\"\(attributes)>\(link)</a>" : link
        }
    }

    private func trimmed(_ text: String) -> String {
        guard let trimLimit, text.unicodeScalars.count > trimLimit else { return text }
        return Text(text).slice(PythonSlice(start: nil, stop: trimLimit, step: 1)).description + "..."
    }
}

extension Text {
    /// How often `needle` occurs, without overlaps.
    func occurrences(of needle: Text) -> Int {
        var (count, start) = (0, 0)
        while let offset = firstOffset(of: needle, in: start..<bytes.count) {
            count += 1
            start = offset + needle.bytes.count
        }
        return count
    }
}
