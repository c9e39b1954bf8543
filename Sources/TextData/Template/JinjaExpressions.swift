// Expressions, in Jinja's order of precedence (jinja.palletsprojects.com/en/stable/templates/#expressions).
extension JinjaParser {
    mutating func parseExpression(withConditional: Bool = true) throws -> TemplateNode {
        try nested { parser in
            withConditional ? try parser.parseConditional() : try parser.parseOr()
        }
    }

    private mutating func parseConditional() throws -> TemplateNode {
        let line = current.line
        let known = unknownNames.count
        var value = try parseOr()
        defer { if case .conditional = value.kind { unknownNames.removeSubrange(known...) } }
        while accept(word: "if") {
            let condition = try parseOr()
            let otherwise = accept(word: "else") ? try nested { try $0.parseConditional() } : nil
            value = try make(
                .conditional(condition: condition, then: value, otherwise: otherwise),
                [condition, value] + (otherwise.map { [$0] } ?? []), line: line)
        }
        return value
    }

    private mutating func parseOr() throws -> TemplateNode {
        let line = current.line
        var left = try parseAnd()
        while accept(word: "or") {
            let right = try parseAnd()
            left = try make(.or(left, right), [left, right], line: line)
        }
        return left
    }

    private mutating func parseAnd() throws -> TemplateNode {
        let line = current.line
        var left = try parseNot()
        while accept(word: "and") {
            let right = try parseNot()
            left = try make(.and(left, right), [left, right], line: line)
        }
        return left
    }

    private mutating func parseNot() throws -> TemplateNode {
        let line = current.line
        guard accept(word: "not") else { return try parseComparison() }
        let operand = try nested { try $0.parseNot() }
        return try make(.not(operand), [operand], line: line)
    }

    private mutating func parseComparison() throws -> TemplateNode {
        let line = current.line
        let first = try parseSum()
        var rest: [(ComparisonOperator, TemplateNode)] = []
        while let comparison = acceptComparison() { rest.append((comparison, try parseSum())) }
        return rest.isEmpty ? first : try make(.compare(first, rest), [first] + rest.map(\.1), line: line)
    }

    private mutating func acceptComparison() -> ComparisonOperator? {
        switch current.kind {
        case .symbol(let symbol):
            let table: [TemplateSymbol: ComparisonOperator] = [
                .equal: .equal, .notEqual: .notEqual, .less: .less, .lessOrEqual: .lessOrEqual,
                .greater: .greater, .greaterOrEqual: .greaterOrEqual,
            ]
            guard let comparison = table[symbol] else { return nil }
            skip()
            return comparison
        case .name("in"):
            skip()
            return .in
        case .name("not") where following.kind == .name("in"):
            skip()
            skip()
            return .notIn
        default: return nil
        }
    }

    private mutating func parseSum() throws -> TemplateNode {
        let line = current.line
        var left = try parseConcatenation()
        while at(.add) || at(.subtract) {
            let operation: ArithmeticOperator = at(.add) ? .add : .subtract
            skip()
            let right = try parseConcatenation()
            left = try make(.arithmetic(operation, left, right), [left, right], line: line)
        }
        return left
    }

    private mutating func parseConcatenation() throws -> TemplateNode {
        let line = current.line
        var parts = [try parseProduct()]
        while accept(.tilde) { parts.append(try parseProduct()) }
        return parts.count == 1 ? parts[0] : try make(.concatenate(parts), parts, line: line)
    }

    private mutating func parseProduct() throws -> TemplateNode {
        let line = current.line
        var left = try parsePower()
        while true {
            let operation: ArithmeticOperator
            switch current.kind {
            case .symbol(.multiply): operation = .multiply
            case .symbol(.divide): operation = .divide
            case .symbol(.floorDivide): operation = .floorDivide
            case .symbol(.remainder): operation = .remainder
            default: return left
            }
            skip()
            let right = try parsePower()
            left = try make(.arithmetic(operation, left, right), [left, right], line: line)
        }
    }

    private mutating func parsePower() throws -> TemplateNode {
        let line = current.line
        var left = try parseUnary()
        while accept(.power) {
            let right = try parseUnary()
            left = try make(.arithmetic(.power, left, right), [left, right], line: line)
        }
        return left
    }

