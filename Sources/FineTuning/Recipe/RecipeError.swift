public import FileFormats
import Foundation

/// Why a recipe cannot be used, with every mistake in it.
public enum RecipeError: GraftError {
    /// The file could not be read.
    case unreadable(path: String, reason: String)
    /// The file is not the YAML that graft accepts; nothing in it was looked at.
    case malformed(path: String, line: Int?, reason: String)
    /// Keys or values are wrong: all of them, in the order of the file.
    case invalid(path: String, problems: [RecipeProblem])
    /// The system allows no thread with a stack deep enough to read one; `code` is that of pthread_create(3).
    case noThread(code: Int32)

    public var exitStatus: ExitStatus {
        switch self {
        case .unreadable: .missingInput
        case .malformed, .invalid: .badRecipe
        case .noThread: .io
        }
    }

    public var problems: [String] {
        if case .invalid(_, let problems) = self { problems.map { "\($0.location): \($0.reason)" } } else { [] }
    }

    public var description: String {
        switch self {
        case .unreadable(let path, let reason):
            return "\(path): \(reason)\nGive the path of a recipe (YAML)."
        case .malformed(let path, let line, let reason):
            return "\(path)\(line.map { ":\($0)" } ?? ""): not a recipe: \(reason)"
        case .noThread(let code):
            return "no thread could be started to read the recipe: \(String(cString: strerror(code)))\n  raise the "
                + "limits of processes and of address space (ulimit -u, ulimit -v) and run again"
        case .invalid(let path, let problems):
            let count = problems.count == 1 ? "1 mistake" : "\(problems.count) mistakes"
            let shown = 200
            let lines =
                problems.prefix(shown).map { "  \($0.location): \($0.reason)" }
                + (problems.count > shown ? ["  and \(problems.count - shown) more"] : [])
            return "\(path): \(count) in the recipe\n" + lines.joined(separator: "\n")
                + "\nNothing was started; correct the recipe and run it again."
        }
    }
}

/// One mistake in a recipe.
public struct RecipeProblem: Sendable {
    /// `line 12`, or `--set training.epochs` for an override.
    public var location: String
    /// The key, what was expected and what was found.
    public var reason: String
    public init(location: String, reason: String) {
        self.location = location
        self.reason = reason
    }
}
