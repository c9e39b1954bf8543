public import FileFormats
import Foundation

/// The folder of a run, locked for as long as the object lives.
///
/// ```
/// runs/name/
///   adapter/  checkpoints/step-000200/  metrics.jsonl  recipe.resolved.yaml  report.html  manifest.json
/// ```
public final class RunDirectory {
    public let path: String
    /// Whether the folder held a run before.
    public let isResumed: Bool
    private let lock: FileLock

    public var adapterPath: String { path + "/adapter" }
    /// The model folder of a run with `method: full`.
    var modelPath: String { path + "/model" }
    var metricsPath: String { path + "/metrics.jsonl" }
    var resolvedRecipePath: String { path + "/recipe.resolved.yaml" }
    var profilePath: String { path + "/profile.json" }
    var reportPath: String { path + "/report.html" }
    var manifestPath: String { path + "/manifest.json" }

    /// Creates the folder with its parents, or opens it to go on, and takes its lock.
    ///
    /// - Parameter resume: whether a run that stands there is gone on with; with nothing there, a new run begins.
    /// - Throws: `FileError.outputExists` for a folder that is not empty when not resuming, `.locked` with the
    ///   holder's process id, `.io`.
    public init(path: String, resume: Bool) throws {
        self.path = path
        try createFolders(path)
        // The lock comes first: of two that start at once, the second must not see the first one's files.
        lock = try FileLock(path: path + "/.lock")
        let names = try namesInFolder(path).filter { $0 != ".lock" }
        isResumed = !names.isEmpty
        if isResumed, !resume { throw RunError.exists(path: path) }
        if isResumed, !isPresent(resolvedRecipePath) {
            throw RunError.notARun(path: path, missing: "recipe.resolved.yaml")
        }
    }

    /// Writes `recipe.resolved.yaml`; on resume, refuses a recipe that differs from the one the run began with.
    ///
    /// - Throws: `RunError.recipeChanged` with the lines that differ.
    public func settle(_ recipe: Recipe) throws {
        let text = recipe.resolvedYAML
        if isPresent(resolvedRecipePath) {
            let earlier = String(decoding: try readFile(resolvedRecipePath, limit: 1 << 20), as: UTF8.self)
            let differences = Self.differences(earlier, text)
            guard differences.isEmpty else { throw RunError.recipeChanged(path: path, differences: differences) }
            return
        }
        try AtomicFile.write(Array(text.utf8), to: resolvedRecipePath)
    }

    private static func differences(_ old: String, _ new: String) -> [String] {
        let (old, new) = (old.split(separator: "\n"), new.split(separator: "\n"))
        // Where the run stands and how often it reports may change between a run and its resumption.
        func matters(_ line: Substring) -> Bool {
            !["output:", "  log_every:", "  eval_every:", "  eval_rows:", "  save_every:"]
                .contains { line.hasPrefix($0) }
        }
        return new.difference(from: old).compactMap { change in
            switch change {
            case .remove(_, let line, _): matters(line) ? "was: \(line)" : nil
            case .insert(_, let line, _): matters(line) ? "now: \(line)" : nil
            }
        }
    }
}

/// Why a run directory cannot be used.
public enum RunError: GraftError {
    case exists(path: String)
    case notARun(path: String, missing: String)
    case recipeChanged(path: String, differences: [String])
    /// Told before the first step; the lines say what would fit.
    case notEnoughMemory([String])

    public var exitStatus: ExitStatus {
        switch self {
        case .exists: .outputExists
        case .notARun: .badInput
        case .recipeChanged, .notEnoughMemory: .badRecipe
        }
    }

    public var problems: [String] {
        if case .recipeChanged(_, let differences) = self { differences } else { [] }
    }

    public var description: String {
        switch self {
        case .exists(let path):
            "\(path): the run directory exists already and is left as it is\n"
                + "  add --resume to go on with it, or choose another output"
        case .notARun(let path, let missing):
            "\(path): not a run directory: it holds other files and no \(missing)\n  choose another output"
        case .recipeChanged(let path, let differences):
            "\(path): the recipe is not the one that this run began with:\n"
                + differences.map { "  \($0)" }.joined(separator: "\n")
                + "\n  resume with the old recipe, or choose another output for the new one; there, adapter.init_from: "
                + "\(path)/adapter goes on from what a finished run has learned"
        case .notEnoughMemory(let lines): lines.joined(separator: "\n  ")
        }
    }
}

extension RunDirectory {
    /// Stops early, before any work, when a run cannot begin at `path`.
    ///
    /// - Throws: `RunError.exists`.
    public static func checkFree(_ path: String) throws {
        try refuseUnexpanded(path)
        let names = (try? namesInFolder(path)) ?? []
        let isOccupied =
            names.contains { $0 != ".lock" }
            || (names.isEmpty && isPresent(path) && !isFolder(path))
        if isOccupied { throw RunError.exists(path: path) }
    }
}
