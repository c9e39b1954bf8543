import FileFormats
import FineTuning
import TensorCore

/// The weights of a model folder with an adapter's updates added as they are read: W + scale B A in f32, row by row.
final class WeightSource {
    /// A tensor to be written, and where its values come from.
    struct Output {
        var name: String
        var entry: TensorEntry
        var update: AdapterFile.Update?
        /// The heads whose rows change places for llama.cpp; nil leaves rows as they are.
        var permutedHeads: Int?

        var shape: [Int] { entry.shape }
    }

    let path: String
    let config: ModelConfig
    let files: SafetensorsFolder
    let adapter: AdapterFile?
    let table: ParameterTable
    private let updates: [ByteString: AdapterFile.Update]

    /// Reads the headers and checks that weights and adapter fit config.json.
    ///
    /// - Throws: `FileError`, `FineTuningError.weightMismatch`, `.adapterMismatch` with all that does not fit.
    init(model path: String, adapter adapterPath: String?) throws {
        self.path = path
        config = try ModelConfig(path: path)
        files = try SafetensorsFolder(path: path)
        table = ParameterTable(config)
        var problems: [String] = []
        for parameter in table.parameters {
            guard let entry = files.entry(named: parameter.name) else {
                problems.append("\(parameter.name) is missing")
                continue
            }
            if entry.shape != parameter.shape {
                problems.append("\(parameter.name): expected shape \(parameter.shape), found \(entry.shape)")
            }
            if !entry.type.isFloatingPoint {
                problems.append("\(parameter.name): expected a floating-point type, found \(entry.type.rawValue)")
            }
        }
        guard problems.isEmpty else { throw FineTuningError.weightMismatch(path: path, problems: problems) }
        adapter = try adapterPath.map { try AdapterFile(folder: $0) }
        if let adapter, let adapterPath {
            var modules = table.linearModules.map {
                (name: $0.name, outputWidth: $0.outputWidth, inputWidth: $0.inputWidth)
            }
            modules.append((ParameterTable.headModule, config.vocabularySize, config.hiddenSize))
            let problems = adapter.mismatches(modules: modules)
            guard problems.isEmpty else { throw FineTuningError.adapterMismatch(path: adapterPath, problems: problems) }
        }
        updates = Dictionary(
            (adapter?.updates ?? []).map { (ByteString($0.module + ".weight"), $0) }, uniquingKeysWith: { a, _ in a })
    }

    func update(of parameter: String) -> AdapterFile.Update? { updates[ByteString(parameter)] }

    /// Whether the adapter changes the head of a model whose head is the embedding: the two part on merging.
    var untiesHead: Bool { config.tiesEmbeddings && update(of: ParameterTable.head) != nil }

    /// The head of a model that is untied by merging: the embedding's values with the head's update.
    var untiedHead: Output? {
        guard untiesHead, let entry = files.entry(named: ParameterTable.embedding) else { return nil }
        return Output(name: ParameterTable.head, entry: entry, update: update(of: ParameterTable.head))
    }

    // MARK: Reading

    /// Rows of about this many f32 bytes are made at once.
    private static let pieceSize = 8 << 20

