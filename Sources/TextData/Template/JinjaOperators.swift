import Foundation

// What operators, subscripts and iteration mean for each type, as in Python.
extension Interpreter {
    func undefined(_ value: TemplateValue) -> TemplateFault {
        guard case .undefined(let reason) = value else { return TemplateFault("undefined") }
        return switch reason {
        case .name(let name): TemplateFault("'\(name)' is undefined")
        case .attribute(let name): TemplateFault("there is no attribute or key '\(name)'")
        case .element: TemplateFault("there is no such element")
        case .forbidden(let name): TemplateFault("'\(name)' changes its object, which templates may not")
        case .silent: TemplateFault("the value is undefined")
        }
    }

    func unsupported(_ operation: String, _ a: TemplateValue, _ b: TemplateValue? = nil) -> TemplateFault {
        if a.isUndefined { return undefined(a) }
        if case .bigInt = a { return Self.tooLarge }
        guard let b else { return TemplateFault("'\(operation)' does not work on a \(a.typeName)") }
        if b.isUndefined { return undefined(b) }
        if case .bigInt = b { return Self.tooLarge }
        return TemplateFault("'\(operation)' does not work on a \(a.typeName) and a \(b.typeName)")
    }

    /// What a loop over the value runs through.
    func elements(_ value: TemplateValue) throws -> [TemplateValue] {
        switch value {
        case .undefined: return []
        case .list(let items), .tuple(let items), .view(let items, _): return items.values
        case .dict(let mapping):
            try spend(mapping.entries.count / Self.elementsPerFuel)
            return mapping.entries.map(\.key)
        case .generator(let generator):
            var values: [TemplateValue] = []
            while let value = try generator.next() { values.append(value) }
            return values
        case .bytes(let bytes):
            try spend(bytes.count / Self.elementsPerFuel)
            return bytes.map { .int(Int($0)) }
        case .range(let range):
            try spend(range.count / Self.elementsPerFuel)
            return (0..<range.count).map { .int(range[$0]) }
        case .string(let text):
            // Each character becomes a string of its own.
            try spend(text.bytes.count / 2)
            return text.scalars.map { .string(Text(CollectionOfOne($0))) }
        case .loop, .none, .bool, .int, .bigInt, .float, .namespace, .callable:
            throw TemplateFault("a \(value.typeName) cannot be iterated")
        }
    }

    private func scalarCount(_ text: Text) throws -> Int {
        try spend(scanning: text)
        return text.count
    }

    /// Python's `len`; nil where a type has none.
    func length(_ value: TemplateValue) throws -> Int? {
        switch value {
        case .undefined: 0
        case .string(let text): try scalarCount(text)
        case .bytes(let bytes): bytes.count
        case .list(let items), .tuple(let items), .view(let items, _): items.values.count
        case .dict(let mapping): mapping.entries.count
        case .range(let range): range.count
        case .loop(let loop): try length(of: loop)
        default: nil
        }
    }

    // MARK: Arithmetic

    func negated(_ value: TemplateValue) throws -> TemplateValue {
        if case .float(let number) = value { return .float(-number) }
        guard let number = value.index else { throw unsupported("-", value) }
        return .int(try checked((0).subtractingReportingOverflow(number)))
    }

    private func checked(_ result: (partialValue: Int, overflow: Bool)) throws -> Int {
        guard !result.overflow else { throw Self.tooLarge }
        return result.partialValue
    }
    private static var tooLarge: TemplateFault { TemplateFault("an integer does not fit 64 bits") }

    func arithmetic(
        _ operation: ArithmeticOperator, _ a: TemplateValue, _ b: TemplateValue
    ) throws -> TemplateValue {
        if let x = a.index, let y = b.index { return try integerArithmetic(operation, x, y) }
        if let x = a.number, let y = b.number { return try floatArithmetic(operation, x, y) }
        switch (operation, a, b) {
        case (.add, .string(let x), .string(let y)): return try text(joined(x, y))
        case (.add, .list(let x), .list(let y)): return try list(x.values + y.values)
        case (.add, .tuple(let x), .tuple(let y)): return try tuple(x.values + y.values)
        case (.multiply, .string(let x), _): if let n = b.index { return try repeated(x, n) }
        case (.multiply, _, .string(let y)): if let n = a.index { return try repeated(y, n) }
        case (.multiply, .list(let x), _): if let n = b.index { return try list(try repeated(x, n)) }
        case (.multiply, _, .list(let y)): if let n = a.index { return try list(try repeated(y, n)) }
        case (.multiply, .tuple(let x), _): if let n = b.index { return try tuple(try repeated(x, n)) }
        case (.multiply, _, .tuple(let y)): if let n = a.index { return try tuple(try repeated(y, n)) }
        case (.remainder, .string(let format), _): return try text(try printf(format, b))
        default: break
        }
        let names: [ArithmeticOperator: String] = [
            .add: "+", .subtract: "-", .multiply: "*", .divide: "/", .floorDivide: "//", .remainder: "%", .power: "**",
        ]
        throw unsupported(names[operation] ?? "?", a, b)
    }

