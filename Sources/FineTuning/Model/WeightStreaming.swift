import FileFormats
import Foundation
import Host
public import TensorCore

/// Reads the matrices of a model that runs a few times only, each as an operation needs it: such a model takes the
/// memory of its largest matrix and not of all. Norms, biases, what routes to experts, and experts that a file has
/// transposed stay.
public final class WeightStream: @unchecked Sendable {
    /// Writes rows of a parameter in f32; called from any thread.
    public typealias Rows = (
        _ parameter: ParameterTable.Parameter, _ rows: Range<Int>, _ numbers: UnsafeMutableBufferPointer<Float>
    ) throws -> Void

    private let kept: Set<ByteString>
    private let lock = NSLock()
    private var failure: (any Error)?

    /// - Parameter kept: parameters that stay in memory, because an adapter changes their values
    public init(keeping kept: [String] = []) { self.kept = Set(kept.map { ByteString($0) }) }

    /// The parameters of a model that are read as they are needed.
    func names(_ config: ModelConfig) -> Set<ByteString> {
        let matrices = BaseQuantization.nf4.parameters(config).filter { !$0.isStack }.map(\.name)
        let tables = [ParameterTable.embedding, ParameterTable.head]
        return Set((matrices + tables).map { ByteString($0) }).subtracting(kept)
    }

    /// The bytes that stay in memory in f32.
    public func keptBytes(_ config: ModelConfig) -> Int {
        let streamed = names(config)
        return ParameterTable(config).parameters.reduce(0) {
            streamed.contains(ByteString($1.name)) ? $0 : $0 + 4 * $1.shape.reduce(1, *)
        }
    }

    func weight(_ parameter: ParameterTable.Parameter, dtype: DType, _ read: @escaping Rows) -> Weight {
        let (rows, columns) = (parameter.rowCount, parameter.rowWidth)
        let matrix = QuantizedMatrix(rows: rows, columns: columns, byteCount: 0) { [self] range, numbers in
            let target = UnsafeMutableBufferPointer(start: numbers, count: range.count * columns)
            do {
                try StopRequest.check()
                try read(parameter, range, target)
            } catch {
                lock.withLock { failure = failure ?? error }
                target.update(repeating: 0)
            }
        }
        return Weight(quantized: matrix, name: parameter.name, dtype: dtype, shape: parameter.shape)
    }

    /// - Throws: the first error of reading; what was computed means nothing then.
    public func check() throws { if let failure = lock.withLock({ failure }) { throw failure } }
}

extension DecoderModel {
    /// A frozen Hugging Face folder whose matrices are read as they are needed.
    ///
    /// - Throws: as `init(folder:dtype:)`.
    public convenience init(folder: String, dtype: DType, stream: WeightStream) throws {
        let files = try SafetensorsFolder(path: folder), config = try ModelConfig(path: folder, files: files)
        let problems = Self.mismatches(config, files)
        guard problems.isEmpty else { throw FineTuningError.weightMismatch(path: folder, problems: problems) }
        self.init(config: config, dtype: dtype, stream: stream) { parameter, rows, numbers in
            let entry = files.entry(named: parameter.name)!, width = parameter.rowWidth
            try files.file(of: parameter.name)!.readFloats(
                rows.lowerBound * width..<rows.upperBound * width, of: entry, into: numbers)
        }
    }

    /// A frozen model whose matrices `read` gives as they are needed, and the other parameters at once.
    public convenience init(
        config: ModelConfig, dtype: DType, stream: WeightStream, read: @escaping WeightStream.Rows
    ) {
        let streamed = stream.names(config)
        self.init(
            config: config, dtype: dtype,
            make: { parameter in
                let weight = stream.weight(parameter, dtype: dtype, read)
                guard !streamed.contains(ByteString(parameter.name)) else { return weight }
                let values = weight.floats.view(parameter.shape)
                return Weight(
                    frozen: parameter.isMatrix ? values.converted(to: dtype) : values, name: parameter.name,
                    offset: parameter.offset)
            })
        isStreamed = true
    }
}

extension ParameterTable.Parameter {
    /// The elements of a row, the last dimension, and how many rows there are.
    public var rowWidth: Int { shape[shape.count - 1] }
    var rowCount: Int { shape.dropLast().reduce(1, *) }
}

extension SafetensorsFile {
    /// The elements `range` of a tensor in f32, read and not mapped.
    func readFloats(
        _ range: Range<Int>, of entry: TensorEntry, into values: UnsafeMutableBufferPointer<Float>
    ) throws {
        let size = entry.type.size
        try withUnsafeTemporaryAllocation(byteCount: range.count * size, alignment: 64) { bytes in
            try read(range.lowerBound * size..<range.upperBound * size, of: entry, into: bytes)
            ElementConversion.widen(UnsafeRawBufferPointer(bytes), as: entry.type, into: values)
        }
    }
}
