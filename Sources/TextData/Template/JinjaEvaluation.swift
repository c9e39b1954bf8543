// Statements and expressions, evaluated on the tree.
extension Interpreter {
    /// Runs a body in its own, new scope.
    func run(_ body: ScopedBody, in scope: VariableScope) throws -> Flow {
        hide(body.scope, in: scope)
        return try run(body.nodes, in: scope)
    }

    func run(_ body: [TemplateNode], in scope: VariableScope) throws -> Flow {
        for node in body {
            let flow = try run(node, in: scope)
            if flow != .normal { return flow }
        }
        return .normal
    }

    private func run(_ node: TemplateNode, in scope: VariableScope) throws -> Flow {
        try spend(1)
        try checkStack()
        switch node.kind {
        case .data(let text):
            try write(text)
            return .normal
        case .output(let value):
            try writeValue(try evaluate(value, in: scope))
            return .normal
        case .branch(let branches): return try runBranch(branches, in: scope)
        case .loop(let loop):
            return try atLine(node) { try runLoop(loop, in: scope) }
        case .set(let target, let value):
            let result = try evaluate(value, in: scope)
            try atLine(node) { try assign(result, to: target, in: scope) }
            return .normal
        case .breakLoop: return .breakLoop
        case .continueLoop: return .continueLoop
        default: return try runBlock(node, in: scope)
        }
    }

    private func runBlock(_ node: TemplateNode, in scope: VariableScope) throws -> Flow {
        switch node.kind {
        case .setBlock(let target, let filter, let body):
            let captured = try capture { _ = try run(body, in: newScope(in: scope)) }
            var value = try text(captured)
            if let filter { value = try applyFilters(filter, to: value, in: scope) }
            try atLine(node) { try assign(value, to: target, in: scope) }
        case .macro(let definition):
            let macro = try macro(definition, in: scope)
            scope.set(definition.symbol, .callable(macro))
        case .callBlock(let function, let arguments, let definition):
            let callee = try evaluate(function, in: scope)
            var evaluated = try evaluate(arguments, in: scope)
            evaluated.keywords.append(("caller", .callable(try macro(definition, in: scope))))
            try writeValue(try atLine(node) { try call(callee, evaluated) })
        case .generation(let body): try runGeneration(body, in: scope)
        case .filterBlock(let filter, let body):
            let captured = try capture { _ = try run(body, in: newScope(in: scope)) }
            try writeValue(try applyFilters(filter, to: .string(captured), in: scope))
        case .with(let assignments, let body):
            let inner = newScope(in: scope)
            let values = try assignments.map { try evaluate($0.1, in: scope) }
            for (assignment, value) in zip(assignments, values) { try assign(value, to: assignment.0, in: inner) }
            return try run(body, in: inner)
        case .autoescape(let value, let body):
            let saved = escapes
            escapes = try evaluate(value, in: scope).isTrue
            defer { escapes = saved }
            return try run(body, in: newScope(in: scope))
        case .block(let body, let isScoped):
            // A block sees the variables of the template, not those of the loops around it.
            _ = try run(body, in: newScope(in: isScoped ? scope : root))
        case .refused(let tag):
            throw TemplateFault("'\(tag)' needs other templates, which a chat template does not have", line: node.line)
        default: preconditionFailure("an expression stands where a statement should")
        }
        return .normal
    }

    /// Adds the line to a fault that has none.
    func atLine<Result>(_ node: TemplateNode, _ body: () throws -> Result) throws -> Result {
        do {
            return try body()
        } catch var fault as TemplateFault {
            if fault.line == nil { fault.line = node.line }
            throw fault
        }
    }

    private func writeValue(_ value: TemplateValue) throws {
        let text = try printed(value)
        try write(escapes ? text.escaped() : text)
    }

    private func runBranch(
        _ branches: [(condition: TemplateNode?, body: [TemplateNode])], in scope: VariableScope
    ) throws -> Flow {
        for (condition, body) in branches {
            if let condition, !(try evaluate(condition, in: scope).isTrue) { continue }
            return try run(body, in: scope)
        }
        return .normal
    }

    // MARK: Loops and assignment

    private func runLoop(_ loop: ForLoop, in scope: VariableScope) throws -> Flow {
        let iterable = try evaluate(loop.iterable, in: scope)
        try runLoop(loop, over: iterable, in: scope, depth: 0)
        return .normal
    }