    private mutating func parseUnary(withFilter: Bool = true) throws -> TemplateNode {
        let line = current.line
        var node: TemplateNode
        if at(.subtract) || at(.add) {
            let negates = at(.subtract)
            skip()
            let operand = try nested { try $0.parseUnary(withFilter: false) }
            node = try make(negates ? .negate(operand) : .plus(operand), [operand], line: line)
        } else {
            node = try parsePrimary()
        }
        node = try parsePostfix(node)
        return withFilter ? try parseFiltersAndTests(node) : node
    }

    mutating func parsePrimary() throws -> TemplateNode {
        let line = current.line
        switch current.kind {
        case .name(let name):
            skip()
            switch name {
            case "true", "True": return try make(.bool(true), [], line: line)
            case "false", "False": return try make(.bool(false), [], line: line)
            case "none", "None": return try make(.none, [], line: line)
            default: return try make(.name(load(name)), [], line: line)
            }
        case .string(var text):
            skip()
            while case .string(let more) = current.kind {
                text.bytes += more.bytes
                skip()
            }
            return try make(.string(text), [], line: line)
        case .int(let value):
            skip()
            return try make(.int(value), [], line: line)
        case .float(let value):
            skip()
            return try make(.float(value), [], line: line)
        case .symbol(.leftParenthesis):
            skip()
            let node = try parseTuple(inParentheses: true)
            try expect(.rightParenthesis)
            return node
        case .symbol(.leftBracket): return try parseList()
        case .symbol(.leftBrace): return try parseDictionary()
        default: throw unexpected("an expression")
        }
    }

    /// One expression, or several with commas between them, which are a tuple.
    mutating func parseTuple(
        inParentheses: Bool = false, withConditional: Bool = true, endsAtRecursive: Bool = false
    ) throws -> TemplateNode {
        let line = current.line
        var elements: [TemplateNode] = []
        var isTuple = false
        while true {
            if !elements.isEmpty { try expect(.comma) }
            let isEnd: Bool =
                switch current.kind {
                case .variableEnd, .blockEnd, .symbol(.rightParenthesis): true
                case .name("recursive"): endsAtRecursive
                default: false
                }
            if isEnd { break }
            elements.append(try parseExpression(withConditional: withConditional))
            guard at(.comma) else { break }
            isTuple = true
        }
        if !isTuple {
            if let only = elements.first { return only }
            guard inParentheses else { throw unexpected("an expression") }
        }
        return try make(.tuple(elements), elements, line: line)
    }

    private mutating func parseList() throws -> TemplateNode {
        let line = current.line
        try expect(.leftBracket)
        var elements: [TemplateNode] = []
        while !at(.rightBracket) {
            if !elements.isEmpty { try expect(.comma) }
            if at(.rightBracket) { break }
            elements.append(try parseExpression())
        }
        try expect(.rightBracket)
        return try make(.list(elements), elements, line: line)
    }

    private mutating func parseDictionary() throws -> TemplateNode {
        let line = current.line
        try expect(.leftBrace)
        var entries: [(key: TemplateNode, value: TemplateNode)] = []
        while !at(.rightBrace) {
            if !entries.isEmpty { try expect(.comma) }
            if at(.rightBrace) { break }
            let key = try parseExpression()
            try expect(.colon)
            entries.append((key, try parseExpression()))
        }
        try expect(.rightBrace)
        return try make(.dict(entries), entries.flatMap { [$0.key, $0.value] }, line: line)
    }

    mutating func parsePostfix(_ start: TemplateNode) throws -> TemplateNode {
        var node = start
        while true {
            switch current.kind {
            case .symbol(.dot), .symbol(.leftBracket): node = try parseSubscript(node)
            case .symbol(.leftParenthesis): node = try parseCall(node)
            default: return node
            }
        }
    }

    private mutating func parseFiltersAndTests(_ start: TemplateNode) throws -> TemplateNode {
        var node = start
        while true {
            switch current.kind {
            case .symbol(.pipe): node = try parseFilters(node, all: false)
            case .name("is"): node = try parseTest(node)
            case .symbol(.leftParenthesis): node = try parseCall(node)
            default: return node
            }
        }
    }

    private mutating func parseSubscript(_ object: TemplateNode) throws -> TemplateNode {
        let line = current.line
        if accept(.dot) {
            switch current.kind {
            case .name(let name):
                skip()
                return try make(.attribute(object, name), [object], line: line)
            case .int(let index):
                skip()
                let key = try make(.int(index), [], line: line)
                return try make(.item(object, key), [object, key], line: line)
            default: throw unexpected("a name or number after '.'")
            }
        }
        try expect(.leftBracket)
        var keys: [TemplateNode] = []
        while !at(.rightBracket) {
            if !keys.isEmpty { try expect(.comma) }
            keys.append(try parseSubscribed())
        }
        try expect(.rightBracket)
        let key = keys.count == 1 ? keys[0] : try make(.tuple(keys), keys, line: line)
        return try make(.item(object, key), [object, key], line: line)
    }

