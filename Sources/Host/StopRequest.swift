internal import CHost

/// A request to stop that arrives as a signal: SIGINT, SIGTERM, SIGHUP or SIGUSR1.
///
/// With nothing to save or to remove, the process ends at once, in the signal's handler. Whoever writes a temporary,
/// holds a lock or trains keeps a `Hold`; then a signal only counts, and the loops under the hold call `check`, which
/// throws, or look at `isPending` and save first. A second SIGINT ends the process at once, as it would without graft.
public enum StopRequest {
    /// Thrown by `check`; what is under way is undone on its way out.
    public struct Stopped: Error {
        public init() {}
    }

    /// Something that has to be saved or removed before the process may end, for as long as the object lives.
    public final class Hold: Sendable {
        public init() { graft_stop_hold(1) }
        deinit { graft_stop_hold(-1) }
    }

    /// Whether a stop was asked for.
    public static var isPending: Bool { graft_stop_requests() > 0 }

    /// A point where the work may be left: to be called from loops, as often as a few times a second. Costs a load.
    ///
    /// - Throws: `Stopped` when a stop was asked for, but not inside `finishing`.
    public static func check() throws {
        if isPending, !isFinishing { throw Stopped() }
    }

    @TaskLocal private static var isFinishing = false

    /// Runs to its end what a stop itself asks for, such as the saving of a checkpoint.
    public static func finishing<Result>(_ body: () throws -> Result) rethrows -> Result {
        try $isFinishing.withValue(true, operation: body)
    }

    /// Asks for a stop from within the process, as a signal does that finds something held.
    public static func request() { graft_stop_request() }

    /// Forgets all requests.
    public static func clear() { graft_stop_clear() }
}
