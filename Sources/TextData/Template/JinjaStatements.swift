// Statements: `{% ... %}` and what stands between them.
extension JinjaParser {
    /// Parses up to one of the tags `ends`, whose name is left as the current token; to the end when there are none.
    mutating func parseBody(until ends: [Text]) throws -> [TemplateNode] {
        var body: [TemplateNode] = []
        while true {
            let line = current.line
            switch current.kind {
            case .data(let text):
                skip()
                body.append(try make(.data(text), [], line: line))
            case .variableBegin:
                skip()
                let value = try parseTuple()
                guard case .variableEnd = current.kind else { throw unexpected("'}}'") }
                skip()
                body.append(try make(.output(value), [value], line: line))
            case .blockBegin:
                skip()
                guard case .name(let name) = current.kind else { throw unexpected("the name of a tag") }
                if ends.contains(name) { return body }
                body.append(try nested { try $0.parseStatement(name) })
                guard case .blockEnd = current.kind else { throw unexpected("'%}'") }
                skip()
            case .end:
                guard ends.isEmpty else {
                    let names = ends.map { "'\($0)'" }.joined(separator: " or ")
                    throw fault("the template ends where \(names) was expected")
                }
                return body
            default: throw unexpected("text or a tag")
            }
        }
    }

    /// `... %}` body up to one of `ends`, the name of which is skipped and returned.
    private mutating func parseBlock(until ends: [Text]) throws -> (body: [TemplateNode], end: Text) {
        _ = accept(.colon)
        guard case .blockEnd = current.kind else { throw unexpected("'%}'") }
        skip()
        let body = try parseBody(until: ends)
        return (body, try expectName())
    }

    /// The same for a body with variables of its own.
    private mutating func parseScope(until ends: [Text]) throws -> (body: ScopedBody, end: Text) {
        let (nodes, end) = try parseBlock(until: ends)
        return (ScopedBody(nodes: nodes, scope: newScope()), end)
    }

    private mutating func parseStatement(_ name: Text) throws -> TemplateNode {
        let line = current.line
        skip()
        if name == "if" { return try parseIf(line) }
        // What a loop runs through and the values of 'with' are evaluated outside of them.
        if name == "for" { return try parseFor(line) }
        if name == "with" { return try parseWith(line) }
        // What stands in any other block is a scope of its own.
        let isScope = !["set", "print"].contains(name)
        return try asBranch(isScope ? false : isBranch) { try $0.parseOther(name, line) }
    }

    private mutating func parseOther(_ name: Text, _ line: Int) throws -> TemplateNode {
        switch name {
        case "set": return try parseSet(line)
        case "macro": return try parseMacro(line)
        case "call": return try parseCallBlock(line)
        case "generation":
            usesGeneration = true
            let saved = loopDepth
            loopDepth = 0
            defer { loopDepth = saved }
            let body = try parseScope(until: ["endgeneration"]).body
            return try make(.generation(body), body.nodes, line: line)
        case "filter":
            guard let filter = try parseFilters(nil, all: true, startsAtName: true) else {
                throw unexpected("a filter")
            }
            let body = try parseScope(until: ["endfilter"]).body
            return try make(.filterBlock(filter, body: body), [filter] + body.nodes, line: line)
        case "autoescape":
            let value = try parseExpression()
            let body = try parseScope(until: ["endautoescape"]).body
            return try make(.autoescape(value, body: body), [value] + body.nodes, line: line)
        case "print":
            var values = [try parseExpression()]
            while accept(.comma) { values.append(try parseExpression()) }
            let outputs = try values.map { try make(.output($0), [$0], line: line) }
            return try make(.branch([(nil, outputs)]), outputs, line: line)
        case "block": return try parseNamedBlock(line)
        case "break", "continue":
            guard loopDepth > 0 else { throw fault("'\(name)' stands outside a loop") }
            return try make(name == "break" ? .breakLoop : .continueLoop, [], line: line)
        case "include", "import", "from", "extends":
            return try parseRefused(name, line)
        default: throw fault("unknown tag '\(name)'")
        }
    }

