/// Each way in which a file fails to be Apache Parquet that can be read.
public enum ParquetFault: Error, Sendable, CustomStringConvertible {
    case magic
    case encrypted
    case footer(String)
    case schema(String)
    case column(name: String, reason: String)
    /// A feature that is well formed but not read.
    case unsupported(column: String, String)

    public var description: String {
        switch self {
        case .magic: "no Parquet file: it does not begin and end with PAR1"
        case .encrypted: "the Parquet file is encrypted"
        case .footer(let reason): "the Parquet footer is malformed: \(reason)"
        case .schema(let reason): "the Parquet schema is malformed: \(reason)"
        case .column(let name, let reason): "the Parquet column '\(name)' is malformed: \(reason)"
        case .unsupported(let column, let what):
            "the Parquet column '\(column)' uses \(what), which graft does not read"
        }
    }
}
