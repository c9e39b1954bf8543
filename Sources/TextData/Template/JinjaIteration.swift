// Iterators and generators, which make one element at a time.
extension Interpreter {
    /// What Python's `iter` gives; nil ends it.
    func iterator(over value: TemplateValue) throws -> () throws -> TemplateValue? {
        if case .generator(let generator) = value { return generator.next }
        var rest = try elements(value)[...]
        return { rest.popFirst() }
    }

    /// A generator of what `transform` makes of each element of `value`; where it gives nil, the element is left out.
    ///
    /// As in Python, nothing is looked at before the first element is asked for, `prepare` neither: a fault in a
    /// generator that nobody reads is none.
    func generator(
        over value: TemplateValue, holding others: [TemplateValue] = [],
        _ prepare: @escaping () throws -> ((TemplateValue) throws -> TemplateValue?)
    ) throws -> TemplateValue {
        var running: (next: () throws -> TemplateValue?, transform: (TemplateValue) throws -> TemplateValue?)?
        return try generator(holding: [value] + others) { [unowned self] in
            if running == nil { running = (try iterator(over: value), try prepare()) }
            while let running, let element = try running.next() {
                try spend(1)
                if let made = try running.transform(element) { return made }
            }
            return nil
        }
    }

    /// - Parameter values: what `make` needs; they count as parts of the generator.
    func generator(
        holding values: [TemplateValue], make: @escaping () throws -> TemplateValue?
    ) throws -> TemplateValue {
        try spend(1)
        return .generator(
            Generator(depth: try depth(over: values)) { [unowned self] in
                // Generators may stand in a chain.
                try checkStack()
                return try make()
            })
    }

    /// A generator over elements that are there already.
    func generator(of values: [TemplateValue]) throws -> TemplateValue {
        try spend(values.count / Self.elementsPerFuel)
        var rest = values[...]
        return try generator(holding: values) { rest.popFirst() }
    }
}
