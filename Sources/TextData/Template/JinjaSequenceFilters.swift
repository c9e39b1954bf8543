// Filters of sequences.
extension Filters {
    static let sequenceFilters: [Text: FilterFunction] = [
        "length": { interpreter, value, _ in
            guard let length = try interpreter.length(value) else { throw interpreter.unsupported("len", value) }
            return .int(length)
        },
        "first": { interpreter, value, _ in
            if case .generator(let generator) = value { return generator.next() ?? .undefined(.silent) }
            return try interpreter.elements(value).first ?? .undefined(.silent)
        },
        "last": { interpreter, value, _ in
            if case .generator = value { throw interpreter.unsupported("last", value) }
            return try interpreter.elements(value).last ?? .undefined(.silent)
        },
        "list": { interpreter, value, _ in try interpreter.list(try interpreter.elements(value)) },
        "items": { interpreter, value, _ in
            if value.isUndefined { return try interpreter.generator([]) }
            guard case .dict(let mapping) = value else { throw interpreter.unsupported("items", value) }
            return try interpreter.generator(
                try mapping.entries.map { try interpreter.tuple([$0.key, $0.value]) })
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
            if case .generator(let generator) = value { return try interpreter.list(generator.rest().reversed()) }
            return try interpreter.generator(try interpreter.elements(value).reversed())
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
            return try interpreter.generator(
                try interpreter.elements(value).filter {
                    let key = try sortKey(interpreter, $0, given[1], caseSensitive: given[0]?.isTrue ?? false)
                    return seen.insert(try interpreter.key(key)).inserted
                })
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
            guard let size = given[0]?.index, size > 0 else { throw TemplateFault("batch needs a positive size") }
            let values = try interpreter.elements(value)
            var batches: [TemplateValue] = []
            for start in stride(from: 0, to: values.count, by: size) {
                var batch = Array(values[start..<min(start + size, values.count)])
                if let fill = given[1], !fill.isNone, batch.count < size {
                    try interpreter.spend(size / Interpreter.elementsPerFuel)
                    batch += Array(repeating: fill, count: size - batch.count)
                }
                batches.append(try interpreter.list(batch))
            }
            return try interpreter.generator(batches)
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
        guard let count = given[0]?.index, count > 0, count <= 100_000 else {
            throw TemplateFault("slice needs a positive number")
        }
        try interpreter.spend(count)
        let values = try interpreter.elements(value)
        let (size, extra) = (values.count / count, values.count % count)
        var start = 0
        var slices: [TemplateValue] = []
        for i in 0..<count {
            let end = start + size + (i < extra ? 1 : 0)
            var part = Array(values[start..<end])
            if let fill = given[1], !fill.isNone, i >= extra { part.append(fill) }
            slices.append(try interpreter.list(part))
            start = end
        }
        return try interpreter.generator(slices)
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
        let values = value.isTrue ? try interpreter.elements(value) : []
        if arguments.positional.isEmpty, let attribute = arguments.keywords.first(where: { $0.name == "attribute" }) {
            let fallback = arguments.keywords.first { $0.name == "default" }?.value
            return try interpreter.generator(
                try values.map { element in
                    try interpreter.spend(1)
                    return try lookUp(interpreter, attribute.value, in: element, default: fallback)
                })
        }
        guard let name = arguments.positional.first?.text else { throw TemplateFault("map needs a filter") }
        guard let filter = named[name] else { throw TemplateFault("there is no filter named '\(name)'") }
        let rest = CallArguments(positional: Array(arguments.positional.dropFirst()), keywords: arguments.keywords)
        return try interpreter.generator(
            try values.map {
                try interpreter.spend(1)
                return try filter(interpreter, $0, rest)
            })
    }

    private static func selected(
        _ interpreter: Interpreter, _ value: TemplateValue, _ arguments: CallArguments, byAttribute: Bool, keeps: Bool
    ) throws -> TemplateValue {
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
        return try interpreter.generator(
            try (value.isTrue ? interpreter.elements(value) : []).filter { element in
                try interpreter.spend(1)
                let subject = try attribute.map { try lookUp(interpreter, $0, in: element) } ?? element
                return try test(interpreter, subject, rest) == keeps
            })
    }
}
