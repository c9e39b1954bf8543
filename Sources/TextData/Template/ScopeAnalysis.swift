/// Which names a scope takes for its own before it has set them.
///
/// Jinja decides where a name lives when it compiles: a name that a scope sets, and that neither the scope reads before
/// nor any scope around it mentions, is a variable of this scope from its start. Reading it earlier, in an inner scope
/// say, gives undefined even where the context has a variable of that name. (Jinja 3.1, `idtracking.py`.)
enum ScopeAnalysis {
    /// For each scope, the names that are undefined at its start.
    static func hiddenNames(of body: ScopedBody, scopes: Int) -> [[Int]] {
        var analyzer = Analyzer(hidden: Array(repeating: [], count: scopes))
        analyzer.analyze(body.nodes, scope: body.scope, names: ScopeNames(parent: nil))
        return analyzer.hidden
    }

    private final class ScopeNames {
        let parent: ScopeNames?
        var known: Set<Int> = []
        var stored: Set<Int> = []
        /// Names that are set before they are read, and that no outer scope knows.
        var hidden: Set<Int> = []

        init(parent: ScopeNames?) { self.parent = parent }

        func copy() -> ScopeNames {
            let copy = ScopeNames(parent: parent)
            (copy.known, copy.stored, copy.hidden) = (known, stored, hidden)
            return copy
        }
        func knows(_ name: Int) -> Bool { known.contains(name) || (parent?.knows(name) ?? false) }
        func load(_ name: Int) { if !knows(name) { known.insert(name) } }
        func declare(_ name: Int) {
            stored.insert(name)
            known.insert(name)
        }
        func store(_ name: Int) {
            stored.insert(name)
            guard !known.contains(name) else { return }
            if !(parent?.knows(name) ?? false) { hidden.insert(name) }
            known.insert(name)
        }

        /// Takes in what the branches of an 'if' do: a name that only some of them set keeps its outer value.
        func merge(_ branches: [ScopeNames]) {
            var counts: [Int: Int] = [:]
            for branch in branches {
                for name in branch.stored where !stored.contains(name) { counts[name, default: 0] += 1 }
            }
            for branch in branches {
                known.formUnion(branch.known)
                stored.formUnion(branch.stored)
                hidden.formUnion(branch.hidden)
            }
            for (name, count) in counts where count < branches.count { hidden.remove(name) }
        }
    }

    private struct Analyzer {
        var hidden: [[Int]]

        mutating func analyze(_ nodes: [TemplateNode], scope: Int, names: ScopeNames) {
            for node in nodes { visit(node, names) }
            hidden[scope] = names.hidden.sorted()
            for node in nodes { enter(node, names) }
        }

        // MARK: What a statement does to the scope it stands in

        private func visit(_ node: TemplateNode, _ names: ScopeNames) {
            switch node.kind {
            case .branch(let branches): visitBranches(branches, names)
            case .loop(let loop): visit(loop.iterable, names)
            case .macro(let definition): store(definition, names)
            case .callBlock(let function, let arguments, _):
                visit(function, names)
                for argument in arguments.nodes { visit(argument, names) }
            case .filterBlock(let filter, _): visit(filter, names)
            case .with(let assignments, _): for assignment in assignments { visit(assignment.1, names) }
            case .set(let target, let value):
                visit(value, names)
                store(target, names)
            case .setBlock(let target, _, _): store(target, names)
            case .generation, .autoescape, .block, .data, .breakLoop, .continueLoop: break
            case .name(let symbol): names.load(symbol)
            default: for child in node.expressions { visit(child, names) }
            }
        }

        private func visitBranches(_ branches: [(condition: TemplateNode?, body: [TemplateNode])], _ names: ScopeNames)
        {
            func inner(_ base: ScopeNames, _ body: (ScopeNames) -> Void) -> ScopeNames {
                let copy = base.copy()
                body(copy)
                return copy
            }
            func visitAll(_ nodes: [TemplateNode], _ names: ScopeNames) { for node in nodes { visit(node, names) } }
            guard let first = branches.first else { return }
            guard let condition = first.condition else { return visitAll(first.body, names) }
            visit(condition, names)
            // Jinja holds 'elif' as further conditions of their own inside one branch.
            let body = inner(names) { visitAll(first.body, $0) }
            let elifs = inner(names) { copy in
                for branch in branches.dropFirst() {
                    guard let condition = branch.condition else { continue }
                    visit(condition, copy)
                    copy.merge([inner(copy) { visitAll(branch.body, $0) }, inner(copy) { _ in }, inner(copy) { _ in }])
                }
            }
            let otherwise = inner(names) { copy in
                if let last = branches.last, last.condition == nil { visitAll(last.body, copy) }
            }
            names.merge([body, elifs, otherwise])
        }