    /// Passes over a tag that needs other templates; it is an error only where it is reached, as in Jinja.
    private mutating func parseRefused(_ name: Text, _ line: Int) throws -> TemplateNode {
        _ = try parseExpression()
        while true {
            switch current.kind {
            case .blockEnd, .end: return try make(.refused(name), [], line: line)
            default: skip()
            }
        }
    }

    private mutating func parseIf(_ line: Int) throws -> TemplateNode {
        try asBranch(true) { try $0.parseBranches(line) }
    }

    private mutating func parseBranches(_ line: Int) throws -> TemplateNode {
        var branches: [(condition: TemplateNode?, body: [TemplateNode])] = []
        var children: [TemplateNode] = []
        var condition: TemplateNode? = try parseTuple(withConditional: false)
        while true {
            let (body, end) = try parseBlock(until: ["elif", "else", "endif"])
            branches.append((condition, body))
            children += body + (condition.map { [$0] } ?? [])
            switch end {
            case "elif": condition = try parseTuple(withConditional: false)
            case "else":
                let last = try parseBlock(until: ["endif"]).body
                branches.append((nil, last))
                return try make(.branch(branches), children + last, line: line)
            default: return try make(.branch(branches), children, line: line)
            }
        }
    }

    private mutating func parseFor(_ line: Int) throws -> TemplateNode {
        let target = try parseTarget(withNamespace: false)
        guard accept(word: "in") else { throw unexpected("'in'") }
        let iterable = try parseTuple(withConditional: false, endsAtRecursive: true)
        return try asBranch(false) { try $0.parseLoop(over: iterable, target, line) }
    }

    private mutating func parseLoop(over iterable: TemplateNode, _ target: Target, _ line: Int) throws -> TemplateNode {
        let filter = accept(word: "if") ? try parseExpression() : nil
        let isRecursive = accept(word: "recursive")
        loopUses.append(isRecursive)
        loopDepth += 1
        let (body, end) = try parseScope(until: ["endfor", "else"])
        loopDepth -= 1
        let usesLoop = loopUses.removeLast()
        let otherwise =
            end == "else" ? try parseScope(until: ["endfor"]).body : ScopedBody(nodes: [], scope: newScope())
        let loop = ForLoop(
            target: target, iterable: iterable, filter: filter, body: body, otherwise: otherwise,
            filterScope: newScope(), isRecursive: isRecursive, usesLoop: usesLoop)
        return try make(
            .loop(loop), [iterable] + (filter.map { [$0] } ?? []) + body.nodes + otherwise.nodes, line: line)
    }

    private mutating func parseSet(_ line: Int) throws -> TemplateNode {
        let target = try parseTarget(withNamespace: true)
        if accept(.assign) {
            let value = try parseTuple()
            return try make(.set(target, value), [value], line: line)
        }
        let (filter, body) = try asBranch(false) {
            (try $0.parseFilters(nil, all: true), try $0.parseScope(until: ["endset"]).body)
        }
        return try make(
            .setBlock(target, filter: filter, body: body), (filter.map { [$0] } ?? []) + body.nodes, line: line)
    }

    private mutating func parseTarget(withNamespace: Bool) throws -> Target {
        var targets: [Target] = []
        var isTuple = false
        repeat {
            if at(word: "in") || at(.assign) { break }
            targets.append(try parseSingleTarget(withNamespace: withNamespace))
            if at(.comma) { isTuple = true }
        } while accept(.comma)
        guard let first = targets.first else { throw unexpected("a name") }
        return isTuple ? .tuple(targets) : first
    }

