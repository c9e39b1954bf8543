public import FileFormats
import TextData

/// What is done about rows that are equal or near to an earlier one.
public enum Deduplication: String, Sendable, CaseIterable, Codable {
    /// Equal rows are counted and stay.
    case none
    case exact
    /// Equal rows, and rows whose word 5-grams overlap by about 0.72 or more with an earlier one's (MinHash).
    case near
}

/// Duplicates of a data set, for a person.
public struct DuplicateSummary: Sendable {
    /// A row, and the one it is like.
    public struct Pair: Sendable {
        public var file: String?
        public var row: Int
        public var earlierFile: String?
        public var earlierRow: Int

        var text: String {
            func place(_ file: String?, _ row: Int) -> String { (file.map { "\($0) " } ?? "") + "row \(row)" }
            return "\(place(file, row)) (of \(place(earlierFile, earlierRow)))"
        }
        var json: JSONValue {
            [
                "file": file.map { .string($0) } ?? .null, "row": .integer(row),
                "earlier_file": earlierFile.map { .string($0) } ?? .null, "earlier_row": .integer(earlierRow),
            ]
        }
    }

    public var what: Deduplication
    public var exact = 0
    public var near = 0
    /// Some of them, by their order.
    public var exactPairs: [Pair] = []
    public var nearPairs: [Pair] = []

    private func list(_ pairs: [Pair]) -> String { pairs.prefix(5).map(\.text).joined(separator: ", ") }

    public var facts: [(name: String, value: String)] {
        var facts: [(name: String, value: String)] = []
        func rows(_ count: Int) -> String { "\(count) row\(count == 1 ? "" : "s")" }
        if exact > 0 {
            let fate = what == .none ? "; they stay, 'dedupe: exact' leaves them out" : ", left out"
            facts.append(("exact duplicates", "\(rows(exact)) such as \(list(exactPairs))\(fate)"))
        }
        if near > 0 { facts.append(("near duplicates", "\(rows(near)) such as \(list(nearPairs)), left out")) }
        return facts
    }

    public var json: JSONValue {
        [
            "dedupe": .string(what.rawValue), "exact": .integer(exact), "near": .integer(near),
            "exact_rows": .array(exactPairs.map(\.json)), "near_rows": .array(nearPairs.map(\.json)),
        ]
    }
}

/// Fingerprints of rows with the places that they stand for.
struct RowTable {
    var pages: [FingerprintPage]
    /// The file and the number of the row at a slot.
    var place: (DuplicateFinder.Slot) throws -> (file: String?, row: Int)

    /// Of rows in memory; pieces of a row count once.
    init(_ origins: [RowOrigin]) {
        var rows: [RowOrigin] = []
        for origin in origins where rows.last?.place.ordinal != origin.place.ordinal { rows.append(origin) }
        let known = rows
        pages = [
            FingerprintPage(
                known.compactMap { origin in
                    origin.fingerprint.map { (UInt64(origin.place.ordinal), $0) }
                })
        ]
        place = { (known[Int($0.index)].file, known[Int($0.index)].number) }
    }

    init(pages: [FingerprintPage], place: @escaping (DuplicateFinder.Slot) throws -> (file: String?, row: Int)) {
        (self.pages, self.place) = (pages, place)
    }

    /// Duplicates among the rows, and those that are to be left out.
    func duplicates(_ what: Deduplication) throws -> (summary: DuplicateSummary, removed: RowSet) {
        var summary = DuplicateSummary(what: what)
        let finder = DuplicateFinder(pages)
        let exact = try finder.exact()
        func pairs(_ found: DuplicateFinder.Found) throws -> [DuplicateSummary.Pair] {
            try found.pairs.map {
                let (row, earlier) = (try place($0.slot), try place($0.earlier))
                return .init(file: row.file, row: row.row, earlierFile: earlier.file, earlierRow: earlier.row)
            }
        }
        summary.exact = exact.rows.count
        summary.exactPairs = try pairs(exact)
        guard what == .near else { return (summary, what == .none ? RowSet() : exact.rows) }
        let near = try finder.near(excluding: exact.rows)
        summary.near = near.rows.count
        summary.nearPairs = try pairs(near)
        return (summary, exact.rows.union(near.rows))
    }

    /// The rows that are among `others`: equal ones as the lint's faults, near ones likewise; the first thousand, and
    /// how many there are.
    func overlap(with others: RowTable) throws -> (exact: Overlap, near: Overlap) {
        let finder = DuplicateFinder(of: pages, among: others.pages)
        let offset = Int32(others.pages.count)
        func overlap(_ found: DuplicateFinder.Found, _ how: String) throws -> Overlap {
            let faults = try found.pairs.map { pair in
                let row = try place(.init(page: pair.slot.page - offset, index: pair.slot.index))
                let earlier = try others.place(pair.earlier)
                return RowFault(
                    file: row.file, row: row.row,
                    reason: "it is \(how)row \(earlier.row)\(earlier.file.map { " of \($0)" } ?? "")",
                    lint: .duplicateRows)
            }
            return Overlap(faults: faults, count: found.rows.count)
        }
        let exact = try finder.exact()
        return (try overlap(exact, ""), try overlap(try finder.near(excluding: exact.rows), "nearly "))
    }

    struct Overlap {
        var faults: [RowFault]
        var count: Int
    }
}

extension RowTable {
    /// Refuses evaluation rows that are training rows, unless that is accepted; what else there is to say.
    ///
    /// - Throws: `TextError.badRows`.
    static func checkOverlap(eval: RowTable, train: RowTable, accepts: Set<Lint>) throws -> [String] {
        let (exact, near) = try eval.overlap(with: train)
        var warnings: [String] = []
        func rows(_ count: Int) -> String { count == 1 ? "1 evaluation row is" : "\(count) evaluation rows are" }
        if exact.count > 0 {
            guard accepts.contains(.duplicateRows) else {
                throw TextError.badRows(faults: exact.faults, total: exact.count)
            }
            warnings.append("\(rows(exact.count)) in the training rows, too (accepted)")
        }
        if near.count > 0 {
            let some = near.faults.prefix(5).map { fault in
                "\(fault.file.map { $0 + " " } ?? "")row \(fault.row) (\(fault.reason))"
            }
            warnings.append(
                "\(rows(near.count)) nearly the same as a training row, such as \(some.joined(separator: ", ")); "
                    + "the evaluation may look better than the model is")
        }
        return warnings
    }
}
