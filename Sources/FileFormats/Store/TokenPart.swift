import Foundation

/// One tokenised example on its way into a store, with what decides its place there.
public struct PartRecord: Sendable {
    /// Examples stand in the store in the order of this.
    public var order: UInt64
    /// The row it comes from, counted over all data.
    public var row: UInt64
    public var source: UInt32
    public var ids: [Int32]
    public var isTrained: [Bool]

    public init(order: UInt64, row: UInt64, source: UInt32, ids: [Int32], isTrained: [Bool]) {
        (self.order, self.row, self.source, self.ids, self.isTrained) = (order, row, source, ids, isTrained)
    }

    /// Bytes in memory, about.
    public var size: Int { 5 * ids.count + 96 }
}

/// A finished piece of the work on a store: tokenised rows, put in buckets by their place in the store, and a table of
/// rows. A part appears whole or not at all; what a kill leaves are whole parts.
///
/// Layout: zstd frames of records, each of one bucket; the table's columns, uint64 each; an index in JSON; then 24
/// bytes with where the columns and the index begin and how long the index is, the SHA-256 (in digits) of columns,
/// index and those 24 bytes, and "graftprt". All numbers are little-endian. Frames carry checksums of their own.
public final class TokenPart: Sendable {
    struct Frame: Codable {
        var bucket: Int
        var offset: Int
        var size: Int
        /// Bytes when unpacked.
        var rawSize: Int
        var records: Int
        /// Of the first record.
        var source: UInt32
    }

    struct Index: Codable {
        var frames: [Frame]
        var rows: Int
        var columns: Int
        /// What the writer wants to find again, such as how far it had come.
        var state: String
    }

    static let magic = Array("graftprt".utf8)
    private static let trailerSize = 24 + 64 + 8
    /// A frame takes up records until it has this many bytes.
    private static let frameSize = 4 << 20
    private static let frameSizeLimit = 1 << 30

    public let path: String
    public var rowCount: Int { index.rows }
    public var columnCount: Int { index.columns }
    public var state: String { index.state }
    private let index: Index
    private let columnsOffset: Int

    // MARK: Writing

    /// Writes a part. Records of a bucket keep their order.
    ///
    /// - Parameter columns: of the table of rows, equally long.
    /// - Throws: `FileError.io`, `.outputExists`.
    public static func write(
        to path: String, records: [(bucket: Int, record: PartRecord)], columns: [[UInt64]], state: String,
        threads: Int = 0
    ) throws {
        let groups = frames(of: records)
        let output = try AtomicFile(path: path)
        var index = Index(frames: [], rows: columns.first?.count ?? 0, columns: columns.count, state: state)
        // In batches, so that the packed copies of all frames are never there at once.
        for start in stride(from: 0, to: groups.count, by: 64) {
            let batch = Array(groups[start..<min(start + 64, groups.count)])
            let packed = try concurrentMap(batch.count, threads: threads) { i -> (raw: Int, bytes: [UInt8]) in
                let raw = encode(batch[i].map { records[$0].record })
                return (raw.count, try Zstd.compress(raw, level: 1))
            }
            for (group, frame) in zip(batch, packed) {
                index.frames.append(
                    Frame(
                        bucket: records[group[0]].bucket, offset: output.position, size: frame.bytes.count,
                        rawSize: frame.raw, records: group.count,
                        source: records[group[0]].record.source))
                try output.write(frame.bytes)
            }
        }
        var hash = SHA256Stream()
        let columnsOffset = output.position
        for column in columns {
            precondition(column.count == index.rows)
            try column.withUnsafeBytes {
                hash.update($0)
                try output.write($0)
            }
        }
        let text = Array(try JSONEncoder().encode(index))
        var numbers: [UInt8] = []
        for number in [columnsOffset, output.position, text.count] {
            withUnsafeBytes(of: UInt64(number).littleEndian) { numbers += $0 }
        }
        hash.update(text)
        hash.update(numbers)
        try output.write(text + numbers + Array(hash.hexDigest().utf8) + magic)
        try output.commit()
    }

    /// Indices of records by frame: those of one bucket together, buckets in order.
    private static func frames(of records: [(bucket: Int, record: PartRecord)]) -> [[Int]] {
        let order = records.indices.sorted { (records[$0].bucket, $0) < (records[$1].bucket, $1) }
        var groups: [[Int]] = []
        var size = 0
        for i in order {
            if let last = groups.last?.last, records[last].bucket == records[i].bucket, size < frameSize {
                groups[groups.count - 1].append(i)
            } else {
                groups.append([i])
                size = 0
            }
            size += records[i].record.size
        }
        return groups
    }

    /// Columns of all records: order, row (uint64 each), source, token count (uint32 each), ids (int32), flags (uint8).
    private static func encode(_ records: [PartRecord]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(records.reduce(0) { $0 + 24 + 5 * $1.ids.count })
        func append<Number: FixedWidthInteger>(_ number: Number) {
            withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
        }
        for record in records { append(record.order) }
        for record in records { append(record.row) }
        for record in records { append(record.source) }
        for record in records { append(UInt32(record.ids.count)) }
        for record in records { record.ids.withUnsafeBytes { bytes.append(contentsOf: $0) } }
        for record in records { record.isTrained.withUnsafeBytes { bytes.append(contentsOf: $0) } }
        return bytes
    }

    // MARK: Reading

