/// What one round of a loop read of the world around it, and what it did to it.
///
/// A loop's body has variables of its own, so a round can only write text and set attributes of namespaces. What it
/// reads can be noted. In another rendering of the same program a round whose reads would give the same does the same,
/// and is not run again.
struct Round {
    enum Read {
        case variable(Int, TemplateValue?)
        /// The same by a macro, which does not see what hides it around the loop.
        case global(Int, TemplateValue?)
        case attribute(namespace: Int, Text, TemplateValue?)
        /// An element of the messages, by its place among all.
        case message(Int, TemplateValue)
        /// There are at most so many messages.
        case end(Int)
        case allMessages([TemplateValue])
        /// Everything the loop runs through.
        case elements([TemplateValue])
    }
    let element: TemplateValue
    /// Where what the loop runs through begins among the messages; nil for other elements.
    let offset: Int?
    let escapes: Bool
    let isCaptured: Bool
    var reads: [Read]
    var writes: [(namespace: Int, name: Text, value: TemplateValue)]
    var output: ArraySlice<UInt8> = []
    /// Counted from where the round began to write.
    var spans: [Range<Int>] = []
    var losesSpans = false
    var flow = Interpreter.Flow.normal
    var fuel = 0
}

/// The rounds that renderings of one conversation and its variants have run.
final class RoundMemory {
    struct Key: Hashable {
        var loop: Int
        var index: Int
    }
    /// A round that depends on what follows differs between renderings; the newest few are kept.
    private static let limit = 3
    private var rounds: [Key: [Round]] = [:]
    /// The interpreter's, which are the same where the same names have values.
    var hiddenNames: [[Int]]?

    subscript(key: Key) -> [Round] { rounds[key] ?? [] }
    func add(_ round: Round, _ key: Key) {
        rounds[key, default: []].insert(round, at: 0)
        if rounds[key, default: []].count > Self.limit { rounds[key]?.removeLast() }
    }
}

/// Notes what the round that runs reads; one at a time, those of loops inside of it are parts of it.
final class RoundRecorder {
    /// The messages of this rendering.
    let messages: [TemplateValue]
    /// The number of the round that runs, 0 outside of all; scopes remember it.
    private(set) var number = 0
    private var last = 0
    private var isSpoilt = false
    private var reads: [Round.Read] = []
    /// The variables among them.
    private var names: [Int] = []
    private var globals: [Int] = []
    private var writes: [(namespace: Int, name: Text, value: TemplateValue)] = []
    private var state: LoopState?
    private var items: Items?
    /// Where names are looked up that the round does not have itself.
    private var scope: VariableScope?

    init(messages: [TemplateValue]) { self.messages = messages }

    var isActive: Bool { number > 0 }

    func begin(_ state: LoopState, over items: Items, in scope: VariableScope) {
        last += 1
        number = last
        isSpoilt = false
        (reads, names, globals, writes) = ([], [], [], [])
        (self.state, self.items, self.scope) = (state, items, scope)
    }

    /// What was noted; nil where it does not tell all that the round depended on or did.
    func end() -> (reads: [Round.Read], writes: [(namespace: Int, name: Text, value: TemplateValue)])? {
        number = 0
        (state, items, scope) = (nil, nil, nil)
        return isSpoilt || !writes.allSatisfy { $0.value.isPlain } ? nil : (reads, writes)
    }

    /// The round did what cannot be done again without running it.
    func spoil() { isSpoilt = true }

    /// Looks up a name, and notes it where it is not the round's own.
    func lookUp(_ name: Int, in start: VariableScope, root: VariableScope) -> TemplateValue? {
        var inner: VariableScope? = start
        while let current = inner, current.round == number {
            if let value = current.own(name) { return value }
            inner = current.parent
        }
        let value = inner?.lookUp(name)
        if inner === scope {
            if !names.contains(name) {
                names.append(name)
                reads.append(.variable(name, value))
            }
        } else if inner === root {
            if !globals.contains(name) {
                globals.append(name)
                reads.append(.global(name, value))
            }
        } else {
            spoil()
        }
        return value
    }

