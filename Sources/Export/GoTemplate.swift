import FileFormats

/// The part of Go's text/template that templates of chats need, as Ollama runs them: text, fields, variables, literals,
/// `if`, `range` over the messages, and `eq`, `ne`, `and`, `or`, `not`, `len`, `slice`.
///
/// It runs what graft writes, to see that it gives the text of the model's own template; anything beyond is an error.
struct GoTemplate {
    struct Fault: Error { var reason: String }

    /// A value; a message has the fields of Ollama's `api.Message`.
    enum Value: Equatable {
        case text([UInt8])
        case number(Int)
        case flag(Bool)
        case message(role: String, content: String)
        case list([Value])

        /// Whether `if` takes it.
        var isTrue: Bool {
            switch self {
            case .text(let bytes): !bytes.isEmpty
            case .number(let number): number != 0
            case .flag(let flag): flag
            case .message: true
            case .list(let values): !values.isEmpty
            }
        }
    }

    private indirect enum Node {
        case text([UInt8])
        case output([Substring])
        case declaration(name: Substring, [Substring])
        case choice(branches: [(condition: [Substring]?, body: [Node])])
        case range(index: Substring, over: [Substring], body: [Node])
    }

    private let nodes: [Node]

    /// - Throws: `Fault` for what it does not know.
    init(_ source: String) throws {
        var parser = Parser(tokens: try Self.split(source)[...])
        nodes = try parser.nodes(until: []).nodes
        guard parser.tokens.isEmpty else { throw Fault(reason: "an end without a beginning") }
    }

    /// The prompt for messages, as Ollama's chat endpoint makes it.
    func render(_ messages: [(role: String, content: String)]) throws -> String {
        let system = messages.filter { $0.role.hasSameBytes(as: "system") }.map(\.content).joined(separator: "\n\n")
        var run = Run(
            messages: .list(messages.map { .message(role: $0.role, content: $0.content) }), system: Array(system.utf8))
        try run.run(nodes)
        return String(decoding: run.output, as: UTF8.self)
    }

    // MARK: reading

    private enum Token {
        case text([UInt8])
        case action([Substring])
    }

    private static func split(_ source: String) throws -> [Token] {
        var tokens: [Token] = []
        var rest = Array(source.utf8)[...]
        func find(_ mark: String, in bytes: ArraySlice<UInt8>) -> Int? {
            let mark = Array(mark.utf8)
            return bytes.indices.first { bytes[$0...].starts(with: mark) }
        }
        while let start = find("{{", in: rest) {
            if start > rest.startIndex { tokens.append(.text(Array(rest[..<start]))) }
            // A closing mark inside a quoted text does not close.
            var end = start + 2, isQuoted = false
            while end + 1 < rest.endIndex, isQuoted || !rest[end...].starts(with: "}}".utf8) {
                if rest[end] == UInt8(ascii: "\"") { isQuoted.toggle() }
                end += isQuoted && rest[end] == UInt8(ascii: "\\") ? 2 : 1
            }
            guard end + 1 < rest.endIndex else { throw Fault(reason: "an action is not closed") }
            tokens.append(.action(words(String(decoding: rest[(start + 2)..<end], as: UTF8.self))))
            rest = rest[(end + 2)...]
        }
        if !rest.isEmpty { tokens.append(.text(Array(rest))) }
        return tokens
    }

    /// The words of an action; parentheses are words, quoted texts stay whole.
    private static func words(_ text: String) -> [Substring] {
        var words: [Substring] = [], start = text.startIndex, index = text.startIndex, isQuoted = false
        func close(_ end: String.Index) { if start < end { words.append(text[start..<end]) } }
        while index < text.endIndex {
            let scalar = text.unicodeScalars[index]
            let next = text.unicodeScalars.index(after: index)
            if scalar == "\"" { isQuoted.toggle() }
            if isQuoted, scalar == "\\", next < text.endIndex {
                index = text.unicodeScalars.index(after: next)
                continue
            }
            if !isQuoted, scalar == " " || scalar == "(" || scalar == ")" || scalar == "," {
                close(index)
                if scalar != " " { words.append(text[index..<next]) }
                start = next
            }
            index = next
        }
        close(text.endIndex)
        return words
    }

    private struct Parser {
        var tokens: ArraySlice<Token>

        /// Nodes up to an action that begins with one of `ends`, which is taken, too.
        mutating func nodes(until ends: [Substring]) throws -> (nodes: [Node], end: [Substring]) {
            var nodes: [Node] = []
            while let token = tokens.popFirst() {
                guard case .action(let words) = token else {
                    if case .text(let text) = token { nodes.append(.text(text)) }
                    continue
                }
                guard let first = words.first else { throw Fault(reason: "an empty action") }
                if ends.contains(first) { return (nodes, words) }
                switch first {
                case "if": nodes.append(try choice(Array(words.dropFirst())))
                case "range":
                    // range $i, $_ := <list>
                    guard words.count > 5, words[2] == ",", words[4] == ":=" else { throw Fault(reason: "range") }
                    let body = try self.nodes(until: ["end"]).nodes
                    nodes.append(.range(index: words[1], over: Array(words[5...]), body: body))
                default:
                    nodes.append(
                        words.count > 2 && words[1] == ":="
                            ? .declaration(name: first, Array(words[2...])) : .output(words))
                }
            }
            guard ends.isEmpty else { throw Fault(reason: "a block is not closed") }
            return (nodes, [])
        }

