internal import CHost
import Glibc

/// What a program does first: see `graft_prepare_process`.
///
/// - Parameter isJSONWanted: whether an end that a signal asks for is told on standard output as well
public func prepareProcess(isJSONWanted: Bool) { graft_prepare_process(isJSONWanted ? 1 : 0) }

/// Ends the process once everything is written. Where threads or memory are scarce the libraries' own clean-up is left
/// out: it waits for threads of theirs that could not be started.
public func endProcess(_ status: Int32) -> Never {
    if status != 0 || AddressSpace.isLimited { _exit(status) }
    exit(status)
}

/// Standard output and standard error, by their descriptors.
public enum StandardStream {
    /// Writes to standard error as far as that can be written: whether somebody listens decides nothing.
    public static func tell(_ bytes: [UInt8]) { _ = write(bytes, to: STDERR_FILENO) }

    /// Writes to standard output.
    ///
    /// - Returns: 0, or the error code.
    public static func output(_ bytes: [UInt8]) -> Int32 {
        graft_output_began()
        return write(bytes, to: STDOUT_FILENO)
    }

    private static func write(_ bytes: [UInt8], to descriptor: Int32) -> Int32 {
        var written = 0
        while written < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.write(descriptor, $0.baseAddress! + written, $0.count - written)
            }
            if count >= 0 {
                written += count
                continue
            }
            switch errno {
            case EINTR: continue
            case EAGAIN:
                // Another program has made the terminal or pipe non-blocking; a reader that does not read is no reader.
                var wait = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                if poll(&wait, 1, 10_000) == 0 { return EAGAIN }
            default: return errno
            }
        }
        return 0
    }
}

/// Ends the process with a message and the status of I/O errors: memory that could not be had.
///
/// For where neither an error can be thrown nor anything go on; what does not fit is refused before it is tried.
public func endOutOfMemory(_ byteCount: Int) -> Never { graft_out_of_memory(max(0, byteCount)) }

/// The address space of this process, in bytes.
public enum AddressSpace {
    /// The limit (`ulimit -v`); nil where there is none.
    public static var limit: Int? { Int(exactly: graft_address_limit(0)) }
    /// Whether this or the limit of data (`ulimit -d`) is set.
    public static var isLimited: Bool { graft_address_limit(1) != .max }
    /// Whether so many bytes could be had now.
    public static func canReserve(_ byteCount: Int) -> Bool { graft_can_reserve(byteCount) != 0 }

    /// What is in use beyond resident memory: libraries' code, stacks, and what was set aside.
    public static var idle: Int {
        var resident: UInt64 = 0
        let used = graft_address_use(&resident)
        return Int(clamping: used > resident ? used - resident : 0)
    }
}
