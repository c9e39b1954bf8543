import Foundation

/// Runs one rendering of a program. It holds no object of the host, and everything it does costs fuel.
final class Interpreter {
    static let fuelLimit = 1_000_000
    static let outputLimit = 1 << 20
    static let callDepthLimit = 32
    static let valueDepthLimit = 128
    /// What one unit of fuel buys: bytes of new text, elements of new sequences.
    static let bytesPerFuel = 64
    static let elementsPerFuel = 4
    static let scannedBytesPerFuel = 256
    /// Where each code point is looked up in Unicode's tables.
    static let classifiedBytesPerFuel = 8

    static let globalNames: [Text] = [
        "raise_exception", "strftime_now", "range", "namespace", "dict", "cycler", "joiner",
    ]
    private static let globals: [Callable.Builtin] = [
        .raiseException, .strftimeNow, .range, .namespace, .dict, .cycler, .joiner,
    ]
    // Symbols every parser reserves, in the order of its initialiser.
    static let loopSymbol = globalNames.count
    static let callerSymbol = loopSymbol + 1
    static let varargsSymbol = loopSymbol + 2
    static let kwargsSymbol = loopSymbol + 3

    let program: TemplateProgram
    let now: CivilTime
    let memory: RoundMemory?
    let recorder: RoundRecorder?
    var fuel = Interpreter.fuelLimit
    private var callDepth = 0
    private let stackLimit = StackBounds.lowestSafeAddress()
    /// The variables the template sets outside of every block.
    private(set) var root = VariableScope(parent: nil)

    /// The text written so far: of the template, or of the innermost capture.
    var output: [UInt8] = []
    private var captureDepth = 0
    var isCapturing: Bool { captureDepth > 0 }
    var escapes = false
    var generationSpans: [Range<Int>] = []
    /// Set when a generation block wrote into a capture, where its place in the final text is not known.
    var hasLostSpans = false
    /// Namespaces, scopes and loops that could be part of a reference cycle; emptied at the end.
    private(set) var namespaces: [Namespace] = []
    private var innerNamespaces: [Namespace] = []
    private var capturedScopes: [VariableScope] = []
    private var exposedLoops: [LoopState] = []

    enum Flow { case normal, breakLoop, continueLoop }

    /// - Parameter remembering: notes what rounds of loops do, for other renderings of the same program.
    init(program: TemplateProgram, now: CivilTime, remembering: (memory: RoundMemory, recorder: RoundRecorder)? = nil) {
        self.program = program
        self.now = now
        memory = remembering?.memory
        recorder = remembering?.recorder
    }

    deinit {
        for namespace in namespaces + innerNamespaces { namespace.clear() }
        for scope in capturedScopes { scope.clear() }
        for loop in exposedLoops { loop.clear() }
    }

    /// Renders with `variables` as the context.
    func run(_ variables: [ChatTemplate.Variable]) throws {
        let context = VariableScope(parent: nil)
        for (i, builtin) in Self.globals.enumerated() { context.set(i, .callable(.builtin(builtin))) }
        for (symbol, value) in variables { context.set(symbol, value) }
        root = VariableScope(parent: context)
        capturedScopes = [root, context]
        // What hides nothing that is there need not be looked at again.
        hiddenNames =
            memory?.hiddenNames ?? program.hiddenNames.map { names in names.filter { context.own($0) != nil } }
        if hiddenNames.allSatisfy({ $0.isEmpty }) { hiddenNames = [] }
        memory?.hiddenNames = hiddenNames
        _ = try run(program.body, in: root)
    }

    private var hiddenNames: [[Int]] = []

    /// Makes names undefined that Jinja takes for variables of the scope because it sets them later.
    func hide(_ number: Int, in scope: VariableScope) {
        guard number < hiddenNames.count else { return }
        for name in hiddenNames[number] { scope.set(name, .undefined(.name(program.symbols[name]))) }
    }

    // MARK: Limits

    func spend(_ amount: Int) throws {
        guard amount <= fuel else {
            fuel = 0
            throw TemplateFault("more than \(Self.fuelLimit) operations", kind: .limit)
        }
        fuel -= amount
    }

    /// For work that looks at every byte of a text but makes no new one.
    func spend(scanning text: Text) throws { try spend(text.bytes.count / Self.scannedBytesPerFuel) }

    /// For work that looks up the properties of every code point.
    func spend(classifying text: Text) throws { try spend(text.bytes.count / Self.classifiedBytesPerFuel) }

    func checkStack() throws {
        var marker: UInt8 = 0
        let address = withUnsafeMutablePointer(to: &marker) { UInt(bitPattern: $0) }
        if address < stackLimit { throw TemplateFault("more stack than the thread has", kind: .limit) }
    }

    /// Counts a call of a macro or of a recursive loop.
    func called<Result>(_ body: () throws -> Result) throws -> Result {
        callDepth += 1
        defer { callDepth -= 1 }
        guard callDepth <= Self.callDepthLimit else {
            throw TemplateFault("calls nested deeper than \(Self.callDepthLimit)", kind: .limit)
        }
        return try body()
    }

    // MARK: Making values

    func newScope(in parent: VariableScope) -> VariableScope {
        VariableScope(parent: parent, round: recorder?.number ?? 0)
    }

    func text(_ text: Text) throws -> TemplateValue {
        try spend(text.bytes.count / Self.bytesPerFuel)
        return .string(text)
    }

