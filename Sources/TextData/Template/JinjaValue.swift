/// A value of a running template. Lists and dictionaries cannot be changed, as in the sandbox Transformers uses.
enum TemplateValue {
    case undefined(Undefined)
    case none
    case bool(Bool)
    case int(Int)
    /// The digits of an integer beyond 64 bits: it can be written and compared, but not reckoned with.
    case bigInt(Text)
    case float(Double)
    case string(Text)
    /// What `encode` gives.
    case bytes([UInt8])
    case list(Items)
    case tuple(Items)
    case dict(Mapping)
    /// `dict.keys()`, `.values()` and `.items()`.
    case view(Items, ViewKind)
    /// What `map`, `select`, `reverse` and kin give: it can be run through once and has no length.
    case generator(Generator)
    case range(PythonRange)
    case namespace(Namespace)
    case loop(LoopState)
    case callable(Callable)

    enum ViewKind { case keys, values, items }

    /// Why a value is undefined.
    enum Undefined {
        case name(Text)
        case attribute(Text)
        case element
        /// The sandbox does not give this attribute away: it would change the object.
        case forbidden(Text)
        case silent
    }
}

/// The elements of a list, and how deep values are nested in it.
class Items {
    private let storage: [TemplateValue]
    let depth: Int
    /// For the messages and what is cut off their start: what takes note of reads; and where it begins among them.
    let series: RoundRecorder?
    let offset: Int
    /// Whether it came from outside: every rendering of a conversation has the same.
    let isGiven: Bool

    init(
        values: [TemplateValue], depth: Int, series: RoundRecorder? = nil, offset: Int = 0, isGiven: Bool = false
    ) {
        storage = values
        self.isGiven = isGiven
        self.depth = depth
        self.series = series
        self.offset = offset
    }

    var values: [TemplateValue] {
        series?.readAll()
        return storage
    }

    /// The element `index`, counted from the end where it is negative; only that is noted as read.
    func element(_ index: Int) -> TemplateValue? {
        guard let series, index >= 0, index <= storage.count else {
            let values = values
            let position = index < 0 ? index + values.count : index
            return values.indices.contains(position) ? values[position] : nil
        }
        series.readMessage(offset + index)
        return index < storage.count ? storage[index] : nil
    }

    /// All from `start` on as a part of the messages; nil where it is none.
    func rest(from start: Int, depth: Int) -> Items? {
        guard let series, !series.isActive, (0...storage.count).contains(start) else { return nil }
        return Items(values: Array(storage[start...]), depth: depth, series: series, offset: offset + start)
    }
}

/// A dictionary in insertion order.
final class Mapping {
    let entries: [(key: TemplateValue, value: TemplateValue)]
    let depth: Int
    /// As of `Items`.
    let isGiven: Bool
    private let keys: [MappingKey]
    /// Of keys that are strings; 0 for others.
    private let marks: [UInt64]
    /// Small dictionaries are searched one by one.
    private static let searchLimit = 12
    private lazy var index = Dictionary(zip(keys, keys.indices), uniquingKeysWith: { _, last in last })

    /// - Parameter keys: the hashable form of each entry's key; all distinct.
    init(
        entries: [(key: TemplateValue, value: TemplateValue)], keys: [MappingKey], depth: Int, isGiven: Bool = false
    ) {
        self.entries = entries
        self.isGiven = isGiven
        self.keys = keys
        marks = keys.map { if case .string(let text) = $0 { text.mark } else { 0 } }
        self.depth = depth
    }
    subscript(key: MappingKey) -> TemplateValue? {
        if case .string(let text) = key { return self[text] }
        let place = keys.count > Self.searchLimit ? index[key] : keys.lastIndex(of: key)
        return place.map { entries[$0].value }
    }
    subscript(key: Text) -> TemplateValue? {
        guard keys.count <= Self.searchLimit else { return index[.string(key)].map { entries[$0].value } }
        let mark = key.mark
        for i in marks.indices.reversed() where marks[i] == mark && keys[i] == .string(key) { return entries[i].value }
        return nil
    }
}

/// What may be a key: equal numbers are one key whatever their type.
enum MappingKey: Hashable {
    case none
    case int(Int)
    case bigInt(Text)
    case float(Double)
    case string(Text)
    case bytes([UInt8])
    case tuple([MappingKey])
    case range(start: Int, count: Int, step: Int)
    /// Every undefined value is the same key.
    case undefined
    case object(ObjectIdentifier)
    /// Methods and functions, which no dictionary of a template holds.
    case function
}

/// Python's generator: an element is made when it is asked for, and each only once.
final class Generator {
    private var make: (() throws -> TemplateValue?)?
    let depth: Int

    /// - Parameter make: gives the next element, nil at the end.
    init(depth: Int, make: @escaping () throws -> TemplateValue?) {
        self.make = make
        self.depth = depth
    }
    func next() throws -> TemplateValue? {
        if let value = try make?() { return value }
        make = nil
        return nil
    }
}

struct PythonRange {
    var start: Int
    var count: Int
    var step: Int
    /// As it was written; only printing shows it.
    var stop: Int
    subscript(index: Int) -> Int { start &+ index &* step }
}

/// What `namespace(...)` makes: the only thing a template can change.
final class Namespace {
    /// Counts those that are made outside of rounds that are noted; -1 for those inside.
    let number: Int
    private var values: [Text: TemplateValue] = [:]
    /// In the order in which they were first set.
    private(set) var names: [Text] = []

