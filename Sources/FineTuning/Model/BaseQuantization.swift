import FileFormats
import Foundation
import TensorCore

/// What the frozen matrices of a base's linear layers and experts are kept as in memory. Embeddings, norms and the head
/// stay as they are.
public enum BaseQuantization: String, Sendable, CaseIterable {
    case none
    /// 4-bit NormalFloat with double quantisation (QLoRA, arXiv:2305.14314): 4.13 bits a weight.
    case nf4
    /// Signed bytes with a step for 32 of a row: 8.5 bits a weight.
    case int8

    /// The parameters that are kept in fewer bits: the matrices of linear layers and of experts. A router's few weights
    /// choose experts and stay as they are, and so do matrices whose rows are no whole blocks.
    public func parameters(_ config: ModelConfig) -> [ParameterTable.Parameter] {
        let table = ParameterTable(config)
        let linear = table.linearModules.filter { $0.role != .router && $0.role != .sharedScale }.map(\.name)
        let names = Set(
            (linear.map { $0 + ".weight" } + table.expertModules.map { $0.name + ".weight" }
                + table.stackedExpertModules.map(\.name)).map { ByteString($0) })
        return table.parameters.filter {
            names.contains(ByteString($0.name)) && (self != .int8 || $0.productShape[1] % EightBit.block == 0)
        }
    }

    /// Their names.
    func names(_ config: ModelConfig) -> Set<ByteString> { Set(parameters(config).map { ByteString($0.name) }) }

    /// Bytes that `count` weights take; nil where they are kept in the type of the computation.
    func byteCount(of count: Int) -> Int? {
        switch self {
        case .none: nil
        case .nf4: count / 2 + count / 64 + count / 4096
        case .int8: count + count / 16
        }
    }
}

extension BaseQuantization {
    /// Quantises a tensor of a file, which is read and not mapped: only the result stays in memory.
    func weight(
        _ parameter: ParameterTable.Parameter, of file: SafetensorsFile, _ entry: TensorEntry, dtype: DType,
        pool: WorkerPool
    ) throws -> Weight {
        let (count, turns) = (parameter.matrixCount, parameter.isStack)
        let parts = try (0..<count).map { index -> QuantizedMatrix in
            let matrix =
                try turns
                ? turned(parameter, index, of: file, entry, pool) : plain(parameter, index, of: file, entry, pool)
            guard let matrix else {
                throw FineTuningError.weightMismatch(
                    path: file.path,
                    problems: ["\(parameter.name) holds a number that is not finite, or too large for \(rawValue)"])
            }
            return matrix
        }
        return Weight(
            quantized: count == 1 ? parts[0] : QuantizedMatrix(stacking: parts), name: parameter.name, dtype: dtype,
            shape: parameter.shape, isTurned: turns)
    }

    private func quantize(
        _ rows: Int, _ columns: Int, _ pool: WorkerPool, _ source: (Range<Int>, UnsafeMutablePointer<Float>) -> Void
    ) -> QuantizedMatrix? {
        self == .int8
            ? EightBit.quantize(rows: rows, columns: columns, pool: pool, source: source)
            : NormalFloat.quantize(rows: rows, columns: columns, doubly: true, pool: pool, source: source)
    }

    /// One matrix `[out, in]` of a tensor.
    private func plain(
        _ parameter: ParameterTable.Parameter, _ index: Int, of file: SafetensorsFile, _ entry: TensorEntry,
        _ pool: WorkerPool
    ) throws -> QuantizedMatrix? {
        let (rows, columns) = (parameter.productShape[0], parameter.productShape[1])
        let failure = FirstError(), first = index * rows
        let matrix = quantize(rows, columns, pool) { range, numbers in
            let target = UnsafeMutableBufferPointer(start: numbers, count: range.count * columns)
            do {
                try file.readFloats(
                    (first + range.lowerBound) * columns..<(first + range.upperBound) * columns, of: entry,
                    into: target)
            } catch {
                failure.keep(error)
                target.update(repeating: 0)
            }
        }
        try failure.rethrow()
        return matrix
    }

    /// One matrix of a stack that has them as `[in, out]`: it is read as a whole and quantised as `[out, in]`.
    private func turned(
        _ parameter: ParameterTable.Parameter, _ index: Int, of file: SafetensorsFile, _ entry: TensorEntry,
        _ pool: WorkerPool
    ) throws -> QuantizedMatrix? {
        let (rows, columns) = (parameter.productShape[0], parameter.productShape[1])
        let stored = Tensor([columns, rows]), size = rows * columns
        try stored.withFloats { try file.readFloats(index * size..<(index + 1) * size, of: entry, into: $0) }
        return stored.withFloats { stored in
            let stored = stored.baseAddress!
            return quantize(rows, columns, pool) { range, numbers in
                for i in 0..<columns {
                    for (place, row) in range.enumerated() { numbers[place * columns + i] = stored[i * rows + row] }
                }
            }
        }
    }
}

/// The first error of a parallel loop.
private final class FirstError: @unchecked Sendable {
    private let lock = NSLock()
    private var error: (any Error)?

    func keep(_ error: any Error) { lock.withLock { self.error = self.error ?? error } }
    func rethrow() throws { if let error { throw error } }
}