    func read(_ name: Text, of namespace: Namespace) {
        guard isActive, namespace.number >= 0 else { return }
        let isKnown =
            writes.contains { $0.namespace == namespace.number && $0.name == name }
            || reads.contains {
                if case .attribute(namespace.number, name, _) = $0 { true } else { false }
            }
        if !isKnown { reads.append(.attribute(namespace: namespace.number, name, namespace[name])) }
    }

    func write(_ value: TemplateValue, to name: Text, of namespace: Namespace) {
        guard isActive, namespace.number >= 0 else { return }
        if let index = writes.firstIndex(where: { $0.namespace == namespace.number && $0.name == name }) {
            writes[index].value = value
        } else {
            writes.append((namespace.number, name, value))
        }
    }

    func readAll() { if isActive { reads.append(.allMessages(messages)) } }

    func readMessage(_ place: Int) {
        guard isActive else { return }
        reads.append(place < messages.count ? .message(place, messages[place]) : .end(place))
    }

    /// What a loop tells of the elements around the current one; all of them where `distance` is nil.
    func read(_ loop: LoopState, distance: Int?) {
        // Loops inside the round run through what was noted when they began.
        guard isActive, loop === state, let items else { return }
        guard items.series != nil, let distance else { return reads.append(.elements(items.values)) }
        let place = items.offset + loop.index + distance
        if place >= items.offset { readMessage(place) }
    }
}

extension Interpreter {
    /// What a loop runs through, where its rounds are worth remembering.
    func rememberable(_ loop: ForLoop, _ iterable: TemplateValue) -> Items? {
        guard let recorder, !recorder.isActive, loop.filter == nil, !loop.isRecursive, case .list(let items) = iterable
        else { return nil }
        return items.series != nil || items.isGiven ? items : nil
    }

    /// Runs a round of a loop over `items`, or does what it did in an earlier rendering.
    func remembered(
        _ loop: ForLoop, _ state: LoopState, over items: Items, _ element: TemplateValue, in scope: VariableScope,
        _ run: () throws -> Flow
    ) throws -> Flow {
        guard let memory, let recorder else { return try run() }
        let key = RoundMemory.Key(loop: loop.body.scope, index: state.index)
        for round in memory[key] where holds(round, element, items, scope, recorder) { return try replay(round) }
        recorder.begin(state, over: items, in: scope)
        let (start, spanCount, fuelBefore, lostBefore) = (output.count, generationSpans.count, fuel, hasLostSpans)
        hasLostSpans = false
        defer { hasLostSpans = hasLostSpans || lostBefore }
        let flow: Flow
        do { flow = try run() } catch {
            _ = recorder.end()
            throw error
        }
        guard let noted = recorder.end() else { return flow }
        var round = Round(
            element: element, offset: items.place, escapes: escapes, isCaptured: isCapturing,
            reads: noted.reads, writes: noted.writes)
        round.output = ArraySlice(Array(output[start...]))
        round.spans = generationSpans[spanCount...].map { $0.lowerBound - start..<$0.upperBound - start }
        (round.losesSpans, round.flow, round.fuel) = (hasLostSpans, flow, fuelBefore - fuel)
        memory.add(round, key)
        return flow
    }

    private func replay(_ round: Round) throws -> Flow {
        try spend(round.fuel)
        let start = output.count
        output += round.output
        try checkOutput()
        generationSpans += round.spans.map { $0.lowerBound + start..<$0.upperBound + start }
        if round.losesSpans { hasLostSpans = true }
        for write in round.writes { namespaces[write.namespace][write.name] = write.value }
        return round.flow
    }

