internal import FileFormats
import Foundation

/// The bytes of a data file or of standard input, unpacked, in a buffer that is filled piece by piece.
struct RowBytes {
    static let chunkSize = 1 << 20

    let path: String
    private let stream: ByteStream
    private var unpacker: Decompressor?
    private var hasLooked = false
    private(set) var buffer: [UInt8] = []
    /// Where what is not used yet begins.
    var start = 0
    private(set) var isAtEnd = false
    /// Where the buffer begins, counted in unpacked bytes from the start of the file.
    private(set) var base = 0

    /// - Throws: `TextError.missingFiles`, `.unreadable`, `FileError`.
    init(path: String) throws {
        self.path = path
        if RowFileKind.isStandardInput(path) {
            stream = .standardInput
            return
        }
        guard let kind = fileKind(path) else { throw TextError.missingFiles([path]) }
        guard kind != .folder else {
            throw TextError.unreadable(path: path, reason: "it is a folder; name its files or use a glob")
        }
        stream = try ByteStream(path: path)
    }

    /// Whether the bytes are unpacked on the way.
    var isCompressed: Bool { unpacker != nil }

    /// Adds more bytes behind the buffer; false at the end of the file.
    mutating func fill() throws -> Bool {
        guard !isAtEnd else { return false }
        if start > 0 {
            buffer.removeFirst(start)
            base += start
            start = 0
        }
        guard let piece = try piece() else {
            isAtEnd = true
            return false
        }
        buffer += piece
        return true
    }

    /// What stands in the buffer, then the rest of the file piece by piece; nil at the end.
    mutating func rest() throws -> [UInt8]? {
        if start < buffer.count {
            defer { start = buffer.count }
            return Array(buffer[start...])
        }
        guard try fill() else { return nil }
        defer { start = buffer.count }
        return Array(buffer[start...])
    }

    private mutating func piece() throws -> [UInt8]? {
        do {
            if !hasLooked {
                hasLooked = true
                guard let first = try packed() else { return nil }
                guard let kind = Decompressor.Kind(prefix: first) else { return first }
                unpacker = try Decompressor(kind)
                unpacker?.feed(first)
            }
            guard let unpacker else { return try packed() }
            while true {
                let piece = try unpacker.next(limit: Self.chunkSize)
                if !piece.isEmpty { return piece }
                guard let more = try packed() else { break }
                unpacker.feed(more)
            }
            try unpacker.finish()
            return nil
        } catch let error as FileError {
            throw TextError.notRows(path: path, reason: error.description)
        }
    }

    private func packed() throws -> [UInt8]? {
        do {
            var bytes = try stream.read(Self.chunkSize)
            // A pipe may give its first bytes one by one; four tell what they are.
            while (1..<4).contains(bytes.count) {
                let more = try stream.read(Self.chunkSize)
                if more.isEmpty { break }
                bytes += more
            }
            return bytes.isEmpty ? nil : bytes
        } catch FileError.io(_, _, let code) {
            throw TextError.unreadable(path: path, reason: String(cString: strerror(code)))
        }
    }
}
