import Foundation

/// One row of a Parquet file.
public struct ParquetRow: Sendable {
    /// An object of the columns that are not null.
    public var value: JSONValue
    /// Set when a value of the row cannot be used, such as text that is not UTF-8.
    public var problem: String?
}

/// Reads the rows of an Apache Parquet file (parquet-format 2.11) as JSON objects, one page of each column at a time.
///
/// Nested lists, structures and maps are put together from their levels (Melnik et al. 2010). Read are the encodings
/// plain, dictionary, RLE, the three delta ones and byte-stream split; the codecs none, snappy, gzip and zstd. A
/// structure's members that are null are left out. The file is not trusted: every number read from it is checked.
public final class ParquetFile {
    private static let footerLimit = 64 << 20
    /// Rows that a file may declare whatever its size, and rows a byte beyond: equal rows are stored as one and a count.
    private static let freeRowLimit = 1 << 28
    private static let rowsPerByte = 1 << 12
    /// Entries of one row over all columns, in a large file and whatever its size: more is no row of text.
    private static let entryLimit = 1 << 22
    private static let freeEntryLimit = 1 << 20

    public let path: String
    /// Of all row groups, as declared.
    public let rowCount: Int
    /// Top-level columns that are not read.
    public let skippedColumns: [String]
    private let file: Descriptor
    private let size: Int
    private let fields: [ParquetNode]
    private let leaves: [ParquetLeaf]
    private var groups: ArraySlice<ThriftValue>
    /// By leaf; nil where none is read.
    private var columns: [ParquetColumn?] = []
    private let budget: ParquetBudget
    private var rowsOfGroup = 0
    private var entries = 0
    private let entryLimit: Int

    /// Whether a file begins as Parquet does.
    public static func isParquet(prefix: some Collection<UInt8>) -> Bool { prefix.starts(with: "PAR1".utf8) }

    /// - Parameter wanted: says by its name whether a top-level column is read; all are where this takes none.
    /// - Throws: `FileError.parquet`, `.missing`, `.io`.
    public convenience init(path: String, wanted: (String) -> Bool = { _ in true }) throws {
        try self.init(Descriptor.reading(path, what: "data file"), wanted: wanted)
    }

    /// Reads what a stream gives: it is copied to a temporary file first, because Parquet begins at its end.
    public convenience init(
        name: String, stream: () throws -> [UInt8]?, wanted: (String) -> Bool = { _ in true }
    ) throws {
        let file = try Descriptor.temporary(name: name)
        var offset = 0
        while let piece = try stream() {
            try piece.withUnsafeBytes { try file.write($0, at: offset) }
            offset += piece.count
        }
        try self.init(file, wanted: wanted)
    }

    private init(_ file: Descriptor, wanted: (String) -> Bool) throws {
        self.file = file
        path = file.path
        size = try file.size()
        budget = ParquetBudget(fileSize: size)
        entryLimit = min(Self.entryLimit, Self.freeEntryLimit + size)
        do {
            let footer = try Self.footer(file, size)
            guard let elements = footer[2]?.list, let groups = footer[4]?.list else {
                throw ParquetFault.footer("it has no schema or no row groups")
            }
            guard footer[8] == nil else { throw ParquetFault.encrypted }
            let (root, leaves) = try ParquetSchemaReader.read(elements)
            guard root.leaf == nil else { throw ParquetFault.schema("its root is a column") }
            let chosen = root.children.filter { wanted($0.name) }
            fields = chosen.isEmpty ? root.children : chosen
            skippedColumns = chosen.isEmpty ? [] : root.children.filter { !wanted($0.name) }.map(\.name)
            try Self.checkNames(fields)
            self.leaves = leaves
            self.groups = groups[...]
            rowCount = try groups.reduce(0) { total, group in
                let (sum, overflow) = total.addingReportingOverflow(group[3]?.int ?? -1)
                guard let rows = group[3]?.int, rows >= 0, !overflow else {
                    throw ParquetFault.footer("a row group has a wild number of rows")
                }
                return sum
            }
            guard rowCount <= Self.freeRowLimit || rowCount / Self.rowsPerByte <= size else {
                throw ParquetFault.footer("\(rowCount) rows in \(size) bytes")
            }
        } catch let fault as ParquetFault {
            throw FileError.parquet(path: file.path, fault)
        }
    }

    /// Of two members with one name, one would be lost.
    private static func checkNames(_ nodes: [ParquetNode]) throws {
        var seen: Set<ByteString> = []
        for node in nodes {
            guard seen.insert(ByteString(node.name)).inserted else {
                throw ParquetFault.schema("two columns are named '\(node.name)'")
            }
            try checkNames(node.children)
        }
    }

    private static func footer(_ file: Descriptor, _ size: Int) throws -> ThriftValue {
        guard size >= 12, try file.read(4, at: 0) == Array("PAR1".utf8) else {
            throw try file.read(min(4, size), at: 0) == Array("PARE".utf8) ? ParquetFault.encrypted : .magic
        }
        let tail = try file.read(8, at: size - 8)
        guard tail.count == 8, Array(tail[4...]) == Array("PAR1".utf8) else { throw ParquetFault.magic }
        let length = tail[..<4].reversed().reduce(0) { $0 << 8 | Int($1) }
        guard length <= size - 12, length <= footerLimit else {
            throw ParquetFault.footer("\(length) bytes, more than there can be")
        }
        let bytes = try file.read(length, at: size - 8 - length)
        var reader = ThriftReader(bytes)
        do { return try reader.structure() } catch let fault as ThriftReader.Fault {
            throw ParquetFault.footer(fault.reason)
        }
    }

