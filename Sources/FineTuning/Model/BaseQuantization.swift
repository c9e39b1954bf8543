import FileFormats
import Foundation
public import TensorCore

/// What the frozen matrices of a base's linear layers are kept as in memory. Embeddings, norms and the head stay as they
/// are.
public enum BaseQuantization: String, Sendable, CaseIterable {
    case none
    /// 4-bit NormalFloat with double quantisation (QLoRA, arXiv:2305.14314): 4.13 bits a weight.
    case nf4
    /// Signed bytes with a step for 32 of a row: 8.5 bits a weight.
    case int8

    /// The linear layers whose matrices are kept in fewer bits; a router's few weights choose experts and stay as they
    /// are, and so do matrices whose rows are no whole blocks.
    public func modules(_ config: ModelConfig) -> [ParameterTable.LinearModule] {
        ParameterTable(config).linearModules.filter {
            $0.role != .router && $0.role != .sharedScale && (self != .int8 || $0.inputWidth % EightBit.block == 0)
        }
    }

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
        let (rows, columns) = (parameter.shape[0], parameter.shape[1]), rowSize = columns * entry.type.size
        let failure = FirstError()
        func source(_ range: Range<Int>, _ numbers: UnsafeMutablePointer<Float>) {
            let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: range.count * rowSize, alignment: 64)
            defer { bytes.deallocate() }
            let target = UnsafeMutableBufferPointer(start: numbers, count: range.count * columns)
            do {
                try file.read(range.lowerBound * rowSize..<range.upperBound * rowSize, of: entry, into: bytes)
                ElementConversion.widen(UnsafeRawBufferPointer(bytes), as: entry.type, into: target)
            } catch {
                failure.keep(error)
                target.update(repeating: 0)
            }
        }
        let matrix = self == .int8
            ? EightBit.quantize(rows: rows, columns: columns, pool: pool, source: source)
            : NormalFloat.quantize(rows: rows, columns: columns, doubly: true, pool: pool, source: source)
        try failure.rethrow()
        guard let matrix else {
            throw FineTuningError.weightMismatch(
                path: file.path,
                problems: ["\(parameter.name) holds a number that is not finite, or too large for \(rawValue)"])
        }
        return Weight(quantized: matrix, name: parameter.name, dtype: dtype)
    }
}

/// The first error of a parallel loop.
private final class FirstError: @unchecked Sendable {
    private let lock = NSLock()
    private var error: (any Error)?

    func keep(_ error: any Error) { lock.withLock { self.error = self.error ?? error } }
    func rethrow() throws { if let error { throw error } }
}
