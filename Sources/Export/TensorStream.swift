import FileFormats
import FineTuning
import Host
import TensorCore

extension WeightSource {
    /// Makes the values of tensors, one after the other, and passes them on, encoded, in pieces and in order.
    ///
    /// - Parameters:
    ///   - tensors: with the type that rows are encoded as; nil passes the file's own bytes on.
    ///   - write: takes the place of the tensor in `tensors` and its next bytes; called on any of the pool's threads.
    /// - Returns: the largest change by the updates, 0 without one.
    /// - Throws: `ExportError.value`, `FileError.io`, `.changed`, what `write` throws.
    func stream(
        _ tensors: [(output: Output, type: GGMLType?)], pool: WorkerPool,
        _ write: (Int, UnsafeRawBufferPointer) throws -> Void
    ) throws -> Float {
        let streamed = tensors.map { self.streamed($0.output, as: $0.type) }
        return try streamed.write(pool: pool, write)
    }

    func streamed(_ output: Output, as type: GGMLType?) -> StreamedTensor {
        guard let file = files.file(of: output.entry.name) else {
            preconditionFailure("\(output.entry.name) is not of this folder")
        }
        return StreamedTensor(
            name: output.name, base: .safetensors(file, output.entry), type: type, updates: output.updates,
            heads: output.permutedHeads, offset: output.offset)
    }
}

/// A tensor to be written, and how it is made.
struct StreamedTensor {
    var name: String
    /// The model's own.
    var base: TensorSource
    /// What rows are encoded as; nil passes the source's own bytes on.
    var type: GGMLType?
    /// What adapters do to it.
    var updates = AdapterChanges.Changes()
    /// The heads whose rows change places for llama.cpp; nil leaves rows as they are.
    var heads: Int?
    /// Added to every value.
    var offset: Float = 0
    /// Whether the base has its rows in llama.cpp's order already.
    var isPermuted = false
    /// How much each column's error counts, `[width]`, or `[matrices, width]` for a stack of matrices.
    var importance: [Float]?

    /// Where the values come from: the base, or the adapter's tensor in its place.
    var source: TensorSource { updates.replacement.map { .safetensors($0.file, $0.entry) } ?? base }

    /// The source's type, or f16 where a changed tensor cannot be written in it.
    var kept: GGMLType {
        guard case .gguf(_, let stored) = base else { return .f16 }
        return updates.isEmpty || RowEncoding.canEncode(stored.type) ? stored.type : .f16
    }

    /// The same, with the source's bytes passed on where they are what would be made of them.
    var passingEqualBytes: StreamedTensor {
        guard case .gguf(_, let stored) = base, stored.type == type, updates.isEmpty else { return self }
        var copy = self
        copy.type = nil
        return copy
    }
}

extension [StreamedTensor] {
    /// Makes the tensors, one after the other, and passes them on in pieces and in order. While one piece is written
    /// the next is made.
    ///
    /// Files are read, not mapped: memory stays at a few pieces and one pair of adapter matrices.
    func write(
        pool: WorkerPool, _ write: (Int, UnsafeRawBufferPointer) throws -> Void
    ) throws -> Float {
        let buffers = [GrowingBuffer(), GrowingBuffer()]
        let tiles = (0..<pool.count).map { _ in TileMemory() }
        // What is pending lies in a buffer that the compiler may not see in use.
        defer { withExtendedLifetime((buffers, tiles)) {} }
        var pending: (tensor: Int, bytes: UnsafeRawBufferPointer)?
        var piece = 0
        var largest: Float = 0
        for (index, tensor) in enumerated() {
            let maker = TensorMaker(tensor)
            for start in stride(from: 0, to: maker.rowCount, by: maker.rowsAPiece) {
                try StopRequest.check()
                let rows = start..<Swift.min(maker.rowCount, start + maker.rowsAPiece)
                let bytes = buffers[piece % 2].bytes(rows.count * maker.rowSize)
                piece += 1
                largest = Swift.max(
                    largest,
                    try maker.make(rows, into: bytes, tiles, pool: pool) {
                        if let pending { try write(pending.tensor, pending.bytes) }
                    })
                pending = (index, UnsafeRawBufferPointer(bytes))
            }
        }
        if let pending { try write(pending.tensor, pending.bytes) }
        return largest
    }
}

