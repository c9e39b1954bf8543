import Foundation
import Host

/// The bytes of a plain file, or of standard input, one after the other.
public final class ByteStream {
    private let descriptor: Descriptor?
    private var offset = 0

    /// - Throws: `FileError.missing`, `.notAFile`, `.io`.
    public init(path: String) throws { descriptor = try Descriptor.reading(path) }

    private init() { descriptor = nil }

    public static var standardInput: ByteStream { ByteStream() }

    /// The next bytes, at most `limit`, from a pipe as many as are there; none at the end.
    ///
    /// - Throws: `FileError.io`, `StopRequest.Stopped`.
    public func read(_ limit: Int) throws -> [UInt8] {
        if let descriptor {
            let bytes = try descriptor.read(limit, at: offset)
            offset += bytes.count
            return bytes
        }
        return try [UInt8](unsafeUninitializedCapacity: limit) { buffer, initialized in
            while true {
                let count = Foundation.read(STDIN_FILENO, buffer.baseAddress, limit)
                if count >= 0 {
                    initialized = count
                    return
                }
                switch errno {
                case EINTR: try StopRequest.check()
                case EAGAIN:
                    // Another program has made it non-blocking.
                    var wait = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
                    _ = poll(&wait, 1, 1000)
                default: throw FileError.io(operation: "read", path: "standard input", code: errno)
                }
            }
        }
    }

    /// All that is left.
    ///
    /// - Throws: `FileError.tooLarge` beyond `limit` bytes, as `read`.
    public func rest(limit: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while true {
            let piece = try read(1 << 16)
            if piece.isEmpty { return bytes }
            bytes += piece
            guard bytes.count <= limit else {
                throw FileError.tooLarge(path: descriptor?.path ?? "standard input", size: bytes.count, limit: limit)
            }
        }
    }
}