    private func joined(_ a: Text, _ b: Text) -> Text {
        guard a.isMarkup || b.isMarkup else { return Text(a.bytes + b.bytes) }
        return Text(a.escaped().bytes + b.escaped().bytes, isMarkup: true)
    }

    private func repeated(_ text: Text, _ count: Int) throws -> TemplateValue {
        let (size, overflow) = text.bytes.count.multipliedReportingOverflow(by: max(count, 0))
        try spend(overflow ? Self.fuelLimit + 1 : size / Self.bytesPerFuel)
        return .string(Text(Array(repeatElement(text.bytes, count: max(count, 0)).joined()), isMarkup: text.isMarkup))
    }

    private func repeated(_ items: Items, _ count: Int) throws -> [TemplateValue] {
        let (size, overflow) = items.values.count.multipliedReportingOverflow(by: max(count, 0))
        try spend(overflow ? Self.fuelLimit + 1 : size / Self.elementsPerFuel)
        return Array(repeatElement(items.values, count: max(count, 0)).joined())
    }

    private func integerArithmetic(_ operation: ArithmeticOperator, _ x: Int, _ y: Int) throws -> TemplateValue {
        switch operation {
        case .add: return .int(try checked(x.addingReportingOverflow(y)))
        case .subtract: return .int(try checked(x.subtractingReportingOverflow(y)))
        case .multiply: return .int(try checked(x.multipliedReportingOverflow(by: y)))
        case .divide: return try floatArithmetic(.divide, Double(x), Double(y))
        case .floorDivide, .remainder:
            guard y != 0 else { throw TemplateFault("division by zero") }
            let quotient = try checked(x.dividedReportingOverflow(by: y))
            let rest = x - quotient * y
            let isBelow = rest != 0 && (rest < 0) != (y < 0)
            if operation == .remainder { return .int(isBelow ? rest + y : rest) }
            return .int(isBelow ? quotient - 1 : quotient)
        case .power:
            if y < 0 { return try floatArithmetic(.power, Double(x), Double(y)) }
            var result = 1
            guard abs(Double(x)) > 1 else {
                return .int(x == 0 ? (y == 0 ? 1 : 0) : x == 1 || y % 2 == 0 ? 1 : -1)
            }
            // At most 63 rounds: then a base of 2 or more overflows.
            for _ in 0..<y { result = try checked(result.multipliedReportingOverflow(by: x)) }
            return .int(result)
        }
    }

    private func floatArithmetic(_ operation: ArithmeticOperator, _ x: Double, _ y: Double) throws -> TemplateValue {
        switch operation {
        case .add: return .float(x + y)
        case .subtract: return .float(x - y)
        case .multiply: return .float(x * y)
        case .divide, .floorDivide, .remainder:
            guard y != 0 else { throw TemplateFault("division by zero") }
            if operation == .divide { return .float(x / y) }
            var rest = fmod(x, y)
            if rest != 0, (rest < 0) != (y < 0) { rest += y }
            if rest == 0 { rest = y < 0 ? -0.0 : 0.0 }
            if operation == .remainder { return .float(rest) }
            let quotient = ((x - rest) / y).rounded()
            return .float(quotient == 0 ? (x.sign == y.sign ? 0.0 : -0.0) : quotient)
        case .power:
            let result = pow(x, y)
            guard x != 0 || y >= 0 else { throw TemplateFault("division by zero") }
            guard result.isFinite || !x.isFinite || !y.isFinite else { throw TemplateFault("a power is out of range") }
            return .float(result)
        }
    }

    // MARK: Comparison