/// Makes the rows of one tensor.
struct TensorMaker {
    private let tensor: StreamedTensor
    /// Where rows of the output are in the source.
    private let order: RowOrder
    /// Updates of rows; the rows of their B are in the order of the output.
    private let updates: [(rows: Range<Int>, adapter: LowRankAdapter)]
    private let rows: TensorRows?
    /// Elements a row.
    let width: Int
    private let sourceRowSize: Int
    /// The size in bytes of a row of the output.
    let rowSize: Int
    let rowCount: Int
    /// A piece has about 8 MB of f32 and is made in tiles of about 256 KB, which stay in a core's cache.
    let rowsAPiece: Int
    private let rowsATile: Int

    /// - Parameter rowWidth: of a vector, when its rows are to be as long as another one's.
    init(_ tensor: StreamedTensor, rowWidth: Int? = nil) {
        self.tensor = tensor
        let source = tensor.source
        let isMoved = tensor.heads != nil && !(tensor.isPermuted && tensor.updates.replacement == nil)
        guard let type = tensor.type else {
            precondition(tensor.updates.isEmpty && !isMoved && tensor.offset == 0)
            // Rows are blocks, so that tiles hold whole elements.
            let block = source.blockSize
            (width, sourceRowSize, rowSize) = (1, block, block)
            rowCount = source.byteCount / block
            (rowsAPiece, rowsATile) = (max(1, (4 << 20) / block), max(1, (256 << 10) / block))
            (updates, rows, order) = ([], nil, RowOrder(heads: nil, rows: 0))
            return
        }
        // Values of a permuted bias move one by one: they are rows of one.
        let width = rowWidth ?? (source.shape.count == 1 && isMoved ? 1 : source.shape.last ?? 1)
        guard let rowSize = type.byteCount(of: [width]) else { preconditionFailure("rows of \(width) as \(type)") }
        self.width = width
        self.rowSize = rowSize
        sourceRowSize = source.size(of: width)
        let rowCount = width == 0 ? 0 : source.elementCount / width
        self.rowCount = rowCount
        rowsAPiece = max(1, (8 << 20) / max(1, width * 4))
        rowsATile = max(1, (source.prefersManyRows ? 4 << 20 : 256 << 10) / max(1, width * 4))
        order = RowOrder(heads: isMoved ? tensor.heads : nil, rows: rowCount)
        rows = tensor.updates.rows.map { TensorRows($0.indices, $0.file.tensor($0.key)) }
        // B's rows are in the order of the output.
        let outputOrder = tensor.heads.map { RowOrder(heads: $0, rows: rowCount) }
        updates = tensor.updates.parts.map { part in
            (part.rows, Self.adapter(part, order: outputOrder) { source.floats() })
        }
    }

    /// An update with the rows of B, and of a magnitude, in the order of the output.
    private static func adapter(
        _ part: AdapterChanges.RowUpdate, order: RowOrder?, weight: () -> Tensor
    ) -> LowRankAdapter {
        let (a, b, scale) = part.matrices(weight), update = part.part.update, name = update.module
        let magnitude = part.part.member.file.magnitude(of: update).map { lengths in
            order.map { order in lengths.view([lengths.count, 1]).rows(order.source).view([lengths.count]) } ?? lengths
        }
        // The lengths of an embedding's columns take all of it.
        let base = update.isEmbedding && magnitude != nil ? Weight(frozen: weight(), name: name) : nil
        return LowRankAdapter(
            a: Weight(frozen: a, name: name), b: Weight(frozen: order.map { b.rows($0.source) } ?? b, name: name),
            scale: scale, magnitude: magnitude.map { Weight(frozen: $0, name: name) }, base: base,
            isEmbedding: update.isEmbedding)
    }

