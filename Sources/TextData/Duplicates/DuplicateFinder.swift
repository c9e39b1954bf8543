/// Fingerprints of rows, kept in memory or in a file.
public struct FingerprintPage {
    public let count: Int
    /// The ordinals of all rows, rising.
    public let ordinals: () throws -> [UInt64]
    /// A range of a column of `RowFingerprint.columns`.
    public let column: (_ column: Int, _ rows: Range<Int>) throws -> [UInt64]

    public init(
        count: Int, ordinals: @escaping () throws -> [UInt64],
        column: @escaping (_ column: Int, _ rows: Range<Int>) throws -> [UInt64]
    ) {
        (self.count, self.ordinals, self.column) = (count, ordinals, column)
    }

    /// Fingerprints in memory.
    public init(_ rows: [(ordinal: UInt64, fingerprint: RowFingerprint)]) {
        let width = rows.first?.fingerprint.columns.count ?? 0
        let columns = (0..<width).map { column in rows.map { $0.fingerprint.columns[column] } }
        self.init(count: rows.count, ordinals: { rows.map(\.ordinal) }, column: { Array(columns[$0][$1]) })
    }
}

/// A set of row ordinals, a bit each.
public struct RowSet: Sendable {
    private var words: [UInt64] = []
    public private(set) var count = 0

    public init() {}

    public func contains(_ row: UInt64) -> Bool {
        let word = Int(row >> 6)
        return word < words.count && words[word] >> (row & 63) & 1 == 1
    }

    /// False when it was there already.
    @discardableResult
    mutating func insert(_ row: UInt64) -> Bool {
        if contains(row) { return false }
        let word = Int(row >> 6)
        if word >= words.count { words += [UInt64](repeating: 0, count: word + 1 - words.count) }
        words[word] |= 1 << (row & 63)
        count += 1
        return true
    }

    public func union(_ other: RowSet) -> RowSet {
        var result = RowSet()
        result.words = (0..<max(words.count, other.words.count)).map { i in
            (i < words.count ? words[i] : 0) | (i < other.words.count ? other.words[i] : 0)
        }
        result.count = result.words.reduce(0) { $0 + $1.nonzeroBitCount }
        return result
    }
}

/// Finds rows that are equal or near to an earlier one.
///
/// Keys are sorted a column at a time, at most `entryLimit` of them at once, so that memory stays bounded: 24 bytes a
/// key while sorting and 1 bit a row in all; what stays on the disk is 16 bytes a row, 128 with near duplicates. The
/// result is a function of the fingerprints alone.
public struct DuplicateFinder {
    /// Where a fingerprint stands.
    public struct Slot: Sendable, Equatable {
        public var page: Int32
        public var index: Int32

        public init(page: Int32, index: Int32) { (self.page, self.index) = (page, index) }
    }

    /// A row, and the one it is like.
    public struct Pair: Sendable, Equatable {
        public var row: UInt64
        public var slot: Slot
        public var earlier: Slot
    }

    public struct Found: Sendable {
        public var rows = RowSet()
        /// Some of them, by their order.
        public var pairs: [Pair] = []
    }

    private struct Entry {
        var key: UInt64
        /// Ordinal, with the highest bit set for rows that are looked for among others.
        var order: UInt64
        var slot: Slot
    }

    /// Rows whose estimated similarity is below this are not near, though a band may agree by chance.
    static let threshold = 0.7
    private static let pairLimit = 1_000
    /// How many rows with the same key a row is compared with.
    private static let comparisons = 16

    private let pages: [FingerprintPage]
    /// Pages from here on are compared with those before, and not among themselves.
    private let firstQuery: Int
    private let isQuery: Bool
    var entryLimit = 4 << 20

    /// Rows among themselves.
    public init(_ pages: [FingerprintPage]) {
        self.pages = pages
        (firstQuery, isQuery) = (pages.count, false)
    }

