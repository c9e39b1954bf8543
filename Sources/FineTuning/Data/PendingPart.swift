import FileFormats
import TextData

/// Examples on their way into a part, and the table of their rows.
struct PendingPart {
    private let plan: StorePlan
    private let order: StoreOrder
    private var records: [(bucket: Int, record: PartRecord)] = []
    private var columns: [[UInt64]] = []
    private var piece = 0
    private var lastRow = -1
    private(set) var size = 0

    init(plan: StorePlan) {
        self.plan = plan
        order = StoreOrder(plan)
    }

    var isEmpty: Bool { columns.isEmpty }

    mutating func add(_ set: ExampleSet) {
        for (example, origin) in zip(set.examples, set.origins) {
            if origin.place.ordinal == lastRow {
                piece += 1
            } else {
                piece = 0
                lastRow = origin.place.ordinal
                addRow(origin)
            }
            let place = order.place(of: origin.place, piece: piece)
            let record = PartRecord(
                order: place.order, row: UInt64(origin.place.ordinal), source: UInt32(origin.place.source),
                ids: example.ids, isTrained: example.isTrained)
            size += record.size
            records.append((place.bucket, record))
        }
    }

    /// Notes rows whose examples are not kept.
    mutating func add(rows origins: [RowOrigin]) {
        for origin in origins where origin.place.ordinal != lastRow {
            lastRow = origin.place.ordinal
            addRow(origin)
        }
    }

    /// Columns: ordinal, source and file, number in the file, then those of the fingerprint.
    private mutating func addRow(_ origin: RowOrigin) {
        let place = origin.place
        let values =
            [UInt64(place.ordinal), UInt64(place.source) << 32 | UInt64(place.file), UInt64(origin.number)]
            + (origin.fingerprint?.columns ?? [])
        if columns.isEmpty { columns = values.map { _ in [] } }
        for i in values.indices { columns[i].append(values[i]) }
        size += 8 * values.count
    }

    func write(to path: String, state: String) throws {
        try TokenPart.write(to: path, records: records, columns: columns, state: state)
    }
}
