internal import FileFormats
import Foundation

/// The bytes of a data file or of standard input, unpacked, in a buffer that is filled piece by piece.
///
/// What is used or passed over is given up at the next filling, so that the buffer never holds much more than a row.
struct RowBytes {
    static let chunkSize = 1 << 20
    /// A row is text for one example; more than this is a damaged file.
    static let maximumRowSize = 64 << 20
    /// Text packs into a tenth or a twentieth of its size. A row may be this much longer than what was packed, beyond a
    /// size that any row may have: a small file does not unpack into memory without end.
    private static let ratio = 64
    private static let freeRowSize = 4 << 20
    /// As much white space, and as much of a stream as a whole, may be unpacked whatever the size of the file.
    private static let freeSize = 1 << 30

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
    /// Bytes given to the unpacker, and bytes passed over as blank.
    private var packedCount = 0
    private var blankCount = 0

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

    /// The most bytes that a row may have.
    var rowLimit: Int {
        isCompressed ? min(Self.maximumRowSize, Self.freeRowSize + Self.ratio * packedCount) : Self.maximumRowSize
    }

    /// What is wrong with a row beyond `rowLimit`.
    var rowLimitReason: String {
        if rowLimit == Self.maximumRowSize {
            return "the row is longer than \(Self.maximumRowSize >> 20) MiB; is the file damaged?"
        }
        return
            "the row is longer than \(rowLimit >> 20) MiB and was packed in \(packedCount >> 10) KiB, as no text can "
            + "be; unpack the file and look at it"
    }

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
        // Nothing to keep: no copy.
        if buffer.isEmpty { buffer = piece } else { buffer += piece }
        return true
    }

    /// What stands in the buffer, then the rest of the file piece by piece; nil at the end.
    mutating func rest() throws -> [UInt8]? {
        if start == buffer.count {
            guard try fill() else { return nil }
        }
        defer { start = buffer.count }
        try checkRatio(base + buffer.count)
        return start == 0 ? buffer : Array(buffer[start...])
    }

    private func checkRatio(_ count: Int) throws {
        guard isCompressed, count - Self.freeSize > Self.ratio * packedCount else { return }
        throw TextError.notRows(
            path: path,
            reason:
                "more than \(count >> 20) MiB without a row unpack from \(packedCount >> 10) KiB; unpack the file and "
                + "look at it")
    }

    // MARK: Blank content

    /// Passes over blank bytes without keeping them.
    ///
    /// - Parameters:
    ///   - wholeLines: white space at the start of a line with text stays, because it is part of the line.
    ///   - lineEnds: raised by the number of line ends passed over.
    /// - Returns: whether anything else follows.
    /// - Throws: `TextError.notRows` for more white space than a packed file of this size can have honestly.
    mutating func skipBlank(_ blank: BlankBytes, wholeLines: Bool = false, lineEnds: inout Int) throws -> Bool {
        var scanned = start
        while true {
            if scanned < buffer.count, !blank.contains(buffer[scanned]) { return true }
            let found = buffer.withUnsafeBufferPointer { blank.scan($0, from: scanned) }
            lineEnds += found.lineEnds
            let isOver = found.end < buffer.count
            let kept = wholeLines ? found.lastLineEnd.map { $0 + 1 } ?? start : found.end
            blankCount += kept - start
            start = kept
            if isOver { return true }
            try checkRatio(blankCount)
            // A line that is longer than any row is read as one, and refused there.
            if buffer.count - start > rowLimit { return true }
            let ahead = buffer.count - start
            guard try fill() else {
                start = buffer.count
                return false
            }
            scanned = start + ahead
        }
    }

    /// Where `byte` stands first at or after `index`.
    func firstIndex(of byte: UInt8, from index: Int) -> Int? {
        buffer.withUnsafeBytes { bytes in
            guard index < bytes.count, let base = bytes.baseAddress,
                let found = memchr(base + index, Int32(byte), bytes.count - index)
            else { return nil }
            return UnsafeRawPointer(found) - base
        }
    }

    // MARK: Reading

    private mutating func piece() throws -> [UInt8]? {
        do {
            if !hasLooked {
                hasLooked = true
                guard let first = try packed() else { return nil }
                guard let kind = Decompressor.Kind(prefix: first) else { return first }
                unpacker = try Decompressor(kind)
                feed(first)
            }
            guard let unpacker else { return try packed() }
            while true {
                let piece = try unpacker.next(limit: Self.chunkSize)
                if !piece.isEmpty { return piece }
                guard let more = try packed() else { break }
                feed(more)
            }
            try unpacker.finish()
            return nil
        } catch let error as FileError {
            throw TextError.notRows(path: path, reason: error.description)
        }
    }

    private mutating func feed(_ bytes: [UInt8]) {
        packedCount += bytes.count
        unpacker?.feed(bytes)
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

/// Bytes without content: white space, and what else is nothing alone.
struct BlankBytes {
    /// What ends a line: line feed, or carriage return in files of old Macs.
    var lineEnd = UInt8(0x0A)
    /// The delimiter of a table: spreadsheets write rows that were emptied, or only once touched, as delimiters alone.
    var delimiter = UInt8(0x20)

    private static let blockSize = 1 << 12

    @inline(__always)
    func contains(_ byte: UInt8) -> Bool {
        byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 || byte == delimiter
    }

    /// Where the blank bytes from `start` on end, how many line ends are among them, and where the last one is.
    func scan(_ bytes: UnsafeBufferPointer<UInt8>, from start: Int) -> (end: Int, lineEnds: Int, lastLineEnd: Int?) {
        var i = start
        var lineEnds = 0
        var last: Int?
        while i < bytes.count {
            if isUniform(bytes, i) {
                // Long blanks repeat one byte or two, such as CR LF: whole blocks of them go by at memcmp's speed.
                for offset in [0, 1] where bytes[i + offset] == lineEnd {
                    lineEnds += Self.blockSize / 2
                    last = i + Self.blockSize - 2 + offset
                }
                i += Self.blockSize
                continue
            }
            let end = min(bytes.count, i + Self.blockSize)
            while i < end, contains(bytes[i]) {
                if bytes[i] == lineEnd {
                    lineEnds += 1
                    last = i
                }
                i += 1
            }
            if i < end { break }
        }
        return (i, lineEnds, last)
    }

    private func isUniform(_ bytes: UnsafeBufferPointer<UInt8>, _ i: Int) -> Bool {
        guard bytes.count - i >= Self.blockSize, contains(bytes[i]), contains(bytes[i + 1]),
            let base = bytes.baseAddress
        else { return false }
        return memcmp(base + i, base + i + 2, Self.blockSize - 2) == 0
    }
}