    /// Which of `queries` are among `others`; ordinals of the result are those of `queries`.
    public init(of queries: [FingerprintPage], among others: [FingerprintPage]) {
        pages = others + queries
        (firstQuery, isQuery) = (others.count, true)
    }

    /// Rows whose token ids are those of an earlier row.
    public func exact() throws -> Found {
        var found = Found()
        try search(column: 0, excluding: RowSet(), into: &found) { try value(1, $0) == value(1, $1) }
        return sorted(found)
    }

    /// Rows that are near an earlier row, those of `exact` left out. The pages need bands.
    public func near(excluding exact: RowSet) throws -> Found {
        var found = Found()
        for band in 0..<MinHash.bandCount {
            try search(column: 2 + band, excluding: exact, into: &found) { a, b in
                try MinHash.similarity(bands(a), bands(b)) >= Self.threshold
            }
        }
        return sorted(found)
    }

    private func value(_ column: Int, _ slot: Slot) throws -> UInt64 {
        try pages[Int(slot.page)].column(column, Int(slot.index)..<Int(slot.index) + 1)[0]
    }

    private func bands(_ slot: Slot) throws -> [UInt64] {
        try (0..<MinHash.bandCount).map { try value(2 + $0, slot) }
    }

    private func sorted(_ found: Found) -> Found {
        var found = found
        found.pairs.sort { $0.row < $1.row }
        return found
    }

    private func search(
        column: Int, excluding: RowSet, into found: inout Found, isSame: (Slot, Slot) throws -> Bool
    ) throws {
        let total = pages.reduce(0) { $0 + $1.count }
        var bits: UInt64 = 0
        while total >> bits > entryLimit { bits += 1 }
        for pass in 0..<(UInt64(1) << bits) {
            var entries = try collect(column: column, excluding: excluding) { bits == 0 || $0 >> (64 - bits) == pass }
            entries.sort { ($0.key, $0.order) < ($1.key, $1.order) }
            var start = 0
            while start < entries.count {
                var end = start + 1
                while end < entries.count, entries[end].key == entries[start].key { end += 1 }
                if end - start > 1 { try compare(entries[start..<end], into: &found, isSame: isSame) }
                start = end
            }
        }
    }

    private func collect(
        column: Int, excluding: RowSet, isWanted: (UInt64) -> Bool
    ) throws -> [Entry] {
        var entries: [Entry] = []
        for (p, page) in pages.enumerated() where page.count > 0 {
            let flag: UInt64 = isQuery && p >= firstQuery ? 1 << 63 : 0
            let ordinals = try page.ordinals()
            for (i, key) in try page.column(column, 0..<page.count).enumerated() where isWanted(key) {
                // Without words there is nothing to compare.
                if column >= 2, key == 0 { continue }
                // Of rows that are compared among themselves, all are candidates; else `excluding` is of the queries.
                if flag != 0 || !isQuery, excluding.contains(ordinals[i]) { continue }
                entries.append(
                    Entry(key: key, order: ordinals[i] | flag, slot: Slot(page: Int32(p), index: Int32(i))))
            }
        }
        return entries
    }

    private func compare(
        _ group: ArraySlice<Entry>, into found: inout Found, isSame: (Slot, Slot) throws -> Bool
    ) throws {
        let flag: UInt64 = 1 << 63
        let references = isQuery ? group.prefix { $0.order & flag == 0 } : group
        guard !references.isEmpty else { return }
        for i in (isQuery ? references.endIndex : group.startIndex + 1)..<group.endIndex {
            let entry = group[i]
            let row = entry.order & ~flag
            if found.rows.contains(row) { continue }
            for earlier in group[references.startIndex..<min(i, references.endIndex)].prefix(Self.comparisons)
            where try isSame(entry.slot, earlier.slot) {
                found.rows.insert(row)
                if found.pairs.count < Self.pairLimit {
                    found.pairs.append(Pair(row: row, slot: entry.slot, earlier: earlier.slot))
                }
                break
            }
        }
    }
}