    func compare(_ operation: ComparisonOperator, _ a: TemplateValue, _ b: TemplateValue) throws -> Bool {
        switch operation {
        case .equal: return try areEqual(a, b)
        case .notEqual: return try !areEqual(a, b)
        case .in: return try contains(b, a)
        case .notIn: return try !contains(b, a)
        case .less: return try order(a, b, "<") == .ascending
        case .lessOrEqual: return [.ascending, .same].contains(try order(a, b, "<="))
        case .greater: return try order(a, b, ">") == .descending
        case .greaterOrEqual: return [.descending, .same].contains(try order(a, b, ">="))
        }
    }

    func areEqual(_ a: TemplateValue, _ b: TemplateValue) throws -> Bool {
        try spend(1)
        switch (a, b) {
        case (.undefined, .undefined), (.none, .none): return true
        case (.string(let x), .string(let y)):
            if x.bytes.count == y.bytes.count { try spend(scanning: x) }
            return x == y
        case (.list(let x), .list(let y)), (.tuple(let x), .tuple(let y)):
            guard x.values.count == y.values.count else { return false }
            for (left, right) in zip(x.values, y.values) where try !areEqual(left, right) { return false }
            return true
        case (.dict(let x), .dict(let y)):
            guard x.entries.count == y.entries.count else { return false }
            for entry in x.entries {
                guard let other = y[try key(entry.key)], try areEqual(entry.value, other) else { return false }
            }
            return true
        case (.range(let x), .range(let y)):
            return x.count == y.count && (x.count == 0 || x.start == y.start && (x.count == 1 || x.step == y.step))
        case (.view(let x, .keys), .view(let y, .keys)):
            return try x.values.count == y.values.count && x.values.allSatisfy { try contains(b, $0) }
        case (.namespace(let x), .namespace(let y)): return x === y
        case (.bigInt(let x), .bigInt(let y)): return x == y
        case (.bytes(let x), .bytes(let y)): return x == y
        default:
            if let x = a.index, let y = b.index { return x == y }
            if let x = a.number, let y = b.number { return x == y }
            return false
        }
    }

    enum Order { case ascending, same, descending, unordered }

    func order(_ a: TemplateValue, _ b: TemplateValue, _ operation: String) throws -> Order {
        try spend(1)
        if let x = a.index, let y = b.index { return x < y ? .ascending : x == y ? .same : .descending }
        if let x = a.number, let y = b.number {
            return x < y ? .ascending : x == y ? .same : x > y ? .descending : .unordered
        }
        switch (a, b) {
        case (.bigInt, _) where b.number != nil || b.isBigInt, (_, .bigInt) where a.number != nil:
            let (x, y) = (a.approximate, b.approximate)
            // Of two of the same size, the digits decide.
            if x == y, case .bigInt(let m) = a, case .bigInt(let n) = b {
                if m == n { return .same }
                let isLess =
                    m.bytes.count == n.bytes.count
                    ? m.bytes.lexicographicallyPrecedes(n.bytes) : m.bytes.count < n.bytes.count
                return isLess != (x < 0) ? .ascending : .descending
            }
            return x < y ? .ascending : x == y ? .same : x > y ? .descending : .unordered
        case (.string(let x), .string(let y)):
            try spend(scanning: x)
            // UTF-8 sorts as code points do.
            return x == y ? .same : x.bytes.lexicographicallyPrecedes(y.bytes) ? .ascending : .descending
        case (.list(let x), .list(let y)), (.tuple(let x), .tuple(let y)):
            for (left, right) in zip(x.values, y.values) where try !areEqual(left, right) {
                return try order(left, right, operation)
            }
            let (m, n) = (x.values.count, y.values.count)
            return m < n ? .ascending : m == n ? .same : .descending
        default: throw unsupported(operation, a, b)
        }
    }

    func contains(_ container: TemplateValue, _ value: TemplateValue) throws -> Bool {
        switch container {
        case .string(let text):
            guard let part = value.text else { throw unsupported("in", value, container) }
            try spend(scanning: text)
            return text.contains(part)
        case .dict(let mapping): return mapping[try key(value)] != nil
        case .namespace: throw unsupported("in", value, container)
        default:
            let next = try iterator(over: container)
            while let element = try next() {
                if try areEqual(element, value) { return true }
            }
            return false
        }
    }
}