    /// Whether everything that the round read is the same now.
    private func holds(
        _ round: Round, _ element: TemplateValue, _ items: Items, _ scope: VariableScope, _ recorder: RoundRecorder
    ) -> Bool {
        func areSame(_ a: [TemplateValue], _ b: [TemplateValue]) -> Bool {
            a.count == b.count && zip(a, b).allSatisfy { $0.isSame(as: $1) }
        }
        guard round.escapes == escapes, round.isCaptured == isCapturing, round.offset == items.place,
            round.element.isSame(as: element)
        else { return false }
        let messages = recorder.messages
        return round.reads.allSatisfy { read in
            switch read {
            case .variable(let name, let value): Self.areSame(value, scope.lookUp(name))
            case .global(let name, let value): Self.areSame(value, root.lookUp(name))
            case .attribute(let number, let name, let value):
                number < namespaces.count && Self.areSame(value, namespaces[number][name])
            case .message(let place, let value): place < messages.count && value.isSame(as: messages[place])
            case .end(let place): messages.count <= place
            case .allMessages(let values): areSame(values, messages)
            case .elements(let values): areSame(values, items.values)
            }
        } && round.writes.allSatisfy { $0.namespace < namespaces.count }
    }

    private static func areSame(_ a: TemplateValue?, _ b: TemplateValue?) -> Bool {
        if let a, let b { a.isSame(as: b) } else { a == nil && b == nil }
    }
}

extension TemplateValue {
    /// Whether a template could not tell one from the other, where they come from two renderings. What can change by
    /// being used is never the same.
    func isSame(as other: TemplateValue) -> Bool {
        switch (self, other) {
        case (.undefined, .undefined), (.none, .none): true
        case (.bool(let a), .bool(let b)): a == b
        case (.int(let a), .int(let b)): a == b
        case (.bigInt(let a), .bigInt(let b)): a == b
        case (.float(let a), .float(let b)): a.bitPattern == b.bitPattern
        case (.string(let a), .string(let b)): a == b && a.isMarkup == b.isMarkup
        case (.bytes(let a), .bytes(let b)): a == b
        case (.list(let a), .list(let b)), (.tuple(let a), .tuple(let b)): a.isSame(as: b)
        case (.dict(let a), .dict(let b)):
            a === b && a.isGiven
                || a.entries.count == b.entries.count
                    && zip(a.entries, b.entries).allSatisfy {
                        $0.key.isSame(as: $1.key) && $0.value.isSame(as: $1.value)
                    }
        case (.namespace(let a), .namespace(let b)): a.number == b.number && a.number >= 0
        case (.callable(.builtin(let a)), .callable(.builtin(let b))): a == b
        // What a macro at the top reads is noted in the round that calls it.
        case (.callable(.macro(let a)), .callable(.macro(let b))):
            a.isAtTop && b.isAtTop && a.definition.body.scope == b.definition.body.scope
        default: false
        }
    }

    /// Whether the value can be kept for another rendering.
    fileprivate var isPlain: Bool {
        switch self {
        case .undefined, .none, .bool, .int, .bigInt, .float, .string, .bytes: true
        case .list(let items), .tuple(let items):
            items.series == nil && type(of: items) == Items.self && items.values.allSatisfy(\.isPlain)
        case .dict(let mapping): mapping.entries.allSatisfy { $0.key.isPlain && $0.value.isPlain }
        default: false
        }
    }
}

extension Items {
    /// Where it begins among the messages; nil for what is no part of them.
    fileprivate var place: Int? { series == nil ? nil : offset }

    fileprivate func isSame(as other: Items) -> Bool {
        // What a template made may hold what changes by being used.
        if self === other, isGiven { return true }
        // What is read of the messages is noted by itself.
        if series != nil || other.series != nil { return place == other.place }
        return type(of: self) == type(of: other) && values.count == other.values.count
            && zip(values, other.values).allSatisfy { $0.isSame(as: $1) }
    }
}