    func runLoop(
        _ loop: ForLoop, over iterable: TemplateValue, in scope: VariableScope, depth: Int
    ) throws {
        let next = try iterator(over: iterable)
        var source = next
        if let filter = loop.filter {
            source = { [unowned self] in
                while let value = try next() {
                    let inner = newScope(in: scope)
                    hide(loop.filterScope, in: inner)
                    try spend(1)
                    try assign(value, to: loop.target, in: inner)
                    if try evaluate(filter, in: inner).isTrue { return value }
                }
                return nil
            }
        }
        let state = LoopState(source: source, definition: loop, scope: scope, depth: depth)
        var hasRun = false
        let remembered = rememberable(loop, iterable)
        while let value = try state.advance() {
            try spend(1)
            // As in Jinja, a round that ends by 'continue' or 'break' does not keep 'else' from running.
            let flow =
                try remembered.map { items in
                    try self.remembered(loop, state, over: items, value, in: scope) {
                        try runRound(loop, state, value, in: scope)
                    }
                } ?? runRound(loop, state, value, in: scope)
            if flow == .breakLoop { break }
            if flow == .normal { hasRun = true }
        }
        if !hasRun { _ = try run(loop.otherwise, in: newScope(in: scope)) }
    }

    private func runRound(
        _ loop: ForLoop, _ state: LoopState, _ value: TemplateValue, in scope: VariableScope
    ) throws -> Flow {
        let inner = newScope(in: scope)
        try assign(value, to: loop.target, in: inner)
        if loop.usesLoop { inner.set(Self.loopSymbol, .loop(state)) }
        return try run(loop.body, in: inner)
    }

    /// Looks up a name for a body that may be part of a round that is noted.
    func lookUp(_ symbol: Int, in scope: VariableScope) -> TemplateValue? {
        if let recorder, recorder.isActive {
            recorder.lookUp(symbol, in: scope, root: root)
        } else {
            scope.lookUp(symbol)
        }
    }

    func assign(_ value: TemplateValue, to target: Target, in scope: VariableScope) throws {
        switch target {
        case .name(let symbol):
            scope.set(symbol, value)
        case .attribute(let symbol, let name):
            guard case .namespace(let namespace)? = lookUp(symbol, in: scope) else {
                throw TemplateFault("'\(program.symbols[symbol])' is no namespace: its attributes cannot be set")
            }
            namespace[try namespaceName(name)] = value
            recorder?.write(value, to: name, of: namespace)
        case .tuple(let targets):
            let values = try elements(value)
            guard values.count == targets.count else {
                throw TemplateFault("\(values.count) values cannot be unpacked into \(targets.count) names")
            }
            for (target, value) in zip(targets, values) { try assign(value, to: target, in: scope) }
        }
    }

    // MARK: Expressions

    func evaluate(_ node: TemplateNode, in scope: VariableScope) throws -> TemplateValue {
        try spend(1)
        switch node.kind {
        case .none: return .none
        case .bool(let value): return .bool(value)
        case .int(let value): return .int(value)
        case .float(let value): return .float(value)
        case .string(let text): return .string(text)
        case .name(let symbol):
            let value = lookUp(symbol, in: scope) ?? .undefined(.name(program.symbols[symbol]))
            if case .loop(let loop) = value { expose(loop) }
            return value
        case .attribute(let object, let name):
            let value = try evaluate(object, in: scope)
            return try atLine(node) { try attribute(name, of: value) }
        case .and(let left, let right):
            let value = try evaluate(left, in: scope)
            return value.isTrue ? try evaluate(right, in: scope) : value
        case .or(let left, let right):
            let value = try evaluate(left, in: scope)
            return value.isTrue ? value : try evaluate(right, in: scope)
        case .not(let operand): return .bool(!(try evaluate(operand, in: scope).isTrue))
        case .conditional(let condition, let then, let otherwise):
            if try evaluate(condition, in: scope).isTrue { return try evaluate(then, in: scope) }
            return try otherwise.map { try evaluate($0, in: scope) } ?? .undefined(.silent)
        default:
            try checkStack()
            return try atLine(node) { try evaluateCompound(node, in: scope) }
        }
    }