    /// The next row; nil after the last one.
    ///
    /// - Throws: `FileError.parquet` when the file is damaged; nothing can be read after that.
    public func next() throws -> ParquetRow? {
        do {
            while rowsOfGroup == 0 {
                guard let group = groups.popFirst() else { return nil }
                // The chunks of a group without rows lie nowhere.
                if group[3]?.int != 0 { try open(group) }
            }
            rowsOfGroup -= 1
            entries = 0
            var members: [(key: String, value: JSONValue)] = []
            members.reserveCapacity(fields.count)
            for field in fields {
                guard try columns[field.leaves.lowerBound]?.peek()?.repetition ?? 0 == 0 else {
                    throw ParquetFault.column(name: field.name, reason: "a row starts inside of a list")
                }
                let value = try read(field)
                if !value.isNull { members.append((field.name, value)) }
            }
            let problem = budget.problem
            budget.problem = nil
            return ParquetRow(value: .object(JSONObject(members)), problem: problem)
        } catch let fault as ParquetFault {
            groups = []
            rowsOfGroup = 0
            throw FileError.parquet(path: path, fault)
        }
    }

    private func open(_ group: ThriftValue) throws {
        guard let chunks = group[1]?.list, chunks.count == leaves.count else {
            throw ParquetFault.footer("a row group has not one chunk for each column")
        }
        columns = Array(repeating: nil, count: leaves.count)
        for field in fields {
            for leaf in field.leaves {
                columns[leaf] = try ParquetColumn(
                    leaf: leaves[leaf], chunk: chunks[leaf], file: file, size: size, budget: budget)
            }
        }
        rowsOfGroup = group[3]?.int ?? 0
    }

    // MARK: Putting rows together

    private func column(_ leaf: Int) throws -> ParquetColumn {
        guard let column = columns[leaf] else { throw ParquetFault.footer("a column is missing") }
        return column
    }

    private func take(_ leaf: Int) throws -> JSONValue {
        entries += 1
        guard entries <= entryLimit else {
            throw ParquetFault.column(name: leaves[leaf].path, reason: "a row has more than \(entryLimit) entries")
        }
        return try column(leaf).take()
    }

    /// Passes over the one entry that says that nothing is there.
    private func skip(_ node: ParquetNode) throws { for leaf in node.leaves { _ = try take(leaf) } }

    private func isPresent(_ node: ParquetNode) throws -> Bool {
        try column(node.leaves.lowerBound).needed().definition >= node.definitionLevel
    }

    private func read(_ node: ParquetNode) throws -> JSONValue {
        switch node.repetition {
        case .required: return try value(of: node)
        case .optional:
            if try isPresent(node) { return try value(of: node) }
            try skip(node)
            return .null
        case .repeated: return .array(try elements(of: node) { try value(of: node) })
        }
    }

    private func elements(of node: ParquetNode, _ body: () throws -> JSONValue) throws -> [JSONValue] {
        guard try isPresent(node) else {
            try skip(node)
            return []
        }
        var values: [JSONValue] = []
        repeat {
            values.append(try body())
        } while try column(node.leaves.lowerBound).peek()?.repetition == node.repetitionLevel
        return values
    }

    private func value(of node: ParquetNode) throws -> JSONValue {
        if node.leaf != nil { return try take(node.leaves.lowerBound) }
        if node.children.count == 1, let inner = node.children.first, inner.repetition == .repeated {
            if node.meaning == .list { return .array(try list(inner, of: node)) }
            if node.meaning == .map, inner.children.count == 2 { return try map(inner) }
        }
        var members: [(key: String, value: JSONValue)] = []
        for child in node.children {
            let value = try read(child)
            if !value.isNull { members.append((child.name, value)) }
        }
        return .object(JSONObject(members))
    }

    /// Lists have a group between them and their elements, but for those of old writers
    /// (parquet-format, LogicalTypes.md: Lists).
    private func list(_ inner: ParquetNode, of node: ParquetNode) throws -> [JSONValue] {
        let isOld = inner.children.count != 1 || inner.name == "array" || inner.name == node.name + "_tuple"
        guard !isOld, let element = inner.children.first else {
            return try elements(of: inner) { try value(of: inner) }
        }
        return try elements(of: inner) { try read(element) }
    }

    private func map(_ inner: ParquetNode) throws -> JSONValue {
        var members: [(key: String, value: JSONValue)] = []
        var places: [ByteString: Int] = [:]
        _ = try elements(of: inner) {
            let found = try read(inner.children[0])
            let key = found.stringValue ?? JSONWriter.text(found, .compact)
            let value = try read(inner.children[1])
            if let place = places[ByteString(key)] {
                members[place].value = value
            } else {
                places[ByteString(key)] = members.count
                members.append((key, value))
            }
            return .null
        }
        return .object(JSONObject(members))
    }
}
