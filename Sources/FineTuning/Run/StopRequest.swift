import Foundation
import Synchronization

/// A request to stop that arrives as a signal: SIGINT, SIGTERM or SIGUSR1.
///
/// The handler only counts, which is all that is safe in one; the training loop looks between steps. A second SIGINT
/// ends the process at once, as it would without graft.
public enum StopRequest {
    private static let requests = Atomic<Int32>(0)
    private static let interrupts = Atomic<Int32>(0)

    /// Starts listening. Earlier requests are forgotten.
    public static func install() {
        requests.store(0, ordering: .relaxed)
        interrupts.store(0, ordering: .relaxed)
        // A parent may have started this process with the signals blocked.
        var stops = sigset_t()
        sigemptyset(&stops)
        for number in [SIGINT, SIGTERM, SIGUSR1] {
            sigaddset(&stops, number)
            var action = sigaction()
            action.__sigaction_handler.sa_handler = { StopRequest.receive($0) }
            // Reads and writes under way go on rather than fail.
            action.sa_flags = Int32(SA_RESTART)
            sigaction(number, &action, nil)
        }
        pthread_sigmask(SIG_UNBLOCK, &stops, nil)
    }

    /// Gives the signals their usual meaning again.
    public static func uninstall() {
        for number in [SIGINT, SIGTERM, SIGUSR1] { signal(number, SIG_DFL) }
    }

    private static func receive(_ number: Int32) {
        requests.add(1, ordering: .relaxed)
        if number == SIGINT, interrupts.add(1, ordering: .relaxed).newValue > 1 {
            signal(SIGINT, SIG_DFL)
            // Blocked until the handler returns, then fatal.
            raise(SIGINT)
        }
    }

    /// Whether the run should save and end.
    public static var isPending: Bool { requests.load(ordering: .relaxed) > 0 }

    /// Asks for a stop from within the process, as a signal would.
    public static func request() { requests.add(1, ordering: .relaxed) }
    /// Forgets all requests.
    public static func clear() {
        requests.store(0, ordering: .relaxed)
        interrupts.store(0, ordering: .relaxed)
    }
}
