/// The entries of one column of a row group, page by page.
final class ParquetColumn {
    /// Pages are a megabyte by default; one is held unpacked at a time.
    static let maximumPage = 128 << 20
    static let maximumDictionary = 1 << 20

    let leaf: ParquetLeaf
    private let file: Descriptor
    private let codec: Int
    private var offset: Int
    private let end: Int
    /// Entries left, nulls included: of the chunk and of the page.
    private var left: Int
    private var leftOfPage = 0
    private var dictionary: [JSONValue]?
    private var repetitions: RunLengthDecoder?
    private var definitions: RunLengthDecoder?
    private var values = ParquetValues.none
    private var current: (repetition: Int, definition: Int)?
    private let budget: ParquetBudget
    /// What of the budget the page and the dictionary hold.
    private var pageBytes = 0
    private var dictionaryBytes = 0

    init(leaf: ParquetLeaf, chunk: ThriftValue, file: Descriptor, size: Int, budget: ParquetBudget) throws {
        self.leaf = leaf
        self.file = file
        self.budget = budget
        func fail(_ reason: String) -> ParquetFault { .column(name: leaf.path, reason: reason) }
        guard chunk[1] == nil else { throw ParquetFault.unsupported(column: leaf.path, "a file of its own") }
        guard let data = chunk[3] else {
            throw chunk[8] == nil ? fail("a column chunk has no metadata") : ParquetFault.encrypted
        }
        guard data[1]?.int == leaf.type.rawValue, let codec = data[4]?.int, let count = data[5]?.int, count >= 0,
            let packed = data[7]?.int, packed >= 0, let first = data[9]?.int
        else { throw fail("a column chunk's metadata lacks or contradicts something") }
        var start = first
        if let dictionary = data[11]?.int, dictionary > 0 { start = min(start, dictionary) }
        let (end, overflow) = start.addingReportingOverflow(packed)
        guard start >= 4, !overflow, end <= size else { throw fail("a column chunk lies outside of the file") }
        self.codec = codec
        (self.offset, self.end, left) = (start, end, count)
    }

    deinit { budget.held -= pageBytes + dictionaryBytes }

    private func fault(_ reason: String) -> ParquetFault { .column(name: leaf.path, reason: reason) }

    /// The levels of the next entry; nil at the end of the chunk.
    func peek() throws -> (repetition: Int, definition: Int)? {
        if let current { return current }
        while leftOfPage == 0 {
            guard left > 0 else { return nil }
            try readPage()
        }
        leftOfPage -= 1
        left -= 1
        do {
            let repetition = try repetitions?.next() ?? 0
            let definition = try definitions?.next() ?? leaf.definitionLevel
            guard repetition <= leaf.repetitionLevel, definition <= leaf.definitionLevel else {
                throw fault("a level is out of range")
            }
            current = (repetition, definition)
        } catch let error as PageBytes.Fault {
            throw fault(error.reason)
        }
        return current
    }

    func needed() throws -> (repetition: Int, definition: Int) {
        guard let entry = try peek() else { throw fault("it ends before the last row") }
        return entry
    }

    /// The value of the next entry; null when there is none at its level.
    func take() throws -> JSONValue {
        let entry = try needed()
        current = nil
        guard entry.definition == leaf.definitionLevel else { return .null }
        do {
            let value = try values.next(leaf, dictionary)
            if leaf.isUnread { return .null }
            switch value {
            case .json(let value): return value
            case .bytes(let bytes): return text(bytes)
            }
        } catch let error as PageBytes.Fault {
            throw fault(error.reason)
        }
    }

    private func text(_ bytes: ArraySlice<UInt8>) -> JSONValue {
        if let text = String(validating: bytes, as: UTF8.self) { return .string(text) }
        budget.problem = budget.problem ?? "the column '\(leaf.path)' holds bytes that are not UTF-8"
        return .null
    }

    // MARK: Pages