    init(number: Int) { self.number = number }

    subscript(name: Text) -> TemplateValue? {
        get { values[name] }
        set {
            if values.updateValue(newValue ?? .none, forKey: name) == nil { names.append(name) }
        }
    }
    func clear() { (values, names) = ([:], []) }
}

/// Whatever can be called: a macro, a global function or a method with its receiver.
enum Callable {
    case macro(Macro)
    case builtin(Builtin)
    case method(BoundMethod)
    case cycler(Cycler)
    case joiner(Cycler)

    enum Builtin { case raiseException, strftimeNow, range, namespace, dict, cycler, joiner }
}

final class BoundMethod {
    let receiver: TemplateValue
    let name: Text
    init(receiver: TemplateValue, name: Text) {
        self.receiver = receiver
        self.name = name
    }
}

final class Cycler {
    let values: [TemplateValue]
    var position = 0
    let depth: Int
    init(values: [TemplateValue], depth: Int) {
        self.values = values
        self.depth = depth
    }
}

final class Macro {
    let definition: MacroDefinition
    let scope: VariableScope
    let isAtTop: Bool
    init(definition: MacroDefinition, scope: VariableScope, isAtTop: Bool) {
        self.definition = definition
        self.scope = scope
        self.isAtTop = isAtTop
    }
}

/// The variables of one block; small, so a linear search is the fastest.
final class VariableScope {
    let parent: VariableScope?
    /// The round that is noted and that made it, 0 for none.
    let round: Int
    private var variables: [(name: Int, value: TemplateValue)] = []

    init(parent: VariableScope?, round: Int = 0) {
        self.parent = parent
        self.round = round
    }

    func own(_ name: Int) -> TemplateValue? {
        for i in variables.indices where variables[i].name == name { return variables[i].value }
        return nil
    }

    func lookUp(_ name: Int) -> TemplateValue? {
        var scope: VariableScope? = self
        while let current = scope {
            if let value = current.own(name) { return value }
            scope = current.parent
        }
        return nil
    }
    func set(_ name: Int, _ value: TemplateValue) {
        for i in variables.indices where variables[i].name == name {
            variables[i].value = value
            return
        }
        variables.append((name, value))
    }
    func clear() { variables = [] }
}

extension TemplateValue {
    /// How deep values are nested in this one; bounded, so that walking and freeing a value cannot exhaust the stack.
    var depth: Int {
        switch self {
        case .list(let items), .tuple(let items), .view(let items, _): items.depth
        case .dict(let dictionary): dictionary.depth
        case .generator(let generator): generator.depth
        case .callable(.method(let method)): method.receiver.depth + 1
        case .callable(.cycler(let cycler)), .callable(.joiner(let cycler)): cycler.depth
        default: 0
        }
    }
    var isUndefined: Bool { if case .undefined = self { true } else { false } }
    var isNone: Bool { if case .none = self { true } else { false } }
    var text: Text? { if case .string(let text) = self { text } else { nil } }
    /// Python's `int(...)` of what counts as an index: integers and booleans.
    var index: Int? {
        switch self {
        case .int(let value): value
        case .bool(let value): value ? 1 : 0
        default: nil
        }
    }
    var number: Double? {
        if case .float(let value) = self { value } else { index.map(Double.init) }
    }
    var isBigInt: Bool { if case .bigInt = self { true } else { false } }
    /// The number as a double, also of an integer beyond 64 bits.
    var approximate: Double {
        if case .bigInt(let digits) = self { Double(digits.description) ?? 0 } else { number ?? 0 }
    }
    static func string(_ text: String) -> TemplateValue { .string(Text(text)) }

    /// Python's name of the type, for error texts.
    var typeName: String {
        switch self {
        case .undefined: "undefined"
        case .none: "None"
        case .bool: "bool"
        case .int, .bigInt: "int"
        case .float: "float"
        case .string: "str"
        case .bytes: "bytes"
        case .list: "list"
        case .tuple: "tuple"
        case .dict: "dict"
        case .view(_, let kind): kind == .keys ? "dict_keys" : kind == .values ? "dict_values" : "dict_items"
        case .generator: "generator"
        case .range: "range"
        case .namespace: "Namespace"
        case .loop: "LoopContext"
        case .callable(.macro): "macro"
        case .callable: "function"
        }
    }

    var isTrue: Bool {
        switch self {
        case .undefined, .none: false
        case .bool(let value): value
        case .int(let value): value != 0
        case .float(let value): value != 0
        case .bigInt: true
        case .string(let text): !text.isEmpty
        case .bytes(let bytes): !bytes.isEmpty
        case .list(let items), .tuple(let items), .view(let items, _): !items.values.isEmpty
        case .dict(let dictionary): !dictionary.entries.isEmpty
        case .range(let range): range.count > 0
        case .generator, .namespace, .loop, .callable: true
        }
    }
}

/// Why evaluation stopped; the line is filled in where it is known.
struct TemplateFault: Error {
    enum Kind { case failed, raised, limit }
    var kind = Kind.failed
    var message: String
    var line: Int?

    init(_ message: String, line: Int? = nil, kind: Kind = .failed) {
        self.kind = kind
        self.message = message
        self.line = line
    }
}
