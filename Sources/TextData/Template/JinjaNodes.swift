/// One node of a parsed template. Depth is bounded by the parser, so that walking and freeing need little stack.
final class TemplateNode: Sendable {
    let kind: Kind
    /// The line of the source, from 1.
    let line: Int
    let depth: Int

    init(_ kind: Kind, line: Int, depth: Int) {
        self.kind = kind
        self.line = line
        self.depth = depth
    }

    enum Kind: Sendable {
        // Expressions
        case none
        case bool(Bool)
        case int(Int)
        case float(Double)
        case string(Text)
        case name(Int)
        case list([TemplateNode])
        case tuple([TemplateNode])
        case dict([(key: TemplateNode, value: TemplateNode)])
        case attribute(TemplateNode, Text)
        case item(TemplateNode, TemplateNode)
        case slice(TemplateNode?, TemplateNode?, TemplateNode?)
        case call(TemplateNode, Arguments)
        case filter(TemplateNode?, Text, FilterFunction?, Arguments)
        case test(TemplateNode, Text, TestFunction?, Arguments)
        case not(TemplateNode)
        case negate(TemplateNode)
        case plus(TemplateNode)
        case arithmetic(ArithmeticOperator, TemplateNode, TemplateNode)
        case and(TemplateNode, TemplateNode)
        case or(TemplateNode, TemplateNode)
        case compare(TemplateNode, [(ComparisonOperator, TemplateNode)])
        case concatenate([TemplateNode])
        case conditional(condition: TemplateNode, then: TemplateNode, otherwise: TemplateNode?)
        // Statements
        case data(Text)
        case output(TemplateNode)
        case branch([(condition: TemplateNode?, body: [TemplateNode])])
        case loop(ForLoop)
        case set(Target, TemplateNode)
        case setBlock(Target, filter: TemplateNode?, body: ScopedBody)
        case macro(MacroDefinition)
        case callBlock(TemplateNode, Arguments, MacroDefinition)
        case generation(ScopedBody)
        case filterBlock(TemplateNode, body: ScopedBody)
        case with([(Target, TemplateNode)], body: ScopedBody)
        case autoescape(TemplateNode, body: ScopedBody)
        case block(body: ScopedBody, isScoped: Bool)
        case breakLoop
        case continueLoop
        /// A tag that would load another template.
        case refused(Text)
    }
}

enum ArithmeticOperator: Sendable { case add, subtract, multiply, divide, floorDivide, remainder, power }
enum ComparisonOperator: Sendable { case equal, notEqual, less, lessOrEqual, greater, greaterOrEqual, `in`, notIn }

/// The arguments of a call as written.
struct Arguments: Sendable {
    var positional: [TemplateNode] = []
    var keywords: [(name: Text, value: TemplateNode)] = []
    var rest: TemplateNode?
    var keywordRest: TemplateNode?

    static let none = Arguments()
    var nodes: [TemplateNode] { positional + keywords.map(\.value) + [rest, keywordRest].compactMap(\.self) }
}

/// What an assignment assigns to; names are symbols of the template.
indirect enum Target: Sendable {
    case name(Int)
    case attribute(namespace: Int, Text)
    case tuple([Target])
}

/// Statements that have variables of their own.
struct ScopedBody: Sendable {
    var nodes: [TemplateNode]
    /// The number of the scope, an index of `TemplateProgram.hiddenNames`.
    var scope: Int
}

struct ForLoop: Sendable {
    var target: Target
    var iterable: TemplateNode
    var filter: TemplateNode?
    var body: ScopedBody
    var otherwise: ScopedBody
    var filterScope: Int
    var isRecursive: Bool
    var usesLoop: Bool
}

struct MacroDefinition: Sendable {
    var name: Text
    var symbol: Int
    var parameters: [(symbol: Int, name: Text, initial: TemplateNode?)]
    var body: ScopedBody
    var usesCaller = false
    var usesVarargs = false
    var usesKwargs = false
    /// The body of a call block has a name only for error texts.
    var isAnonymous = false
}

typealias FilterFunction = @Sendable (Interpreter, TemplateValue, CallArguments) throws -> TemplateValue
typealias TestFunction = @Sendable (Interpreter, TemplateValue, CallArguments) throws -> Bool

/// The arguments of a call, evaluated.
struct CallArguments {
    var positional: [TemplateValue] = []
    var keywords: [(name: Text, value: TemplateValue)] = []
    var isEmpty: Bool { positional.isEmpty && keywords.isEmpty }
    var values: [TemplateValue] { positional + keywords.map(\.value) }

    /// The values of the parameters `names`, nil where none was given.
    func bound(_ function: String, _ names: [StaticString], required: Int = 0) throws -> [TemplateValue?] {
        guard positional.count <= names.count else {
            throw TemplateFault("\(function) takes at most \(names.count) arguments, \(positional.count) given")
        }
        var values: [TemplateValue?] = positional + Array(repeating: nil, count: names.count - positional.count)
        for (name, value) in keywords {
            guard let index = names.firstIndex(where: { name.isSame(as: $0) }) else {
                throw TemplateFault("\(function) has no argument named '\(name)'")
            }
            guard values[index] == nil else { throw TemplateFault("\(function) got the argument '\(name)' twice") }
            values[index] = value
        }
        for index in 0..<required where values[index] == nil {
            throw TemplateFault("\(function) needs the argument '\(names[index])'")
        }
        return values
    }
}

/// A parsed template: its statements, and the names its symbols stand for.
struct TemplateProgram: Sendable {
    var body: ScopedBody
    var symbols: [Text]
    var symbolIndex: [Text: Int]
    var usesGeneration: Bool
    /// For each scope, the names that are undefined in it until it sets them, whatever the context holds.
    var hiddenNames: [[Int]]
}
