internal import CHost

/// Starts a thread that runs `body` and then ends; signals that ask for a stop go to other threads.
///
/// - Parameter stackSize: in bytes
/// - Returns: 0, or the error code of pthread_create(3) where the system allows no more threads: `body` is not run then.
public func startThread(stackSize: Int, _ body: @escaping @Sendable () -> Void) -> Int32 {
    let context = Unmanaged.passRetained(Body(body))
    let code = graft_start_thread(
        stackSize,
        { context in
            guard let context else { return }
            Unmanaged<Body>.fromOpaque(context).takeRetainedValue().run()
        }, context.toOpaque())
    if code != 0 { context.release() }
    return code
}

private final class Body: Sendable {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}