    /// An index or a slice.
    private mutating func parseSubscribed() throws -> TemplateNode {
        let line = current.line
        var bounds: [TemplateNode?] = [nil, nil, nil]
        if !at(.colon) {
            let index = try parseExpression()
            guard at(.colon) else { return index }
            bounds[0] = index
        }
        try expect(.colon)
        if !at(.colon), !at(.rightBracket), !at(.comma) { bounds[1] = try parseExpression() }
        if accept(.colon), !at(.rightBracket), !at(.comma) { bounds[2] = try parseExpression() }
        return try make(.slice(bounds[0], bounds[1], bounds[2]), bounds.compactMap(\.self), line: line)
    }

    mutating func parseCall(_ function: TemplateNode) throws -> TemplateNode {
        let line = current.line
        let arguments = try parseArguments()
        return try make(.call(function, arguments), [function] + arguments.nodes, line: line)
    }

    mutating func parseArguments() throws -> Arguments {
        try expect(.leftParenthesis)
        var arguments = Arguments()
        var isFirst = true
        while !at(.rightParenthesis) {
            if !isFirst {
                try expect(.comma)
                if at(.rightParenthesis) { break }
            }
            isFirst = false
            if arguments.keywordRest != nil { throw fault("nothing may follow '**' in a call") }
            if accept(.multiply) {
                guard arguments.rest == nil else { throw fault("a call has two '*' arguments") }
                arguments.rest = try parseExpression()
            } else if accept(.power) {
                arguments.keywordRest = try parseExpression()
            } else if case .name(let name) = current.kind, following.kind == .symbol(.assign) {
                skip()
                skip()
                arguments.keywords.append((name, try parseExpression()))
            } else {
                guard arguments.rest == nil, arguments.keywords.isEmpty else {
                    throw fault("a positional argument follows a keyword argument")
                }
                arguments.positional.append(try parseExpression())
            }
        }
        try expect(.rightParenthesis)
        return arguments
    }

    private mutating func dottedName() throws -> Text {
        var name = try expectName()
        while accept(.dot) { name.bytes += [UInt8(ascii: ".")] + (try expectName()).bytes }
        return name
    }

    /// `|name(...)`, one of them or the whole chain; nil stands for the text of an enclosing block.
    mutating func parseFilters(_ start: TemplateNode?, all: Bool, startsAtName: Bool = false) throws -> TemplateNode? {
        var node = start
        var isFirst = startsAtName
        while isFirst || at(.pipe) {
            let line = current.line
            if !isFirst { skip() }
            isFirst = false
            let name = try dottedName()
            let arguments = at(.leftParenthesis) ? try parseArguments() : .none
            require(Filters.named[name] != nil, "filter", name, line: line)
            node = try make(
                .filter(node, name, Filters.named[name], arguments),
                (node.map { [$0] } ?? []) + arguments.nodes, line: line)
            if !all { break }
        }
        return node
    }
    private mutating func parseFilters(_ start: TemplateNode, all: Bool) throws -> TemplateNode {
        try parseFilters(Optional(start), all: all) ?? start
    }

    private mutating func parseTest(_ value: TemplateNode) throws -> TemplateNode {
        let line = current.line
        skip()
        let isNegated = accept(word: "not")
        let name = try dottedName()
        var arguments = Arguments.none
        switch current.kind {
        case .symbol(.leftParenthesis): arguments = try parseArguments()
        case .name("else"), .name("or"), .name("and"): break
        case .name("is"): throw fault("tests cannot be chained with 'is'")
        case .name, .string, .int, .float, .symbol(.leftBracket), .symbol(.leftBrace):
            let argument = try nested { parser in try parser.parsePostfix(try parser.parsePrimary()) }
            arguments.positional = [argument]
        default: break
        }
        require(Tests.named[name] != nil, "test", name, line: line)
        let node = try make(
            .test(value, name, Tests.named[name], arguments), [value] + arguments.nodes, line: line)
        return isNegated ? try make(.not(node), [node], line: line) : node
    }
}