    private func readPage() throws {
        let (header, length) = try pageHeader()
        offset += length
        guard let kind = header[1]?.int, let unpacked = header[2]?.int, let packed = header[3]?.int, packed >= 0,
            packed <= end - offset, (0...Self.maximumPage).contains(unpacked), packed <= Self.maximumPage
        else { throw fault("a page has no or wild sizes") }
        let bytes = try file.read(packed, at: offset)
        guard bytes.count == packed else { throw fault("the file ends inside of a page") }
        offset += packed
        if kind == 2 {
            // Entries take more as values than as bytes: at most four times as much.
            try hold(unpacked * 4, in: \.dictionaryBytes)
        } else {
            try hold(unpacked, in: \.pageBytes)
        }
        do {
            switch kind {
            case 0: try startPage(try unpack(bytes, size: unpacked), header[5])
            case 2: try readDictionary(try unpack(bytes, size: unpacked), header[7])
            case 3: try startPageV2(bytes, unpacked: unpacked, header[8])
            default: break
            }
        } catch let error as PageBytes.Fault {
            throw fault(error.reason)
        }
    }

    private func hold(_ bytes: Int, in place: ReferenceWritableKeyPath<ParquetColumn, Int>) throws {
        budget.held += bytes - self[keyPath: place]
        self[keyPath: place] = bytes
        guard budget.held <= budget.limit else {
            throw fault(
                "the pages of one row unpack to more than \(budget.limit >> 20) MiB, far beyond what they are stored in"
            )
        }
    }

    private func pageHeader() throws -> (ThriftValue, length: Int) {
        guard offset < end else { throw fault("it has fewer values than declared") }
        // Statistics can make a header long.
        for size in [4 << 10, 1 << 20] {
            let bytes = try file.read(min(size, end - offset), at: offset)
            var reader = ThriftReader(bytes)
            do {
                let header = try reader.structure()
                return (header, reader.position)
            } catch let error as ThriftReader.Fault {
                if size == 1 << 20 || bytes.count < size { throw fault("a page's header: \(error.reason)") }
            }
        }
        throw fault("a page's header is too long")
    }

    private func unpack(_ bytes: [UInt8], size: Int) throws -> [UInt8] {
        switch codec {
        case 0: return bytes
        case 1:
            do { return try Snappy.unpack(bytes, size: size) } catch is Snappy.Fault {
                throw fault("a page is no Snappy data of the size declared")
            }
        case 2, 6:
            do { return try Decompressor.unpack(bytes, codec == 2 ? .gzip : .zstd, size: size) } catch {
                throw fault("a page does not unpack: \(error)")
            }
        default:
            let names = [3: "LZO", 4: "Brotli", 5: "LZ4", 7: "LZ4"]
            throw ParquetFault.unsupported(
                column: leaf.path, "\(names[codec] ?? "unknown") compression (use snappy, zstd, gzip or none)")
        }
    }

    private func readDictionary(_ bytes: [UInt8], _ header: ThriftValue?) throws {
        guard let count = header?[1]?.int, (0...Self.maximumDictionary).contains(count) else {
            throw fault("a dictionary with no or a wild number of entries")
        }
        guard [0, 2].contains(header?[2]?.int) else { throw fault("a dictionary that is not plain") }
        var plain = ParquetValues.plain(PageBytes(bytes), bit: 0)
        var entries: [JSONValue] = []
        for _ in 0..<count {
            switch try plain.next(leaf, nil) {
            case .json(let value): entries.append(value)
            case .bytes(let bytes):
                // Entries that no row uses may be anything.
                entries.append(
                    leaf.isUnread ? .null : String(validating: bytes, as: UTF8.self).map(JSONValue.string) ?? .null)
                if !leaf.isUnread, entries[entries.count - 1].isNull { _ = text(bytes) }
            }
        }
        dictionary = entries
    }

    private func count(_ value: ThriftValue?) throws -> Int {
        guard let count = value?.int, count >= 0, count <= left else {
            throw fault("a page has a wild number of values")
        }
        return count
    }

    private static func width(_ level: Int) -> Int { Int.bitWidth - level.leadingZeroBitCount }