    func items(_ values: [TemplateValue]) throws -> Items {
        try spend(values.count / Self.elementsPerFuel)
        return Items(values: values, depth: try depth(over: values))
    }
    func list(_ values: [TemplateValue]) throws -> TemplateValue { .list(try items(values)) }
    func tuple(_ values: [TemplateValue]) throws -> TemplateValue { .tuple(try items(values)) }
    func cycler(_ values: [TemplateValue]) throws -> Cycler { Cycler(values: values, depth: try depth(over: values)) }
    func method(_ receiver: TemplateValue, _ name: Text) throws -> TemplateValue {
        _ = try depth(over: [receiver])
        return .callable(.method(BoundMethod(receiver: receiver, name: name)))
    }

    func depth(over values: [TemplateValue]) throws -> Int { try TemplateValue.depth(over: values) }

    /// A dictionary; a key that occurs again keeps its place and takes the last value.
    func dict(_ entries: [(key: TemplateValue, value: TemplateValue)]) throws -> TemplateValue {
        try spend(entries.count)
        var places: [MappingKey: Int] = [:]
        var kept: [(key: TemplateValue, value: TemplateValue)] = []
        var keys: [MappingKey] = []
        for entry in entries {
            let key = try self.key(entry.key)
            if let place = places[key] {
                kept[place].value = entry.value
            } else {
                places[key] = kept.count
                kept.append(entry)
                keys.append(key)
            }
        }
        let depth = try depth(over: kept.map(\.value) + kept.map(\.key))
        return .dict(Mapping(entries: kept, keys: keys, depth: depth))
    }

    func key(_ value: TemplateValue) throws -> MappingKey {
        try spend(1)
        switch value {
        case .none: return .none
        case .bool(let flag): return .int(flag ? 1 : 0)
        case .int(let number): return .int(number)
        case .bigInt(let digits): return .bigInt(digits)
        case .bytes(let bytes):
            try spend(2 * bytes.count / Self.bytesPerFuel)
            return .bytes(bytes)
        case .float(let number): return Int(exactly: number).map(MappingKey.int) ?? .float(number)
        case .string(let text):
            // Hashed more than once on the way into a dictionary.
            try spend(2 * text.bytes.count / Self.bytesPerFuel)
            return .string(text)
        case .tuple(let items): return .tuple(try items.values.map(key))
        case .undefined: return .undefined
        case .range(let range): return .range(start: range.start, count: range.count, step: range.step)
        case .namespace(let namespace): return .object(ObjectIdentifier(namespace))
        case .generator(let generator): return .object(ObjectIdentifier(generator))
        case .callable(.macro(let macro)): return .object(ObjectIdentifier(macro))
        case .callable: return .function
        default: throw TemplateFault("a \(value.typeName) cannot be the key of a dictionary")
        }
    }

    func namespace(_ values: [(name: Text, value: TemplateValue)]) throws -> TemplateValue {
        try spend(8)
        let isInner = recorder?.isActive ?? false
        let namespace = Namespace(number: isInner ? -1 : namespaces.count)
        for (name, value) in values { namespace[name] = value }
        if isInner { innerNamespaces.append(namespace) } else { namespaces.append(namespace) }
        return .namespace(namespace)
    }

    func macro(_ definition: MacroDefinition, in scope: VariableScope) throws -> Callable {
        try spend(8)
        capturedScopes.append(scope)
        return .macro(Macro(definition: definition, scope: scope, isAtTop: scope === root))
    }

    /// Called when a template reads `loop`: from then on it can be stored anywhere.
    func expose(_ loop: LoopState) {
        if !loop.isExposed {
            loop.isExposed = true
            exposedLoops.append(loop)
        }
    }

    // MARK: Output

    func write(_ text: Text) throws {
        try spend(text.bytes.count / Self.bytesPerFuel)
        output += text.bytes
        try checkOutput()
    }

    func checkOutput() throws {
        if captureDepth == 0, output.count > Self.outputLimit {
            throw TemplateFault("more than 1 MiB of output", kind: .limit)
        }
    }

    /// The text `body` writes.
    func capture(_ body: () throws -> Void) throws -> Text {
        let outer = output
        output = []
        captureDepth += 1
        defer {
            captureDepth -= 1
            output = outer
        }
        try body()
        return Text(output, isMarkup: escapes)
    }

    func runGeneration(_ body: ScopedBody, in scope: VariableScope) throws {
        let start = output.count
        _ = try run(body, in: newScope(in: scope))
        if captureDepth > 0 {
            hasLostSpans = true
        } else {
            generationSpans.append(start..<output.count)
        }
    }
}

/// How far down the stack a rendering may go.
enum StackBounds {
    /// Enough for calls nested as deep as the limit allows, in unoptimised code too.
    private static let most: UInt = 2 << 20

    /// Threads get the process's stack limit by default on Linux; a quarter of it is taken at most.
    private static let budget: UInt = {
        var limits = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_STACK.rawValue), &limits) == 0 else { return most }
        return min(most, max(UInt(clamping: limits.rlim_cur) / 4, 128 << 10))
    }()

    /// Below this address evaluation stops.
    static func lowestSafeAddress() -> UInt {
        var marker: UInt8 = 0
        let address = withUnsafeMutablePointer(to: &marker) { UInt(bitPattern: $0) }
        return address > budget ? address - budget : 0
    }
}
