private import CZstd

/// Each way in which bytes fail to be zstd frames (RFC 8878) of a known size.
public enum ZstdFault: Error, CustomStringConvertible, Sendable {
    case size(expected: Int, found: Int)
    case tooLarge(limit: Int)
    case library(String)

    public var description: String {
        switch self {
        case .size(let expected, let found): "it unpacks to \(found) bytes, expected \(expected)"
        case .tooLarge(let limit): "it unpacks to more than the \(limit) bytes that it may have"
        case .library(let reason): "zstd: \(reason)"
        }
    }
}

/// Compression with zstd in bounded memory.
public enum Zstd {
    /// The largest window that is accepted, 2^27 bytes = 128 MiB.
    private static let windowLogLimit: Int32 = 27

    /// One frame that holds its content's size and a checksum of it.
    ///
    /// - Parameter level: from 1, fast, to 19, small.
    public static func compress(_ bytes: UnsafeRawBufferPointer, level: Int = 3) throws -> [UInt8] {
        let bound = ZSTD_compressBound(bytes.count)
        return try [UInt8](unsafeUninitializedCapacity: bound) { buffer, count in
            guard let context = ZSTD_createCCtx() else { throw FileError.zstd(.library("out of memory")) }
            defer { ZSTD_freeCCtx(context) }
            _ = ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, Int32(level))
            _ = ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1)
            let result = ZSTD_compress2(context, buffer.baseAddress, bound, bytes.baseAddress, bytes.count)
            guard ZSTD_isError(result) == 0 else { throw FileError.zstd(.library(name(of: result))) }
            count = result
        }
    }

    public static func compress(_ bytes: [UInt8], level: Int = 3) throws -> [UInt8] {
        try bytes.withUnsafeBytes { try compress($0, level: level) }
    }

    /// Unpacks frames into a buffer that they have to fill exactly.
    ///
    /// - Throws: `FileError.zstd`, for a window of more than 128 MiB too.
    public static func decompress(_ bytes: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) throws {
        let count = try stream(bytes, into: output)
        guard count == output.count else { throw FileError.zstd(.size(expected: output.count, found: count)) }
    }

    /// Unpacks frames of unknown size.
    ///
    /// - Parameter limit: the largest number of bytes that is accepted.
    public static func decompress(_ bytes: [UInt8], limit: Int) throws -> [UInt8] {
        var result: [UInt8] = []
        // Grown as the data comes, so that a few bytes cannot claim the whole limit.
        var capacity = min(limit, max(1 << 16, bytes.count * 4))
        while true {
            var isFull = false
            result = try [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
                do {
                    count = try bytes.withUnsafeBytes { input in
                        try stream(input, into: UnsafeMutableRawBufferPointer(buffer))
                    }
                } catch FileError.zstd(.tooLarge) where capacity < limit {
                    isFull = true
                }
            }
            guard isFull else { return result }
            capacity = min(limit, capacity * 4)
        }
    }

    /// Unpacks all frames and returns the number of bytes they gave.
    private static func stream(
        _ bytes: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws -> Int {
        guard let context = ZSTD_createDCtx() else { throw FileError.zstd(.library("out of memory")) }
        defer { ZSTD_freeDCtx(context) }
        _ = ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, windowLogLimit)
        var input = ZSTD_inBuffer(src: bytes.baseAddress, size: bytes.count, pos: 0)
        var result = ZSTD_outBuffer(dst: target.baseAddress, size: target.count, pos: 0)
        while true {
            let before = (input.pos, result.pos)
            let hint = ZSTD_decompressStream(context, &result, &input)
            guard ZSTD_isError(hint) == 0 else { throw FileError.zstd(.library(name(of: hint))) }
            if hint == 0, input.pos == input.size { return result.pos }
            if (input.pos, result.pos) == before {
                let isFull = result.pos == result.size
                throw FileError.zstd(isFull ? .tooLarge(limit: target.count) : .library("the data are cut short"))
            }
        }
    }

    private static func name(of code: Int) -> String { String(cString: ZSTD_getErrorName(code)) }
}
