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
    var inputsPath: String { Self.inputsPath(path) }
    static func inputsPath(_ path: String) -> String { path + "/checkpoints/" + RunInputs.fileName }

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
        for folder in [path, path + "/checkpoints"] { try removeLeftovers(in: folder) }
        isResumed = try !namesInFolder(path).allSatisfy(Self.isNothing)
        if isResumed, !resume { throw RunError.exists(path: path) }
        if isResumed, !somethingExists(at: resolvedRecipePath) {
            throw RunError.notARun(path: path, missing: "recipe.resolved.yaml")
        }
    }

    /// Whether a name in a run directory is none of a run's files: what a kill may leave before there is any.
    private static func isNothing(_ name: String) -> Bool { name == ".lock" || isTemporaryName(name) }

    /// Writes `recipe.resolved.yaml`; on resume, refuses a recipe that differs from the one the run began with.
    ///
    /// - Parameter movable: whether the files that the recipe names are known to hold what they held, so that they may
    ///   stand elsewhere now.
    /// - Throws: `RunError.recipeChanged` with the lines that differ.
    public func settle(_ recipe: Recipe, movable: Bool = false) throws {
        let text = recipe.resolvedYAML
        if somethingExists(at: resolvedRecipePath) {
            let earlier = String(decoding: try readFile(resolvedRecipePath, limit: 1 << 20), as: UTF8.self)
            guard !earlier.hasSameBytes(as: text) else { return }
            let old = movable ? try? Recipe(yaml: earlier, path: resolvedRecipePath) : nil
            let differences = Self.differences(
                Self.lines(earlier, of: old), Self.lines(text, of: old.map { _ in recipe }))
            guard differences.isEmpty else { throw RunError.recipeChanged(path: path, differences: differences) }
        }
        try AtomicFile.write(Array(text.utf8), to: resolvedRecipePath, replacing: true)
    }

    /// A line of a recipe and what it is compared by.
    private struct Line {
        var text: Substring
        var key: Substring
    }

    /// - Parameter recipe: that of the text, whose paths are not to be compared; nil compares them.
    private static func lines(_ text: String, of recipe: Recipe?) -> [Line] {
        let lines = text.split(separator: "\n")
        let keys = recipe?.withoutPaths.resolvedYAML.split(separator: "\n") ?? lines
        // Written by another version, a recipe may have other lines.
        return zip(lines, keys.count == lines.count ? keys : lines).map { Line(text: $0, key: $1) }
    }

    private static func differences(_ old: [Line], _ new: [Line]) -> [String] {
        // Where the run stands and how often it reports may change between a run and its resumption.
        func matters(_ line: Substring) -> Bool {
            !["output:", "  log_every:", "  eval_every:", "  eval_rows:", "  save_every:"]
                .contains { line.hasPrefix($0) }
        }
        return new.difference(from: old) { $0.key.utf8.elementsEqual($1.key.utf8) }.compactMap { change in
            switch change {
            case .remove(_, let line, _): matters(line.text) ? "was: \(line.text)" : nil
            case .insert(_, let line, _): matters(line.text) ? "now: \(line.text)" : nil
            }
        }
    }
}

/// Why a run directory cannot be used.
public enum RunError: GraftError {
    case exists(path: String)
    case notARun(path: String, missing: String)
    case recipeChanged(path: String, differences: [String])
    /// Files that the run follows from do not hold what they held when it began.
    case inputsChanged(path: String, differences: [String])
    /// Told before the first step; the lines say what would fit.
    case notEnoughMemory([String])

    public var exitStatus: ExitStatus {
        switch self {
        case .exists: .outputExists
        case .notARun, .inputsChanged: .badInput
        case .recipeChanged, .notEnoughMemory: .badRecipe
        }
    }

    public var problems: [String] {
        switch self {
        case .recipeChanged(_, let differences), .inputsChanged(_, let differences): differences
        case .exists, .notARun, .notEnoughMemory: []
        }
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
        case .inputsChanged(let path, let differences):
            "\(path): this run cannot be resumed, because what it began with has changed since:\n"
                + differences.map { "  \($0)" }.joined(separator: "\n")
                + "\n  put the old files back, or start anew in another output folder"
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
        let isFree = (try? namesInFolder(path).allSatisfy(isNothing)) ?? !somethingExists(at: path)
        if !isFree { throw RunError.exists(path: path) }
    }
}
