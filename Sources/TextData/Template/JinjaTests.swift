/// Jinja's built-in tests.
enum Tests {
    static let named: [Text: TestFunction] = {
        // Tests of the kind of a value take nothing else.
        var table = typeTests.mapValues { test -> TestFunction in
            { interpreter, value, arguments in
                guard arguments.isEmpty else { throw TemplateFault("a test was given arguments it does not take") }
                return try test(interpreter, value, arguments)
            }
        }
        table.merge(measures) { _, new in new }
        table.merge(comparisons) { _, new in new }
        return table
    }()

    private static let typeTests: [Text: TestFunction] = [
        "defined": { _, value, _ in !value.isUndefined },
        "undefined": { _, value, _ in value.isUndefined },
        "none": { _, value, _ in value.isNone },
        "boolean": { _, value, _ in if case .bool = value { true } else { false } },
        "true": { _, value, _ in if case .bool(true) = value { true } else { false } },
        "false": { _, value, _ in if case .bool(false) = value { true } else { false } },
        "integer": { _, value, _ in if case .int = value { true } else { value.isBigInt } },
        "float": { _, value, _ in if case .float = value { true } else { false } },
        "number": { _, value, _ in value.number != nil || value.isBigInt },
        "string": { _, value, _ in value.text != nil },
        "mapping": { _, value, _ in if case .dict = value { true } else { false } },
        "sequence": { _, value, _ in
            switch value {
            case .undefined, .string, .bytes, .list, .tuple, .dict, .range: true
            default: false
            }
        },
        "iterable": { _, value, _ in
            switch value {
            case .undefined, .string, .bytes, .list, .tuple, .dict, .range, .view, .generator, .loop: true
            default: false
            }
        },
        "callable": { _, value, _ in
            switch value {
            case .callable, .undefined, .loop: true
            default: false
            }
        },
        "escaped": { _, value, _ in value.text?.isMarkup ?? false },
        "lower": { interpreter, value, _ in
            try Filters.classified(interpreter, value).predicate("islower") ?? false
        },
        "upper": { interpreter, value, _ in
            try Filters.classified(interpreter, value).predicate("isupper") ?? false
        },
        "odd": { interpreter, value, _ in try remainder(interpreter, value, .int(2)) == 1 },
        "even": { interpreter, value, _ in try remainder(interpreter, value, .int(2)) == 0 },
        "filter": { interpreter, value, _ in
            _ = try interpreter.key(value)
            return value.text.map { Filters.named[$0] != nil } ?? false
        },
        "test": { interpreter, value, _ in
            _ = try interpreter.key(value)
            return value.text.map { named[$0] != nil } ?? false
        },
    ]

    private static let measures: [Text: TestFunction] = [
        "divisibleby": { interpreter, value, arguments in
            let divisor = try arguments.bound("divisibleby", ["num"], required: 1)[0] ?? .none
            return try remainder(interpreter, value, divisor) == 0
        },
        "sameas": { interpreter, value, arguments in
            let other = try arguments.bound("sameas", ["other"], required: 1)[0] ?? .none
            return try value.typeName == other.typeName && interpreter.areEqual(value, other)
        },
    ]

    private static func remainder(
        _ interpreter: Interpreter, _ value: TemplateValue, _ divisor: TemplateValue
    ) throws -> Double {
        let result = try interpreter.arithmetic(.remainder, value, divisor)
        guard let number = result.number else { throw interpreter.unsupported("%", value, divisor) }
        return number
    }

    private static let comparisons: [Text: TestFunction] = {
        let names: [(ComparisonOperator, [Text])] = [
            (.equal, ["eq", "equalto", "=="]), (.notEqual, ["ne", "!="]), (.less, ["lt", "lessthan", "<"]),
            (.lessOrEqual, ["le", "<="]), (.greater, ["gt", "greaterthan", ">"]), (.greaterOrEqual, ["ge", ">="]),
            (.in, ["in"]),
        ]
        var table: [Text: TestFunction] = [:]
        for (comparison, spellings) in names {
            for name in spellings {
                table[name] = { interpreter, value, arguments in
                    let other = try arguments.bound(name.description, ["other"], required: 1)[0] ?? .none
                    return try interpreter.compare(comparison, value, other)
                }
            }
        }
        return table
    }()
}