    private func evaluateCompound(_ node: TemplateNode, in scope: VariableScope) throws -> TemplateValue {
        switch node.kind {
        case .list(let elements): return try list(try elements.map { try evaluate($0, in: scope) })
        case .tuple(let elements): return try tuple(try elements.map { try evaluate($0, in: scope) })
        case .dict(let entries):
            return try dict(try entries.map { (try evaluate($0.key, in: scope), try evaluate($0.value, in: scope)) })
        case .item(let object, let key): return try evaluateItem(object, key, in: scope)
        case .slice: throw TemplateFault("a slice stands among other indices")
        case .call(let function, let arguments): return try evaluateCall(function, arguments, in: scope)
        case .filter(let operand, let name, let function, let arguments):
            guard let operand else { throw TemplateFault("a filter has nothing to work on") }
            let value = try evaluate(operand, in: scope)
            return try apply(name, function, to: value, arguments, in: scope)
        case .test(let operand, let name, let function, let arguments):
            guard let function else { throw TemplateFault("there is no test named '\(name)'") }
            let value = try evaluate(operand, in: scope)
            return .bool(try function(self, value, try evaluate(arguments, in: scope)))
        case .negate(let operand): return try negated(try evaluate(operand, in: scope))
        case .plus(let operand):
            let value = try evaluate(operand, in: scope)
            guard value.number != nil else { throw unsupported("+", value) }
            return value.index.map(TemplateValue.int) ?? value
        case .arithmetic(let operation, let left, let right):
            let first = try evaluate(left, in: scope)
            return try arithmetic(operation, first, try evaluate(right, in: scope))
        case .compare(let first, let rest): return try evaluateComparison(first, rest, in: scope)
        case .concatenate(let parts):
            var joined = Text([])
            for part in parts {
                let text = try printed(try evaluate(part, in: scope))
                joined.bytes += (escapes ? text.escaped() : text).bytes
                try spend(text.bytes.count / Self.bytesPerFuel)
            }
            joined.isMarkup = escapes
            return try text(joined)
        default: preconditionFailure("a statement stands where an expression should")
        }
    }

    private func evaluateComparison(
        _ first: TemplateNode, _ rest: [(ComparisonOperator, TemplateNode)], in scope: VariableScope
    ) throws -> TemplateValue {
        var left = try evaluate(first, in: scope)
        for (operation, node) in rest {
            let right = try evaluate(node, in: scope)
            guard try compare(operation, left, right) else { return .bool(false) }
            left = right
        }
        return .bool(true)
    }

    private func evaluateItem(
        _ object: TemplateNode, _ key: TemplateNode, in scope: VariableScope
    ) throws -> TemplateValue {
        let value = try evaluate(object, in: scope)
        guard case .slice(let start, let stop, let step) = key.kind else {
            return try item(try evaluate(key, in: scope), of: value)
        }
        func bound(_ node: TemplateNode?) throws -> Int? {
            guard let node else { return nil }
            let value = try evaluate(node, in: scope)
            if value.isNone { return nil }
            guard let index = value.index else { throw TemplateFault("a slice has a bound that is no integer") }
            return index
        }
        let slice = PythonSlice(start: try bound(start), stop: try bound(stop), step: try bound(step) ?? 1)
        guard slice.step != 0 else { throw TemplateFault("a slice has step 0") }
        return try self.slice(slice, of: value)
    }

    // MARK: Calls and filters

    func evaluate(_ arguments: Arguments, in scope: VariableScope) throws -> CallArguments {
        var result = CallArguments()
        for node in arguments.positional { result.positional.append(try evaluate(node, in: scope)) }
        for (name, node) in arguments.keywords { result.keywords.append((name, try evaluate(node, in: scope))) }
        if let rest = arguments.rest { result.positional += try elements(try evaluate(rest, in: scope)) }
        if let rest = arguments.keywordRest {
            guard case .dict(let mapping) = try evaluate(rest, in: scope) else {
                throw TemplateFault("what follows '**' in a call is no dictionary")
            }
            for (key, value) in mapping.entries {
                guard let name = key.text else { throw TemplateFault("a keyword is no string") }
                result.keywords.append((name, value))
            }
        }
        return result
    }

    /// Calls of methods go straight to the receiver, without an object for the bound method.
    private func evaluateCall(
        _ function: TemplateNode, _ arguments: Arguments, in scope: VariableScope
    ) throws -> TemplateValue {
        if case .attribute(let object, let name) = function.kind {
            let receiver = try evaluate(object, in: scope)
            if hasMethod(name, receiver) { return try callMethod(name, of: receiver, evaluate(arguments, in: scope)) }
            return try call(try attribute(name, of: receiver), try evaluate(arguments, in: scope))
        }
        return try call(try evaluate(function, in: scope), try evaluate(arguments, in: scope))
    }

    func apply(
        _ name: Text, _ function: FilterFunction?, to value: TemplateValue, _ arguments: Arguments,
        in scope: VariableScope
    ) throws -> TemplateValue {
        guard let function else { throw TemplateFault("there is no filter named '\(name)'") }
        return try function(self, value, try evaluate(arguments, in: scope))
    }

    /// Runs a chain of filters the innermost of which has no operand of its own.
    private func applyFilters(
        _ node: TemplateNode, to value: TemplateValue, in scope: VariableScope
    ) throws -> TemplateValue {
        guard case .filter(let operand, let name, let function, let arguments) = node.kind else { return value }
        let input = try operand.map { try applyFilters($0, to: value, in: scope) } ?? value
        return try atLine(node) { try apply(name, function, to: input, arguments, in: scope) }
    }
}
