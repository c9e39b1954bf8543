/// What people give for rows that is something else, told by its first bytes.
enum ForeignFile {
    private static let marks: [(bytes: [UInt8], reason: String)] = [
        (Array("PK\u{3}\u{4}".utf8), "a workbook or zip archive; save its sheet as CSV UTF-8, or unpack it first"),
        (Array("ARROW1".utf8), "an Arrow file; save it as Parquet"),
        (Array("BZh".utf8), "packed with bzip2; unpack it, or pack it with gzip or zstd"),
        ([0xFD, 0x37, 0x7A, 0x58, 0x5A, 0], "packed with xz; unpack it, or pack it with gzip or zstd"),
        ([0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C], "a 7z archive; unpack it first"),
        (Array("GGUF".utf8), "a model in GGUF and no rows"), (Array("%PDF-".utf8), "a PDF; save its text as UTF-8"),
        (Array("SQLite format 3".utf8), "an SQLite database; save the table as CSV"),
    ]

    /// Why the bytes at the start of a file are no rows; nil where they may be. `Substitute` knows what downloads leave.
    static func reason(_ prefix: ArraySlice<UInt8>) -> String? {
        if let reason = wideText(prefix) { return reason }
        if let mark = marks.first(where: { prefix.starts(with: $0.bytes) }) { return "it is \(mark.reason)" }
        if prefix.dropFirst(257).starts(with: Array("ustar".utf8)) { return "it is a tar archive; unpack it first" }
        return nil
    }

    /// UTF-16 and UTF-32, by their mark or by the NULs that stand beside ASCII.
    private static func wideText(_ prefix: ArraySlice<UInt8>) -> String? {
        let advice = "; save it as UTF-8 (in Excel: CSV UTF-8)"
        if prefix.starts(with: [0xFF, 0xFE]) || prefix.starts(with: [0xFE, 0xFF]) { return "it is UTF-16" + advice }
        let first = prefix.prefix(4).map { $0 == 0 }
        switch first {
        case [false, true, false, true], [true, false, true, false]:
            return "it is UTF-16 without a byte order mark" + advice
        case [false, true, true, true], [true, true, true, false]: return "it is UTF-32" + advice
        default: return nil
        }
    }
}
