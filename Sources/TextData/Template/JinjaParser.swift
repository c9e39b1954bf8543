/// Parses tokens to a program. Nesting is bounded both in the source and in the tree it gives.
struct JinjaParser {
    static let maximumNesting = 48
    static let maximumDepth = 200
    /// Templates of models have at most some tens of kilobytes.
    static let maximumSource = 1 << 20

    private let tokens: [TemplateToken]
    private var position = 0
    private var nesting = 0
    private var symbolIndex: [Text: Int] = [:]
    private(set) var symbols: [Text] = []
    var usesGeneration = false
    /// One entry per enclosing loop body: whether it mentions `loop`.
    var loopUses: [Bool] = []
    /// One entry per enclosing macro: which special names it mentions.
    var macroUses: [MacroUses] = []
    /// Whether `break` stands in a loop of the innermost macro or template.
    var loopDepth = 0

    /// Filters and tests that do not exist, where Jinja looks for them before it runs anything.
    var unknownNames: [TemplateFault] = []
    /// Inside a branch, what does not exist matters only once it is reached.
    var isBranch = false

    private var scopes = 0

    mutating func newScope() -> Int {
        scopes += 1
        return scopes - 1
    }

    struct MacroUses { var caller = false, varargs = false, kwargs = false }

    static func parse(_ source: String) throws -> TemplateProgram {
        guard source.utf8.count <= maximumSource else { throw TemplateFault("the template is larger than 1 MiB") }
        var parser = JinjaParser(tokens: try JinjaLexer.tokens(of: source))
        let body = ScopedBody(nodes: try parser.parseBody(until: []), scope: parser.newScope())
        if let fault = parser.unknownNames.first { throw fault }
        return TemplateProgram(
            body: body, symbols: parser.symbols, symbolIndex: parser.symbolIndex, usesGeneration: parser.usesGeneration,
            hiddenNames: ScopeAnalysis.hiddenNames(of: body, scopes: parser.scopes))
    }

    private init(tokens: [TemplateToken]) {
        self.tokens = tokens
        for name in Interpreter.globalNames { _ = symbol(name) }
        _ = symbol("loop")
        _ = symbol("caller")
        _ = symbol("varargs")
        _ = symbol("kwargs")
    }

    mutating func symbol(_ name: Text) -> Int {
        if let index = symbolIndex[name] { return index }
        symbolIndex[name] = symbols.count
        symbols.append(name)
        return symbols.count - 1
    }

    // MARK: The token stream

    var current: TemplateToken { tokens[position] }
    var following: TemplateToken { tokens[min(position + 1, tokens.count - 1)] }
    mutating func skip() { position = min(position + 1, tokens.count - 1) }

    func at(_ symbol: TemplateSymbol) -> Bool { current.kind == .symbol(symbol) }
    func at(word: Text) -> Bool { current.kind == .name(word) }
    mutating func accept(_ symbol: TemplateSymbol) -> Bool {
        guard at(symbol) else { return false }
        skip()
        return true
    }
    mutating func accept(word: Text) -> Bool {
        guard at(word: word) else { return false }
        skip()
        return true
    }
    mutating func expect(_ symbol: TemplateSymbol) throws {
        guard accept(symbol) else { throw unexpected("'\(symbol.rawValue)'") }
    }
    mutating func expectName() throws -> Text {
        guard case .name(let name) = current.kind else { throw unexpected("a name") }
        skip()
        return name
    }
    func fault(_ reason: String) -> TemplateFault { TemplateFault(reason, line: current.line) }
    func unexpected(_ expected: String) -> TemplateFault { fault("expected \(expected), found \(described)") }

    private var described: String {
        switch current.kind {
        case .data: "text"
        case .blockBegin: "'{%'"
        case .blockEnd: "'%}'"
        case .variableBegin: "'{{'"
        case .variableEnd: "'}}'"
        case .name(let name): "'\(name)'"
        case .string: "a string"
        case .int(let value): "\(value)"
        case .float(let value): "\(value)"
        case .symbol(let symbol): "'\(symbol.rawValue)'"
        case .end: "the end of the template"
        }
    }

    // MARK: Building

    func make(_ kind: TemplateNode.Kind, _ children: [TemplateNode], line: Int) throws -> TemplateNode {
        let depth = (children.lazy.map(\.depth).max() ?? 0) + 1
        guard depth <= Self.maximumDepth else {
            throw TemplateFault("the template nests deeper than \(Self.maximumDepth) levels", line: line)
        }
        return TemplateNode(kind, line: line, depth: depth)
    }

    mutating func nested<Result>(_ body: (inout JinjaParser) throws -> Result) throws -> Result {
        nesting += 1
        defer { nesting -= 1 }
        guard nesting <= Self.maximumNesting else { throw fault("nested deeper than \(Self.maximumNesting) levels") }
        return try body(&self)
    }

    /// Takes note of a filter or test that does not exist.
    mutating func require(_ exists: Bool, _ kind: String, _ name: Text, line: Int) {
        if !exists, !isBranch {
            unknownNames.append(TemplateFault("there is no \(kind) named '\(name)'", line: line))
        }
    }

    /// Parses the inside of a branch, or of a block that starts afresh.
    mutating func asBranch<Result>(
        _ value: Bool, _ body: (inout JinjaParser) throws -> Result
    ) rethrows -> Result {
        let saved = isBranch
        isBranch = value
        defer { isBranch = saved }
        return try body(&self)
    }

    /// A name that is read; takes note of the special ones.
    mutating func load(_ name: Text) -> Int {
        if name == "loop" { for i in loopUses.indices { loopUses[i] = true } }
        for i in macroUses.indices {
            if name == "caller" { macroUses[i].caller = true }
            if name == "varargs" { macroUses[i].varargs = true }
            if name == "kwargs" { macroUses[i].kwargs = true }
        }
        return symbol(name)
    }
}
