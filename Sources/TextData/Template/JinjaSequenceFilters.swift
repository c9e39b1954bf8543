// Filters of sequences.
extension Filters {
    static let sequenceFilters: [Text: FilterFunction] = [
        "length": { interpreter, value, _ in
            guard let length = try interpreter.length(value) else { throw interpreter.unsupported("len", value) }
            return .int(length)
        },
        "first": { interpreter, value, _ in
            try interpreter.iterator(over: value)() ?? .undefined(.silent)
        },
        "last": { interpreter, value, _ in
            if case .generator = value { throw interpreter.unsupported("last", value) }
            return try interpreter.elements(value).last ?? .undefined(.silent)
        },
        "list": { interpreter, value, _ in try interpreter.list(try interpreter.elements(value)) },
        "items": { interpreter, value, _ in
            var rest: ArraySlice<(key: TemplateValue, value: TemplateValue)>?
            return try interpreter.generator(holding: [value]) { [unowned interpreter] in
                if rest == nil {
                    guard case .dict(let mapping) = value else {
                        if value.isUndefined { return nil }
                        throw interpreter.unsupported("items", value)
                    }
                    rest = mapping.entries[...]
                }
                return try rest?.popFirst().map { try interpreter.tuple([$0.key, $0.value]) }
            }
        },
        "dictsort": { interpreter, value, arguments in
            let given = try arguments.bound("dictsort", ["case_sensitive", "by", "reverse"])
            guard case .dict(let mapping) = value else { throw interpreter.unsupported("dictsort", value) }
            let by = given[1]?.text ?? "key"
            guard by == "key" || by == "value" else { throw TemplateFault("dictsort sorts by key or value") }
            let sorted = try interpreter.sorted(mapping.entries, descending: given[2]?.isTrue ?? false) {
                try sortKey(
                    interpreter, by == "key" ? $0.key : $0.value, nil, caseSensitive: given[0]?.isTrue ?? false)
            }
            return try interpreter.list(try sorted.map { try interpreter.tuple([$0.key, $0.value]) })
        },
        "join": { interpreter, value, arguments in
            let given = try arguments.bound("join", ["d", "attribute"])
            let separator = try given[0].map { try interpreter.printed($0) } ?? Text([])
            var values = try interpreter.elements(value)
            if let attribute = given[1], !attribute.isNone {
                values = try values.map { try lookUp(interpreter, attribute, in: $0) }
            }
            return try interpreter.joined(try values.map { try interpreter.printed($0) }, separator)
        },
        "reverse": { interpreter, value, _ in
            if let string = value.text { return .string(Text(string.scalars.reversed())) }
            let reversed = Array(try interpreter.elements(value).reversed())
            if case .generator = value { return try interpreter.list(reversed) }
            return try interpreter.generator(of: reversed)
        },
        "sort": { interpreter, value, arguments in
            let given = try arguments.bound("sort", ["reverse", "case_sensitive", "attribute"])
            let isCaseSensitive = given[1]?.isTrue ?? false
            let sorted = try interpreter.sorted(
                try interpreter.elements(value), descending: given[0]?.isTrue ?? false
            ) { value in
                // Several attributes, with commas between them, sort by each in turn; keys are lists, in which what is
                // undefined compares equal.
                guard let names = given[2]?.text else {
                    return try sortKey(interpreter, value, given[2], caseSensitive: isCaseSensitive)
                }
                return try interpreter.list(
                    try names.split(",", limit: -1).map {
                        try sortKey(interpreter, value, .string($0), caseSensitive: isCaseSensitive)
                    })
            }
            return try interpreter.list(sorted)
        },
        "unique": { interpreter, value, arguments in
            let given = try arguments.bound("unique", ["case_sensitive", "attribute"])
            var seen: Set<MappingKey> = []
            return try interpreter.generator(over: value) { [unowned interpreter] in
                { element in
                    let key = try sortKey(interpreter, element, given[1], caseSensitive: given[0]?.isTrue ?? false)
                    return seen.insert(try interpreter.key(key)).inserted ? element : nil
                }
            }
        },
        "min": { interpreter, value, arguments in try extreme(interpreter, value, arguments, .ascending) },
        "max": { interpreter, value, arguments in try extreme(interpreter, value, arguments, .descending) },
        "sum": { interpreter, value, arguments in
            let given = try arguments.bound("sum", ["attribute", "start"])
            return try interpreter.elements(value).reduce(given[1] ?? .int(0)) { total, element in
                var element = element
                if let attribute = given[0], !attribute.isNone {
                    element = try lookUp(interpreter, attribute, in: element)
                }
                if element.text != nil || total.text != nil { throw interpreter.unsupported("sum", total, element) }
                return try interpreter.arithmetic(.add, total, element)
            }
        },
        "batch": { interpreter, value, arguments in
            let given = try arguments.bound("batch", ["linecount", "fill_with"], required: 1)
            var source: (() throws -> TemplateValue?)?
            return try interpreter.generator(holding: [value]) { [unowned interpreter] in
                guard let size = given[0]?.index, size > 0 else { throw TemplateFault("batch needs a positive size") }
                // Set once: a closure that is stored again and again gains a thunk each time.
                if source == nil { source = try interpreter.iterator(over: value) }
                var batch: [TemplateValue] = []
                while batch.count < size, let element = try source?() { batch.append(element) }
                guard !batch.isEmpty else { return nil }
                if let fill = given[1], !fill.isNone, batch.count < size {
                    try interpreter.spend(size / Interpreter.elementsPerFuel)
                    batch += Array(repeating: fill, count: size - batch.count)
                }
                return try interpreter.list(batch)
            }
        },
        "slice": { interpreter, value, arguments in try sliced(interpreter, value, arguments) },
        "groupby": { interpreter, value, arguments in try grouped(interpreter, value, arguments) },
        "map": { interpreter, value, arguments in try mapped(interpreter, value, arguments) },
        "select": { interpreter, value, arguments in
            try selected(interpreter, value, arguments, byAttribute: false, keeps: true)
        },
        "reject": { interpreter, value, arguments in
            try selected(interpreter, value, arguments, byAttribute: false, keeps: false)
        },
        "selectattr": { interpreter, value, arguments in
            try selected(interpreter, value, arguments, byAttribute: true, keeps: true)
        },
        "rejectattr": { interpreter, value, arguments in
            try selected(interpreter, value, arguments, byAttribute: true, keeps: false)
        },
    ]

