private import CZlib
private import CZstd

/// Unpacks a stream of gzip members (RFC 1952) or zstd frames (RFC 8878) piece by piece, in bounded memory.
public final class Decompressor {
    public enum Kind: String, Sendable {
        case gzip, zstd

        /// What the first bytes of a file say it is compressed with; nil for anything else.
        public init?(prefix: some Collection<UInt8>) {
            if prefix.starts(with: [0x1F, 0x8B]) {
                self = .gzip
            } else if prefix.starts(with: [0x28, 0xB5, 0x2F, 0xFD]) {
                self = .zstd
            } else {
                return nil
            }
        }
    }

    /// The largest window that zstd frames may ask for, 2^27 bytes = 128 MiB.
    private static let windowLogLimit: Int32 = 27

    public let kind: Kind
    private var input: [UInt8] = []
    private var position = 0
    /// Whether what was read so far ends with a whole member or frame.
    private var isWhole = true
    private var inflater = z_stream()
    private var context: OpaquePointer?

    /// - Throws: `FileError.compressed` when there is no memory for it.
    public init(_ kind: Kind) throws {
        self.kind = kind
        switch kind {
        case .gzip:
            // 15 bits of window, and 16 for gzip's header instead of zlib's.
            let status = inflateInit2_(&inflater, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
            guard status == Z_OK else { throw FileError.compressed(kind: "gzip", reason: "out of memory") }
        case .zstd:
            context = ZSTD_createDCtx()
            guard let context else { throw FileError.compressed(kind: "zstd", reason: "out of memory") }
            _ = ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, Self.windowLogLimit)
        }
    }

    deinit {
        if let context { ZSTD_freeDCtx(context) } else { inflateEnd(&inflater) }
    }

    /// Whether all that was fed has been unpacked.
    public var needsInput: Bool { position == input.count }

    /// Gives more packed bytes; only once `needsInput`.
    public func feed(_ bytes: [UInt8]) {
        precondition(needsInput, "the bytes fed before are not used up")
        input = bytes
        position = 0
    }

    /// The next unpacked bytes, at most `limit` of them; empty when more input is needed.
    ///
    /// - Throws: `FileError.compressed` for bytes that are not of this kind.
    public func next(limit: Int) throws -> [UInt8] {
        while true {
            let before = position
            let result = try [UInt8](unsafeUninitializedCapacity: limit) { buffer, count in
                count =
                    switch kind {
                    case .gzip: try inflateSome(into: buffer)
                    case .zstd: try decompressSome(into: buffer)
                    }
            }
            // Bytes can pass without output: headers, ends of members.
            if !result.isEmpty || position == before || needsInput && isWhole { return result }
        }
    }

    /// - Throws: `FileError.compressed` when the stream was cut short.
    public func finish() throws {
        guard isWhole else { throw FileError.compressed(kind: kind.rawValue, reason: "the data are cut short") }
    }

    private func inflateSome(into buffer: UnsafeMutableBufferPointer<UInt8>) throws -> Int {
        if isWhole {
            // Tapes and some tools pad the end with zeros.
            while position < input.count, input[position] == 0 { position += 1 }
            guard position < input.count else { return 0 }
            inflateReset(&inflater)
            isWhole = false
        }
        let (status, used) = input.withUnsafeMutableBufferPointer { bytes -> (Int32, Int) in
            let available = min(bytes.count - position, Int(UInt32.max))
            inflater.next_in = bytes.baseAddress.map { $0 + position }
            inflater.avail_in = UInt32(available)
            inflater.next_out = buffer.baseAddress
            inflater.avail_out = UInt32(clamping: buffer.count)
            let status = inflate(&inflater, Z_NO_FLUSH)
            return (status, available - Int(inflater.avail_in))
        }
        position += used
        switch status {
        case Z_STREAM_END: isWhole = true
        case Z_OK, Z_BUF_ERROR: break
        default:
            let reason = inflater.msg.map { String(cString: $0) } ?? "error \(status)"
            throw FileError.compressed(kind: "gzip", reason: reason)
        }
        return buffer.count - Int(inflater.avail_out)
    }

    private func decompressSome(into buffer: UnsafeMutableBufferPointer<UInt8>) throws -> Int {
        guard let context else { return 0 }
        return try input.withUnsafeBytes { bytes in
            var source = ZSTD_inBuffer(src: bytes.baseAddress, size: bytes.count, pos: position)
            var target = ZSTD_outBuffer(dst: buffer.baseAddress, size: buffer.count, pos: 0)
            let hint = ZSTD_decompressStream(context, &target, &source)
            guard ZSTD_isError(hint) == 0 else {
                throw FileError.compressed(kind: "zstd", reason: String(cString: ZSTD_getErrorName(hint)))
            }
            if source.pos > position || target.pos > 0 { isWhole = hint == 0 }
            position = source.pos
            return target.pos
        }
    }

    /// Unpacks all of `bytes`, which must give exactly `size` bytes.
    static func unpack(_ bytes: [UInt8], _ kind: Kind, size: Int) throws -> [UInt8] {
        let stream = try Decompressor(kind)
        stream.feed(bytes)
        var result: [UInt8] = []
        while true {
            let piece = try stream.next(limit: min(1 << 20, size - result.count + 1))
            if piece.isEmpty { break }
            result += piece
            guard result.count <= size else { break }
        }
        try stream.finish()
        guard result.count == size, stream.needsInput else {
            throw FileError.compressed(kind: kind.rawValue, reason: "they do not unpack to the \(size) bytes declared")
        }
        return result
    }
}
