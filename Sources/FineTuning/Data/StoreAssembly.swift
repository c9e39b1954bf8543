import FileFormats
import TensorCore
import TextData

/// The places of examples in a store. Buckets are ranges of the order that are sorted one at a time.
struct StoreOrder {
    private static let domain: UInt64 = 0x7368_7566
    /// Of a shuffled store; the highest byte of an order is its bucket.
    static let bucketCount = 256

    private let isShuffled: Bool
    private let seed: UInt64

    init(_ plan: StorePlan) {
        isShuffled = plan.shuffle
        seed = plan.seed
    }

    /// Shuffled: a number drawn for the example. Else the order of the rows, a block of rows a bucket.
    func place(of row: RowPlace, piece: Int) -> (bucket: Int, order: UInt64) {
        guard isShuffled else {
            return (row.block, UInt64(row.ordinal) << 20 | UInt64(min(piece, 1 << 20 - 1)))
        }
        let order = CounterRNG(seed, Self.domain, UInt64(row.ordinal)).bits(UInt64(piece))
        return (Int(order >> 56), order)
    }

    /// The place of a copy in its bucket.
    static func order(_ order: UInt64, copy: Int) -> UInt64 {
        copy == 0 ? order : CounterRNG(domain, UInt64(copy)).bits(order)
    }
}

/// Writes the examples of parts to a store, in order.
struct StoreAssembly {
    /// Bytes of examples that are sorted at once.
    private static let sortLimit = 192 << 20
    private static let headColumns = 3

    private let plan: StorePlan
    private let parts: [TokenPart]
    private let table: RowTable
    private var removed = RowSet()
    private var copies: RowCopies?

    /// - Parameter parts: of each shard, in order.
    init(_ plan: StorePlan, parts shards: [[TokenPart]]) throws {
        self.plan = plan
        let parts = shards.flatMap(\.self).filter { $0.rowCount > 0 }
        for part in parts where part.columnCount < Self.headColumns + 2 {
            throw FileError.tokenStore(path: part.path, reason: "its table of rows lacks columns")
        }
        self.parts = parts
        let files = plan.files
        let pages = parts.map { part in
            FingerprintPage(
                count: part.rowCount, ordinals: { try part.column(0, 0..<part.rowCount) },
                column: { try part.column(Self.headColumns + $0, $1) })
        }
        table = RowTable(pages: pages) { slot in
            let (part, row) = (parts[Int(slot.page)], Int(slot.index)..<Int(slot.index) + 1)
            let file = Int(truncatingIfNeeded: try part.column(1, row)[0] & 0xFFFF_FFFF)
            return (
                files.indices.contains(file) ? files[file] : nil, Int(truncatingIfNeeded: try part.column(2, row)[0])
            )
        }
    }

    /// Evaluation rows that are among the data; see `RowTable.checkOverlap`.
    func checkOverlap(_ eval: RowTable) throws -> [String] {
        try RowTable.checkOverlap(eval: eval, train: table, accepts: Set(plan.accepts))
    }

    mutating func findDuplicates() throws -> DuplicateSummary {
        let found = try table.duplicates(plan.dedupe)
        removed = found.removed
        return found.summary
    }

    /// Returns how often each source is taken, nil when all are taken once.
    mutating func countCopies() throws -> [Double]? {
        let counted = try RowCopies(plan.mixture, removed: removed, seed: plan.seed) { body in
            for part in parts {
                let rows = try part.column(0, 0..<part.rowCount)
                for (row, place) in zip(rows, try part.column(1, 0..<part.rowCount)) {
                    body(row, min(Int(place >> 32), plan.mixture.weights.count - 1))
                }
            }
        }
        copies = counted
        return plan.mixture.isPlain ? nil : counted.repeats
    }

    // MARK: Writing

    /// Records that are sorted together: a copy of each of some buckets, of one source or of all.
    private struct Group {
        var members: [(bucket: Int, copy: Int)]
        var source: Int?
    }

    private func groups(_ copies: RowCopies) -> [Group] {
        if plan.shuffle {
            let most = max(1, copies.limits.max() ?? 1)
            return (0..<StoreOrder.bucketCount).map { bucket in
                // Copies of a bucket are spread evenly over the store.
                Group(
                    members: (0..<most).map { copy in
                        let shift = copy * StoreOrder.bucketCount / most
                        return (
                            (bucket + StoreOrder.bucketCount - shift % StoreOrder.bucketCount)
                                % StoreOrder.bucketCount, copy
                        )
                    })
            }
        }
        // Source by source, each as often as it is repeated; a block belongs to one source.
        var buckets = Array(repeating: Set<Int>(), count: plan.mixture.weights.count)
        for part in parts {
            for (bucket, source) in part.buckets where buckets.indices.contains(source) {
                buckets[source].insert(bucket)
            }
        }
        return buckets.enumerated().flatMap { source, buckets in
            (0..<copies.limits[source]).flatMap { copy in
                buckets.sorted().map { Group(members: [($0, copy)], source: source) }
            }
        }
    }

    /// Appends all examples to `writer`.
    func write(to writer: TokenStoreWriter, progress: (_ done: Int, _ total: Int) throws -> Void) throws {
        guard let copies else { preconditionFailure("copies are counted first") }
        let groups = groups(copies)
        var byBucket: [Int: [TokenPart]] = [:]
        for part in parts { for bucket in part.buckets.keys { byBucket[bucket, default: []].append(part) } }
        for (i, group) in groups.enumerated() {
            try progress(i, groups.count)
            let size = group.members.reduce(0) { total, member in
                (byBucket[member.bucket] ?? []).reduce(total) { $0 + $1.size(ofBucket: member.bucket) }
            }
            // A bucket that is too large is read several times, a range of its order each time.
            var bits: UInt64 = 0
            while plan.shuffle, bits < 40, size >> bits > Self.sortLimit { bits += 1 }
            for pass in 0..<(UInt64(1) << bits) {
                try write(group, pass: (pass, bits), byBucket, copies, to: writer)
            }
        }
    }

    private func write(
        _ group: Group, pass: (number: UInt64, bits: UInt64), _ byBucket: [Int: [TokenPart]], _ copies: RowCopies,
        to writer: TokenStoreWriter
    ) throws {
        let jobs = group.members.flatMap { member in
            (byBucket[member.bucket] ?? []).map { (part: $0, bucket: member.bucket, copy: member.copy) }
        }
        let (isShuffled, lastSource) = (plan.shuffle, plan.mixture.weights.count - 1)
        let found = try concurrentMap(jobs.count) { i -> [PartRecord] in
            let job = jobs[i]
            var records = try job.part.records(ofBucket: job.bucket) { order, row, source in
                guard job.copy < copies(row, source: min(Int(source), lastSource)) else {
                    return false
                }
                // The bucket is in the highest byte; the bits below it are the range.
                let place = StoreOrder.order(order, copy: job.copy)
                return pass.bits == 0 || (place << 8) >> (64 - pass.bits) == pass.number
            }
            if job.copy > 0, isShuffled {
                for j in records.indices {
                    // The highest byte tells the bucket of the first copy; within the group, only the rest counts.
                    records[j].order = StoreOrder.order(records[j].order, copy: job.copy)
                }
            }
            return records
        }
        let records = found.flatMap(\.self)
        func key(_ i: Int) -> (UInt64, UInt64, Int) {
            (plan.shuffle ? records[i].order << 8 : records[i].order, records[i].row, i)
        }
        for i in records.indices.sorted(by: { key($0) < key($1) }) {
            try writer.append(ids: records[i].ids, isTrained: records[i].isTrained)
        }
    }
}