    private static func extreme(
        _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, _ wanted: Interpreter.Order
    ) throws -> TemplateValue {
        let given = try arguments.bound("min or max", ["case_sensitive", "attribute"])
        var best: (value: TemplateValue, key: TemplateValue)?
        for element in try interpreter.elements(value) {
            let key = try sortKey(interpreter, element, given[1], caseSensitive: given[0]?.isTrue ?? false)
            guard let current = best else {
                best = (element, key)
                continue
            }
            if try interpreter.order(key, current.key, "<") == wanted { best = (element, key) }
        }
        return best?.value ?? .undefined(.silent)
    }

    private static func sliced(
        _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments
    ) throws -> TemplateValue {
        let given = try arguments.bound("slice", ["slices", "fill_with"], required: 1)
        var values: [TemplateValue]?
        var (number, start) = (0, 0)
        return try interpreter.generator(holding: [value]) { [unowned interpreter] in
            guard let count = given[0]?.index, count > 0 else { throw TemplateFault("slice needs a positive number") }
            let all = try values ?? interpreter.elements(value)
            values = all
            guard number < count else { return nil }
            try interpreter.spend(1)
            let extra = all.count % count
            let end = start + all.count / count + (number < extra ? 1 : 0)
            var part = Array(all[start..<end])
            if let fill = given[1], !fill.isNone, number >= extra { part.append(fill) }
            (number, start) = (number + 1, end)
            return try interpreter.list(part)
        }
    }

    private static func grouped(
        _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments
    ) throws -> TemplateValue {
        let given = try arguments.bound("groupby", ["attribute", "default", "case_sensitive"], required: 1)
        let attribute = given[0] ?? .none
        let isCaseSensitive = given[2]?.isTrue ?? false
        func plainKey(_ element: TemplateValue) throws -> TemplateValue {
            let key = try lookUp(interpreter, attribute, in: element)
            return key.isUndefined ? given[1] ?? key : key
        }
        func key(_ element: TemplateValue) throws -> TemplateValue {
            try sortKey(interpreter, try plainKey(element), nil, caseSensitive: isCaseSensitive)
        }
        let sorted = try interpreter.sorted(try interpreter.elements(value), by: key)
        var groups: [TemplateValue] = []
        var members: [TemplateValue] = []
        func close() throws {
            guard let first = members.first else { return }
            let name = isCaseSensitive ? try key(first) : try plainKey(first)
            let parts = [name, try interpreter.list(members)]
            groups.append(.tuple(Group(values: parts, depth: try interpreter.depth(over: parts))))
            members = []
        }
        for element in sorted {
            if let first = members.first, try !interpreter.areEqual(try key(first), try key(element)) { try close() }
            members.append(element)
        }
        try close()
        return try interpreter.list(groups)
    }

    private static func mapped(
        _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments
    ) throws -> TemplateValue {
        // Jinja does not look into a value that is false: None gives nothing.
        guard value.isTrue else { return try interpreter.generator(of: []) }
        return try interpreter.generator(over: value, holding: arguments.values) { [unowned interpreter] in
            if arguments.positional.isEmpty,
                let attribute = arguments.keywords.first(where: { $0.name == "attribute" })
            {
                let fallback = arguments.keywords.first { $0.name == "default" }?.value
                guard arguments.keywords.count == (fallback == nil ? 1 : 2) else {
                    throw TemplateFault("map with an attribute takes only a default besides")
                }
                return { try lookUp(interpreter, attribute.value, in: $0, default: fallback) }
            }
            guard let name = arguments.positional.first?.text else { throw TemplateFault("map needs a filter") }
            guard let filter = named[name] else { throw TemplateFault("there is no filter named '\(name)'") }
            let rest = CallArguments(positional: Array(arguments.positional.dropFirst()), keywords: arguments.keywords)
            return { try filter(interpreter, $0, rest) }
        }
    }

    private static func selected(
        _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, byAttribute: Bool, keeps: Bool
    ) throws -> TemplateValue {
        guard value.isTrue else { return try interpreter.generator(of: []) }
        return try interpreter.generator(over: value, holding: arguments.values) { [unowned interpreter] in
            var positional = arguments.positional[...]
            let attribute = byAttribute ? positional.popFirst() : nil
            if byAttribute, attribute == nil { throw TemplateFault("selectattr and rejectattr need an attribute") }
            var test: TestFunction = { _, value, _ in value.isTrue }
            if let name = positional.popFirst() {
                guard let text = name.text, let found = Tests.named[text] else {
                    throw TemplateFault("there is no test named '\(try interpreter.printed(name))'")
                }
                test = found
            }
            let rest = CallArguments(positional: Array(positional), keywords: arguments.keywords)
            return { element in
                let subject = try attribute.map { try lookUp(interpreter, $0, in: element) } ?? element
                return try test(interpreter, subject, rest) == keeps ? element : nil
            }
        }
    }
}
