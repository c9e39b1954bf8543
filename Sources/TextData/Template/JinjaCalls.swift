/// The state of a running loop: what `loop` is in its body.
final class LoopState {
    /// Gives the elements that the loop's filter lets through; they are only looked at when they are needed.
    private var source: () throws -> TemplateValue?
    /// What is left, once it is known.
    private var rest: ArraySlice<TemplateValue>?
    private var ahead: TemplateValue?
    let definition: ForLoop
    private(set) var scope: VariableScope?
    let depth: Int
    private(set) var index = -1
    private(set) var previous: TemplateValue?
    private(set) var current: TemplateValue?
    var lastChanged: [TemplateValue]?
    var isExposed = false

    init(
        source: @escaping () throws -> TemplateValue?, definition: ForLoop, scope: VariableScope, depth: Int
    ) {
        self.source = source
        self.definition = definition
        self.scope = scope
        self.depth = depth
    }

    private func pull() throws -> TemplateValue? { rest == nil ? try source() : rest?.popFirst() }

    func advance() throws -> TemplateValue? {
        let next: TemplateValue?
        if let ahead {
            next = ahead
            self.ahead = nil
        } else {
            next = try pull()
        }
        guard let next else { return nil }
        previous = current
        current = next
        index += 1
        return next
    }

    func peek() throws -> TemplateValue? {
        if ahead == nil { ahead = try pull() }
        return ahead
    }

    func length() throws -> Int {
        guard try peek() != nil else { return index + 1 }
        if rest == nil {
            var values: [TemplateValue] = []
            while let value = try source() { values.append(value) }
            rest = values[...]
        }
        return index + 2 + (rest?.count ?? 0)
    }

    func clear() {
        source = { nil }
        rest = nil
        ahead = nil
        previous = nil
        current = nil
        lastChanged = nil
        scope = nil
    }
}

extension Interpreter {
    func call(_ function: TemplateValue, _ arguments: CallArguments) throws -> TemplateValue {
        try checkStack()
        switch function {
        case .callable(.macro(let macro)): return try called { try callMacro(macro, arguments) }
        case .callable(.builtin(let builtin)): return try callBuiltin(builtin, arguments)
        case .callable(.method(let method)): return try callMethod(method.name, of: method.receiver, arguments)
        case .callable(.cycler(let cycler)): return try callCycler(cycler)
        case .callable(.joiner(let joiner)):
            joiner.position += 1
            return joiner.position == 1 ? .string(Text([])) : joiner.values[0]
        case .loop(let loop): return try called { try callLoop(loop, arguments) }
        case .undefined: throw undefined(function)
        default: throw TemplateFault("a \(function.typeName) cannot be called")
        }
    }

    private func callMacro(_ macro: Macro, _ arguments: CallArguments) throws -> TemplateValue {
        let definition = macro.definition
        let scope = newScope(in: macro.scope)
        var positional = arguments.positional[...]
        var keywords = arguments.keywords
        var missing: [(symbol: Int, initial: TemplateNode)] = []
        for parameter in definition.parameters {
            let index = keywords.firstIndex { $0.name == parameter.name }
            if let value = positional.popFirst() {
                guard index == nil else {
                    throw TemplateFault("the macro '\(definition.name)' got '\(parameter.name)' twice")
                }
                scope.set(parameter.symbol, value)
            } else if let index {
                scope.set(parameter.symbol, keywords.remove(at: index).value)
            } else {
                scope.set(parameter.symbol, .undefined(.name(parameter.name)))
                if let initial = parameter.initial { missing.append((parameter.symbol, initial)) }
            }
        }
        hide(definition.body.scope, in: scope)
        // Defaults see all parameters, and none of the outer names these hide.
        for (symbol, initial) in missing { scope.set(symbol, try evaluate(initial, in: scope)) }
        if definition.usesCaller {
            let index = keywords.firstIndex { $0.name == "caller" }
            let caller = index.map { keywords.remove(at: $0).value }
            if !definition.parameters.contains(where: { $0.name == "caller" }) {
                scope.set(Self.callerSymbol, caller ?? .undefined(.name("caller")))
            }
        }
        if definition.usesKwargs {
            scope.set(Self.kwargsSymbol, try dict(keywords.map { (.string($0.name), $0.value) }))
        } else if let extra = keywords.first {
            throw TemplateFault("the macro '\(definition.name)' takes no argument named '\(extra.name)'")
        }
        if definition.usesVarargs {
            scope.set(Self.varargsSymbol, try tuple(Array(positional)))
        } else if !positional.isEmpty {
            throw TemplateFault(
                "the macro '\(definition.name)' takes at most \(definition.parameters.count) arguments")
        }
        return try text(try capture { _ = try run(definition.body.nodes, in: scope) })
    }