    private mutating func parseSingleTarget(withNamespace: Bool) throws -> Target {
        if accept(.leftParenthesis) {
            let inner = try nested { try $0.parseTarget(withNamespace: withNamespace) }
            try expect(.rightParenthesis)
            return inner
        }
        let name = try expectName()
        if withNamespace, accept(.dot) { return .attribute(namespace: load(name), try expectName()) }
        guard !["true", "false", "none", "True", "False", "None"].contains(name) else {
            throw fault("'\(name)' cannot be assigned to")
        }
        return .name(symbol(name))
    }

    private mutating func parseParameters() throws -> [(symbol: Int, name: Text, initial: TemplateNode?)] {
        var parameters: [(symbol: Int, name: Text, initial: TemplateNode?)] = []
        try expect(.leftParenthesis)
        while !at(.rightParenthesis) {
            if !parameters.isEmpty { try expect(.comma) }
            let name = try expectName()
            let initial = accept(.assign) ? try parseExpression() : nil
            if name == "caller", initial == nil { throw fault("the parameter 'caller' needs a default") }
            if initial == nil, parameters.last?.initial != nil {
                throw fault("a parameter without a default follows one with a default")
            }
            parameters.append((symbol(name), name, initial))
        }
        try expect(.rightParenthesis)
        return parameters
    }

    /// Parameters and body of a macro or a call block; notes which special names the body mentions.
    private mutating func parseDefinition(
        name: Text, end: Text, before: (inout JinjaParser) throws -> [(symbol: Int, name: Text, initial: TemplateNode?)]
    ) throws -> MacroDefinition {
        let parameters = try before(&self)
        let saved = loopDepth
        loopDepth = 0
        macroUses.append(MacroUses())
        let body = try parseScope(until: [end]).body
        let uses = macroUses.removeLast()
        loopDepth = saved
        return MacroDefinition(
            name: name, symbol: symbol(name), parameters: parameters, body: body, usesCaller: uses.caller,
            usesVarargs: uses.varargs,
            usesKwargs: uses.kwargs)
    }

    private mutating func parseMacro(_ line: Int) throws -> TemplateNode {
        let name = try expectName()
        _ = symbol(name)
        let definition = try parseDefinition(name: name, end: "endmacro") { try $0.parseParameters() }
        return try make(
            .macro(definition), definition.body.nodes + definition.parameters.compactMap(\.initial), line: line)
    }

    private mutating func parseCallBlock(_ line: Int) throws -> TemplateNode {
        var call: TemplateNode?
        var definition = try parseDefinition(name: "caller", end: "endcall") { parser in
            let parameters = parser.at(.leftParenthesis) ? try parser.parseParameters() : []
            call = try parser.parseExpression()
            return parameters
        }
        definition.isAnonymous = true
        guard let call, case .call(let function, let arguments) = call.kind else {
            throw TemplateFault("'call' needs the call of a macro", line: line)
        }
        return try make(
            .callBlock(function, arguments, definition), definition.body.nodes + [function] + arguments.nodes,
            line: line)
    }

    private mutating func parseWith(_ line: Int) throws -> TemplateNode {
        var assignments: [(Target, TemplateNode)] = []
        while true {
            if case .blockEnd = current.kind { break }
            if !assignments.isEmpty { try expect(.comma) }
            let target = try parseSingleTarget(withNamespace: false)
            try expect(.assign)
            assignments.append((target, try parseExpression()))
        }
        let body = try asBranch(false) { try $0.parseScope(until: ["endwith"]).body }
        return try make(.with(assignments, body: body), assignments.map(\.1) + body.nodes, line: line)
    }

    /// A block can only be overridden by a template that extends this one; here it stands for its body.
    private mutating func parseNamedBlock(_ line: Int) throws -> TemplateNode {
        let name = try expectName()
        let isScoped = accept(word: "scoped")
        _ = accept(word: "required")
        let saved = loopDepth
        loopDepth = 0
        defer { loopDepth = saved }
        let body = try parseScope(until: ["endblock"]).body
        _ = accept(word: name)
        return try make(.block(body: body, isScoped: isScoped), body.nodes, line: line)
    }
}
