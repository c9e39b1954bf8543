public import Host

/// The exit codes of the command-line contract.
public enum ExitStatus: Int32, Sendable {
    case badUsage = 64
    case badInput = 65
    case missingInput = 66
    case `internal` = 70
    case outputExists = 73
    case io = 74
    case stopped = 75
    case badRecipe = 78
    case gateFailed = 79
}

/// What every error of graft's modules can tell the command line: the text for a person and the exit code.
///
/// The text says what went wrong, where (file, row, tensor, byte), what was expected and found, and the next step.
public protocol GraftError: Error, CustomStringConvertible {
    var exitStatus: ExitStatus { get }
    /// Where the text lists several things that are wrong: each by itself, for programs.
    var problems: [String] { get }
}

extension GraftError {
    public var problems: [String] { [] }
}

extension StopRequest.Stopped: GraftError {
    public var exitStatus: ExitStatus { .stopped }
    public var description: String {
        "stopped on request; what was not finished is removed: run the same command again"
    }
}