    /// - Throws: `FileError.missing`, `.io`; `.tokenStore` for a file that is damaged or no part.
    public init(path: String) throws {
        self.path = path
        let file = try Descriptor.reading(path, what: "part of a token store")
        func refused(_ reason: String) -> FileError { .tokenStore(path: path, reason: reason) }
        let size = try file.size()
        guard size >= Self.trailerSize else { throw refused("it is cut short") }
        let trailer = try file.read(Self.trailerSize, at: size - Self.trailerSize)
        guard trailer.count == Self.trailerSize, trailer.suffix(8) == Self.magic[...] else {
            throw refused("it is no part of a token store")
        }
        let numbers = (0..<3).map { i in
            trailer.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(fromByteOffset: 8 * i, as: UInt64.self)) }
        }.map { Int(exactly: $0) ?? -1 }
        let (columnsOffset, indexOffset, indexSize) = (numbers[0], numbers[1], numbers[2])
        let end = size - Self.trailerSize
        guard columnsOffset >= 0, columnsOffset <= indexOffset, indexOffset <= end, indexSize == end - indexOffset
        else { throw refused("its parts do not fit together") }
        var hash = SHA256Stream()
        for start in stride(from: columnsOffset, to: end, by: 1 << 20) {
            hash.update(try file.read(min(1 << 20, end - start), at: start))
        }
        hash.update(Array(trailer[..<24]))
        guard Array(hash.hexDigest().utf8)[...] == trailer[24..<88] else { throw refused("it is damaged") }
        guard let index = try? JSONDecoder().decode(Index.self, from: Data(try file.read(indexSize, at: indexOffset))),
            index.rows >= 0, index.columns >= 0,
            checkedProduct(index.rows, index.columns).flatMap({ checkedProduct($0, 8) }) == indexOffset - columnsOffset,
            index.frames.allSatisfy({
                $0.offset >= 0 && $0.size >= 0 && $0.offset <= columnsOffset && $0.size <= columnsOffset - $0.offset
                    && (0...Self.frameSizeLimit).contains($0.rawSize) && $0.records >= 0
                    && $0.records <= $0.rawSize / 24
            })
        else { throw refused("its index is wrong") }
        self.index = index
        self.columnsOffset = columnsOffset
    }

    /// The buckets that this part has records of, and the source of the first record of each.
    public var buckets: [Int: Int] {
        Dictionary(index.frames.map { ($0.bucket, Int($0.source)) }) { first, _ in first }
    }

    /// Bytes that the records of a bucket take when unpacked.
    public func size(ofBucket bucket: Int) -> Int {
        index.frames.reduce(0) { $0 + ($1.bucket == bucket ? $1.rawSize : 0) }
    }

    /// The records of a bucket for which `isWanted`, in the order they were written.
    public func records(
        ofBucket bucket: Int, where isWanted: (_ order: UInt64, _ row: UInt64, _ source: UInt32) -> Bool
    ) throws -> [PartRecord] {
        var result: [PartRecord] = []
        let file = try Descriptor.reading(path, what: "part of a token store")
        for frame in index.frames where frame.bucket == bucket {
            let packed = try file.read(frame.size, at: frame.offset)
            var raw = [UInt8](repeating: 0, count: frame.rawSize)
            do {
                try packed.withUnsafeBytes { input in
                    try raw.withUnsafeMutableBytes { try Zstd.decompress(input, into: $0) }
                }
            } catch FileError.zstd(let fault) {
                throw FileError.tokenStore(path: path, reason: "the frame at byte \(frame.offset) is damaged: \(fault)")
            }
            guard Self.decode(raw, frame.records, isWanted, into: &result) else {
                throw FileError.tokenStore(path: path, reason: "the frame at byte \(frame.offset) is malformed")
            }
        }
        return result
    }

    private static func decode(
        _ raw: [UInt8], _ count: Int, _ isWanted: (UInt64, UInt64, UInt32) -> Bool, into result: inout [PartRecord]
    ) -> Bool {
        raw.withUnsafeBytes { bytes in
            func number<Number: FixedWidthInteger>(_ offset: Int, as type: Number.Type) -> Number {
                Number(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Number.self))
            }
            let lengths = (0..<count).map { Int(number(20 * count + 4 * $0, as: UInt32.self)) }
            let total = lengths.reduce(0, +)
            guard raw.count == 24 * count + 5 * total else { return false }
            var position = 0
            for i in 0..<count {
                let (order, row) = (number(8 * i, as: UInt64.self), number(8 * (count + i), as: UInt64.self))
                let source = number(16 * count + 4 * i, as: UInt32.self)
                let length = lengths[i]
                defer { position += length }
                guard isWanted(order, row, source) else { continue }
                let flags = 24 * count + 4 * total + position
                let ids = [Int32](unsafeUninitializedCapacity: length) { buffer, initialized in
                    UnsafeMutableRawBufferPointer(buffer).copyMemory(
                        from: UnsafeRawBufferPointer(
                            rebasing: bytes[(24 * count + 4 * position)..<(24 * count + 4 * (position + length))]))
                    initialized = length
                }
                result.append(
                    PartRecord(
                        order: order, row: row, source: source, ids: ids,
                        isTrained: bytes[flags..<flags + length].map { $0 != 0 }))
            }
            return true
        }
    }

    /// A range of a column of the table of rows.
    public func column(_ column: Int, _ range: Range<Int>) throws -> [UInt64] {
        precondition((0..<columnCount).contains(column) && range.lowerBound >= 0 && range.upperBound <= rowCount)
        let file = try Descriptor.reading(path, what: "part of a token store")
        let bytes = try file.read(8 * range.count, at: columnsOffset + 8 * (column * rowCount + range.lowerBound))
        guard bytes.count == 8 * range.count else {
            throw FileError.tokenStore(path: path, reason: "it was cut short while it was read")
        }
        return bytes.withUnsafeBytes { bytes in
            range.indices.map { i in
                UInt64(
                    littleEndian: bytes.loadUnaligned(fromByteOffset: 8 * (i - range.lowerBound), as: UInt64.self))
            }
        }
    }
}
