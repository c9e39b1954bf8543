/// One node of a Parquet schema, with the levels of Dremel's encoding (Melnik et al. 2010,
/// DOI 10.14778/1920841.1920886).
struct ParquetNode: Sendable {
    enum Repetition: Int, Sendable { case required, optional, repeated }
    enum Meaning: Sendable { case plain, text, list, map, unread }

    var name: String
    var repetition: Repetition
    var meaning: Meaning
    /// Levels at which the node is there, and of which repetition it is.
    var definitionLevel: Int
    var repetitionLevel: Int
    var children: [ParquetNode]
    /// The leaves at and below this node, as indices over the whole schema.
    var leaves: Range<Int>
    var leaf: ParquetLeaf?
}

/// The physical type of a column.
enum ParquetType: Int, Sendable {
    case boolean, int32, int64, int96, float, double, byteArray, fixedLengthByteArray
}

/// A column: where values are stored.
struct ParquetLeaf: Sendable {
    /// The dotted path, for error texts.
    var path: String
    var type: ParquetType
    /// Bytes of a fixed-length value.
    var length: Int
    var isText: Bool
    /// Values whose meaning graft has no use for: they come out as null.
    var isUnread: Bool
    var definitionLevel: Int
    var repetitionLevel: Int
}

/// Builds the tree from the flat list of the footer.
struct ParquetSchemaReader {
    static let maximumElements = 10_000
    static let maximumDepth = 32

    private let elements: [ThriftValue]
    private var position = 0
    private(set) var leaves: [ParquetLeaf] = []

    static func read(_ elements: [ThriftValue]) throws -> (root: ParquetNode, leaves: [ParquetLeaf]) {
        guard elements.count <= maximumElements else {
            throw ParquetFault.schema("it has \(elements.count) elements, more than \(maximumElements)")
        }
        var reader = ParquetSchemaReader(elements: elements)
        let root = try reader.node(definition: 0, repetition: 0, path: [], depth: 0)
        guard reader.position == elements.count else { throw ParquetFault.schema("elements are left over") }
        return (root, reader.leaves)
    }

    private init(elements: [ThriftValue]) { self.elements = elements }

    private mutating func node(definition: Int, repetition: Int, path: [String], depth: Int) throws -> ParquetNode {
        guard depth <= Self.maximumDepth else { throw ParquetFault.schema("deeper than \(Self.maximumDepth) levels") }
        guard position < elements.count else { throw ParquetFault.schema("it ends inside of a group") }
        let element = elements[position]
        position += 1
        guard let name = element[4]?.text else { throw ParquetFault.schema("an element has no name") }
        let kind = depth == 0 ? .required : element[3]?.int.flatMap(ParquetNode.Repetition.init) ?? .required
        let definition = definition + (kind == .required ? 0 : 1)
        let repetition = repetition + (kind == .repeated ? 1 : 0)
        let path = depth == 0 ? [] : path + [name]
        let first = leaves.count
        var children: [ParquetNode] = []
        var leaf: ParquetLeaf?
        if let type = element[1]?.int {
            leaf = try makeLeaf(element, type, path, definition: definition, repetition: repetition)
            leaves.append(leaf!)
        } else {
            guard let count = element[5]?.int, count > 0 else {
                throw ParquetFault.schema("the group '\(name)' is empty")
            }
            for _ in 0..<count {
                children.append(
                    try node(definition: definition, repetition: repetition, path: path, depth: depth + 1))
            }
        }
        return ParquetNode(
            name: name, repetition: kind, meaning: Self.meaning(element), definitionLevel: definition,
            repetitionLevel: repetition, children: children, leaves: first..<leaves.count, leaf: leaf)
    }

    /// Converted and logical types (parquet.thrift: ConvertedType, LogicalType).
    private static func meaning(_ element: ThriftValue) -> ParquetNode.Meaning {
        switch element[6]?.int {
        case 0, 4, 19: return .text
        case 1, 2: return .map
        case 3: return .list
        case 5, 20, 21: return .unread
        default: break
        }
        guard case .structure(let fields)? = element[10], let logical = fields.first?.id else { return .plain }
        switch logical {
        case 1, 4, 12: return .text
        case 2: return .map
        case 3: return .list
        case 5, 13, 14, 15: return .unread
        default: return .plain
        }
    }

    private func makeLeaf(
        _ element: ThriftValue, _ type: Int, _ path: [String], definition: Int, repetition: Int
    ) throws -> ParquetLeaf {
        let name = path.joined(separator: ".")
        guard let type = ParquetType(rawValue: type) else { throw ParquetFault.schema("'\(name)' has an unknown type") }
        var length = 0
        switch type {
        case .boolean, .byteArray: length = 0
        case .int32, .float: length = 4
        case .int64, .double: length = 8
        case .int96: length = 12
        case .fixedLengthByteArray:
            length = element[2]?.int ?? 0
            guard (1...1 << 20).contains(length) else { throw ParquetFault.schema("'\(name)' has a wild length") }
        }
        let meaning = Self.meaning(element)
        return ParquetLeaf(
            path: name, type: type, length: length, isText: meaning == .text,
            isUnread: meaning == .unread || type == .int96, definitionLevel: definition, repetitionLevel: repetition)
    }
}