    /// Makes `rows` while one of the pool's threads runs `meanwhile`.
    ///
    /// - Returns: the largest change by the update.
    func make(
        _ rows: Range<Int>, into bytes: UnsafeMutableRawBufferPointer, _ memory: [TileMemory], pool: WorkerPool,
        meanwhile: () throws -> Void
    ) throws -> Float {
        let tiles = tiles(of: rows)
        var results = [Result<Float, any Error>](repeating: .success(0), count: tiles.count + 1)
        results.withUnsafeMutableBufferPointer { results in
            pool.parallelFor(tiles.count + 1) { item, worker in
                results[item] = Result {
                    guard item > 0 else {
                        try meanwhile()
                        return 0
                    }
                    let tile = tiles[item - 1], start = (tile.lowerBound - rows.lowerBound) * rowSize
                    let target = UnsafeMutableRawBufferPointer(
                        rebasing: bytes[start..<start + tile.count * rowSize])
                    return try make(tile, into: target, memory[worker.index], worker)
                }
            }
        }
        return try results.reduce(0) { max($0, try $1.get()) }
    }

    /// Runs of rows that a thread makes at once.
    func tiles(of rows: Range<Int>) -> [Range<Int>] {
        stride(from: rows.lowerBound, to: rows.upperBound, by: rowsATile).map {
            $0..<min(rows.upperBound, $0 + rowsATile)
        }
    }

    private func make(
        _ rows: Range<Int>, into target: UnsafeMutableRawBufferPointer, _ memory: TileMemory,
        _ worker: WorkerPool.Worker
    ) throws -> Float {
        guard let type = tensor.type else {
            try tensor.source.read(rows.lowerBound * rowSize..<rows.upperBound * rowSize, into: target)
            if let found = tensor.source.firstNonFinite(UnsafeRawBufferPointer(target), memory.values) {
                let element = rows.lowerBound * tensor.source.blockLength + found.place
                throw ExportError.value(
                    tensor: tensor.name, row: element / max(1, tensor.source.shape.last ?? 1), found: found.value,
                    type: tensor.source.type.name)
            }
            return 0
        }
        let (values, change) = try values(of: rows, memory, worker)
        guard encode(rows, values, as: type, into: target) else { throw badValue(rows, values, type) }
        return change
    }

    /// The values of rows with all changes, in `memory` until its next use, and the largest change by the updates.
    func values(
        of rows: Range<Int>, _ memory: TileMemory, _ worker: WorkerPool.Worker
    ) throws -> (values: UnsafeMutableBufferPointer<Float>, change: Float) {
        let source = memory.source.bytes(rows.count * sourceRowSize)
        try read(rows, into: source)
        let values = memory.values.bytes(rows.count * width * 4).bindMemory(to: Float.self)
        tensor.source.widen(UnsafeRawBufferPointer(source), into: values)
        var change: Float = 0
        for (all, adapter) in updates {
            let part = rows.clamped(to: all)
            guard !part.isEmpty else { continue }
            let start = (part.lowerBound - rows.lowerBound) * width
            change = max(
                change,
                adapter.add(
                    rows: part.lowerBound - all.lowerBound..<part.upperBound - all.lowerBound,
                    to: UnsafeMutableBufferPointer(rebasing: values[start..<start + part.count * width]),
                    worker: worker))
        }
        if let own = self.rows { change = max(change, own.write(rows, into: values, width: width)) }
        // How far a tensor that comes whole is from the base's is not measured; that it came is a change.
        if tensor.updates.replacement != nil { change = max(change, .leastNormalMagnitude) }
        if tensor.offset != 0 { for i in values.indices { values[i] += tensor.offset } }
        return (values, change)
    }