        private func store(_ target: Target, _ names: ScopeNames) {
            switch target {
            case .name(let symbol): names.store(symbol)
            case .attribute(let namespace, _): names.load(namespace)
            case .tuple(let targets): for target in targets { store(target, names) }
            }
        }
        private func store(_ definition: MacroDefinition, _ names: ScopeNames) { names.store(definition.symbol) }

        private func declare(_ target: Target, _ names: ScopeNames) {
            switch target {
            case .name(let symbol): names.declare(symbol)
            case .attribute: break
            case .tuple(let targets): for target in targets { declare(target, names) }
            }
        }

        // MARK: The scopes inside a statement

        private mutating func enter(_ node: TemplateNode, _ names: ScopeNames) {
            switch node.kind {
            case .branch(let branches): for branch in branches { for node in branch.body { enter(node, names) } }
            case .loop(let loop): enter(loop, names)
            case .macro(let definition), .callBlock(_, _, let definition): enter(definition, names)
            case .setBlock(_, _, let body), .filterBlock(_, let body), .autoescape(_, let body), .generation(let body):
                analyze(body.nodes, scope: body.scope, names: ScopeNames(parent: names))
            case .with(let assignments, let body):
                let inner = ScopeNames(parent: names)
                for assignment in assignments { declare(assignment.0, inner) }
                analyze(body.nodes, scope: body.scope, names: inner)
            case .block(let body, let isScoped):
                analyze(body.nodes, scope: body.scope, names: ScopeNames(parent: isScoped ? names : nil))
            default: break
            }
        }

        private mutating func enter(_ loop: ForLoop, _ names: ScopeNames) {
            let body = ScopeNames(parent: names)
            if loop.usesLoop { body.declare(Interpreter.loopSymbol) }
            declare(loop.target, body)
            analyze(loop.body.nodes, scope: loop.body.scope, names: body)
            analyze(loop.otherwise.nodes, scope: loop.otherwise.scope, names: ScopeNames(parent: names))
        }

        private mutating func enter(_ definition: MacroDefinition, _ names: ScopeNames) {
            let inner = ScopeNames(parent: names)
            for parameter in definition.parameters { inner.declare(parameter.symbol) }
            for special in [Interpreter.callerSymbol, Interpreter.varargsSymbol, Interpreter.kwargsSymbol] {
                inner.declare(special)
            }
            for parameter in definition.parameters { if let initial = parameter.initial { visit(initial, inner) } }
            analyze(definition.body.nodes, scope: definition.body.scope, names: inner)
        }
    }
}

extension TemplateNode {
    /// The expressions an expression or an output is made of.
    fileprivate var expressions: [TemplateNode] {
        switch kind {
        case .list(let nodes), .tuple(let nodes), .concatenate(let nodes): nodes
        case .dict(let entries): entries.flatMap { [$0.key, $0.value] }
        case .attribute(let node, _), .not(let node), .negate(let node), .plus(let node), .output(let node): [node]
        case .item(let a, let b), .and(let a, let b), .or(let a, let b), .arithmetic(_, let a, let b): [a, b]
        case .slice(let a, let b, let c): [a, b, c].compactMap(\.self)
        case .call(let function, let arguments): [function] + arguments.nodes
        case .filter(let node, _, _, let arguments): [node].compactMap(\.self) + arguments.nodes
        case .test(let node, _, _, let arguments): [node] + arguments.nodes
        case .compare(let first, let rest): [first] + rest.map(\.1)
        case .conditional(let condition, let then, let otherwise): [condition, then, otherwise].compactMap(\.self)
        default: []
        }
    }
}