    private func startPage(_ bytes: [UInt8], _ header: ThriftValue?) throws {
        let count = try count(header?[1])
        var source = PageBytes(bytes)
        func levels(_ most: Int, _ encoding: ThriftValue?) throws -> RunLengthDecoder? {
            guard most > 0 else { return nil }
            guard encoding?.int == 3 else {
                throw ParquetFault.unsupported(column: leaf.path, "bit-packed levels of an old writer")
            }
            let length = Int(try source.little(4))
            let start = source.position
            _ = try source.slice(length)
            return try RunLengthDecoder(PageBytes(bytes, from: start, to: source.position), width: Self.width(most))
        }
        repetitions = try levels(leaf.repetitionLevel, header?[4])
        definitions = try levels(leaf.definitionLevel, header?[3])
        try startValues(source, encoding: header?[2]?.int, count: count)
    }

    private func startPageV2(_ bytes: [UInt8], unpacked: Int, _ header: ThriftValue?) throws {
        let count = try count(header?[1])
        guard let definitionBytes = header?[5]?.int, let repetitionBytes = header?[6]?.int, definitionBytes >= 0,
            repetitionBytes >= 0, repetitionBytes <= bytes.count, definitionBytes <= bytes.count - repetitionBytes,
            definitionBytes + repetitionBytes <= unpacked
        else { throw fault("a page's levels are longer than the page") }
        let start = definitionBytes + repetitionBytes
        // Levels of this kind of page are never packed.
        func levels(_ most: Int, _ range: Range<Int>) throws -> RunLengthDecoder? {
            guard most > 0 else { return nil }
            return try RunLengthDecoder(
                PageBytes(bytes, from: range.lowerBound, to: range.upperBound), width: Self.width(most))
        }
        repetitions = try levels(leaf.repetitionLevel, 0..<repetitionBytes)
        definitions = try levels(leaf.definitionLevel, repetitionBytes..<start)
        let packed = Array(bytes[start...])
        let isPacked = header?[7]?.bool ?? true
        let values = isPacked && !packed.isEmpty ? try unpack(packed, size: unpacked - start) : packed
        try startValues(PageBytes(values), encoding: header?[4]?.int, count: count)
    }

    private func startValues(_ source: PageBytes, encoding: Int?, count: Int) throws {
        var source = source
        leftOfPage = count
        switch encoding {
        case 0: values = .plain(source, bit: 0)
        case 2, 8:
            guard dictionary != nil else { throw fault("a page refers to a dictionary that is not there") }
            // A page of nothing but nulls may be empty.
            guard source.position < source.end else {
                values = .none
                return
            }
            let width = Int(try source.byte())
            values = .indices(try RunLengthDecoder(source, width: width))
        case 3 where leaf.type == .boolean:
            let length = Int(try source.little(4))
            let start = source.position
            _ = try source.slice(length)
            values = .booleans(
                try RunLengthDecoder(PageBytes(source.bytes, from: start, to: source.position), width: 1))
        case 5 where leaf.type == .int32 || leaf.type == .int64:
            try hold(pageBytes + 8 * min(count, DeltaNumbers.maximumCount), in: \.pageBytes)
            values = .numbers(try DeltaNumbers.read(&source, limit: count), at: 0)
        case 6 where leaf.type == .byteArray:
            try hold(pageBytes + 8 * min(count, DeltaNumbers.maximumCount), in: \.pageBytes)
            let lengths = try DeltaNumbers.read(&source, limit: count)
            values = .lengths(lengths, at: 0, source)
        case 7 where leaf.type == .byteArray || leaf.type == .fixedLengthByteArray:
            try hold(pageBytes + 16 * min(count, DeltaNumbers.maximumCount), in: \.pageBytes)
            let prefixes = try DeltaNumbers.read(&source, limit: count)
            let suffixes = try DeltaNumbers.read(&source, limit: count)
            guard prefixes.count == suffixes.count else { throw fault("prefixes and suffixes differ in number") }
            values = .prefixes(prefixes, suffixes, at: 0, last: [], source)
        case 9 where leaf.length > 0 && leaf.type != .int96:
            values = .split(source, at: 0, count: (source.end - source.position) / leaf.length)
        default: throw ParquetFault.unsupported(column: leaf.path, "the encoding \(encoding ?? -1)")
        }
    }
}