    private func callLoop(_ loop: LoopState, _ arguments: CallArguments) throws -> TemplateValue {
        let values = try arguments.bound("loop", ["iterable"], required: 1)
        guard loop.definition.isRecursive, let scope = loop.scope, let iterable = values[0] else {
            throw TemplateFault("the loop is not marked as recursive")
        }
        return try text(
            try capture { try runLoop(loop.definition, over: iterable, in: scope, depth: loop.depth + 1) })
    }

    private func callCycler(_ cycler: Cycler) throws -> TemplateValue {
        defer { cycler.position = (cycler.position + 1) % cycler.values.count }
        return cycler.values[cycler.position]
    }

    private func callBuiltin(_ builtin: Callable.Builtin, _ arguments: CallArguments) throws -> TemplateValue {
        switch builtin {
        case .raiseException:
            let message = try arguments.bound("raise_exception", ["message"], required: 1)[0] ?? .none
            throw TemplateFault(try printed(message).description, kind: .raised)
        case .strftimeNow:
            let format = try arguments.bound("strftime_now", ["format"], required: 1)[0]?.text
            guard let format else { throw TemplateFault("strftime_now needs a string") }
            try spend(format.bytes.count)
            return try text(Text(now.formatted(format.description)))
        case .range: return try makeRange(arguments)
        case .namespace:
            return try namespace(
                try dictArguments(arguments, "namespace").map { key, value in
                    guard let name = key.text else { throw TemplateFault("a namespace needs names that are strings") }
                    return (try namespaceName(name), value)
                })
        case .dict: return try dict(try dictArguments(arguments, "dict"))
        case .cycler:
            guard !arguments.positional.isEmpty else { throw TemplateFault("cycler needs at least one value") }
            return .callable(.cycler(try cycler(arguments.positional)))
        case .joiner:
            let separator = try arguments.bound("joiner", ["sep"])[0] ?? .string(", ")
            return .callable(.joiner(try cycler([separator])))
        }
    }

    /// Names of namespaces must not look like internals of Python.
    func namespaceName(_ name: Text) throws -> Text {
        guard name.bytes.first != UInt8(ascii: "_") else {
            throw TemplateFault("a namespace cannot have the attribute '\(name)', which starts with '_'")
        }
        return name
    }

    /// The entries of Python's `dict(...)`: of one mapping or of pairs, then the keywords.
    private func dictArguments(
        _ arguments: CallArguments, _ name: String
    ) throws -> [(key: TemplateValue, value: TemplateValue)] {
        guard arguments.positional.count <= 1 else { throw TemplateFault("\(name) takes at most one value") }
        var entries: [(key: TemplateValue, value: TemplateValue)] = []
        switch arguments.positional.first {
        case .dict(let mapping): entries = mapping.entries
        case let pairs?:
            for pair in try elements(pairs) {
                let parts = try elements(pair)
                guard parts.count == 2 else { throw TemplateFault("\(name) needs pairs of key and value") }
                entries.append((parts[0], parts[1]))
            }
        case nil: break
        }
        return entries + arguments.keywords.map { (.string($0.name), $0.value) }
    }

    private func makeRange(_ arguments: CallArguments) throws -> TemplateValue {
        let bounds = try arguments.bound("range", ["start", "stop", "step"], required: 1)
        let numbers = try bounds.map { value -> Int? in
            guard let value else { return nil }
            guard let number = value.index else { throw TemplateFault("range needs integers") }
            return number
        }
        let start = numbers[1] == nil ? 0 : numbers[0] ?? 0
        let stop = numbers[1] ?? numbers[0] ?? 0
        let step = numbers[2] ?? 1
        guard step != 0 else { throw TemplateFault("range has step 0") }
        let (span, overflow) =
            step > 0 ? stop.subtractingReportingOverflow(start) : start.subtractingReportingOverflow(stop)
        let count = overflow ? Int.max : span <= 0 ? 0 : (span - 1) / Int(clamping: step.magnitude) + 1
        // The sandbox's own limit.
        guard count <= 100_000 else { throw TemplateFault("a range is longer than 100000", kind: .limit) }
        return .range(PythonRange(start: start, count: count, step: step, stop: stop))
    }
}
