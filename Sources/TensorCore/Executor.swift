/// Runs the loops of a tape's operations, and may hold back those that go row by row.
///
/// Between two operations that need all rows (attention, the head) a decoder works row by row. While `isFusing`, such
/// loops wait, and then run together: a worker takes a tile of rows through all of them while it is in cache, and
/// the workers meet once. What an operation computes does not change. Operations are called by one thread.
final class Executor {
    let pool: WorkerPool

    private struct RowLoop {
        var operation: Operation
        var bytesPerRow: Int
        var body: (Int, Int, WorkerPool.Worker) -> Void
    }

    private struct Item {
        var operation: Operation
        var body: (WorkerPool.Worker) -> Void
    }

    private var rowCount = 0
    private var rowLoops: [RowLoop] = []
    private var earlierItems: [Item] = []
    private var laterItems: [Item] = []
    private var afterwards: [() -> Void] = []
    private var isFusing = false

    init(_ pool: WorkerPool) { self.pool = pool }

    /// Calls `body(first, count, worker)` for tiles that cover rows `0..<count`: now, or with others later.
    ///
    /// A tile may read only its own rows of what earlier row loops wrote.
    /// - Parameter bytesPerRow: what the body reads and writes outside products, for the profile
    func rows(
        _ count: Int, _ operation: Operation, bytesPerRow: Int = 0,
        _ body: @escaping (Int, Int, WorkerPool.Worker) -> Void
    ) {
        guard count > 0 else { return }
        if rowCount != count { flush() }
        rowCount = count
        rowLoops.append(RowLoop(operation: operation, bytesPerRow: bytesPerRow, body: body))
        if !isFusing { flush() }
    }

    /// Runs `items` once the row loops that wait are done: now, or with others later.
    func items(_ bodies: [(WorkerPool.Worker) -> Void], _ operation: Operation) {
        laterItems += bodies.map { Item(operation: operation, body: $0) }
        if !isFusing { flush() }
    }

    /// Runs `items` before the row loops that wait and those queued next: they prepare what these use.
    func itemsBeforeRows(_ bodies: [(WorkerPool.Worker) -> Void], _ operation: Operation) {
        earlierItems += bodies.map { Item(operation: operation, body: $0) }
        if !isFusing { flush() }
    }

    /// Calls `body` once the row loops that wait are done.
    func afterRows(_ body: @escaping () -> Void) {
        afterwards.append(body)
        if !isFusing { flush() }
    }

    /// Runs a loop over items that may need all rows of what waits, which runs before it.
    func loop(_ count: Int, _ operation: Operation, _ body: (Int, WorkerPool.Worker) -> Void) {
        flushRows()
        let later = laterItems
        laterItems = []
        pool.parallelFor(count + later.count, operation) { i, worker in
            if i < count { body(i, worker) } else { Self.run(later[i - count], worker) }
        }
    }

    /// Holds loops back inside `body`; all are done when it returns.
    func fusing<R>(_ body: () throws -> R) rethrows -> R {
        let outer = isFusing
        isFusing = true
        defer {
            isFusing = outer
            if !outer { flush() }
        }
        return try body()
    }

    /// Runs all that waits.
    func flush() {
        flushRows()
        let later = laterItems
        laterItems = []
        pool.parallelFor(later.count) { i, worker in Self.run(later[i], worker) }
    }

    private static func run(_ item: Item, _ worker: WorkerPool.Worker) {
        worker.measured(item.operation) { item.body(worker) }
    }

    private func flushRows() {
        let loops = rowLoops, tiles = RowTiles(rowCount, width: pool.width), earlier = earlierItems
        rowLoops = []
        earlierItems = []
        pool.parallelFor(earlier.count) { i, worker in Self.run(earlier[i], worker) }
        defer {
            for body in afterwards { body() }
            afterwards = []
        }
        guard !loops.isEmpty else { return }
        pool.parallelFor(tiles.count) { tile, worker in
            let (first, count) = (tiles.first(tile), tiles.rows(tile))
            for loop in loops {
                worker.measured(loop.operation) {
                    loop.body(first, count, worker)
                    worker.count(bytes: loop.bytesPerRow * count)
                }
            }
        }
    }
}

/// How T rows are cut into tiles. The cut depends on T and the machine, never on the number of threads, so that results
/// do not: matrix tiles of a processor (AMX) round differently in products of few rows.
struct RowTiles {
    let count: Int
    private let size: Int
    private let total: Int

    /// Large enough for products at full speed, small enough that a tile's rows stay in cache, and as many for each
    /// processor: two or more where that leaves them 64 rows, since processors are not equally fast.
    init(_ rows: Int, width: Int) {
        total = rows
        let width = max(2, width), each = max((rows + 320 * width - 1) / (320 * width), min(2, rows / (64 * width)))
        let wanted = max(4, width * each)
        size = max(16, (rows + 16 * wanted - 1) / (16 * wanted) * 16)
        count = (rows + size - 1) / size
    }

    func first(_ tile: Int) -> Int { tile * size }
    func rows(_ tile: Int) -> Int { min(size, total - tile * size) }
}
