internal import FileFormats

/// What a data file is, told by its name, or by its first bytes where the name says nothing.
enum RowFileKind: String, Sendable {
    case json = "JSON"
    case csv = "CSV"
    case tsv = "TSV"
    case text = "plain text, a row a line"
    case parquet = "Parquet"

    /// The names of standard input: alone, or with what it carries in front.
    private static let inputNames: [(name: String, kind: RowFileKind?)] = [
        ("-", nil), ("json:-", .json), ("csv:-", .csv), ("tsv:-", .tsv), ("text:-", .text), ("parquet:-", .parquet),
    ]

    static func isStandardInput(_ path: String) -> Bool { inputNames.contains { $0.name.hasSameBytes(as: path) } }

    /// By the name of the file, with `.gz` or `.zst` taken off; nil when it says nothing.
    init?(name: String) {
        if let input = Self.inputNames.first(where: { $0.name.hasSameBytes(as: name) }) {
            guard let kind = input.kind else { return nil }
            self = kind
            return
        }
        var parts = name.split(separator: "/").last?.split(separator: ".").map { $0.lowercased() } ?? []
        if let last = parts.last, ["gz", "zst", "zstd"].contains(last) { parts.removeLast() }
        switch parts.count > 1 ? parts.last : nil {
        case "json", "jsonl", "ndjson": self = .json
        case "csv": self = .csv
        case "tsv", "tab": self = .tsv
        case "txt", "text", "md": self = .text
        case "parquet", "pq": self = .parquet
        default: return nil
        }
    }
}