    /// Makes the values of a tensor and passes them on, encoded, in pieces and in order.
    ///
    /// - Parameter type: what rows are encoded as; nil passes the file's own bytes on.
    /// - Returns: the largest change by the update, 0 without one.
    /// - Throws: `ExportError.value`, what `write` throws.
    func stream(
        _ output: Output, as type: GGMLType?, pool: WorkerPool, _ write: (UnsafeRawBufferPointer) throws -> Void
    ) throws -> Float {
        let source = files.withBytes(of: output.entry)
        guard let type else {
            for start in stride(from: 0, to: source.count, by: Self.pieceSize) {
                try write(UnsafeRawBufferPointer(rebasing: source[start..<min(source.count, start + Self.pieceSize)]))
            }
            return 0
        }
        let shape = output.shape
        // Values of a permuted bias move one by one: they are rows of one.
        let width = shape.count == 1 && output.permutedHeads != nil ? 1 : shape.last ?? 1
        let rowCount = width == 0 ? 0 : output.entry.elementCount / width
        guard let rowSize = type.byteCount(of: [width]) else { preconditionFailure("rows of \(width) as \(type)") }
        let lowRank = try output.update.map { try LowRankRows(adapter!, $0) }
        let rowsAtOnce = max(1, min(rowCount, Self.pieceSize / max(1, width * 4)))
        let itemRows = max(1, min(rowsAtOnce, (256 << 10) / max(1, width * 4)))
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: rowsAtOnce * rowSize, alignment: 64)
        defer { buffer.deallocate() }
        let order = RowOrder(heads: output.permutedHeads, rows: rowCount)
        let elementSize = output.entry.type.size
        var largest: Float = 0
        for start in stride(from: 0, to: rowCount, by: rowsAtOnce) {
            let rows = min(rowsAtOnce, rowCount - start)
            let items = (rows + itemRows - 1) / itemRows
            var changes = [Float](repeating: 0, count: items)
            var failures = [Int](repeating: -1, count: items)
            changes.withUnsafeMutableBufferPointer { changes in
                failures.withUnsafeMutableBufferPointer { failures in
                    pool.parallelFor(items) { item, _ in
                        let values = UnsafeMutableBufferPointer<Float>.allocate(capacity: 2 * width)
                        defer { values.deallocate() }
                        let row = UnsafeMutableBufferPointer(rebasing: values[..<width])
                        for i in item * itemRows..<min(rows, (item + 1) * itemRows) {
                            let index = order.source(of: start + i)
                            let bytes = source[index * width * elementSize..<(index + 1) * width * elementSize]
                            ElementConversion.widen(
                                UnsafeRawBufferPointer(rebasing: bytes), as: output.entry.type, into: row)
                            if let lowRank {
                                let delta = UnsafeMutableBufferPointer(rebasing: values[width...])
                                changes[item] = max(changes[item], lowRank.add(row: index, to: row, scratch: delta))
                            }
                            let target = UnsafeMutableRawBufferPointer(
                                rebasing: buffer[i * rowSize..<(i + 1) * rowSize])
                            if !RowEncoding.encode(UnsafeBufferPointer(row), as: type, into: target) {
                                failures[item] = index
                            }
                        }
                    }
                }
            }
            if let row = failures.first(where: { $0 >= 0 }) { throw badValue(output, row: row, lowRank, type) }
            largest = max(largest, changes.max() ?? 0)
            try write(UnsafeRawBufferPointer(rebasing: buffer[..<(rows * rowSize)]))
        }
        return largest
    }

    private func badValue(_ output: Output, row: Int, _ lowRank: LowRankRows?, _ type: GGMLType) -> ExportError {
        let width = output.shape.last ?? 1
        let size = output.entry.type.size
        let bytes = files.withBytes(of: output.entry)
        var values = [Float](repeating: 0, count: width)
        var delta = values
        if bytes.count >= (row + 1) * width * size {
            values.withUnsafeMutableBufferPointer { values in
                ElementConversion.widen(
                    UnsafeRawBufferPointer(rebasing: bytes[row * width * size..<(row + 1) * width * size]),
                    as: output.entry.type, into: values)
                delta.withUnsafeMutableBufferPointer { _ = lowRank?.add(row: row, to: values, scratch: $0) }
            }
        }
        let worst = values.max { ($0.isFinite ? abs($0) : .infinity) < ($1.isFinite ? abs($1) : .infinity) } ?? .nan
        return .value(tensor: output.name, row: row, found: worst, type: type.name)
    }
}

/// Where the rows of a tensor come from when each head's two halves are interleaved, as llama.cpp's rotary embedding
/// wants them: (heads, 2, d/2) becomes (heads, d/2, 2).
struct RowOrder {
    private let headRows: Int?

    init(heads: Int?, rows: Int) { headRows = heads.map { rows / $0 } }

    func source(of row: Int) -> Int {
        guard let headRows else { return row }
        let (head, inside) = row.quotientAndRemainder(dividingBy: headRows)
        return head * headRows + inside % 2 * (headRows / 2) + inside / 2
    }
}

/// The rows of scale B A.
private final class LowRankRows: @unchecked Sendable {
    private let a: [Float]
    private let b: [Float]
    private let rank: Int
    private let scale: Float

    init(_ adapter: AdapterFile, _ update: AdapterFile.Update) throws {
        let (a, b) = try adapter.matrices(of: update)
        self.a = a.floats()
        self.b = b.floats()
        rank = update.rank
        scale = Float(update.scale)
    }

    /// Adds row `index` to `row` [in]; `scratch` [in] is overwritten. Returns the largest change.
    func add(row index: Int, to row: UnsafeMutableBufferPointer<Float>, scratch: UnsafeMutableBufferPointer<Float>)
        -> Float
    {
        guard let sum = scratch.baseAddress, let target = row.baseAddress else { return 0 }
        let width = row.count
        sum.update(repeating: 0, count: width)
        a.withUnsafeBufferPointer { a in
            var k = 0
            // Four rows of A at once: the sum is read and written a quarter as often.
            while k + 4 <= rank {
                let (b0, b1) = (b[index * rank + k], b[index * rank + k + 1])
                let (b2, b3) = (b[index * rank + k + 2], b[index * rank + k + 3])
                let a0 = a.baseAddress! + k * width
                let (a1, a2, a3) = (a0 + width, a0 + 2 * width, a0 + 3 * width)
                for i in 0..<width { sum[i] += (b0 * a0[i] + b1 * a1[i]) + (b2 * a2[i] + b3 * a3[i]) }
                k += 4
            }
            while k < rank {
                let b0 = b[index * rank + k]
                let a0 = a.baseAddress! + k * width
                for i in 0..<width { sum[i] += b0 * a0[i] }
                k += 1
            }
        }
        var largest: Float = 0
        for i in 0..<width {
            let change = scale * sum[i]
            target[i] += change
            largest = max(largest, abs(change))
        }
        return largest
    }
}