        private mutating func choice(_ condition: [Substring]) throws -> Node {
            var branches: [(condition: [Substring]?, body: [Node])] = []
            var condition: [Substring]? = condition
            while true {
                let (body, end) = try nodes(until: ["else", "end"])
                branches.append((condition, body))
                if end.first == "end" { return .choice(branches: branches) }
                condition = end.count > 1 && end[1] == "if" ? Array(end[2...]) : nil
            }
        }
    }

    // MARK: running

    private struct Run {
        let messages: Value
        /// All system messages, as Ollama joins them.
        let system: [UInt8]
        var output: [UInt8] = []
        private var dot: Value = .flag(false)
        private var variables: [Substring: Value] = [:]

        init(messages: Value, system: [UInt8]) { (self.messages, self.system) = (messages, system) }

        mutating func run(_ nodes: [Node]) throws {
            for node in nodes {
                switch node {
                case .text(let text): output += text
                case .output(let words):
                    guard case .text(let text) = try value(words) else {
                        throw Fault(reason: "what is not text is written")
                    }
                    output += text
                case .declaration(let name, let words): variables[name] = try value(words)
                case .choice(let branches):
                    for branch in branches where try branch.condition.map({ try value($0).isTrue }) ?? true {
                        try run(branch.body)
                        break
                    }
                case .range(let index, let words, let body):
                    guard case .list(let values) = try value(words) else { throw Fault(reason: "range over no list") }
                    for (i, element) in values.enumerated() {
                        (variables[index], dot) = (.number(i), element)
                        try run(body)
                    }
                    dot = .flag(false)
                }
            }
        }

        private func value(_ words: [Substring]) throws -> Value {
            var words = words[...]
            let result = try call(&words)
            guard words.isEmpty else { throw Fault(reason: "more words than a call takes") }
            return result
        }

        /// A function with its operands, or a single operand.
        private func call(_ words: inout ArraySlice<Substring>) throws -> Value {
            guard let first = words.first, ["eq", "ne", "and", "or", "not", "len", "slice"].contains(first) else {
                return try operand(&words)
            }
            words.removeFirst()
            var operands: [Value] = []
            while let next = words.first, next != ")" { operands.append(try operand(&words)) }
            switch (first, operands.count) {
            case ("eq", 2): return .flag(operands[0] == operands[1])
            case ("ne", 2): return .flag(operands[0] != operands[1])
            case ("not", 1): return .flag(!operands[0].isTrue)
            case ("and", 1...): return operands.first { !$0.isTrue } ?? operands[operands.count - 1]
            case ("or", 1...): return operands.first { $0.isTrue } ?? operands[operands.count - 1]
            case ("len", 1):
                if case .list(let values) = operands[0] { return .number(values.count) }
                if case .text(let text) = operands[0] { return .number(text.count) }
            case ("slice", 2):
                if case .list(let values) = operands[0], case .number(let start) = operands[1],
                    values.indices.contains(start) || start == values.count
                {
                    return .list(Array(values[start...]))
                }
            default: break
            }
            throw Fault(reason: "\(first) with \(operands.count) operands")
        }

        /// A text without its quotes and with the escapes that graft writes.
        private static func unquoted(_ word: Substring) throws -> [UInt8] {
            var result = String.UnicodeScalarView(), rest = word.unicodeScalars.dropFirst().dropLast()
            while let scalar = rest.popFirst() {
                guard scalar == "\\" else {
                    result.append(scalar)
                    continue
                }
                switch rest.popFirst() {
                case "\""?: result.append("\"")
                case "\\"?: result.append("\\")
                case "U"?:
                    let digits = String(rest.prefix(8))
                    guard let code = UInt32(digits, radix: 16), let scalar = Unicode.Scalar(code) else {
                        throw Fault(reason: "\(word) is no text")
                    }
                    result.append(scalar)
                    rest = rest.dropFirst(8)
                default: throw Fault(reason: "\(word) is no text")
                }
            }
            return Array(String(result).utf8)
        }

        private func operand(_ words: inout ArraySlice<Substring>) throws -> Value {
            guard let word = words.popFirst() else { throw Fault(reason: "an operand is missing") }
            if word == "(" {
                let result = try call(&words)
                guard words.popFirst() == ")" else { throw Fault(reason: "a parenthesis is not closed") }
                return result
            }
            if word.utf8.first == UInt8(ascii: "\"") { return .text(try Self.unquoted(word)) }
            if let number = Int(word) { return .number(number) }
            if let value = variables[word] { return value }
            switch (word, dot) {
            case (".Messages", .flag), ("$.Messages", _): return messages
            case ("$.System", _): return .text(system)
            case (".Role", .message(let role, _)): return .text(Array(role.utf8))
            case (".Content", .message(_, let content)): return .text(Array(content.utf8))
            default: throw Fault(reason: "\(word) is not known")
            }
        }
    }
}