    private func encode(
        _ rows: Range<Int>, _ values: UnsafeMutableBufferPointer<Float>, as type: GGMLType,
        into target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        guard let importance = tensor.importance else {
            return RowEncoding.encode(UnsafeBufferPointer(values), width: width, as: type, into: target)
        }
        // Each matrix of a stack has its own columns.
        let matrices = max(1, importance.count / width), rowsAMatrix = max(1, rowCount / matrices)
        var row = rows.lowerBound
        while row < rows.upperBound {
            let matrix = min(matrices - 1, row / rowsAMatrix)
            let end = min(rows.upperBound, matrix == matrices - 1 ? rowCount : (matrix + 1) * rowsAMatrix)
            let part = row - rows.lowerBound..<end - rows.lowerBound
            let isWritten = RowEncoding.encode(
                UnsafeBufferPointer(rebasing: values[part.lowerBound * width..<part.upperBound * width]), width: width,
                as: type, importance: Array(importance[matrix * width..<(matrix + 1) * width]),
                into: UnsafeMutableRawBufferPointer(
                    rebasing: target[part.lowerBound * rowSize..<part.upperBound * rowSize]))
            guard isWritten else { return false }
            row = end
        }
        return true
    }

    /// Reads the rows that become `rows` of the output.
    private func read(_ rows: Range<Int>, into buffer: UnsafeMutableRawBufferPointer) throws {
        guard order.moves else {
            let range = rows.lowerBound * sourceRowSize..<rows.upperBound * sourceRowSize
            return try tensor.source.read(range, into: buffer)
        }
        for (place, row) in rows.enumerated() {
            let start = order.source(of: row) * sourceRowSize
            let target = buffer[place * sourceRowSize..<(place + 1) * sourceRowSize]
            try tensor.source.read(
                start..<start + sourceRowSize, into: UnsafeMutableRawBufferPointer(rebasing: target))
        }
    }

    /// Tells of the value in the tile that is worst to represent.
    private func badValue(_ rows: Range<Int>, _ values: UnsafeMutableBufferPointer<Float>, _ type: GGMLType)
        -> ExportError
    {
        func badness(_ index: Int) -> Float { values[index].isFinite ? abs(values[index]) : .infinity }
        let worst = values.indices.max { badness($0) < badness($1) } ?? 0
        let row = order.source(of: rows.lowerBound + worst / width)
        return .value(tensor: tensor.name, row: row, found: values[worst], type: type.name)
    }
}

/// Rows that an adapter brings in place of a table's own.
private struct TensorRows {
    private let places: [Int: Int]
    private let content: Tensor

    init(_ indices: [Int], _ content: Tensor) {
        places = Dictionary(indices.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
        self.content = content
    }

    /// - Returns: the largest change of a value.
    func write(_ rows: Range<Int>, into values: UnsafeMutableBufferPointer<Float>, width: Int) -> Float {
        var largest: Float = 0
        for row in rows {
            guard let place = places[row] else { continue }
            content.withFloats { content in
                for i in 0..<width {
                    let value = content[place * width + i], target = (row - rows.lowerBound) * width + i
                    largest = max(largest, abs(value - values[target]))
                    values[target] = value
                }
            }
        }
        return largest
    }
}

/// What a worker needs to make a tile.
final class TileMemory {
    let source = GrowingBuffer()
    let values = GrowingBuffer()
}

/// Memory that is kept from use to use.
final class GrowingBuffer {
    private var memory = UnsafeMutableRawBufferPointer(start: nil, count: 0)

    deinit { memory.deallocate() }

    /// `count` bytes with whatever was there, valid until the next call.
    func bytes(_ count: Int) -> UnsafeMutableRawBufferPointer {
        if memory.count < count {
            memory.deallocate()
            memory = .allocate(byteCount: count, alignment: 64)
        }
        return UnsafeMutableRawBufferPointer(rebasing: memory[..<count])
    }
}
