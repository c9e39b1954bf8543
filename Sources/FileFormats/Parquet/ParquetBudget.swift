/// What the columns of a file hold in memory together: each holds a page unpacked, and its dictionary.
///
/// Pages are a megabyte by default, but a few bytes can claim and give many.
final class ParquetBudget {
    private static let freeSize = 64 << 20
    /// Text packs into a tenth or a twentieth of its size.
    private static let ratio = 64
    private static let maximum = 2 << 30

    /// The most bytes.
    let limit: Int
    var held = 0
    /// What is wrong with a value of the row that is being read.
    var problem: String?

    init(fileSize: Int) {
        let (grown, overflow) = fileSize.multipliedReportingOverflow(by: Self.ratio)
        limit = overflow ? Self.maximum : min(Self.maximum, Self.freeSize + grown)
    }
}
